"""The tables of a report: from an analysis and its trials to rows of cells. No drawing, no format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis import Analysis, ArmFacts, Effect
from harness.report.document import Column, Glyph, TableBlock, TableCell, table
from harness.report.lookup import (
    arm_of,
    corrected_over,
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
    direction,
    gap_word,
    images,
    level_confidence,
    margin,
    mark_of,
    number,
    plain,
    sample,
    seconds,
    setting,
    unit_name,
    unit_of_run,
)
from harness.text import plural

SHARED = "other work shared the machine"
UNKNOWN = "how much other work shared the machine was not measured"
_MOST_NAMED = 6  # fields that an arm's line in the verdict table names


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which columns the verdict table has.

    Attributes:
        second: the metric next to the deciding one; empty where no contrast has it.
        main: rows are the main effects of components, not arms.
        timed: arms have training seconds.
        crossed: intervals for new images too are known.
    """

    second: str
    main: bool
    timed: bool
    crossed: bool


def verdicts(analysis: Analysis) -> TableBlock:
    """Return the table that answers the question: difference, gap difference, extra seconds and verdict of every contrast."""
    effects = in_order(analysis, leading(analysis))
    second = second_metric(analysis)
    gaps = [effect_on(analysis, effect, second) for effect in effects]
    measured = any(gap is not None and gap.estimate is not None for gap in gaps)
    main = bool(effects) and effects[0].kind == "main"
    shape = _Shape(
        second=second if measured else "",
        main=main,
        timed=not main and not analysis.study.table and not shared(analysis),
        crossed=any(effect.image_low is not None for effect in effects),
    )

    # Every column of glyphs has one axis, so that its intervals can be compared by eye.
    axes = _axis(effects), _axis([gap for gap in gaps if gap is not None])
    rows = [] if main or not effects else [_baseline_row(analysis, shape)]
    groups: dict[int, str] = {}
    several = len({effect.reference for effect in effects}) > 1 and not main
    seen = ""
    for effect, gap in zip(effects, gaps, strict=True):
        if several and effect.reference != seen:
            seen = effect.reference
            groups[len(rows)] = f"compared with {effect.reference}"
        rows.append(_verdict_row(analysis, shape, effect, gap, axes))
    return table(
        _verdicts_caption(analysis, shape, effects),
        _verdicts_heads(analysis, shape),
        rows,
        groups=groups,
        verdicts=True,
    )


def _verdict_row(
    analysis: Analysis,
    shape: _Shape,
    effect: Effect,
    gap: Effect | None,
    axes: tuple[tuple[float, float], tuple[float, float]],
) -> list[TableCell]:
    row = [_name(analysis, effect), _difference_cell(effect, axes[0], analysis.margin)]
    if shape.crossed:
        interval = bounds(effect.image_low, effect.image_high, effect.unit, signed=True)
        row.append(TableCell(interval or "–"))
    if shape.second:
        note = gap_word(gap, analysis) if shape.second == analysis.gap else ""
        row.append(_difference_cell(gap, axes[1], 0.0, note=note))
    if shape.timed:
        row.append(_extra_seconds(analysis, effect))
    return [*row, verdict_cell(analysis, effect)]


def _verdicts_heads(analysis: Analysis, shape: _Shape) -> list[Column | str]:
    def of(name: str) -> Column:
        metric = metric_of(analysis, name)
        unit = "difference, pp" if metric.unit == "pp" else "difference"
        return Column(_capital(metric.label), numeric=True, note=unit)

    heads: list[Column | str] = ["Component" if shape.main else "Arm", of(analysis.study.metric)]
    if shape.crossed:
        heads.append(Column("New images too", numeric=True, note="seeds and images"))
    if shape.second:
        heads.append(of(shape.second))
    if shape.timed:
        heads.append(Column("Extra time", numeric=True, note="seconds a trial"))
    return [*heads, "Verdict"]


