"""What is said of a search: its answer, its best recipe, and the finalists on fresh seeds.

The test set says how much better the chosen recipe is: the search chose by the validation images,
and fresh seeds on the same images keep its optimism (once, +4.53 pp on 1,500 validation images was +3.40 pp on test).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis import Analysis
from harness.analysis.tuning_facts import Confirmed, TuningFacts
from harness.report import answers, words
from harness.report.document import Block, Listing, Paragraph, TableBlock, TableCell, table
from harness.report.lookup import arm_of, effects_of
from harness.report.material import Material
from harness.study.study import Study
from harness.study.trial import METRICS
from harness.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_STEADY = 1.5  # the same recipe's seconds, slow over fast, up to which times may be compared


def settled(material: Material, analysis: Analysis) -> TuningFacts | None:
    """Return the search's facts with its test figure's interval for new images, and their answer.

    A confirmation that the analysis of its trials does not judge claims nothing.
    """
    facts = material.tuning
    if facts is None or facts.confirmed is None:
        return facts
    confirmed = _with_images(facts.confirmed, material)
    why = _unjudged(confirmed, analysis)
    if why:
        confirmed = confirmed.model_copy(update={"verdict": "", "improved": False})
    answered = answer(confirmed, metric=facts.metric, unjudged=why)
    return facts.model_copy(update={"confirmed": confirmed, "answer": answered})


def _unjudged(confirmed: Confirmed, analysis: Analysis) -> str:
    """Return why the chosen recipe has no verdict; empty where it has one."""
    arms = effects_of(analysis, "arm")
    effect = next((effect for effect in arms if effect.term == confirmed.name), None)
    if effect is None or effect.verdict:
        return ""
    guessing = next((c for c in analysis.checks if (c.name, c.level) == ("chance", "fail")), None)
    if guessing is not None:
        return f"{guessing.what}; {guessing.hint}"
    return f"{recipe_of(confirmed.name)} is not judged: {effect.note}"


def _with_images(confirmed: Confirmed, material: Material) -> Confirmed:
    """Add the two-way interval of the test difference, where every pair's outcome on every test image is known."""
    import numpy as np

    from harness.stats import two_way_interval

    study = material.study
    chosen = next((arm for arm in study.arms if arm.name == confirmed.name), None)
    if chosen is None or confirmed.test is None:
        return confirmed
    # both sides of the difference, in the order of the interval's arguments
    recipes = study.base_recipe.with_overrides(chosen.set), study.base_recipe
    rows: list[dict[int, npt.NDArray[np.bool_]]] = [{}, {}]
    for trial in material.trials:
        for side, recipe in zip(rows, recipes, strict=True):
            if trial.recipe == recipe and trial.cell in material.outcomes:
                side[trial.seed] = material.outcomes[trial.cell].test_correct_N
    seeds = sorted(rows[0].keys() & rows[1].keys())
    sizes = {side[seed].size for side in rows for seed in seeds}
    # an interval over fewer pairs than the difference would be one of something else
    if len(seeds) != confirmed.n or len(seeds) < 2 or len(sizes) != 1 or max(sizes) < 2:
        return confirmed
    crossed = two_way_interval(
        *(np.stack([side[seed] for seed in seeds]) for side in rows), alpha=study.alpha
    )
    # the same on every processor
    low, high = (float(f"{end:.6g}") for end in (crossed.low, crossed.high))
    return confirmed.model_copy(
        update={"test_image_low": low, "test_image_high": high, "test_images": crossed.images}
    )


