"""All studies one after the other, on real trials of two epochs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from harness.commands.all_studies import ORDER, WholeOutcome, WholePlan, ablate_all, all_studies
from harness.commands.facts import PlanFacts
from harness.errors import UsageError

TWO = """
schema = 1
question = "Does the net need {name}?"
seeds = 1
margin_pp = 5.0

[[arms]]
name = "{name}"
set = {{ "{field}" = 0 }}

[profiles.quick]
seeds = 1
data.train = 60
data.val = 60
train.epochs = 2
train.batch_size = 20
"""
NAMES = ("dropless.toml", "absent.toml", "clipless.toml")


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, WholePlan, WholeOutcome, list[Any]]:
    """Two studies with one baseline, and one between them that is not there."""
    folder = tmp_path_factory.mktemp("all")
    events: list[Any] = []
    for name, field in (("dropless", "model.dropout"), ("clipless", "optimizer.grad_clip")):
        (folder / f"{name}.toml").write_text(TWO.format(name=name, field=field), encoding="utf-8")
    with contextlib.chdir(folder):
        planned = ablate_all(NAMES, profile="quick", workers=1, dry_run=True)
        assert sorted(path.name for path in folder.iterdir()) == ["clipless.toml", "dropless.toml"]
        done = ablate_all(NAMES, profile="quick", workers=1, on_event=events.append)
    return folder, planned.plan, done, events


def test_the_cost_of_all_comes_first_and_counts_a_shared_baseline_once(ran: Any) -> None:
    _, plan, _, events = ran
    assert [(share.trials, share.to_run) for share in plan.shares] == [(2, 2), (0, 0), (2, 1)]
    assert plan.seconds == sum(share.seconds for share in plan.shares) > 0
    assert plan.rows()[-1][:3] == ("in all", "4", "3")
    assert next(type(event) for event in events if not isinstance(event, str)) is WholePlan


def test_a_study_that_cannot_be_run_is_named_and_the_others_run(ran: Any) -> None:
    _, _, done, _ = ran
    assert [outcome.study for outcome in done.outcomes] == ["dropless", "clipless"]
    assert [outcome.counts["complete"] for outcome in done.outcomes] == [2, 2]
    assert len(done.failures) == 1
    assert "absent.toml" in done.failures[0]
    assert done.exit_code == 1


def test_what_a_study_has_finished_the_next_adopts(ran: Any) -> None:
    second = [event for event in ran[3] if isinstance(event, PlanFacts)][1]
    assert dict(second.adopted) == {"runs/dropless-quick": 1}


def test_the_index_leads_to_all_reports(ran: Any) -> None:
    page = (ran[0] / "reports" / "index.html").read_text(encoding="utf-8")
    assert "dropless-quick/index.html" in page
    assert "clipless-quick/index.html" in page


def test_out_of_time_leaves_with_130_and_names_what_was_not_begun(ran: Any) -> None:
    with contextlib.chdir(ran[0]):
        done = ablate_all(("dropless.toml",), profile="quick", seeds=2, workers=1, timeout=0)
    assert (done.exit_code, done.left, done.outcomes) == (130, ("dropless.toml",), ())
    assert "not begun: dropless.toml" in done.closing()[-1]


def test_when_no_study_can_be_run_nothing_is(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(UsageError, match="absent"):
        ablate_all(("absent.toml",), profile="quick")


def test_every_built_in_study_is_among_all_and_those_that_decide_the_recipe_come_first() -> None:
    found = all_studies()
    assert found[: len(ORDER)] == ORDER
    assert {"optimizer", "schedule"} <= set(found)