def _differences_of(analysis: Analysis) -> str:
    """Return what the differences between arms are taken over."""
    if analysis.study.pairing != "seed":
        return "unpaired differences between two groups of runs"
    sets = len(analysis.study.datasets)
    over = f", each seed's the mean over {sets} data sets" if sets else ""
    return f"paired differences, seed by seed{over}"


def _verdicts_caption(analysis: Analysis, shape: _Shape, effects: Sequence[Effect]) -> str:
    what = (
        "switching the component on, over all settings of the others"
        if shape.main
        else _differences_of(analysis)
    )
    metric = metric_of(analysis)
    too = "; the second interval is for new images too" if shape.crossed else ""
    family = plural(corrected_over(analysis, effects), "main effect" if shape.main else "arm")
    holm = f"Holm over {family}, " if len(effects) > 1 else ""
    gap = (
        "; the gap is a family of its own"
        if shape.second == analysis.gap and len(effects) > 1
        else ""
    )
    extra = f" Extra time: {UNKNOWN}." if shape.timed and unmeasured(analysis) else ""
    extra = f" Times are left out: {SHARED}." if shared(analysis) else extra
    return (
        f"Mean of {what} [low, high], {sample(analysis.study, effects)}, {images(analysis)}{too}. "
        f"Verdicts are about {metric.label}, {direction(metric)} ({holm}margin {margin(analysis)}){gap}.{extra}"
    )


def shared(analysis: Analysis) -> bool:
    """Whether other work shared the machine: seconds that it stretched say nothing of an arm and are not shown."""
    return any(check.name == "busy machine" and check.level != "ok" for check in analysis.checks)


def unmeasured(analysis: Analysis) -> bool:
    """Whether nobody knows if other work shared the machine; a processor's time says nothing about a GPU's."""
    gpu = any("cuda" in line for line in analysis.environments)
    return not gpu and all(check.name != "busy machine" for check in analysis.checks)


def _baseline_row(analysis: Analysis, shape: _Shape) -> list[TableCell]:
    name = analysis.study.baseline
    row = [TableCell(name, note="the baseline"), level_cell(analysis, name, analysis.study.metric)]
    row += [TableCell("–")] if shape.crossed else []
    row += [level_cell(analysis, name, shape.second)] if shape.second else []
    arm = arm_of(analysis, name)
    if shape.timed:
        row.append(
            TableCell(
                seconds(arm.train_seconds) if arm else "",
                arm.train_seconds if arm else None,
                note="in all",
            )
        )
    return [*row, TableCell("–")]


def level_cell(analysis: Analysis, arm: str, metric: str, *, sd: bool = False) -> TableCell:
    """Return an arm's mean of a metric with its interval, and with its sd between seeds where that is asked for."""
    summary = summary_of(analysis, arm, metric)
    if summary is None or summary.mean is None:
        return TableCell("–")
    unit = unit_name(summary.unit, level=metric not in ("gap", "best_gap", analysis.gap))
    note = bounds(summary.low, summary.high, summary.unit)
    if sd and summary.sd is not None:
        note = f"{note}, sd {number(summary.sd, summary.unit)}".removeprefix(", ")
    return TableCell(number(summary.mean, summary.unit) + unit, summary.mean, note=note)


def _name(analysis: Analysis, effect: Effect) -> TableCell:
    arm = arm_of(analysis, effect.term)
    if arm is None or effect.kind == "main":
        factor = next((f for f in analysis.study.factors if f.name == effect.term), None)
        return TableCell(
            effect.term,
            note=f"{plain(factor.off)} → {plain(factor.on)}" if factor is not None else "",
        )
    # what a search found: the next table lists it
    if len(arm.overrides) > _MOST_NAMED and not arm.components:
        return TableCell(effect.term, note=f"{len(arm.overrides)} fields differ, listed below")
    return TableCell(effect.term, note=changes(analysis, arm))


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
    # without 0 on it an axis would not show the side that an interval lies on
    left, right = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.05 * (right - left or 1.0)
    return left - pad, right + pad


