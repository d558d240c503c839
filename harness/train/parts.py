"""What a trial is made of on a device.

The images that a study's trials share, loaders, net, settings of the step.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from harness.errors import DataError
from harness.plugins import is_plugin
from harness.study.recipe import Recipe
from harness.study.recipe_fields import DataRecipe
from harness.study.trial import curve_images
from harness.train import augment, data, nets, own
from harness.train.arithmetic import precision_on
from harness.train.devices import free_bytes
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.model import build
from harness.train.step import FLAT_OPTIMIZERS, StepSettings
from harness.train.streams import generator, stream_seed

# training images on which the final clean train accuracy is measured, or all when there are fewer
CLEAN_IMAGES = 10_000


@dataclass(frozen=True, slots=True)
class Arena:
    """What the trials of a study share on a device.

    The split, resident where it fits, and the clean training subsets.

    ``curve_index_N`` are the validation images that draw the curves, or the test images where there
    are none: as many as ``harness.study.trial.curve_images`` says. ``clean_index_N`` are the
    training images of the final clean accuracy, and ``probe_index_N`` the part of them that is
    measured every epoch, as many as draw the other curve. The split seed fixes all.
    """

    split: data.Split
    clean_index_N: Tensor
    probe_index_N: Tensor
    curve_index_N: Tensor

    @property
    def resident(self) -> bool:
        """Whether the training images lie on the device.

        Else they are streamed from the host's memory.
        """
        return self.split.train_images_NCHW.device == self.split.train_labels_N.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.split.train_images_NCHW.shape[1:]
        return channels, height, width


# two: a study that mixes image sets changes back and forth between them
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
    # labels always move: they are a few bytes an image, and every batch needs them there
    place = device if fits(size, free_bytes(device)) else "cpu"
    moved |= {name: images_NCHW.to(place) for name, images_NCHW in images.items()}
    placed = replace(split, **moved)
    total, held_out = (
        len(placed.train_labels_N),
        len(placed.val_labels_N) or len(placed.test_labels_N),
    )
    count = curve_images(train=total, val=len(placed.val_labels_N), test=len(placed.test_labels_N))

    # by the split seed and never by the trial's: all trials are measured on the same images
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
    """Return whether images may lie on a device.

    When they leave it half of its free memory for the net.
    """
    return images_bytes <= free / 2


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
        # a study without validation images draws its curves on the test set, and its report says so
        held_out = (split.val_images_NCHW, split.val_labels_N) if len(split.val_labels_N) else test
        return cls(
            train,
            curve=part(held_out, ground.curve_index_N),
            probe=part(trained, ground.probe_index_N),
            val=still(*held_out),
            test=still(*test),
            clean=part(trained, ground.clean_index_N),
        )


def place(
    recipe: Recipe, ground: Arena, device: str, seed: int
) -> tuple[nn.Module, torch.memory_format]:
    """Return a fresh net on the device and the memory format of its convolutions."""
    channels, side, _ = ground.shape
    classes = len(ground.split.classes)
    # channels_last measured 1.3 to 1.6 times as fast as NCHW for these nets on the CPU (see
    # tests/benchmarks)
    memory_format = torch.channels_last
    # a user's net may not take channels_last: it is tried
    if is_plugin(recipe.model.name):
        memory_format = nets.check(recipe.model, in_channels=channels, side=side, classes=classes)
    # a stream of its own: the weights of a seed are the same whatever else is drawn
    model = build(
        recipe.model,
        in_channels=channels,
        side=side,
        classes=classes,
        seed=stream_seed(seed, "init"),
    )
    return model.to(device).to(memory_format=memory_format), memory_format


def step_settings(recipe: Recipe, device: torch.device | str) -> StepSettings:
    """Return what a recipe asks of the training step on a device."""
    opt_func = own.optimizer_of(recipe.optimizer)
    return StepSettings(
        recipe.optimizer.weight_decay,
        recipe.optimizer.grad_clip or None,
        recipe.optimizer.grad_clip_by,
        recipe.loss.label_smoothing,
        precision_on(device, recipe.train.precision, scales=opt_func in FLAT_OPTIMIZERS),
        opt_func,
        loss_func=own.loss_of(recipe.loss),
    )
