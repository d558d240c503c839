"""What torch finds on this machine, for ``harness doctor``.

Versions, accelerators, and whether each of them computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.train import devices
from harness.train.meter import Meter


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device.

    Attributes:
        name: as the driver tells it.
        memory_gib: in all.
        free_gib: not taken by any process.
        capability: ``9.0`` for an H200.
        bf16: whether it has bf16 arithmetic of its own and does not emulate it.
        held_down: why its clocks are held down now; empty when they are not, or nobody knows.
        fault: what went wrong when it was asked for a sum; empty when it answered.
    """

    name: str
    memory_gib: float
    free_gib: float
    capability: str
    bf16: bool
    held_down: str
    fault: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device that is no CUDA device: mps or xpu.

    Attributes:
        device: as ``--device`` takes it.
        name: as the driver tells it.
        free_gib: that torch may still take.
        fault: what went wrong when it was asked for a sum; empty when it answered.
    """

    device: str
    name: str
    free_gib: float
    fault: str


@dataclass(frozen=True, slots=True)
class Found:
    """What torch says of itself.

    Attributes:
        torch: its version.
        cuda: CUDA release that it was built for; empty for a build without.
        gpus: the CUDA devices that it may use.
        others: the devices of another kind of accelerator that it may use.
    """

    torch: str
    cuda: str
    gpus: tuple[Gpu, ...]
    others: tuple[Accelerator, ...] = ()


def probe() -> Found:
    """Ask torch and every GPU that it may use; a GPU that fails is reported and not raised."""
    cuda = str(torch.version.cuda or "")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = devices.auto()
    others = range(devices.number_of(kind) if kind not in ("cpu", "cuda") else 0)
    return Found(
        torch.__version__,
        cuda,
        tuple(_gpu(index) for index in range(count)),
        tuple(_other(kind if kind == "mps" else f"{kind}:{index}") for index in others),
    )


def _gpu(index: int) -> Gpu:
    device = f"cuda:{index}"
    facts = torch.cuda.get_device_properties(index)
    fault, free, held_down = "", 0, ""
    try:
        fault = _sum_on(device)
        free = torch.cuda.mem_get_info(index)[0]
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        held_down = Meter(device).throttled()
    # a driver that does not fit, a kernel that was not built for this GPU, no memory left
    except RuntimeError as error:
        fault, bf16 = str(error).splitlines()[0], False
    capability = f"{facts.major}.{facts.minor}"
    return Gpu(
        facts.name, facts.total_memory / 2**30, free / 2**30, capability, bf16, held_down, fault
    )


def _other(device: str) -> Accelerator:
    name, free = device, 0.0
    try:
        name, free, fault = devices.device_name(device), devices.free_bytes(device), _sum_on(device)
    except (
        RuntimeError
    ) as error:  # NotImplementedError, of an operation that the device lacks, is one
        fault = str(error).splitlines()[0]
    return Accelerator(device, name, free / 2**30, fault)


def _sum_on(device: str) -> str:
    """Return what is wrong with a sum on a device; empty when it is right."""
    total = float(torch.ones(64, device=device).sum())
    return "" if total == 64.0 else f"the sum of 64 ones came out as {total:g}"
