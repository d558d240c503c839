"""Confirming a search: its best and the reference on seeds that it never saw, and what may be said of the winner.

The best of N scores on validation is optimistic, by .4 pp and more for N = 100. So the k best are
run again on fresh seeds, one is chosen by its mean there, and only then are the test scores of that
one and of the reference looked at, paired by seed. The test set decides nothing: how much better is
said by its figure, since fresh seeds do not undo a search on the same validation images.

A larger net gains by its size, too. So for each size that a finalist has and the reference has not,
the reference's recipe runs at that size on the same seeds: what a finalist has over it is not size.

An improvement is claimed when the study's own verdict is "better": Holm over the k finalists and
the reference at their sizes, which are arms like others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis import analyze
from harness.analysis.tuning_facts import Confirmed, Finalist
from harness.report.words import listed, plain
from harness.search import Tried, best
from harness.stats import mean_interval, paired_t
from harness.study.cells import seeds
from harness.study.recipe import Recipe
from harness.study.recipe_fields import SIZE_FIELDS
from harness.study.study import HandArm, Study
from harness.study.trial import Trial, complete

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from harness.analysis import Analysis, Effect

# confirmations begin here: used by no search, and by an ablation only if asked for
CONFIRM_SEED = 500_000
_SUFFIX = "-confirm"
_LONGEST = 40  # characters of an arm's name that a table has room for


def finalists(study: Study, slots: Sequence[Tried]) -> list[Tried]:
    """Return the trials of a search that are worth confirming: the best k within the limits, the reference left out."""
    return best(slots, study.search.confirm, besides=study.base_recipe)


def arm_name(finalist: Tried) -> str:
    """Return what a finalist is called as an arm."""
    return f"trial {finalist.slot}"


def departures(study: Study, recipe: Recipe) -> dict[str, Any]:
    """Return the fields in which a recipe departs from the reference, with its values."""
    return {name: there for name, (_, there) in study.base_recipe.difference(recipe).items()}


def varies_size(study: Study) -> bool:
    """Return whether a search may choose nets of another size than the reference's."""
    return any(
        field in SIZE_FIELDS for name, entry in study.space.items() for field in entry.fields(name)
    )


def _size_arms(study: Study, chosen: Sequence[Tried]) -> list[HandArm]:
    """Return an arm for each size that finalists have and the reference has not, with nothing else changed."""
    shared: dict[Recipe, list[str]] = {}
    for finalist in chosen:
        size = _size_of(departures(study, finalist.recipe))
        recipe = study.base_recipe.try_overrides(size)[0] if size else None
        # None: a size that no net can have without the finalist's other changes
        if recipe is not None:
            shared.setdefault(recipe, []).append(arm_name(finalist))
    for finalist in chosen:  # one that changes nothing else is such an arm itself
        shared.pop(finalist.recipe, None)
    return [
        HandArm(
            name=_size_name(size := _size_of(departures(study, recipe)), names[0]),
            set=size,
            why=f"the reference's recipe at the size of {listed(names, limit=20)}",
        )
        for recipe, names in shared.items()
    ]


def _size_name(size: Mapping[str, Any], finalist: str) -> str:
    settings = (f"{name.partition('.')[2]}={plain(value)}" for name, value in size.items())
    name = f"{', '.join(settings)} alone"
    return name if len(name) <= _LONGEST else f"size of {finalist} alone"


def _size_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name in SIZE_FIELDS}


def confirmation(study: Study, chosen: Sequence[Tried]) -> Study:
    """Return the ordinary study that runs finalists, reference and reference at their sizes on fresh seeds.

    Args:
        study: the search's, under its profile.
        chosen: the finalists, best first.
    """
    return study.model_copy(
        update={
            "name": f"{study.name}{_SUFFIX}",
            "question": "Does the best of the search beat the reference on seeds that the search never saw?",
            "design": "arms",
            "factors": (),
            "looks": (),
            "control": False,
            "arms": (
                *(
                    HandArm(
                        name=arm_name(finalist),
                        set=departures(study, finalist.recipe),
                        why=f"number {place} of the search",
                    )
                    for place, finalist in enumerate(chosen, 1)
                ),
                *_size_arms(study, chosen),
            ),
            "space": {},
            "retune": (),
            "first_seed": CONFIRM_SEED,
        }
    )


