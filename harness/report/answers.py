"""The sentences at the head of a report: the answer to the study's question, and what qualifies it.

Every design has an opening of its own (``groups``), so that a sentence of one design is never
printed for another; the verdicts fill it in. Numbers and small phrases come from ``words``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis import Analysis, ArmFacts, Effect
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
    bounds,
    confidence,
    detectable,
    difference,
    each,
    gap_word,
    images,
    level_confidence,
    listed,
    margin,
    named,
    number,
    plain,
    plain_confidence,
    sample,
    unit_name,
    unit_of_run,
)
from harness.stats import Paired, paired_t
from harness.study.recipe_fields import SIZE_FIELDS
from harness.text import plural

_MOST_NAMED = 6  # arms that a sentence names
_LARGER = 1.05  # parameters of an arm, as a multiple of its reference's, that deserve a sentence
_ALIKE = 0.01  # share by which the parameters of two nets of one size may differ


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Contrasts that one sentence is about.

    Attributes:
        opening: what the sentence begins with, ``Averaged over all settings of the others,`` for example.
        members: what the sentence calls each contrast, and the contrast.
        doing: what is done with the members, ``leaving out`` for example; empty where they are the subject themselves.
    """

    opening: str
    members: tuple[tuple[str, Effect], ...]
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a verdict says of one subject and of several; ``{it}`` is the metric. ``sized``: the largest difference is named."""

    one: str
    several: str
    sized: bool = False


def answer(analysis: Analysis) -> str:
    """Return the answer to the study's question in plain sentences, each interval with its kind, n and images."""
    text = _not_yet(analysis) or _nothing_resolved(analysis)
    if text:
        return text
    told = [_of_metric(analysis, group) for group in groups(analysis)]
    judged = [effect for effect in leading(analysis) if effect.verdict]
    kind = f"Intervals: {sample(analysis.study, judged)}, {images(analysis)}."
    return " ".join([*told, kind])


# The openings of the designs


def groups(analysis: Analysis) -> list[Contrasts]:
    """Return the contrasts that answer the study, by what one sentence can say of them, in the words of its design."""
    effects = in_order(analysis, leading(analysis))
    if effects and effects[0].kind == "main":
        members = tuple((named(effect.term), effect) for effect in effects)
        return [Contrasts("Averaged over all settings of the others,", members)]
    if analysis.study.design == "sweep":
        return _of_sweep(analysis, effects)
    if analysis.study.design in ("leave-one-out", "add-one-in", "both"):
        return _of_components(analysis, effects)
    references = list(dict.fromkeys(effect.reference for effect in effects))
    return [
        Contrasts(
            f"Compared with {named(reference)},",
            _named([e for e in effects if e.reference == reference]),
        )
        for reference in references
    ]


def _of_sweep(analysis: Analysis, effects: Sequence[Effect]) -> list[Contrasts]:
    """A sentence a factor, its levels in order, then one for the arms written by hand."""
    base = arm_of(analysis, analysis.study.baseline)
    levels = base.components if base is not None else {}
    made, rest = [], list(effects)
    for factor in analysis.study.factors:
        swept = [e for e in rest if factor.name in _components(analysis, e)]
        rest = [effect for effect in rest if effect not in swept]
        level = plain(levels[factor.name]) if factor.name in levels else ""
        opening = f"Compared with {named(analysis.study.baseline)}"
        opening += f" ({factor.name} = {level})," if level else ","
        made += [Contrasts(opening, _named(swept))] if swept else []
    return [*made, *([Contrasts("Of the other variants,", _named(rest))] if rest else [])]


def _of_components(analysis: Analysis, effects: Sequence[Effect]) -> list[Contrasts]:
    """Components added to nothing, taken out one at a time, taken out together; then the arms written by hand."""
    places: dict[str, list[tuple[str, Effect]]] = {"add": [], "drop": [], "all": [], "hand": []}
    for effect in effects:
        on, off = _switched(analysis, effect)
        if not off and not on:
            places["hand"].append((named(effect.term), effect))
        elif effect.reference != analysis.study.baseline:
            places["add"].append((on[0] if on else named(effect.term), effect))
        elif on or len(off) == 1:
            places["drop"].append((" and ".join(off), effect))
        else:
            places["all"].append(("all of them", effect))
    # What follows "leaving out one at a time" may say "leaving out all of them".
    sentences = (
        Contrasts("Added alone to a recipe without any of them,", tuple(places["add"])),
        Contrasts("In the full recipe,", tuple(places["drop"]), "leaving out {}"),
        Contrasts("", tuple(places["all"]), "leaving out {}"),
        Contrasts("Of the other variants,", tuple(places["hand"])),
    )
    return [group for group in sentences if group.members]


