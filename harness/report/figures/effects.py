"""Drawings of effects: the forest of arms, the terms of a factorial, the curve over the levels of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis import Analysis, Effect, Summary
from harness.report import tables
from harness.report.document import Figure, TableBlock, TableCell, table
from harness.report.figures import canvas
from harness.report.lookup import (
    arm_of,
    drawn,
    effect_on,
    effects_of,
    in_order,
    metric_of,
    second_metric,
    summary_of,
)
from harness.report.palette import MARKERS, PAGE, colour
from harness.report.words import (
    MARKS,
    bounds,
    difference,
    level_confidence,
    listed,
    mark_of,
    named,
    number,
    paired,
    plain,
    sample,
)
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the forest: a contrast and the same on the second metric, or (without an effect) a heading over rows."""

    label: str
    effect: Effect | None = None
    other: Effect | None = None


def forest(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw every arm's difference on the study's metric, and next to it on the gap; None without an estimate."""
    effects = [e for e in in_order(analysis, effects_of(analysis, "arm")) if e.estimate is not None]
    if not effects:
        return None
    everything = effects
    effects, left_out = drawn(everything)
    second = second_metric(analysis)
    rows = _forest_rows(analysis, effects, second)
    two = any(row.other is not None and row.other.estimate is not None for row in rows)
    ratios: dict[str, Any] = {"width_ratios": (1.15, 1.0)} if two else {}
    with canvas.sheet(
        "forest",
        1.15 + 0.29 * len(rows),
        columns=1 + two,
        formats=formats,
        sharey=True,
        **ratios,
    ) as opened:
        _forest_side(opened.axes[0], analysis, rows, analysis.study.metric)
        canvas.name_rows(opened.axes[0], [row.label for row in rows])
        for tick, row in zip(opened.axes[0].get_yticklabels(), rows, strict=True):
            tick.set_color(PAGE["ink" if row.effect is not None else "muted"])
        if two:
            _forest_side(opened.axes[1], analysis, rows, second)
        key(opened, effects)
    top = max(effects, key=lambda e: abs(e.estimate or 0.0))
    metric = metric_of(analysis)
    judged = [e for e in everything if e.verdict in ("better", "worse")]
    # not "changes": an equivalent arm may have a change that is measurable and too small to matter
    count = f"{_shares(everything)} in {metric.label}"
    if len(effects) == 1:
        count = f"{_label(analysis, top)} is {top.verdict} in {metric.label}"
    first = max(judged or [top], key=lambda e: abs(e.estimate or 0.0))
    lead = ", most of all " if len(judged) > 1 else ": "
    most = f"{lead}{_label(analysis, first)}" if len(effects) > 1 else ""
    none = f"No arm is shown to be better or worse in {metric.label}"
    title = f"{count}{most}" if judged else none
    alt = f"{count if judged else title}; the largest difference is {_label(analysis, top)}, {difference(top)}."
    band = f"±{analysis.margin:g}{' pp' if metric.unit == 'pp' else ''}"
    caption = (
        f"Dots are mean {paired(analysis.study)} differences, bars {sample(analysis.study, effects)}; the numbers at the "
        f"right are these means. Grey band: differences within {band}, declared not worth acting on.{left_out}"
    )
    if two and second == analysis.gap:
        caption += " This figure marks no verdicts of the gap."
    return canvas.figure(
        opened,
        "forest",
        title,
        alt=alt,
        caption=caption,
        table=_forest_table(analysis, _forest_rows(analysis, everything, second), second),
    )


def _shares(effects: Sequence[Effect]) -> str:
    """Say how many arms are better and how many worse: ``1 of 7 arms is better and 3 are worse``."""
    counts = [(word, sum(e.verdict == word for e in effects)) for word in ("better", "worse")]
    parts = [f"{n} {'is' if n == 1 else 'are'} {word}" for word, n in counts if n]
    return " and ".join(parts).replace(" ", f" of {len(effects)} arms ", 1)


def _forest_rows(analysis: Analysis, effects: Sequence[Effect], second: str) -> list[_Row]:
    """A row a contrast, under a heading for each arm that is compared with, where there are several."""
    # one axis for two references would be read as one comparison
    rows: list[_Row] = []
    several = len({effect.reference for effect in effects}) > 1
    seen = ""
    for effect in effects:
        if several and effect.reference != seen:
            seen = effect.reference
            rows.append(_Row(f"against {canvas.short(named(seen), 16)}:"))
        rows.append(_Row(_label(analysis, effect), effect, effect_on(analysis, effect, second)))
    return rows


def _label(analysis: Analysis, effect: Effect) -> str:
    """What an arm does, in plain words where the design made it: ``without crop``, ``crop alone``; else its name."""
    arm = arm_of(analysis, effect.term)
    if arm is None or not arm.components or analysis.study.design in ("sweep", "arms"):
        return effect.term
    return tables.changes(analysis, arm)


def _forest_side(ax: Axes, analysis: Analysis, rows: Sequence[_Row], name: str) -> None:
    """Draw one metric of the rows, and its means as numbers at the right."""
    # verdicts belong to the deciding metric alone
    deciding = name == analysis.study.metric
    drawn = [(y, row.effect if deciding else row.other) for y, row in enumerate(rows)]
    there = [(y, e) for y, e in drawn if e is not None and e.estimate is not None]
    _rows(
        ax,
        [e for _, e in there],
        margin=analysis.margin if deciding else 0.0,
        rows=[y for y, _ in there],
        judged=deciding,
    )
    for y, effect in there:
        ax.annotate(
            number(effect.estimate, effect.unit, signed=True),
            (1, y),
            (38, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            color=PAGE["ink"],
            annotation_clip=False,
        )
    ax.grid(visible=False, axis="y")
    metric = metric_of(analysis, name)
    ax.set_xlabel(canvas.with_unit(f"difference in {metric.label}", metric.unit))
    if name == analysis.gap:
        canvas.directions(ax, "narrower", "wider")
    elif metric.higher_is_better is not None:
        canvas.directions(
            ax, *(("worse", "better") if metric.higher_is_better else ("better", "worse"))
        )


def _forest_table(analysis: Analysis, rows: Sequence[_Row], second: str) -> TableBlock:
    metric = metric_of(analysis)
    effects = [row.effect for row in rows if row.effect is not None]
    lines = [
        [
            TableCell(row.effect.term, note=f"against {row.effect.reference}"),
            tables.difference_cell(row.effect),
            tables.difference_cell(row.other),
            MARKS[mark_of(row.effect)].word,
        ]
        for row in rows
        if row.effect is not None
    ]
    heads = ["Arm", f">{metric.label}", f">{metric_of(analysis, second).label}", "Verdict"]
    return table(
        f"Mean {paired(analysis.study)} difference [low, high], {sample(analysis.study, effects)}.",
        heads,
        lines,
    )


_TERMS = {  # kind: what the drawing and a sentence call it, and what it means
    "main": (
        "Main effects",
        "main effects",
        "A main effect is the change when a component is switched on, averaged over all settings of the others.",
    ),
    "interaction": (
        "Two-factor interactions",
        "interactions",
        "An interaction is what two components do together beyond the sum of both.",
    ),
    "shapley": (
        "Shapley values",
        "Shapley values",
        "A Shapley value averages a component's contribution over all orders of adding it.",
    ),
}


def terms(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw main effects, interactions and Shapley values of a design that has them; None without any."""
    by_kind = {
        kind: [e for e in effects_of(analysis, kind) if e.estimate is not None] for kind in _TERMS
    }
    by_kind = {kind: effects for kind, effects in by_kind.items() if effects}
    if not by_kind:
        return None
    metric = metric_of(analysis)
    heights = [len(effects) + 0.6 for effects in by_kind.values()]
    with canvas.sheet(
        "terms",
        0.7 + 0.27 * sum(heights) + 0.25 * len(by_kind),
        rows=len(by_kind),
        formats=formats,
        sharex=True,
        height_ratios=heights,
    ) as opened:
        for ax, (kind, effects) in zip(opened.axes, by_kind.items(), strict=True):
            # shares of a whole have no verdict of their own
            _rows(ax, effects, margin=analysis.margin, judged=kind != "shapley")
            canvas.name_rows(ax, [e.term for e in effects])
            ax.set_title(_TERMS[kind][0], color=PAGE["ink"])
        opened.axes[-1].set_xlabel(canvas.with_unit(f"change in {metric.label}", metric.unit))
        judged = [e for kind, effects in by_kind.items() for e in effects if kind != "shapley"]
        key(opened, judged)
    everything = [e for effects in by_kind.values() for e in effects]
    top = max(everything, key=lambda e: abs(e.estimate or 0.0))
    alt = f"The largest term is {top.term}, {difference(top)}"
    pairs = by_kind.get("interaction", [])
    if pairs:
        clear = sum(e.verdict in ("better", "worse") for e in pairs)
        verb = "differs" if clear == 1 else "differ"
        alt += f"; {clear} of {plural(len(pairs), 'interaction')} {verb} from zero"
    # only what is drawn is explained
    meanings = [_TERMS[kind][2] for kind in by_kind]
    bars = f"Dots are means over seeds, bars {sample(analysis.study, everything)}."
    rows = [
        [TableCell(e.term), _TERMS[kind][0][:-1], tables.difference_cell(e), MARKS[mark_of(e)].word]
        for kind, effects in by_kind.items()
        for e in effects
    ]
    behind = table(
        f"Terms: mean [low, high], {sample(analysis.study, everything)}.",
        ["Term", "Kind", f">{metric.label}", "Verdict"],
        rows,
    )
    title = listed([_TERMS[kind][1] for kind in by_kind])
    caption = " ".join([bars, *meanings])
    title = f"{title[:1].upper()}{title[1:]}"
    return canvas.figure(opened, "terms", title, alt=f"{alt}.", caption=caption, table=behind)


def levels(analysis: Analysis, formats: Sequence[str]) -> list[Figure]:
    """Draw the study's metric over the levels of each swept factor, with the gap under it."""
    if analysis.study.design != "sweep":
        return []
    return [
        drawn
        for factor in analysis.study.factors
        if (drawn := _level_curve(analysis, factor.name, formats)) is not None
    ]


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of a swept factor: the arm that has it and its scores."""

    value: Any
    arm: str
    scores: dict[str, Summary]


def _level_curve(analysis: Analysis, factor: str, formats: Sequence[str]) -> Figure | None:
    """Draw one factor's curve; None with fewer than two levels that have scores."""
    metric = metric_of(analysis)
    gap = analysis.gap
    found = _scored_levels(analysis, factor, (metric.name, gap))
    if len(found) < 2:
        return None
    shown = [metric.name]
    shown += [gap] if metric.name != gap and all(gap in level.scores for level in found) else []
    x, ticks = _level_axis(found)
    place = next(i for i, f in enumerate(analysis.study.factors, 1) if f.name == factor)
    with canvas.sheet(f"levels-{place}", 2.7, columns=len(shown), formats=formats) as opened:
        for ax, name in zip(opened.axes, shown, strict=True):
            _level_line(ax, found, name, x, baseline=analysis.study.baseline)
            if ticks:
                ax.set_xticks(x, ticks)
            ax.set_xlabel(factor)
            of = metric_of(analysis, name)
            ax.set_title(canvas.with_unit(of.label, of.unit, level=name != gap))
    # the best is the lowest where lower is better
    sign = -1.0 if metric.higher_is_better is False else 1.0
    best = max(found, key=lambda level: sign * (level.scores[metric.name].mean or 0.0))
    score = best.scores[metric.name]
    interval = bounds(score.low, score.high, score.unit)
    alt = f"{metric.label} is best at {factor} = {plain(best.value)}, {number(score.mean, score.unit)} {interval}".strip()
    caption = (
        f"Mean over seeds by level, band {level_confidence(analysis.study)}, n = {score.n}; the ring marks the "
        "baseline. The best of several levels is picked after seeing them: differences carry the verdicts."
    )
    rows = [
        [
            plain(level.value),
            level.arm,
            *(tables.level_cell(analysis, level.arm, name) for name in shown),
        ]
        for level in found
    ]
    heads = [f">{factor}", "Arm", *(f">{metric_of(analysis, name).label}" for name in shown)]
    behind = table(caption, heads, rows)
    return canvas.figure(
        opened,
        f"levels-{place}",
        f"Curve over {factor}",
        alt=f"{alt[:1].upper()}{alt[1:]}.",
        caption=caption,
        table=behind,
    )


def _scored_levels(analysis: Analysis, factor: str, names: Sequence[str]) -> list[_Level]:
    """Return the levels whose arms have scores: numbers in their order, other values in that of the study."""
    levels = []
    for arm in analysis.arms:
        if factor not in arm.components:
            continue
        scores = {
            name: summary
            for name in names
            if (summary := summary_of(analysis, arm.name, name)) is not None
            and summary.mean is not None
        }
        if names[0] in scores:
            levels.append(_Level(arm.components[factor], arm.name, scores))
    return sorted(levels, key=lambda level: level.value) if _numeric(levels) else levels


def _numeric(levels: Sequence[_Level]) -> bool:
    return all(isinstance(o.value, (int, float)) and not isinstance(o.value, bool) for o in levels)


def _level_axis(levels: Sequence[_Level]) -> tuple[list[float], list[str]]:
    """Where each level is drawn, and the ticks; none where the axis is the numbers' own and chooses its ticks."""
    values = [level.value for level in levels]
    positive = [value for value in values if _numeric(levels) and value > 0]
    # over orders of magnitude equal steps can be read, true distances cannot
    spread = bool(positive) and max(positive) / min(positive) > 20
    if not _numeric(levels) or spread:
        return [float(i) for i in range(len(levels))], [canvas.short(plain(v), 12) for v in values]
    return [float(v) for v in values], [f"{v:g}" for v in values] if len(values) <= 8 else []


def _level_line(
    ax: Axes, levels: Sequence[_Level], name: str, x: Sequence[float], *, baseline: str
) -> None:
    """Draw means with their band, and a ring around the baseline's."""
    import seaborn as sns

    mean = [level.scores[name].mean or 0.0 for level in levels]
    ends = [(level.scores[name].low, level.scores[name].high) for level in levels]
    low = [m if end is None else end for m, (end, _) in zip(mean, ends, strict=True)]
    high = [m if end is None else end for m, (_, end) in zip(mean, ends, strict=True)]
    ax.fill_between(x, low, high, color=PAGE["better"], alpha=0.16, linewidth=0)
    sns.lineplot(
        x=x,
        y=mean,
        ax=ax,
        color=PAGE["better"],
        marker="o",
        markersize=6,
        markeredgecolor=PAGE["bg"],
        errorbar=None,
    )
    for i, level in enumerate(levels):
        if level.arm == baseline:
            ax.plot(
                x[i],
                mean[i],
                "o",
                markersize=9.5,
                markerfacecolor="none",
                markeredgecolor=PAGE["ink"],
                markeredgewidth=1.3,
            )


def _rows(
    ax: Axes,
    effects: Sequence[Effect],
    *,
    margin: float = 0.0,
    judged: bool = True,
    rows: Sequence[int] | None = None,
) -> None:
    """Draw one interval a row, styled by its verdict."""
    canvas.zero_line(ax, margin=margin)
    # rows of a heading are left empty
    places = list(rows) if rows is not None else list(range(len(effects)))
    for y, effect in zip(places, effects, strict=True):
        mark = mark_of(effect) if judged and effect.verdict else ""
        if effect.low is not None and effect.high is not None:
            ax.plot([effect.low, effect.high], [y, y], color=colour(mark), linewidth=2.1, zorder=2)
    for mark in dict.fromkeys(mark_of(e) if judged and e.verdict else "" for e in effects):
        these = [
            (e.estimate, y)
            for y, e in zip(places, effects, strict=True)
            if (mark_of(e) if judged and e.verdict else "") == mark and e.estimate is not None
        ]
        hollow = mark in ("unresolved", "none")
        ax.scatter(
            [float(x) for x, _ in these],
            [float(y) for _, y in these],
            marker=MARKERS[mark],
            s=58 if mark else 34,
            color=PAGE["bg"] if hollow else colour(mark),
            edgecolor=colour(mark),
            linewidth=1.4 if hollow else 0.4,
            zorder=3,
        )
    ax.margins(x=0.08)


def key(opened: canvas.Sheet, effects: Sequence[Effect]) -> None:
    """Name the verdicts that are drawn, under the drawing."""
    from matplotlib.lines import Line2D

    there = [
        mark for mark in MARKERS if mark and any(mark_of(e) == mark and e.verdict for e in effects)
    ]
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=MARKERS[mark],
            markersize=7,
            markeredgecolor=colour(mark),
            markerfacecolor=PAGE["bg"] if mark == "unresolved" else colour(mark),
        )
        for mark in there
    ]
    canvas.legend_below(opened, handles, [MARKS[mark].word for mark in there], handletextpad=0.2)
