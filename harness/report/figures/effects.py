"""Drawings of effects: the forest of arms, the terms of a factorial, the curve over the levels of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis import Analysis, Effect
from harness.report import tables
from harness.report.document import Cell, Figure, table
from harness.report.figures import canvas
from harness.report.lookup import (
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
    confidence,
    difference,
    mark_of,
    number,
    paired,
    plain,
    sample,
)
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def forest(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw every arm's difference on the study's metric, and on the gap beside it; None without an estimate."""
    effects = [e for e in in_order(analysis, effects_of(analysis, "arm")) if e.estimate is not None]
    if not effects:
        return None
    everything = effects
    effects, left_out = drawn(effects)
    metric = metric_of(analysis)
    second = second_metric(analysis)
    beside = [effect_on(analysis, effect, second) for effect in effects]
    two = any(e is not None and e.estimate is not None for e in beside)
    references = list(dict.fromkeys(e.reference for e in effects))
    names = [
        e.term
        if len(references) == 1
        else f"{canvas.short(e.term, 18)} vs {canvas.short(e.reference, 12)}"
        for e in effects
    ]
    with canvas.sheet(
        "forest", 1.15 + 0.29 * len(effects), columns=1 + two, formats=formats, sharey=True
    ) as opened:
        _rows(opened.axes[0], effects, margin=analysis.margin)
        canvas.name_rows(opened.axes[0], names)
        opened.axes[0].set_xlabel(
            f"difference in {metric.label}{', pp' if metric.unit == 'pp' else ''}"
        )
        if metric.higher_is_better is not None:
            canvas.directions(
                opened.axes[0],
                *(("worse", "better") if metric.higher_is_better else ("better", "worse")),
            )
        if two:
            _rows(
                opened.axes[1],
                [e for e in beside if e is not None],
                rows=[i for i, e in enumerate(beside) if e],
                judged=False,
            )
            opened.axes[1].grid(visible=False, axis="y")
            other = metric_of(analysis, second)
            opened.axes[1].set_xlabel(
                f"difference in {other.label}{', pp' if other.unit == 'pp' else ''}"
            )
            if second == analysis.gap:
                canvas.directions(opened.axes[1], "narrower", "wider")
        for boundary in [
            i for i in range(1, len(effects)) if effects[i].reference != effects[i - 1].reference
        ]:
            for ax in opened.axes:
                ax.axhline(boundary - 0.5, color=PAGE["faint"], linewidth=0.8)
        key(opened.axes[0], effects)
    resolved = [e for e in everything if e.verdict in ("better", "worse")]
    top = max(effects, key=lambda e: abs(e.estimate or 0.0))
    alt = (
        f"Arms told apart from their reference in {metric.label}: {len(resolved)} of {len(everything)}; "
        f"the largest difference is {top.term}, {difference(top)}."
    )
    caption = (
        f"Dots are mean {paired(analysis.study)} differences, bars {sample(analysis.study, effects)}. Grey band: differences within "
        f"±{analysis.margin:g}{' pp' if metric.unit == 'pp' else ''}, declared not worth acting on."
        + (
            " The gap is a secondary metric: intervals only."
            if two and second == analysis.gap
            else ""
        )
        + left_out
    )
    rows = [
        [
            Cell(e.term, note=f"against {e.reference}"),
            tables.difference_cell(e),
            tables.difference_cell(effect_on(analysis, e, second)),
            MARKS[mark_of(e)].word,
        ]
        for e in everything
    ]
    heads = ["Arm", f">{metric.label}", f">{metric_of(analysis, second).label}", "Verdict"]
    behind = table(
        f"Mean {paired(analysis.study)} difference [low, high], {sample(analysis.study, effects)}.",
        heads,
        rows,
    )
    return canvas.figure(
        opened, "forest", "Effect of each arm", alt=alt, caption=caption, table=behind
    )


