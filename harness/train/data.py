"""Data sets as uint8 tensors with a fingerprint, and their fixed, stratified splits.

A name is one that :func:`describe` lists, a folder, or your function. Known names are
looked for below the data root (``HARNESS_DATA``); a folder may hold parquet shards, one folder of
images a class, or IDX files.

Shapes: N images, C channels (1 grey, 3 colour), H and W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.config import find_defaults
from harness.errors import DataError
from harness.text import plural
from harness.train import arrays, cache, sources

_SMALLEST = arrays.SMALLEST_SIDE
_FOLDERS = ("tree", "parquet", "idx")  # kinds of sources that a user may have put together


@dataclass(frozen=True, slots=True)
class Dataset:
    """A whole data set on the CPU: images uint8 and contiguous, labels int64 from 0.

    ``fingerprint`` is 16 hexadecimal digits over pixels (after resizing), labels and class names.
    ``published`` holds the (mean, std) per channel in [0, 1] that the literature uses for these
    images, where there is one. The validation part is there where the source brings one as well as a
    test part. ``notes`` are what a user should know of the content.
    """

    name: str
    train_images_NCHW: Tensor
    train_labels_N: Tensor
    test_images_NCHW: Tensor
    test_labels_N: Tensor
    classes: tuple[str, ...]
    fingerprint: str
    published: tuple[tuple[float, ...], tuple[float, ...]] | None
    val_images_NCHW: Tensor | None = None
    val_labels_N: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Training, validation and test images of a data set; validation may be empty.

    ``mean`` and ``std`` are per channel in [0, 1], over the training part alone. ``fingerprint`` is
    the data set's: which images are where follows from it, the two counts and the split seed.
    """

    train_images_NCHW: Tensor
    train_labels_N: Tensor
    val_images_NCHW: Tensor
    val_labels_N: Tensor
    test_images_NCHW: Tensor
    test_labels_N: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return classes and images of every part in a line."""
        parts = [
            ("train", self.train_labels_N),
            ("validation", self.val_labels_N),
            ("test", self.test_labels_N),
        ]
        images = ", ".join(f"{len(labels_N):,} {part}" for part, labels_N in parts)
        names = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        return f"{images}; {plural(len(self.classes), 'class', 'classes')}: {names}"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What `harness data list` says about one known data set."""

    name: str
    images: int
    test_images: int
    shape_CHW: tuple[int, int, int]
    classes: int
    where: str
    present: bool
    licence: str
    how: str


def data_root() -> Path:
    """Return the folder of data sets.

    ``HARNESS_DATA``, else the default of ``harness.toml``, else the user's cache folder.
    """
    chosen = os.environ.get("HARNESS_DATA") or find_defaults().data
    return Path(chosen).expanduser().absolute() if chosen else cache.user_folder()


def load(
    name: str,
    *,
    size: int = 0,
    download: bool = False,
    kwargs: Mapping[str, Any] | None = None,
    on_event: Callable[[str], None] | None = None,
) -> Dataset:
    """Load a data set, from the cache when its files are unchanged.

    Args:
        name: a known name, the path of a folder, or ``file.py:function``.
        size: side in pixels that images are cut (centre) and resized to; 0 keeps their own size.
        download: fetch a known data set that is not here.
        kwargs: keyword arguments of your function.
        on_event: receives a sentence on each download, on decoding, and on what a user should
            know of the source.

    Raises:
        DataError: the name is unknown, or the images are missing, unreadable or inconsistent.
        UsageError, RecipeError: the import of your function fails, or it does not take these
            arguments.
    """
    tell = on_event or _silent
    place = data_root()
    source = _find(name, place, size, kwargs)
    # never unasked: a download is hundreds of megabytes on somebody's connection
    if source is None and download:
        sources.download(name, place, tell)
        source = sources.find(name, place)
    if source is None:
        raise sources.not_here(name, place)
    if source.note:
        tell(source.note)
    # what has no files is decoded faster than a cache would be read
    if source.files:
        content, fingerprint = cache.cached(
            _entry(source, place, size), lambda: _decode(source, size, tell), tell
        )
    else:
        content = _decode(source, size, tell)
        fingerprint = arrays.digest(content)
    dataset = _dataset(name, content, fingerprint, size)
    _tell(dataset, tell)
    return dataset