def _difference_cell(
    effect: Effect | None, axis: tuple[float, float], margin: float, note: str = ""
) -> TableCell:
    if effect is None or effect.estimate is None:
        return TableCell("–", note=effect.note if effect is not None else "")
    mark = mark_of(effect) if effect.verdict else ""
    glyph = Glyph(effect.estimate, effect.low, effect.high, *axis, margin=margin, mark=mark)
    interval = bounds(effect.low, effect.high, effect.unit, signed=True)
    text = number(effect.estimate, effect.unit, signed=True)
    return TableCell(
        text, effect.estimate, note=" ".join(part for part in (interval, note) if part), glyph=glyph
    )


def difference_cell(effect: Effect | None) -> TableCell:
    """Return a difference with its interval, without a glyph."""
    if effect is None or effect.estimate is None:
        return TableCell("–")
    interval = bounds(effect.low, effect.high, effect.unit, signed=True)
    return TableCell(
        f"{number(effect.estimate, effect.unit, signed=True)} {interval}".strip(), effect.estimate
    )


def _extra_seconds(analysis: Analysis, effect: Effect) -> TableCell:
    arm, reference = arm_of(analysis, effect.term), arm_of(analysis, effect.reference)
    if (
        arm is None
        or reference is None
        or arm.train_seconds is None
        or reference.train_seconds is None
    ):
        return TableCell("–")
    # against the arm's own reference, as its other differences are
    extra = arm.train_seconds - reference.train_seconds
    share = 100 * extra / reference.train_seconds if reference.train_seconds else 0.0
    note = (
        f"{number(round(share), '1', signed=True).split('.')[0]} %" if abs(share) >= 0.5 else "±0 %"
    )
    if arm.params_m and reference.params_m and abs(arm.params_m / reference.params_m - 1) >= 0.005:
        note += f"; parameters × {arm.params_m / reference.params_m:.2f}"
    # hundredths of a second say nothing about minutes
    digits = 2 if abs(reference.train_seconds) < 100 else 0
    text = f"{abs(extra):.{digits}f}"
    sign = "" if not text.strip("0.") else "+" if extra > 0 else MINUS
    return TableCell(sign + text, extra, note=note)


def verdict_cell(analysis: Analysis, effect: Effect) -> TableCell:
    """Return symbol and word of a verdict, with the word for accuracy and gap together and the note under it."""
    mark = mark_of(effect)
    arm = arm_of(analysis, effect.term) if effect.kind == "arm" else None
    notes = [arm.word if arm is not None else "", effect.note, _corrected(analysis, effect)]
    needed = analysis.seeds_needed.get(effect.term)
    if effect.verdict == "unresolved" and needed and needed > effect.n:
        notes.append(f"about {plural(needed, unit_of_run(analysis.study))} would settle it")
    return TableCell(
        f"{MARKS[mark].symbol} {MARKS[mark].word}",
        mark=mark,
        note="; ".join(note for note in notes if note),
    )


def _corrected(analysis: Analysis, effect: Effect) -> str:
    """Why an effect is unresolved whose own interval seems to settle it: Holm's correction for the family."""
    if effect.verdict != "unresolved" or effect.low is None or effect.high is None:
        return ""
    family = [e for e in analysis.effects if (e.kind, e.metric) == (effect.kind, effect.metric)]
    over = f"after Holm's correction over {corrected_over(analysis, family)}"
    if len(family) < 2:
        return ""
    if not effect.low <= 0 <= effect.high and effect.p_holm is not None:
        return f"its own interval leaves out 0, but p = {effect.p_holm:.2g} {over}"
    inside = -analysis.margin < effect.low and effect.high < analysis.margin
    if inside and effect.p_equivalence is not None:
        return f"its own interval lies inside the margin, but p of equivalence = {effect.p_equivalence:.2g} {over}"
    return ""


