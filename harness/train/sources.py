"""Where a data set comes from.

The names that harness knows, the folders it looks in, and the reader for what it finds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError, did_you_mean
from harness.plugins import is_plugin
from harness.train import folders, parquet, pixels
from harness.train.arrays import Arrays, OnEvent, hold_out
from harness.train.cache import can_write, hold
from harness.train.own_images import read_own

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# seconds without an answer after which a download gives up; Python's own default is to wait for
# ever
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Known:
    """A data set that harness knows by name."""

    name: str
    images: int  # of all parts
    test_images: int
    shape_CHW: tuple[int, int, int]
    classes: int
    licence: str
    download_mb: int = 0  # 0: it comes with harness or with what harness installs
    torchvision: str = ""  # torchvision's class
    folder: str = ""  # where torchvision keeps it, below the data root
    files: tuple[str, ...] = ()
    # per channel in [0, 1], as published, over the training part at its own size
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


KNOWN = {
    known.name: known
    for known in (
        Known("fashion", 4_000, 1_000, (1, 28, 28), 10, "MIT"),
        Known("digits", 1_797, 359, (1, 8, 8), 10, "BSD-3-Clause (scikit-learn)"),
        Known(
            "cifar10",
            60_000,
            10_000,
            (3, 32, 32),
            10,
            "research use, cite Krizhevsky 2009",
            download_mb=170,
            torchvision="CIFAR10",
            folder="cifar-10-batches-py",
            files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
        ),
        Known(
            "cifar100",
            60_000,
            10_000,
            (3, 32, 32),
            100,
            "research use, cite Krizhevsky 2009",
            download_mb=169,
            torchvision="CIFAR100",
            folder="cifar-100-python",
            files=("train", "test", "meta"),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
        ),
        Known(
            "svhn",
            99_289,
            26_032,
            (3, 32, 32),
            10,
            "non-commercial use, cite Netzer et al. 2011",
            download_mb=246,
            torchvision="SVHN",
            folder="svhn",
            files=("train_32x32.mat", "test_32x32.mat"),
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
        ),
        Known(
            "fashion-mnist",
            70_000,
            10_000,
            (1, 28, 28),
            10,
            "MIT",
            download_mb=31,
            torchvision="FashionMNIST",
            folder="FashionMNIST/raw",
            files=folders.IDX_NAMES,
            mean=(0.2860,),
            std=(0.3530,),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class DataSource:
    """A data set that was found: ``read(size, on_event)`` decodes it.

    Without ``files`` it is small and never cached.
    """

    name: str
    kind: str  # embedded, torchvision, idx, parquet, tree or own
    where: Path
    files: tuple[Path, ...]
    read: Callable[[int, OnEvent], Arrays]
    note: str = ""  # what a user should know about how it was read


def is_folder(name: str) -> bool:
    """Say whether a name means a folder.

    It has a path separator, starts with ``~``, or is a folder and no known name.
    """
    # a known name wins over a folder of that name: studies mean the same everywhere
    separators = os.sep + (os.altsep or "") + "/"
    return name not in KNOWN and (
        any(s in name for s in separators) or name[:1] in ("~", ".") or Path(name).is_dir()
    )


def find(name: str, root: Path, kwargs: Mapping[str, Any] | None = None) -> DataSource | None:
    """Return the source of a known name, a folder or a user's function.

    None when it is not here. Decodes nothing.

    A known name means, in this order, torchvision's files below ``root``, then parquet shards (or
    plain IDX files) in ``root/name``.

    Raises:
        DataError: an unknown name, or a folder that holds no images or is inconsistent.
    """
    if name in ("fashion", "digits"):
        read = _fashion if name == "fashion" else _digits
        return DataSource(
            name, "embedded", Path(__file__).parent / "_data", (), lambda size, _: read(size)
        )
    if known := KNOWN.get(name):
        return _find_torchvision(known, root) or _find_below(known, root / name)
    if is_plugin(name) and not Path(name).is_dir():
        return DataSource(
            name,
            "own",
            Path(name.rpartition(":")[0]),
            (),
            lambda size, _: read_own(name, kwargs or {}, size),
        )
    if is_folder(name):
        return _find_folder(name, Path(name).expanduser())
    raise DataError(
        f"there is no data set {name!r}{did_you_mean(name, KNOWN)}",
        f"known names: {', '.join(KNOWN)}; "
        "or give the path of a folder of images or parquet shards, or file.py:function",
    )


def not_here(name: str, root: Path) -> DataError:
    """Return the error for a known data set whose files are not on this machine."""
    known = KNOWN[name]
    return DataError(
        f"the images of {name!r} are not here: "
        f"neither {root / known.folder} nor {root / name}/train-*.parquet exists",
        f"`harness data fetch {name}` downloads {known.download_mb} MB; offline, "
        f"{_by_hand(known, root)}",
    )


def _by_hand(known: Known, root: Path) -> str:
    return (
        f"put {known.files[0]}, ... in {root / known.folder} or parquet shards in "
        f"{root / known.name}, set HARNESS_DATA to the "
        "folder that holds them, or use the embedded images with --set data.name=fashion"
    )


def download(name: str, root: Path, on_event: OnEvent) -> None:
    """Let torchvision download and check a known data set below ``root``.

    Its progress bar goes to stderr.

    Raises:
        DataError: no connection, a wrong checksum, or a folder that is not writable.
    """
    known = KNOWN[name]
    if not can_write(root):
        raise DataError(
            f"could not download {name!r}: {root} is not writable",
            f"set HARNESS_DATA; or {_by_hand(known, root)}",
        )
    # torchvision waits for ever on a connection that hangs
    before = socket.getdefaulttimeout()
    with hold(
        root / f".fetch-{name}.lock",
        f"{name}: another process is downloading it; waiting",
        on_event,
    ):
        on_event(f"{name}: downloading {known.download_mb} MB to {root}")
        socket.setdefaulttimeout(_TIMEOUT)
        try:
            for train in (True, False):
                _torchvision(known, root, train=train, fetch=True)
        except (OSError, RuntimeError, EOFError, ValueError) as error:  # URLError is an OSError
            reason = str(error).strip().splitlines()
            raise DataError(
                f"could not download {name!r}: {reason[0] if reason else type(error).__name__}",
                f"try again later; offline, {_by_hand(known, root)}",
            ) from error
        finally:
            socket.setdefaulttimeout(before)


def _torchvision(known: Known, root: Path, *, train: bool, fetch: bool = False) -> Any:
    from torchvision import datasets

    if known.name == "svhn":
        return datasets.SVHN(root, split="train" if train else "test", download=fetch)
    return getattr(datasets, known.torchvision)(root, train=train, download=fetch)


def _find_torchvision(known: Known, root: Path) -> DataSource | None:
    folder = root / known.folder
    if known.name == "fashion-mnist":
        return _idx_source(known.name, folder, FASHION)
    # torchvision keeps SVHN in the root itself
    candidates = (root, folder) if known.name == "svhn" else (folder,)
    for place in candidates:
        files = tuple(place / file for file in known.files)
        if all(path.is_file() for path in files):
            above = place if known.name == "svhn" else root
            return DataSource(
                known.name, "torchvision", place, files, partial(_read_torchvision, known, above)
            )
    return None


def _find_below(known: Known, folder: Path) -> DataSource | None:
    if known.name == "fashion-mnist" and (source := _idx_source(known.name, folder, FASHION)):
        return source
    return _parquet_source(known.name, folder)


def _find_folder(name: str, folder: Path) -> DataSource:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is a file and not a folder"
            if folder.exists()
            else f"there is no folder {folder}",
            f"give a folder of images or parquet shards, or one of: {', '.join(KNOWN)}",
        )
    # the cache goes by the place, and two spellings of it are one place
    folder = folder.resolve()
    try:
        source = _parquet_source(name, folder) or _idx_source(name, folder, ())
        if source:
            return source
        if not folders.looks_like_tree(folder):
            raise DataError(
                f"{folder} holds no images that harness can read",
                "it may hold train-*.parquet and test-*.parquet, "
                "or train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png",
            )
        tree = folders.find_tree(folder)
    except OSError as error:
        raise DataError(
            f"could not read {folder}: {error.strerror}", "check its permissions"
        ) from error

    def read(size: int, on_event: OnEvent) -> Arrays:
        return folders.read_tree(tree, size=size, name=name, on_event=on_event)

    note = (
        f"{name}: the folder {tree.test_word!r} is its test part"
        if tree.test and not tree.is_test
        else ""
    )
    if not tree.test:
        note = f"{name} has no test part: a fixed fifth of each class is held out for it"
    if tree.unread:
        folders_there = "folder" if len(tree.unread) == 1 else "folders"
        left = f"{folders_there} {', '.join(map(repr, tree.unread))} left out: no part with a folder a class"
        note = f"{note}; {left}" if note else f"{name}: {left}"
    return DataSource(name, "tree", folder, tree.files, read, note)


def _parquet_source(name: str, folder: Path) -> DataSource | None:
    shards = parquet.find_shards(folder)
    if shards is None:
        return None

    def read(size: int, on_event: OnEvent) -> Arrays:
        return parquet.read_shards(shards, size=size, name=name, on_event=on_event)

    note = (
        f"{name}: the {shards.test_word} shards are its test part"
        if shards.test_word != "test"
        else ""
    )
    if not shards.test:
        note = f"{name} has no test shards: a fixed fifth of each class is held out for it"
    return DataSource(name, "parquet", shards.folder, shards.files, read, note)


def _idx_source(name: str, folder: Path, classes: tuple[str, ...]) -> DataSource | None:
    files = folders.find_idx(folder)
    if files is None:
        return None
    return DataSource(
        name,
        "idx",
        folder,
        files,
        lambda size, _: folders.read_idx(files, size=size, classes=classes),
    )


def _read_torchvision(known: Known, root: Path, size: int, _: OnEvent) -> Arrays:
    try:
        train, test = (_torchvision(known, root, train=part) for part in (True, False))
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"the files of {known.name!r} in {root / known.folder} are incomplete or damaged: "
            "torchvision's checksums differ",
            f"remove them and run `harness data fetch {known.name}`",
        ) from error
    if known.name == "svhn":
        images, labels, classes = (
            [train.data, test.data],
            [train.labels, test.labels],
            [str(i) for i in range(10)],
        )
    else:
        images = [part.data.transpose(0, 3, 1, 2) for part in (train, test)]
        labels, classes = [train.targets, test.targets], train.classes
    train_NCHW, test_NCHW = (np.ascontiguousarray(pixels.resize(part, size)) for part in images)
    train_N, test_N = (np.asarray(part, dtype=np.int64) for part in labels)
    return Arrays(train_NCHW, train_N, test_NCHW, test_N, tuple(classes))


def _fashion(size: int) -> Arrays:
    packed = resources.files("harness.train") / "_data" / "fashion.npz"
    with packed.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return Arrays(
            pixels.resize(stored["train_images_NHW"][:, None], size),
            stored["train_labels_N"].astype(np.int64),
            pixels.resize(stored["test_images_NHW"][:, None], size),
            stored["test_labels_N"].astype(np.int64),
            FASHION,
        )


def _digits(size: int) -> Arrays:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images_NCHW = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    classes = tuple(str(i) for i in range(10))
    return hold_out(pixels.resize(images_NCHW, size), bunch.target.astype(np.int64), classes)
