"""What is said of a search: its answer, its best recipe, and the finalists on fresh seeds.

How much better the chosen recipe is, is told by the test set: the search chose by the validation
images, and fresh seeds on the same images keep its optimism (+4.53 pp on validation was +3.40 pp on
test).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis.tuning_facts import Confirmed, Finalist, TuningFacts
from harness.report import words
from harness.report.document import Cell, Table, table
from harness.report.material import Material
from harness.study.trial import METRICS
from harness.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def settled(material: Material) -> TuningFacts | None:
    """Return the search's facts with its test figure's interval for new images, and with the answer that goes with it."""
    facts = material.tuning
    if facts is None or facts.confirmed is None:
        return facts
    confirmed = _with_images(facts.confirmed, material)
    answered = answer(facts.finalists, confirmed, metric=facts.metric)
    return facts.model_copy(update={"confirmed": confirmed, "answer": answered})


def _with_images(confirmed: Confirmed, material: Material) -> Confirmed:
    """Add the two-way interval of the test difference, where every pair's outcome on every test image is known."""
    import numpy as np

    from harness.stats import two_way_interval

    study = material.study
    chosen = next((arm for arm in study.arms if arm.name == confirmed.name), None)
    if chosen is None or confirmed.test is None:
        return confirmed
    recipes = study.base_recipe.with_overrides(chosen.set), study.base_recipe
    rows: list[dict[int, npt.NDArray[np.bool_]]] = [{}, {}]
    for trial in material.trials:
        for side, recipe in zip(rows, recipes, strict=True):
            if trial.recipe == recipe and trial.cell in material.outcomes:
                side[trial.seed] = material.outcomes[trial.cell].test_correct_N
    seeds = sorted(rows[0].keys() & rows[1].keys())
    sizes = {side[seed].size for side in rows for seed in seeds}
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
    rows: Sequence[Finalist],
    confirmed: Confirmed | None,
    *,
    open_trials: int = 0,
    metric: str = "accuracy",
) -> str:
    """Return in words what a confirmation came to; the test figure leads.

    Args:
        rows: the reference and the finalists.
        confirmed: what was found of the chosen one.
        open_trials: trials of the search or of its confirmation that are still missing.
        metric: that was searched for.
    """
    if confirmed is None:
        if open_trials:
            return "The search is not finished; its scores are search scores, and nothing is confirmed."
        return "Nothing could be confirmed: no recipe of the search besides the reference has all its fresh seeds."
    row = next(row for row in rows if row.name == confirmed.name)
    scale = METRICS[metric].scale if metric in METRICS else 1.0
    fresh = _told(
        scale,
        confirmed.fresh,
        (confirmed.fresh_low, confirmed.fresh_high),
        f"95 % t, n = {confirmed.n}",
    )
    test = figure_on_test(confirmed, metric=metric)
    scores = (
        ""
        if row.search is None or row.fresh is None
        else (
            f" Its search score was {scale * row.search:.2f} %, its mean on fresh seeds is {scale * row.fresh:.2f} %."
        )
    )
    if not confirmed.improved:
        verdict = {
            "worse": "is worse than the reference on fresh seeds",
            "equivalent": "is equivalent to the reference on fresh seeds",
        }.get(confirmed.verdict, "is not told apart from the reference on fresh seeds")
        beside = f"on the test set {test}; " if test else ""
        return f"No improvement is claimed: the best finalist, {row.name}, {verdict}: {beside}{fresh} on validation.{scores}"
    name = row.name.capitalize()
    if not test:
        return f"{name} beats the reference on fresh seeds: {fresh} on validation, whose images the search chose by.{scores}"
    chosen_by = f" On the validation images, which the search chose by: {fresh}.{scores}"
    if (confirmed.test or 0.0) <= 0.0:
        return f"{name} is better than the reference on validation, and not on the test set: there {test}.{chosen_by}"
    low = confirmed.test_low if confirmed.test_image_low is None else confirmed.test_image_low
    alone = (
        ""
        if low is not None and low > 0
        else " The test set alone does not tell it from the reference."
    )
    return f"{name} beats the reference on fresh seeds: on the test set {test}.{alone}{chosen_by}"


