"""Nets, batches and recipes small enough to train in a blink. Legend: N batch, C channels, H, W, K classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.study.recipe import Recipe
from harness.study.recipe_fields import AugmentRecipe, ModelRecipe
from harness.study.trial import Cell
from harness.train.model import build

CLASSES = 4
SIDE = 6
Batch = tuple[Tensor, Tensor]

DIGITS: dict[str, Any] = {
    "data.name": "digits",
    "data.train": 150,
    "data.val": 100,
    "augment.crop": 1,
    "model.blocks": 2,
    "model.channels": [4, 8],
    "model.hidden": 16,
    "schedule.max_lr": 0.01,
    "train.epochs": 2,
    "train.batch_size": 32,
}


def recipe(**changes: Any) -> Recipe:
    """Return a recipe of a second's training on scikit-learn's digits; ``part__field`` stands for ``part.field``."""
    return Recipe().with_overrides(
        {**DIGITS, **{name.replace("__", "."): value for name, value in changes.items()}}
    )


def cell(seed: int = 0, **changes: Any) -> Cell:
    return Cell.of(recipe(**changes), seed, "")


def net(*, seed: int = 0, dropout: float = 0.25, **fields: Any) -> nn.Module:
    shape = {"blocks": 2, "channels": (4, 6), "pool": (1,), "hidden": 12, **fields}
    return build(
        ModelRecipe(dropout=dropout, **shape), in_channels=3, side=SIDE, classes=CLASSES, seed=seed
    )


def batches(count: int, *, size: int = 16, seed: int = 0) -> list[Batch]:
    """Return ``count`` batches of noise, whose labels are their brightest quarter, so that there is something to learn."""
    source = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        x_NCHW = torch.randn(size, 3, SIDE, SIDE, generator=source)
        labels_N = torch.randint(CLASSES, (size,), generator=source)
        x_NCHW[torch.arange(size), 0, labels_N] += 2
        found.append((x_NCHW, labels_N))
    return found


class Stream:
    """Batches without a length."""

    def __init__(self, content: list[Batch]) -> None:
        self.content = content

    def __iter__(self) -> Iterator[Batch]:
        yield from self.content


def weights(model: nn.Module) -> list[Tensor]:
    """Return copies of everything that a net holds, statistics of the normalisation included."""
    return [value.detach().clone() for value in model.state_dict().values()]


def augmentation(strengths: Mapping[str, float | str]) -> AugmentRecipe:
    """Return an ``augment`` section with these strengths and everything else off."""
    off = {"crop": 0, "flip": "none", "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    return AugmentRecipe.model_validate({**off, **strengths})
