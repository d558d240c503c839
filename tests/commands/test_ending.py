"""The last lines of a run: what is left, what runs it, and what stands in the way of a next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.choose_profile import _kept
from harness.commands.ending import nothing_learned, unstable_arms
from harness.commands.facts import Outcome, PlanFacts

AUGMENTATIONS = Path(__file__).parents[2] / "reports" / "augmentations-small" / "analysis.json"
PLAN = PlanFacts(
    study="s",
    question="q",
    profile="quick",
    why_profile="as asked",
    arms=2,
    seeds=3,
    cells=6,
    to_run=6,
    device="cpu",
    workers=2,
    threads=1,
    why_workers="as asked",
    seconds_per_trial=1.0,
    seconds=3.0,
    estimated_from="from 9 timed steps",
    data="fashion",
    train_images=300,
    val_images=2700,
    test_images=1000,
    report="reports/s-quick/index.html",
    engine="eager: CUDA graphs need a CUDA device",
)
AGAIN = "once the cause is repaired, `harness ablate s --retry-failed` runs the failed trials again"


def closing(**fields: Any) -> list[str]:
    return Outcome("s", "quick", PLAN, **fields).closing()


def test_a_run_that_was_stopped_says_that_the_same_command_goes_on() -> None:
    line = "3 trials left; the same command goes on from here"
    assert closing(counts={"waiting": 3}, interrupted=True) == [f"stopped by hand: {line}"]
    assert closing(counts={"waiting": 3}, out_of_time=True) == [f"out of time: {line}"]


def test_failed_trials_are_named_and_one_command_runs_them_again() -> None:
    lines = closing(counts={"failed": 1}, failures=("a seed 0: x",), again=AGAIN)
    assert lines == ["failed: a seed 0: x", AGAIN]


def test_a_run_that_failures_stopped_has_one_command_for_all_that_is_left() -> None:
    lines = closing(counts={"failed": 3, "waiting": 4}, failures=("x",), again=AGAIN)
    assert lines == ["failed: x", f"{AGAIN}, and runs the 4 that are left"]


def test_a_long_list_of_failures_is_cut_and_counted() -> None:
    lines = closing(counts={"failed": 72}, failures=tuple(map(str, range(72))), again=AGAIN)
    assert len(lines) == 7
    assert lines[5] == "and 67 more failed; the report lists them"


def test_a_plan_says_on_a_gpu_alone_how_its_steps_are_launched() -> None:
    assert not any("engine" in line for line in PLAN.lines())
    assert "2 trials at a time on cpu, 1 thread each: as asked" in PLAN.lines()


def test_a_larger_run_is_no_next_step_where_nothing_was_learned() -> None:
    analysis = json.loads(AUGMENTATIONS.read_bytes())
    assert nothing_learned(analysis) == ""
    check = {"name": "chance", "level": "fail", "what": "", "hint": "raise train.epochs"}
    guessing = {**analysis, "checks": [check]}
    assert nothing_learned(guessing) == "before another run: raise train.epochs"


def test_arms_whose_trials_diverged_are_named_with_what_helps() -> None:
    analysis = json.loads(AUGMENTATIONS.read_bytes())
    assert unstable_arms(analysis) == ""
    arms = [{**arm, "diverged": int(arm["name"] == "cutout")} for arm in analysis["arms"]]
    said = unstable_arms({**analysis, "arms": arms})
    assert said.startswith("diverged: trials of cutout; ")
    script = {**analysis["study"], "command": ["python", "train.py"]}
    said = unstable_arms({**analysis, "arms": arms, "study": script})
    assert said == "diverged: trials of cutout"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"train.epochs": 2}, "it keeps train.epochs = 2 (small has 30)"),
        ({"train.epochs": 30}, ""),
        ({"model.dropout": 0.1}, ""),
    ],
)
def test_the_next_size_says_which_settings_were_meant_for_another(
    overrides: dict[str, Any], said: str
) -> None:
    assert _kept("small", overrides) == said
