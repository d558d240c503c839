"""Tune as a whole, on real trials of a few epochs: what is refused, what is planned, and a space in which all is equal."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.tuning_facts import TuningFacts
from harness.commands.facts import ProgressFacts, TuneOutcome, TunePlan
from harness.commands.report import report
from harness.commands.search_phase import count, ruled
from harness.commands.tune import tune
from harness.errors import StorageError, StudyError, UsageError
from harness.ledger import Ledger
from harness.report import read_folder
from harness.study.recipe_file import read_recipe
from harness.study.study import Study, parse_study

FEW = {"train.epochs": 3, "data.train": 100, "data.val": 100}
# grey images have neither
NOTHING = {"augment.hue": {"low": 0, "high": 0.3}, "augment.saturation": {"low": 0, "high": 0.5}}


def study(space: dict[str, Any], **more: Any) -> Study:
    raw = {"question": "Which recipe?", "margin_pp": 1.0, "seeds": 3, "space": space, **more}
    return parse_study(raw, name="equal")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneOutcome, list[Any]]:
    """A search over what changes nothing, with its confirmation, in a folder of its own."""
    events: list[Any] = []
    folder = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = tune(
            study(NOTHING, search={"confirm": 2}),
            trials=3,
            profile="quick",
            seeds=3,
            overrides=FEW,
            workers=2,
            device="cpu",
            on_event=events.append,
        )
    return folder, outcome, events


def facts_of(folder: Path) -> TuningFacts:
    found = read_folder(folder / "reports" / "equal-quick").tuning
    assert found is not None
    return found


def test_where_all_configurations_are_equal_no_improvement_is_claimed(
    ran: tuple[Path, TuneOutcome, list[Any]],
) -> None:
    _, outcome, _ = ran
    assert outcome.exit_code == 0
    assert outcome.improved is False
    assert outcome.answer.startswith("No improvement is claimed")


def test_the_winner_of_a_search_that_found_nothing_is_the_reference(
    ran: tuple[Path, TuneOutcome, list[Any]],
) -> None:
    folder, outcome, _ = ran
    assert outcome.recipe is not None
    assert read_recipe(folder / outcome.recipe) == {}
    assert read_recipe(folder / outcome.recipe.with_name("candidate.toml")).keys() <= NOTHING.keys()


def test_the_report_of_a_search_has_its_tuning_section(
    ran: tuple[Path, TuneOutcome, list[Any]],
) -> None:
    folder, outcome, _ = ran
    assert outcome.report is not None
    page = (folder / outcome.report).read_text()
    assert 'id="tuning"' in page
    assert "No improvement is claimed" in page
    assert "candidate.toml" in page


def test_the_facts_of_a_search_hold_every_trial_and_every_finalist(
    ran: tuple[Path, TuneOutcome, list[Any]],
) -> None:
    facts = facts_of(ran[0])
    assert [trial.number for trial in facts.history] == [0, 1, 2]
    assert facts.finalists[0].name == "reference"
    assert len(facts.finalists) == 3
    assert sum(row.test is not None for row in facts.finalists) == 2
    assert facts.confirmed is not None
    assert facts.confirmed.test_reads == 2 * 3


def test_the_plan_counts_search_and_confirmation_and_the_bar_ends_there(
    ran: tuple[Path, TuneOutcome, list[Any]],
) -> None:
    _, outcome, events = ran
    plans = [event for event in events if isinstance(event, TunePlan)]
    assert [(plan.trials, plan.cells, plan.to_run) for plan in plans] == [(3, 3 + 3 * 3, 12)]
    last = [event for event in events if isinstance(event, ProgressFacts)][-1]
    assert (last.done, last.total) == (12, 12)
    assert (
        sum(outcome.counts[state] for state in ("complete", "pruned", "diverged", "failed")) == 12
    )


def test_a_finished_search_runs_nothing_again(
    ran: tuple[Path, TuneOutcome, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, _ = ran
    monkeypatch.chdir(folder)
    events: list[Any] = []
    again = tune(
        study(NOTHING, search={"confirm": 2}),
        trials=3,
        profile="quick",
        seeds=3,
        overrides=FEW,
        workers=2,
        device="cpu",
        on_event=events.append,
    )
    assert (again.answer, again.counts) == (before.answer, before.counts)
    assert any("nothing to run" in event for event in events if isinstance(event, str))
    assert not any(event.line for event in events if isinstance(event, ProgressFacts))


def test_the_report_can_be_made_again_from_the_runs(
    ran: tuple[Path, TuneOutcome, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = ran
    monkeypatch.chdir(folder)
    before = facts_of(folder)
    written = report()
    assert [one.folder.name for one in written] == ["equal-quick"]
    assert facts_of(folder) == before


def test_the_confirmation_is_an_ordinary_ledger(ran: tuple[Path, TuneOutcome, list[Any]]) -> None:
    with Ledger.open("equal-confirm-quick", runs=ran[0] / "runs", create=False) as ledger:
        counts = ledger.counts()
    assert (counts.complete, counts.total) == (9, 9)


def test_a_search_of_other_images_or_recipes_in_the_same_place_is_refused(
    ran: tuple[Path, TuneOutcome, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran[0])
    with pytest.raises(StorageError, match="holds another search: its space, base recipe, images"):
        tune(
            study(NOTHING, search={"confirm": 2}),
            trials=3,
            profile="quick",
            overrides={**FEW, "model.dropout": 0.1},
            workers=2,
            device="cpu",
        )


def test_a_dry_run_tells_the_plan_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[Any] = []
    outcome = tune(
        trials=7,
        profile="quick",
        overrides=FEW,
        device="cpu",
        workers=2,
        dry_run=True,
        on_event=events.append,
    )
    assert outcome.exit_code == 0
    assert outcome.as_json()["plan"]["trials"] == 7
    assert any("7 trials over 13 entries" in line for line in outcome.plan.lines())
    assert list(tmp_path.iterdir()) == []


def test_a_search_of_few_trials_plans_to_confirm_no_more_than_it_has_besides_the_reference() -> (
    None
):
    assert count(ruled(study(NOTHING, search={"confirm": 3}), {"trials": 3})) == 3 + (2 + 1) * 3
    assert count(ruled(study(NOTHING, search={"confirm": 3}), {"trials": 1})) == 1


def test_a_search_over_sizes_plans_the_reference_at_each_finalists_size() -> None:
    sizes = study({**NOTHING, "model.width": {"low": 0.25, "high": 0.5, "step": 0.125}})
    assert count(ruled(sizes, {"trials": 6})) == 6 + (3 + 1 + 3) * 3


@pytest.mark.parametrize(
    ("space", "more", "told"),
    [
        (
            {"model.dropout": {"low": 0.5, "high": 0.6}},
            {},
            "does not contain the reference, which has 0.25",
        ),
        ({"train.epochs": {"low": 5, "high": 60}}, {}, "compares trials by epoch"),
        (
            {
                "optimizer.name": {"choices": ["adam", "sgd"]},
                "schedule.cycle_momentum": {
                    "choices": [True, False],
                    "when": {"optimizer.name": "sgd"},
                },
            },
            {"sampler": "gp"},
            "'gp' does not model entries with a condition",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    space: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(StudyError, match=told):
        tune(study(space), profile="quick", device="cpu", **more)


def test_a_study_without_a_space_is_refused_with_one_that_has() -> None:
    with pytest.raises(UsageError) as raised:
        tune("augmentations", profile="quick", device="cpu")
    assert "harness show tune" in raised.value.hint


def test_a_search_that_beats_a_poor_reference_leaves_one_report_with_the_recipe_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    poor = {
        **FEW,
        "schedule.max_lr": 1e-4,  # learns a little: nothing is judged against a net that guesses
        "train.epochs": 12,
        "data.train": 300,
        "train.batch_size": 25,
    }
    rates = {"schedule.max_lr": {"choices": [1e-4, 0.01]}}
    outcome = tune(
        study(rates, search={"confirm": 1, "sampler": "random"}),
        trials=4,
        profile="quick",
        seeds=5,
        overrides=poor,
        workers=2,
        device="cpu",
    )
    assert outcome.improved
    assert outcome.recipe is not None
    assert read_recipe(outcome.recipe) == {"schedule.max_lr": 0.01}
    assert [path.name for path in Path("reports").iterdir() if path.is_dir()] == ["equal-quick"]


def test_the_recorded_command_of_a_search_run_as_printed_makes_its_report(
    ran: tuple[Path, TuneOutcome, list[Any]],
    harness: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    folder, before, _ = ran
    (command,) = read_folder(folder / "reports" / "equal-quick").provenance.commands
    words = shlex.split(command)
    assert words[:2] == ["harness", "tune"]

    # The study was made in a program: a file of its name stands in for it, as it would for a user.
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies" / "equal.toml").write_text(
        study(NOTHING, search={"confirm": 2}).to_toml(), encoding="utf-8"
    )
    page = folder / "reports" / "equal-quick" / "index.html"
    page.unlink()
    done = harness(*words[1:], cwd=folder)
    again = facts_of(folder)
    assert done.returncode == 0, done.stderr
    assert page.is_file()
    assert (again.answer, len(again.history)) == (before.answer, 3)
    assert len(again.finalists) == 3
    (same,) = read_folder(folder / "reports" / "equal-quick").provenance.commands
    assert shlex.split(same) == words
