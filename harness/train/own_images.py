"""A user's data source, turned into arrays.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import DataError, did_you_mean
from harness.train import pixels
from harness.train.arrays import Arrays, Labels, Pixels, hold_out
from harness.train.own import attempt, find

_KEYS = ("train_images", "train_labels", "test_images", "test_labels", "classes")
_HINT = (
    "it returns a table with train_images, train_labels, classes, "
    "and perhaps test_images and test_labels"
)


def read_own(name: str, kwargs: Mapping[str, Any], size: int) -> Arrays:
    """Return what a user's data source gives, checked as far as a reader can.

    Args:
        name: ``file.py:function``.
        kwargs: its keyword arguments.
        size: side in pixels of what is returned, 0 for the images' own.

    Raises:
        UsageError: its import fails.
        RecipeError: it does not take these arguments, or raises.
        DataError: what it returns lacks something, which the message names.
    """
    function = find("data.name", name, kwargs=kwargs, where="data.kwargs")
    table = attempt("data.name", name, lambda: function(**kwargs))
    if not isinstance(table, Mapping):
        raise DataError(f"{name} returns a {type(table).__name__} and no table", _HINT)
    # a misspelt key would be left out in silence
    for key in table:
        if key not in _KEYS:
            raise DataError(
                f"{name} returns {key!r}, which means nothing{did_you_mean(str(key), _KEYS)}", _HINT
            )
    with_test = "test_images" in table or "test_labels" in table
    for key in _KEYS if with_test else ("train_images", "train_labels", "classes"):
        if key not in table:
            raise DataError(f"{name} returns no {key!r}", _HINT)
    classes = tuple(table["classes"])
    if not all(isinstance(word, str) for word in classes):
        raise DataError(f"{name}: classes are {classes[:3]}", "classes are names: a list of texts")
    train_NCHW, train_N = _part(name, table, "train", size)
    if not with_test:
        return hold_out(train_NCHW, train_N, classes)
    return Arrays(train_NCHW, train_N, *_part(name, table, "test", size), classes)


def _part(name: str, table: Mapping[str, Any], part: str, size: int) -> tuple[Pixels, Labels]:
    images, labels = (
        _array(name, f"{part}_{what}", table[f"{part}_{what}"]) for what in ("images", "labels")
    )
    place = f"{name}: {part}_images"
    if images.dtype != np.uint8:
        raise DataError(
            f"{place} are {images.dtype} and should be uint8",
            "pixels from 0 to 255: (x * 255).astype('uint8')",
        )
    # grey images come without a channel axis
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim != 4:
        raise DataError(f"{place} have shape {images.shape}", "give NHW, NHWC or NCHW")
    else:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        # three by three pixels, or five channels: nothing says which axis is which
        if first == last:
            raise DataError(
                f"{place} have shape {images.shape}, in which 1 or 3 channels are not to be found"
            )
        images = images.transpose(0, 3, 1, 2) if last else images
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        kind = f"{labels.dtype} of shape {labels.shape}"
        raise DataError(
            f"{name}: {part}_labels are {kind}", "give one whole number an image, from 0"
        )
    return pixels.resize(np.ascontiguousarray(images), size), labels.astype(np.int64)


def _array(name: str, key: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)  # of a torch tensor on the CPU too
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: {key} is no array: {error}",
            "give an array, a tensor or a list of equal parts",
        ) from error
