"""Recording a step, and what a recorded step reads. ``harness.train.engine`` says what for.

Everything but `CudaReplay` runs on a CPU too, where `EagerReplay` calls what would have been
recorded.

Legend: N images, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import UsageError
from harness.train.loaders import TrainLoader
from harness.train.modes import modes_kept
from harness.train.step import Step

# before a recording: libraries choose their kernels and allocate their workspaces at the first
# calls
WARM_STEPS = 3


class Replay(Protocol):
    """Recorded work that can be done again, on the same memory."""

    def __call__(self) -> None:
        """Do it again."""
        ...


@dataclass(frozen=True, slots=True)
class EagerReplay:
    """Work that is launched anew every time: the same on any device, without the gain."""

    body: Callable[[], None]

    def __call__(self) -> None:
        """Run the body."""
        self.body()


class CudaReplay:
    """A body as one CUDA graph.

    Torch's default generator is registered with a graph by torch itself, so that dropout draws what it draws in eager mode.
    All graphs of a process share one memory pool: they are never replayed at the same time, and nothing inside lives on.

    Args:
        body: free of waits for the device; everything that it leaves behind lies in memory allocated before.
        device: a CUDA device.
        rewind: called before each warm-up, so that counters stay within what they count.
    """

    def __init__(
        self, body: Callable[[], None], device: torch.device, *, rewind: Callable[[], None]
    ) -> None:
        with torch.cuda.device(device):
            side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(WARM_STEPS):
                    rewind()
                    body()
            torch.cuda.current_stream(device).wait_stream(side)
            rewind()
            self.graph = torch.cuda.CUDAGraph()
            # thread_local: what another thread of the worker asks of the device does not spoil the
            # recording
            with torch.cuda.graph(
                self.graph, pool=_pool(device), capture_error_mode="thread_local"
            ):
                body()

    def __call__(self) -> None:
        """Launch the graph on the current stream."""
        self.graph.replay()


_POOLS: dict[torch.device, Any] = {}


def _pool(device: torch.device) -> Any:
    if device not in _POOLS:
        _POOLS[device] = torch.cuda.graph_pool_handle()
    return _POOLS[device]


class Recorder(Protocol):
    """Makes a replay of a body; see `record`."""

    def __call__(
        self, body: Callable[[], None], device: torch.device, *, rewind: Callable[[], None]
    ) -> Replay:
        """Record."""
        ...


def record(body: Callable[[], None], device: torch.device, *, rewind: Callable[[], None]) -> Replay:
    """Record a body on its device. It has been run when this returns, so that state has to be put back by the caller."""
    if device.type == "cuda":
        return CudaReplay(body, device, rewind=rewind)
    rewind()
    body()
    return EagerReplay(body)


def wait(device: torch.device | str) -> None:
    """Wait until the device has done all it was told; a CPU always has."""
    device = torch.device(device)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def kept(step: Step) -> Iterator[None]:
    """Put back, at the end, all that steps change: weights, moments, log, and torch's default generators."""
    before = [(tensor, tensor.detach().clone()) for tensor in step.state()]
    done = step.done
    devices = [step.device] if step.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), modes_kept(step.model):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        step.done = done


# --- what a recorded step reads
# ---------------------------------------------------------------------------------------


class Resident:
    """Batches of a ``TrainLoader`` whose images lie on the device: gathered and augmented inside the recording.

    The epoch's order and draws are copied into buffers that stay, and a counter on the device says which rows are next, so that
    a step needs nothing from the host.
    """

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader
        self.whole = len(loader.images_NCHW) // loader.batch_size  # batches of full size an epoch
        self.drawn = loader.draw()
        self.next_1 = torch.zeros(1, dtype=torch.int64, device=loader.device)
        self.row_B = torch.arange(loader.batch_size, device=loader.device)

    def bind(self, loader: Iterable[Any]) -> None:
        """Take the order and the draws from another loader of the same images and operations from now on.

        Raises:
            UsageError: it is not such a loader.
        """
        if not isinstance(loader, TrainLoader) or _shape(loader) != _shape(self.loader):
            raise UsageError(
                "this loader is not of the kind that the step was recorded with",
                "record another program",
            )
        self.loader = loader

    def start(self) -> None:
        """Draw the epoch and go to its first batch."""
        drawn = self.loader.draw()
        self.drawn.order_N.copy_(drawn.order_N)
        for name, parts in drawn.draws.items():
            for mine, new in zip(self.drawn.draws[name], parts, strict=True):
                mine.copy_(new)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first batch."""
        self.next_1.zero_()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next batch and move on."""
        loader, rows_B = self.loader, self.next_1 + self.row_B
        index_B = self.drawn.order_N.index_select(0, rows_B)
        rows = {
            name: tuple(part.index_select(0, rows_B) for part in parts)
            for name, parts in self.drawn.draws.items()
        }
        x_BCHW = loader.augmented(loader.images_NCHW.index_select(0, index_B), rows)
        self.next_1 += loader.batch_size
        return loader.finished(x_BCHW, loader.labels_N.index_select(0, index_B), rows)

    def rest(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the smaller batch that is left at the epoch's end, if there is one."""
        yield from self.loader.batches(self.drawn, start=self.whole * self.loader.batch_size)


def _shape(loader: TrainLoader) -> tuple[object, ...]:
    ops = tuple((op.name, getattr(op, "border", "")) for op in loader.ops)
    return (
        loader.images_NCHW.data_ptr(),
        loader.images_NCHW.shape,
        loader.batch_size,
        ops,
        loader.dtype,
        loader.memory_format,
    )


class Handed:
    """Batches of any loader, copied into a buffer that stays."""

    def __init__(self, x_NCHW: Tensor, target: Tensor) -> None:
        self.x_NCHW, self.target = x_NCHW.clone(), target.clone()

    def fits(self, x_NCHW: Tensor, target: Tensor) -> bool:
        """Return whether a batch has the shapes and dtypes of the buffer."""
        mine, theirs = (self.x_NCHW, self.target), (x_NCHW, target)
        return all(
            (a.shape, a.dtype) == (b.shape, b.dtype) for a, b in zip(mine, theirs, strict=True)
        )

    def put(self, x_NCHW: Tensor, target: Tensor) -> None:
        """Lay the next batch ready."""
        self.x_NCHW.copy_(x_NCHW, non_blocking=True)
        self.target.copy_(target, non_blocking=True)

    def rewind(self) -> None:
        """Do nothing: there is one batch."""

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return what was put last."""
        return self.x_NCHW, self.target
