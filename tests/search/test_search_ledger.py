"""Searches on a ledger: an exact budget, whoever is killed, and nothing of the test set."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import StorageError
from harness.ledger import Claim, Ledger, Plan
from harness.search import SEARCH_SEED, SearchLedger, Tried, best, is_search, slots, tried
from harness.study.space import DUMMY, Search, place_of
from harness.study.study import Study, parse_study
from harness.study.trial import Cell, Curve, Outcomes, Trial
from harness.workers.drain import drain
from harness.workers.local import run_local
from harness.workers.runner import OnEpoch
from tests import light

EPOCHS = 10
OUTCOMES = Outcomes(np.ones(4, bool), np.ones(2, bool))
SPACE: dict[str, Any] = {
    "schedule.max_lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.blocks": {"low": 2, "high": 7},
    "optimizer.name": {"choices": ["adam", "adamw", "sgd"]},
    "schedule.cycle_momentum": {"choices": [True, False], "when": {"optimizer.name": "sgd"}},
}


def search(trials: int = 12, space: dict[str, Any] | None = None, **rules: Any) -> Study:
    raw = {
        "question": "Which recipe?",
        "margin_pp": 1.0,
        "seeds": 3,
        "space": space or SPACE,
        "search": {"trials": trials, **rules},
        "profiles": {"quick": {"seeds": 3, "train.epochs": EPOCHS, "schedule.max_lr": 0.004}},
    }
    return parse_study(raw, name="searching").under("quick")


def planned(runs: Path, which: Study, **changes: Any) -> SearchLedger:
    ledger = SearchLedger.open(which.folder, runs=runs)
    cells = slots(which, "images")
    ledger.same_search(cells)
    plan = light.plan_of(which, **changes)
    ledger.plan(plan, cells)
    return ledger


def accuracy(cell: Cell) -> float:
    """Best at a rate of 0.01, and a little better with more blocks."""
    return (
        0.8
        - 0.1 * abs(math.log10(cell.recipe.schedule.max_lr / 0.01))
        + 0.001 * cell.recipe.model.blocks
    )


def run(
    cell: Cell, *, device: str, threads: int, on_epoch: OnEpoch
) -> tuple[Trial, Outcomes | None]:
    """Rise in a straight line to what ``accuracy`` says."""
    del device, threads
    final, epochs = accuracy(cell), cell.recipe.train.epochs
    made = {
        "cell": cell.key,
        "seed": cell.seed,
        "recipe": cell.recipe,
        "params": 10**6 * cell.recipe.model.blocks,
    }
    for epoch in range(epochs):
        if on_epoch(epoch, {"val_accuracy": final * (epoch + 1) / epochs}) and epoch + 1 < epochs:
            curve = Curve(val_loss=(1.0,) * (epoch + 1))
            return Trial(
                **made, state="pruned", epochs=epoch + 1, train_seconds=1.0, curve=curve
            ), None
    metrics = {"accuracy": final, "test_accuracy": 0.99, "gap": 0.1}
    curve = Curve(val_loss=(1.0,) * epochs)
    return Trial(
        **made, state="complete", epochs=epochs, metrics=metrics, train_seconds=2.0, curve=curve
    ), OUTCOMES


def suicidal(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Kill the worker on every other slot that a file does not name yet; note there which recipe it had."""
    mark = Path(os.environ["SEARCH_MARKS"]) / cell.key
    if int(cell.key[-5:]) % 2 and not mark.exists():
        mark.write_text(cell.recipe.id)
        os.kill(os.getpid(), signal.SIGKILL)
    return run(cell, **context)


def broken(cell: Cell, **context: Any) -> tuple[Trial, Outcomes | None]:
    """Raise for nets of more than four blocks."""
    if cell.recipe.model.blocks > 4:
        raise RuntimeError("too deep")
    return run(cell, **context)


def work(ledger: Ledger, runner: Callable[..., Any] = run, *, most: int | None = None) -> None:
    """Work off a ledger in this process."""
    none: dict[str, Any] = {
        "deadline": None,
        "max_trials": most,
        "on_event": lambda _: None,
        "stop": threading.Event(),
    }
    drain(ledger, runner, worker="here", device="cpu", threads=1, **none)


def test_every_slot_of_the_budget_ends_once(tmp_path: Path) -> None:
    with planned(tmp_path, search(12)) as ledger:
        work(ledger)
        assert [one.slot for one in tried(ledger, Search())] == list(range(12))
        assert len([attempt for attempt in ledger.attempts() if attempt.state != "failed"]) == 12


def test_the_first_slot_is_the_reference(tmp_path: Path) -> None:
    which = search(3)
    with planned(tmp_path, which) as ledger:
        work(ledger)
        first = tried(ledger, Search())[0]
    assert first.recipe == which.base_recipe
    assert first.params == place_of(which.space, which.base_recipe)[0]


def test_slots_are_of_one_seed_that_no_ablation_has(tmp_path: Path) -> None:
    with planned(tmp_path, search(3)) as ledger:
        work(ledger)
        assert {trial.seed for trial in ledger.trials()} == {SEARCH_SEED}


