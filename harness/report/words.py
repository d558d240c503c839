"""The words of a report: numbers, intervals, verdicts and whole sentences, from templates that are tested one by one.

A difference carries its sign (a true minus sign), an interval its kind and n. Singular and plural
are right. Nothing here knows HTML or LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10, sqrt

from harness.analysis import Analysis, Effect
from harness.analysis.verdicts import gap_direction
from harness.report.lookup import (
    by_verdict,
    effect_on,
    has_metric,
    in_order,
    leading,
    metric_of,
    second_metric,
    summary_of,
)
from harness.study.study import Study
from harness.study.trial import Metric
from harness.text import duration, plural

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A verdict as a symbol and a word: colour may be added, never alone."""

    symbol: str
    word: str


MARKS = {
    "better": Mark("▲", "better"),
    "worse": Mark("▼", "worse"),
    "equivalent": Mark("■", "equivalent"),
    "unresolved": Mark("○", "unresolved"),
    "none": Mark("×", "not judged"),
    "ok": Mark("✓", "ok"),
    "warn": Mark("!", "warning"),
    "fail": Mark("✗", "failed"),
}


def mark_of(effect: Effect) -> str:
    """Return the key of an effect's verdict in ``MARKS``."""
    return effect.verdict or "none"


def named(name: str) -> str:
    """Return an arm's name as it stands in a sentence: in quotes where the sentence would swallow it."""
    return f'"{name}"' if name in ("none", "all", "off", "on", "no") else name


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Return ``a``, ``a and b``, ``a, b and c`` or ``a, b, c and 3 more``."""
    shown = list(names)
    if len(shown) > limit:
        return f"{', '.join(shown[: limit - 1])} and {len(shown) - limit + 1} more"
    return (
        shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""
    )


def direction(of: Metric | Analysis) -> str:
    """Return which end of a metric, or of the metric that an analysis is about, is the good one: ``higher is better``."""
    if of.higher_is_better is None:
        return "neither end is better by itself"
    return "higher is better" if of.higher_is_better else "lower is better"


def number(value: float | None, unit: str = "pp", *, signed: bool = False) -> str:
    """Return a number as text: two decimals for points, three digits that count for a table's own unit, else three decimals."""
    if value is None:
        return ""
    text = f"{abs(value):.2f}" if unit == "pp" else f"{abs(value):.3f}"
    if unit == "own":
        text = significant(abs(value))
    zero = not text.strip("0.")
    sign = "" if zero else MINUS if value < 0 else "+" if signed else ""
    return sign + text


def significant(value: float) -> str:
    """Return a number above zero with three digits that count, whatever its size: ``1156``, ``0.0123``, ``1.05e-05``."""
    if value == 0.0 or not 1e-4 <= value < 1e7:
        return "0" if value == 0.0 else f"{value:.2e}"
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def unit_name(unit: str, *, level: bool = False) -> str:
    """Return the unit as it is printed after a number: `` pp`` for differences, `` %`` for levels, nothing for numbers."""
    return "" if unit != "pp" else " %" if level else " pp"


def bounds(low: float | None, high: float | None, unit: str = "pp", *, signed: bool = False) -> str:
    """Return ``[low, high]``, or an empty string where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{number(low, unit, signed=signed)}, {number(high, unit, signed=signed)}]"


def confidence(study: Study) -> str:
    """Return the level and kind of the study's intervals: ``95 % t``, ``95 % repeated t`` under declared looks, ``95 % Welch t``."""
    kind = "repeated t" if len(study.looks) > 1 else "t" if study.pairing == "seed" else "Welch t"
    return f"{100 * (1 - study.alpha):g} % {kind}"


def paired(study: Study) -> str:
    """Return how a study's differences are taken: ``paired`` by seed, or ``unpaired``."""
    return "paired" if study.pairing == "seed" else "unpaired"


def difference(effect: Effect) -> str:
    """Return ``+1.05 pp [+0.31, +1.79]``."""
    if effect.estimate is None:
        return "no estimate"
    text = number(effect.estimate, effect.unit, signed=True) + unit_name(effect.unit)
    interval = bounds(effect.low, effect.high, effect.unit, signed=True)
    return f"{text} {interval}" if interval else text


