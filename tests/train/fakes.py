"""A training epoch on tensors without memory, so that a GPU's rules can be checked where there is none.

On a fake CUDA device three things of torch ask for a real one, and have stand-ins here: generators,
autocast (its warning, not its casts) and backward (gradients are made up). On the fake CPU all is
torch's own. Legend: N images, B batch, C channels, H, W, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode

from harness.train.augment import Op
from harness.train.capture import Resident
from harness.train.dry_run import DeviceWatch, LeavesDeviceError, fakes_of
from harness.train.loaders import TrainLoader
from harness.train.model import Dropout
from harness.train.step import Step, StepSettings
from harness.train.streams import stream_seed
from tests.train.tiny import CLASSES, SIDE, net

LEFT = (LeavesDeviceError, DataDependentOutputException, DynamicOutputShapeException)
"""What code that leaves the device raises here."""

OTHER = "cuda:1"
"""Stands for an accelerator of another kind: this torch can pretend no device whose driver it was built without."""

IMAGES, BATCH = 11, 4  # two whole batches and a smaller one
STATISTICS: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3}


class StandIn(torch.Generator):
    """A CPU's generator that says it is a device's."""

    where = torch.device("cpu")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where


def stand_in(
    seed: int, purpose: str, epoch: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """As ``harness.train.streams.generator``, for a device that is not there."""
    source = StandIn()
    source.manual_seed(stream_seed(seed, purpose, epoch))
    source.where = torch.device(device)
    return source


class Casts:
    """As ``torch.autocast``, for a device that is not there: it casts without asking the driver."""

    def __init__(self, kind: str, dtype: torch.dtype | None, *, enabled: bool) -> None:
        self.kind, self.dtype, self.enabled = kind, dtype, enabled

    def __enter__(self) -> None:
        self.before = torch.is_autocast_enabled(self.kind), torch.get_autocast_dtype(self.kind)
        torch.set_autocast_enabled(self.kind, self.enabled)
        if self.dtype is not None:
            torch.set_autocast_dtype(self.kind, self.dtype)
        torch.autocast_increment_nesting()

    def __exit__(self, *_: object) -> None:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(self.kind, self.before[0])
        torch.set_autocast_dtype(self.kind, self.before[1])


class DoubleError(RuntimeError):
    """A tensor of double precision where the device has none."""


class NoDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raise DoubleError at every float64 tensor: on accelerators, or everywhere, where a CPU stands for one."""

    def __init__(self, *, everywhere: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.everywhere = everywhere

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            double = isinstance(tensor, Tensor) and tensor.dtype == torch.float64
            if double and (self.everywhere or tensor.device.type != "cpu"):
                raise DoubleError(f"{func} makes a float64 tensor on {tensor.device}")
        return out


@contextmanager
def pretended(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make tensors without memory; on anything but a CPU with the stand-ins, and without autograd."""
    with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        if device == "cpu":
            yield
            return
        patch.setattr("harness.train.loaders.generator", stand_in)
        patch.setattr("torch.autocast", Casts)
        with torch.no_grad():
            yield


def model_on(device: str, **fields: Any) -> nn.Module:
    """Return a small net on a pretended device, in training mode."""
    with unset_fake_temporarily():
        real = net(**fields).to(memory_format=torch.channels_last)

    copied = copy.deepcopy(real, fakes_of(real, device))
    for layer in (module for module in copied.modules() if isinstance(module, Dropout)):
        layer.to(device)  # as a move does: the rate gets the dtype that the device has
    return copied


def train_loader(device: str, ops: Sequence[Op], *, images_on: str = "") -> TrainLoader:
    """Return a loader of a few pretended images."""
    images_NCHW = torch.zeros(IMAGES, 3, SIDE, SIDE, dtype=torch.uint8, device=images_on or device)
    labels_N = torch.zeros(IMAGES, dtype=torch.int64, device=device)
    given: dict[str, Any] = {
        "batch_size": BATCH,
        "seed": 0,
        "classes": CLASSES,
        "memory_format": torch.channels_last,
    }
    return TrainLoader(images_NCHW, labels_N, ops=ops, **STATISTICS, **given)


def train_an_epoch(
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ops: Sequence[Op] = (),
    settings: StepSettings | None = None,
    model: Callable[[], nn.Module] | None = None,
    without: int = 0,
) -> list[tuple[int, ...]]:
    """Draw an epoch, gather and augment its batches on the device, take a step on each, the smaller last one too.

    Args:
        device: that tensors are pretended to be on.
        monkeypatch: puts the stand-ins in and takes them out again.
        ops: augmentations.
        settings: of the step.
        model: makes the net; a small one of ours by default.
        without: so many weights, from the first, get no gradient where gradients are made up.

    Returns:
        The shapes of the batches.

    Raises:
        LEFT: something reads from the device, or mixes devices.
        DoubleError: on another accelerator, something is of double precision.
    """
    with pretended(device, monkeypatch), monkeypatch.context() as patch, ExitStack() as watches:
        if device == OTHER:
            patch.setattr("harness.train.devices.kind_of", lambda _: "mps")
        trained = model() if model is not None else model_on(device)
        if device != "cpu":
            patch.setattr(Tensor, "backward", lambda _: _make_up_gradients(trained, without))
        if device == OTHER:
            watches.enter_context(NoDouble())

        step = Step(trained, [(0.01, 0.9)] * 3, settings or StepSettings(), trusted=True)
        loader = train_loader(device, ops)
        # the draws of other accelerators are made on the host, and cross once an epoch
        with nullcontext() if device == OTHER else DeviceWatch():
            feed = Resident(loader)
            feed.start()

        watches.enter_context(DeviceWatch())
        shapes = []
        for x_BCHW, target in [*(feed.batch() for _ in range(feed.whole)), *feed.rest()]:
            step(x_BCHW, target)
            shapes.append(tuple(x_BCHW.shape))
        return shapes


def _make_up_gradients(model: nn.Module, without: int) -> None:
    for p in list(model.parameters())[without:]:
        p.grad = torch.empty_like(p)