def answer(
    confirmed: Confirmed | None,
    *,
    open_trials: int = 0,
    metric: str = "accuracy",
    unjudged: str = "",
) -> str:
    """Return in words what a confirmation found; the test figure leads.

    Args:
        confirmed: what was found of the chosen one.
        open_trials: trials of the search or of its confirmation that are still missing.
        metric: that was searched for.
        unjudged: why the chosen one has no verdict.
    """
    if confirmed is None:
        if open_trials:
            return "The search is not finished; its scores are search scores, and nothing is confirmed."
        return "Nothing could be confirmed: no recipe of the search besides the reference has all its fresh seeds."
    scale = METRICS[metric].scale if metric in METRICS else 1.0
    ends = (confirmed.fresh_low, confirmed.fresh_high)
    fresh = _figure(scale, confirmed.fresh, ends, f"95 % t, n = {confirmed.n}")
    test = figure_on_test(confirmed, metric=metric)
    name = recipe_of(confirmed.name)
    # the claim comes first: a positive figure on the test set alone is none
    if not confirmed.improved:
        verdict = {
            "worse": "is worse than the reference on fresh seeds",
            "equivalent": "is equivalent to the reference on fresh seeds",
        }.get(confirmed.verdict, "is not shown to differ from the reference on fresh seeds")
        on_test = f"on the test set {test}; " if test else ""
        found = f"the best finalist, {name}, {verdict}: {on_test}{fresh} on validation"
        return f"No improvement is claimed: {unjudged or found}."
    subject = f"{name[:1].upper()}{name[1:]}"
    if not test:
        return f"{subject} beats the reference on fresh seeds: {fresh} on validation, whose images the search chose by."
    chosen_by = f" On the validation images, which the search chose by: {fresh}."
    if (confirmed.test or 0.0) <= 0.0:
        return f"{subject} is better than the reference on validation, and not on the test set: there {test}.{chosen_by}"
    low = confirmed.test_low if confirmed.test_image_low is None else confirmed.test_image_low
    alone = (
        ""
        if low is not None and low > 0
        else " On the test set alone the two are not shown to differ."
    )
    return (
        f"{subject} beats the reference on fresh seeds: on the test set {test}.{alone}{chosen_by}"
    )


def recipe_of(name: str) -> str:
    """Return what a sentence calls a finalist: a trial of the search is one run, and its recipe is run again."""
    return f"the recipe of {name}" if name.startswith("trial ") else name


def optimism(facts: TuningFacts) -> str:
    """Return how far the search scores of the finalists fell on fresh seeds; empty before confirmation."""
    again = [
        f for f in facts.finalists if f.overrides and f.search is not None and f.fresh is not None
    ]
    if not again:
        return ""
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def shown(value: float, *, signed: bool = False) -> str:
        return words.number(scale * value, unit, signed=signed) + words.unit_name(
            unit, level=not signed
        )

    falls = [
        f"{f.name} from {shown(f.search or 0.0)} to {shown(f.fresh or 0.0)} "
        f"({shown((f.fresh or 0.0) - (f.search or 0.0), signed=True)})"
        for f in again
    ]
    return (
        f"The search was optimistic: from its one seed to the mean of {again[0].n} fresh seeds on the same "
        f"validation images, {words.listed(falls, 6)}."
    )


def package(facts: TuningFacts) -> str:
    """Return that the settings of the winner were found together and none was tested alone.

    Empty without a winner.
    """
    winner = next((f for f in facts.finalists if f.chosen), None)
    improved = facts.confirmed is not None and facts.confirmed.improved
    if winner is None or not improved or len(winner.overrides) < 2:
        return ""
    count = plural(len(winner.overrides), "setting")
    alone = "none but its size" if set(facts.at_size) & _tested(facts) else "none"
    return (
        f"The winner changes {count} at once, and {alone} was tested alone: this page does not say which of them help. "
        "A study that changes one of them in the reference recipe may find otherwise; neither result refutes the other."
    )


def _tested(facts: TuningFacts) -> set[str]:
    """Names of the recipes whose test set was opened: of the winner and of what it is compared with."""
    return {finalist.name for finalist in facts.finalists if finalist.test is not None}


def figure_on_test(confirmed: Confirmed, *, metric: str = "accuracy") -> str:
    """Return the difference on the test set with its two-way interval, or its t interval where that is all there is."""
    scale = METRICS[metric].scale if metric in METRICS else 1.0
    if confirmed.test_image_low is None:
        bounds = (confirmed.test_low, confirmed.test_high)
        return _figure(scale, confirmed.test, bounds, f"95 % t, n = {confirmed.n}, on these images")
    bounds = (confirmed.test_image_low, confirmed.test_image_high)
    kind = f"95 % for new seeds and images, n = {confirmed.n} seeds and {confirmed.test_images:,} images"
    return _figure(scale, confirmed.test, bounds, kind)


