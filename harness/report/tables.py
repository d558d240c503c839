"""The tables of a report: from an analysis and its trials to rows of cells. No drawing, no format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.analysis import Analysis, ArmFacts, Effect
from harness.report.document import Cell, Column, Glyph, Table, table
from harness.report.lookup import (
    arm_of,
    effect_on,
    has_metric,
    in_order,
    leading,
    metric_of,
    second_metric,
    summary_of,
)
from harness.report.words import (
    MARKS,
    MINUS,
    bounds,
    confidence,
    direction,
    gap_word,
    images,
    margin,
    mark_of,
    number,
    plain,
    sample,
    seconds,
    setting,
    unit_name,
)
from harness.text import plural

_MOST_NAMED = 6  # fields that an arm's line in the verdict table names


def verdicts(analysis: Analysis) -> Table:
    """Return the table that answers the question: difference, gap difference, extra seconds and verdict of every contrast."""
    effects = in_order(analysis, leading(analysis))
    metric = metric_of(analysis)
    second = second_metric(analysis)
    gaps = [effect_on(analysis, effect, second) for effect in effects]
    show_gap = any(gap is not None and gap.estimate is not None for gap in gaps)
    axes = _axis(effects), _axis([gap for gap in gaps if gap is not None])
    main = bool(effects) and effects[0].kind == "main"
    timed = not main and not analysis.study.table
    crossed = any(effect.image_low is not None for effect in effects)
    rows: list[list[Cell]] = []
    groups: dict[int, str] = {}
    if not main and effects:
        rows.append(_baseline_row(analysis, second, show_gap=show_gap, crossed=crossed))
    seen = ""
    for effect, gap in zip(effects, gaps, strict=True):
        if effect.reference != seen and len({e.reference for e in effects}) > 1 and not main:
            seen = effect.reference
            groups[len(rows)] = f"compared with {effect.reference}"
        row = [_name(analysis, effect), _difference_cell(effect, axes[0], analysis.margin)]
        if crossed:
            row.append(
                Cell(bounds(effect.image_low, effect.image_high, effect.unit, signed=True) or "–")
            )
        if show_gap:
            row.append(
                _difference_cell(
                    gap,
                    axes[1],
                    0.0,
                    note=gap_word(gap, analysis) if second == analysis.gap else "",
                )
            )
        if timed:
            row.append(_extra_seconds(analysis, effect))
        row.append(verdict_cell(analysis, effect))
        rows.append(row)
    unit = "difference, pp" if metric.unit == "pp" else "difference"
    heads: list[Column | str] = [
        "Component" if main else "Arm",
        Column(_capital(metric.label), numeric=True, note=unit),
    ]
    if crossed:
        heads.append(Column("New images too", numeric=True, note="seeds and images"))
    if show_gap:
        other = metric_of(analysis, second)
        heads.append(
            Column(
                _capital(other.label),
                numeric=True,
                note="difference, pp" if other.unit == "pp" else "difference",
            )
        )
    if timed:
        heads.append(Column("Extra time", numeric=True, note="seconds a trial"))
    heads.append("Verdict")
    what = (
        "switching the component on, over all settings of the others"
        if main
        else _differences_of(analysis)
    )
    caption = (
        f"Mean of {what} [low, high], {sample(analysis.study, effects)}, {images(analysis)}"
        f"{'; the second interval is for new images too' if crossed else ''}. "
        f"Verdicts are about {metric.label}, {direction(metric)}"
        f" (Holm over {plural(len(effects), 'main effect' if main else 'arm')}, margin {margin(analysis)})"
        + ("; the gap is a family of its own." if show_gap and second == analysis.gap else ".")
    )
    return table(caption, heads, rows, groups=groups, verdicts=True)


def _differences_of(analysis: Analysis) -> str:
    """Return what the differences between arms are taken over."""
    if analysis.study.pairing != "seed":
        return "unpaired differences between two groups of runs"
    several = len(set(analysis.study.datasets)) > 1
    return f"paired differences, seed by seed{' on every data set' if several else ''}"


def _baseline_row(analysis: Analysis, second: str, *, show_gap: bool, crossed: bool) -> list[Cell]:
    name = analysis.study.baseline
    row = [Cell(name, note="the baseline"), level_cell(analysis, name, analysis.study.metric)]
    row += [Cell("–")] if crossed else []
    row += [level_cell(analysis, name, second)] if show_gap else []
    arm = arm_of(analysis, name)
    if not analysis.study.table:
        row.append(
            Cell(
                seconds(arm.train_seconds) if arm else "",
                arm.train_seconds if arm else None,
                note="in all",
            )
        )
    row.append(Cell("–", note="reference"))
    return row


def level_cell(analysis: Analysis, arm: str, metric: str) -> Cell:
    """Return an arm's mean of a metric with its interval."""
    summary = summary_of(analysis, arm, metric)
    if summary is None or summary.mean is None:
        return Cell("–")
    unit = unit_name(summary.unit, level=metric not in ("gap", "best_gap", analysis.gap))
    return Cell(
        number(summary.mean, summary.unit) + unit,
        summary.mean,
        note=bounds(summary.low, summary.high, summary.unit),
    )


