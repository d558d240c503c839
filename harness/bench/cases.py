"""What is timed against what. A group's cases are interleaved; each names its reference and its ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from harness.bench import ours
from harness.bench.ours import Ground
from harness.bench.rounds import Case
from harness.bench.usual import (
    Pictures,
    PlainTraining,
    pil_transform,
    plain_loader,
    shut,
    v2_transform,
    with_plain_dropout,
)
from harness.study.recipe_fields import AugmentRecipe
from harness.train import augment
from harness.train.arithmetic import precision_on
from harness.train.engine import choose
from harness.train.loaders import TrainLoader
from harness.train.timing import usable_cores

USUAL = "pipeline/pil-dataloader"
_PICTURES = 256  # images an epoch of the slow pipelines
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_STILL = AugmentRecipe(crop=0, flip="none", brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)


@dataclass(frozen=True, slots=True)
class CaseGroup:
    """Cases that are timed against each other, and their share of the time."""

    name: str
    build: Callable[[], list[Case]]


def threads_on(device: str) -> int:
    """Return the CPU threads of a step: one for the quick profile's net, which is too small to be shared out."""
    return usable_cores() if torch.device(device).type == "cuda" else 1


def groups_of(ground: Ground, mflop: float) -> list[CaseGroup]:
    """Return the groups; ``mflop`` is what training takes of arithmetic for one image, in millions of operations."""
    return [
        CaseGroup("pipeline", lambda: _pipelines(ground.device)),
        CaseGroup("loop", lambda: _loops(ground)),
        CaseGroup("step", lambda: _steps(ground, mflop)),
        CaseGroup("epoch", lambda: _epochs(ground)),
        CaseGroup("trial", lambda: _trials(ground)),
    ]


def _pipelines(device: str) -> list[Case]:
    """Crop, flip and full jitter of images of 32 x 32 x 3, up to a batch on the device.

    The usual pipelines have a worker for every core; ours has one thread, as in a trial of a small
    net, and then all.
    """
    recipe, cores = AugmentRecipe(), usable_cores()
    source = torch.Generator().manual_seed(0)
    cuda = torch.device(device).type == "cuda"
    # a GPU would be done with fewer before its clock rises
    count = _PICTURES * (16 if cuda else 1)
    images_NCHW = torch.randint(256, (count, 3, 32, 32), generator=source, dtype=torch.uint8)
    labels_N = torch.randint(10, (count,), generator=source)
    cases = []
    for kind, transform in (("pil-dataloader", pil_transform), ("torchvision-v2", v2_transform)):
        pictures = Pictures(images_NCHW, labels_N, transform(recipe, 32, _MEAN, _STD))
        # with none and with one a core, as people use it: the faster of the two is compared with
        for workers in dict.fromkeys((0, cores) if kind == "pil-dataloader" else (cores,)):
            loader = plain_loader(pictures, batch_size=128, workers=workers, pin=cuda)
            name = f"pipeline/{kind}" + (f"/{workers}-workers" if kind == "pil-dataloader" else "")
            cases.append(_pipeline(name, loader, device))
    mine = TrainLoader(
        images_NCHW.to(device),
        labels_N.to(device),
        batch_size=512,
        ops=augment.build(recipe, 3),
        seed=0,
        classes=10,
        memory_format=torch.channels_last,
        mean=_MEAN,
        std=_STD,
    )
    # on one core both are the same case
    for threads in dict.fromkeys((1, cores)):
        name = "pipeline/harness" + (f"/{threads}-threads" if threads > 1 else "")
        cases.append(
            Case(name, ours.batches(mine), USUAL, "ceiling/copy", threads, alone=threads == 1)
        )
    cases.append(Case("ceiling/copy", ours.copy(device, (3, 32, 32))))
    return cases


def _pipeline(name: str, loader: DataLoader[Any], device: str) -> Case:
    def call() -> float:
        return float(sum(len(images.to(device, non_blocking=True)) for images, _ in loader))

    return Case(name, call, USUAL, "ceiling/copy", alone=False, close=lambda: shut(loader))


def _loops(ground: Ground) -> list[Case]:
    """One epoch by our loop, and by a bare loop of the same operations."""
    threads = threads_on(ground.device)
    return [
        Case("loop/bare", ours.bare_loop(ground), threads=threads),
        Case("loop/harness", ours.epochs(ground, "eager"), "loop/bare", threads=threads),
    ]


def _steps(ground: Ground, mflop: float) -> list[Case]:
    """Whole steps by engine, precision, memory format, batch size and threads; the bare step; the matmul above them."""
    device, threads = ground.device, threads_on(ground.device)
    precision = precision_on(device, ground.recipe.train.precision)
    # on a GPU both, to show what the one gains over the other
    engines = ["eager", "graph"] if choose(device).name == "graph" else ["eager"]
    cases = [
        Case(
            f"step/{engine}",
            ours.epochs(ground, engine),
            None if engine == "eager" else "step/eager",
            "ceiling/matmul",
            threads,
        )
        for engine in engines
    ]
    cases += [
        Case(
            f"step/{engine}/{name}",
            ours.epochs(changed, engine, memory_format),
            f"step/{engine}",
            "ceiling/matmul",
            count,
            alone=count == 1,
        )
        for engine in engines
        for name, changed, memory_format, count in _variants(ground)
    ]
    cases.append(
        Case(
            "ceiling/static-step",
            ours.static_step(ground, engines[-1]),
            None,
            "ceiling/matmul",
            threads,
        )
    )
    cases.append(Case("ceiling/matmul", ours.matmul(device, precision, mflop), threads=threads))
    return cases


