"""Engines: what drives the steps of a run.

``eager`` launches every operation of a step from Python. ``graph`` records one whole step (draws
looked up, images gathered and augmented, forward, loss, backward, clipping, update, log) as a CUDA
graph and replays it: one launch a step instead of the 325 that were counted for the reference net.
A recorded step is a `Program`: it owns a net, its optimiser state and the buffers that it reads,
all at addresses that stay. A trial copies its fresh weights, its schedule and its numbers in; what
is recorded serves every trial of the same structure, architecture and batch size. Evaluation is
recorded, too. The mathematics are those of ``Step`` in both engines; what differs is who launches
it.

Legend: N batch, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
import os
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.errors import UsageError, did_you_mean, out_of_memory
from harness.train.capture import (
    WARM_STEPS,
    Handed,
    Lane,
    RecordFunc,
    Replay,
    Resident,
    kept,
    record,
    release,
    wait,
)
from harness.train.devices import overlaps
from harness.train.first_batch import checked_batch
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.modes import begin_training, modes_kept
from harness.train.scores import RecordedScores, Scores, first_of_each_shape
from harness.train.step import FLAT_OPTIMIZERS, OptFunc, Step, StepSettings

ENGINES = ("auto", "eager", "graph")
# environment variable that stands in for the option where a worker is started by others
VARIABLE = "HARNESS_ENGINE"
_LEAST_ROOM = (
    # steps that a program has room for; above it the next power of two, so that a longer run seldom
    # records anew
    1024
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that runs, and why it does."""

    name: Literal["eager", "graph"]
    why: str


def choose(
    device: torch.device | str,
    asked: str = "auto",
    opt_func: OptFunc = torch.optim.Adam,
    *,
    obstacle: str = "",
) -> Choice:
    """Return the engine for a device.

    Args:
        device: that training runs on.
        asked: auto, eager or graph; auto takes the environment variable ``HARNESS_ENGINE`` when
            that is set.
        opt_func: the optimiser; only those of ours can be recorded.
        obstacle: what keeps the step from being recorded, in words; empty when nothing does.

    Raises:
        UsageError: there is no such engine, the graph engine has no CUDA device, or there is an
            obstacle to it.
    """
    if asked == "auto":
        asked = os.environ.get(VARIABLE) or "auto"
    if asked not in ENGINES:
        raise UsageError(
            f"there is no engine {asked!r}{did_you_mean(asked, ENGINES)}",
            f"one of {', '.join(ENGINES)}",
        )
    cuda = torch.device(device).type == "cuda"
    if asked == "graph" and not cuda:
        raise UsageError(
            f"the graph engine records CUDA graphs, and the device is {device}",
            "use the eager engine",
        )
    if asked == "graph" and obstacle:
        raise UsageError(
            f"the graph engine cannot record this recipe: {obstacle}", "use the eager engine"
        )
    if asked != "auto":
        return Choice("graph" if asked == "graph" else "eager", "as asked")
    if cuda and opt_func not in FLAT_OPTIMIZERS:
        return Choice(
            "eager", "this optimiser's numbers change on the host, which a graph would freeze"
        )
    if cuda and obstacle:
        return Choice("eager", obstacle)
    if cuda:
        return Choice("graph", "a CUDA graph launches the whole step at once")
    return Choice("eager", "CUDA graphs need a CUDA device")


# --- drivers


class Driver(ABC):
    """Runs the epochs of one training: the one loop over batches, whoever launches the steps.

    Attributes:
        step: the training step.
        scores: what adds up the batches of an evaluation.
        warm_seconds: spent on first calls and recordings.
    """

    step: Step
    scores: Scores
    warm_seconds: float = 0.0

    def epoch(self, loader: Iterable[Any], steps: int) -> int:
        """Run one epoch of exactly ``steps`` steps; return the number of images seen."""
        begin_training(self.step.model)
        seen = taken = 0
        # draws no batch more: a loader may be one endless stream
        for images in itertools.islice(self._batches(loader), steps):
            seen += images
            taken += 1
        if taken < steps:
            raise UsageError(
                f"the training loader gave {taken} batches where {steps} were planned",
                "it must give as many in every epoch; steps_per_epoch= says how many",
            )
        return seen

    def warm_scores(self, loader: Iterable[Any]) -> None:
        """Evaluate a batch of each shape and forget it, where a loader is ours.

        Only ours are known to give the same batches twice.
        """
        if not isinstance(loader, EvalLoader):
            return
        started = time.perf_counter()
        with modes_kept(self.step.model), torch.no_grad():
            self.step.model.eval()
            for x_NCHW, labels_N in first_of_each_shape(loader):  # on the device, as ours are
                self.scores.add(x_NCHW, labels_N)
        self.scores.start()
        wait(self.step.device)
        self.warm_seconds += time.perf_counter() - started

    @abstractmethod
    def _batches(self, loader: Iterable[Any]) -> Iterator[int]:
        """Train on one batch after the other, as asked for; yield the number of images of each."""


