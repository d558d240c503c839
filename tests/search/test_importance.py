"""Importances of a search: enough trials, a noise floor, spread, and the sign of what is planted."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from harness.search import ENOUGH, Tried, importances
from harness.study.recipe import Recipe
from harness.study.space import DUMMY

NAMES = ("rate", "decay", "dropout", DUMMY)


def searched(count: int, *, effect: float, seed: int = 1) -> list[Tried]:
    """Random trials whose score depends on the rate alone."""
    rng, found = np.random.default_rng(seed), []
    for slot in range(count):
        params = {name: float(rng.uniform()) for name in NAMES}
        value = 0.8 - effect * abs(params["rate"] - 0.7) + float(rng.normal(0, 0.01))
        row = create_trial(
            value=value,
            params=params,
            distributions={name: FloatDistribution(0, 1) for name in NAMES},
        )
        found.append(Tried(slot, "complete", value, 9, 9, 1.0, 0.1, params, Recipe(), row=row))
    return found


def test_fewer_trials_than_needed_give_no_importances() -> None:
    assert importances(searched(ENOUGH - 1, effect=0.2), rng=np.random.default_rng(0)) == ([], None)


def test_a_planted_effect_stands_above_the_noise_floor() -> None:
    shares, floor = importances(
        searched(80, effect=0.3), rng=np.random.default_rng(0), resamples=20
    )
    assert floor is not None
    assert shares[0].parameter == "rate"
    assert shares[0].low > floor.high


def test_the_dummy_is_the_floor_and_no_parameter() -> None:
    shares, floor = importances(
        searched(60, effect=0.0), rng=np.random.default_rng(0), resamples=10
    )
    assert floor is not None
    assert floor.parameter == DUMMY
    assert sorted(share.parameter for share in shares) == ["decay", "dropout", "rate"]


def test_the_spread_over_resamples_holds_the_share() -> None:
    shares, _ = importances(searched(60, effect=0.1), rng=np.random.default_rng(0), resamples=20)
    assert all(share.low <= share.value <= share.high for share in shares)


def test_importances_repeat_with_their_generator() -> None:
    found = searched(60, effect=0.1)
    one, two = (importances(found, rng=np.random.default_rng(3), resamples=5) for _ in range(2))
    assert one == two


def test_of_pure_noise_no_parameter_is_reliably_above_the_floor() -> None:
    above = 0
    for seed in range(10):
        shares, floor = importances(
            searched(60, effect=0.0, seed=seed), rng=np.random.default_rng(seed), resamples=10
        )
        assert floor is not None
        above += any(share.low > floor.high for share in shares)
    assert above <= 2


@pytest.mark.parametrize("missing", ["pruned", "conditional"])
def test_what_some_trials_lack_is_left_out(missing: str) -> None:
    found = searched(60, effect=0.1)
    if missing == "conditional":
        odd = found[0]
        assert odd.row is not None
        params = {name: value for name, value in odd.row.params.items() if name != "decay"}
        kinds: dict[str, optuna.distributions.BaseDistribution] = {
            name: FloatDistribution(0, 1) for name in params
        }
        row = create_trial(value=0.8, params=params, distributions=kinds)
        found[0] = Tried(0, "complete", 0.8, 9, 9, 1.0, 0.1, params, Recipe(), row=row)
        shares, _ = importances(found, rng=np.random.default_rng(0), resamples=5)
        assert sorted(share.parameter for share in shares) == ["dropout", "rate"]
    else:
        found.append(Tried(60, "pruned", None, 7, 9, 1.0, None, {}, Recipe()))
        shares, _ = importances(found, rng=np.random.default_rng(0), resamples=5)
        assert len(shares) == 3
        assert not math.isnan(shares[0].value)