def margin(analysis: Analysis) -> str:
    """Return the margin with its unit: ``±0.3 pp``."""
    return f"±{analysis.margin:g}{unit_name(metric_of(analysis).unit)}"


def sample(study: Study, effects: Sequence[Effect]) -> str:
    """Return what the intervals of some effects are: ``95 % t, n = 8``, or a range of n where they differ."""
    counts = sorted({effect.n for effect in effects if effect.low is not None})
    if not counts:
        return f"{confidence(study)}, no interval"
    spread = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return f"{confidence(study)}, {spread}"


def seconds(value: float | None) -> str:
    """Return a duration to the precision that is of use: ``0.84 s``, ``42 s``, ``7 min``, ``3 h 10 min``."""
    if value is None:
        return ""
    if value < 9.95:
        return f"{value:.2f} s"
    return duration(value)


def setting(overrides: dict[str, object] | dict[str, tuple[object, object]]) -> str:
    """Return ``field = value`` pairs as text."""
    return ", ".join(f"{name} = {plain(value)}" for name, value in overrides.items())


def plain(value: object) -> str:
    """Return a recipe value as it is written in a study file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return str(value)


# Sentences


def answer(analysis: Analysis) -> str:
    """Return the answer to the study's question in one sentence."""
    return _not_yet(analysis) or _nothing_resolved(analysis) or _verdicts(analysis)


def detectable(analysis: Analysis) -> str:
    """Return the smallest difference that the study finds with 80 % power, with its unit."""
    unit = metric_of(analysis).unit
    value = analysis.detectable_pp or 0.0
    return f"{value:.1f} pp" if unit == "pp" else number(value, unit)


def _not_yet(analysis: Analysis) -> str:
    """The sentence for a study that cannot be answered, and why; empty when it can."""
    completed = sum(arm.completed for arm in analysis.arms)
    if analysis.trials_total == 0:
        return "No answer yet: no trial has finished."
    if completed == 0:
        ends = {
            "failed": sum(arm.failed for arm in analysis.arms),
            "diverged": sum(arm.diverged for arm in analysis.arms),
            "pruned": sum(arm.pruned for arm in analysis.arms),
        }
        told = ", ".join(f"{count} {word}" for word, count in ends.items() if count)
        return f"No answer: none of {plural(analysis.trials_total, 'trial')} ran to the end ({told or 'none is final'})."
    if len(analysis.arms) == 1:
        return _alone(analysis)
    if analysis.screening:
        return "No verdict: this is a screening, in which arms may be stopped early and none is judged."
    if not analysis.seeds:
        return f"No answer yet: {plural(completed, 'trial')} completed, and no seed has been run on every arm."
    return "" if any(effect.verdict for effect in leading(analysis)) else _withheld(analysis)


def _alone(analysis: Analysis) -> str:
    """The sentence for a study of one arm: its level."""
    arm = analysis.arms[0].name
    summary = summary_of(analysis, arm, analysis.study.metric)
    if summary is None or summary.mean is None:
        return f"Nothing is compared: the study has one arm, {arm}."
    level = number(summary.mean, summary.unit) + unit_name(summary.unit, level=True)
    interval = bounds(summary.low, summary.high, summary.unit)
    told = (
        f"{interval} ({confidence(analysis.study)}, n = {summary.n})"
        if interval
        else f"(n = {summary.n})"
    )
    return f"Nothing is compared: the study has one arm, {arm}, whose {metric_of(analysis).label} is {level} {told}."


def _withheld(analysis: Analysis) -> str:
    """Why there are estimates and no verdict."""
    done, study = len(analysis.seeds), analysis.study
    failed = [check for check in analysis.checks if check.level == "fail"]
    if failed:
        return f"No verdict: {_lower(failed[0].what.rstrip('.'))}."
    if done < 3:
        return f"No verdict yet: {plural(done, 'seed')} {'is' if done == 1 else 'are'} complete and a verdict takes at least 3."
    if len(study.looks) > 1 and done not in study.looks:
        looks = listed([str(look) for look in study.looks])
        return f"No verdict yet: verdicts are given at the declared looks ({looks} seeds) and {done} seeds are complete."
    return f"No verdict: no arm can be judged on {plural(done, 'seed')}; the checks say why."


