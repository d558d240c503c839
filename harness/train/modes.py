"""Training and evaluation mode, module by module: what a user froze by ``.eval()`` stays frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def begin_training(model: nn.Module) -> None:
    """Switch a net to training mode, but leave modules in evaluation mode that are in it now.

    A net that is in evaluation mode as a whole is switched as a whole: that says nothing about any
    part of it.
    """
    modules = list(model.modules())
    resting = [module for module in modules if not module.training]
    model.train()  # a net's own train() may hold parts of it back, as a frozen BatchNorm does
    if len(resting) < len(modules):
        for module in resting:
            module.training = False


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back, at the end, into the mode that it is in now."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
