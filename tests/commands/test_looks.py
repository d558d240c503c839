"""What a study with looks and an A/A arm says of itself while it runs: seeds of the A/A arm are none of the study's."""

from __future__ import annotations

from harness.commands.arms_phase import ArmsPhase
from harness.study.arms import arms
from harness.study.cells import cells
from tests import light


def test_seeds_of_an_a_a_arm_are_not_counted_among_those_of_a_look() -> None:
    study = light.study(seeds=8).model_copy(update={"looks": (4, 8), "control": True})
    phase = object.__new__(ArmsPhase)  # without what a run needs: ledger, images, machine
    phase.study, phase.arms = study, arms(study)
    phase.planned = cells(study, "x", upto_seed=4)
    name = phase.arms[1].name
    wanted = cells(study, "x", arms_in={"reference", name}, upto_seed=8)
    more = [cell for cell in wanted if cell not in phase.planned]
    assert phase.look_line(more) == f"look at 4 seeds: still undecided: {name}"
    lines = phase.note([light.trial_of(cell) for cell in phase.planned]).splitlines()
    assert len(lines) == len(phase.arms)
    assert all(line.endswith("n = 4") for line in lines)