def levels(
    analysis: Analysis,
    metrics: Sequence[str] = ("accuracy", "train_accuracy", "gap", "test_accuracy"),
) -> TableBlock:
    """Return every arm's mean of the leading metrics with interval, sd and n."""
    shown = [
        m
        for m in dict.fromkeys([analysis.study.metric, *metrics, analysis.gap])
        if has_metric(analysis, m)
    ]
    if analysis.study.without_validation and {"accuracy", "test_accuracy"} <= set(shown):
        shown.remove("test_accuracy")  # the same number
    labels = [_capital(metric_of(analysis, name).label) for name in shown]
    heads: list[str | Column] = ["Arm"]
    heads += [Column(label, numeric=True, note="mean [low, high], sd") for label in labels]
    rows = []
    for arm in analysis.arms:
        cells = [level_cell(analysis, arm.name, name, sd=True) for name in shown]
        found = [summary_of(analysis, arm.name, name) for name in shown]
        count = max((summary.n for summary in found if summary is not None), default=0)
        rows.append([TableCell(arm.name), *cells, str(count)])
    return table(
        f"Level of every arm: mean [low, high], {level_confidence(analysis.study)}, and sd between the n {unit_of_run(analysis.study)}s.",
        [*heads, ">n"],
        rows,
    )


def secondary(analysis: Analysis) -> TableBlock | None:
    """Return the differences on every other metric, intervals only; None when there is no other."""
    first = leading(analysis)
    names = [
        m
        for m in dict.fromkeys(e.metric for e in analysis.effects)
        if m not in (analysis.study.metric, second_metric(analysis))
    ]
    # the best epoch is chosen by looking: it is stored, and not compared
    names = [name for name in names if not name.startswith("best_")]
    if not names or not first:
        return None
    rows = []
    for effect in in_order(analysis, first):
        cells = [difference_cell(effect_on(analysis, effect, name)) for name in names]
        rows.append(
            [
                TableCell(
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


def compared(analysis: Analysis) -> TableBlock:
    """Return what each arm is: fields that differ from the baseline, size, cost and what became of its trials."""
    # nobody here knows what the arms of a table set
    if analysis.study.table:
        named = [
            [TableCell(arm.name, note=arm.why), arm.reference or "–", _ran(arm)]
            for arm in analysis.arms
        ]
        heads = ["Arm", "Compared with", Column("Rows", numeric=True, note="with a score")]
        return table(
            f"The arms, as {analysis.study.table} names them; only those who ran them know what they are.",
            heads,
            named,
        )
    rows, timed = [], not shared(analysis)
    for arm in analysis.arms:
        base = arm.name == analysis.study.baseline
        rows.append(
            [
                TableCell(arm.name, note=arm.why),
                (
                    "the study's base settings"
                    if analysis.study.scripted
                    else "the study's base recipe"
                )
                if base
                else setting(arm.overrides),
                arm.reference or "–",
                TableCell(maybe(arm.params_m, "{:.3g} M"), arm.params_m),
                TableCell(maybe(arm.mflop_per_image, "{:.3g}"), arm.mflop_per_image),
                *([TableCell(seconds(arm.train_seconds), arm.train_seconds)] if timed else []),
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
    heads += [Column("Training", numeric=True, note="a trial")] if timed else []
    heads.append(Column("Trials", numeric=True, note="complete"))
    sizes = {arm.params_m for arm in analysis.arms if arm.params_m is not None}
    caption = "The arms." if len(rows) > 1 else "What was trained."
    if len(sizes) > 1:
        caption += " Where an arm's size differs from the baseline's, size is part of its effect."
    return table(caption, heads, rows)


def _ran(arm: ArmFacts) -> TableCell:
    return TableCell(f"{arm.completed} of {arm.planned}", note=_ends(arm))


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
