"""What a searched recipe may cost: how far a trial is beyond each limit, and the limits in words."""

from __future__ import annotations

from typing import Any

import pytest

from harness.search.limits import excess, words
from harness.study.recipe import Recipe
from harness.study.space import Search
from harness.study.trial import Trial


def trial(**changes: Any) -> Trial:
    recipe = Recipe().with_overrides({"train.epochs": 10})
    given = {
        "epochs": 10,
        "train_seconds": 30.0,
        "params": 3_000_000,
        "peak_mib": 600.0,
        "metrics": {"gap": 0.06},
        **changes,
    }
    return Trial(cell="a", seed=0, recipe=recipe, state=changes.pop("state", "complete"), **given)


@pytest.mark.parametrize(
    ("limit", "value", "name", "beyond"),
    [
        ("max_seconds", 20.0, "seconds", 0.5),
        ("max_params_m", 4.0, "params_m", -0.25),
        ("max_memory_mib", 400.0, "memory_mib", 0.5),
        ("max_gap_pp", 5.0, "gap_pp", 0.2),
    ],
)
def test_a_limit_is_exceeded_by_the_share_above_it(
    limit: str, value: float, name: str, beyond: float
) -> None:
    assert excess(Search.model_validate({limit: value}), trial()) == {name: pytest.approx(beyond)}


def test_without_limits_nothing_is_a_constraint() -> None:
    assert excess(Search(), trial()) == {}
    assert not words(Search())


def test_the_seconds_of_a_stopped_trial_are_those_of_its_whole_run() -> None:
    assert excess(Search(max_seconds=30.0), trial(epochs=5, train_seconds=30.0)) == {
        "seconds": pytest.approx(1.0)
    }


def test_what_is_not_known_of_a_trial_breaks_no_limit() -> None:
    unknown = trial(epochs=0, train_seconds=0.0, params=0, peak_mib=0.0, metrics={})
    assert (
        excess(
            Search(max_seconds=1.0, max_params_m=1.0, max_memory_mib=1.0, max_gap_pp=1.0), unknown
        )
        == {}
    )


def test_the_limits_read_as_one_sentence_part() -> None:
    rules = Search(max_seconds=20, max_params_m=2.5, max_memory_mib=800, max_gap_pp=3)
    assert words(rules) == "20 s of training, 2.5 M parameters, 800 MiB, a gap of 3 pp"
