from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from harness.config import hide_password
from harness.errors import ReportError, StorageError
from harness.ledger import Claim, Ledger, Plan, chance_level, find_adoptable
from harness.ledger.plan_document import Document
from harness.ledger.storage import FileLock
from harness.study.cells import cells
from harness.study.recipe import Recipe
from harness.study.study import parse_study
from harness.study.trial import Curve
from tests import light

NAME = light.study().folder


def claimed(ledger: Ledger) -> Claim:
    claim = ledger.claim("w")
    assert claim is not None
    return claim


def drained(ledger: Ledger) -> list[str]:
    keys = []
    while (claim := ledger.claim("w")) is not None:
        keys.append(claim.cell.key)
        assert light.complete(ledger, claim) is not None
    return keys


def in_optuna(runs: Path) -> optuna.Study:
    """The study as any other program sees it."""
    return optuna.load_study(
        study_name=NAME,
        storage=JournalStorage(JournalFileBackend(str(runs / NAME / "journal.log"))),
    )


# Planning and claiming


def test_cells_are_claimed_in_the_order_of_the_plan(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        assert drained(ledger) == [cell.key for cell in light.cells_of(light.study())]


def test_two_ledgers_on_one_journal_never_claim_the_same_cell(tmp_path: Path) -> None:
    with light.planned(tmp_path) as one, Ledger.open(NAME, runs=tmp_path) as other:
        claims = [
            claim
            for _ in range(5)
            for ledger in (one, other)
            if (claim := ledger.claim("w")) is not None
        ]
    assert len({claim.cell.key for claim in claims}) == len(claims) == 9


def test_claiming_from_an_empty_queue_makes_no_trial(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        drained(ledger)
        assert ledger.claim("w") is None
    assert len(in_optuna(tmp_path).trials) == 3


def test_more_cells_than_the_queue_holds_are_all_run_in_order(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=75) as ledger:
        assert drained(ledger) == [cell.key for cell in ledger.cells()]
        assert ledger.counts().complete == 225


def test_planning_the_same_study_again_keeps_what_is_finished(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        light.complete(ledger, claimed(ledger))
        again = ledger.plan(light.plan_of(light.study()), light.cells_of(light.study()))
        assert (again.total, again.new, again.kept, again.dropped) == (9, 8, 1, 0)


def test_a_study_with_more_seeds_keeps_the_cells_that_are_still_the_same(tmp_path: Path) -> None:
    more = light.study(seeds=4)
    with light.planned(tmp_path) as ledger:
        finished = drained(ledger)
        assert ledger.plan(light.plan_of(more), light.cells_of(more)).new == 3
        assert set(drained(ledger)).isdisjoint(finished)
        assert ledger.counts().complete == 12


def test_waiting_cells_that_are_no_longer_wanted_are_withdrawn(tmp_path: Path) -> None:
    fewer = light.study(seeds=1)
    with light.planned(tmp_path) as ledger:
        assert ledger.plan(light.plan_of(fewer), light.cells_of(fewer)).dropped == 6
        assert len(drained(ledger)) == 3


def test_another_plan_is_refused_while_cells_run(tmp_path: Path) -> None:
    more = light.study(seeds=4)
    with light.planned(tmp_path) as ledger, Ledger.open(NAME, runs=tmp_path) as other:
        claimed(ledger)
        with pytest.raises(StorageError, match="still has running cells"):
            other.plan(light.plan_of(more), light.cells_of(more))


def test_the_same_plan_is_joined_while_cells_run(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger, Ledger.open(NAME, runs=tmp_path) as other:
        claim = claimed(ledger)
        assert other.plan(light.plan_of(light.study()), light.cells_of(light.study())).new == 9
        assert light.complete(ledger, claim) is not None
        assert len(drained(other)) == 8


def test_a_second_planner_is_refused_while_the_first_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.ledger.planner.PATIENCE_SECONDS", 0.05)
    with light.planned(tmp_path) as ledger:
        lock = FileLock(tmp_path / NAME / "journal.log.planner.flock")
        assert lock.acquire()
        with pytest.raises(StorageError, match="another planner is working"):
            ledger.plan(light.plan_of(light.study()), light.cells_of(light.study()))
        lock.release()


def test_changed_rules_are_told_of_only_when_cells_had_been_claimed(tmp_path: Path) -> None:
    first, second, third = (
        light.study(),
        light.study(margin_pp=2.0),
        light.study(margin_pp=3.0, seeds=4),
    )
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(first), light.cells_of(first))
        ledger.plan(light.plan_of(second), light.cells_of(second))
        assert ledger.amendments() == ()
        drained(ledger)
        ledger.plan(light.plan_of(third), light.cells_of(third))
        assert ledger.amendments() == ("margin_pp", "seeds")


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ({}, {"gap_margin_pp": 2.0}, "gap_margin_pp"),
        ({"gap_margin_pp": 2.0}, {"gap_margin_pp": 1.0}, "gap_margin_pp"),
        ({"looks": [3, 5]}, {"looks": [3, 5], "boundary": "pocock"}, "boundary"),
        ({}, {"first_seed": 5}, "first_seed"),
    ],
)
def test_every_rule_that_verdicts_and_advice_rest_on_is_declared(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], rule: str
) -> None:
    before, after = light.study(seeds=5, **first), light.study(seeds=5, **second)
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(before), light.cells_of(before))
        drained(ledger)
        ledger.plan(light.plan_of(after), light.cells_of(after))
        assert ledger.amendments() == (rule,)


