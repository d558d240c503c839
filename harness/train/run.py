"""One trial from a cell: images, net, one-cycle training, evaluation. This is the runner that workers are handed.

Legend: N images, K classes, E epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

import torch
from torch import Tensor, nn

from harness.errors import DataError, DivergedError
from harness.plugins import is_plugin
from harness.study.recipe import Recipe
from harness.study.recipe_fields import DataRecipe
from harness.study.trial import Cell, Curve, Outcomes, State, Trial, curve_images
from harness.train import augment, augment_own, data, nets, own, tensorboard
from harness.train.arithmetic import precision_on, prepare
from harness.train.capture import wait
from harness.train.devices import empty_cache, free_bytes, peak_mib, reset_peak
from harness.train.engine import Choice, Program, Programs, choose, room_for
from harness.train.environment import environment
from harness.train.judge import judge
from harness.train.loaders import EvalLoader, TrainLoader, steps_an_epoch
from harness.train.loop import Entry, fit_one_cycle
from harness.train.meter import Meter
from harness.train.model import build, cost_of
from harness.train.step import StepSettings
from harness.train.streams import generator, stream_seed

OnEpoch = Callable[[int, Mapping[str, float]], bool]
# training images on which the final clean train accuracy is measured, or all when there are fewer
CLEAN_IMAGES = 10_000
_CURVE = tuple(name for name in Curve.model_fields)


@dataclass(frozen=True, slots=True)
class Arena:
    """What the trials of a study share on a device: the split, resident where it fits, and the clean training subsets.

    ``curve_index_N`` are the validation images that draw the curves, or the test images where there are none: as many as
    ``harness.study.trial.curve_images`` says. ``clean_index_N`` are the training images of the final clean accuracy, and
    ``probe_index_N`` the part of them that is measured every epoch, as many as draw the other curve. The split seed fixes all.
    """

    split: data.Split
    clean_index_N: Tensor
    probe_index_N: Tensor
    curve_index_N: Tensor

    @property
    def resident(self) -> bool:
        """Whether the training images lie on the device; else they are streamed from the host's memory."""
        return self.split.train_images_NCHW.device == self.split.train_labels_N.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.split.train_images_NCHW.shape[1:]
        return channels, height, width


@lru_cache(maxsize=2)
def arena(recipe: DataRecipe, device: str) -> Arena:
    """Load, split and place a recipe's images; the last two are kept.

    Raises:
        DataError: the images are missing, unreadable or too few.
    """
    dataset = data.load(recipe.name, size=recipe.size, kwargs=dict(recipe.kwargs))
    split = data.split(dataset, train=recipe.train, val=recipe.val, split_seed=recipe.split_seed)
    height, width = split.train_images_NCHW.shape[2:]
    if height != width:
        raise DataError(
            f"{recipe.name}: images are {height} x {width} pixels and must be square",
            "set data.size to a side",
        )
    parts = ("train", "val", "test")
    moved = {f"{part}_labels_N": getattr(split, f"{part}_labels_N").to(device) for part in parts}
    images = {f"{part}_images_NCHW": getattr(split, f"{part}_images_NCHW") for part in parts}
    size = sum(images_NCHW.nbytes for images_NCHW in images.values())
    place = device if fits(size, free_bytes(device)) else "cpu"
    moved |= {name: images_NCHW.to(place) for name, images_NCHW in images.items()}
    placed = replace(split, **moved)
    total, held_out = (
        len(placed.train_labels_N),
        len(placed.val_labels_N) or len(placed.test_labels_N),
    )
    count = curve_images(train=total, val=len(placed.val_labels_N), test=len(placed.test_labels_N))

    def chosen(images: int, purpose: str, most: int) -> Tensor:
        order_N = torch.randperm(images, generator=generator(recipe.split_seed, purpose))
        return order_N[:most].sort().values.to(device)

    return Arena(
        placed,
        clean_index_N=chosen(total, "clean", CLEAN_IMAGES),
        probe_index_N=chosen(total, "clean", min(count, CLEAN_IMAGES)),
        curve_index_N=chosen(held_out, "curve", count),
    )


def fits(images_bytes: int, free: float) -> bool:
    """Return whether images may lie on a device: when they leave it half of its free memory for the net."""
    return images_bytes <= free / 2


