"""Retuned ablations: every arm at the best of a few settings, so that none is judged at settings made for another.

Every arm, the baseline included, is tried at the same settings of the entries that ``retune``
names, the first of them those it has as it is. So budgets are equal by construction, and no arm
gains by a luckier draw. The others come from a Halton sequence (Halton 1960, scrambled by Owen's
permutations as scipy has it): a sampler with a model of the scores begins with more random trials
than the whole budget has. Settings are judged by the study's metric on validation images, at one
seed that no ablation uses. What is chosen makes an ordinary study over the study's own seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import StudyError
from harness.study.arms import Arm, arms
from harness.study.metrics import metric_of
from harness.study.recipe import Recipe, digest
from harness.study.space import Dimension, is_whole, overrides
from harness.study.study import Study
from harness.study.trial import Cell, Trial

# beyond every seed of an ablation, an A/A arm, a confirmation or a search
RETUNING_SEED = 3_500_000
_PREFIX = "retune"
_DRAWS = 50  # for each setting wanted: a space of a few choices may not have as many


def settings(study: Study) -> tuple[dict[str, Any], ...]:
    """Return the settings that every arm is tried at, as recipe fields; the first is empty: the arm as it is.

    As many as ``search.retune_trials``, fewer where the entries have fewer; with a larger budget,
    the same ones and more.

    Raises:
        StudyError: an arm cannot have one of them.
    """
    import numpy as np
    from scipy.stats import qmc

    space = {name: study.space[name] for name in study.retune}
    base = study.base_recipe
    about = [[name, entry.model_dump(mode="json")] for name, entry in space.items()]

    # Seeded by the entries: the same study draws the same settings, and a larger budget draws more
    # of the same.
    source = qmc.Halton(len(space), rng=np.random.default_rng(int(digest(about), 16)))
    flat = base.flat()
    seen: list[dict[str, Any]] = [
        {field: flat[field] for name, entry in space.items() for field in entry.fields(name)}
    ]
    for _ in range(_DRAWS * study.search.retune_trials):
        if len(seen) == study.search.retune_trials:
            break
        shares = source.random(1)[0].tolist()
        drawn = overrides(
            space,
            {
                name: at(entry, share, whole=is_whole(entry, name, base))
                for (name, entry), share in zip(space.items(), shares, strict=True)
            },
        )
        # of a few choices the sequence comes back to what is there already
        if drawn not in seen:
            seen.append(drawn)
    tried = ({}, *seen[1:])
    faults = [
        f"{arm.name}: {fault}"
        for arm in arms(study)
        for setting in tried
        for fault in arm.recipe.try_overrides(setting)[1]
    ]
    if faults:
        listed = "; ".join(dict.fromkeys(faults))
        raise StudyError(
            f"study {study.name!r} does not allow retuning: {listed}",
            "narrow the entries of the space it retunes",
        )
    return tried


def at(entry: Dimension, share: float, *, whole: bool = False) -> Any:
    """Return the value of an entry at a share in [0, 1) of the way through it.

    Args:
        entry: an interval or choices.
        share: of the way; on a logarithmic entry, of the way between the logarithms.
        whole: whether the values are whole numbers.
    """
    if entry.choices:
        return entry.choices[int(share * len(entry.choices))]
    low, high = entry.low or 0.0, entry.high or 0.0
    step = entry.step or (1.0 if whole and not entry.log else None)
    if step:
        value = low + step * int(share * (round((high - low) / step) + 1))
    elif entry.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return min(max(round(value), int(low)), int(high)) if whole else min(max(value, low), high)


def retuning_cells(
    study: Study, data_fingerprint: str, code_fingerprint: str = ""
) -> tuple[Cell, ...]:
    """Return what is run to choose the settings: every arm at every setting, all arms as they are first.

    The keys are no ablation's, so that nothing of these trials is ever taken for a result of one.
    """
    planned = {}
    for setting in settings(study):
        for arm in arms(study):
            cell = Cell.of(
                arm.recipe.with_overrides(setting),
                RETUNING_SEED,
                data_fingerprint,
                code_fingerprint,
            )
            planned[f"{_PREFIX}-{cell.key}"] = cell.model_copy(
                update={"key": f"{_PREFIX}-{cell.key}"}
            )
    return tuple(planned.values())


def is_retuning(cells: Sequence[Cell]) -> bool:
    """Return whether cells are run to choose settings."""
    return bool(cells) and cells[0].key.startswith(f"{_PREFIX}-")


def retuning_study(study: Study) -> Study:
    """Return the study under whose name the settings are tried: its folder is apart from the study's own."""
    return study.model_copy(
        update={"name": f"{study.name}-retuning", "looks": (), "control": False}
    )


