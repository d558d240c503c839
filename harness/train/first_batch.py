"""What a loader, a net, a loss and an optimiser give, looked at once.

A clear sentence before torch's error, or its silence.

Studies and ``fit_one_cycle`` share it: every function returns what is wrong, and callers put their
own words before it.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.errors import UsageError
from harness.train.devices import overlaps

_PAIR = "yield (images, labels), two tensors"
_IGNORED = -100  # torch's cross-entropy leaves these labels out of the loss, and nothing else does
_SUM = 1e-2  # by which the sum of soft targets may miss 1: bfloat16 has three digits


class Fault(NamedTuple):
    """What is wrong, to be put behind a subject, and what to do about it."""

    problem: str
    hint: str


def batch_fault(batch: Any) -> Fault | None:
    """Look at the form of a batch, as a loader yields it."""
    if isinstance(batch, Mapping):
        return Fault(f"is a table with keys {', '.join(map(repr, batch))}", _PAIR)
    if not isinstance(batch, (tuple, list)):
        return Fault(f"is a {_kind(batch)}", _PAIR)
    if len(batch) != 2:
        parts = "1 part" if len(batch) == 1 else f"{len(batch)} parts"
        return Fault(f"has {parts}", _PAIR)
    return _parts_fault(*batch)


def _parts_fault(images: Any, labels: Any) -> Fault | None:
    if not isinstance(images, Tensor):
        return Fault(
            f"holds images that are a {_kind(images)}",
            "give a tensor x_NCHW: torchvision's ToTensor makes one",
        )
    if not isinstance(labels, Tensor):
        return Fault(
            f"holds labels that are {_labels_kind(labels)}",
            "give class numbers from 0 as a tensor, one an image",
        )
    if images.dim() < 2:
        return Fault(
            f"holds images of shape {tuple(images.shape)}", "the first dimension counts the images"
        )
    if not len(images):
        return Fault("holds no image", "leave empty batches out")
    return None


def target_fault(
    target: Tensor, images: int, *, classes: int = 0, soft: bool = True, own: bool = False
) -> Fault | None:
    """Look at the targets of a batch.

    Class numbers target_N, or probabilities target_NK where ``soft`` allows them.

    Args:
        target: of the batch.
        images: N.
        classes: K, 0 while it is not known.
        soft: whether probabilities are allowed.
        own: whether the user's loss takes them, which decides what they mean.
    """
    shape = tuple(target.shape)
    if target.dim() == 0 or len(target) != images:
        return Fault(f"of shape {shape} go with {images} images", "give one label an image")
    # the cross-entropy would take a column for soft targets of one class, in silence
    if target.dim() == 2 and shape[1] == 1:
        return Fault(f"have shape {shape}", "give shape (N,): labels.squeeze(1)")
    if target.dim() > 2:
        return Fault(
            f"have shape {shape}",
            "give class numbers of shape (N,), or probabilities of shape (N, K)",
        )
    if target.dim() == 2:
        return _soft_fault(target, classes=classes, soft=soft, own=own)
    return _numbers_fault(target, classes)


def _numbers_fault(target: Tensor, classes: int) -> Fault | None:
    if target.dtype != torch.int64:
        return Fault(
            f"are {_word(target.dtype)}", "give class numbers from 0 as int64: labels.long()"
        )
    # one pass over the labels for both ends: on a GPU each read waits for the device
    low, high = (int(end) for end in torch.aminmax(target))
    if low == _IGNORED:
        return Fault(
            f"hold {low}, which marks what a loss ignores",
            "leave these images out: their accuracy means nothing",
        )
    if low < 0:
        return Fault(f"hold {low} and class numbers start at 0", "number the classes from 0")
    if classes and high >= classes:
        return Fault(
            f"hold {high} and the model has {classes} outputs, for classes 0 to {classes - 1}",
            "number the classes from 0, or give the model an output a class",
        )
    return None


def _soft_fault(target_NK: Tensor, *, classes: int, soft: bool, own: bool) -> Fault | None:
    shape = tuple(target_NK.shape)
    if not target_NK.is_floating_point():
        return Fault(
            f"are {_word(target_NK.dtype)} of shape {shape}",
            "give class numbers: labels.argmax(dim=1)",
        )
    if not soft:
        return Fault(f"have shape {shape}", "validation needs class numbers: labels.argmax(dim=1)")
    if classes and shape[1] != classes:
        return Fault(
            f"have {shape[1]} columns and the model {classes} outputs",
            "give one probability a class",
        )
    if not own and (
        bool((target_NK < 0).any()) or not bool(((target_NK.sum(dim=1) - 1).abs() <= _SUM).all())
    ):
        return Fault(
            "have rows that are no probabilities",
            "each row of soft targets is 0 or more and sums to 1",
        )
    return None


def output_fault(out: Any, images: int, *, classes: int = 0) -> Fault | None:
    """Look at what a net returned for a batch: it should be logits_NK.

    Args:
        out: of the net.
        images: N.
        classes: K, 0 where the net alone says how many there are.
    """
    if not isinstance(out, Tensor):
        return Fault(f"returns a {_kind(out)}", "return logits_NK, a single tensor")
    shape = tuple(out.shape)
    if (classes and shape != (images, classes)) or out.dim() != 2 or shape[0] != images:
        wanted = f"({images}, {classes or 'K'})"
        return Fault(
            f"returns shape {shape} where it should be {wanted}",
            "one row an image and one column a class",
        )
    if shape[1] < 2:
        return Fault("returns one number an image", "give it an output a class: two for yes and no")
    if not out.is_floating_point():
        return Fault(f"returns {_word(out.dtype)}", "return logits_NK, before any argmax")
    return None


def loss_fault(loss: Any) -> Fault | None:
    """Look at what the user's loss returned."""
    if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.is_floating_point():
        kind = (
            f"a tensor of shape {tuple(loss.shape)}"
            if isinstance(loss, Tensor)
            else f"a {_kind(loss)}"
        )
        return Fault(
            f"returns {kind}", "return the mean over the batch, a tensor without dimensions"
        )
    if torch.is_grad_enabled() and not loss.requires_grad:
        return Fault(
            "returns a loss without a gradient", "work out the loss from the logits in torch"
        )
    return None