def figure_on_test(confirmed: Confirmed, *, metric: str = "accuracy") -> str:
    """Return the difference on the test set with its two-way interval, or its t interval where that is all there is."""
    scale = METRICS[metric].scale if metric in METRICS else 1.0
    if confirmed.test_image_low is None:
        bounds = (confirmed.test_low, confirmed.test_high)
        return _told(scale, confirmed.test, bounds, f"95 % t, n = {confirmed.n}, on these images")
    bounds = (confirmed.test_image_low, confirmed.test_image_high)
    kind = f"95 % for new seeds and images, n = {confirmed.n} seeds and {confirmed.test_images:,} images"
    return _told(scale, confirmed.test, bounds, kind)


def adopted(facts: TuningFacts) -> tuple[str, ...]:
    """Return what a search advises to change, with the test figure; nothing where no improvement is claimed."""
    confirmed = facts.confirmed
    if confirmed is None or not confirmed.improved:
        return ()
    test = figure_on_test(confirmed, metric=facts.metric)
    return (
        f"adopt {confirmed.name}: {test} on the test set"
        if test
        else f"adopt {confirmed.name}: better on fresh seeds",
    )


def _told(
    scale: float, mean: float | None, ends: tuple[float | None, float | None], kind: str
) -> str:
    if mean is None:
        return ""
    low, high = ends
    inside = (
        f" [{scale * low:+.2f}, {scale * high:+.2f}]"
        if low is not None and high is not None
        else ""
    )
    return f"{scale * mean:+.2f} pp{inside} ({kind})"


def best(facts: TuningFacts) -> Table | None:
    """Return the best recipe by search score beside the reference; None before a trial completed."""
    if facts.best_value is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")
    rows = [
        [
            "best of the search",
            Cell(words.number(scale * facts.best_value, unit), scale * facts.best_value),
            words.setting(dict(facts.best)) or "the reference",
        ]
    ]
    if facts.reference_value is not None:
        value = scale * facts.reference_value
        rows.append(["reference, same search", Cell(words.number(value, unit), value), "–"])
    caption = "Search scores on validation: the best of many is optimistic and is not confirmed until it is run on fresh seeds."
    label = metric.label if metric is not None else facts.metric
    return table(caption, ["Recipe", f">Search score, {label}", "Settings"], rows)


def finalists(facts: TuningFacts) -> Table | None:
    """Return search score, fresh-seed mean and test mean of every finalist; None before confirmation."""
    if not facts.finalists:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
        if value is None:
            return Cell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        return Cell(
            words.number(scale * value, unit), scale * value, note=words.bounds(least, most, unit)
        )

    rows = [
        [
            Cell(f.name, note="chosen on fresh seeds" if f.chosen else ""),
            cell(f.search),
            cell(f.fresh, f.fresh_low, f.fresh_high),
            cell(f.test, f.test_low, f.test_high),
            str(f.n),
            words.setting(dict(f.overrides)) or "–",
        ]
        for f in facts.finalists
    ]
    caption = "Search score, mean on fresh seeds and on the test set beside each other; intervals are 95 % t over n fresh seeds."
    return table(caption, ["Recipe", ">Search", ">Fresh seeds", ">Test", ">n", "Settings"], rows)


def confirmed(facts: TuningFacts) -> Table | None:
    """Return the chosen recipe's difference to the reference on fresh seeds and on the test set; None before confirmation."""
    found = facts.confirmed
    if found is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None, high: float | None) -> Cell:
        if value is None:
            return Cell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        text = f"{words.number(scale * value, unit, signed=True)} {words.bounds(least, most, unit, signed=True)}"
        return Cell(text.strip(), scale * value)

    mark = found.verdict or "none"
    row = [
        found.name,
        cell(found.fresh, found.fresh_low, found.fresh_high),
        cell(found.test, found.test_low, found.test_high),
        cell(found.test, found.test_image_low, found.test_image_high)
        if found.test_images
        else Cell("–"),
        str(found.n),
        Cell("" if found.p_holm is None else f"{found.p_holm:.3g}", found.p_holm),
        Cell(f"{words.MARKS[mark].symbol} {words.MARKS[mark].word}", mark=mark),
    ]
    reads = (
        f" The test set was read {plural(found.test_reads, 'time')}." if found.test_reads else ""
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


def space(facts: TuningFacts) -> Table | None:
    """Return what the search could choose from; None when it is not known."""
    if not facts.space:
        return None
    caption = f"The search space. Limits: {facts.limits}." if facts.limits else "The search space."
    return table(caption, ["Parameter", "Could be"], list(facts.space.items()))
