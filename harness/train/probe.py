"""What torch finds on this machine, for ``harness doctor``: versions, GPUs, and whether each of them computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
class Found:
    """What torch says of itself.

    Attributes:
        torch: its version.
        cuda: CUDA release that it was built for; empty for a build without.
        gpus: the CUDA devices that it may use.
    """

    torch: str
    cuda: str
    gpus: tuple[Gpu, ...]


def probe() -> Found:
    """Ask torch and every GPU that it may use; a GPU that fails is reported and not raised."""
    cuda = str(torch.version.cuda or "")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Found(torch.__version__, cuda, tuple(_gpu(index) for index in range(count)))


def _gpu(index: int) -> Gpu:
    device = f"cuda:{index}"
    facts = torch.cuda.get_device_properties(index)
    fault, free, held_down = "", 0, ""
    try:
        total = float(torch.ones(64, device=device).sum())
        fault = "" if total == 64.0 else f"the sum of 64 ones came out as {total:g}"
        free = torch.cuda.mem_get_info(index)[0]
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        held_down = Meter(device).throttled()
    except RuntimeError as error:  # a driver that does not fit, a kernel that was not built for this GPU, no memory left
        fault, bf16 = str(error).splitlines()[0], False
    capability = f"{facts.major}.{facts.minor}"
    return Gpu(facts.name, facts.total_memory / 2**30, free / 2**30, capability, bf16, held_down, fault)