def test_a_searched_recipe_holds_what_the_sampler_chose(tmp_path: Path) -> None:
    with planned(tmp_path, search(6)) as ledger:
        work(ledger)
        found = tried(ledger, Search())
    assert all(one.recipe.model.blocks == one.params["model.blocks"] for one in found)
    assert len({one.recipe for one in found}) == 6
    assert all(
        ("schedule.cycle_momentum" in one.params) == (one.recipe.optimizer.name == "sgd")
        for one in found
    )


def test_two_searches_of_one_worker_try_the_same_recipes(tmp_path: Path) -> None:
    recipes = []
    for name in ("one", "two"):
        with planned(tmp_path / name, search(14)) as ledger:
            work(ledger)
            recipes.append([one.recipe.id for one in tried(ledger, Search())])
    assert recipes[0] == recipes[1]


def test_a_larger_budget_searches_on(tmp_path: Path) -> None:
    with planned(tmp_path, search(4)) as ledger:
        work(ledger)
        before = tried(ledger, Search())
    with planned(tmp_path, search(7)) as ledger:
        work(ledger)
        assert tried(ledger, Search())[:4] == before
        assert len(tried(ledger, Search())) == 7


def test_a_smaller_budget_runs_nothing(tmp_path: Path) -> None:
    with planned(tmp_path, search(4)) as ledger:
        work(ledger)
    with planned(tmp_path, search(2)) as ledger:
        assert ledger.unfinished() == 0
        assert len(tried(ledger, Search())) == 2