def _name(analysis: Analysis, effect: Effect) -> Cell:
    arm = arm_of(analysis, effect.term)
    if arm is None or effect.kind == "main":
        factor = next((f for f in analysis.study.factors if f.name == effect.term), None)
        return Cell(
            effect.term,
            note=f"{plain(factor.off)} → {plain(factor.on)}" if factor is not None else "",
        )
    # what a search found: the next table lists it
    if len(arm.overrides) > _MOST_NAMED and not arm.components:
        return Cell(effect.term, note=f"{len(arm.overrides)} fields differ, listed below")
    return Cell(effect.term, note=changes(analysis, arm))


def changes(analysis: Analysis, arm: ArmFacts) -> str:
    """Return in words what makes an arm differ from the baseline; switched components by name, the rest by field."""
    factors = {factor.name: factor for factor in analysis.study.factors}
    if arm.components and analysis.study.design not in ("sweep", "arms"):
        off = [
            name
            for name, level in arm.components.items()
            if name in factors and level == factors[name].off
        ]
        on = [
            name
            for name, level in arm.components.items()
            if name in factors and level == factors[name].on
        ]
        if not off:
            return "everything on"
        if not on:
            return "everything off"
        return f"without {', '.join(off)}" if len(off) <= len(on) else f"{', '.join(on)} alone"
    return setting(arm.overrides)


def _axis(effects: Iterable[Effect]) -> tuple[float, float]:
    """Ends of the axis that a column of glyphs shares; 0 is always on it."""
    ends = [end for e in effects for end in (e.low, e.high, e.estimate) if end is not None]
    left, right = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.05 * (right - left or 1.0)
    return left - pad, right + pad


def _difference_cell(
    effect: Effect | None, axis: tuple[float, float], margin: float, note: str = ""
) -> Cell:
    if effect is None or effect.estimate is None:
        return Cell("–", note=effect.note if effect is not None else "")
    mark = mark_of(effect) if effect.verdict else ""
    glyph = Glyph(effect.estimate, effect.low, effect.high, *axis, margin=margin, mark=mark)
    interval = bounds(effect.low, effect.high, effect.unit, signed=True)
    text = number(effect.estimate, effect.unit, signed=True)
    return Cell(
        text, effect.estimate, note=" ".join(part for part in (interval, note) if part), glyph=glyph
    )


def difference_cell(effect: Effect | None) -> Cell:
    """Return a difference with its interval, without a glyph."""
    if effect is None or effect.estimate is None:
        return Cell("–")
    interval = bounds(effect.low, effect.high, effect.unit, signed=True)
    return Cell(
        f"{number(effect.estimate, effect.unit, signed=True)} {interval}".strip(), effect.estimate
    )


def _extra_seconds(analysis: Analysis, effect: Effect) -> Cell:
    arm, reference = arm_of(analysis, effect.term), arm_of(analysis, effect.reference)
    if (
        arm is None
        or reference is None
        or arm.train_seconds is None
        or reference.train_seconds is None
    ):
        return Cell("–")
    extra = arm.train_seconds - reference.train_seconds
    share = 100 * extra / reference.train_seconds if reference.train_seconds else 0.0
    note = (
        f"{number(round(share), '1', signed=True).split('.')[0]} %" if abs(share) >= 0.5 else "±0 %"
    )
    if arm.params_m and reference.params_m and abs(arm.params_m / reference.params_m - 1) >= 0.005:
        note += f"; parameters × {arm.params_m / reference.params_m:.2f}"
    digits = 2 if abs(reference.train_seconds) < 100 else 0
    text = f"{abs(extra):.{digits}f}"
    sign = "" if not text.strip("0.") else "+" if extra > 0 else MINUS
    return Cell(sign + text, extra, note=note)


def verdict_cell(analysis: Analysis, effect: Effect) -> Cell:
    """Return symbol and word of a verdict, with the word for accuracy and gap together and the note under it."""
    mark = mark_of(effect)
    arm = arm_of(analysis, effect.term) if effect.kind == "arm" else None
    notes = [arm.word if arm is not None else "", effect.note]
    needed = analysis.seeds_needed.get(effect.term)
    if effect.verdict == "unresolved" and needed and needed > effect.n and effect.kind == "arm":
        notes.append(f"about {plural(needed, 'seed')} would settle it")
    return Cell(
        f"{MARKS[mark].symbol} {MARKS[mark].word}",
        mark=mark,
        note="; ".join(note for note in notes if note),
    )


