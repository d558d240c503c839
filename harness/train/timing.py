"""How long a trial will take, from a few steps of it, and how many to run side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from harness import errors
from harness.errors import HarnessError, TrialError, UsageError
from harness.study.recipe import Recipe
from harness.study.trial import curve_images
from harness.train import devices
from harness.train.arithmetic import prepare
from harness.train.capture import wait
from harness.train.check import engine_for
from harness.train.engine import Choice, Program
from harness.train.loop import evaluate
from harness.train.model import cost_of
from harness.train.own import table_of
from harness.train.parts import CLEAN_IMAGES, Loaders, arena, place, step_settings
from harness.train.step import Step

# seconds: below it, threads wait for each other more than they work, and on a busy machine far more
_SMALL_STEP = 0.05
_WORTH = 0.9  # threads must beat processes by more than the timing's noise
_TEST_IMAGES = 10_000  # of a data set that is not here, as CIFAR-10 has them
_ROOM = 20_000  # steps, more than are ever timed
_AT_ONCE = 50  # steps of a recorded program that are timed together
_LONG_CALL = 2.0  # seconds: of such a call the first says enough, warm-up or not
# of steps and of evaluation each: enough for 10 % on a laptop, too little to be felt
_SAMPLE_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Timing:
    """Estimated cost of one trial, from ``steps`` timed steps.

    Attributes:
        seconds: of a whole trial, evaluation and test included, data already loaded.
        images_per_second: of training.
        step_seconds: of one training step.
        steps: that were timed, after warm-up.
        threads: CPU threads it ran with.
        mflops_per_second: counted operations of training (forward and backward) a second, in
            millions.
    """

    seconds: float
    images_per_second: float
    step_seconds: float
    steps: int
    threads: int
    mflops_per_second: float


@dataclass(frozen=True, slots=True)
class Layout:
    """How trials are run on this machine: ``workers`` processes of ``threads`` threads, and why."""

    workers: int
    threads: int
    devices: tuple[str, ...]
    why: str
    timing: Timing
    engine: str = "eager"
    why_engine: str = ""
    precision: str = ""  # of the arithmetic, where only the device could say it


def time_trial(
    recipe: Recipe, *, device: str = "cpu", threads: int = 1, engine: str = "auto"
) -> Timing:
    """Time some steps and some evaluation of a recipe and extrapolate to the whole trial."""
    torch.set_num_threads(threads)
    prepare(device)
    ground = arena(recipe.data, device)
    model, memory_format = place(recipe, ground, device, seed=0)
    loaders = Loaders.of(recipe, ground, 0, memory_format)
    settings, table = step_settings(recipe, device), table_of(recipe.schedule, _ROOM)
    scores = None
    model.train()
    if engine_for(recipe, device, engine).name == "graph":
        program = Program(model, settings, loaders.train, room=_ROOM)
        program.begin(table, settings, loaders.train)
        scores = program.scores
        # steps share the draws that an epoch starts with
        at_once = min(len(loaders.train), _AT_ONCE)

        def train_one() -> None:
            program.epoch(loaders.train, at_once)
    else:
        step, batches, at_once = Step(model, table, settings, trusted=True), _endless(loaders), 1

        def train_one() -> None:
            step(*next(batches))

    # two batches: evaluation is the same operation over and over
    sample = [batch for batch, _ in zip(loaders.val, range(2), strict=False)]
    per_call, calls = _timed(train_one, device, warm=3)
    per_step, steps = per_call / at_once, calls * at_once
    per_sample, _ = _timed(
        lambda: evaluate(model, sample, precision=settings.precision, scores=scores), device, warm=1
    )
    per_image = per_sample / sum(len(labels_B) for _, labels_B in sample)
    # images that are only evaluated: those of the curves in every epoch, the rest at the end
    still_an_epoch = len(loaders.probe.labels_N) + len(loaders.curve.labels_N)
    at_the_end = sum(len(part.labels_N) for part in (loaders.val, loaders.test, loaders.clean))
    still = recipe.train.epochs * still_an_epoch + at_the_end
    seconds = recipe.train.epochs * len(loaders.train) * per_step + still * per_image
    images = min(recipe.train.batch_size, len(ground.split.train_labels_N))
    channels, side, _ = ground.shape
    _, mflop = cost_of(
        recipe.model, in_channels=channels, side=side, classes=len(ground.split.classes)
    )
    return Timing(seconds, images / per_step, per_step, steps, threads, mflop * images / per_step)


@dataclass(frozen=True, slots=True)
class TimedApart:
    """What another process found.

    A trial's timing, whether the images fit the device, and its arithmetic.
    """

    timing: Timing
    resident: bool
    precision: str


# what training code prints comes before the answer, which is the last line
_BOOT = (
    "import json,sys; asked=json.loads(sys.stdin.readline()); sys.path[:]=asked['path']; "
    "from harness.train.timing import answer; text=answer(asked); print(); print(text)"
)


def time_apart(recipe: Recipe, *, device: str, engine: str = "auto") -> TimedApart:
    """Time a trial as `time_trial` does, in a process that then ends.

    A process keeps its CUDA context, and what torch reserved, until it ends: the planner, which
    lives as long as the workers, would hold memory of their GPU.

    Raises:
        HarnessError: as in `time_trial`.
        TrialError: the process died.
    """
    asked = {
        "path": sys.path,
        "recipe": recipe.model_dump(mode="json"),
        "device": device,
        "engine": engine,
    }
    command = [sys.executable, "-c", _BOOT]
    done = subprocess.run(  # noqa: S603 - this Python, a constant program
        command, input=json.dumps(asked) + "\n", capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise TrialError(
            f"timing a few steps on {device} failed: {last}",
            "`harness doctor` says whether the device computes",
        )
    said = json.loads(lines[-1])
    if "error" in said:
        raise getattr(errors, said["kind"], UsageError)(said["error"], said["hint"])
    return TimedApart(Timing(**said["timing"]), said["resident"], said["precision"])


def answer(asked: Mapping[str, Any]) -> str:
    """Be the process of `time_apart`: time what was asked for and return the answer as one line."""
    recipe, device = Recipe.model_validate(asked["recipe"]), asked["device"]
    said: dict[str, Any]
    try:
        timing = time_trial(recipe, device=device, threads=1, engine=asked["engine"])
        said = {"timing": asdict(timing), "resident": arena(recipe.data, device).resident}
        said["precision"] = step_settings(recipe, device).precision
    except HarnessError as error:
        said = {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
    return json.dumps(said)


def extrapolate(
    recipe: Recipe, shape: tuple[int, int, int], classes: int, images: int, rate: float
) -> float:
    """Return a rough guess at a trial's seconds, for images that are not here.

    It goes by counted operations.

    Args:
        recipe: whose trial it is.
        shape: (channels, height, width) of an image.
        classes: number of classes.
        images: of the whole training set, before the validation images are taken.
        rate: MFLOP a second, as ``Timing.mflops_per_second`` of another recipe on this machine.
    """
    side = recipe.data.size or shape[1]
    _, mflop = cost_of(recipe.model, in_channels=shape[0], side=side, classes=classes)
    train = recipe.data.train or max(images - recipe.data.val, 1)
    curve = curve_images(train=train, val=recipe.data.val, test=_TEST_IMAGES)
    still = (
        recipe.train.epochs * (curve + min(curve, train))
        + recipe.data.val
        + _TEST_IMAGES
        + min(train, CLEAN_IMAGES)
    )
    # forward alone is a third of forward and backward
    return (recipe.train.epochs * train + still / 3) * mflop / rate


def choose_layout(
    recipe: Recipe, *, device: str = "auto", workers: int | None = None, engine: str = "auto"
) -> Layout:
    """Decide devices, processes and threads a process for a study's trials.

    On GPUs: one process each. On a CPU: one process a core with one thread each, unless timed steps
    show that one process of all cores finishes more trials an hour.

    Args:
        recipe: a typical trial of the study, such as the baseline's.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        workers: number of processes, or None to choose.
        engine: auto, eager or graph, the same for every worker.

    Raises:
        UsageError: the engine cannot run on the device.
    """
    if device == "auto":
        device = devices.auto()
    chosen = engine_for(recipe, device, engine)
    make = _layout if devices.kind_of(device) in ("cpu", "cuda") else _accelerator_layout
    layout = make(recipe, device, workers, chosen)
    precision = layout.precision or step_settings(recipe, device).precision
    # what the recipe says is in the plan; what comes of it on this device is not
    asked = recipe.train.precision
    why = chosen.why if asked == precision else f"{chosen.why}; arithmetic: {precision}"
    return replace(layout, engine=chosen.name, why_engine=why, precision=precision)


def _layout(recipe: Recipe, device: str, workers: int | None, engine: Choice) -> Layout:
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if device == "cuda" else 1
        places = tuple(f"cuda:{i}" for i in range(count)) if device == "cuda" else (device,)
        # all GPUs of a machine are taken to be alike: the first stands for them
        timed = time_apart(recipe, device=places[0], engine=engine.name)
        why = "one process a GPU" if workers is None else "as asked"
        if not timed.resident:
            why += "; images streamed from host memory, too many for the device's"
        return Layout(
            workers or count,
            recipe.train.threads or 1,
            places,
            why,
            timed.timing,
            precision=timed.precision,
        )
    cores = usable_cores()
    if workers is not None or recipe.train.threads:
        chosen = workers or max(1, cores // recipe.train.threads)
        # not a share of the cores: the number of workers must not change a result
        threads = recipe.train.threads or 1
        return Layout(chosen, threads, ("cpu",), "as asked", time_trial(recipe, threads=threads))
    single = time_trial(recipe, threads=1)
    if cores == 1:
        return Layout(1, 1, ("cpu",), "one core", single)
    # threads would wait for each other longer than they compute: not worth timing
    if single.step_seconds < _SMALL_STEP:
        return Layout(
            cores,
            1,
            ("cpu",),
            f"steps of {1000 * single.step_seconds:.0f} ms are too short to gain from {cores} threads",
            single,
        )
    # one process of all cores against as many processes of one: what finishes more trials an hour
    every = time_trial(recipe, threads=cores)
    if every.seconds * cores < single.seconds * _WORTH:
        return Layout(
            1,
            cores,
            ("cpu",),
            f"a trial on {cores} threads is {single.seconds / every.seconds:.1f}x as fast",
            every,
        )
    gain = single.seconds / every.seconds
    said = f"only {gain:.1f}x as fast" if gain >= 1.05 else "no faster"
    return Layout(cores, 1, ("cpu",), f"a trial on {cores} threads is {said}", single)


def _accelerator_layout(recipe: Recipe, device: str, workers: int | None, engine: Choice) -> Layout:
    """Return the layout of an accelerator that is not CUDA.

    One process each, as nothing else was ever tried.
    """
    count = devices.number_of(device) if device == "xpu" else 1
    places = tuple(f"xpu:{index}" for index in range(count)) if device == "xpu" else (device,)
    timing = time_trial(recipe, device=places[0], threads=1, engine=engine.name)
    precision = step_settings(recipe, device).precision
    why = f"one process each, in {precision}" if workers is None else f"as asked, in {precision}"
    return Layout(workers or count, recipe.train.threads or 1, places, why, timing)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def _endless(loaders: Loaders) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loaders.train


def _timed(call: Callable[[], object], device: str, *, warm: int) -> tuple[float, int]:
    """Return (median seconds a call, number of timed calls).

    A call that takes seconds is made once.
    """
    started = time.perf_counter()
    call()
    wait(device)
    first = time.perf_counter() - started
    # a slow machine or a large net: three more calls would tell the user nothing that one does not
    if first > _LONG_CALL:
        return first, 1
    for _ in range(warm - 1):
        call()
    seconds: list[float] = []
    while sum(seconds) < _SAMPLE_SECONDS or len(seconds) < 3:
        wait(device)
        started = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2], len(seconds)


def count_gpus() -> int:
    """Return how many CUDA devices torch sees."""
    return torch.cuda.device_count()


def has_gpu() -> bool:
    """Return whether torch sees a CUDA device."""
    return torch.cuda.is_available()
