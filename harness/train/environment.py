"""What a trial ran on and with, as far as only the training code can tell; the worker adds versions, host and code."""

from __future__ import annotations

import torch

from harness.trial import Environment


def environment(device: str, precision: str, engine: str = "eager") -> Environment:
    """Return the record of this process's training: torch, the device by name, threads, arithmetic and engine."""
    return Environment(
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        precision=precision,
        engine=engine,
    )
