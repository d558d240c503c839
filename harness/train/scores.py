"""Loss and right answers of a net summed over batches, in eager mode or as a recording.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.errors import UsageError
from harness.train.capture import Handed, Lane, RecordFunc, Replay
from harness.train.devices import wide_float
from harness.train.first_batch import explain_dtype, output_fault, target_fault
from harness.train.step import AUTOCAST

_SHAPES = 4  # that are recorded; a loader has a whole batch and a rest


def log_probabilities(out_NK: Tensor, *, softmax: bool) -> Tensor:
    """Return log p_NK of what a net returned: logits, or with ``softmax`` probabilities already."""
    return (
        out_NK.float().clamp_min(1e-12).log() if softmax else F.log_softmax(out_NK.float(), dim=1)
    )


class Scores:
    """Sums over batches, kept on the device: read once, when all batches are through.

    Args:
        model: in eval mode whenever a batch is added.
        precision: of the recipe.

    Attributes:
        classes: K, known from the first batch on; 0 before.

    Raises:
        UsageError: there is no such precision.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        if precision not in AUTOCAST:
            raise UsageError(f"precision is {precision!r}", "use 'fp32', 'bf16' or 'fp16'")
        self.model, self.precision, self.classes = model, precision, 0
        tensor = next(itertools.chain(model.parameters(), model.buffers()), None)
        self.device = torch.device("cpu") if tensor is None else tensor.device
        self.loss = torch.zeros((), dtype=wide_float(self.device), device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    def start(self) -> None:
        """Forget what was added."""
        self.loss.zero_()
        self.correct.zero_()

    def add(self, x_NCHW: Tensor, labels_N: Tensor, *, trusted: bool = True) -> None:
        """Add a batch on the device, with gradients off.

        Args:
            x_NCHW: images as the net gets them.
            labels_N: class numbers.
            trusted: whether the labels are known to fit; to look at them is to wait for the device.

        Raises:
            UsageError: the net returns no logits_NK, or labels that are not trusted do not fit.
        """
        out_NK = self._output(x_NCHW)
        self.classes = out_NK.shape[1]
        if not trusted:
            fault = target_fault(labels_N, len(out_NK), classes=self.classes, soft=False)
            if fault is not None:
                raise UsageError(f"the labels of the validation loader {fault.problem}", fault.hint)

        # a net may have a layer of this name, which says nothing
        softmax = getattr(self.model, "softmax", False) is True
        log_NK = log_probabilities(out_NK, softmax=softmax)
        self.loss += F.nll_loss(log_NK, labels_N, reduction="sum")
        self.correct += (log_NK.argmax(dim=1) == labels_N).sum()

    def _output(self, x_NCHW: Tensor) -> Tensor:
        dtype = AUTOCAST[self.precision]
        try:
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                out_NK: Tensor = self.model(x_NCHW)
        except RuntimeError as error:
            explain_dtype(self.model.parameters(), x_NCHW, error)
            raise
        if fault := output_fault(out_NK, len(x_NCHW)):
            raise UsageError(f"the model {fault.problem}", fault.hint)
        return out_NK


class RecordedScores(Scores):
    """Sums whose batches are copied into a buffer and replayed.

    One recording for each shape of a batch.

    Args:
        model: whose weights stay where they are.
        precision: of the recipe.
        recorder: makes the recordings.
        lane: of the program that the net belongs to.
    """

    def __init__(
        self, model: nn.Module, precision: str, *, recorder: RecordFunc, lane: Lane
    ) -> None:
        super().__init__(model, precision)
        self._recorder, self._lane = recorder, lane
        self._recorded: list[tuple[Handed, Replay]] = []

    @property
    def replays(self) -> list[Replay]:
        """The recordings that there are."""
        return [replay for _, replay in self._recorded]

    def add(self, x_NCHW: Tensor, labels_N: Tensor, *, trusted: bool = True) -> None:
        """Add a batch on the device, recorded if it is the first of its shape."""
        # a look at the labels waits for the device, which a recording must not
        replay = self._replay_of(x_NCHW, labels_N) if trusted else None
        if replay is None:
            super().add(x_NCHW, labels_N, trusted=trusted)
        else:
            replay()

    def _replay_of(self, x_NCHW: Tensor, labels_N: Tensor) -> Replay | None:
        """Return the recording that a batch fits, with the batch laid ready.

        None where there are too many shapes.
        """
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

        # warming up adds the batch several times, and draws where a user's net draws in eval
        # mode, too
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
