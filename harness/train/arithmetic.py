"""What numbers a device computes with.

TF32, and what replaces bfloat16 where a GPU only emulates it.
"""

from __future__ import annotations

import torch


def prepare(device: torch.device | str) -> None:
    """Set the arithmetic of a CUDA device for this process.

    fp32 is IEEE single precision, TF32 is off everywhere.

    TF32 keeps 10 bits of mantissa and is cuDNN's default for convolutions; a recipe that says fp32
    would get it unasked. Convolution kernels are those that add in a fixed order. cuDNN's choice by
    timing (``torch.backends.cudnn.benchmark``) is off: two processes would choose differently, and
    give other bits.
    """
    if torch.device(device).type == "cuda":
        # what asks for another device than the first, before any work, finds none otherwise
        torch.cuda.init()  # type: ignore[no-untyped-call]
        # the old switch first: set after the new ones, or never, it makes torch's own readers of it
        # raise, cudnn.flags() and the compiler among them
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def precision_on(device: torch.device | str, asked: str, *, scales: bool = True) -> str:
    """Return the precision that a device trains with.

    Args:
        device: of training. Other accelerators than CUDA's train in fp32: nobody has tried their
            half precisions here.
        asked: fp32, bf16 or auto. bf16 becomes fp16 with loss scaling on a GPU that only emulates
            bf16. auto is the same on a GPU and fp32 elsewhere.
        scales: whether the optimiser can leave out a step whose scaled gradient overflowed. Without
            that fp16 becomes fp32.
    """
    device = torch.device(device)
    # nobody has tried the half precisions of other accelerators here
    if device.type not in ("cpu", "cuda"):
        return "fp32"
    if asked == "auto":
        asked = "bf16" if device.type == "cuda" else "fp32"
    if asked == "bf16" and device.type == "cuda" and not _has_bf16(device):
        return "fp16" if scales else "fp32"
    return asked


def _has_bf16(device: torch.device) -> bool:
    # torch answers for the current device, and says yes to emulation unless it is asked not to
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