def _named(effects: Sequence[Effect]) -> tuple[tuple[str, Effect], ...]:
    return tuple((named(effect.term), effect) for effect in effects)


def _components(analysis: Analysis, effect: Effect) -> Mapping[str, object]:
    arm = arm_of(analysis, effect.term)
    return arm.components if arm is not None else {}


def _switched(analysis: Analysis, effect: Effect) -> tuple[list[str], list[str]]:
    """The components that an arm made by the design has on, and those that it has off; nothing of an arm made by hand."""
    levels = _components(analysis, effect)
    factors = {factor.name: factor for factor in analysis.study.factors}
    on = [name for name, level in levels.items() if level == factors[name].on]
    return on, [name for name in levels if name not in on]


# What verdicts say


def _of_metric(analysis: Analysis, group: Contrasts) -> str:
    """A sentence with the verdicts of a group on the deciding metric."""
    metric = metric_of(analysis)
    up, down = Phrase("raises {it}", "raise {it}", True), Phrase("lowers {it}", "lower {it}", True)
    if metric.higher_is_better is False:
        up, down = down, up
    most = margin(analysis).removeprefix("±")
    phrases = {
        "better": up,
        "worse": down,
        "equivalent": Phrase(
            f"changes {{it}} by less than {most} (equivalent)",
            f"change {{it}} by less than {most} (equivalent)",
        ),
        "unresolved": Phrase("is unresolved", "are unresolved"),
        "": Phrase("is not judged", "are not judged"),
    }
    return _sentence(group, metric.label, lambda effect: effect.verdict, phrases)


def _sentence(
    group: Contrasts, label: str, sort: Callable[[Effect], str], phrases: Mapping[str, Phrase]
) -> str:
    """``OPENING a (+1.05 pp [..]) and b raise LABEL; c is unresolved.``: one clause a verdict, in the order of the phrases."""
    clauses: list[str] = []
    for verdict, phrase in phrases.items():
        members = [(name, effect) for name, effect in group.members if sort(effect) == verdict]
        if not members:
            continue
        if phrase.sized:  # the largest first, with its interval
            members.sort(key=lambda member: -abs(member[1].estimate or 0.0))
            members[0] = (f"{members[0][0]} ({difference(members[0][1])})", members[0][1])
        names = [name for name, _ in members]
        # "leaving out a or b raises": what is done is one subject
        several = listed(names, _MOST_NAMED, last="or" if group.doing else "and")
        subject = group.doing.format(several) if group.doing else several
        verb = phrase.several if len(names) > 1 and not group.doing else phrase.one
        label_shown = label if not any(label in clause for clause in clauses) else "it"
        clauses.append(f"{subject} {verb.format(it=label_shown)}")
    text = "; ".join(clauses)
    text = f"{group.opening} {text}" if group.opening else text
    return f"{text[:1].upper()}{text[1:]}."


# What is no answer yet


def _not_yet(analysis: Analysis) -> str:
    """The sentence for a study without an answer, and why; empty when there is one."""
    completed = sum(arm.completed for arm in analysis.arms)
    if analysis.trials_total == 0:
        return "No answer yet: no trial has finished."
    if completed == 0:
        ends = {
            "failed": sum(arm.failed for arm in analysis.arms),
            "diverged": sum(arm.diverged for arm in analysis.arms),
            "pruned": sum(arm.pruned for arm in analysis.arms),
        }
        counted = ", ".join(f"{count} {word}" for word, count in ends.items() if count)
        return (
            f"No answer: none of {plural(analysis.trials_total, 'trial')} ran to the end "
            f"({counted or 'none is final'})."
        )
    if len(analysis.arms) == 1:
        return _alone(analysis)
    if analysis.screening:
        return "No verdict: this is a screening, in which arms may be stopped early and none is judged."
    if not analysis.seeds:
        return (
            f"No answer yet: {plural(completed, 'trial')} completed, "
            "and no seed has been run on every arm."
        )
    return "" if any(effect.verdict for effect in leading(analysis)) else _withheld(analysis)