def _nothing_resolved(analysis: Analysis) -> str:
    effects = leading(analysis)
    if any(effect.verdict not in ("", "unresolved") for effect in effects):
        return ""
    study = analysis.study
    largest = max(effects, key=lambda effect: abs(effect.estimate or 0.0))
    subject = "main effect" if largest.kind == "main" else "difference"
    told = f"{named(largest.term)}, {difference(largest)} ({sample(study, [largest])})"
    text = f"Nothing is resolved: the largest {subject} is {told}"
    needed = analysis.seeds_needed.get(largest.term)
    if needed and needed > largest.n:
        text += f", which would take about {plural(needed, 'seed')} to settle"
    elif analysis.detectable_pp is not None:
        text += f"; {plural(len(analysis.seeds), 'seed')} would have shown a difference of {detectable(analysis)}"
    return text + "."


def _verdicts(analysis: Analysis) -> str:
    """The sentence that names what is better, worse, equivalent and unresolved, reference by reference."""
    study, effects = analysis.study, in_order(analysis, leading(analysis))
    metric = metric_of(analysis)
    clauses = []
    main = effects[0].kind == "main"
    groups: dict[str, list[Effect]] = {}
    for effect in effects:
        groups.setdefault("" if main else effect.reference, []).append(effect)
    for reference, members in groups.items():
        told = [
            _clause(verdict, some, analysis)
            for verdict, some in by_verdict(members).items()
            if some
        ]
        clauses.append((f"against {named(reference)}, " if reference else "") + ", ".join(told))
    text = "; ".join(clauses)
    judged = [effect for effect in effects if effect.verdict]
    if main:
        return f"Switched on, over all settings of the others, in {metric.label}: {text} ({sample(study, judged)})."
    return f"In {metric.label}, {text} ({sample(study, judged)})."


def _clause(verdict: str, effects: Sequence[Effect], analysis: Analysis) -> str:
    """``a (+1.05 pp [..]) and b are better``: the largest of a resolved group carries its interval."""
    names = [named(effect.term) for effect in effects]
    verb = "is" if len(names) == 1 else "are"
    if verdict in ("better", "worse"):
        top = max(effects, key=lambda effect: abs(effect.estimate or 0.0))
        told = [
            f"{named(top.term)} ({difference(top)})",
            *(name for name in names if name != named(top.term)),
        ]
        return f"{listed(told)} {verb} {verdict}"
    if verdict == "equivalent":
        return f"{listed(names)} {verb} equivalent within {margin(analysis)}"
    if verdict == "unresolved":
        return f"{listed(names)} {verb} unresolved"
    return f"{listed(names)} {verb} not judged"


def support(analysis: Analysis) -> tuple[str, ...]:
    """Return the sentences under the answer: the overfitting gap, the power of the study, what it read from the test set."""
    told = []
    second = second_metric(analysis)
    compared = len(analysis.arms) > 1 and analysis.seeds and not analysis.screening
    if compared and analysis.study.metric != analysis.gap and has_metric(analysis, second):
        told.append(_gap_sentence(analysis))
    if analysis.detectable_pp is not None and len(analysis.arms) > 1:
        told.append(
            f"With {plural(len(analysis.seeds), 'seed')}, a {_judged(analysis)} of {detectable(analysis)} is found with 80 % "
            f"power{_after_holm(analysis)}; differences within {margin(analysis)} were declared not worth acting on."
        )
    if compared and any(effect.kind == "main" and effect.verdict for effect in analysis.effects):
        told.append(
            "Arms, main effects and interactions are three families, each judged at its own level: where nothing has an "
            f"effect, up to {100 * (1 - (1 - analysis.study.alpha) ** 3):.0f} % of such studies give a false verdict somewhere "
            "(12 % of simulated 2 × 2 × 2 factorials at level 0.05)."
        )
    return tuple(sentence for sentence in told if sentence)


def _judged(analysis: Analysis) -> str:
    """What the verdicts that answer the study are about."""
    return (
        "main effect"
        if any(effect.kind == "main" for effect in leading(analysis))
        else "difference"
    )


