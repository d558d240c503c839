"""Whether a net and a loss keep a step on the device.

Tried on tensors without memory, on any machine.

A recorded step is replayed without Python. What reads a number from the device (``if`` on a tensor,
``.item()``, a boolean mask) or mixes devices (a constant on the host, ``torch.tensor(...,
device=)``) breaks the recording, or freezes into it. Torch's fake tensors have a device, a shape
and a dtype but no numbers, so such code shows itself where there is nothing to read.
"""

from __future__ import annotations

import copy
import logging
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.train.dispatch import OperationWatch

_OURS = str(Path(__file__).parent)
_LIBRARIES = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class LeavesDeviceError(RuntimeError):
    """An operation that reads from the device, or whose tensors lie on different devices."""


class DeviceWatch(OperationWatch):  # type: ignore[no-untyped-call]  # torch left it untyped
    """Raise LeavesDeviceError at every operation that reads from the device or mixes devices.

    Push it after a ``FakeTensorMode``, which raises errors of its own where numbers decide.

    Args:
        streams: let copies from the host to a device pass that are ``non_blocking``, as those of
            streamed images are.
    """

    def __init__(self, *, streams: bool = False) -> None:
        super().__init__()
        self._streams = streams

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, once its devices are compared."""
        kwargs = kwargs or {}
        devices = list(dict.fromkeys(str(tensor.device) for tensor in _tensors((args, kwargs))))
        name = func.overloadpacket.__name__
        target = kwargs.get("device")

        # a copy names the other device in an argument, so that there is one tensor to look at
        if name == "_to_copy" and target is not None:
            devices = list(dict.fromkeys([*devices, _numbered(torch.device(target))]))
        if len(devices) > 1 and not (self._streams and _is_streamed(name, devices, args, kwargs)):
            verb = "copies between" if name in ("_to_copy", "copy_") else "mixes tensors of"
            raise LeavesDeviceError(f"{verb} {' and '.join(devices)} ({name})")

        # fake tensors let this one pass, and the real operation waits for its answer
        if name == "_linalg_check_errors":
            raise LeavesDeviceError("reads from the device whether a matrix could be decomposed")
        return func(*args, **kwargs)


def _tensors(tree: object) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        return _tensors(list(tree.values()))
    if isinstance(tree, list | tuple):
        return [tensor for branch in tree for tensor in _tensors(branch)]
    return []


def _numbered(device: torch.device) -> str:
    """Return a device's name with its number, as fake tensors have it."""
    return str(device) if device.type == "cpu" or ":" in str(device) else f"{device}:0"


def _is_streamed(
    name: str, devices: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    # _to_copy(source, non_blocking=) and copy_(target, source, non_blocking)
    waits_not = bool(
        kwargs.get("non_blocking", args[2] if name == "copy_" and len(args) > 2 else False)
    )
    source = args[1] if name == "copy_" else args[0]
    return (
        name in ("_to_copy", "copy_")
        and waits_not
        and source.device.type == "cpu"
        and len(devices) == 2
    )


def reads_device(
    module: nn.Module,
    x_NCHW: Tensor,
    labels_N: Tensor,
    loss_func: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> str:
    """Return why a training step of a net and its loss has to be launched from Python.

    Empty when it can be recorded.

    Nothing is computed, no memory of a device is taken, and net and random numbers stay as they
    are. Forward and loss are tried on a CUDA device, backward on the device of the net. Code that
    fails there for another reason gets that reason: running it eagerly is never wrong.

    Args:
        module: the net, on any device.
        x_NCHW: a batch as the net gets it; its numbers do not matter.
        labels_N: class numbers, or probabilities labels_NK.
        loss_func: (out_NK, labels) to a scalar; cross-entropy by default.

    Returns:
        One clause with the file and the line where the user's code leaves the device.
    """
    loss_func = loss_func or F.cross_entropy
    home = next((p.device for p in module.parameters()), torch.device("cpu"))
    if home.type == "cuda":
        return _tried(module, x_NCHW, labels_N, loss_func, home, backward=True)

    # autograd asks for the streams of a CUDA device, which a machine without one does not have
    forward = _tried(module, x_NCHW, labels_N, loss_func, torch.device("cuda:0"), backward=False)
    return forward or _tried(
        module, x_NCHW, labels_N, loss_func, torch.device("cpu"), backward=True
    )


def _tried(
    module: nn.Module,
    x_NCHW: Tensor,
    labels_N: Tensor,
    loss_func: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    *,
    backward: bool,
) -> str:
    # a second and a half, for those who bring a net or a loss
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
    )

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode:
            fakes = fakes_of(module, device)
        copied = copy.deepcopy(module, fakes).train()  # its other tensors stay where they are
        with _without_log(), mode, torch.set_grad_enabled(backward), DeviceWatch():
            loss = loss_func(copied(_blank(x_NCHW, device)).float(), _blank(labels_N, device))
            if backward:
                loss.backward()  # type: ignore[no-untyped-call]
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        return f"{_place(error)} {_read(error.func)}"
    except LeavesDeviceError as error:
        return f"{_place(error)} {error}"
    # a user's code raises what it likes, and so do operations that have no fake form
    except Exception as error:  # noqa: BLE001
        message = " ".join(str(error).split())[:200]
        return f"{_place(error)} fails in a dry run: {type(error).__name__}: {message}"
    return ""


def _read(func: Any) -> str:
    operation = func.overloadpacket.__name__
    if operation == "_local_scalar_dense":
        return "reads a number from the device (if, .item(), float())"
    return f"reads a number from the device ({operation})"


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep torch from logging what fails on fake tensors: it is returned in words."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _blank(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def fakes_of(module: nn.Module, device: torch.device | str) -> dict[int, Any]:
    """Return a fake on a device for each weight and buffer of a net.

    By ``id``, as ``copy.deepcopy`` takes them.

    Call it under a ``FakeTensorMode``.
    """
    place = torch.device(device)
    weights = {
        id(p): nn.Parameter(_blank(p, place), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return weights | {id(buffer): _blank(buffer, place) for buffer in module.buffers()}


def _place(error: BaseException) -> str:
    """Return the innermost line of code that is neither ours nor a library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_OURS, *_LIBRARIES, "<")):
            return f"{Path(frame.filename).name} line {frame.lineno}"
    return "the net or the loss"
