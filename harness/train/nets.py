"""Users' nets and torchvision's classifiers.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RecipeError, UsageError, did_you_mean
from harness.plugins import LIBRARIES, load_plugin
from harness.study.recipe_fields import ModelRecipe
from harness.text import plural
from harness.train.fine_tuning import load_file, load_state, settle, take_channels
from harness.train.first_batch import output_fault
from harness.train.optim import FlatParameters
from harness.train.own import attempt, find

FIELD = "model.name"
_TORCHVISION, _TIMM = LIBRARIES
_ALIASES = {  # sizes of a net, and what factories call them
    "in_channels": ("in_channels", "in_chans", "in_ch", "input_channels"),
    "side": ("side", "img_size", "image_size", "input_size"),
    "classes": (
        "classes",
        "num_classes",
        "n_classes",
        "n_class",
        "nb_classes",
        "num_labels",
        "nclass",
        "num_class",
    ),
}
_FIXED = "let its factory take the sizes that vary (num_classes, in_channels, img_size), or change the images (data.size)"
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
_FROM_IMAGES = "the images say how large it is"
_PRETRAINED = "model.kwargs.pretrained is true for the library's trained weights, or the path of a file of weights"
_SAMPLE = 2  # images of the blank batch: a BatchNorm over one pixel needs two


def make(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> nn.Module:
    """Return a fresh net of a recipe whose ``name`` is a plug-in.

    torch's default generator draws its weights.

    Raises:
        UsageError: the import of its file or module fails.
        RecipeError: it is no net, or does not take the arguments it is given; the message names
            what is missing.
    """
    sizes = {"in_channels": in_channels, "side": side, "classes": classes}
    if recipe.name.startswith(_TORCHVISION):
        made = _torchvision(recipe, in_channels, classes)
    elif recipe.name.startswith(_TIMM):
        made = _timm(recipe, **sizes)
    else:
        kwargs = dict(recipe.kwargs)
        asked = asked_sizes(load_plugin(recipe.name, what=FIELD), kwargs)
        factory = find(
            FIELD, recipe.name, keywords=tuple(asked), kwargs=kwargs, where="model.kwargs"
        )
        given = {name: sizes[role] for name, role in asked.items()}
        made = attempt(FIELD, recipe.name, lambda: factory(**given, **kwargs))
    if not isinstance(made, nn.Module):
        raise RecipeError(
            f"{FIELD}: {recipe.name!r} returns a {type(made).__name__}", "return a torch.nn.Module"
        )
    return made


def asked_sizes(factory: Any, kwargs: Collection[str] = ()) -> dict[str, str]:
    """Return ``{argument: what it is}`` for the sizes that a factory's signature asks for, under any usual name.

    Ours (``in_channels``, ``side``, ``classes``) come first; another name that the study sets itself
    is left to it. A factory that takes any keyword gets ours, unless it names some in other words.

    Args:
        factory: a function or class.
        kwargs: names that the study sets.
    """
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # a builtin: the blank call will show
        return {role: role for role in _ALIASES}
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    asked: dict[str, str] = {}
    for role, aliases in _ALIASES.items():
        free = [name for name in aliases if name in named and (name == role or name not in kwargs)]
        # a second name for the same size is filled where it has no value of its own
        needed = [name for name in free[1:] if named[name].default is inspect.Parameter.empty]
        asked |= dict.fromkeys([*free[:1], *needed], role)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if takes_any and all(name == role for name, role in asked.items()):
        asked |= {role: role for role in _ALIASES}
    return asked


@lru_cache(maxsize=256)
def check(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> torch.memory_format:
    """Try a net on a blank batch and return the memory format that it can be trained in.

    Forward and backward.

    channels_last, which is the faster one, unless the net does not take it: ``x.view(len(x), -1)``
    after a convolution asks for the contiguous one.

    Raises:
        UsageError: the import of its file or module fails.
        RecipeError: it does not fit these images, or does not return logits_NK.
    """
    shape = (in_channels, side, side)
    # a trial net draws weights, and the caller's random state is not its to use
    with torch.random.fork_rng(devices=[]):
        net = make(recipe, in_channels=in_channels, side=side, classes=classes)
        settle(net, recipe, classes=classes)
        _check_weights(recipe.name, net)
        try:
            return _memory_format(recipe.name, net, shape, classes)
        except RecipeError as error:
            misfit = _misfit(recipe, net, shape, classes)
            if not misfit:
                raise
            raise RecipeError(f"{error.message}; {misfit}", _FIXED) from error


def _memory_format(
    name: str, net: nn.Module, shape: tuple[int, int, int], classes: int
) -> torch.memory_format:
    try:
        last = torch.channels_last
        _check_output(name, net.to(memory_format=last), shape, classes, last)
    except RecipeError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        net = net.to(memory_format=torch.contiguous_format)
        _check_output(name, net, shape, classes, torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last


def _misfit(recipe: ModelRecipe, net: nn.Module, shape: tuple[int, int, int], classes: int) -> str:
    """Say which fixed size of a net does not fit the images; empty where its factory takes all sizes or nothing is seen."""
    if recipe.name.startswith(LIBRARIES):
        return ""
    asked = set(asked_sizes(load_plugin(recipe.name, what=FIELD), dict(recipe.kwargs)).values())
    channels, side, _ = shape
    first = next((m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    outputs = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    if isinstance(first, nn.Conv2d) and first.in_channels != channels:
        if "in_channels" not in asked:
            return f"its first convolution takes {plural(first.in_channels, 'channel')} and the images have {channels}"
    elif outputs and outputs[-1] != classes:
        if "classes" not in asked:
            return f"its last layer gives {outputs[-1]} classes and the images have {classes}"
    elif "side" not in asked:
        return f"its layers seem to be made for images of another size than {side} x {side}"
    return ""


def _check_weights(name: str, net: nn.Module) -> None:
    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise RecipeError(
            f"{FIELD}: {name!r} has no weights to train",
            "register its layers as attributes of the module, and let model.freeze leave some of them",
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

    wanted, known = recipe.name.removeprefix(_TORCHVISION), models.list_models(module=models)
    if wanted not in known:
        raise RecipeError(
            f"{FIELD}: torchvision has no classifier {wanted!r}{did_you_mean(wanted, known)}",
            f"it has {', '.join(known)}",
        )
    kwargs = dict(recipe.kwargs)
    _refuse(kwargs, {"weights": _PRETRAINED, "num_classes": _FROM_IMAGES})
    cifar_stem, pretrained = kwargs.pop("cifar_stem", False), kwargs.pop("pretrained", False)
    if not isinstance(cifar_stem, bool):
        raise RecipeError(f"model.kwargs.cifar_stem is {cifar_stem!r}", "it is true or false")
    if cifar_stem and pretrained is not False:
        raise RecipeError(
            "model.kwargs.cifar_stem gives the net another stem than the one that was trained",
            "leave it out, or train from scratch",
        )
    state = _torchvision_state(wanted, recipe.name, pretrained) if pretrained is not False else None
    net: nn.Module = attempt(
        FIELD,
        recipe.name,
        lambda: models.get_model(wanted, weights=None, num_classes=classes, **kwargs),
    )
    if cifar_stem:
        _shrink_stem(recipe.name, net)
    # before the weights are drawn a second time: the new layer comes from the same generator
    if in_channels != 3:  # ImageNet's
        take_channels(recipe.name, net, in_channels)
    if state is not None:
        load_state(recipe.name, net, state, classes=classes)
    return net


def _refuse(kwargs: Collection[str], reasons: Mapping[str, str]) -> None:
    for key, why in reasons.items():
        if key in kwargs:
            raise RecipeError(f"model.kwargs.{key} is not allowed", why)


def _torchvision_state(wanted: str, name: str, pretrained: object) -> dict[str, Tensor]:
    """Return trained weights: of a file, or torchvision's own, which are fetched where they are not in torch's cache."""
    if isinstance(pretrained, str):
        return load_file(pretrained)
    if pretrained is not True:
        raise RecipeError(f"model.kwargs.pretrained is {pretrained!r}", _PRETRAINED)
    from torchvision import models

    weights = models.get_model_weights(wanted).DEFAULT
    file = weights.url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise RecipeError(
            f"{FIELD}: the weights file {file} of {name!r} is not in {folder}, and its download failed: {error}",
            f"put {weights.url} there, or name the file: model.kwargs.pretrained = 'path/{file}'",
        ) from error
    return state


def _timm(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> nn.Module:
    """Return a net of timm, with its own way of fitting trained weights to other classes and channels."""
    try:
        import timm
    except ImportError:
        raise UsageError(f"{recipe.name!r} needs timm", "pip install 'harness[timm]'") from None
    wanted = recipe.name.removeprefix(_TIMM)
    if not timm.is_model(wanted):
        near = did_you_mean(wanted.partition(".")[0], timm.list_models())
        raise RecipeError(
            f"{FIELD}: timm has no model {wanted!r}{near}",
            "`timm.list_models('*resnet*')` lists them",
        )
    kwargs = dict(recipe.kwargs)
    taken = ("num_classes", "in_chans", "img_size")
    _refuse(kwargs, {**dict.fromkeys(taken, _FROM_IMAGES), "checkpoint_path": _PRETRAINED})
    pretrained = kwargs.pop("pretrained", False)
    if isinstance(pretrained, str):
        load_file(pretrained)  # which says what is wrong with it
        kwargs["pretrained_cfg_overlay"] = {"file": pretrained}
    elif not isinstance(pretrained, bool):
        raise RecipeError(f"model.kwargs.pretrained is {pretrained!r}", _PRETRAINED)
    sizes = {"num_classes": classes, "in_chans": in_channels, "img_size": side}

    def create() -> Any:
        try:
            return timm.create_model(wanted, pretrained=bool(pretrained), **sizes, **kwargs)
        except TypeError as error:  # a convolutional net takes any size, and no such argument
            if "img_size" not in str(error):
                raise
            fixed = {name: size for name, size in sizes.items() if name != "img_size"}
            return timm.create_model(wanted, pretrained=bool(pretrained), **fixed, **kwargs)

    try:
        net: nn.Module = attempt(FIELD, recipe.name, create)
    except RecipeError as error:
        if pretrained is not True or error.__cause__ is None:
            raise
        raise _unfetched(wanted, recipe.name, error.__cause__) from error
    return net


def _unfetched(wanted: str, name: str, error: BaseException) -> RecipeError:
    """The error for weights of timm's that are neither here nor to be had."""
    import timm

    found = timm.get_pretrained_cfg(wanted, allow_unregistered=True)
    place = (found.hf_hub_id or found.url or "") if found is not None else ""
    if not place:
        return RecipeError(
            f"{FIELD}: timm has no trained weights for {name!r}",
            "name a file, or train from scratch",
        )
    file = "model.safetensors" if found.hf_hub_id else place.rpartition("/")[2]
    where = f"https://huggingface.co/{place}" if found.hf_hub_id else place
    reason = " ".join(str(error).split())[:200]
    return RecipeError(
        f"{FIELD}: could not fetch the weights file {file} of {place}: {type(error).__name__}: {reason}",
        f"fetch it from {where} and name it: model.kwargs.pretrained = 'path/{file}'",
    )


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
            f"model.kwargs.cifar_stem: the stem of {name!r} differs from what harness expects in this "
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
