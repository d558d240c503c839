"""Random streams: one for every purpose and epoch of a seed.

Arms share all the streams that they both use.

Two arms at one seed get the same initial weights, the same image order and, for every augmentation
both have, the same draws; switching one operation off leaves every other stream as it was.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

# any other purpose is an augmentation, numbered by its name
PURPOSES = {"init": 0, "order": 1, "dropout": 2}


def stream_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return the 63-bit seed of a stream: ``SeedSequence([seed, purpose, epoch])``.

    Args:
        seed: of the trial, >= 0.
        purpose: init, order, dropout, or an augmentation's name.
        epoch: zero-based.
    """
    number = PURPOSES.get(purpose)
    # a checksum, not a position in a list: adding an operation must not move another's stream
    if number is None:
        number = 1000 + zlib.crc32(purpose.encode())
    words = np.random.SeedSequence([seed, number, epoch]).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])


def generator(
    seed: int, purpose: str, epoch: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator on ``device`` at the start of a stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, purpose, epoch))
