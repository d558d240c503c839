"""Nets of the user's and torchvision's classifiers.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn

from harness.errors import RecipeError, did_you_mean
from harness.plugins import LIBRARY
from harness.study.recipe_fields import ModelRecipe
from harness.train.first_batch import output_fault
from harness.train.optim import FlatParameters
from harness.train.own import attempt, find

FIELD = "model.name"
_STEMS = {  # torchvision's class -> its first convolution, and the max-pool after it
    "ResNet": ("conv1", "maxpool"),
    "DenseNet": ("features.conv0", "features.pool0"),
    "ShuffleNetV2": ("conv1.0", "maxpool"),
    "MobileNetV2": ("features.0.0", ""),
    "MobileNetV3": ("features.0.0", ""),
    "EfficientNet": ("features.0.0", ""),
    "MNASNet": ("layers.0", ""),
    "RegNet": ("stem.0", ""),
}
_SAMPLE = 2  # images of the blank batch: a BatchNorm over one pixel needs two


def make(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> nn.Module:
    """Return a fresh net of a recipe whose ``name`` is a plug-in.

    torch's default generator draws its weights.

    Raises:
        UsageError: its file or module cannot be imported.
        RecipeError: it is no net, or does not take the arguments it is given; the message names
            what is missing.
    """
    if recipe.name.startswith(LIBRARY):
        made = _torchvision(recipe, in_channels, classes)
    else:
        kwargs = dict(recipe.kwargs)
        factory = find(
            FIELD,
            recipe.name,
            keywords=("in_channels", "side", "classes"),
            kwargs=kwargs,
            where="model.kwargs",
        )
        made = attempt(
            FIELD,
            recipe.name,
            lambda: factory(in_channels=in_channels, side=side, classes=classes, **kwargs),
        )
    if not isinstance(made, nn.Module):
        raise RecipeError(
            f"{FIELD}: {recipe.name!r} returns a {type(made).__name__}", "return a torch.nn.Module"
        )
    return made


@lru_cache(maxsize=256)
def check(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> torch.memory_format:
    """Try a net on a blank batch and return the memory format that it can be trained in.

    Forward and backward.

    channels_last, which is the faster one, unless the net cannot take it: ``x.view(len(x), -1)``
    after a convolution asks for the contiguous one.

    Raises:
        UsageError: its file or module cannot be imported.
        RecipeError: it cannot be built for these images, or does not return logits_NK.
    """
    shape = (in_channels, side, side)
    # a trial net draws weights, and the caller's random state is not its to use
    with torch.random.fork_rng(devices=[]):
        net = make(recipe, in_channels=in_channels, side=side, classes=classes)
        _check_weights(recipe.name, net)
        try:
            _check_output(
                recipe.name,
                net.to(memory_format=torch.channels_last),
                shape,
                classes,
                torch.channels_last,
            )
        except RecipeError as error:
            # only what torch itself refuses may be about the strides; the rest is the net's own
            # fault
            if not isinstance(error.__cause__, RuntimeError):
                raise
            net = net.to(memory_format=torch.contiguous_format)
            _check_output(recipe.name, net, shape, classes, torch.contiguous_format)
            return torch.contiguous_format
        return torch.channels_last


def _check_weights(name: str, net: nn.Module) -> None:
    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise RecipeError(
            f"{FIELD}: {name!r} has no weights to train",
            "register its layers as attributes of the module",
        )
    if any(isinstance(p, nn.UninitializedParameter) for p in trained):
        raise RecipeError(
            f"{FIELD}: {name!r} has lazy layers",
            "give every layer its sizes: weights are drawn before training",
        )
    attempt(FIELD, name, lambda: FlatParameters(net))


def _check_output(
    name: str,
    net: nn.Module,
    shape: tuple[int, int, int],
    classes: int,
    memory_format: torch.memory_format,
) -> None:
    channels, height, width = shape
    x_NCHW = torch.zeros(_SAMPLE, *shape)
    # by its strides too, where a single channel would leave both open
    if memory_format is torch.channels_last:
        x_NCHW = torch.zeros(_SAMPLE, height, width, channels).permute(0, 3, 1, 2)
    # both modes: a net may return something else while it trains
    for training in (False, True):
        net.train(training)
        out: Any = attempt(FIELD, name, lambda: net(x_NCHW))
        mode = "training" if training else "evaluation"
        if fault := output_fault(out, _SAMPLE, classes=classes):
            images = f"{_SAMPLE} images of {' x '.join(map(str, shape))}, in {mode} mode"
            raise RecipeError(f"{FIELD}: {name!r} {fault.problem}, for {images}", fault.hint)
    attempt(FIELD, name, lambda: out.float().sum().backward())


def _torchvision(recipe: ModelRecipe, in_channels: int, classes: int) -> nn.Module:
    from torchvision import models

    wanted, known = recipe.name.removeprefix(LIBRARY), models.list_models(module=models)
    if wanted not in known:
        raise RecipeError(
            f"{FIELD}: torchvision has no classifier {wanted!r}{did_you_mean(wanted, known)}",
            f"it has {', '.join(known)}",
        )
    kwargs = dict(recipe.kwargs)
    for key, why in (
        ("weights", "nets are trained from scratch"),
        ("num_classes", "the images say how many there are"),
    ):
        if key in kwargs:
            raise RecipeError(f"model.kwargs.{key} cannot be set", why)
    cifar_stem = kwargs.pop("cifar_stem", False)
    if not isinstance(cifar_stem, bool):
        raise RecipeError(f"model.kwargs.cifar_stem is {cifar_stem!r}", "it is true or false")
    net: nn.Module = attempt(
        FIELD,
        recipe.name,
        lambda: models.get_model(wanted, weights=None, num_classes=classes, **kwargs),
    )
    if cifar_stem:
        _shrink_stem(recipe.name, net)
    # before the weights are drawn a second time: the new layer comes from the same generator
    if in_channels != 3:  # ImageNet's
        _take_channels(recipe.name, net, in_channels)
    return net


def _shrink_stem(name: str, net: nn.Module) -> None:
    """Make the stem one for images of some 32 pixels.

    A 3x3 convolution of stride 1 and no max-pool (He et al. 2015, 4.2).
    """
    if type(net).__name__ not in _STEMS:
        raise RecipeError(
            f"model.kwargs.cifar_stem: no such stem is known for {name!r}",
            f"it is for {', '.join(_STEMS)}; "
            "leave it out and train on larger images with data.size",
        )
    first, pool = _STEMS[type(net).__name__]
    old = net.get_submodule(first)
    if not isinstance(old, nn.Conv2d):  # pragma: no cover - a torchvision of another layout
        raise RecipeError(
            f"model.kwargs.cifar_stem: the stem of {name!r} is not what was expected in this "
            "torchvision"
        )
    if old.kernel_size == (3, 3):
        old.stride = (1, 1)  # the weights stay as the net drew them
    else:
        new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
        # as torchvision's ResNet does
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        net.set_submodule(first, new)
    if pool:
        net.set_submodule(pool, nn.Identity())


def _take_channels(name: str, net: nn.Module, in_channels: int) -> None:
    """Give the convolution that reads the image another number of input channels."""
    convolution = next(
        (
            (path, m)
            for path, m in net.named_modules()
            if isinstance(m, nn.Conv2d) and m.in_channels == 3
        ),
        None,
    )
    if convolution is None:
        raise RecipeError(
            f"{FIELD}: {name!r} takes 3 channels and the images have {in_channels}",
            "use colour images",
        )
    path, old = convolution
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    net.set_submodule(path, new)
