"""Users' code in place of ours.

Imported, checked against its protocol, bound to its keyword arguments.

The protocols are in ``harness.train.protocols``. Whatever does not fit is a RecipeError that names
what is missing.

Legend: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch

from harness.errors import HarnessError, RecipeError, did_you_mean
from harness.plugins import is_plugin, load_plugin
from harness.study.recipe import Recipe
from harness.study.recipe_fields import LossRecipe, OptimizerRecipe, ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train.first_batch import loss_fault, optimizer_fault
from harness.train.step import LossFunc, OptFunc

OPTIMIZERS: dict[str, OptFunc] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
_TAKEN = {  # arguments of an optimiser that other recipe fields set
    "lr": "schedule.max_lr",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "the schedule",
    "betas": "the schedule",
}
_SAMPLE = 4  # images of a blank batch: a BatchNorm over one pixel needs two


def find(
    field: str,
    name: str,
    *,
    positional: Sequence[str] = (),
    keywords: Sequence[str] = (),
    kwargs: Mapping[str, Any],
    where: str,
) -> Callable[..., Any]:
    """Return the plug-in that a recipe field names, if it takes what it will be called with.

    Args:
        field: of the recipe, such as ``model.name``.
        name: ``file.py:attribute``.
        positional: what is passed by position, in words.
        keywords: names of ours that are passed as keywords.
        kwargs: the user's keyword arguments.
        where: the recipe fields that these come from, such as ``model.kwargs``.

    Raises:
        UsageError: its import fails.
        RecipeError: it does not take these arguments; the message names what is missing.
    """
    plugin: Callable[..., Any] = load_plugin(name, what=field)
    arguments = ", ".join((*positional, *(f"{key}=" for key in (*keywords, *kwargs))))
    calling = f"{name.rpartition(':')[2]}({arguments})"
    hint = f"it is called as {calling}"
    if not callable(plugin):
        raise RecipeError(
            f"{field}: {name!r} is of type {type(plugin).__name__}, not a function or class", hint
        )
    try:
        parameters = list(inspect.signature(plugin).parameters.values())
    except (TypeError, ValueError):  # a builtin: the blank call will tell
        return plugin
    for key in kwargs:
        if key in keywords:
            raise RecipeError(
                f"{where}.{key} is not allowed",
                f"{key} follows from the images or from another field; {hint}",
            )
    # asked by signature before anything runs: a missing argument would otherwise end the first
    # trial
    kinds = {p.kind for p in parameters}
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        raise RecipeError(
            f"{field}: {name!r} takes {len(places)} of {', '.join(positional)} by position", hint
        )
    filled = [p.name for p in places[: len(positional)]]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        free = [key for key in named if key not in filled]
        for key in keywords:
            if key not in free:
                raise RecipeError(f"{field}: {name!r} does not accept {key}", hint)
        for key in kwargs:
            if key not in free:
                theirs = [argument for argument in free if argument not in keywords]
                takes = f"it takes {', '.join(theirs)}" if theirs else "it takes none"
                raise RecipeError(
                    f"{where}.{key}: {name!r} takes no {key!r}{did_you_mean(key, theirs)}", takes
                )
    lacking = _lacking(parameters, (*filled, *keywords, *kwargs))
    if lacking:
        raise RecipeError(
            f"{field}: {name!r} needs {', '.join(lacking)}, which has no value",
            f"set {where}.{lacking[0]}",
        )
    return plugin


def _lacking(parameters: Sequence[inspect.Parameter], given: Sequence[str]) -> list[str]:
    """Return the parameters that have neither a default nor a value."""
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = (*named, inspect.Parameter.KEYWORD_ONLY)
    return [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in asked and p.name not in given
    ]


def attempt(field: str, name: str, call: Callable[[], Any]) -> Any:
    """Return what a call of a plug-in's gives.

    Raises:
        RecipeError: it raised anything that is not our own error.
    """
    try:
        return call()
    except HarnessError:
        raise
    except Exception as error:  # whatever a user's code raises
        message = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"{field}: {name!r} raised {type(error).__name__}{f': {message}' if message else ''}"
        ) from error


@lru_cache(maxsize=64)
def bound(function: Callable[..., Any], kwargs: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return a function with its keyword arguments, the same object for the same two.

    A recorded step is known by it.
    """
    return partial(function, **dict(kwargs)) if kwargs else function


