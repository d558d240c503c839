"""Recording a step, and what a recorded step reads. ``harness.train.engine`` says what for.

Everything but `CudaReplay` runs on a CPU too, where `EagerReplay` calls what would have been
recorded.

Legend: N images, B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from harness.errors import UsageError
from harness.train.devices import empty_cache
from harness.train.dispatch import OperationWatch
from harness.train.loaders import TrainLoader
from harness.train.modes import modes_kept
from harness.train.step import Step

# before a recording: libraries choose their kernels and allocate their workspaces at the first
# calls
WARM_STEPS = 3


class Replay(Protocol):
    """Recorded work that can be done again, on the same memory."""

    held: tuple[torch.UntypedStorage, ...]  # what it uses and did not make
    peak_bytes: int  # what it takes while it runs, above what it finds; 0 where nobody counts

    def __call__(self) -> None:
        """Do it again."""
        ...


class Accesses(OperationWatch):  # type: ignore[no-untyped-call]  # torch left it untyped
    """Collects the memory that a body uses and did not make itself.

    What a recording of it goes on using.

    Attributes:
        outside: that memory by its address, held for as long as this dictionary is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outside: dict[int, torch.UntypedStorage] = {}
        # weak: holding what the body made would add up all its intermediate results
        self._made: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and note whose memory goes in and whose comes out."""
        for storage in _storages((args, kwargs)):
            if self._made.get(_identity(storage)) is None:
                self.outside[_identity(storage)] = storage

        out = func(*args, **(kwargs or {}))

        # views and results written in place are of memory that is known by now
        for storage in _storages(out):
            identity = _identity(storage)
            if identity not in self.outside and identity not in self._made:
                self._made[identity] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        return out


def _identity(storage: torch.UntypedStorage) -> int:
    """Return what no other living storage has; unlike an address, one of no bytes has it too."""
    return int(storage._cdata)  # noqa: SLF001 - it has no public name


def _storages(tree: object) -> Iterator[torch.UntypedStorage]:
    if isinstance(tree, Tensor):
        yield tree.untyped_storage()
    elif isinstance(tree, dict):
        yield from _storages(tuple(tree.values()))
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from _storages(branch)


class EagerReplay:
    """Work that is launched from Python every time: the same on any device, without the gain.

    Args:
        body: the work.
        held: memory that it uses and did not make, kept for as long as this replay.
    """

    def __init__(
        self, body: Callable[[], None], held: Collection[torch.UntypedStorage] = ()
    ) -> None:
        self.body, self.held, self.peak_bytes = body, tuple(held), 0

    def __call__(self) -> None:
        """Run the body."""
        self.body()


class Lane:
    """Where one program warms up and records: a stream and a pool of memory of its own.

    Libraries keep a workspace a stream, and the death of a graph frees those of its stream
    (pytorch/pytorch#193402), so that programs that live and die apart must not share one. A pool
    lends its memory only within a stream.
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._graphs: WeakSet[CudaReplay] = WeakSet()  # those that live
        self._pool: Any = None

    def stream(self, device: torch.device) -> torch.cuda.Stream:
        """Return the program's stream, made at the first call."""
        if self._stream is None:
            # torch deals out a fixed number of streams in turn: one that another program holds is
            # passed over; where programs hold all of them, two have to share
            make: Any = torch.cuda.Stream
            dealt = (make(device) for _ in range(_STREAMS))
            free = next((stream for stream in dealt if stream not in _TAKEN), None)
            self._stream = make(device) if free is None else free
            _TAKEN.add(self._stream)
        return self._stream

    def pool(self) -> Any:
        """Return the pool of the program's graphs.

        It dies with the last of them: then the next one needs a new handle.
        """
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool

    def add(self, replay: CudaReplay) -> None:
        """Note that a graph lives in the pool."""
        self._graphs.add(replay)


_STREAMS = 32  # that torch has for each device
_TAKEN: WeakSet[Any] = WeakSet()  # streams of living programs


class CudaReplay:
    """A body as one CUDA graph.

    Torch's default generator is registered with a graph by torch itself, so that dropout draws what
    it draws in eager mode. A graph reads addresses and keeps nothing alive: this object holds all
    memory that the body uses and did not make.

    Args:
        body: free of waits for the device; everything that it leaves behind lies in memory
            allocated before.
        device: a CUDA device.
        rewind: called before each warm-up, so that counters stay within what they count.
        lane: of the program that records.
    """

    def __init__(
        self,
        body: Callable[[], None],
        device: torch.device,
        *,
        rewind: Callable[[], None],
        lane: Lane,
    ) -> None:
        self.body, self.lane = body, lane
        with torch.cuda.device(device):
            before, stream = torch.cuda.current_stream(device), lane.stream(device)
            stream.wait_stream(before)
            with torch.cuda.stream(stream):
                for _ in range(WARM_STEPS - 1):
                    rewind()
                    body()
                rewind()
                self.held, self.peak_bytes = _measured(body, device)
            before.wait_stream(stream)

            rewind()
            self.graph = torch.cuda.CUDAGraph()
            graph = torch.cuda.graph(
                self.graph,
                pool=lane.pool(),
                stream=stream,
                # what another thread of the worker asks of the device does not spoil the recording
                capture_error_mode="thread_local",
            )
            # the outer one puts the stream back: a recording that fails at its start leaves its own
            # one current
            with torch.cuda.stream(before), graph:
                body()
        lane.add(self)

    def __call__(self) -> None:
        """Launch the graph on the current stream."""
        self.graph.replay()


def _measured(
    body: Callable[[], None], device: torch.device
) -> tuple[tuple[torch.UntypedStorage, ...], int]:
    """Run a body; return the memory that it uses and did not make, and the bytes that it takes.

    The bytes are counted above what it finds.

    Not the first call, in which libraries may try kernels and take memory for that.
    """
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    there = torch.cuda.memory_allocated(device)
    with Accesses() as accesses:
        body()
    wait(device)
    return tuple(accesses.outside.values()), torch.cuda.max_memory_allocated(device) - there


class RecordFunc(Protocol):
    """Makes a replay of a body; see `record`."""

    def __call__(
        self,
        body: Callable[[], None],
        device: torch.device,
        *,
        rewind: Callable[[], None],
        lane: Lane,
    ) -> Replay:
        """Record."""
        ...


def record(
    body: Callable[[], None], device: torch.device, *, rewind: Callable[[], None], lane: Lane
) -> Replay:
    """Record a body on its device.

    It has been run when this returns, so that state has to be put back by the caller.
    """
    if device.type == "cuda":
        return CudaReplay(body, device, rewind=rewind, lane=lane)
    rewind()
    with Accesses() as accesses:
        body()
    return EagerReplay(body, accesses.outside.values())


def wait(device: torch.device | str) -> None:
    """Wait until the device has done all its work; a CPU always has."""
    device = torch.device(device)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def release() -> None:
    """Give memory that nothing uses back to the accelerator, once what only cycles hold is gone."""
    gc.collect()
    empty_cache()


@contextmanager
def kept(step: Step) -> Iterator[None]:
    """Put back, at the end, all that steps change.

    Weights, moments, log, and torch's default generators.
    """
    before = [(tensor, tensor.detach().clone()) for tensor in step.state()]
    done, optimizer = step.done, step.optimizer
    # one of the user's may keep no state that can be read
    moments = (
        copy.deepcopy(optimizer.state_dict())
        if optimizer is not None and hasattr(optimizer, "state_dict")
        else None
    )
    devices = [step.device] if step.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), modes_kept(step.model):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        if optimizer is not None and moments is not None:
            optimizer.load_state_dict(moments)
        step.done = done


