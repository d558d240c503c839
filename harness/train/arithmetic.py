"""What numbers a device computes with: TF32, and what stands in for bfloat16 where a GPU only emulates it."""

from __future__ import annotations

import torch


def prepare(device: torch.device | str) -> None:
    """Set the arithmetic of a CUDA device for this process: fp32 is IEEE single precision, TF32 is off everywhere.

    TF32 keeps 10 bits of mantissa and is cuDNN's default for convolutions; a recipe that says fp32
    would get it unasked. Convolution kernels are chosen by timing among those that add in a fixed
    order.
    """
    if torch.device(device).type == "cuda":
        torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = True


def precision_on(device: torch.device | str, asked: str) -> str:
    """Return the precision that a device trains with.

    What was asked, but fp16 with loss scaling where a CUDA device has no bf16 of its own, and fp32
    on other accelerators, whose half precisions nobody has tried here.
    """
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        return "fp32"
    if (
        asked == "bf16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return "fp16"
    return asked