def _alone(analysis: Analysis) -> str:
    """The sentence for a study of one arm: its level."""
    arm = analysis.arms[0].name
    text = level(analysis, arm, analysis.study.metric)
    if not text:
        return f"Nothing is compared: the study has one arm, {named(arm)}."
    return (
        f"Nothing is compared: the study has one arm, {named(arm)}, "
        f"whose {metric_of(analysis).label} is {text}."
    )


def level(analysis: Analysis, arm: str, metric: str, *, kind: bool = True) -> str:
    """Return ``53.97 % [53.39, 54.54] (95 % t, n = 6)`` of an arm's metric, without the brackets where ``kind`` is false.

    Empty where the arm has none.
    """
    summary = summary_of(analysis, arm, metric)
    if summary is None or summary.mean is None:
        return ""
    of_gap = metric in ("gap", "best_gap", analysis.gap)
    text = number(summary.mean, summary.unit) + unit_name(summary.unit, level=not of_gap)
    interval = bounds(summary.low, summary.high, summary.unit)
    if not kind:
        return f"{text} {interval}".strip()
    if not interval:
        return f"{text} (n = {summary.n})"
    return f"{text} {interval} ({level_confidence(analysis.study)}, n = {summary.n})"


def _withheld(analysis: Analysis) -> str:
    """Why there are estimates and no verdict."""
    done, study = len(analysis.seeds), analysis.study
    # nets that guess come first: neither more seeds nor whole pairs would make them learn
    failed = sorted(
        (check for check in analysis.checks if check.level == "fail"),
        key=lambda check: check.name != "chance",
    )
    if failed:
        cure = f"; {failed[0].hint}" if failed[0].hint else ""
        return f"No verdict: {_lower(failed[0].what.rstrip('.'))}{cure}."
    if done < 3:
        if study.pairing != "seed":
            return (
                f"No verdict yet: an arm has {plural(done, 'run')} and a verdict takes at least 3."
            )
        are = "is" if done == 1 else "are"
        return (
            f"No verdict yet: {plural(done, 'seed')} {are} complete and a verdict takes at least 3."
        )
    if len(study.looks) > 1 and done not in study.looks:
        looks = listed([str(look) for look in study.looks])
        return (
            f"No verdict yet: verdicts are given at the declared looks ({looks} seeds) "
            f"and {done} seeds are complete."
        )
    return f"No verdict: no arm can be judged on {plural(done, unit_of_run(study))}; the checks say why."


def _nothing_resolved(analysis: Analysis) -> str:
    effects = leading(analysis)
    if any(effect.verdict not in ("", "unresolved") for effect in effects):
        return ""
    study = analysis.study
    judged = [effect for effect in effects if effect.verdict] or effects
    largest = max(judged, key=lambda effect: abs(effect.estimate or 0.0))
    subject = "main effect" if largest.kind == "main" else "difference"
    shown = f"{named(largest.term)}, {difference(largest)}"
    text = (
        f"Nothing is resolved: the largest {subject} in {metric_of(analysis).label} is {shown} "
        f"({sample(study, [largest])}, {images(analysis)})"
    )
    needed = analysis.seeds_needed.get(largest.term)
    if needed and needed > largest.n:
        text += (
            f", which would take about {plural(needed, unit_of_run(study))}{each(study)} to settle"
        )
    elif analysis.detectable_pp is not None:
        seeds = plural(len(analysis.seeds), unit_of_run(study)) + each(study)
        text += f"; {seeds} would have shown a difference of {detectable(analysis)}"
    return text + "."


# What qualifies the answer