def adopted(facts: TuningFacts, analysis: Analysis) -> tuple[str, ...]:
    """Return what a search advises to change, with the test figure; nothing where no improvement is claimed."""
    confirmed = facts.confirmed
    if confirmed is None or not confirmed.improved:
        return ()
    test = figure_on_test(confirmed, metric=facts.metric)
    text = f"adopt {confirmed.name}: {test} on the test set"
    if not test:
        text = f"adopt {confirmed.name}: better on fresh seeds"
    arm = arm_of(analysis, confirmed.name)
    alike = answers.at_size(analysis, arm) if arm is not None else None
    if alike is not None:
        # what size alone does not give, be it accuracy or a narrower gap
        on = [
            answers.over_in_words(analysis, confirmed.name, alike.name, metric)
            for metric in ("test_accuracy", analysis.gap)
        ]
        beyond = words.listed([figure for figure in on if figure])
        size = words.setting(alike.overrides)
        text += f"; over its size alone, {size}, it has {beyond}" if beyond else ""
    return (text,)


def _figure(
    scale: float, mean: float | None, ends: tuple[float | None, float | None], kind: str
) -> str:
    if mean is None:
        return ""
    low, high = ends
    least, most = (None if end is None else scale * end for end in (low, high))
    interval = words.bounds(least, most, signed=True)
    text = f"{words.number(scale * mean, signed=True)} pp {interval}".rstrip()
    return f"{text} ({kind})"


def best(facts: TuningFacts) -> TableBlock | None:
    """Return the best recipe by search score and that of the reference; None before a trial completed."""
    if facts.best_value is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")
    rows = [
        [
            "best of the search",
            TableCell(words.number(scale * facts.best_value, unit), scale * facts.best_value),
            words.setting(dict(facts.best)) or "the reference",
        ]
    ]
    if facts.reference_value is not None:
        value = scale * facts.reference_value
        rows.append(["reference, same search", TableCell(words.number(value, unit), value), "–"])
    caption = (
        "Search scores on validation, one seed each: the best of many is optimistic and is not confirmed "
        "until it is run on fresh seeds."
    )
    label = metric.label if metric is not None else facts.metric
    return table(caption, ["Recipe", f">Search score, {label}", "Settings"], rows)


def finalists(facts: TuningFacts) -> TableBlock | None:
    """Return search score, fresh-seed mean and test mean of every finalist; None before confirmation."""
    if not facts.finalists:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None = None, high: float | None = None) -> TableCell:
        if value is None:
            return TableCell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        return TableCell(
            words.number(scale * value, unit), scale * value, note=words.bounds(least, most, unit)
        )

    rows = [
        [
            TableCell(f.name, note="chosen on fresh seeds" if f.chosen else ""),
            cell(f.search),
            cell(f.fresh, f.fresh_low, f.fresh_high),
            cell(f.test, f.test_low, f.test_high),
            str(f.n),
            words.setting(dict(f.overrides)) or "–",
        ]
        for f in facts.finalists
    ]
    caption = "Search score (one seed), mean on n fresh seeds and mean on the test set; intervals are 95 % t over fresh seeds."
    return table(caption, ["Recipe", ">Search", ">Fresh seeds", ">Test", ">n", "Settings"], rows)