def optimizer_fault(made: Any) -> Fault | None:
    """Look at an optimiser that a user's function made."""
    for needed in ("param_groups", "step", "zero_grad"):
        if not hasattr(made, needed):
            return Fault(
                f"makes a {_kind(made)} without {needed}", "derive it from torch.optim.Optimizer"
            )
    if any("lr" not in group for group in made.param_groups):
        return Fault("keeps no 'lr' in its parameter groups", "the schedule sets it there")
    # LBFGS and its like compute the loss several times a step, which no fixed batch order serves
    wanted = inspect.signature(made.step).parameters
    if "closure" in wanted and wanted["closure"].default is inspect.Parameter.empty:
        return Fault(
            f"makes a {_kind(made)}, which takes several looks at a batch a step",
            "use one that steps on the gradient alone, such as torch.optim.Adam",
        )
    return None


def checked_batch(
    batch: Any, device: torch.device, *, where: str, classes: int, own: bool
) -> tuple[Tensor, Tensor]:
    """Return a batch of any loader on the device.

    Args:
        batch: as the loader yields it.
        device: that it goes to.
        where: what the loader is called in an error.
        classes: K, 0 while it is not known.
        own: whether the user's loss takes the targets.

    Raises:
        UsageError: it is no pair of images and labels.
    """
    if fault := batch_fault(batch):
        raise UsageError(f"a batch of {where} {fault.problem}", fault.hint)
    images, labels = batch
    # labels on a GPU are looked at until the number of classes is known, which is once: to look is
    # to wait for the device
    if (labels.device.type == "cpu" or not classes) and (
        fault := target_fault(labels, len(images), classes=classes, own=own)
    ):
        raise UsageError(f"the labels of {where} {fault.problem}", fault.hint)
    return images.to(device, non_blocking=overlaps(device)), labels.to(
        device, non_blocking=overlaps(device)
    )


def explain_dtype(
    weights: Iterable[torch.nn.Parameter], images: Tensor, error: RuntimeError
) -> None:
    """Explain a net's error by images of another dtype than its weights', where they differ.

    Raises:
        UsageError: they do.
    """
    dtype = next((p.dtype for p in weights if p.is_floating_point()), None)
    if dtype is None or images.dtype == dtype:
        return
    how = "images.float() / 255" if images.dtype == torch.uint8 else f"images.to({dtype})"
    raise UsageError(
        f"the images are {_word(images.dtype)} and the model's weights {_word(dtype)}",
        f"convert them: {how}",
    ) from error


def _kind(value: object) -> str:
    return type(value).__name__


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _labels_kind(labels: Any) -> str:
    if isinstance(labels, str) or (
        isinstance(labels, (list, tuple)) and any(isinstance(label, str) for label in labels)
    ):
        return "words"
    return f"a {_kind(labels)}"