class Eager(Driver):
    """The eager engine."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.scores = Scores(step.model, step.settings.precision)

    def warm_up(self, loader: TrainLoader) -> None:
        """Take some steps, of every size that the epoch has, and take them back.

        First calls are not counted as training.
        """
        if self.step.optimizer is not None and not hasattr(self.step.optimizer, "load_state_dict"):
            return  # what such an optimiser remembers could not be taken back

        started = time.perf_counter()
        with kept(self.step):
            begin_training(self.step.model)
            drawn = loader.draw()
            # the smaller batch at the end has shapes of its own, and kernels that are chosen for it
            rest = loader.batches(
                drawn, start=len(loader.images_NCHW) // loader.batch_size * loader.batch_size
            )
            whole = itertools.islice(loader.batches(drawn), min(WARM_STEPS, self.step.room - 1))
            for batch in itertools.chain(whole, rest):
                self.step(*batch)
        wait(self.step.device)
        self.warm_seconds += time.perf_counter() - started

    def _batches(self, loader: Iterable[Any]) -> Iterator[int]:
        for batch in loader:
            x_NCHW, target = placed(batch, self.step, loader)
            self.step(x_NCHW, target)
            yield len(x_NCHW)


class Program(Driver):
    """A recorded step with the net and the state that it works on.

    Args:
        model: the net, in its final place, dtype and memory format; its weights stay as they are.
        settings: of the step; their numbers are replaced by `begin`, what they switch on and off is
            recorded.
        loader: a ``TrainLoader`` of images on the device is recorded with the step; batches of any
            other are copied in, and the recording is made when the first arrives.
        room: steps that the longest run may have.

    Attributes:
        recordings: how many were made of the step.
        scores: evaluation of the net, recorded too.
        warm_seconds: spent on recordings and first calls.

    Raises:
        UsageError: the optimiser is none of Adam, AdamW and SGD of torch.optim, whose arithmetic is
            not ours to record.
    """

    scores: RecordedScores

    def __init__(
        self,
        model: nn.Module,
        settings: StepSettings,
        loader: Iterable[Any],
        *,
        room: int,
        recorder: RecordFunc = record,
    ) -> None:
        if settings.opt_func not in FLAT_OPTIMIZERS:
            name = getattr(settings.opt_func, "__name__", repr(settings.opt_func))
            raise UsageError(
                f"the graph engine cannot record {name}, whose numbers change on the host",
                "use torch.optim.Adam, AdamW or SGD, or the eager engine",
            )
        self.model = model
        # whose labels were checked when the images were read
        ours = isinstance(loader, TrainLoader)
        self.step = Step(model, [(0.0, 0.9)], settings, room=room, trusted=ours)
        self.recordings = 0
        self._recorder, self._lane = recorder, Lane()
        self.scores = RecordedScores(model, settings.precision, recorder=recorder, lane=self._lane)
        self._replay: Replay | None = None
        self._feed: Resident | Handed | None = None
        if (
            isinstance(loader, TrainLoader)
            and loader.resident
            and len(loader.images_NCHW) >= loader.batch_size
        ):
            self._record(Resident(loader))

    def load(self, fresh: nn.Module) -> None:
        """Copy the weights and buffers of another net of the same architecture in.

        Dropout rates are buffers too.
        """
        with torch.no_grad():
            for mine, new in (
                *zip(self.model.parameters(), fresh.parameters(), strict=True),
                *zip(self.model.buffers(), fresh.buffers(), strict=True),
            ):
                mine.copy_(new, non_blocking=True)

    @property
    def peak_bytes(self) -> int:
        """The most memory that a trial takes.

        What its recordings use and keep, and what the largest takes while it runs.

        Measured when they were made, so that it is the same for every trial and whatever else the
        process holds. 0 on a CPU.
        """
        replays = [replay for replay in (self._replay, *self.scores.replays) if replay is not None]
        used = {
            storage.data_ptr(): storage.nbytes() for replay in replays for storage in replay.held
        }
        most = max((replay.peak_bytes for replay in replays), default=0)
        return sum(used.values()) + most if most else 0

    def begin(
        self, schedule: Sequence[tuple[float, float]], settings: StepSettings, loader: Iterable[Any]
    ) -> None:
        """Start a run on the weights as they are: its schedule, its numbers, its loader.

        Raises:
            UsageError: schedule, settings or loader are not of the kind that was recorded.
        """
        self.step.reset(schedule, settings)
        if isinstance(self._feed, Resident):
            self._feed.bind(loader)

    def _batches(self, loader: Iterable[Any]) -> Iterator[int]:
        if isinstance(self._feed, Resident):
            return self._replayed(self._feed)
        return self._handed(loader)

    def _replayed(self, feed: Resident) -> Iterator[int]:
        feed.start()
        for _ in range(feed.whole):
            self._again()
            yield feed.recorded.batch_size
        # of another size than what was recorded
        for x_NCHW, target in feed.rest():
            self.step(x_NCHW, target)
            yield len(x_NCHW)

    def _handed(self, loader: Iterable[Any]) -> Iterator[int]:
        for batch in loader:
            x_NCHW, target = placed(batch, self.step, loader)
            feed = self._feed or self._record(Handed(x_NCHW, target))
            if isinstance(feed, Handed) and feed.fits(x_NCHW, target):
                feed.put(x_NCHW, target)
                self._again()
            else:
                self.step(x_NCHW, target)
            yield len(x_NCHW)

    def _again(self) -> None:
        if self._replay is None:  # pragma: no cover - there is a feed only after a recording
            return
        self._replay()
        self.step.done += 1

    def _record(self, feed: Resident | Handed) -> Resident | Handed:
        wait(self.step.device)
        started = time.perf_counter()

        def rewind() -> None:
            self.step.at.zero_()
            feed.rewind()

        def body() -> None:
            self.step.compute(*feed.batch())

        with kept(self.step):
            begin_training(self.model)
            self._replay = self._recorder(body, self.step.device, rewind=rewind, lane=self._lane)
            # the smaller batch at an epoch's end is launched from Python: on a GPU its first call
            # is slow, too
            for batch in feed.rest() if self.step.device.type == "cuda" else ():
                self.step.compute(*batch)
        feed.rewind()
        wait(self.step.device)
        self._feed = feed
        self.recordings += 1
        self.warm_seconds += time.perf_counter() - started
        return feed


# the shipped studies have up to nine structures, and cells run seed by seed: with fewer kept, every
# trial would record
KEEP = 16
_SPARE = 0.25  # share of the device's memory that has to be free before more are kept


def has_room(device: torch.device) -> bool:
    """Return whether a device has memory for one more program beyond those that are always kept."""
    if device.type != "cuda":
        return False
    # asked of the driver: other processes take memory of the same GPU
    free, total = torch.cuda.mem_get_info(device)
    # what torch has reserved and does not use is free, too
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + idle > _SPARE * total


class Programs:
    """The programs of a process by what was recorded.

    Those used longest ago go where memory is short.

    Args:
        keep: so many stay as long as there is any memory for a new one.
        room: whether a device has memory for more than those.
    """

    def __init__(self, keep: int = KEEP, room: Callable[[torch.device], bool] = has_room) -> None:
        self.keep, self.room = keep, room
        self._kept: OrderedDict[Hashable, Program] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Program]) -> Program:
        """Return the program of a key, made when there is none yet.

        Raises:
            torch.OutOfMemoryError: it does not fit the device even alone.
        """
        program = self._kept.pop(key, None)
        if program is None:
            while len(self._kept) >= self.keep and not self.room(self._oldest.step.device):
                self._drop_oldest()
            program = self._made(make)
        self._kept[key] = program
        return program

    def clear(self) -> None:
        """Forget them all, and with them their memory."""
        self._kept.clear()

    @property
    def _oldest(self) -> Program:
        return next(iter(self._kept.values()))

    def _drop_oldest(self) -> None:
        self._kept.popitem(last=False)

    def _made(self, make: Callable[[], Program]) -> Program:
        """Make a program, giving up the oldest ones one by one while memory runs out."""
        while self._kept:
            try:
                return make()
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            # outside of the except: the error's traceback holds the memory of the attempt
            self._drop_oldest()
            release()
        return make()


def room_for(steps: int) -> int:
    """Return the room that a program for runs of ``steps`` steps is made with."""
    return max(_LEAST_ROOM, 1 << (steps - 1).bit_length())


def placed(batch: Any, step: Step, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """Return a training batch on the device. Batches of our own loader need no look."""
    if isinstance(loader, TrainLoader):
        images, labels = batch
        return images.to(step.device, non_blocking=overlaps(step.device)), labels.to(
            step.device, non_blocking=overlaps(step.device)
        )
    own = step.settings.loss_func is not None
    return checked_batch(
        batch, step.device, where="the training loader", classes=step.classes, own=own
    )
