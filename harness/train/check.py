"""What is asked of a recipe before anything is planned.

Does it fit its images, and which engine can run it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import torch
from torch import Tensor, nn

from harness.plugins import is_plugin
from harness.study.recipe import Recipe
from harness.train import augment, augment_own, nets, own, tensorboard
from harness.train.engine import Choice, choose
from harness.train.loaders import steps_an_epoch
from harness.train.model import build
from harness.train.parts import Arena, arena, place


def check(recipe: Recipe, device: str = "cpu") -> Arena:
    """Load a recipe's images and check, before anything is planned, that its net fits them.

    Raises:
        DataError: the images are missing, unreadable or too few.
        RecipeError: the net or an augmentation does not fit them, or a plug-in does not fit its
            protocol.
        UsageError: the import of a plug-in fails, or TensorBoard's events are asked for and their
            folder is not writable.
    """
    # what is wrong with the surroundings is said before an hour of decoding
    tensorboard.wanted()
    ground = arena(recipe.data, device)
    channels, side, _ = ground.shape
    classes, images = len(ground.split.classes), len(ground.split.train_labels_N)
    if is_plugin(recipe.model.name):
        nets.check(recipe.model, in_channels=channels, side=side, classes=classes)
    else:
        recipe.model.layout(side)
        if recipe.model.freeze != "none":  # its parts are known once the net is built
            build(recipe.model, in_channels=channels, side=side, classes=classes, seed=0)
    # an operation knows only when it draws whether its window fits the images
    blank_epoch = augment.Epoch(
        size=1, shape=ground.shape, number=0, index_N=torch.zeros(1, dtype=torch.int64), total=1
    )
    for op in augment.build(recipe.augment, channels):
        op.draw(blank_epoch, torch.Generator())  # what does not fit the images says so here
        if isinstance(op, augment_own.Own):
            augment_own.check(op, ground.shape)
    own.check_parts(
        recipe,
        classes=classes,
        steps=recipe.train.epochs * steps_an_epoch(images, recipe.train.batch_size),
    )
    return ground


def engine_for(recipe: Recipe, device: str, asked: str = "auto") -> Choice:
    """Return the engine that a recipe's trials run with on a device.

    Raises:
        UsageError: there is no such engine, or it cannot run them.
    """
    obstacle = own.cannot_be_recorded(recipe)
    # the dry run takes a second and a half: only where a recording is possible at all
    if not obstacle and asked != "eager" and torch.device(device).type == "cuda":
        obstacle = leaves_device(recipe)
    return choose(device, asked, own.optimizer_of(recipe.optimizer), obstacle=obstacle)


class _Evaluated(nn.Module):
    """A net that stays in eval mode, whatever it is asked for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - torch's signature
        return super().train(False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NK: Tensor = self.net(x_NCHW)
        return out_NK


@lru_cache(maxsize=64)
def leaves_device(recipe: Recipe) -> str:
    """Return where a user's net or loss reads from the device, which keeps it from being recorded.

    Empty when it does not.

    Found by a dry run on tensors without memory, in training and in eval mode. Ours are tested so,
    and not tried again here.
    """
    function = own.loss_of(recipe.loss)
    if not is_plugin(recipe.model.name) and function is None:
        return ""

    # torch's fake tensors import the compiler, which takes seconds
    from harness.train.dry_run import reads_device

    ground = arena(recipe.data, "cpu")
    model, memory_format = place(recipe, ground, "cpu", 0)
    # two images: a BatchNorm over one has no variance
    labels_N = torch.zeros(2, dtype=torch.int64)
    mixes = recipe.augment.mixup > 0 or recipe.augment.cutmix > 0
    target = (
        nn.functional.one_hot(labels_N, len(ground.split.classes)).float() if mixes else labels_N
    )
    x_NCHW = torch.zeros(2, *ground.shape).to(memory_format=memory_format)
    # evaluation is recorded, too, and a net may leave the device there alone
    return reads_device(model, x_NCHW, target, function) or reads_device(
        _Evaluated(model), x_NCHW, labels_N
    )
