"""Confirmations: fresh seeds, a choice on validation, and no improvement claimed where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.analysis import analyze
from harness.commands.confirm import (
    CONFIRM_SEED,
    arm_name,
    confirmation,
    finalists,
    judge,
    not_final,
)
from harness.report.answers import support
from harness.report.searched import answer
from harness.search import SEARCH_SEED, Tried
from harness.study.cells import CONTROL_OFFSET, cells, seeds
from harness.study.study import Study, parse_study
from harness.study.trial import Cell, Trial
from tests.intervals import rate_bounds

RATES = (0.002, 0.003, 0.005, 0.006)


def search(fresh: int = 5, confirm: int = 3, margin: float = 0.5) -> Study:
    raw = {
        "question": "Which recipe?",
        "margin_pp": margin,
        "seeds": fresh,
        "space": {"schedule.max_lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "search": {"confirm": confirm},
    }
    return parse_study(raw, name="searching").under("quick", seeds=fresh)


def tried(which: Study, values: tuple[float, ...] = (0.80, 0.84, 0.83, 0.82, 0.81)) -> list[Tried]:
    """The reference, then one trial a rate."""
    recipes = [
        which.base_recipe,
        *(which.base_recipe.with_overrides({"schedule.max_lr": rate}) for rate in RATES),
    ]
    return [
        Tried(slot, "complete", value, 40, 40, 1.0, 0.1, {}, recipe)
        for slot, (value, recipe) in enumerate(zip(values, recipes, strict=True))
    ]


def trials(
    over: Study,
    effects: dict[str, float],
    rng: np.random.Generator,
    *,
    sd: float = 0.004,
    test: float = 0.0,
    level: float = 0.8,
) -> list[Trial]:
    """One trial an arm and seed; every arm is better than the reference by its effect, on the test set by ``test`` more."""
    shared = {seed: rng.normal(0, sd) for seed in seeds(over)}
    found = []
    for cell in cells(over, "images"):
        name = next(
            (
                arm.name
                for arm in over.arms
                if over.base_recipe.with_overrides(arm.set) == cell.recipe
            ),
            "reference",
        )
        score = level + shared[cell.seed] + effects.get(name, 0.0)
        metrics = {
            "accuracy": score + rng.normal(0, sd),
            "test_accuracy": score + rng.normal(0, sd) + (test if name != "reference" else 0.0),
            "gap": 0.1,
        }
        found.append(_trial(cell, metrics))
    return found


def _trial(cell: Cell, metrics: dict[str, float], **changes: Any) -> Trial:
    given = {
        "cell": cell.key,
        "seed": cell.seed,
        "recipe": cell.recipe,
        "state": "complete",
        "metrics": metrics,
        "epochs": 40,
    }
    return Trial(**{**given, "data_fingerprint": "images", **changes})


def test_the_finalists_are_the_best_besides_the_reference() -> None:
    which = search()
    assert [one.slot for one in finalists(which, tried(which))] == [1, 2, 3]


def test_fresh_seeds_are_of_no_search_ablation_or_control() -> None:
    which = search(8)
    fresh = seeds(confirmation(which, tried(which)[1:]))
    assert fresh == tuple(range(CONFIRM_SEED, CONFIRM_SEED + 8))
    assert max(fresh) < CONTROL_OFFSET < SEARCH_SEED


def test_a_confirmation_is_an_ordinary_study_of_reference_and_finalists() -> None:
    which = search()
    over = confirmation(which, finalists(which, tried(which)))
    assert (over.folder, over.design, len(cells(over, "images"))) == (
        "searching-confirm-quick",
        "arms",
        4 * 5,
    )


def test_the_choice_goes_by_fresh_seeds_and_not_by_the_search() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(
        over, chosen, tried(which)[0], trials(over, {"trial 3": 0.02}, np.random.default_rng(1))
    )
    assert judged.confirmed is not None
    assert judged.confirmed.name == "trial 3"
    assert judged.confirmed.improved
    assert judged.winner == {"schedule.max_lr": RATES[2]}


def test_search_score_fresh_mean_and_test_mean_stand_side_by_side() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(
        over, chosen, tried(which)[0], trials(over, {"trial 1": 0.02}, np.random.default_rng(2))
    )
    reference, first, *others = judged.finalists
    assert (reference.search, first.search) == (0.80, 0.84)
    assert reference.test is not None
    assert first.test is not None
    assert all(one.fresh is not None and one.test is None for one in others)


def test_test_scores_are_left_with_the_chosen_and_the_reference_only() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(over, chosen, None, trials(over, {"trial 2": 0.02}, np.random.default_rng(3)))
    shown = {trial.recipe for trial in judged.trials if "test_accuracy" in trial.metrics}
    assert shown == {
        over.base_recipe,
        over.base_recipe.with_overrides({"schedule.max_lr": RATES[1]}),
    }
    assert judged.confirmed is not None
    assert judged.confirmed.test_reads == 2 * 5


SIZED: tuple[dict[str, Any], ...] = (
    {"model.width": 0.5, "schedule.max_lr": 0.002},
    {"model.width": 0.5, "schedule.max_lr": 0.003},
    {"schedule.max_lr": 0.005},
)


def sized(which: Study, changes: tuple[dict[str, Any], ...] = SIZED) -> list[Tried]:
    """A finalist for each set of changes, best first."""
    return [
        Tried(slot, "complete", 0.9, 40, 40, 1.0, 0.1, {}, which.base_recipe.with_overrides(change))
        for slot, change in enumerate(changes, 1)
    ]


def test_nothing_is_chosen_while_a_finalist_has_a_seed_to_come() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    found = trials(over, {"trial 1": 0.02}, np.random.default_rng(4))
    late = found.pop(next(i for i, t in enumerate(found) if t.recipe == chosen[1].recipe))
    assert not_final(over, found) == 1
    judged = judge(over, chosen, None, found)
    assert judged.confirmed is None
    assert all("test_accuracy" not in trial.metrics for trial in judged.trials)
    # one that failed for good is out, and the others are judged
    ended = [*found, late.model_copy(update={"state": "failed", "metrics": {}})]
    assert judge(over, chosen, None, ended).confirmed is not None


def test_the_reference_runs_once_at_each_size_of_its_finalists() -> None:
    which = search()
    over = confirmation(which, sized(which))
    assert [arm.name for arm in over.arms] == ["trial 1", "trial 2", "trial 3", "width=0.5 alone"]
    assert over.arms[-1].set == {"model.width": 0.5}
    assert over.arms[-1].why == "the reference's recipe at the size of trial 1 and trial 2"


def test_a_finalist_that_changes_its_size_alone_needs_no_arm_for_it() -> None:
    which = search()
    over = confirmation(which, sized(which, (SIZED[0], {"model.width": 0.5})))
    assert [arm.name for arm in over.arms] == ["trial 1", "trial 2"]


def test_the_reference_at_a_size_is_never_chosen_and_its_test_score_is_seen_with_the_winners() -> (
    None
):
    which = search()
    chosen = sized(which, (*SIZED[:1], {"model.blocks": 3, "schedule.max_lr": 0.002}))
    over = confirmation(which, chosen)
    effects = {"width=0.5 alone": 0.05, "trial 1": 0.03}
    judged = judge(over, chosen, None, trials(over, effects, np.random.default_rng(8)))
    assert judged.confirmed is not None
    assert judged.confirmed.name == "trial 1"
    assert judged.confirmed.test_reads == 3 * 5
    seen = {row.name for row in judged.finalists if row.test is not None}
    assert seen == {"reference", "trial 1", "width=0.5 alone"}
    assert {
        trial.recipe.flat()["model.blocks"]
        for trial in judged.trials
        if "test_accuracy" in trial.metrics
    } == {which.base_recipe.model.blocks}


def test_the_report_says_what_is_left_of_a_gain_over_the_size_alone() -> None:
    which = search()
    chosen = sized(which, SIZED[:1])
    over = confirmation(which, chosen)
    effects = {"width=0.5 alone": 0.02, "trial 1": 0.05}
    found = [
        trial.model_copy(update={"params": 200 if trial.recipe.model.width == 0.5 else 100})
        for trial in trials(over, effects, np.random.default_rng(9))
    ]
    analysis = analyze(over, found)
    scores = {s.arm: np.array(s.scores) for s in analysis.summaries if s.metric == "accuracy"}
    left = (scores["trial 1"] - scores["width=0.5 alone"]).mean()
    (said,) = (sentence for sentence in support(analysis) if "size" in sentence)
    assert "width=0.5 alone has the recipe of reference at the size of trial 1" in said
    assert f"trial 1 has {left:+.2f} pp [" in said
    assert "cannot separate" not in said
    without = [
        t for t in found if t.recipe != over.base_recipe.with_overrides({"model.width": 0.5})
    ]
    bare = over.model_copy(update={"arms": over.arms[:1]})
    assert any("cannot separate" in sentence for sentence in support(analyze(bare, without)))


def test_no_test_score_is_seen_before_every_seed_is_there() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    some = trials(over, {}, np.random.default_rng(4))[:-4]
    judged = judge(over, chosen, None, some)
    assert judged.confirmed is None
    assert not any("test_accuracy" in trial.metrics for trial in judged.trials)


def test_a_finalist_with_a_failed_seed_is_not_chosen() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    found = trials(over, {"trial 1": 0.05}, np.random.default_rng(5))
    recipe = over.base_recipe.with_overrides({"schedule.max_lr": RATES[0]})
    lost = next(trial for trial in found if trial.recipe == recipe)
    found[found.index(lost)] = lost.model_copy(update={"state": "diverged", "metrics": {}})
    judged = judge(over, chosen, None, found)
    assert judged.confirmed is not None
    assert judged.confirmed.name != "trial 1"


def test_the_test_set_vetoes_no_gain_and_its_figure_leads_the_answer() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(
        over, chosen, None, trials(over, {"trial 1": 0.02}, np.random.default_rng(6), test=-0.03)
    )
    assert judged.confirmed is not None
    assert judged.confirmed.verdict == "better"
    assert judged.confirmed.improved
    assert judged.winner == {"schedule.max_lr": RATES[0]}
    told = answer(judged.confirmed)
    assert told.startswith(
        "The recipe of trial 1 is better than the reference on validation, and not on the test set: there \N{MINUS SIGN}"
    )


def test_no_winner_is_crowned_over_a_reference_that_is_at_chance() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    found = trials(over, {"trial 1": 0.3}, np.random.default_rng(9), level=0.1)
    labels = np.repeat(np.arange(10), 100)
    judged = judge(over, chosen, None, found, labels=labels)
    assert judged.confirmed is not None
    assert (judged.confirmed.name, judged.confirmed.verdict) == ("trial 1", "")
    assert not judged.confirmed.improved
    assert judged.winner == {}


def test_the_answer_of_an_improvement_names_optimism_and_intervals() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(
        over, chosen, tried(which)[0], trials(over, {"trial 1": 0.02}, np.random.default_rng(7))
    )
    told = answer(judged.confirmed)
    assert told.startswith(
        "The recipe of trial 1 beats the reference on fresh seeds: on the test set +"
    )
    assert all(
        part in told
        for part in ("95 % t, n = 5", "On the validation images, which the search chose by: +")
    )


def test_an_unfinished_search_answers_that_nothing_is_confirmed() -> None:
    assert "nothing is confirmed" in answer(None, open_trials=3)


def test_identical_configurations_are_never_an_improvement() -> None:
    which = search()
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    judged = judge(over, chosen, None, trials(over, {}, np.random.default_rng(8), sd=0.0))
    assert judged.confirmed is not None
    assert not judged.confirmed.improved
    assert answer(judged.confirmed).startswith("No improvement is claimed")


def test_where_all_configurations_are_equal_an_improvement_is_claimed_as_rarely_as_promised() -> (
    None
):
    which, rng, claims, runs = search(5), np.random.default_rng(20_261_123), 0, 100
    chosen = finalists(which, tried(which))
    over = confirmation(which, chosen)
    for _ in range(runs):
        judged = judge(over, chosen, None, trials(over, {}, rng))
        claims += judged.confirmed is not None and judged.confirmed.improved
    # alpha is two-sided and shared by three finalists
    assert rate_bounds(claims, runs)[0] <= 0.025


def test_arm_names_are_those_of_the_search() -> None:
    which = search()
    assert [arm_name(one) for one in tried(which)[1:3]] == ["trial 1", "trial 2"]
