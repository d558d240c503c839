"""Folders that a user names.

A tree with one folder a class, parquet shards, or IDX files. What a folder holds says which it is.
"""

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
from harness.train.arrays import Arrays, OnEvent, class_order, whole_set
from harness.train.folder_parts import holds_thumbnails, is_hidden, part_of

_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
_NAMES = "call the parts train, test and val, or put the images directly into their class folders"
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, slots=True)
class Tree:
    """An image tree: files of each class of every part.

    ``test_word`` is what the test part is called, if there is one.

    ``val`` is a validation part next to a test part; without a test part, it is the test part. ``unread`` are folders next to
    the parts that are none, or that hold no class folders.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, ...], ...]
    test: tuple[tuple[Path, ...], ...]
    test_word: str
    val: tuple[tuple[Path, ...], ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[tuple[Path, ...], ...], ...]:
        """Return the files of the parts that there are: training, test, validation."""
        return tuple(part for part in (self.train, self.test, self.val) if part)

    @property
    def is_test(self) -> bool:
        """Whether the test part is called one."""
        return part_of(self.test_word) == "test"

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every image file of all parts, in the order they are read."""
        return tuple(path for part in self.parts for paths in part for path in paths)


def looks_like_tree(folder: Path) -> bool:
    """Say whether a folder holds one folder a class, at the top or below ``train``.

    Looks at no file.
    """
    return bool(_folders(folder))


def find_tree(folder: Path) -> Tree:
    """List ``train/CLASS/*`` with ``test/CLASS/*`` and ``val/CLASS/*``, or plain ``CLASS/*``.

    Parts are known by their names in any case (Training, seg_test, dev; see ``folder_parts``).
    Classes are sorted by name, or by number where all are numbers.

    Raises:
        DataError: a class folder without images, a test class that is not a training class, a
            training part without class folders, two folders of one part, or folders that are
            neither parts nor classes.
    """
    parts = _parts(folder)
    if "train" not in parts:
        classes = _plain_classes(folder, parts)
        return Tree(
            folder,
            tuple(classes),
            tuple(_images(path, name) for name, path in classes.items()),
            (),
            "",
        )
    train_word, train = parts["train"]
    test_word, test = parts.get("test") or parts.get("val") or ("", {})
    val_word, val = parts.get("val", ("", {})) if "test" in parts else ("", {})
    for word, others in ((test_word, test), (val_word, val)):
        unknown = sorted(set(others) - set(train))
        if unknown:
            raise DataError(
                f"{folder / word} has class {unknown[0]!r} and {folder / train_word} has not",
                f"training classes are: {', '.join(train)}"[:300],
            )

    def files(part: dict[str, Path]) -> tuple[tuple[Path, ...], ...]:
        return (
            tuple(_images(part[name], name) if name in part else () for name in train)
            if part
            else ()
        )

    unread = tuple(sorted(_folders(folder).keys() - {word for word, _ in parts.values()}))
    return Tree(folder, tuple(train), files(train), files(test), test_word, files(val), unread)


def read_tree(tree: Tree, *, size: int, name: str, on_event: OnEvent) -> Arrays:
    """Decode a tree. Without a test part, a fixed stratified fifth of the images is held out.

    Raises:
        DataError: an unreadable image, images of mixed sizes without ``size``, or images
            without contrast.
    """
    progress = pixels.DecodingCount(name, len(tree.files), on_event)
    findings = pixels.Findings(lambda: ((str(path), path) for path in tree.files))
    decoded, labels_N, paths = [], [], []
    for part in tree.parts:
        flat = [path for files in part for path in files]
        named = ((str(path), path) for path in flat)
        decoded.append(pixels.decode_all(named, size=size, progress=progress, findings=findings))
        labels_N.append(
            np.repeat(np.arange(len(part), dtype=np.int64), [len(files) for files in part])
        )
        paths.append(flat)
    stacked = pixels.stack(decoded, lambda part, i: str(paths[part][i]))
    for images_NCHW, flat in zip(stacked, paths, strict=True):
        findings.look(images_NCHW, lambda i, flat=flat: str(flat[i]))  # type: ignore[misc]
    return whole_set(list(zip(stacked, labels_N, strict=True)), tree.classes, findings.notes)


def _parts(folder: Path) -> dict[str, tuple[str, dict[str, Path]]]:
    """Return the name and the class folders of each part that a folder's names tell of."""
    parts: dict[str, tuple[str, dict[str, Path]]] = {}
    for name, path in _folders(folder).items():
        part = part_of(name)
        classes = _folders(path) if part else {}
        if len(classes) == 1:  # seg_train/seg_train/CLASS, as some archives unpack
            ((inner, below),) = classes.items()
            classes = _folders(below) if part_of(inner) == part else classes
        if not classes:
            continue
        if part in parts:
            raise DataError(
                f"{folder} holds two {part} parts: {parts[part][0]!r} and {name!r}",
                "move one of them out of the folder",
            )
        parts[part] = name, classes
    return parts


