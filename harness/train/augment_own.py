"""A user's augmentation as one of our operations.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.errors import RecipeError
from harness.train.augment_ops import Epoch, Stage
from harness.train.own import attempt, find

_SEEDS = 2**62
_SAMPLE = 4  # images of the blank batch that it is tried on


class Own:
    """``augment.own.NAME``.

    Float images in [0, 1] in, the same shape out, random numbers from a generator of its own.

    Its stream is named after NAME, so that switching it on or off moves no other operation's draws.
    A seed is drawn for every image; the function gets a generator at the seed of the first image
    that it is handed.

    Args:
        name: NAME.
        function: ``file.py:function``.
        kwargs: its keyword arguments.

    Raises:
        UsageError: its import fails.
        RecipeError: it does not take (x_NCHW, generator) and these arguments.
    """

    stage: Stage = "colour"
    fixed_stream = False

    def __init__(self, name: str, function: str, kwargs: Mapping[str, Any]) -> None:
        self.name = f"own.{name}"
        self._field, self.source, self._kwargs = f"augment.own.{name}", function, dict(kwargs)
        self._call: Callable[..., Any] = find(
            self._field,
            function,
            positional=("x_NCHW", "generator"),
            kwargs=self._kwargs,
            where=f"augment.kwargs.{name}",
        )

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return a seed for every image."""
        return (torch.randint(_SEEDS, (epoch.size,), generator=generator, device=generator.device),)

    def apply(self, x_NCHW: Tensor, seed_N: Tensor) -> Tensor:
        """Return what the function makes of the images.

        Raises:
            RecipeError: it returns something else than images of the same shape and dtype.
        """
        # the first image's seed stands for the batch: a generator an image would cost a loop in
        # Python
        generator = torch.Generator(device=x_NCHW.device).manual_seed(int(seed_N[0]))
        shape, dtype = x_NCHW.shape, x_NCHW.dtype
        out = self._call(x_NCHW, generator, **self._kwargs)
        if not isinstance(out, Tensor):
            raise RecipeError(
                f"{self._field}: {self.source!r} returns a {type(out).__name__}",
                "return the changed images",
            )
        if out.shape != shape or out.dtype != dtype:
            raise RecipeError(
                f"{self._field}: {self.source!r} returns {tuple(out.shape)} {out.dtype} for "
                f"{tuple(shape)} {dtype}",
                "return as many images, of the same shape and dtype",
            )
        return out


def own_ops(own: Mapping[str, str], kwargs: Mapping[str, Any]) -> list[Own]:
    """Return the user's operations in the order of their names.

    ``kwargs`` holds ``{NAME.argument: value}``.
    """
    return [
        Own(
            name,
            own[name],
            {
                key.partition(".")[2]: v
                for key, v in kwargs.items()
                if key.partition(".")[0] == name
            },
        )
        for name in sorted(own)
    ]


def check(op: Own, shape: tuple[int, int, int]) -> None:
    """Try an operation on a blank batch of images of ``shape`` (C, H, W).

    Raises:
        RecipeError: it raises, or does not return such a batch.
    """
    seed_N = torch.zeros(_SAMPLE, dtype=torch.int64)
    attempt(
        f"augment.{op.name}",
        op.source,
        lambda: op.apply(torch.full((_SAMPLE, *shape), 0.5), seed_N),
    )
