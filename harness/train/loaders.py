"""Loaders over images that already lie on the device as uint8.

Whole batches, drawn and augmented there.

Images that are too many for the device's memory stay in the host's and cross over a batch at a
time; everything is still drawn and augmented on the device, from the same streams, so that a run
gives the same numbers either way.

Legend: N images, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.train import augment
from harness.train.devices import draws_on, overlaps
from harness.train.streams import generator

_CHUNK_VALUES = (
    # pixels augmented at once on a CPU: about a second-level cache's worth of floats, several small
    # batches
    400_000
)
_CACHE_VALUES = 64_000_000  # normalised evaluation images kept ready, in values: 256 MB of float32


@dataclass(frozen=True, slots=True)
class Drawn:
    """What chance decided for one epoch, on the device.

    The order of the images and the draws of every augmentation.

    Row p of every draw belongs to position p of ``order_N``.
    """

    order_N: Tensor
    draws: dict[str, tuple[Tensor, ...]]


class TrainLoader:
    """Yields (x_BCHW, target) for one epoch: shuffled, augmented, normalised.

    Every image is seen once an epoch. The last batch is smaller when the batch size does not divide
    the images, and is left out when it would hold a single one, which a BatchNorm cannot use.

    Args:
        images_NCHW: uint8, on the training device or, to be streamed, in the host's memory.
        labels_N: int64 on the training device, which is the one that batches come on.
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
        # a batch cannot hold an image twice
        self.batch_size = min(batch_size, len(images_NCHW))
        self.seed, self.classes, self.dtype, self.memory_format = (
            seed,
            classes,
            dtype,
            memory_format,
        )
        self.device = labels_N.device
        self.constants = (
            tuple(mean),
            tuple(std),
            classes,
        )  # on the host, so that two loaders are compared without waiting
        self.mean_C = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self.std_C = torch.tensor(std, dtype=torch.float32, device=self.device)
        self.classes_K = torch.arange(classes, device=self.device)
        self.mixes = any(op.stage == "mix" for op in self.ops)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (zero-based) whose order and draws the next iteration uses."""
        self.epoch = epoch

    def __len__(self) -> int:
        return steps_an_epoch(len(self.images_NCHW), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches(self.draw())

    @property
    def resident(self) -> bool:
        """Whether the images lie on the training device."""
        return self.images_NCHW.device == self.device

    def draw(self) -> Drawn:
        """Draw the epoch's order and augmentations, all at once."""
        total = len(self.images_NCHW)
        source = draws_on(self.device)
        order_N = self._order(total, source)
        epoch = augment.Epoch(total, self._shape, self.epoch, order_N, total)
        # a stream an operation: to remove one leaves the draws of the others as they were
        streams = {
            op.name: generator(
                self.seed, op.name, 0 if op.fixed_stream else self.epoch, device=source
            )
            for op in self.ops
        }
        draws = augment.draw_epoch(self.ops, epoch, streams)
        if source == self.device:
            return Drawn(order_N, draws)

        # once an epoch: all of them are a few bytes an image
        there = {
            name: tuple(part.to(self.device) for part in parts) for name, parts in draws.items()
        }
        return Drawn(order_N.to(self.device), there)

    def batches(self, drawn: Drawn, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a drawn epoch from position ``start`` on."""
        size = self.batch_size
        chunk = size * self._batches_a_chunk()
        # where the images are streamed, the host has to know their order: it waits for it once an
        # epoch
        where_N = drawn.order_N.to(self.images_NCHW.device)
        for first in range(start, len(self.images_NCHW), chunk):
            index_N = drawn.order_N[first : first + chunk]
            labels_N = self.labels_N.index_select(0, index_N)
            rows = augment.take_rows(drawn.draws, first, first + chunk)
            # a chunk at a time, so that a CPU's cache holds what the operations share
            images_NCHW = take_images(self.images_NCHW, where_N[first : first + chunk], self.device)
            x_NCHW = self.augmented(images_NCHW, rows)
            for at in range(0, len(index_N), size):
                # a BatchNorm has no variance over a single image
                if len(index_N) - at < 2:
                    continue
                yield self.finished(
                    x_NCHW[at : at + size],
                    labels_N[at : at + size],
                    augment.take_rows(rows, at, at + size) if self.mixes else {},
                )

    def augmented(self, images_BCHW: Tensor, rows: augment.Draws) -> Tensor:
        """Return uint8 images augmented and normalised, without mixing."""
        return augment.augment_batch(
            images_BCHW, self.ops, rows, mean_C=self.mean_C, std_C=self.std_C, dtype=self.dtype
        )

    def finished(
        self, x_BCHW: Tensor, labels_B: Tensor, rows: augment.Draws
    ) -> tuple[Tensor, Tensor]:
        """Return a batch mixed where the recipe mixes, in the memory format asked for."""
        target = labels_B
        if self.mixes:
            target_BK = (labels_B[:, None] == self.classes_K).float()
            x_BCHW, target = augment.mix_batch(x_BCHW, target_BK, self.ops, rows)
        return formatted(x_BCHW, self.memory_format), target

    def _order(self, total: int, source: torch.device) -> Tensor:
        if not self.shuffle:
            return torch.arange(total, device=source)
        return torch.randperm(
            total, generator=generator(self.seed, "order", self.epoch, device=source), device=source
        )

    @property
    def _shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images_NCHW.shape[1:]
        return channels, height, width

    def _batches_a_chunk(self) -> int:
        """Return how many batches are augmented at a time.

        Several small ones on a CPU, where each operation costs more than its arithmetic.
        """
        if self.device.type != "cpu":
            return 1
        return max(1, _CHUNK_VALUES // (self.batch_size * self.images_NCHW[0].numel()))


def formatted(x_BCHW: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return images in a memory format, without a copy where they are in it.

    Grey images are in both at once, and a convolution takes them for channels_last by their
    strides: those that are to be contiguous get the strides of a new tensor.
    """
    x_BCHW = x_BCHW.contiguous(memory_format=memory_format)
    if memory_format is torch.contiguous_format and x_BCHW.shape[1] == 1:
        return x_BCHW.flatten().view(x_BCHW.shape)
    return x_BCHW


def steps_an_epoch(images: int, batch_size: int) -> int:
    """Return the number of batches of an epoch; a last one of a single image is left out."""
    whole, rest = divmod(images, min(batch_size, images))
    return whole + (rest > 1)


def take_images(images_NCHW: Tensor, index_B: Tensor, device: torch.device) -> Tensor:
    """Return images_BCHW on ``device``.

    To CUDA out of the host's memory by a pinned buffer, without waiting for the copy.

    ``index_B`` lies where the images lie.
    """
    if images_NCHW.device == device:
        return images_NCHW.index_select(0, index_B)
    # torch's pinned allocator hands a block out again only when the copies from it are through
    buffer_BCHW = torch.empty(
        (len(index_B), *images_NCHW.shape[1:]), dtype=images_NCHW.dtype, pin_memory=overlaps(device)
    )
    torch.index_select(images_NCHW, 0, index_B, out=buffer_BCHW)
    return buffer_BCHW.to(device, non_blocking=overlaps(device))


class EvalLoader:
    """Yields (x_BCHW, labels_B) in order, normalised, without augmentation.

    Kept ready when they fit in 256 MB.

    The images may lie in the host's memory, as for ``TrainLoader``; the labels' device is the one
    that batches come on.
    """

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
        self.mean_C = torch.tensor(mean, dtype=torch.float32, device=labels_N.device)
        self.std_C = torch.tensor(std, dtype=torch.float32, device=labels_N.device)
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
            device = self.labels_N.device
            images_BCHW = self.images_NCHW[rows].to(device, non_blocking=overlaps(device))
            x_BCHW = augment.augment_batch(
                images_BCHW, (), {}, mean_C=self.mean_C, std_C=self.std_C, dtype=self.dtype
            )
            yield formatted(x_BCHW, self.memory_format), self.labels_N[rows]