@dataclass(frozen=True, slots=True)
class ChosenSetting:
    """What came of one arm's settings.

    Attributes:
        arm: its name.
        setting: recipe fields of the best; empty for the arm as it is.
        score: of the best, in the metric's stored unit; None when no setting ran to its end.
        as_is: score of the arm as it is.
        complete: settings that ran to their end.
        final: settings that are final in any state.
    """

    arm: str
    setting: Mapping[str, Any]
    score: float | None
    as_is: float | None
    complete: int
    final: int


def choose(study: Study, trials: Sequence[Trial]) -> tuple[ChosenSetting, ...]:
    """Return the best setting of every arm by the study's metric on validation; of equal ones the first.

    An arm none of whose settings ran to its end stays as it is.
    """
    metric = metric_of(study)
    sign = -1.0 if metric.higher_is_better is False else 1.0
    known = {trial.recipe: trial for trial in trials if trial.seed == RETUNING_SEED}
    tried = settings(study)
    return tuple(_best(arm, tried, known, metric.name, sign) for arm in arms(study))


def _best(
    arm: Arm,
    tried: Sequence[dict[str, Any]],
    known: Mapping[Recipe, Trial],
    metric: str,
    sign: float,
) -> ChosenSetting:
    met = [known.get(arm.recipe.with_overrides(setting)) for setting in tried]
    scores = [
        trial.metrics.get(metric) if trial is not None and trial.state == "complete" else None
        for trial in met
    ]
    there = [
        (sign * score, -place)
        for place, score in enumerate(scores)
        if score is not None and math.isfinite(score)
    ]
    place = -max(there)[1] if there else 0
    return ChosenSetting(
        arm=arm.name,
        setting=tried[place],
        score=scores[place],
        as_is=scores[0],
        complete=len(there),
        final=sum(trial is not None for trial in met),
    )


def retuned_study(study: Study, chosen: Sequence[ChosenSetting]) -> Study:
    """Return the ordinary study in which every arm has its best setting, over the study's own seeds."""
    return study.model_copy(
        update={
            "name": f"{study.name}-retuned",
            "why": f"Every arm of {study.name} at the best of {len(settings(study))} settings of {', '.join(study.retune)}.",
            "space": {},
            "retune": (),
            "settings": {best.arm: dict(best.setting) for best in chosen if best.setting},
        }
    )


def most_trials(study: Study) -> int:
    """Return how many trials retuning adds to a study at most."""
    return len(arms(study)) * (study.search.retune_trials + study.seeds) if study.retune else 0


def check_metric(study: Study) -> None:
    """Check that validation images can decide which of several settings is best.

    Raises:
        StudyError: the study decides by a metric without a better end, or on the test set.
    """
    metric = metric_of(study)
    hint = (
        "decide by a metric of the validation images that has a better end, such as accuracy or nll"
    )
    if metric.higher_is_better is None:
        raise StudyError(
            f"study {study.name!r}: retune: {metric.label} has no better end, so no setting is the best",
            hint,
        )
    if metric.name.startswith("test_"):
        raise StudyError(
            f"study {study.name!r}: retune: without validation images the test set would choose the settings",
            hint,
        )
