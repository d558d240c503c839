"""What kinds of device differ in.

CPU, CUDA, and the other accelerators that torch knows (mps of Apple, xpu of Intel).

CPU and CUDA are what studies are made for. The others run the eager engine in float32, by the calls
that ``torch.accelerator`` has for all of them and by those of ``torch.mps`` where it has none.
"""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import Any

import torch

KINDS = ("cpu", "cuda", "mps", "xpu")
_MIB = 2**20


def kind_of(device: torch.device | str) -> str:
    """Return a device's kind, such as ``cuda`` for ``cuda:1``."""
    return torch.device(device).type


def auto() -> str:
    """Return the kind of device that ``auto`` picks.

    The accelerator that torch finds, or the CPU.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator is not None and accelerator.type in KINDS else "cpu"


def number_of(kind: str) -> int:
    """Return how many devices of a kind there are here."""
    if kind == "cpu":
        return 1
    return torch.accelerator.device_count() if auto() == kind else 0


def wide_float(device: torch.device | str) -> torch.dtype:
    """Return the dtype that dropout draws in and losses are summed in.

    Float64 on CPU and CUDA, float32 elsewhere.

    Apple's GPUs have no double precision, and few of Intel's do.
    """
    return torch.float64 if kind_of(device) in ("cpu", "cuda") else torch.float32


def draws_on(device: torch.device | str) -> torch.device:
    """Return where an epoch's order and draws are made.

    On the device itself, or on the CPU and copied over.

    Generators of the other accelerators lack distributions (the gamma of mixup), and a CPU's draws
    are those that a run on the CPU makes.
    """
    return torch.device(device) if kind_of(device) == "cuda" else torch.device("cpu")


def overlaps(device: torch.device | str) -> bool:
    """Return whether copies from pinned host memory may go on while Python does: on CUDA.

    On mps a copy that is not waited for may read the host's memory after it was given to others.
    """
    return kind_of(device) == "cuda"


def device_name(device: torch.device | str) -> str:
    """Return what the driver calls a device; ``cpu`` for a CPU."""
    kind = kind_of(device)
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    if kind == "xpu":
        return torch.xpu.get_device_name(device)
    return f"{torch.backends.mps.get_name()} (mps)" if kind == "mps" else "cpu"


def free_bytes(device: torch.device | str) -> float:
    """Return the memory that a device has left.

    Infinite for a CPU, whose images are where they have to be anyway.
    """
    kind = kind_of(device)
    # memory is shared with the CPU there, and the driver recommends a limit
    if kind == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return (
        math.inf if kind == "cpu" else float(torch.get_device_module(kind).mem_get_info(device)[0])
    )


def reset_peak(device: torch.device | str) -> None:
    """Start counting the peak memory of a device afresh; mps counts none, and of a process only Linux does."""
    if kind_of(device) == "cpu":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if kind_of(device) in ("cuda", "xpu"):
        torch.get_device_module(kind_of(device)).reset_peak_memory_stats(device)


def peak_mib(device: torch.device | str, recorded_bytes: int = 0) -> float:
    """Return the peak memory in MiB: of a GPU since `reset_peak`, of the process on a CPU.

    On mps, what the process holds of the GPU's memory now, its caches included: they only grow.

    Args:
        device: that the trial ran on.
        recorded_bytes: what recordings measured of themselves, which is then the answer: a replay
            allocates nothing, and torch's own peak would be that of whichever trial recorded.
    """
    if recorded_bytes:
        return recorded_bytes / _MIB
    kind = kind_of(device)
    # mps counts no peak
    if kind == "mps":
        return torch.mps.driver_allocated_memory() / _MIB
    if kind != "cpu":
        return float(torch.get_device_module(kind).max_memory_allocated(device)) / _MIB
    return _process_peak_mib()


def _process_peak_mib() -> float:
    # on Linux not by getrusage: there a process inherits the peak of the one that started it
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    # macOS counts in bytes, others in KiB
    unit = _MIB if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def empty_cache() -> None:
    """Give the memory that torch keeps for later back to the accelerator, where there is one."""
    kind = auto()
    # a process that never used its GPU keeps nothing there, and asking would take memory for that
    cuda: Any = torch.cuda
    if kind != "cpu" and (kind != "cuda" or cuda.is_initialized()):
        torch.accelerator.empty_cache()