# --- what a recorded step reads


class Resident:
    """Batches of a ``TrainLoader`` whose images lie on the device.

    Gathered and augmented inside the recording.

    The epoch's order and draws are copied into buffers that stay, and a counter on the device says
    which rows are next, so that a step needs nothing from the host.

    Args:
        loader: recorded; its images, labels and constants are read by every replay and stay with
            this object.

    Attributes:
        loader: of the trial that runs: gives the orders and the draws.
    """

    def __init__(self, loader: TrainLoader) -> None:
        self.recorded = self.loader = loader
        self.whole = len(loader.images_NCHW) // loader.batch_size  # batches of full size an epoch
        self.drawn = loader.draw()
        self.next_1 = torch.zeros(1, dtype=torch.int64, device=loader.device)
        self.row_B = torch.arange(loader.batch_size, device=loader.device)

    def bind(self, loader: Iterable[Any]) -> None:
        """Take order and draws from another loader of the same images and operations from now on.

        Raises:
            UsageError: it is not such a loader.
        """
        if not isinstance(loader, TrainLoader) or _shape(loader) != _shape(self.recorded):
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
        loader, rows_B = self.recorded, self.next_1 + self.row_B
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
    places = (loader.images_NCHW.data_ptr(), loader.labels_N.data_ptr(), loader.images_NCHW.shape)
    return (*places, loader.constants, loader.batch_size, ops, loader.dtype, loader.memory_format)


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

    def rest(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: what other batches there are is not known."""
        yield from ()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return what was put last."""
        return self.x_NCHW, self.target