def test_a_rule_that_an_earlier_version_did_not_keep_counts_as_unchanged(tmp_path: Path) -> None:
    study = light.study(gap_margin_pp=2.0)
    changed = light.study(gap_margin_pp=2.0, margin_pp=3.0)
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(study), light.cells_of(study))
        drained(ledger)
        ledger.plan(light.plan_of(changed), light.cells_of(changed))
    stored = in_optuna(tmp_path)
    plan = json.loads(stored.user_attrs["plan"])
    for entry in plan["history"]:
        del entry["rules"]["gap_margin_pp"]
    stored.set_user_attr("plan", json.dumps(plan))
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        assert ledger.amendments() == ("margin_pp",)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = light.plan_of(light.study(base={"augment.crop": 2}), screen=True)
    document = Document(
        plan, {cell.key: cell for cell in light.cells_of(plan.study)}, void=frozenset({3})
    )
    read = Document.of(document.to_json())
    assert read.plan.as_dict() == plan.as_dict()
    assert read.cells == document.cells


def test_a_plan_of_another_engine_is_refused(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    study = in_optuna(tmp_path)
    plan = json.loads(study.user_attrs["plan"])
    study.set_user_attr("plan", json.dumps({**plan, "engine": 0}))
    with (
        Ledger.open(NAME, runs=tmp_path) as ledger,
        pytest.raises(StorageError, match="another version of harness"),
    ):
        ledger.claim("w")


def test_a_worker_with_other_images_is_refused(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        ledger.match(data_fingerprint="images")
        with pytest.raises(StorageError, match="images here"):
            ledger.match(data_fingerprint="others")


# Recording


def test_optuna_is_told_the_validation_accuracy_and_never_the_test_accuracy(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        claim = claimed(ledger)
        ledger.record(
            claim,
            light.trial_of(claim.cell, metrics={"accuracy": 0.25, "test_accuracy": 0.75}),
            None,
        )
    assert in_optuna(tmp_path).trials[claim.number].value == 0.25


@pytest.mark.parametrize("state", ["pruned", "diverged"])
def test_a_trial_stopped_on_purpose_is_final_and_keeps_its_state(
    tmp_path: Path, state: str
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        claim = claimed(ledger)
        ledger.record(claim, light.trial_of(claim.cell, state=state, metrics={}, epochs=2), None)
        assert claim.cell.key not in drained(ledger)
        assert [trial.state for trial in ledger.trials()] == [state, "complete", "complete"]
    assert in_optuna(tmp_path).trials[claim.number].state == optuna.trial.TrialState.PRUNED


def test_a_recorded_trial_is_read_back_whole(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        claim = claimed(ledger)
        recorded = light.complete(ledger, claim)
    assert recorded is not None
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        (trial,) = ledger.trials()
        curve, outcomes = ledger.artifact(trial)
    assert trial == recorded.model_copy(update={"curve": Curve()})
    assert (trial.worker, trial.attempt) == ("w", 1)
    assert curve == recorded.curve
    assert outcomes is not None
    assert outcomes.val_correct_N.tolist() == [True, False, False, True]


def test_optunas_own_tools_find_the_artifact(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        claim = claimed(ledger)
        light.complete(ledger, claim)
    study = in_optuna(tmp_path)
    (meta,) = get_all_artifact_meta(study.trials[claim.number], storage=study._storage)
    assert (tmp_path / NAME / "artifacts" / meta.artifact_id).is_file()


def test_a_late_result_is_dropped_with_its_artifact(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger, Ledger.open(NAME, runs=tmp_path) as other:
        claim = claimed(ledger)
        assert other._book.fail(claim.number, cause="infrastructure", error="taken for dead")
        assert light.complete(ledger, claim) is None
        assert not list((tmp_path / NAME / "artifacts").glob("*"))
        other._planner.refill()
        assert claimed(other).cell == claim.cell


def test_a_worker_taken_for_dead_is_told_to_stop_at_its_next_report(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger, Ledger.open(NAME, runs=tmp_path) as other:
        claim = claimed(ledger)
        assert not ledger.report(claim, 1, {"val_accuracy": 0.5})
        other._book.fail(claim.number, cause="infrastructure")
        assert ledger.report(claim, 3, {"val_accuracy": 0.5})


def test_a_cell_handed_back_waits_again_and_the_attempt_does_not_count(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        first = claimed(ledger)
        ledger.release(first)
        second = claimed(ledger)
        assert second.cell == first.cell
        assert second.attempt == 1


def test_a_trial_lost_to_the_infrastructure_is_retried_twice_and_then_failed(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        first = claimed(ledger).cell
        ledger.release(Claim(first, 0, "w", 1))
        attempts = []
        for _ in range(3):
            claim = claimed(ledger)
            assert claim.cell == first
            attempts.append(claim.attempt)
            ledger.record(
                claim,
                light.trial_of(
                    first, state="failed", cause="infrastructure", error="out of memory"
                ),
                None,
            )
        assert attempts == [1, 2, 3]
        assert claimed(ledger).cell != first
        assert ledger.trials()[0].error == "out of memory"


def test_planning_again_gives_lost_trials_a_fresh_number_of_retries(tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=1, retries=0) as ledger:
        claim = claimed(ledger)
        ledger.record(
            claim, light.trial_of(claim.cell, state="failed", cause="infrastructure"), None
        )
        assert ledger.counts().failed == 1
        ledger.plan(light.plan_of(light.study(seeds=1)), light.cells_of(light.study(seeds=1)))
        assert claimed(ledger).cell == claim.cell


def test_a_failure_of_the_code_is_final_until_asked_for_again(tmp_path: Path) -> None:
    which = light.study(seeds=1)
    with light.planned(tmp_path, seeds=1) as ledger:
        claim = claimed(ledger)
        ledger.record(
            claim, light.trial_of(claim.cell, state="failed", cause="code", error="no layers"), None
        )
        assert ledger.plan(light.plan_of(which), light.cells_of(which)).kept == 1
        assert claim.cell.key not in drained(ledger)
        assert ledger.plan(light.plan_of(which), light.cells_of(which), retry_failed=True).new == 1
        assert drained(ledger) == [claim.cell.key]


@pytest.mark.parametrize("metrics", [{}, {"accuracy": math.nan}])
def test_a_complete_trial_without_a_number_to_judge_it_by_is_recorded_as_failed(
    tmp_path: Path, metrics: dict[str, float]
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        claim = claimed(ledger)
        recorded = ledger.record(claim, light.trial_of(claim.cell, metrics=metrics), None)
    assert recorded is not None
    assert (recorded.state, recorded.cause) == ("failed", "code")


def test_a_trial_whose_artifact_is_gone_is_run_again(tmp_path: Path) -> None:
    which = light.study(seeds=1)
    with light.planned(tmp_path, seeds=1) as ledger:
        drained(ledger)
        trial = ledger.trials()[0]
        next((tmp_path / NAME / "artifacts").glob("*-000000-*")).unlink()
        with pytest.raises(ReportError, match="is lost"):
            ledger.artifact(trial)
        assert ledger.plan(light.plan_of(which), light.cells_of(which)).new == 1
        assert drained(ledger) == [trial.cell]


def test_an_artifact_folder_that_cannot_be_written_fails_the_attempt_and_says_so(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        (tmp_path / NAME / "artifacts").write_text("in the way", encoding="utf-8")
        claim = claimed(ledger)
        with pytest.raises(StorageError, match="recording trial 0 failed"):
            light.complete(ledger, claim)
        assert ledger.counts().open == 3


def test_cells_finished_in_another_study_are_adopted_with_their_artifacts(tmp_path: Path) -> None:
    which = light.study()
    with light.planned(tmp_path) as ledger:
        finished = drained(ledger)[:3]
    with Ledger.open("other", runs=tmp_path) as ledger:
        offers = find_adoptable(light.cells_of(which)[:3], tmp_path, besides="other")
        planned = ledger.plan(light.plan_of(which), light.cells_of(which), adopt=offers)
        assert (planned.adopted, planned.new) == (3, 6)
        assert [trial.cell for trial in ledger.trials()] == finished
        assert {trial.adopted for trial in ledger.trials()[:3]} == {f"{tmp_path.name}/{NAME}"}
        assert len(ledger.artifact(ledger.trials()[0])[0]) == light.EPOCHS


def test_each_cell_is_offered_once_from_whichever_studies_finished_it(tmp_path: Path) -> None:
    wanted = light.cells_of(light.study())
    held = {"first": wanted[:2], "second": wanted[1:4]}
    for name, share in held.items():
        with Ledger.open(name, runs=tmp_path) as ledger:
            ledger.plan(light.plan_of(light.study(name=name)), share)
            drained(ledger)
    offers = find_adoptable(wanted, tmp_path)
    assert [trial.cell for trial, _, _ in offers] == [cell.key for cell in wanted[:4]]
    places = [trial.adopted.rpartition("/")[2] for trial, _, _ in offers]
    assert places == ["first", "first", "second", "second"]


def test_trials_of_a_metric_of_ones_own_are_adopted_by_the_first_plan(tmp_path: Path) -> None:
    raw = {
        "question": "?",
        "margin_pp": 1.0,
        "seeds": 2,
        "command": ["python", "x.py", "{seed}", "{d}"],
        "base": {"d": 0.0},
        "arms": [{"name": "a", "set": {"d": 0.5}}],
        "metric": "perplexity",
        "metrics": {"perplexity": {"higher_is_better": False}},
    }
    which = parse_study(raw, name="s").under("")
    wanted = cells(which, "", "code")
    offers = [
        (light.trial_of(cell, metrics={"perplexity": 20.0}), Curve(), None) for cell in wanted
    ]
    plan = light.plan_of(which, data_fingerprint="", code_fingerprint="code")
    with Ledger.open("s", runs=tmp_path) as ledger:
        assert ledger.plan(plan, wanted, adopt=offers).adopted == len(wanted) == 4


def test_pruned_trials_of_another_study_are_not_adopted(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        claim = claimed(ledger)
        ledger.record(claim, light.trial_of(claim.cell, state="pruned", metrics={}), None)
    assert find_adoptable([claim.cell], tmp_path) == []


# Stopping what is hopeless


def test_a_trial_whose_accuracy_is_not_a_number_is_stopped(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        assert not ledger.report(claimed(ledger), 0, {"val_loss": 1.0})
        assert ledger.report(claimed(ledger), 0, {"val_accuracy": math.nan})


@pytest.mark.parametrize(("epochs", "stopped_from"), [(18, 5), (9, 4), (5, 5)])
def test_a_trial_that_still_guesses_after_a_third_of_its_epochs_and_five_is_stopped(
    tmp_path: Path, epochs: int, stopped_from: int
) -> None:
    which = light.study(profiles={"quick": {"seeds": 1, "train.epochs": epochs, "data.train": 0}})
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which, chance=chance_level(10, 1000)), light.cells_of(which))
        claim = claimed(ledger)
        stops = [ledger.report(claim, epoch, {"val_accuracy": 0.11}) for epoch in range(epochs)]
    assert stops == [stopped_from <= epoch < epochs - 1 for epoch in range(epochs)]


def test_a_trial_that_has_once_been_better_than_chance_is_not_stopped(tmp_path: Path) -> None:
    with light.planned(tmp_path, chance=chance_level(10, 1000)) as ledger:
        claim = claimed(ledger)
        accuracies = [0.3, 0.1, 0.1, 0.1]
        assert not any(
            ledger.report(claim, epoch, {"val_accuracy": value})
            for epoch, value in enumerate(accuracies)
        )


def test_of_many_epochs_few_are_reported_and_the_third_and_the_last_are_among_them(
    tmp_path: Path,
) -> None:
    which = light.study(profiles={"quick": {"seeds": 1, "train.epochs": 100}})
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which), light.cells_of(which))
        claim = claimed(ledger)
        for epoch in range(100):
            ledger.report(claim, epoch, {"val_accuracy": 0.5})
    steps = in_optuna(tmp_path).trials[claim.number].intermediate_values.keys()
    assert {33, 99} <= steps
    assert len(steps) <= 22


# Liveness


def lease_of_nobody(ledger: Ledger, claim: Claim, **changes: object) -> None:
    """Make it look as if another process had claimed the cell, and forget about it here."""
    held = ledger._leases.get(claim)
    assert held is not None
    ledger._leases.drop(claim)
    ledger._book.note(claim.number, lease={**held.lease, **changes})


def test_a_trial_of_a_dead_process_of_this_machine_is_reaped_at_once(tmp_path: Path) -> None:
    with light.planned(tmp_path, grace_seconds=60.0) as ledger:
        claim = claimed(ledger)
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            pass
        lease_of_nobody(ledger, claim, pid=gone.pid)
        assert ledger.reap() == 1
        assert claimed(ledger).cell == claim.cell


def test_a_process_that_only_has_the_number_of_the_dead_one_does_not_pass_for_it(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, grace_seconds=60.0) as ledger:
        lease_of_nobody(ledger, claimed(ledger), pid=os.getppid(), start=1)
        assert ledger.reap() == 1


def test_a_worker_elsewhere_is_given_up_only_after_the_grace_period(tmp_path: Path) -> None:
    with light.planned(tmp_path, grace_seconds=0.6, beat_seconds=60.0) as ledger:
        lease_of_nobody(ledger, claimed(ledger), host="elsewhere", machine="other kernel")
        assert ledger.reap() == 0
        end = time.monotonic() + 10
        while ledger.reap() == 0 and time.monotonic() < end:
            time.sleep(0.05)
        assert "no sign of life" in ledger.attempts()[0].error


def test_a_worker_elsewhere_that_shows_signs_of_life_is_left_alone(tmp_path: Path) -> None:
    with light.planned(tmp_path, grace_seconds=0.3, beat_seconds=60.0) as ledger:
        claim = claimed(ledger)
        held = ledger._leases.get(claim)
        assert held is not None
        for beat in range(12):
            ledger._leases.drop(claim)
            ledger._book.note(
                claim.number,
                lease={**held.lease, "machine": "other kernel", "host": "x", "beat": beat},
            )
            assert ledger.reap() == 0
            time.sleep(0.06)


def test_leases_are_renewed_while_a_trial_runs(tmp_path: Path) -> None:
    with light.planned(tmp_path, beat_seconds=0.05) as ledger:
        number = claimed(ledger).number
        end = time.monotonic() + 10
        while (
            in_optuna(tmp_path).trials[number].user_attrs["lease"]["beat"] < 2
            and time.monotonic() < end
        ):
            time.sleep(0.05)
        assert in_optuna(tmp_path).trials[number].user_attrs["lease"]["beat"] >= 2


def test_a_claim_whose_worker_died_before_its_first_lease_is_reaped(tmp_path: Path) -> None:
    with light.planned(tmp_path, grace_seconds=0.3) as ledger:
        assert ledger._book.take(0)
        end = time.monotonic() + 10
        while ledger.reap() == 0 and time.monotonic() < end:
            time.sleep(0.05)
        assert drained(ledger) == [cell.key for cell in ledger.cells()]


# The journal


def cut(journal: Path, size: int) -> None:
    journal.write_bytes(journal.read_bytes()[:size])


@pytest.mark.parametrize("missing", [1, 2, 20, 100])
def test_a_journal_cut_short_in_its_last_record_is_repaired_and_completed(
    tmp_path: Path, missing: int
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        light.complete(ledger, claimed(ledger))
    journal = tmp_path / NAME / "journal.log"
    cut(journal, journal.stat().st_size - missing)
    which = light.study(seeds=1)
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        lease_is_mine = ledger.counts().running
        for row in ledger._book.rows(optuna.trial.TrialState.RUNNING) if lease_is_mine else ():
            # the claim was this very process's, which lives
            ledger._book.fail(row.number, cause="infrastructure")
        ledger.plan(light.plan_of(which), light.cells_of(which))
        drained(ledger)
        assert ledger.counts().complete == 3
    assert all(json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines())


def test_a_torn_line_left_by_a_killed_writer_is_cut_by_the_next_append_of_a_running_worker(
    tmp_path: Path,
) -> None:
    with light.planned(tmp_path, seeds=1) as ledger:
        with (tmp_path / NAME / "journal.log").open("ab") as file:
            file.write(b'{"op_code":8,"trial_i')
        drained(ledger)
    with Ledger.open(NAME, runs=tmp_path, create=False) as ledger:
        assert ledger.counts().complete == 3


def test_a_journal_damaged_in_its_middle_is_an_error_that_says_so(tmp_path: Path) -> None:
    light.planned(tmp_path).close()
    journal = tmp_path / NAME / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"not a record\n", *lines[3:]]))
    with pytest.raises(StorageError, match="is damaged"):
        Ledger.open(NAME, runs=tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from harness.ledger.storage import FileLock
for name in sys.argv[1:]:
    FileLock(Path(name)).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_locks_of_a_killed_process_hold_nobody_up(tmp_path: Path) -> None:
    light.planned(tmp_path, seeds=1).close()
    locks = [str(path) for path in (tmp_path / NAME).glob("*.flock")]
    assert len(locks) == 2
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *locks], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        assert len(drained(ledger)) == 3


# Opening


def test_opening_what_is_not_there_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no journal"):
        Ledger.open(NAME, runs=tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "words"), [("sqlite:///x.db", "same waiting trial"), ("mysql://u:p@h/d", "mysql")]
)
def test_storages_that_double_trials_are_refused(tmp_path: Path, where: str, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        Ledger.open(NAME, storage=where, runs=tmp_path)


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("postgresql://me:s3cret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://me:s3@cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?password=s3cret", "postgresql://host/db?..."),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("runs/x/journal.log", "runs/x/journal.log"),
    ],
)
def test_a_password_is_never_shown(where: str, shown: str) -> None:
    assert hide_password(where) == shown


def test_an_artifact_folder_named_once_is_remembered(tmp_path: Path) -> None:
    Ledger.open(NAME, runs=tmp_path, artifacts=str(tmp_path / "elsewhere")).close()
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        assert ledger.artifacts.path == tmp_path / "elsewhere"


def test_the_latest_plan_counts(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        plan = ledger.latest_plan()
        assert isinstance(plan, Plan)
        assert plan.study.seeds == 3


def test_a_trial_keeps_the_recipe_it_was_run_with(tmp_path: Path) -> None:
    with light.planned(tmp_path) as ledger:
        drained(ledger)
        trials = ledger.trials()
    assert all(isinstance(trial.recipe, Recipe) for trial in trials)
    assert [trial.recipe for trial in trials] == [
        cell.recipe for cell in light.cells_of(light.study())
    ]


def test_a_net_is_not_held_to_be_guessing_before_it_has_made_fifty_steps(tmp_path: Path) -> None:
    settings = {"seeds": 1, "train.epochs": 30, "train.batch_size": 100, "data.train": 300}
    which = light.study(profiles={"quick": settings})
    with Ledger.open(NAME, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which, chance=chance_level(10, 1000)), light.cells_of(which))
        claim = claimed(ledger)
        stops = [ledger.report(claim, epoch, {"val_accuracy": 0.11}) for epoch in range(30)]
    assert stops.index(True) + 1 == 18  # of three steps each; reported every second epoch


def test_nobody_is_held_to_be_guessing_where_nothing_measures_accuracy() -> None:
    assert chance_level(10, 0) == 0.0


def test_the_level_of_guessing_is_an_even_share_and_two_deviations() -> None:
    assert chance_level(10, 900) == pytest.approx(0.1 + 2 * 0.01)


def test_cells_that_waited_when_failures_were_to_be_tried_again_fail_once(tmp_path: Path) -> None:
    which = light.study(seeds=1, levels=3)
    wanted = light.cells_of(which)

    def fail(ledger: Ledger, claim: Claim) -> None:
        failed = light.trial_of(claim.cell, state="failed", cause="code", error="boom", metrics={})
        ledger.record(claim, failed.model_copy(update={"epochs": 0, "curve": Curve()}), None)

    with Ledger.open(which.folder, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which), wanted)
        fail(ledger, claimed(ledger))
    with Ledger.open(which.folder, runs=tmp_path) as ledger:
        ledger.plan(light.plan_of(which), wanted, retry_failed=True)
        ran = []
        while (claim := ledger.claim("w")) is not None:
            ran.append(claim.cell.key)
            fail(ledger, claim)
        assert sorted(ran) == sorted(cell.key for cell in wanted)
        assert ledger.counts().failed == 3
