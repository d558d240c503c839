"""Two cells on real CIFAR-10 that may never change: whoever changes them throws away days of finished trials.

A cell's key is the same everywhere. Its bits are the same where processor, instruction set, torch
version and number of threads are: they are compared on the machines listed here. On any other the final
accuracy is, as far apart as two seeds may be.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from harness.ledger.provenance import _cpu
from harness.study.cells import cells
from harness.study.study import load_study
from harness.study.trial import Trial
from harness.train.check import check
from harness.train.run import run


@dataclass(frozen=True)
class Pinned:
    """The first cell of the study `augmentations` under a profile, and what came of it."""

    profile: str
    changes: dict[str, int]
    recipe: str
    key: str
    accuracy: float
    bits: dict[tuple[str, str, str], str]  # by processor, instruction set and torch version


PINNED = [
    Pinned(
        "small",
        {},
        recipe="114a7a9573d575b8",
        key="f966923af131a9c2",
        accuracy=0.4917,
        bits={
            ("AMD EPYC", "AVX512", "2.15.0"): "28c44a46085a7309",
            ("Intel(R) Xeon(R) Processor", "AVX512", "2.15.0"): "05dca0dbea8647b6",
        },
    ),
    Pinned(
        "medium",
        {"train.epochs": 1},
        recipe="0e08b45dc61fd769",
        key="cb17dd2a096f38a5",
        accuracy=0.2134,
        bits={
            ("AMD EPYC", "AVX512", "2.15.0"): "a65b446ee23fd3a3",
            ("Intel(R) Xeon(R) Processor", "AVX512", "2.15.0"): "a8712d4580161ac4",
        },
    ),
]
# five times the sd between seeds: rounding sends a run down another path, as another seed does
BETWEEN_MACHINES = 0.05


def bits_of(trial: Trial) -> str:
    """Digest every training loss and every final metric, to the last bit."""
    numbers = [*trial.curve.online_loss, *(value for _, value in sorted(trial.metrics.items()))]
    return hashlib.sha256(" ".join(number.hex() for number in numbers).encode()).hexdigest()[:16]


@pytest.mark.parametrize("pinned", PINNED, ids=lambda pinned: pinned.profile)
def test_a_cell_on_real_images_keeps_its_key_and_its_bits(
    pinned: Pinned, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not list((real_data / "cifar10").glob("train-*.parquet")):
        pytest.skip("HARNESS_DATA holds no cifar10/train-*.parquet")
    monkeypatch.setenv("HARNESS_DATA", str(real_data))
    study = load_study("augmentations").under(pinned.profile, overrides=pinned.changes)
    cell = cells(study, check(study.base_recipe).split.fingerprint)[0]
    assert (cell.recipe.id, cell.key) == (pinned.recipe, pinned.key)

    trial, _ = run(cell, threads=1)
    assert trial.metrics["accuracy"] == pytest.approx(pinned.accuracy, abs=BETWEEN_MACHINES)
    release = torch.__version__.partition("+")[0]
    machine = (_cpu(), torch.backends.cpu.get_cpu_capability(), release)
    if machine in pinned.bits:
        assert bits_of(trial) == pinned.bits[machine]