def _variants(ground: Ground) -> list[tuple[str, Ground, torch.memory_format, int]]:
    """One thing changed at a time: (name, ground, memory format, threads)."""
    threads, cores = threads_on(ground.device), usable_cores()
    cuda = torch.device(ground.device).type == "cuda"
    nhwc = torch.channels_last
    # one that leaves the device idle and one that fills it
    sizes = (128, 2048) if cuda else (25, 300)
    other = "fp32" if ground.recipe.train.precision == "bf16" else "bf16"

    variants = [
        (f"batch-{size}", _changed(ground, {"train.batch_size": size}), nhwc, threads)
        for size in sizes
    ]
    variants.append((other, _changed(ground, {"train.precision": other}), nhwc, threads))
    variants.append(("nchw", ground, torch.contiguous_format, threads))
    if not cuda and cores > 1:
        # whether more threads help a net of this size
        variants.append((f"{cores}-threads", ground, nhwc, cores))
    return variants


def _changed(ground: Ground, overrides: dict[str, Any]) -> Ground:
    return replace(ground, recipe=ground.recipe.with_overrides(overrides))


def _workers(device: str) -> int:
    """Return the DataLoader's workers where our step has ``threads_on``: none next to one thread, else one a core."""
    return usable_cores() if torch.device(device).type == "cuda" else 0


def _epochs(ground: Ground) -> list[Case]:
    """One epoch of training: the usual pipeline and loop, ours, and the bare step as the ceiling of ours."""
    device, threads = ground.device, threads_on(ground.device)
    recipe, split = ground.recipe, ground.arena.split
    transform = pil_transform(recipe.augment, ground.arena.shape[1], split.mean, split.std)
    pictures = Pictures(split.train_images_NCHW, split.train_labels_N, transform)
    cuda = torch.device(device).type == "cuda"
    loader = plain_loader(
        pictures, batch_size=recipe.train.batch_size, workers=_workers(device), pin=cuda
    )
    model = with_plain_dropout(ground.net(torch.contiguous_format), recipe.model.dropout)
    usual = PlainTraining(recipe, model, ours.ROOM)
    engine = choose(device).name
    return [
        Case(
            "epoch/pil-dataloader",
            lambda: float(usual.epoch(loader)),
            None,
            "epoch/static-step",
            threads,
            alone=not cuda,
            close=lambda: shut(loader),
        ),
        Case(
            "epoch/harness",
            ours.epochs(ground, engine),
            "epoch/pil-dataloader",
            "epoch/static-step",
            threads,
        ),
        Case(
            "epoch/static-step",
            ours.static_step(ground, engine),
            "epoch/pil-dataloader",
            None,
            threads,
        ),
    ]


def _trials(ground: Ground) -> list[Case]:
    """A whole trial of a few epochs. Ours measures more: clean training images every epoch, more metrics at the end."""
    device, threads = ground.device, threads_on(ground.device)
    cuda = torch.device(device).type == "cuda"
    # enough epochs for start and end not to be all of it
    short = _changed(ground, {"train.epochs": 2 if cuda else 5})
    recipe, split = short.recipe, short.arena.split
    transform = pil_transform(recipe.augment, short.arena.shape[1], split.mean, split.std)
    still = pil_transform(_STILL, short.arena.shape[1], split.mean, split.std)
    workers, engine = _workers(device), choose(device).name
    loaders = [
        plain_loader(
            Pictures(
                getattr(split, f"{part}_images_NCHW"), getattr(split, f"{part}_labels_N"), how
            ),
            batch_size=recipe.train.batch_size,
            workers=workers,
            shuffle=part == "train",
            pin=cuda,
        )
        for part, how in (("train", transform), ("val", still), ("test", still))
    ]

    def usual() -> float:
        train, val, test = loaders
        model = with_plain_dropout(short.net(torch.contiguous_format), recipe.model.dropout)
        training = PlainTraining(recipe, model, recipe.train.epochs * len(train))
        seen = 0
        for _ in range(recipe.train.epochs):
            seen += training.epoch(train)
            # what a usual script measures: one accuracy an epoch
            training.evaluate(val)
        training.evaluate(test)
        return float(seen)

    def close() -> None:
        for loader in loaders:
            shut(loader)

    return [
        Case("trial/pil-dataloader", usual, None, None, threads, alone=not cuda, close=close),
        Case("trial/harness", ours.trials(short, engine), "trial/pil-dataloader", None, threads),
    ]


_STILL = AugmentRecipe(crop=0, flip="none", brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
