"""Nets that start from trained weights: loading them, freezing parts, a lower rate for the backbone.

The head is the last layer that gives one number a class; all the rest is the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, RecipeError, UsageError, did_you_mean
from harness.study.recipe_fields import ModelRecipe
from harness.train.optim import RATE_SHARES

_LISTED = 3  # weights that an error names
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)  # what training scripts save weights under


def settle(net: nn.Module, recipe: ModelRecipe, *, classes: int) -> nn.Module:
    """Freeze what a recipe freezes, note the backbone's lower rate on the net, and return the net.

    A frozen part is in evaluation mode for good, too: its BatchNorm keeps the statistics it came with
    and its dropout is off.

    Raises:
        RecipeError: it names a part that the net does not have, or the net has no head to be found.
    """
    if recipe.freeze == "none" and recipe.backbone_lr == 1.0:
        return net
    if recipe.freeze == "backbone":
        head = head_of(net, classes, field="model.freeze")
        _freeze(net, keep=net.get_submodule(head))
    elif recipe.freeze != "none":
        for name in _parts(net, recipe.freeze):
            _freeze(net.get_submodule(name))
    if recipe.backbone_lr != 1.0:
        head = head_of(net, classes, field="model.backbone_lr")
        shares = {
            name: recipe.backbone_lr
            for name, _ in net.named_parameters()
            if not name.startswith(f"{head}.")
        }
        setattr(net, RATE_SHARES, shares)
    return net


def head_of(net: nn.Module, classes: int, *, field: str) -> str:
    """Return the name of a net's last layer, the last linear one or convolution with one output a class.

    Raises:
        RecipeError: there is none.
    """
    names: list[str] = [
        name
        for name, module in net.named_modules()
        if name and classes in (_outputs(module, "out_features"), _outputs(module, "out_channels"))
    ]
    if names:
        return names[-1]
    parts = ", ".join(name for name, _ in net.named_children())
    raise RecipeError(
        f"{field}: no layer of the net has {classes} outputs, so its last layer is not known",
        f"name the parts to freeze: model.freeze = 'one,two', of {parts}",
    )


def _outputs(module: nn.Module, name: str) -> int | None:
    return getattr(module, name, None) if isinstance(module, (nn.Linear, nn.Conv2d)) else None


def _freeze(part: nn.Module, *, keep: nn.Module | None = None) -> None:
    """Switch off the training of a part, or of all of it but one layer and what holds that layer."""
    kept = set(keep.modules()) if keep is not None else set()
    weights = {id(p) for p in keep.parameters()} if keep is not None else set()
    for p in part.parameters():
        if id(p) not in weights:
            p.requires_grad_(False)
    for module in part.modules():
        holds = keep is not None and any(inner is keep for inner in module.modules())
        if module not in kept and not holds:
            module.training = False


def _parts(net: nn.Module, freeze: str) -> Iterator[str]:
    """Yield the names of the parts that ``model.freeze`` lists."""
    known = [name for name, _ in net.named_modules() if name]
    for name in (part.strip() for part in freeze.split(",")):
        if name not in known:
            children = ", ".join(name for name, _ in net.named_children())
            raise RecipeError(
                f"model.freeze: the net has no part {name!r}{did_you_mean(name, known)}",
                f"its parts: {children}, and what is in them, as layer1.0",
            )
        yield name


def load_file(path: str) -> dict[str, Tensor]:
    """Return the weights in a file, by name: what ``torch.save`` or safetensors wrote. No code in it is run.

    Raises:
        RecipeError: it is not there, or holds no weights.
    """
    place = f"model.kwargs.pretrained: the weights file {path!r}"
    try:
        if path.endswith(".safetensors"):
            content: Any = _safetensors(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RecipeError(
            f"{place} does not exist", f"harness looks for it from the working folder, {Path.cwd()}"
        ) from None
    except HarnessError:
        raise
    except Exception as error:  # a zip, a pickle with code in it, a page of HTML
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"{place} is unreadable: {reason}", "save it with torch.save(net.state_dict(), path)"
        ) from error
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise RecipeError(
            f"{place} holds no weights", "save it with torch.save(net.state_dict(), path)"
        )
    # `module.` is what DataParallel puts before every name
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file as read
    except ImportError:
        raise UsageError(
            f"{path!r} needs safetensors", "pip install 'harness[timm]', which brings it"
        ) from None
    weights: dict[str, Tensor] = read(path)
    return weights


def load_state(name: str, net: nn.Module, state: Mapping[str, Tensor], *, classes: int) -> None:
    """Copy trained weights into a net. Its head stays as it is where the classes were others.

    Args:
        name: of the net, for errors.
        net: in its place.
        state: the weights by name.
        classes: K.

    Raises:
        RecipeError: anything but the head does not fit.
    """
    head = head_of(net, classes, field="model.kwargs.pretrained")
    here = net.state_dict()
    given = {key: _fitted(value, here.get(key)) for key, value in state.items()}
    wrong = [
        f"{key} is {_shape(given.get(key))} there and {_shape(value)} here"
        for key, value in here.items()
        if key not in given or given[key].shape != value.shape
        if not key.startswith(f"{head}.") and not key.endswith("num_batches_tracked")
    ]
    wrong += [
        f"{key} is there and not here"
        for key in given
        if key not in here and not key.startswith(f"{head}.")
    ]
    if wrong:
        more = f" (and {len(wrong) - _LISTED} more)" if len(wrong) > _LISTED else ""
        raise RecipeError(
            f"model.kwargs.pretrained: the weights are not of {name!r}: {'; '.join(wrong[:_LISTED])}{more}",
            "name weights of this net",
        )
    fitting = {
        key: value for key, value in given.items() if key in here and value.shape == here[key].shape
    }
    net.load_state_dict(fitting, strict=False)


def _fitted(value: Tensor, wanted: Tensor | None) -> Tensor:
    """Return a weight for grey images where it was trained for colour: the sum over the three channels."""
    colour = value.dim() == 4 and value.shape[1] == 3
    if colour and wanted is not None and wanted.dim() == 4 and wanted.shape[1] == 1:
        return value.sum(dim=1, keepdim=True)
    return value


def _shape(value: Tensor | None) -> str:
    return " x ".join(map(str, value.shape)) if value is not None else "missing"


def take_channels(name: str, net: nn.Module, in_channels: int) -> None:
    """Give the first convolution, the one that reads the image, another number of input channels."""
    found = next(
        (
            (path, m)
            for path, m in net.named_modules()
            if isinstance(m, nn.Conv2d) and m.in_channels == 3
        ),
        None,
    )
    if found is None:
        raise RecipeError(
            f"model.name: {name!r} takes 3 channels and the images have {in_channels}",
            "use colour images",
        )
    path, old = found
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
