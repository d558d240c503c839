from __future__ import annotations

from typing import Any

import pytest

from harness.analysis import Analysis, Effect, analyze
from harness.study.arms import arms
from harness.study.study import Study
from harness.study.trial import Trial
from tests.planted import planted, replaced, switched, trial


def scored(study: Study, **worth: float) -> list[Trial]:
    """Trials of 80 points plus the worth of what is on, ``ab`` meaning that both are; no noise but the seed's."""
    found = []
    for arm in arms(study):
        on = {name for name, level in arm.components.items() if level != 0}
        gain = sum(value for term, value in worth.items() if set(term) <= on)
        for seed in range(study.seeds):
            metrics = {"accuracy": (80 + gain + 0.5 * seed) / 100, "gap": (10 - gain) / 100}
            found.append(trial(study, arm.name, seed, metrics=metrics))
    return found


def effect(
    analysis: Analysis, kind: str, term: str, metric: str = "accuracy", part: str = "effects"
) -> Effect:
    effects: tuple[Effect, ...] = getattr(analysis, part)
    (found,) = [e for e in effects if (e.kind, e.term, e.metric) == (kind, term, metric)]
    return found


def estimates(
    analysis: Analysis, kind: str, metric: str = "accuracy", part: str = "effects"
) -> dict[str, Any]:
    return {
        e.term: e.estimate for e in getattr(analysis, part) if (e.kind, e.metric) == (kind, metric)
    }


def test_main_effects_and_interactions_are_those_that_were_planted() -> None:
    study = switched("factorial", "a", "b", "c")
    analysis = analyze(study, scored(study, a=2, b=-1, ab=4))
    # with b on half of the time, a is worth 2 + 4 / 2; half the change of a's effect by b is 4 / 2
    assert estimates(analysis, "main") == pytest.approx({"a": 4, "b": 1, "c": 0})
    assert estimates(analysis, "interaction") == pytest.approx({"a x b": 2, "a x c": 0, "b x c": 0})


def test_shapley_values_share_an_interaction_and_add_up() -> None:
    study = switched("factorial", "a", "b", "c")
    analysis = analyze(study, scored(study, a=2, b=-1, ab=4))
    assert estimates(analysis, "shapley") == pytest.approx({"a": 4, "b": 1, "c": 0})
    assert sum(estimates(analysis, "shapley").values()) == pytest.approx(5)


def test_first_in_and_last_in_differ_by_the_interaction() -> None:
    study = switched("factorial", "a", "b", "c")
    analysis = analyze(study, scored(study, a=2, b=-1, ab=4))
    assert estimates(analysis, "add-one-in", part="orders") == pytest.approx(
        {"a": 2, "b": -1, "c": 0}
    )
    assert estimates(analysis, "leave-one-out", part="orders") == pytest.approx(
        {"a": 6, "b": 3, "c": 0}
    )


def test_a_design_with_both_sides_has_the_orders_too() -> None:
    study = switched("both", "a", "b", "c")
    analysis = analyze(study, scored(study, a=2, ab=4))
    assert effect(analysis, "leave-one-out", "a", part="orders").estimate == pytest.approx(6)
    assert effect(analysis, "add-one-in", "a", part="orders").estimate == pytest.approx(2)


def test_a_fraction_gives_one_effect_for_aliased_interactions() -> None:
    study = switched("fraction", "a", "b", "c", "d")
    analysis = analyze(study, scored(study, a=2, ab=4, cd=2))
    assert analysis.aliases == (("a x b", "c x d"), ("a x c", "b x d"), ("a x d", "b x c"))
    assert estimates(analysis, "interaction")["a x b + c x d"] == pytest.approx(3)
    assert estimates(analysis, "main") == pytest.approx({"a": 4, "b": 2, "c": 1, "d": 1})
    assert estimates(analysis, "shapley") == {}


def test_main_effects_and_interactions_are_judged_each_as_a_family() -> None:
    study = switched("factorial", "a", "b", "c")
    analysis = analyze(
        study, planted(study, {"no-a": -3.0, "no-a-no-b": -3.0, "no-a-no-c": -3.0, "none": -3.0})
    )
    found = effect(analysis, "main", "a")
    assert found.verdict == "better"
    assert found.estimate == pytest.approx(3.0, abs=0.2)
    for kind in ("main", "interaction"):
        family = [e for e in analysis.effects if e.kind == kind and e.metric == "accuracy"]
        smallest = min(family, key=lambda e: e.p or 0.0)
        assert smallest.p_holm == pytest.approx(min(1.0, 3 * (smallest.p or 0.0)))


def test_shapley_values_have_intervals_and_no_verdict() -> None:
    study = switched("factorial", "a", "b")
    found = effect(analyze(study, planted(study, {"no-a": -3.0})), "shapley", "a")
    assert found.low is not None
    assert (found.p, found.verdict) == (None, "")


def test_terms_of_the_gap_are_tested_in_a_family_of_their_own_and_get_no_verdict() -> None:
    study = switched("factorial", "a", "b")
    found = effect(
        analyze(study, planted(study, gaps={"no-a": 3.0, "none": 3.0})), "main", "a", "gap"
    )
    assert found.estimate == pytest.approx(-3.0, abs=0.3)
    assert found.p is not None
    assert found.p < 0.001
    assert found.verdict == ""


def test_a_lost_trial_takes_its_seed_and_every_verdict_from_the_contrasts() -> None:
    study = switched("factorial", "a", "b")
    found = effect(
        analyze(
            study, replaced(planted(study, {"no-a": -3.0}), study, "none", 2, state="diverged")
        ),
        "main",
        "a",
    )
    assert (found.n, found.verdict) == (7, "")
    assert found.note == "arm none is unstable (1 of 8)"


def test_a_factorial_recommends_by_its_main_effects() -> None:
    study = switched("factorial", "a", "b", margin_pp=1.0)
    analysis = analyze(study, planted(study, {"no-a": 3.0, "none": 3.0}, sd=0.1))
    assert analysis.recommended == {"augment.crop": 0, "augment.brightness": 0.0}
