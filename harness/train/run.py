"""One trial from a cell, from top to bottom: the runner that workers are handed.

Images, net, loaders (``harness.train.parts``), the recorded program where there is one, one-cycle
training (``harness.train.loop``), evaluation (``harness.train.judge``), the trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from harness.errors import DivergedError, out_of_memory
from harness.study.recipe import Recipe
from harness.study.trial import Cell, Curve, Outcomes, State, Trial
from harness.train import own, tensorboard
from harness.train.arithmetic import prepare
from harness.train.capture import release, wait
from harness.train.check import engine_for
from harness.train.devices import peak_mib, reset_peak
from harness.train.engine import Choice, Program, Programs, room_for
from harness.train.environment import environment
from harness.train.judge import judge
from harness.train.loaders import TrainLoader
from harness.train.loop import EpochEntry, fit_one_cycle
from harness.train.meter import Meter
from harness.train.model import cost_of
from harness.train.parts import Arena, Loaders, arena, place, step_settings

OnEpoch = Callable[[int, Mapping[str, float]], bool]
_CURVE = tuple(name for name in Curve.model_fields)
_SHOWN = ("val_accuracy", "val_loss", "train_accuracy", "online_loss")


def run(
    cell: Cell,
    *,
    device: str = "cpu",
    threads: int = 1,
    engine: str = "auto",
    metric: str = "",
    on_epoch: OnEpoch | None = None,
) -> tuple[Trial, Outcomes | None]:
    """Run one cell.

    Args:
        cell: recipe and seed.
        device: cpu, cuda, cuda:N, mps, xpu or xpu:N.
        threads: CPU threads; results are bit-equal only at the same number.
        engine: auto, eager or graph; see ``harness.train.engine.choose``.
        metric: yours, measured as well as ours: ``file.py:function``, or empty.
        on_epoch: called after each epoch with (epoch, {val_accuracy, val_loss, ...}); a true return
            ends the trial as pruned.

    Returns:
        The trial, complete, pruned or diverged, and for a complete one what the net did with each
        image.
    """
    chosen = engine_for(cell.recipe, device, engine)
    torch.set_num_threads(cell.recipe.train.threads or threads)
    try:
        return _run(cell, device, chosen, metric, on_epoch)
    except RuntimeError as error:
        if out_of_memory(error):  # the next trial may be a smaller one: it gets all there is
            _PROGRAMS.clear()
            release()
        raise


def _run(
    cell: Cell, device: str, chosen: Choice, metric: str, on_epoch: OnEpoch | None
) -> tuple[Trial, Outcomes | None]:
    """Run one cell with an engine: a trial from top to bottom."""
    recipe, seed = cell.recipe, cell.seed
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    prepare(device)
    reset_peak(device)

    # what the trial is made of: images that the study's trials share, a fresh net, loaders
    ground = arena(recipe.data, device)
    model, memory_format = place(recipe, ground, device, seed)
    loaders = Loaders.of(recipe, ground, seed, memory_format)

    # a recording reads the weights of the net that it was made with: fresh ones are copied in
    program = program_for(recipe, ground, loaders.train, model) if chosen.name == "graph" else None
    if program is not None:
        program.load(model)
        model = program.model
    meter = Meter(device)
    wait(device)

    # training; it ends early where the loss diverges or whoever listens says so
    listener = _Listener(cell, meter, on_epoch, start_seconds=time.perf_counter() - began)
    error = listener.train(model, loaders, program)
    history, state = listener.history, listener.state(error)
    peak = peak_mib(device, program.peak_bytes if program is not None else 0)

    # the test set is read once, by a net that trained to its end
    precision = step_settings(recipe, device).precision
    evaluating = sum(entry["eval_seconds"] for entry in history)
    metrics: dict[str, float] = {}
    outcomes = None
    if state == "complete":
        judging = time.perf_counter()
        metrics, outcomes = judge(model, loaders, history, precision, metric)
        evaluating += time.perf_counter() - judging

    params, mflop = _cost(recipe, ground)
    trained = history[-1]["seconds"] if history else 0.0
    images = len(history) * len(ground.split.train_labels_N)
    return Trial(
        cell=cell.key,
        seed=seed,
        recipe=recipe,
        state=state,
        error=error,
        metrics=metrics,
        epochs=len(history),
        train_seconds=trained,
        eval_seconds=evaluating,
        images_per_second=images / trained if trained else 0.0,
        peak_mib=peak,
        params=params,
        mflop_per_image=mflop,
        data_fingerprint=ground.split.fingerprint,
        environment=environment(device, precision, chosen.name),
        started=started,
        readings=listener.readings(device),
        curve=listener.curve(),
    ), outcomes


def _cost(recipe: Recipe, ground: Arena) -> tuple[int, float]:
    """Return (number of weights, MFLOP of one image forward and backward)."""
    channels, side, _ = ground.shape
    classes = len(ground.split.classes)
    return cost_of(recipe.model, in_channels=channels, side=side, classes=classes)


@dataclass(slots=True)
class _Listener:
    """Hears of every epoch of a trial.

    Keeps the history, reads the meter, asks whether to go on.
    """

    cell: Cell
    meter: Meter
    on_epoch: OnEpoch | None
    start_seconds: float
    history: list[EpochEntry] = field(default_factory=list)
    stopped: bool = False

    def train(self, model: nn.Module, loaders: Loaders, program: Program | None) -> str:
        """Train a net as the cell says; return why it diverged, empty where it did not."""
        log = tensorboard.log_of(self.cell)

        def keep(entry: EpochEntry) -> bool:
            if log is not None:
                log(entry)
            return self.hear(entry)

        try:
            fit(self.cell.recipe, model, loaders, self.cell.seed, keep, engine=program or "eager")
        except DivergedError as diverged:
            return diverged.message
        finally:
            if log is not None:
                log.close()
        return ""

    def hear(self, entry: EpochEntry) -> bool:
        """Take note of an epoch; return whether training is to end with it."""
        self.history.append(entry)
        self.meter.sample()
        # few enough to be sent to the planner after every epoch
        shown = {name: entry[name] for name in _SHOWN}
        self.stopped = self.on_epoch is not None and bool(self.on_epoch(entry["epoch"], shown))
        return self.stopped

    def state(self, error: str) -> State:
        """Return how training ended; a stop after the last epoch changes nothing."""
        if error:
            return "diverged"
        early = len(self.history) < self.cell.recipe.train.epochs
        return "pruned" if self.stopped and early else "complete"

    def curve(self) -> Curve:
        """Return the history as the trial keeps it."""
        columns = {name: tuple(float(entry[name]) for entry in self.history) for name in _CURVE}
        return Curve(**columns)

    def readings(self, device: str) -> dict[str, float]:
        """Return what the meter read, start_seconds, and on a CPU cpu_seconds."""
        times = {"start_seconds": self.start_seconds}
        if self.history:
            last = self.history[-1]
            times["start_seconds"] += last["warm_seconds"]
            # a processor only waits while a GPU works: its time there says nothing
            if torch.device(device).type == "cpu":
                times["cpu_seconds"] = last["cpu_seconds"]
        return times | self.meter.readings()


# one process trains the cells of a study one after the other: its recordings serve all of them
_PROGRAMS = Programs()


def program_for(recipe: Recipe, ground: Arena, loader: TrainLoader, model: nn.Module) -> Program:
    """Return this process's program for a recipe's structure, architecture and batch size.

    Recorded where there is none.

    Args:
        recipe: its numbers do not matter, but which of them are 0.
        ground: the images.
        loader: of the training images.
        model: a net of the recipe in its place; a new program takes it for its own.
    """
    # room for the longest run of this length's power of two, so that lengths share recordings
    settings = step_settings(recipe, loader.device)
    room = room_for(recipe.train.epochs * len(loader))
    key = program_key(recipe, loader, resident=ground.resident)
    return _PROGRAMS.get(key, lambda: Program(model, settings, loader, room=room))


def program_key(recipe: Recipe, loader: TrainLoader, *, resident: bool) -> Hashable:
    """Return what two trials must have in common to share a recording."""
    # dropout's rate is a tensor, so that only its presence is part of the structure
    numberless = recipe.model.model_copy(update={"dropout": float(recipe.model.dropout > 0)})
    operations = tuple((op.name, getattr(op, "border", "")) for op in loader.ops)
    # the images by their address: a program holds on to those that it was recorded with
    images = (loader.device, loader.images_NCHW.data_ptr(), resident)
    structure = step_settings(recipe, loader.device).structure
    room = room_for(recipe.train.epochs * len(loader))
    return (*images, numberless, loader.batch_size, operations, structure, room)


def fit(
    recipe: Recipe,
    model: nn.Module,
    loaders: Loaders,
    seed: int,
    on_epoch: Callable[[EpochEntry], Any],
    *,
    engine: str | Program = "eager",
) -> list[EpochEntry]:
    """Train a net as the recipe says."""
    optimizer = recipe.optimizer
    return fit_one_cycle(
        recipe.train.epochs,
        recipe.schedule.max_lr,
        model,
        loaders.train,
        loaders.curve,
        optimizer.weight_decay,
        optimizer.grad_clip or None,
        own.optimizer_of(optimizer),
        schedule=recipe.schedule,
        grad_clip_by=optimizer.grad_clip_by,
        label_smoothing=recipe.loss.label_smoothing,
        loss_func=own.loss_of(recipe.loss),
        precision=step_settings(recipe, loaders.train.device).precision,
        engine=engine,
        clean_loader=loaders.probe,
        seed=seed,
        on_epoch=on_epoch,
    )
