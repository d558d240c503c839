"""What code of yours must provide to take part in a study, one small protocol each.

A study names it as ``path/to/file.py:attribute`` or ``package.module:attribute``. Keyword arguments
of your own are recipe fields: ``model.kwargs.depth = 3`` calls the factory with ``depth=3``. To
have a type checker compare yours with a protocol: ``net: NetFactory = my_net``.

Legend: N images, C channels (1 grey, 3 colour), H height, W width (equal), K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class NetFactory(Protocol):
    """``model.name``: makes a net. A function, or the net's class itself.

    The net maps float images x_NCHW, normalised, to logits_NK. Initial weights must come from
    torch's own generator, which is seeded before the call, and be float32. A net that returns
    probabilities says so by an attribute ``softmax = True``.
    """

    def __call__(self, *, in_channels: int, side: int, classes: int) -> nn.Module:
        """Return a fresh net for images of ``in_channels`` x ``side`` x ``side`` pixels."""
        ...


class ImageSource(Protocol):
    """``data.name``: reads a whole data set.

    It is called once in every process, and its pixels are fingerprinted.
    """

    def __call__(self) -> Mapping[str, Any]:
        """Return a table of arrays, tensors or lists.

        Returns:
            ``train_images`` and ``test_images``, uint8 of shape NHW, NHWC or NCHW; ``train_labels``
            and ``test_labels``, whole numbers from 0; ``classes``, the names of the K classes.
            Without a test part, a fixed fifth is held out.
        """
        ...


class Augmentation(Protocol):
    """``augment.own.NAME``.

    Changes training images, after our own operations on colour and before normalisation.
    """

    def __call__(self, x_NCHW: Tensor, generator: torch.Generator, /) -> Tensor:
        """Return the changed images, of the same shape.

        Args:
            x_NCHW: float32 in [0, 1], yours to change in place: some images of a batch, or several
                small batches at once.
            generator: on the images' device; draw from it alone, or the trial does not repeat.
        """
        ...


class OptimizerFactory(Protocol):
    """``optimizer.name``.

    A class derived from ``torch.optim.Optimizer``, or a function that makes one.

    Before every step the schedule sets ``lr``, and ``betas[0]`` or ``momentum`` where there is one,
    in its parameter groups; gradients arrive clipped. ``step`` is called without a closure.
    """

    def __call__(self, params: Any, lr: float, /, *, weight_decay: float) -> torch.optim.Optimizer:
        """Return an optimiser of these parameters."""
        ...


class Schedule(Protocol):
    """``schedule.name``: the learning rate's shape over a run."""

    def __call__(self, step: int, steps: int, /) -> float:
        """Return the factor on ``schedule.max_lr`` for a step from 0 to ``steps`` - 1.

        Finite and at least 0.
        """
        ...


class Loss(Protocol):
    """``loss.name``: what training minimises.

    Validation loss stays plain cross-entropy, so that arms can be compared.
    """

    def __call__(self, logits_NK: Tensor, target: Tensor, /) -> Tensor:
        """Return the mean loss of a batch, a scalar with a gradient.

        Args:
            logits_NK: float32, what the net returned.
            target: labels_N int64, or under mixup and cutmix probabilities target_NK.
        """
        ...