def available(name: str) -> bool:
    """Say whether :func:`load` would find the files of a data set without a download.

    Decodes nothing.
    """
    try:
        return sources.find(name, data_root()) is not None
    except DataError:
        return False


def files_of(name: str) -> tuple[Path, ...]:
    """Return the files that a data set is read from; none of embedded images and of a function. Decodes nothing."""
    source = sources.find(name, data_root())
    return source.files if source is not None else ()


def fetch(name: str, *, on_event: Callable[[str], None] | None = None) -> Dataset:
    """Download a known data set unless it is here, check it and decode it into the cache.

    Raises:
        DataError: as :func:`load`; no connection; a wrong checksum.
    """
    return load(name, download=True, on_event=on_event)


def verify(name: str, *, size: int = 0, on_event: Callable[[str], None] | None = None) -> Dataset:
    """Decode a data set afresh from its files and put the cache right.

    torchvision checks its checksums.

    Raises:
        DataError: as :func:`load`.
    """
    tell = on_event or _silent
    place = data_root()
    source = _find(name, place, size)
    if source is None:
        raise sources.not_here(name, place)
    content = _decode(source, size, tell)
    now = arrays.digest(content)
    if source.files:
        entry = _entry(source, place, size)
        with entry.locked(tell):
            kept = entry.read(tell)
            # an equal cache stays: its time tells other processes nothing new
            if kept is None or kept[1] != now:
                if kept is not None:
                    tell(f"{name}: the cache differed from the files and was written again")
                entry.write(content, now, tell)
    dataset = _dataset(name, content, now, size)
    _tell(dataset, tell)
    return dataset


def describe() -> list[SourceInfo]:
    """List the known data sets, whether each is here, and how to get it.

    Decodes and downloads nothing.
    """
    place = data_root()
    infos = []
    for known in sources.KNOWN.values():
        embedded = not known.torchvision
        where = (
            "embedded"
            if embedded
            else " or ".join(dict.fromkeys([str(place / known.folder), str(place / known.name)]))
        )
        try:
            source = sources.find(known.name, place)
            how = "" if source else f"harness data fetch {known.name} ({known.download_mb} MB)"
        except DataError as error:
            source, how = None, error.message
        if source and not embedded:
            where = str(source.where)
        infos.append(
            SourceInfo(
                known.name,
                known.images,
                known.test_images,
                known.shape_CHW,
                known.classes,
                where,
                source is not None,
                known.licence,
                how,
            )
        )
    return infos


def split(dataset: Dataset, *, train: int = 0, val: int = 10_000, split_seed: int = 0) -> Split:
    """Split the training images of a data set into training and validation, class by class.

    ``split_seed`` fixes the split.

    A data set with a validation part of its own is not split: that part is taken whole, unless
    ``val`` is 0.

    The validation images depend on ``val`` and ``split_seed`` only, and the first training images
    stay when ``train`` grows (up to rounding), so that studies of different size decide on the same
    images.

    Args:
        dataset: what to split; its test part is passed through.
        train: training images; 0 takes all that are left.
        val: validation images; 0 for none, any other number for all of a validation part that the
            data set brings.
        split_seed: fixes the draw. torch's generators have no part in it.

    Raises:
        DataError: too few images, or too few to hold every class.
    """
    total = len(dataset.train_labels_N)
    if train < 0 or val < 0 or split_seed < 0:
        raise DataError(
            "data.train, data.val and data.split_seed must be 0 or more", "use 0 for the default"
        )
    # a published validation part is what others decided on: it is taken whole, not split again
    own_images_NCHW, own_labels_N = dataset.val_images_NCHW, dataset.val_labels_N
    asked = val
    if own_images_NCHW is not None:
        val = 0
    labels_N = dataset.train_labels_N.numpy()
    fifth = f"a fifth for validation would be data.val={total // 5}"
    try:
        val_N, train_N = arrays.stratified_order(labels_N, [val, train or -1], seed=split_seed)
    except DataError as error:
        wanted = f"data.val={val:,}" + (f" and data.train={train:,}" if train else "")
        raise DataError(
            f"{dataset.name}: {total:,} training images do not allow {wanted}: {error.message}",
            f"{fifth}; each part needs an image of all {len(dataset.classes)} classes",
        ) from error
    pictures_NCHW, targets_N = dataset.train_images_NCHW, dataset.train_labels_N
    train_images_NCHW = (
        pictures_NCHW if len(train_N) == total else pictures_NCHW[torch.from_numpy(train_N)]
    )
    # over the training part alone: validation and test images must not leak into it
    mean, std = _moments(train_images_NCHW)
    held_out = pictures_NCHW[torch.from_numpy(val_N)], targets_N[torch.from_numpy(val_N)]
    if own_images_NCHW is not None and own_labels_N is not None and asked:
        held_out = own_images_NCHW, own_labels_N
    return Split(
        train_images_NCHW,
        targets_N[torch.from_numpy(train_N)],
        *held_out,
        dataset.test_images_NCHW,
        dataset.test_labels_N,
        dataset.classes,
        mean,
        std,
        dataset.fingerprint,
        dataset.notes,
    )