def optimizer_of(recipe: OptimizerRecipe) -> OptFunc:
    """Return the optimiser class of a recipe: torch's, or the user's.

    Raises:
        UsageError: its import fails.
        RecipeError: it does not take what an optimiser is made with.
    """
    if not is_plugin(recipe.name):
        return OPTIMIZERS[recipe.name]
    kwargs = dict(recipe.kwargs)
    for key in kwargs:
        if key in _TAKEN:
            raise RecipeError(
                f"optimizer.kwargs.{key} would be overwritten", f"{key} is set by {_TAKEN[key]}"
            )
    made_of = {
        "positional": ("params", "lr"),
        "keywords": ("weight_decay",),
        "where": "optimizer.kwargs",
    }
    plugin = find("optimizer.name", recipe.name, kwargs=kwargs, **made_of)  # type: ignore[arg-type]
    return bound(plugin, recipe.kwargs)


def loss_of(recipe: LossRecipe) -> LossFunc | None:
    """Return the user's loss, or None for cross-entropy.

    Raises:
        UsageError: its import fails.
        RecipeError: it does not take logits and targets.
    """
    if not is_plugin(recipe.name):
        return None
    plugin = find(
        "loss.name",
        recipe.name,
        positional=("logits_NK", "target"),
        kwargs=dict(recipe.kwargs),
        where="loss.kwargs",
    )
    return bound(plugin, recipe.kwargs)


def table_of(schedule: ScheduleRecipe, steps: int) -> list[tuple[float, float]]:
    """Return (learning rate, momentum or beta1) of each step.

    As ``schedule_table`` does, for a user's schedule too.

    A user's schedule leaves the momentum at 0.9.

    Raises:
        UsageError: its import fails.
        RecipeError: it gives what is no factor on the learning rate, or 0 throughout.
    """
    if not is_plugin(schedule.name):
        return schedule_table(schedule, steps)
    field, name = "schedule.name", schedule.name
    function = find(
        field,
        name,
        positional=("step", "steps"),
        kwargs=dict(schedule.kwargs),
        where="schedule.kwargs",
    )
    table = []
    for step in range(steps):
        call = partial(function, step, steps, **dict(schedule.kwargs))
        factor = attempt(field, name, lambda call=call: float(call()))  # type: ignore[misc]
        if not 0 <= factor < math.inf:
            raise RecipeError(
                f"{field}: {name!r} gives {factor} at step {step} of {steps}",
                "give a factor on schedule.max_lr, 0 or more",
            )
        table.append((schedule.max_lr * factor, 0.9))
    # a schedule in percent, rounded down by integer division, gives zeros and no error
    if not any(rate for rate, _ in table):
        raise RecipeError(
            f"{field}: {name!r} is 0 at every one of {steps} steps, so nothing would be trained"
        )
    return table


def cannot_be_recorded(recipe: Recipe) -> str:
    """Return why a CUDA graph cannot hold a recipe's step whatever its net does, in words.

    Empty when it can.
    """
    return "an augmentation of yours draws on the host" if recipe.augment.own else ""


def check_parts(recipe: Recipe, *, classes: int, steps: int) -> None:
    """Try a recipe's own optimiser, schedule and loss on a few numbers, before anything is planned.

    Args:
        recipe: of the trial.
        classes: K.
        steps: of the whole run.

    Raises:
        UsageError: the import of one fails.
        RecipeError: one does not fit its protocol.
    """
    # the whole schedule: a user's may break at its last step
    table_of(recipe.schedule, steps)
    if is_plugin(recipe.optimizer.name):
        _check_optimizer(recipe)
    function = loss_of(recipe.loss)
    if function is not None:
        mixes = recipe.augment.mixup > 0 or recipe.augment.cutmix > 0
        _check_loss(recipe.loss.name, function, classes=classes, soft=mixes)


def _check_optimizer(recipe: Recipe) -> None:
    field, name = "optimizer.name", recipe.optimizer.name
    make = optimizer_of(recipe.optimizer)
    weights = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
    made = attempt(
        field,
        name,
        lambda: make(weights, recipe.schedule.max_lr, weight_decay=recipe.optimizer.weight_decay),
    )
    if fault := optimizer_fault(made):
        raise RecipeError(f"{field}: {name!r} {fault.problem}", fault.hint)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    attempt(field, name, made.step)


def _check_loss(name: str, function: LossFunc, *, classes: int, soft: bool) -> None:
    field = "loss.name"
    # random logits: a loss that is finite at 0 may not be elsewhere
    source = torch.Generator().manual_seed(0)
    out_NK = torch.randn(_SAMPLE, classes, generator=source, requires_grad=True)
    labels_N = torch.arange(_SAMPLE) % classes
    target = torch.nn.functional.one_hot(labels_N, classes).float() if soft else labels_N
    loss = attempt(field, name, lambda: function(out_NK, target))
    if fault := loss_fault(loss):
        raise RecipeError(f"{field}: {name!r} {fault.problem}", fault.hint)
    if not bool(torch.isfinite(loss.detach())):
        raise RecipeError(
            f"{field}: {name!r} returns {float(loss.detach())} for random logits",
            "a loss should be finite",
        )