def terms(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw main effects, interactions and Shapley values of a factorial under each other; None without any."""
    kinds = [(kind, effects_of(analysis, kind)) for kind in ("main", "interaction", "shapley")]
    kinds = [(kind, [e for e in found if e.estimate is not None]) for kind, found in kinds]
    kinds = [(kind, found) for kind, found in kinds if found]
    if not kinds:
        return None
    metric = metric_of(analysis)
    heights = [len(found) + 0.6 for _, found in kinds]
    titles = {
        "main": "Main effects",
        "interaction": "Two-factor interactions",
        "shapley": "Shapley values",
    }
    with canvas.sheet(
        "terms",
        0.7 + 0.27 * sum(heights) + 0.25 * len(kinds),
        rows=len(kinds),
        formats=formats,
        sharex=True,
        height_ratios=heights,
    ) as opened:
        for ax, (kind, found) in zip(opened.axes, kinds, strict=True):
            _rows(ax, found, margin=analysis.margin, judged=kind != "shapley")
            canvas.name_rows(ax, [e.term for e in found])
            ax.set_title(titles[kind], color=PAGE["ink"])
        opened.axes[-1].set_xlabel(
            f"change in {metric.label}{', pp' if metric.unit == 'pp' else ''}"
        )
        key(opened.axes[-1], [e for kind, found in kinds for e in found if kind != "shapley"])
    everything = [e for _, found in kinds for e in found]
    top = max(everything, key=lambda e: abs(e.estimate or 0.0))
    inter = [e for kind, found in kinds for e in found if kind == "interaction"]
    clear = [e.term for e in inter if e.verdict in ("better", "worse")]
    alt = f"The largest term is {top.term}, {difference(top)}" + (
        f"; {plural(len(clear), 'interaction')} of {len(inter)} told apart from zero."
        if inter
        else "."
    )
    caption = (
        f"Dots are means over seeds, bars {sample(analysis.study, everything)}. A main effect is the change when a component "
        "is switched on, averaged over all settings of the others; a Shapley value averages over all orders of adding it."
    )
    rows = [
        [Cell(e.term), titles[kind][:-1], tables.difference_cell(e), MARKS[mark_of(e)].word]
        for kind, f in kinds
        for e in f
    ]
    behind = table(
        f"Terms: mean [low, high], {sample(analysis.study, everything)}.",
        ["Term", "Kind", f">{metric.label}", "Verdict"],
        rows,
    )
    return canvas.figure(
        opened,
        "terms",
        "Main effects, interactions and Shapley values",
        alt=alt,
        caption=caption,
        table=behind,
    )


def levels(analysis: Analysis, formats: Sequence[str]) -> list[Figure]:
    """Draw the study's metric over the levels of each swept factor, with the gap under it."""
    if analysis.study.design != "sweep":
        return []
    return [
        drawn
        for factor in analysis.study.factors
        if (drawn := _level_curve(analysis, factor.name, formats)) is not None
    ]


def _level_curve(analysis: Analysis, factor: str, formats: Sequence[str]) -> Figure | None:
    import numpy as np
    import seaborn as sns

    metric, baseline = metric_of(analysis), analysis.study.baseline
    field = next(f.field for f in analysis.study.factors if f.name == factor)
    base_level = analysis.study.base_recipe.flat()[field[0]] if len(field) == 1 else "base"
    points = [
        (arm.components[factor], arm.name) for arm in analysis.arms if factor in arm.components
    ]
    points.append((base_level, baseline))
    numeric = all(
        isinstance(level, (int, float)) and not isinstance(level, bool) for level, _ in points
    )
    points = sorted(points, key=lambda point: point[0]) if numeric else points
    found = [
        (level, name, summary_of(analysis, name, metric.name), summary_of(analysis, name, "gap"))
        for level, name in points
    ]
    found = [item for item in found if item[2] is not None and item[2].mean is not None]
    if len(found) < 2:
        return None
    metrics = [metric.name] + (
        ["gap"]
        if metric.name != "gap" and all(item[3] and item[3].mean is not None for item in found)
        else []
    )
    positive = [level for level, *_ in found if numeric and level > 0]
    # orders of magnitude: equal steps, labelled
    spread = bool(positive) and max(positive) / min(positive) > 20
    x = (
        np.asarray([level for level, *_ in found], dtype=float)
        if numeric and not spread
        else np.arange(len(found), dtype=float)
    )
    name = f"levels-{analysis.study.factors.index(next(f for f in analysis.study.factors if f.name == factor)) + 1}"
    with canvas.sheet(name, 2.7, columns=len(metrics), formats=formats) as opened:
        for ax, which in zip(opened.axes, metrics, strict=True):
            summaries = [item[2] if which == metric.name else item[3] for item in found]
            mean = [s.mean if s is not None and s.mean is not None else np.nan for s in summaries]
            low = [
                s.low if s is not None and s.low is not None else m
                for s, m in zip(summaries, mean, strict=True)
            ]
            high = [
                s.high if s is not None and s.high is not None else m
                for s, m in zip(summaries, mean, strict=True)
            ]
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
            here = [i for i, item in enumerate(found) if item[1] == baseline]
            for i in here:
                ax.plot(
                    x[i],
                    mean[i],
                    "o",
                    markersize=9.5,
                    markerfacecolor="none",
                    markeredgecolor=PAGE["ink"],
                    markeredgewidth=1.3,
                )
            if not numeric or spread:
                ax.set_xticks(x, [canvas.short(plain(item[0]), 12) for item in found])
            elif len(x) <= 8:
                ax.set_xticks(x, [f"{value:g}" for value in x])
            ax.set_xlabel(factor)
            unit = metric_of(analysis, which)
            ax.set_title(
                f"{unit.label}{'' if unit.unit != 'pp' else ', pp' if which == 'gap' else ', %'}"
            )
    sign = -1.0 if metric.higher_is_better is False else 1.0
    best = max(found, key=lambda item: sign * ((item[2].mean if item[2] else None) or 0.0))
    summary = best[2]
    alt = f"{metric.label} is best at {factor} = {plain(best[0])}"
    if summary is not None:
        alt += f", {number(summary.mean, summary.unit)} {bounds(summary.low, summary.high, summary.unit)}"
    caption = (
        f"Mean over seeds by level, band {confidence(analysis.study)}, n = {summary.n if summary else 0}; "
        "the ring marks the baseline. The best of several levels is picked after seeing them: differences carry the verdicts."
    )
    rows = [
        [
            plain(level),
            name_,
            tables.level_cell(analysis, name_, metric.name),
            tables.level_cell(analysis, name_, "gap"),
        ]
        for level, name_, *_ in found
    ]
    behind = table(caption, [f">{factor}", "Arm", f">{metric.label}", ">overfitting gap"], rows)
    return canvas.figure(
        opened, name, f"Curve over {factor}", alt=alt + ".", caption=caption, table=behind
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
    import seaborn as sns

    canvas.zero_line(ax, margin=margin)
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
        sns.scatterplot(
            x=[float(x) for x, _ in these],
            y=[float(y) for _, y in these],
            ax=ax,
            marker=MARKERS[mark],
            s=58 if mark else 34,
            color=PAGE["bg"] if hollow else colour(mark),
            edgecolor=colour(mark),
            linewidth=1.4 if hollow else 0.4,
            zorder=3,
            legend=False,
        )
    ax.margins(x=0.08)


def key(ax: Axes, effects: Sequence[Effect]) -> None:
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
            label=MARKS[mark].word,
            markeredgecolor=colour(mark),
            markerfacecolor=PAGE["bg"] if mark == "unresolved" else colour(mark),
        )
        for mark in there
    ]
    if handles:
        ax.figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=len(handles),
            handletextpad=0.2,
            columnspacing=1.4,
            labelcolor=PAGE["muted"],
        )
