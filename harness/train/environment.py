"""What a trial ran on and with, as far as only the training code can tell.

The worker adds versions, host and code.
"""

from __future__ import annotations

import torch

from harness.study.trial import Environment
from harness.train.devices import device_name


def environment(device: str, precision: str, engine: str = "eager") -> Environment:
    """Return the record of this process's training.

    Torch, the device by name, threads, arithmetic and engine.
    """
    return Environment(
        torch=torch.__version__,
        device=device_name(device),
        threads=torch.get_num_threads(),
        precision=precision,
        engine=engine,
    )
