"""The words of a report: numbers, intervals, verdicts and small phrases, from templates that are tested one by one.

Whole sentences about a study are in ``answers``.

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
    leading,
    metric_of,
)
from harness.study.study import Study
from harness.study.trial import Metric
from harness.text import duration

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
    """Return an arm's name as a sentence has it: in quotes where the sentence would swallow it."""
    swallowed = name in ("none", "all", "off", "on", "no") or ", " in name
    return f'"{name}"' if swallowed else name


def listed(names: Sequence[str], limit: int = 4, *, last: str = "and") -> str:
    """Return ``a``, ``a and b``, ``a, b and c`` or ``a, b, c and 3 more``; ``last`` may be ``or``."""
    shown = list(names)
    if len(shown) > limit:
        shown = [*shown[: limit - 1], f"{len(shown) - limit + 1} more"]
    if len(shown) < 2:
        return shown[0] if shown else ""
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def direction(of: Metric | Analysis) -> str:
    """Return which end of a metric, or of the metric that an analysis is about, is the good one: ``higher is better``."""
    if of.higher_is_better is None:
        return "neither end is better by itself"
    return "higher is better" if of.higher_is_better else "lower is better"


def number(value: float | None, unit: str = "pp", *, signed: bool = False) -> str:
    """Return a number as text: two decimals for points, three digits that count for a table's own unit, else three decimals."""
    if value is None:
        return ""
    # rounded first: -0.001 is shown as 0.00 and must not carry a sign
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


def plain_confidence(study: Study) -> str:
    """Return the level of intervals that are t intervals whatever the looks and the pairing: ``95 % t``."""
    return f"{100 * (1 - study.alpha):g} % t"


def level_confidence(study: Study) -> str:
    """Return the level and kind of intervals of one arm's mean, which has no other arm to be unpaired with."""
    return confidence(study) if study.pairing == "seed" else plain_confidence(study)


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


def against(analysis: Analysis, effect: Effect) -> str:
    """Return `` (against none)``: what an arm is compared with, where that is not the baseline; else nothing."""
    if effect.kind != "arm" or effect.reference == analysis.study.baseline:
        return ""
    return f" (against {effect.reference})"


def margin(analysis: Analysis) -> str:
    """Return the margin with its unit: ``±0.3 pp``."""
    return f"±{analysis.margin:g}{unit_name(metric_of(analysis).unit)}"


def sample(study: Study, effects: Sequence[Effect], *, plain: bool = False) -> str:
    """Return what the intervals of some effects are: ``95 % t, n = 8``, or a range of n where they differ.

    ``plain``: they are t intervals whatever the looks.
    """
    kind = plain_confidence(study) if plain else confidence(study)
    # arms that lost a seed have a smaller n than the others
    counts = sorted({effect.n for effect in effects if effect.low is not None})
    if not counts:
        return f"{kind}, no interval"
    spread = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return f"{kind}, {spread}"


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


# Phrases


def detectable(analysis: Analysis) -> str:
    """Return the smallest difference that the study finds with 80 % power, with its unit."""
    unit = metric_of(analysis).unit
    value = analysis.detectable_pp or 0.0
    return f"{value:.1f} pp" if unit == "pp" else number(value, unit)


def gap_word(effect: Effect | None, analysis: Analysis) -> str:
    """Return ``wider`` or ``narrower`` when a gap difference differs from 0 in its family, else nothing."""
    return (
        gap_direction(effect.estimate, effect.p_holm, analysis.study.alpha)
        if effect is not None
        else ""
    )


def unit_of_run(study: Study) -> str:
    """Return what is counted: ``seed``, or ``run`` where runs have none in common."""
    return "seed" if study.pairing == "seed" else "run"


def each(study: Study) -> str:
    """Return `` an arm`` where runs are counted, which arms do not share as they do seeds."""
    return "" if study.pairing == "seed" else " an arm"


def images(analysis: Analysis) -> str:
    """Return what the study's intervals are for: new seeds, on these images."""
    if analysis.study.table:
        sets = len(analysis.study.datasets)
        held = f"these {sets} data sets" if sets else "the same images"
        return f"for new {unit_of_run(analysis.study)}s on {held}"
    kind = "test" if analysis.study.without_validation else "validation"
    held = f"these {analysis.images:,} {kind} images" if analysis.images else "these images"
    return f"for new seeds on {held}"


def split(analysis: Analysis) -> str:
    """Return how the sd between seeds divides into real quality and finite-image noise; empty where it is not known."""
    known = [effect for effect in leading(analysis) if effect.sd and effect.sd_images is not None]
    parts = [(effect.sd or 0.0, effect.sd_images or 0.0) for effect in known]
    if not parts or not analysis.images:
        return ""
    over = "root mean square over arms" if len(known) > 1 else f"of {named(known[0].term)}"
    unit = metric_of(analysis).unit
    # variances are averaged, not sds, and the arms before they are subtracted: one that is by luck
    # below its images' part offsets one that is above
    whole = sqrt(sum(sd**2 for sd, _ in parts) / len(parts))
    noise = sqrt(sum(part**2 for _, part in parts) / len(parts))
    noise = min(noise, whole)
    real = sqrt(whole**2 - noise**2)
    share = f"{100 * noise**2 / whole**2:.0f} %"
    return (
        f"Between seeds a difference varies with an sd of {number(whole, unit)}{unit_name(unit)} ({over}): "
        f"{number(real, unit)} is real, {number(noise, unit)} comes from judging each seed by {analysis.images:,} images. More "
        f"images would remove up to {share} of the variance."
    )


def sentence(text: str) -> str:
    """Return a remark as a sentence: a capital first, a full stop last, true minus signs before numbers."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.strip())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