def _plain_classes(folder: Path, parts: dict[str, tuple[str, dict[str, Path]]]) -> dict[str, Path]:
    """Return the class folders of a folder without a training part, or say why they are none."""
    top = _folders(folder)
    named = {name: part_of(name) for name in top}
    if all(named.values()):  # else "train" and "test" would be taken for two classes
        train = next((name for name, part in named.items() if part == "train"), "train")
        raise DataError(
            f"{folder / train} holds no class folder",
            f"put the images in {folder / train / 'CLASS'}",
        )
    stray = [name for name, part in named.items() if part in ("test", "val")]
    if stray or parts:
        raise DataError(
            f"{folder} holds {(stray or [parts['train'][0]])[0]!r} among folders that are no parts "
            "of a set",
            "put the training images in train/CLASS; or rename it, if it is a class",
        )
    empty = [name for name, path in top.items() if not _has_image(path)]
    wrapped = next((name for name in empty if len(top.keys() & _folders(top[name]).keys()) > 1), "")
    if wrapped and len(empty) < len(top):
        raise DataError(
            f"{folder / wrapped} is no class: it holds folders with the names of classes next to it",
            "move it out of the folder, or move its images into the class folders next to it",
        )
    if len(empty) == len(top):
        first = next(iter(top.values()))
        hint = (
            f"name the folder that holds the parts or the classes, perhaps {first}"
            if len(top) == 1
            else _NAMES
        )
        raise DataError(
            f"every folder in {folder} holds only folders, "
            "so they are neither classes nor known parts",
            hint,
        )
    return top


def _folders(folder: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, in the order of classes, without hidden ones."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
    return {name: folder / name for name in class_order(names)}


def _has_image(folder: Path) -> bool:
    """Say whether a folder holds an image itself, not only in folders below."""
    with os.scandir(folder) as entries:
        return any(entry.is_file() and _is_image(entry.name) for entry in entries)


def _is_image(name: str) -> bool:
    return not is_hidden(name) and Path(name).suffix.lower() in _ENDINGS


def _images(folder: Path, name: str) -> tuple[Path, ...]:
    paths: list[Path] = []
    for where, below, files in os.walk(folder):
        below[:] = sorted(
            each for each in below if not is_hidden(each) and not holds_thumbnails(each)
        )
        paths += [Path(where) / file for file in files if _is_image(file)]
    if not paths:
        raise DataError(
            f"class {name!r} has no image: {folder} holds none",
            "add images (.png, .jpg, .webp, ...) or remove the folder",
        )
    return tuple(sorted(paths))


def find_idx(folder: Path) -> tuple[Path, ...] | None:
    """Return the four IDX files of an MNIST-like data set, or None unless all four are there.

    Plain or gzipped.
    """
    places = [
        next((path for end in ("", ".gz") if (path := folder / (name + end)).is_file()), None)
        for name in IDX_NAMES
    ]
    files = tuple(path for path in places if path is not None)
    return files if len(files) == len(IDX_NAMES) else None


def read_idx(files: tuple[Path, ...], *, size: int, classes: tuple[str, ...] = ()) -> Arrays:
    """Read the four files that :func:`find_idx` found.

    Classes are numbered when no names are given.

    Raises:
        DataError: a file that is not IDX, or is cut off.
    """
    train_NHW, train_N, test_NHW, test_N = (_idx(path) for path in files)
    for path, array, dims in zip(
        files, (train_NHW, train_N, test_NHW, test_N), (3, 1, 3, 1), strict=True
    ):
        if array.ndim != dims:
            raise DataError(
                f"{path} holds {array.ndim} dimensions instead of {dims}",
                "replace it with the original file",
            )
    names = classes or tuple(
        str(i) for i in range(int(max(train_N.max(initial=0), test_N.max(initial=0))) + 1)
    )
    return Arrays(
        pixels.resize(train_NHW[:, None], size),
        train_N.astype(np.int64),
        pixels.resize(test_NHW[:, None], size),
        test_N.astype(np.int64),
        names,
    )


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    0, 0, type 8, dimensions, then their sizes as big-endian 32-bit integers.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"could not read {path}: {error}", "copy or download it again") from error
    dims = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * dims
    if content[:3] != b"\x00\x00\x08" or not 1 <= dims <= 4 or len(content) < start:
        raise DataError(f"{path} is not an IDX file of bytes", "copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(content, dtype=">u4", count=dims, offset=4))
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - start:,} bytes of data instead of {math.prod(shape):,}",
            "copy or download it again",
        )
    # bytes are read-only, tensors are not
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()