def check(recipe: Recipe, device: str = "cpu") -> Arena:
    """Load a recipe's images and make sure that its net can be built for them, before anything is planned.

    Raises:
        DataError: the images are missing, unreadable or too few.
        RecipeError: the net or an augmentation does not fit them, or a plug-in does not fit its
            protocol.
        UsageError: a plug-in cannot be imported, or TensorBoard's events are asked for and cannot
            be written.
    """
    tensorboard.wanted()
    found = arena(recipe.data, device)
    channels, side, _ = found.shape
    classes, images = len(found.split.classes), len(found.split.train_labels_N)
    if is_plugin(recipe.model.name):
        nets.check(recipe.model, in_channels=channels, side=side, classes=classes)
    else:
        recipe.model.layout(side)
        if recipe.model.freeze != "none":  # its parts are known once the net is built
            build(recipe.model, in_channels=channels, side=side, classes=classes, seed=0)
    one = augment.Epoch(
        size=1, shape=found.shape, number=0, index_N=torch.zeros(1, dtype=torch.int64), total=1
    )
    for op in augment.build(recipe.augment, channels):
        op.draw(one, torch.Generator())  # what does not fit the images says so here
        if isinstance(op, augment_own.Own):
            augment_own.check(op, found.shape)
    own.check_parts(
        recipe,
        classes=classes,
        steps=recipe.train.epochs * steps_an_epoch(images, recipe.train.batch_size),
    )
    return found


def engine_for(recipe: Recipe, device: str, asked: str = "auto") -> Choice:
    """Return the engine that a recipe's trials run with on a device.

    Raises:
        UsageError: there is no such engine, or it cannot run them.
    """
    return choose(
        device, asked, own.optimizer_of(recipe.optimizer), obstacle=own.cannot_be_recorded(recipe)
    )


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
        metric: one of the user's, measured beside ours: ``file.py:function``, or empty.
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
    except torch.OutOfMemoryError:  # the next trial may be a smaller one: it gets all there is
        _PROGRAMS.clear()
        empty_cache()
        raise


def _run(
    cell: Cell, device: str, chosen: Choice, metric: str, on_epoch: OnEpoch | None
) -> tuple[Trial, Outcomes | None]:
    recipe = cell.recipe
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    prepare(device)
    reset_peak(device)
    ground = arena(recipe.data, device)
    model, memory_format = place(recipe, ground, device, cell.seed)
    loaders = Loaders.of(recipe, ground, cell.seed, memory_format)
    precision = precision_on(device, recipe.train.precision)
    program = program_for(recipe, ground, loaders.train, model) if chosen.name == "graph" else None
    if program is not None:
        program.load(model)
        model = program.model
    meter = Meter(device)
    wait(device)
    readings = {"start_seconds": time.perf_counter() - began}
    history: list[Entry] = []
    stopped = False

    log = tensorboard.log_of(cell)

    def keep(entry: Entry) -> bool:
        nonlocal stopped
        history.append(entry)
        if log is not None:
            log(entry)
        meter.sample()
        values = {
            name: entry[name]
            for name in ("val_accuracy", "val_loss", "train_accuracy", "online_loss")
        }
        stopped = bool(on_epoch(entry["epoch"], values)) if on_epoch is not None else False
        return stopped

    error = ""
    try:
        fit(recipe, model, loaders, cell.seed, keep, engine=program or "eager")
    except DivergedError as diverged:
        error = diverged.message
    finally:
        if log is not None:
            log.close()
    curve = Curve(**{name: tuple(float(entry[name]) for entry in history) for name in _CURVE})
    channels, side, _ = ground.shape
    params, mflop = cost_of(
        recipe.model, in_channels=channels, side=side, classes=len(ground.split.classes)
    )
    trained = history[-1]["seconds"] if history else 0.0
    readings |= _taken(history, device, before=readings["start_seconds"])
    common = {
        "cell": cell.key,
        "seed": cell.seed,
        "recipe": recipe,
        "epochs": len(history),
        "train_seconds": trained,
        "images_per_second": len(history) * len(ground.split.train_labels_N) / trained
        if trained
        else 0.0,
        "peak_mib": peak_mib(device),
        "params": params,
        "mflop_per_image": mflop,
        "data_fingerprint": ground.split.fingerprint,
        "environment": environment(device, precision, chosen.name),
        "started": started,
        "curve": curve,
    }
    evaluating = sum(entry["eval_seconds"] for entry in history)
    if error or (stopped and len(history) < recipe.train.epochs):
        state: State = "diverged" if error else "pruned"
        readings |= meter.readings()
        return Trial(
            **common, state=state, eval_seconds=evaluating, error=error, readings=readings
        ), None
    began = time.perf_counter()
    metrics, outcomes = judge(model, loaders, history, precision, metric)
    evaluating += time.perf_counter() - began
    readings |= meter.readings()
    return Trial(
        **common, state="complete", metrics=metrics, eval_seconds=evaluating, readings=readings
    ), outcomes


def _taken(history: list[Entry], device: str, *, before: float) -> dict[str, float]:
    """Return start_seconds, of ``before`` and the first calls, and on a CPU cpu_seconds: beside a GPU it only waits."""
    if not history:
        return {}
    alone = (
        {"cpu_seconds": history[-1]["cpu_seconds"]} if torch.device(device).type == "cpu" else {}
    )
    return {"start_seconds": before + history[-1]["warm_seconds"], **alone}


_PROGRAMS = Programs()


