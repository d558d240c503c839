"""Time of what happens around the trials: claiming and recording a cell, analysing a study, writing its report.

Nothing is trained: trials are planted, or come from a runner without a net.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis import analyze
from harness.report import write_material
from tests import light
from tests.planted import planted, study_of
from tests.report.planted import augmentations

SEEDS, ARMS = 10, 8


def test_claiming_and_recording_a_cell(benchmark: Any, tmp_path: Path) -> None:
    with light.planned(tmp_path, seeds=20, levels=6) as ledger:

        def one() -> Any:
            claim = ledger.claim("w")
            assert claim is not None
            return light.complete(ledger, claim)

        assert benchmark.pedantic(one, rounds=100, warmup_rounds=3) is not None


def test_analysing_a_study(benchmark: Any) -> None:
    study = study_of(*(f"arm-{number}" for number in range(ARMS)), seeds=SEEDS)
    trials = planted(study, {"arm-1": 0.5})
    assert len(benchmark(analyze, study, trials).effects) > 0


def test_writing_a_report(benchmark: Any, tmp_path: Path) -> None:
    material = augmentations(images=False)
    written = benchmark.pedantic(write_material, args=(tmp_path / "report", material), rounds=2)
    assert written.index.is_file()