def levels(
    analysis: Analysis,
    metrics: Sequence[str] = ("accuracy", "train_accuracy", "gap", "test_accuracy"),
) -> Table:
    """Return every arm's mean of the leading metrics with sd, interval and n."""
    shown = [
        m
        for m in dict.fromkeys([analysis.study.metric, *metrics, analysis.gap])
        if has_metric(analysis, m)
    ]
    if analysis.study.without_validation and {"accuracy", "test_accuracy"} <= set(shown):
        shown.remove("test_accuracy")  # the same number
    heads: list[str | Column] = ["Arm"]
    for name in shown:
        metric = metric_of(analysis, name)
        heads += [
            Column(_capital(metric.label), numeric=True, note="mean [low, high]"),
            Column("sd", numeric=True),
        ]
    heads.append(">n")
    rows = []
    for arm in analysis.arms:
        row: list[Cell | str] = [Cell(arm.name)]
        count = 0
        for name in shown:
            summary = summary_of(analysis, arm.name, name)
            row += [
                level_cell(analysis, arm.name, name),
                Cell(number(summary.sd, summary.unit)) if summary else Cell("–"),
            ]
            count = max(count, summary.n if summary else 0)
        rows.append([*row, str(count)])
    return table(
        f"Level of every arm: mean [low, high], {confidence(analysis.study)}, over n seeds.",
        heads,
        rows,
    )


def secondary(analysis: Analysis) -> Table | None:
    """Return the differences on every other metric, intervals only; None when there is no other."""
    first = leading(analysis)
    names = [
        m
        for m in dict.fromkeys(e.metric for e in analysis.effects)
        if m not in (analysis.study.metric, second_metric(analysis))
    ]
    names = [name for name in names if not name.startswith("best_")]
    if not names or not first:
        return None
    rows = []
    for effect in in_order(analysis, first):
        cells = [difference_cell(effect_on(analysis, effect, name)) for name in names]
        rows.append(
            [
                Cell(
                    effect.term, note=f"against {effect.reference}" if effect.kind == "arm" else ""
                ),
                *cells,
            ]
        )
    heads = [
        Column(
            _capital(metric_of(analysis, n).label), numeric=True, note=metric_of(analysis, n).unit
        )
        for n in names
    ]
    caption = f"Secondary metrics: mean difference [low, high], {sample(analysis.study, first)}; no verdicts, uncorrected."
    return table(caption, ["Contrast", *heads], rows)


def compared(analysis: Analysis) -> Table:
    """Return what each arm is: fields that differ from the baseline, size, cost and what became of its trials."""
    if analysis.study.table:
        named = [
            [Cell(arm.name, note=arm.why), arm.reference or "–", _ran(arm)] for arm in analysis.arms
        ]
        heads = ["Arm", "Compared with", Column("Rows", numeric=True, note="with a score")]
        return table(
            f"The arms, as {analysis.study.table} names them; what they are is known to whoever ran them.",
            heads,
            named,
        )
    rows = []
    for arm in analysis.arms:
        base = arm.name == analysis.study.baseline
        rows.append(
            [
                Cell(arm.name, note=arm.why),
                (
                    "the study's base settings"
                    if analysis.study.scripted
                    else "the study's base recipe"
                )
                if base
                else setting(arm.overrides),
                arm.reference or "–",
                Cell(maybe(arm.params_m, "{:.3g} M"), arm.params_m),
                Cell(maybe(arm.mflop_per_image, "{:.3g}"), arm.mflop_per_image),
                Cell(seconds(arm.train_seconds), arm.train_seconds),
                _ran(arm),
            ]
        )
    heads = [
        "Arm",
        "What it changes",
        "Compared with",
        ">Parameters",
        Column("MFLOP", numeric=True, note="an image"),
    ]
    heads += [
        Column("Training", numeric=True, note="a trial"),
        Column("Trials", numeric=True, note="complete"),
    ]
    return table(
        "The arms. An arm whose size differs from the baseline's is confounded with size.",
        heads,
        rows,
    )


def _ran(arm: ArmFacts) -> Cell:
    return Cell(f"{arm.completed} of {arm.planned}", note=_ends(arm))


def _ends(arm: ArmFacts) -> str:
    told = [
        f"{n} {word}"
        for n, word in ((arm.failed, "failed"), (arm.diverged, "diverged"), (arm.pruned, "pruned"))
        if n
    ]
    if arm.censored_at is not None:
        told.append(f"censored at epoch {arm.censored_at}")
    return ", ".join(told)


def maybe(value: float | None, form: str) -> str:
    """Return a number in a format, or nothing for None."""
    return "" if value is None else form.format(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
