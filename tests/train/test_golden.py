"""One fixed recipe and what came of it: the guard of ENGINE in harness/study/recipe.py.

When this fails because results were meant to change, bump ENGINE (finished trials are then no
longer taken for results of the new code) and put the new numbers here. When nothing was meant to
change, it has found a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.study.recipe import ENGINE
from harness.train import run
from tests.train.tiny import cell

# Weights may differ in their last bits between CPU models, so losses are compared to 1e-3 and not
# by checksum.
TOLERANCE = 1e-3

GOLDEN: dict[str, tuple[dict[str, Any], list[float]]] = {
    "adam": (
        {
            "schedule__max_lr": 0.02,
        },
        [
            2.33241,
            2.28846,
            2.20563,
            2.12761,
            2.05143,
            2.05284,
            1.97454,
            1.94546,
            2.31066,
            2.31015,
            2.28408,
            2.20939,
            2.22346,
            2.08286,
            2.01483,
            1.99033,
            1.99033,
            1.93159,
        ],
    ),
    "everything": (
        {
            "augment__flip": "alternating",
            "augment__cutout": 2,
            "augment__erasing": 0.3,
            "augment__mixup": 0.4,
            "augment__cutmix": 0.5,
            "optimizer__name": "sgd",
            "optimizer__grad_clip_by": "norm",
            "schedule__max_lr": 0.2,
            "optimizer__grad_clip": 1.0,
            "loss__label_smoothing": 0.1,
            "model__features": "concat",
        },
        [
            2.40927,
            2.33296,
            2.32041,
            2.30487,
            2.30069,
            2.28803,
            2.26610,
            2.28246,
            2.31043,
            2.30928,
            2.30362,
            2.29124,
            2.28046,
            2.26061,
            2.23483,
            2.22554,
            2.22554,
            2.21490,
        ],
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield


def test_the_golden_numbers_are_of_this_engine() -> None:
    assert ENGINE == 1


@pytest.mark.parametrize("name", GOLDEN)
def test_a_fixed_recipe_gives_the_losses_it_always_gave(name: str) -> None:
    changes, expected = GOLDEN[name]
    trial, _ = run(cell(3, train__epochs=8, **changes))
    found = [
        *trial.curve.online_loss,
        *trial.curve.val_loss,
        trial.metrics["nll"],
        trial.metrics["train_nll"],
    ]
    assert found == pytest.approx(expected, rel=TOLERANCE)