def support(analysis: Analysis) -> tuple[str, ...]:
    """Return the sentences under the answer: the overfitting gap, sizes that differ, and the power of the study."""
    sentences = []
    second = second_metric(analysis)
    compared = len(analysis.arms) > 1 and bool(analysis.seeds) and not analysis.screening
    if compared and analysis.study.metric != analysis.gap and has_metric(analysis, second):
        sentences.append(_of_gap(analysis))
    if compared:
        sentences.append(of_size(analysis))
    if analysis.detectable_pp is not None and len(analysis.arms) > 1:
        main = any(effect.kind == "main" for effect in leading(analysis))
        seeds = plural(len(analysis.seeds), unit_of_run(analysis.study)) + each(analysis.study)
        sentences.append(
            f"With {seeds}, a {'main effect' if main else 'difference'} of {detectable(analysis)} "
            f"is found with 80 % power{_after_holm(analysis, main=main)}; differences within "
            f"{margin(analysis)} were declared not worth acting on."
        )
    if compared and any(effect.kind == "main" and effect.verdict for effect in analysis.effects):
        chance = 100 * (1 - (1 - analysis.study.alpha) ** 3)
        sentences.append(
            "Arms, main effects and interactions are three families, each judged at its own level: "
            f"where nothing has an effect, up to {chance:.0f} % of such studies give a false verdict "
            "somewhere (12 % of simulated 2 × 2 × 2 factorials at level 0.05)."
        )
    return tuple(sentence for sentence in sentences if sentence)


def _after_holm(analysis: Analysis, *, main: bool) -> str:
    count = corrected_over(analysis, leading(analysis))
    kind = "component" if main else "arm"
    return f" after Holm's correction over {plural(count, kind)}" if count > 1 else ""


def _of_gap(analysis: Analysis) -> str:
    """What the contrasts do to the overfitting gap, in the openings of the design."""
    phrases = {
        "wider": Phrase("widens {it}", "widen {it}", True),
        "narrower": Phrase("narrows {it}", "narrow {it}", True),
        "": Phrase("does not measurably change {it}", "do not measurably change {it}"),
    }
    sentences, tested = [], []
    for group in groups(analysis):
        pairs = [(name, effect_on(analysis, e, analysis.gap)) for name, e in group.members]
        known = tuple(
            (name, gap) for name, gap in pairs if gap is not None and gap.p_holm is not None
        )
        if known:
            tested += [gap for _, gap in known]
            shown = Contrasts(group.opening, known, group.doing)
            sort: Callable[[Effect], str] = lambda gap: gap_word(gap, analysis)  # noqa: E731
            sentences.append(_sentence(shown, "the overfitting gap", sort, phrases))
    if not tested:
        return ""
    kind = "main effect" if tested[0].kind == "main" else "arm"
    family = plural(corrected_over(analysis, tested), kind)
    holm = f", Holm over {family}" if len(tested) > 1 else ""
    return f"{' '.join(sentences)} Intervals: {sample(analysis.study, tested)}{holm}."


def of_size(analysis: Analysis) -> str:
    """Return what of a gain is one of size: of arms whose size was also run alone; else which better arms are larger than the baseline."""
    larger: list[tuple[str, str]] = []
    told: dict[str, list[ArmFacts]] = {}
    for effect in leading(analysis):
        arm, reference = arm_of(analysis, effect.term), arm_of(analysis, effect.reference)
        if effect.verdict != "better" or effect.kind != "arm" or arm is None or reference is None:
            continue
        # size is all that it changes, so size is what was asked about
        if len(arm.overrides) == 1 or arm.overrides.keys() <= set(SIZE_FIELDS):
            continue
        # where components are added to another arm, size is one of them or is not changed
        if reference.name != analysis.study.baseline:
            continue
        alike = at_size(analysis, arm)
        if alike is not None:
            told.setdefault(alike.name, []).append(arm)
        elif reference.params_m and (arm.params_m or 0.0) >= _LARGER * reference.params_m:
            times = (arm.params_m or 0.0) / reference.params_m
            larger.append(
                (named(effect.term), f"{times:.2f} times the parameters of {named(reference.name)}")
            )
    sentences = [
        f"Part or all of a gain may be one of size. {named(name)} has the recipe of "
        f"{named(analysis.study.baseline)} at the size of {listed([named(arm.name) for arm in arms])}. "
        f"{_beyond(analysis, name, arms)}"
        for name, arms in told.items()
    ]
    return " ".join([*sentences, *([_not_told(larger)] if larger else [])])