def confirmed(facts: TuningFacts) -> TableBlock | None:
    """Return the chosen recipe's difference to the reference on fresh seeds and on the test set; None before confirmation."""
    found = facts.confirmed
    if found is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None, high: float | None) -> TableCell:
        if value is None:
            return TableCell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        text = f"{words.number(scale * value, unit, signed=True)} {words.bounds(least, most, unit, signed=True)}"
        return TableCell(text.strip(), scale * value)

    mark = found.verdict or "none"
    row = [
        found.name,
        cell(found.fresh, found.fresh_low, found.fresh_high),
        cell(found.test, found.test_low, found.test_high),
        cell(found.test, found.test_image_low, found.test_image_high)
        if found.test_images
        else TableCell("–"),
        str(found.n),
        TableCell("" if found.p_holm is None else f"{found.p_holm:.3g}", found.p_holm),
        TableCell(f"{words.MARKS[mark].symbol} {words.MARKS[mark].word}", mark=mark),
    ]
    whose = (
        "of this recipe, of the reference and of the reference at its size"
        if len(_tested(facts)) > 2
        else "of this recipe and of the reference"
    )
    times = plural(found.test_reads, "time")
    reads = (
        f" The test set was read {times}: once for each fresh seed {whose}, after the choice."
        if found.test_reads
        else ""
    )
    # a metric of the user's own is searched as it is: the largest value won
    better = words.direction(metric) if metric is not None else "higher is better"
    caption = f"Paired difference to the reference [low, high], 95 % t, n = {found.n} fresh seeds; {better}.{reads}"
    heads = [
        "Recipe",
        ">Validation, fresh seeds",
        ">Test",
        ">Test, new images too",
        ">n",
        ">p (Holm)",
        "Verdict",
    ]
    return table(caption, heads, [row])


def course(facts: TuningFacts) -> str:
    """Return how many trials were asked for, how each ended, and what proposed and stopped them."""
    ends = {
        "complete": ("ran to the end", "ran to the end"),
        "pruned": (
            "was pruned (stopped early, without a score)",
            "were pruned (stopped early, without a score)",
        ),
        "failed": ("failed", "failed"),
        "diverged": ("diverged", "diverged"),
        "running": ("is still running", "are still running"),
    }
    parts = []
    for state, (one, several) in ends.items():
        count = sum(trial.state == state for trial in facts.history)
        if count or state != "running":
            parts.append(f"{count or 'none'} {one if count == 1 else several}")
    # a search that was stopped by hand has fewer trials than it asked for
    asked = facts.budget or len(facts.history)
    text = f"{plural(asked, 'trial')} {'was' if asked == 1 else 'were'} asked for: {words.listed(parts, 6)}"
    text += f"; sampler {facts.sampler}" if facts.sampler else ""
    text += f", pruner {facts.pruner}" if facts.pruner else ""
    return f"{text}."


def how_to_use(facts: TuningFacts, study: Study) -> list[Block]:
    """Return what the recipe file holds, and a command that starts from it."""
    # without an improvement the file still exists, for scripts that read it
    improved = facts.confirmed is not None and facts.confirmed.improved
    whose = (
        "the confirmed recipe"
        if improved
        else "the reference, unchanged; candidate.toml holds the best, unconfirmed"
    )
    profile = f" --profile {study.profile}" if study.profile else ""
    command = f"harness ablate --study augmentations{profile} --base reports/{study.folder}/{facts.recipe}"
    text = (
        f"{facts.recipe} holds {whose}. Any study starts from it with --base, this one for example:"
    )
    return [Paragraph(text), Listing(command)]


def slowed(facts: TuningFacts, analysis: Analysis) -> str:
    """Return that the seconds of the search compare nothing, with the reference's as proof; empty where they may."""
    first = next((t for t in facts.history if t.number == 0 and t.state == "complete"), None)
    arm = arm_of(analysis, analysis.study.baseline)
    if first is None or arm is None or not arm.train_seconds or not first.seconds:
        return ""
    if max(first.seconds, arm.train_seconds) <= _STEADY * min(first.seconds, arm.train_seconds):
        return ""
    return (
        f"Times of the search are not compared: the reference trained for {words.seconds(first.seconds)} in the search and "
        f"for {words.seconds(arm.train_seconds)} a trial on fresh seeds, so other work shared the processor at one time."
    )


def space(facts: TuningFacts) -> TableBlock | None:
    """Return what the search could choose from; None when it is not known."""
    if not facts.space:
        return None
    caption = f"The search space. Limits: {facts.limits}." if facts.limits else "The search space."
    return table(caption, ["Parameter", "Could be"], list(facts.space.items()))
