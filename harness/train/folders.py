"""Folders that a user names: a tree with one folder a class, parquet shards, or IDX files, told apart by what they hold."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.train import pixels
from harness.train.arrays import Arrays, OnEvent, hold_out

_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
_TEST = ("test", "val", "valid", "validation")  # the first one that holds class folders is the test part
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, slots=True)
class Tree:
    """An image tree: files of each class of the training and of the test part (``test_word`` is empty without one)."""

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, ...], ...]
    test: tuple[tuple[Path, ...], ...]
    test_word: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every image file of both parts, in the order they are read."""
        return tuple(path for part in (self.train, self.test) for paths in part for path in paths)


def looks_like_tree(folder: Path) -> bool:
    """Say whether a folder holds one folder a class, at the top or below ``train``; looks at no file."""
    return bool(_class_folders(folder))


def find_tree(folder: Path) -> Tree:
    """List ``train/CLASS/*`` with ``test/CLASS/*`` (or ``val``), or plain ``CLASS/*``. Classes are sorted by name.

    Raises:
        DataError: a class folder without images, a test class that is not a training class, or a training part without
            class folders.
    """
    top = _class_folders(folder)
    train = _class_folders(folder / "train")
    if not train and set(top) <= {"train", *_TEST} and top:  # else "train" and "test" would be taken for two classes
        raise DataError(f"{folder / 'train'} holds no folder of a class", f"put the images in {folder / 'train' / 'CLASS'}")
    whole = not train
    train = train or top
    word = "" if whole else next((w for w in _TEST if _class_folders(folder / w)), "")
    test = _class_folders(folder / word) if word else {}
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise DataError(
            f"{folder / word} has class {unknown[0]!r} and {folder / 'train'} has not",
            f"training classes are: {', '.join(train)}"[:300],
        )
    classes = tuple(train)
    return Tree(
        folder,
        classes,
        tuple(_images(train[name], name) for name in classes),
        tuple(_images(test[name], name) if name in test else () for name in classes) if word else (),
        word,
    )


def read_tree(tree: Tree, *, size: int, name: str, on_event: OnEvent) -> Arrays:
    """Decode a tree. Without a test part, a fixed stratified fifth of the images is held out.

    Raises:
        DataError: an image that cannot be read, or images of mixed sizes without ``size``.
    """
    progress = pixels.Progress(name, len(tree.files), on_event)
    decoded, labels_N, paths = [], [], []
    for part in (tree.train, tree.test) if tree.test else (tree.train,):
        flat = [path for files in part for path in files]
        named = ((str(path), path) for path in flat)
        decoded.append(pixels.decode_all(named, size=size, progress=progress))
        labels_N.append(np.repeat(np.arange(len(part), dtype=np.int64), [len(files) for files in part]))
        paths.append(flat)
    stacked = pixels.stack(decoded, lambda part, i: str(paths[part][i]))
    if not tree.test:
        return hold_out(stacked[0], labels_N[0], tree.classes)
    return Arrays(stacked[0], labels_N[0], stacked[1], labels_N[1], tree.classes)


def _class_folders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    return {name: folder / name for name in sorted(found)}


def _images(folder: Path, name: str) -> tuple[Path, ...]:
    found = []
    for where, below, files in os.walk(folder):
        below.sort()
        found += [Path(where) / file for file in files if not file.startswith(".") and Path(file).suffix.lower() in _ENDINGS]
    if not found:
        raise DataError(
            f"class {name!r} has no image: {folder} holds none",
            "add images (.png, .jpg, .webp, ...) or remove the folder",
        )
    return tuple(sorted(found))


def find_idx(folder: Path) -> tuple[Path, ...] | None:
    """Return the four IDX files of an MNIST-like data set, plain or gzipped, or None unless all four are there."""
    found = [next((path for end in ("", ".gz") if (path := folder / (name + end)).is_file()), None) for name in IDX_NAMES]
    files = tuple(path for path in found if path is not None)
    return files if len(files) == len(IDX_NAMES) else None


def read_idx(files: tuple[Path, ...], *, size: int, classes: tuple[str, ...] = ()) -> Arrays:
    """Read the four files that :func:`find_idx` found. Classes are numbered when no names are given.

    Raises:
        DataError: a file that is not IDX, or is cut off.
    """
    train_NHW, train_N, test_NHW, test_N = (_idx(path) for path in files)
    for path, array, dims in zip(files, (train_NHW, train_N, test_NHW, test_N), (3, 1, 3, 1), strict=True):
        if array.ndim != dims:
            raise DataError(f"{path} holds {array.ndim} dimensions instead of {dims}", "replace it with the original file")
    names = classes or tuple(str(i) for i in range(int(max(train_N.max(initial=0), test_N.max(initial=0))) + 1))
    return Arrays(
        pixels.resize(train_NHW[:, None], size),
        train_N.astype(np.int64),
        pixels.resize(test_NHW[:, None], size),
        test_N.astype(np.int64),
        names,
    )


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes: 0, 0, type 8, dimensions, then their sizes as big-endian 32-bit integers."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", "copy or download it again") from error
    dims = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * dims
    if content[:3] != b"\x00\x00\x08" or not 1 <= dims <= 4 or len(content) < start:
        raise DataError(f"{path} is not an IDX file of bytes", "copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(content, dtype=">u4", count=dims, offset=4))
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - start:,} bytes of data instead of {math.prod(shape):,}", "copy or download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()  # bytes are read-only, tensors are not
