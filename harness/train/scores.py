"""Loss and right answers of a net summed over batches, in eager mode or as a recording.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.train.capture import Handed, Lane, Recorder, Replay
from harness.train.step import AUTOCAST

_SHAPES = 4  # that are recorded; a loader has a whole batch and a rest


def log_probabilities(out_NK: Tensor, *, softmax: bool) -> Tensor:
    """Return log p_NK of what a net returned: logits, or with ``softmax`` probabilities already."""
    return out_NK.float().clamp_min(1e-12).log() if softmax else F.log_softmax(out_NK.float(), dim=1)


class Scores:
    """Sums over batches, kept on the device: read once, when all batches are through.

    Args:
        model: in eval mode whenever a batch is added.
        precision: of the recipe.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        self.model, self.precision = model, precision
        self.device = next(model.parameters()).device
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    def start(self) -> None:
        """Forget what was added."""
        self.loss.zero_()
        self.correct.zero_()

    def add(self, x_NCHW: Tensor, labels_N: Tensor) -> None:
        """Add a batch on the device, with gradients off."""
        # a net may have a layer of this name, which says nothing
        softmax = getattr(self.model, "softmax", False) is True
        dtype = AUTOCAST[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            out_NK = self.model(x_NCHW)
        log_NK = log_probabilities(out_NK, softmax=softmax)
        self.loss += F.nll_loss(log_NK, labels_N, reduction="sum")
        self.correct += (log_NK.argmax(dim=1) == labels_N).sum()


class RecordedScores(Scores):
    """Sums whose batches are copied into a buffer and replayed: one recording for each shape of a batch.

    Args:
        model: whose weights stay where they are.
        precision: of the recipe.
        recorder: makes the recordings.
        lane: of the program that the net belongs to.
    """

    def __init__(self, model: nn.Module, precision: str, *, recorder: Recorder, lane: Lane) -> None:
        super().__init__(model, precision)
        self._recorder, self._lane = recorder, lane
        self._recorded: list[tuple[Handed, Replay]] = []

    @property
    def replays(self) -> list[Replay]:
        """The recordings that there are."""
        return [replay for _, replay in self._recorded]

    def add(self, x_NCHW: Tensor, labels_N: Tensor) -> None:
        """Add a batch on the device, recorded if it is the first of its shape."""
        replay = self._replay_of(x_NCHW, labels_N)
        if replay is None:
            super().add(x_NCHW, labels_N)
        else:
            replay()

    def _replay_of(self, x_NCHW: Tensor, labels_N: Tensor) -> Replay | None:
        """Return the recording that a batch fits, with the batch laid ready; None where there are too many shapes."""
        for feed, replay in self._recorded:
            if feed.fits(x_NCHW, labels_N):
                feed.put(x_NCHW, labels_N)
                return replay
        if len(self._recorded) >= _SHAPES:
            return None

        feed = Handed(x_NCHW, labels_N)
        sums = [(total, total.clone()) for total in (self.loss, self.correct)]

        def body() -> None:
            super(RecordedScores, self).add(*feed.batch())

        # warming up adds the batch several times, and draws where a net of the user's draws in eval mode, too
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            replay = self._recorder(body, self.device, rewind=feed.rewind, lane=self._lane)
        for total, before in sums:
            total.copy_(before)
        self._recorded.append((feed, replay))
        return replay


def first_of_each_shape(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield one batch of each shape that there is, to warm up with."""
    seen: set[tuple[torch.Size, torch.Size]] = set()
    for images, labels in batches:
        shape = (images.shape, labels.shape)
        if shape not in seen:
            seen.add(shape)
            yield images, labels