@pytest.mark.parametrize(
    "change", [{"model.blocks": {"low": 2, "high": 8}}, {"model.width": {"low": 0.5, "high": 1.5}}]
)
def test_a_search_of_another_space_is_refused_in_the_same_place(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    planned(tmp_path, search(4)).close()
    with pytest.raises(StorageError, match="another search: its space"):
        planned(tmp_path, search(4, {**SPACE, **change}))


def test_workers_killed_in_the_middle_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("SEARCH_MARKS", str(marks))
    which = search(4)
    with planned(tmp_path, which, retries=4) as ledger:
        result = run_local(
            name=which.folder,
            runs=tmp_path,
            workers=2,
            threads=1,
            runner=f"{__file__}:suicidal",
            on_event=lambda _: None,
        )
        found = tried(ledger, Search())
    assert result.died == 2
    assert [one.slot for one in found] == list(range(4))
    assert all(one.state in ("complete", "pruned") for one in found)
    lost = {int(mark.name[-5:]): mark.read_text() for mark in marks.iterdir()}
    assert {one.slot: one.recipe.id for one in found if one.slot in lost} == lost


def test_a_slot_whose_whole_program_was_killed_is_run_again_with_the_same_recipe(
    tmp_path: Path,
) -> None:
    which = search(3)
    first = planned(tmp_path, which)
    claims = [first.claim("killed") for _ in range(2)]
    before = [claim.cell.recipe for claim in claims if claim is not None]
    # as a kill would: both claims are held, and the lease says that this process has them
    first.close()
    _disown(first, claims)
    with planned(tmp_path, which) as ledger:
        work(ledger)
        assert [one.recipe for one in tried(ledger, Search())[:2]] == before
        assert len(tried(ledger, Search())) == 3


def _disown(ledger: SearchLedger, claims: list[Claim | None]) -> None:
    """Have the leases of claims name a process that is dead."""
    for claim in claims:
        assert claim is not None
        row = ledger._book.rows()[claim.number]
        ledger._book.note(claim.number, lease={**row.user_attrs["lease"], "pid": 2**22 + 1})


def test_what_fails_by_its_code_counts_and_is_not_repeated(tmp_path: Path) -> None:
    with planned(tmp_path, search(12)) as ledger:
        work(ledger, broken)
        states = [one.state for one in tried(ledger, Search())]
    assert len(states) == 12
    assert "failed" in states


def test_a_handed_back_slot_keeps_its_recipe(tmp_path: Path) -> None:
    with planned(tmp_path, search(3)) as ledger:
        work(ledger, most=1)
        claim = ledger.claim("one")
        assert claim is not None
        ledger.release(claim)
        again = ledger.claim("two")
        assert again is not None
        assert (again.cell.key, again.cell.recipe) == (claim.cell.key, claim.cell.recipe)


def test_nothing_of_the_test_set_is_recorded(tmp_path: Path) -> None:
    with planned(tmp_path, search(3)) as ledger:
        work(ledger)
        trials = ledger.trials()
        assert not any(name.startswith("test_") for trial in trials for name in trial.metrics)
        assert all(ledger.artifact(trial)[1] is None for trial in trials)


def test_poor_trials_are_stopped_late_and_have_no_score(tmp_path: Path) -> None:
    with planned(tmp_path, search(25, sampler="random")) as ledger:
        work(ledger)
        stopped = [one for one in tried(ledger, Search()) if one.state == "pruned"]
    assert stopped
    assert all(one.value is None and 0.65 * EPOCHS <= one.epochs < EPOCHS for one in stopped)
    assert all(one.slot > 0 for one in stopped)


def test_without_a_pruner_every_trial_runs_to_its_end(tmp_path: Path) -> None:
    with planned(tmp_path, search(25, sampler="random", pruner="none")) as ledger:
        work(ledger)
        assert {one.state for one in tried(ledger, Search())} == {"complete"}


def test_trials_that_only_guess_are_stopped_early(tmp_path: Path) -> None:
    which = search(6, pruner="none")
    # all images: an epoch has its fifty steps
    which = which.model_copy(update={"base": {**which.base, "data.train": 0}})
    with planned(tmp_path, which, chance=0.99) as ledger:
        work(ledger)
        assert all(
            one.state == "pruned" and one.epochs <= EPOCHS / 2 for one in tried(ledger, Search())
        )


def test_a_search_holds_no_net_to_be_guessing_before_its_fifty_steps(tmp_path: Path) -> None:
    space = {**SPACE, "train.batch_size": {"choices": [50, 150]}}
    which = search(12, space, sampler="random", pruner="none")
    which = which.model_copy(update={"base": {**which.base, "data.train": 300, "train.epochs": 30}})
    with planned(tmp_path, which, chance=0.99) as ledger:
        work(ledger)
        stopped = {
            (slot.recipe.train.batch_size, slot.epochs)
            for slot in tried(ledger, Search())
            if slot.slot > 0
        }
    # Of 30 epochs the ledger reports every second: a third of them is 10, and 50 steps of two an
    # epoch take 25.
    assert stopped == {(50, 10), (150, 26)}


def test_trials_beyond_a_limit_are_never_the_best(tmp_path: Path) -> None:
    which = search(20, max_params_m=4.5, pruner="none")
    with planned(tmp_path, which) as ledger:
        work(ledger)
        found = tried(ledger, which.search)
        # rules that came later count for what was run before
        assert not any(one.broken for one in tried(ledger, Search()))
        wider = tried(ledger, Search(max_params_m=100.0, max_gap_pp=1e-6))
    assert {one.broken for one in wider if one.state == "complete"} == {("gap_pp",)}
    beyond = [one for one in found if one.recipe.model.blocks > 4]
    assert beyond
    assert all(one.broken == ("params_m",) for one in beyond)
    assert all(one.recipe.model.blocks <= 4 for one in best(found, 20))


def test_the_limits_are_constraints_of_optuna(tmp_path: Path) -> None:
    with planned(tmp_path, search(4, max_seconds=1.0, max_gap_pp=20, pruner="none")) as ledger:
        work(ledger)
        rows = [one.row for one in tried(ledger, Search())]
    assert all(
        row is not None and row.constraints == pytest.approx({"seconds": 1.0, "gap_pp": -0.5})
        for row in rows
    )


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_every_sampler_searches_the_space(tmp_path: Path, sampler: str) -> None:
    space = {name: entry for name, entry in SPACE.items() if "when" not in entry}
    with planned(tmp_path, search(13, space, sampler=sampler)) as ledger:
        work(ledger)
        found = tried(ledger, Search())
    assert len({one.recipe for one in found}) > 10
    assert all(0 <= one.row.params[DUMMY] <= 1 for one in found if one.row is not None)


def test_a_search_beats_chance_on_a_space_with_an_optimum(tmp_path: Path) -> None:
    with planned(tmp_path, search(40)) as ledger:
        work(ledger)
        top = best(tried(ledger, Search()), 1)[0]
    assert 0.004 < top.recipe.schedule.max_lr < 0.025


def test_an_ordinary_ledger_works_as_ever(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    with SearchLedger.open(light.study().folder, runs=tmp_path, create=False) as ledger:
        work(ledger, light.run)
        assert ledger.counts().complete == 9
        assert not is_search(ledger.cells())
        assert all(ledger.artifact(trial)[1] is not None for trial in ledger.trials())


def test_the_best_are_complete_distinct_and_not_the_reference() -> None:
    which = search()
    base = which.base_recipe

    def one(slot: int, value: float | None, lr: float, **more: Any) -> Tried:
        given: dict[str, Any] = {
            "epochs": 9,
            "epochs_planned": 9,
            "seconds": 1.0,
            "gap": None,
            "params": {},
            **more,
        }
        state: Any = "pruned" if value is None else "complete"
        return Tried(
            slot, state, value, recipe=base.with_overrides({"schedule.max_lr": lr}), **given
        )

    found = [
        one(0, 0.9, 0.004),
        one(1, 0.8, 0.1),
        one(2, 0.8, 0.1),
        one(3, None, 0.2),
        one(4, 0.85, 0.3, broken=("seconds",)),
    ]
    found += [one(5, 0.8, 0.5), one(6, 0.7, 0.6)]
    assert [tried_.slot for tried_ in best(found, 2, besides=base)] == [1, 5]


def test_a_study_under_its_rules_is_part_of_the_plan(tmp_path: Path) -> None:
    with planned(tmp_path, search(4, sampler="random")) as ledger:
        plan = ledger.latest_plan()
    assert isinstance(plan, Plan)
    assert (plan.study.search.sampler, list(plan.study.space)) == ("random", list(SPACE))