def _moments(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population std per channel in [0, 1], from a histogram.

    Exact, whatever the threads.
    """
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images_NCHW.shape[1]):
        share = (
            torch.bincount(images_NCHW[:, channel].reshape(-1), minlength=256).numpy()
            / images_NCHW[:, channel].numel()
        )
        mean = float(share @ values)
        means.append(mean)
        # a channel without variation is only centred
        stds.append(float(np.sqrt(share @ (values - mean) ** 2)) or 1.0)
    return tuple(means), tuple(stds)


def _find(
    name: str, root: Path, size: int, kwargs: Mapping[str, Any] | None = None
) -> sources.DataSource | None:
    if size and size < _SMALLEST:
        raise DataError(
            f"data.size={size} is smaller than {_SMALLEST} pixels",
            f"use {_SMALLEST} or more, or 0 to keep the size",
        )
    return sources.find(name, root, kwargs)


def _entry(source: sources.DataSource, root: Path, size: int) -> cache.CacheEntry:
    state = cache.state_of(source.kind, source.files, size=size)
    return cache.CacheEntry(root, name=source.name, where=source.where, size=size, state=state)


def _decode(source: sources.DataSource, size: int, tell: Callable[[str], None]) -> arrays.Arrays:
    if source.files:
        tell(f"{source.name}: decoding the files in {source.where}")
    try:
        content = source.read(size, tell)
    except DataError as error:
        if source.name in error.message or str(source.where) in error.message:
            raise
        raise DataError(f"{source.name}: {error.message}", error.hint) from error
    arrays.check(content, source.name)
    # what is published as a set is known; a folder may have been copied together
    if source.kind in _FOLDERS:
        content = replace(content, notes=(*content.notes, *arrays.repeated(content)))
    return content


def _tell(dataset: Dataset, tell: Callable[[str], None]) -> None:
    for note in dataset.notes:
        tell(f"{dataset.name}: {note}")


def _dataset(name: str, content: arrays.Arrays, fingerprint: str, size: int) -> Dataset:
    known = sources.KNOWN.get(name)
    native = (
        known is not None
        and bool(known.mean)
        and (size == 0 or (size, size) == known.shape_CHW[1:])
    )
    return Dataset(
        name,
        torch.from_numpy(np.ascontiguousarray(content.train_images_NCHW)),
        torch.from_numpy(content.train_labels_N),
        torch.from_numpy(np.ascontiguousarray(content.test_images_NCHW)),
        torch.from_numpy(content.test_labels_N),
        content.classes,
        fingerprint,
        (known.mean, known.std) if known is not None and native else None,
        None
        if content.val_images_NCHW is None
        else torch.from_numpy(np.ascontiguousarray(content.val_images_NCHW)),
        None if content.val_labels_N is None else torch.from_numpy(content.val_labels_N),
        (*content.notes, *_on_validation(content)),
    )


def _on_validation(content: arrays.Arrays) -> tuple[str, ...]:
    if content.val_labels_N is None:
        return ()
    count = plural(len(content.val_labels_N), "image")
    return (
        f"its own validation part of {count} is used whole: data.val is ignored, unless it is 0",
    )


def _silent(_: str) -> None:
    """Hear nothing."""