def _after_holm(analysis: Analysis) -> str:
    count = len(leading(analysis))
    kind = "component" if _judged(analysis) == "main effect" else "arm"
    return f" after Holm's correction over {plural(count, kind)}" if count > 1 else ""


def recommended(analysis: Analysis) -> str:
    """Return what is known of the recommended recipe, without a full stop: the figures of the arm that has it, or none."""
    arm = analysis.recommended_arm
    if not arm:
        return "It was put together after seeing these results and is unconfirmed until it is run on fresh seeds"
    figures = []
    for metric in dict.fromkeys([analysis.study.metric, analysis.gap, "test_accuracy"]):
        effect = next(
            (e for e in analysis.effects if (e.kind, e.term, e.metric) == ("arm", arm, metric)),
            None,
        )
        if effect is not None and effect.estimate is not None:
            figures.append(
                f"{metric_of(analysis, metric).label} {difference(effect)} against {named(effect.reference)}"
            )
    told = (
        f"It was run, as arm {named(arm)}: {'; '.join(figures)}"
        if figures
        else f"It was run, as arm {named(arm)}"
    )
    return f"{told}. It was chosen after seeing these results, so fresh seeds tell more"


def _gap_sentence(analysis: Analysis) -> str:
    groups: dict[str, list[Effect]] = {"wider": [], "narrower": []}
    judged = 0
    for effect in leading(analysis):
        gap = effect_on(analysis, effect, analysis.gap)
        judged += gap is not None and gap.p_holm is not None
        direction = gap_word(gap, analysis)
        if gap is not None and direction:
            groups[direction].append(gap)
    if not judged:
        return ""
    told = [gap for members in groups.values() for gap in members]
    if not told:
        return "No difference in the overfitting gap is told apart from 0."
    parts = []
    for word, direction in (("widened", "wider"), ("narrowed", "narrower")):
        top = sorted(groups[direction], key=lambda effect: -abs(effect.estimate or 0.0))
        if top:
            names = [
                f"{named(top[0].term)} ({difference(top[0])})",
                *(named(effect.term) for effect in top[1:]),
            ]
            parts.append(f"{word} by {listed(names)}")
    main = told[0].kind == "main"
    references = {effect.reference for effect in told}
    each = (
        f", against {named(min(references))}"
        if len(references) == 1
        else ", each against its own reference"
    )
    family = plural(judged, "main effect" if main else "arm")
    return (
        f"The overfitting gap is {' and '.join(parts)}{'' if main else each} "
        f"({sample(analysis.study, told)}, Holm over {family})."
    )


def gap_word(effect: Effect | None, analysis: Analysis) -> str:
    """Return ``wider`` or ``narrower`` when a gap difference is told apart from 0 in its family, else nothing."""
    return (
        gap_direction(effect.estimate, effect.p_holm, analysis.study.alpha)
        if effect is not None
        else ""
    )


def images(analysis: Analysis) -> str:
    """Return what the study's intervals are for: new seeds, on these images."""
    held = f"these {analysis.images:,} images" if analysis.images else "these images"
    return f"for new seeds on {held}"


def split(analysis: Analysis) -> str:
    """Return how the sd between seeds divides into real quality and finite-image noise; empty where it is not known."""
    parts = [(e.sd, e.sd_real) for e in leading(analysis) if e.sd and e.sd_real is not None]
    if not parts or not analysis.images:
        return ""
    unit = metric_of(analysis).unit
    whole = sqrt(sum(sd**2 for sd, _ in parts) / len(parts))
    real = sqrt(sum(min(part, sd) ** 2 for sd, part in parts) / len(parts))
    noise = sqrt(max(0.0, whole**2 - real**2))
    share = f"{100 * noise**2 / whole**2:.0f} %"
    return (
        f"Between seeds a difference varies with an sd of {number(whole, unit)}{unit_name(unit)} (root mean square over arms): "
        f"{number(real, unit)} is real, {number(noise, unit)} comes from judging each seed by {analysis.images:,} images. More "
        f"images would remove up to {share} of the variance."
    )


def sentence(text: str) -> str:
    """Return a remark as a sentence: a capital first, a full stop last, true minus signs before numbers."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.strip())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _lower(text: str) -> str:
    """Lower the first letter of a sentence, unless its first word is written in capitals or is a name."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