def _not_told(larger: Sequence[tuple[str, str]]) -> str:
    """Say of ``(arm, its size)`` that nothing tells size from recipe."""
    sizes = list(dict.fromkeys(size for _, size in larger))
    if len(sizes) == 1:
        names = [name for name, _ in larger]
        have = "has" if len(names) == 1 else "have"
        shown = f"{listed(names)} {have} {sizes[0]}"
    else:
        shown = listed([f"{name} has {size}" for name, size in larger])
    return (
        f"Part or all of the gain may be one of size: {shown}, and no arm of the baseline's recipe at "
        "that size was run, so this page cannot separate the two."
    )


def at_size(analysis: Analysis, arm: ArmFacts) -> ArmFacts | None:
    """Return the arm that is as large as another, with nothing else changed from the baseline."""
    size = {name: value for name, value in arm.overrides.items() if name in SIZE_FIELDS}
    if not size or analysis.study.pairing != "seed":
        return None
    other = next((other for other in analysis.arms if other.overrides == size), None)
    # what else a recipe changes may make its net larger, too
    if other is not None and other.params_m and arm.params_m:
        return other if abs(arm.params_m / other.params_m - 1.0) < _ALIKE else None
    return other


def _beyond(analysis: Analysis, name: str, arms: Sequence[ArmFacts]) -> str:
    """Say what each arm has over the baseline's recipe at its size; on the test set, too, where it was looked at for both."""
    figures = []
    for arm in arms:
        on = [
            over_in_words(analysis, arm.name, name, metric)
            for metric in (analysis.study.metric, analysis.gap, "test_accuracy")
        ]
        shown = [text for text in dict.fromkeys(on) if text]
        if shown:
            figures.append(f"{named(arm.name)} has {listed(shown)}")
    alike = arm_of(analysis, name)
    if alike is not None and alike.trouble:
        return f"It is not compared: {alike.trouble}."
    if not figures:
        return "Its trials are not complete."
    return f"Over it, {listed(figures, 6)} ({plain_confidence(analysis.study)}, paired by seed)."


def over(analysis: Analysis, arm: str, other: str, metric: str) -> Paired | None:
    """Return the paired difference of two arms in the unit shown; None below two common seeds."""
    sides = [summary_of(analysis, name, metric) for name in (arm, other)]
    scores = [dict(zip(side.seeds, side.scores, strict=True)) for side in sides if side is not None]
    seeds = sorted(set.intersection(*map(set, scores))) if len(scores) == 2 else []
    if len(seeds) < 2:
        return None
    ours, theirs = ([side[seed] for seed in seeds] for side in scores)
    return paired_t(ours, theirs, alpha=analysis.study.alpha)


def over_in_words(analysis: Analysis, arm: str, other: str, metric: str) -> str:
    """Return ``over`` with its interval, metric and n; empty where there is none."""
    found, of = over(analysis, arm, other, metric), metric_of(analysis, metric)
    if found is None:
        return ""
    ends = bounds(found.low, found.high, of.unit, signed=True)
    shown = f"{number(found.mean, of.unit, signed=True)}{unit_name(of.unit)} {ends}"
    return f"{shown} in {of.label} (n = {found.n})"


def recommended(analysis: Analysis) -> str:
    """Return what is known of the recommended recipe, without a full stop: the levels of the arm that has it, or none."""
    arm, base = analysis.recommended_arm, analysis.study.baseline
    if not arm:
        return (
            "It was put together after seeing these results and is unconfirmed until it is run "
            "on fresh seeds"
        )
    figures = []
    for metric in dict.fromkeys([analysis.study.metric, analysis.gap, "test_accuracy"]):
        here, there = (level(analysis, name, metric, kind=False) for name in (arm, base))
        if here and there:
            figures.append(
                f"{metric_of(analysis, metric).label} {here} (of {named(base)}: {there})"
            )
    seeds = f"{confidence(analysis.study)}, n = {len(analysis.seeds)}"
    shown = f": {'; '.join(figures)}; {seeds}" if figures else ""
    return (
        f"It was run, as arm {named(arm)}{shown}. "
        "It was chosen after seeing these results, so fresh seeds say more"
    )


def _lower(text: str) -> str:
    """Lower the first letter of a sentence, unless its first word is written in capitals or is a name."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
