"""Samplers by name, and values from them for the entries of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from harness.study.recipe import Recipe
from harness.study.space import DUMMY, Dimension, choose, is_whole

STARTUP = 10  # trials that are drawn at random before a model of the scores is worth asking


class SlotSampler(BaseSampler):
    """Gives a slot the values that are fixed for it, and asks a sampler for the rest.

    Args:
        kind: tpe, gp or random.
        seed: of the sampler; the same seed and the same finished trials give the same values.
        fixed: ``{parameter: value}``, such as the reference's, or those of an attempt that was lost.
    """

    def __init__(self, kind: str, *, seed: int, fixed: Mapping[str, Any]) -> None:
        self._inner = _sampler(kind, seed)
        self._fixed = dict(fixed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the space that the inner sampler models as a whole; none for a slot that has its values."""
        return {} if self._fixed else self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for it."""
        return self._inner.sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the fixed value of a parameter where the distribution still has it, else the inner sampler's."""
        if param_name in self._fixed:
            value = self._fixed[param_name]
            if (
                not isinstance(param_distribution, CategoricalDistribution)
                or value in param_distribution.choices
            ):
                return value
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Pass it on."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass it on."""
        self._inner.after_trial(study, trial, state, values)


def _sampler(kind: str, seed: int) -> BaseSampler:
    if kind == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP)
    if kind == "random":
        return RandomSampler(seed=seed)
    # it counts what runs elsewhere as poor, so that workers spread out
    return TPESampler(seed=seed, n_startup_trials=STARTUP)


def distribution(name: str, entry: Dimension, base: Recipe) -> BaseDistribution:
    """Return the distribution of an entry: whole numbers where its field has them."""
    if entry.choices:
        return CategoricalDistribution(entry.choices)
    low, high = entry.low or 0.0, entry.high or 0.0
    if is_whole(entry, name, base):
        return IntDistribution(int(low), int(high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(float(low), float(high), log=entry.log, step=entry.step)


def suggest(trial: optuna.Trial, space: Mapping[str, Dimension], base: Recipe) -> dict[str, Any]:
    """Return ``{entry: value}`` from the study's sampler for the entries that take part, and draw the dummy parameter."""
    trial.suggest_float(DUMMY, 0.0, 1.0)
    return choose(space, lambda name, entry: _value(trial, name, distribution(name, entry, base)))


def _value(trial: optuna.Trial, name: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, list(kind.choices))
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
    if isinstance(kind, FloatDistribution):
        return trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
    raise TypeError(f"{type(kind).__name__} is none of the three kinds that a space has")
