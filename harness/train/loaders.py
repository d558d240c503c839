"""Loaders over images that already lie on the device as uint8: whole batches, drawn and augmented there.

Legend: N images, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

from harness.train import augment
from harness.train.streams import generator

_CHUNK_VALUES = (
    400_000  # pixels augmented at once on a CPU: about a second-level cache's worth of floats, several small batches
)
_CACHE_VALUES = 64_000_000  # normalised evaluation images kept ready, in values: 256 MB of float32


class TrainLoader:
    """Yields (x_BCHW, target) for one epoch: shuffled, augmented, normalised.

    Every image is seen once an epoch. The last batch is smaller when the batch size does not divide the images, and is
    left out when it would hold a single one, which a BatchNorm cannot use.

    Args:
        images_NCHW: uint8 on the training device.
        labels_N: int64 on the same device.
        ops: augmentations, from ``augment.build``.
        mean, std: per channel in [0, 1].
        seed: of the trial; each epoch's order and draws come from its streams.
        shuffle: whether the order is drawn; without it images come as they lie.
        classes: K, used when labels are mixed.
        dtype: of the batches.
        memory_format: of the batches.
    """

    def __init__(
        self,
        images_NCHW: Tensor,
        labels_N: Tensor,
        *,
        batch_size: int,
        ops: Sequence[augment.Op],
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        classes: int,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        shuffle: bool = True,
    ) -> None:
        self.shuffle = shuffle
        self.images_NCHW, self.labels_N, self.ops = images_NCHW, labels_N, tuple(ops)
        self.batch_size = min(batch_size, len(images_NCHW))
        self.seed, self.classes, self.dtype, self.memory_format = seed, classes, dtype, memory_format
        self.device = images_NCHW.device
        self.mean_C = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self.std_C = torch.tensor(std, dtype=torch.float32, device=self.device)
        self.mixes = any(op.stage == "mix" for op in self.ops)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (zero-based) whose order and draws the next iteration uses."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images_NCHW), self.batch_size)
        return whole + (rest > 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        total = len(self.images_NCHW)
        order_N = self._order(total)
        epoch = augment.Epoch(total, self._shape, self.epoch, order_N, total)
        streams = {
            op.name: generator(self.seed, op.name, 0 if op.fixed_stream else self.epoch, device=self.device) for op in self.ops
        }
        draws = augment.draw_epoch(self.ops, epoch, streams)
        size = self.batch_size
        chunk = size * self._batches_a_chunk()
        for start in range(0, total, chunk):
            index_N = order_N[start : start + chunk]
            labels_N = self.labels_N[index_N]
            rows = augment.take_rows(draws, start, start + chunk)
            x_NCHW = augment.augment_batch(
                self.images_NCHW[index_N], self.ops, rows, mean_C=self.mean_C, std_C=self.std_C, dtype=self.dtype
            )
            for at in range(0, len(index_N), size):
                x_BCHW, target_B = x_NCHW[at : at + size], labels_N[at : at + size]
                if len(x_BCHW) < 2:
                    continue
                target = target_B
                if self.mixes:
                    target_BK = F.one_hot(target_B, self.classes).float()
                    x_BCHW, target = augment.mix_batch(x_BCHW, target_BK, self.ops, augment.take_rows(rows, at, at + size))
                yield x_BCHW.contiguous(memory_format=self.memory_format), target

    def _order(self, total: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(total, device=self.device)
        return torch.randperm(
            total, generator=generator(self.seed, "order", self.epoch, device=self.device), device=self.device
        )

    @property
    def _shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images_NCHW.shape[1:]
        return channels, height, width

    def _batches_a_chunk(self) -> int:
        """Small batches are augmented several at a time on a CPU, where each operation costs more than its arithmetic."""
        if self.device.type != "cpu":
            return 1
        return max(1, _CHUNK_VALUES // (self.batch_size * self.images_NCHW[0].numel()))


class EvalLoader:
    """Yields (x_BCHW, labels_B) in order, normalised, without augmentation; kept ready when they fit in 256 MB."""

    def __init__(
        self,
        images_NCHW: Tensor,
        labels_N: Tensor,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.images_NCHW, self.labels_N, self.batch_size = images_NCHW, labels_N, batch_size
        self.dtype, self.memory_format = dtype, memory_format
        self.mean_C = torch.tensor(mean, dtype=torch.float32, device=images_NCHW.device)
        self.std_C = torch.tensor(std, dtype=torch.float32, device=images_NCHW.device)
        self._ready: list[tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return (len(self.images_NCHW) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._ready is None and self.images_NCHW.numel() <= _CACHE_VALUES:
            self._ready = list(self._batches())
        yield from self._ready if self._ready is not None else self._batches()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.images_NCHW), self.batch_size):
            rows = slice(start, start + self.batch_size)
            x_BCHW = augment.augment_batch(
                self.images_NCHW[rows], (), {}, mean_C=self.mean_C, std_C=self.std_C, dtype=self.dtype
            )
            yield x_BCHW.contiguous(memory_format=self.memory_format), self.labels_N[rows]