def program_for(recipe: Recipe, ground: Arena, loader: TrainLoader, model: nn.Module) -> Program:
    """Return the program of this process for a recipe's structure, architecture and batch size, recorded if there is none yet.

    Args:
        recipe: its numbers do not matter, but which of them are 0.
        ground: the images.
        loader: of the training images.
        model: a net of the recipe in its place; a new program takes it for its own.
    """
    device = next(model.parameters()).device
    room = room_for(recipe.train.epochs * len(loader))
    numberless = recipe.model.model_copy(update={"dropout": float(recipe.model.dropout > 0)})
    ops = tuple((op.name, getattr(op, "border", "")) for op in loader.ops)
    settings = step_settings(recipe, device)
    # the images by their address: a program holds on to those that it was recorded with
    key = (
        device,
        loader.images_NCHW.data_ptr(),
        numberless,
        loader.batch_size,
        ops,
        settings.structure,
        room,
        ground.resident,
    )
    return _PROGRAMS.get(key, lambda: Program(model, settings, loader, room=room))


def step_settings(recipe: Recipe, device: torch.device | str) -> StepSettings:
    """Return what a recipe asks of the training step on a device."""
    return StepSettings(
        recipe.optimizer.weight_decay,
        recipe.optimizer.grad_clip or None,
        recipe.optimizer.grad_clip_by,
        recipe.loss.label_smoothing,
        precision_on(device, recipe.train.precision),
        own.optimizer_of(recipe.optimizer),
        loss_func=own.loss_of(recipe.loss),
    )


def place(
    recipe: Recipe, ground: Arena, device: str, seed: int
) -> tuple[nn.Module, torch.memory_format]:
    """Return a fresh net on the device and the memory format of its convolutions."""
    channels, side, _ = ground.shape
    classes = len(ground.split.classes)
    # channels_last measured 1.3 to 1.6 times as fast as NCHW for these nets, on the CPU (see
    # tests/benchmarks) and on GPUs
    memory_format = torch.channels_last
    if is_plugin(recipe.model.name):
        memory_format = nets.check(recipe.model, in_channels=channels, side=side, classes=classes)
    model = build(
        recipe.model,
        in_channels=channels,
        side=side,
        classes=classes,
        seed=stream_seed(seed, "init"),
    )
    return model.to(device).to(memory_format=memory_format), memory_format


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one trial."""

    train: TrainLoader
    curve: EvalLoader  # validation images, or test images where there are none, every epoch
    probe: EvalLoader  # clean training images, every epoch
    val: EvalLoader  # all validation images, or test images where there are none, at the end
    test: EvalLoader  # at the end
    clean: EvalLoader  # clean training images, at the end

    @classmethod
    def of(
        cls, recipe: Recipe, ground: Arena, seed: int, memory_format: torch.memory_format
    ) -> Loaders:
        """Return the loaders of a recipe at a seed."""
        split = ground.split

        def still(images_NCHW: Tensor, labels_N: Tensor) -> EvalLoader:
            # 250 small images at a time stay in a CPU's cache; a GPU wants whole thousands
            size = 250 if labels_N.device.type == "cpu" else 2000
            return EvalLoader(
                images_NCHW,
                labels_N,
                batch_size=size,
                mean=split.mean,
                std=split.std,
                memory_format=memory_format,
            )

        train = TrainLoader(
            split.train_images_NCHW,
            split.train_labels_N,
            batch_size=recipe.train.batch_size,
            ops=augment.build(recipe.augment, ground.shape[0]),
            mean=split.mean,
            std=split.std,
            seed=seed,
            classes=len(split.classes),
            memory_format=memory_format,
        )

        def part(of: tuple[Tensor, Tensor], index_N: Tensor) -> EvalLoader:
            images_NCHW, labels_N = of
            if len(index_N) == len(labels_N):  # all of them: no copy
                return still(images_NCHW, labels_N)
            return still(images_NCHW[index_N.to(images_NCHW.device)], labels_N[index_N])

        trained = (split.train_images_NCHW, split.train_labels_N)
        test = (split.test_images_NCHW, split.test_labels_N)
        held_out = (split.val_images_NCHW, split.val_labels_N) if len(split.val_labels_N) else test
        return cls(
            train,
            curve=part(held_out, ground.curve_index_N),
            probe=part(trained, ground.probe_index_N),
            val=still(*held_out),
            test=still(*test),
            clean=part(trained, ground.clean_index_N),
        )


def fit(
    recipe: Recipe,
    model: nn.Module,
    loaders: Loaders,
    seed: int,
    on_epoch: Callable[[Entry], bool],
    *,
    engine: str | Program = "eager",
) -> list[Entry]:
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
        precision=precision_on(loaders.train.device, recipe.train.precision),
        engine=engine,
        clean_loader=loaders.probe,
        seed=seed,
        on_epoch=on_epoch,
    )