def of_confirmation(study: Study, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials of a confirmation's ledger that are of its present finalists, or of the reference."""
    recipes = _recipes(study)
    return [trial for trial in trials if trial.recipe in recipes]


def _recipes(study: Study) -> set[Recipe]:
    base = study.base_recipe
    return {base, *(base.with_overrides(arm.set) for arm in study.arms)}


def not_final(study: Study, trials: Sequence[Trial]) -> int:
    """Return how many trials of a confirmation are still to come: one an arm and seed, however it ended."""
    ended = {(trial.recipe, trial.seed) for trial in trials}
    return sum((recipe, seed) not in ended for recipe in _recipes(study) for seed in seeds(study))


def is_confirmation(study: Study) -> bool:
    """Return whether a study is the confirmation of a search, and its trials therefore part of that search's report."""
    return study.name.endswith(_SUFFIX) and study.first_seed == CONFIRM_SEED


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of a confirmation.

    Attributes:
        finalists: the reference, then the finalists, best of the search first, then the reference at their sizes.
        confirmed: the choice and what is said of it; None before every seed of any finalist is there.
        trials: of the confirmation; test scores are left only with the chosen, the reference and the reference at its size.
        winner: recipe fields of the winner; empty where no improvement is claimed.
    """

    finalists: tuple[Finalist, ...]
    confirmed: Confirmed | None
    trials: tuple[Trial, ...]
    winner: Mapping[str, Any]


def judge(
    study: Study,
    chosen: Sequence[Tried],
    reference: Tried | None,
    trials: Sequence[Trial],
    *,
    labels: npt.NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
) -> Judged:
    """Choose on fresh validation means, then look at the test scores of the chosen and of what it is compared with.

    Args:
        study: of the confirmation, by ``confirmation``.
        chosen: the finalists of the search, in the order of the study's arms.
        reference: the reference's trial of the search, if it is final.
        trials: of the confirmation.
        labels: validation labels, int (N,): with the classes they tell which nets guess.
        classes: names of the classes.
    """
    changes = {arm.name: arm.set for arm in study.arms}
    names = [arm_name(finalist) for finalist in chosen]
    scores = {name: _by_seed(study, changes[name], trials, "accuracy") for name in changes}
    base = _by_seed(study, {}, trials, "accuracy")
    # While one has seeds to come, the choice is open and the test set closed.
    whole = [] if not_final(study, trials) else _whole(study, names, scores, base)
    # of equal ones the search's better
    winner = max(whole, key=lambda name: sum(scores[name].values()), default="")

    # The test set is opened for the winner, the reference and the reference at the winner's size
    # alone, and only now.
    opened = _opened(changes, winner)
    test = {name: _by_seed(study, opened[name], trials, "test_accuracy") for name in opened}
    base_test = _by_seed(study, {}, trials, "test_accuracy") if winner else {}

    found = {arm_name(finalist): finalist.value for finalist in chosen}
    rows = [_finalist(study.baseline, {}, reference.value if reference else None, base, base_test)]
    rows += [
        _finalist(
            name,
            changes[name],
            found.get(name),
            scores[name],
            test.get(name, {}),
            chosen=name == winner,
        )
        for name in changes
    ]
    if not winner:
        return Judged(tuple(rows), None, tuple(map(_without_test, trials)), {})

    seen = {study.base_recipe, *map(study.base_recipe.with_overrides, opened.values())}
    shown = tuple(trial if trial.recipe in seen else _without_test(trial) for trial in trials)
    analysis = analyze(study, trials, labels=labels, classes=tuple(classes))
    confirmed = _confirmed(
        analysis,
        winner,
        test[winner],
        base_test,
        reads=len(base_test) + sum(map(len, test.values())),
    )
    return Judged(tuple(rows), confirmed, shown, changes[winner] if confirmed.improved else {})


def _whole(
    study: Study,
    names: Sequence[str],
    scores: Mapping[str, Mapping[int, float]],
    base: Mapping[int, float],
) -> list[str]:
    """Return the finalists without a lost seed: the others would be judged by the easier part of them."""
    if len(base) != study.seeds:
        return []
    return [name for name in names if scores[name].keys() == base.keys()]


def _opened(changes: Mapping[str, Mapping[str, Any]], winner: str) -> dict[str, Mapping[str, Any]]:
    """Return what the winner changes, and what the reference at its size does; nothing without a winner."""
    if not winner:
        return {}
    size = _size_of(changes[winner])
    return {name: one for name, one in changes.items() if name == winner or one == size}


def _by_seed(
    study: Study, changes: Mapping[str, Any], trials: Sequence[Trial], metric: str
) -> dict[int, float]:
    recipe = study.base_recipe.with_overrides(changes)
    return {
        t.seed: t.metrics[metric]
        for t in complete(trials)
        if t.recipe == recipe and metric in t.metrics
    }


def _without_test(trial: Trial) -> Trial:
    return trial.model_copy(
        update={"metrics": {k: v for k, v in trial.metrics.items() if not k.startswith("test_")}}
    )


def _finalist(
    name: str,
    changes: Mapping[str, Any],
    search: float | None,
    fresh: Mapping[int, float],
    test: Mapping[int, float],
    *,
    chosen: bool = False,
) -> Finalist:
    val, tested = (_mean(list(by_seed.values())) for by_seed in (fresh, test))
    return Finalist(
        name=name,
        overrides=dict(changes),
        search=search,
        n=len(fresh),
        chosen=chosen,
        fresh=val[0],
        fresh_low=val[1],
        fresh_high=val[2],
        test=tested[0],
        test_low=tested[1],
        test_high=tested[2],
    )


def _mean(values: list[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    interval = mean_interval(values)
    return interval.mean, _known(interval.low), _known(interval.high)


def _known(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - nan is the one number that differs from itself


def _confirmed(
    analysis: Analysis,
    winner: str,
    test: Mapping[int, float],
    base_test: Mapping[int, float],
    *,
    reads: int,
) -> Confirmed:
    wanted = ("arm", winner, "accuracy")
    effect: Effect | None = next(
        (e for e in analysis.effects if (e.kind, e.term, e.metric) == wanted), None
    )
    common = sorted(test.keys() & base_test.keys())
    pairs = ([side[seed] for seed in common] for side in (test, base_test))
    paired = paired_t(*pairs) if common else None
    # Fresh seeds decide; the test set only says how much: it was never searched on, but neither
    # do fresh seeds undo a search on the same validation images.
    verdict = effect.verdict if effect is not None else ""

    def stored(value: float | None) -> float | None:
        return None if value is None else value / 100  # effects are in percentage points

    return Confirmed(
        name=winner,
        n=effect.n if effect is not None else 0,
        fresh=stored(effect.estimate) if effect is not None else None,
        fresh_low=stored(effect.low) if effect is not None else None,
        fresh_high=stored(effect.high) if effect is not None else None,
        p_holm=effect.p_holm if effect is not None else None,
        verdict=verdict,
        test=paired.mean if paired else None,
        test_low=_known(paired.low) if paired else None,
        test_high=_known(paired.high) if paired else None,
        test_reads=reads,
        improved=verdict == "better",
    )
