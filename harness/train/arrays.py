"""A data set as plain arrays.

What every reader returns, what the cache keeps, and the checks all of them must pass.

Shapes: N images, C channels (1 grey, 3 colour), H and W pixels.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.text import plural

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
OnEvent = Callable[[str], None]

SMALLEST_SIDE = 4  # pixels; a crop by reflection and a 3x3 convolution still mean something there
HELD_OUT = 0.2  # share of the images that becomes the test set when a folder brings none


@dataclass(frozen=True, slots=True)
class Arrays:
    """Decoded images of a whole data set, in memory, on the CPU.

    Images are uint8, labels int64 in [0, len(classes)). The validation part is there where the
    source brings one as well as a test part; ``notes`` are what a user should know of the content, a
    sentence each.
    """

    train_images_NCHW: Pixels
    train_labels_N: Labels
    test_images_NCHW: Pixels
    test_labels_N: Labels
    classes: tuple[str, ...]
    val_images_NCHW: Pixels | None = None
    val_labels_N: Labels | None = None
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, Pixels, Labels], ...]:
        """Return (name, images, labels) of the training, test and, if any, validation part."""
        parts = (
            ("training", self.train_images_NCHW, self.train_labels_N),
            ("test", self.test_images_NCHW, self.test_labels_N),
        )
        if self.val_images_NCHW is None or self.val_labels_N is None:
            return parts
        return (*parts, ("validation", self.val_images_NCHW, self.val_labels_N))


def digest(arrays: Arrays) -> str:
    """Return the content fingerprint.

    16 hexadecimal digits of the SHA-256 over pixels, labels, shapes and class names.
    """
    state = hashlib.sha256(json.dumps(["harness data 1", arrays.classes]).encode())
    for part, images_NCHW, labels_N in arrays.parts:
        state.update(json.dumps([part, images_NCHW.shape]).encode())
        state.update(np.ascontiguousarray(images_NCHW).data)
        state.update(np.ascontiguousarray(labels_N, dtype="<i8").data)
    return state.hexdigest()[:16]


def check(arrays: Arrays, name: str) -> None:
    """Check that a net can be trained on these images.

    Raises:
        DataError: fewer than two classes, a label out of range, a training class with no image, an
            empty part, parts of different shapes, or images smaller than 4 pixels. The message
            starts with ``name``.
    """
    count = len(arrays.classes)
    if count < 2:
        held = plural(count, "class", "classes")
        raise DataError(
            f"{name}: it has {held} and a classifier needs two or more",
            "add images of another class",
        )
    for part, images_NCHW, labels_N in arrays.parts:
        if not len(images_NCHW):
            raise DataError(
                f"{name}: the {part} part holds no image",
                "add images, or remove its folder or shard",
            )
        if len(images_NCHW) != len(labels_N):
            raise DataError(
                f"{name}: the {part} part holds {len(images_NCHW)} images and {len(labels_N)} "
                "labels"
            )
        low, high = int(labels_N.min()), int(labels_N.max())
        if low < 0 or high >= count:
            wrong = low if low < 0 else high
            raise DataError(
                f"{name}: a {part} image has label {wrong} and labels go from 0 to {count - 1}",
                "number the classes from 0 without holes; "
                "-1 marks a part published without its labels",
            )
    # a class that is never trained on would count as wrong in every arm
    empty = np.flatnonzero(np.bincount(arrays.train_labels_N, minlength=count) == 0)
    if len(empty):
        names = ", ".join(f"{arrays.classes[i]!r} (label {i})" for i in empty[:5]) + (
            ", ..." if len(empty) > 5 else ""
        )
        raise DataError(
            f"{name}: {len(empty)} of {count} classes have no training image: {names}",
            "add images of that class, or remove it and number the others from 0 without holes",
        )
    train_CHW = arrays.train_images_NCHW.shape[1:]
    for part, images_NCHW, _ in arrays.parts[1:]:
        if train_CHW != images_NCHW.shape[1:]:
            raise DataError(
                f"{name}: training images are {_shape(train_CHW)} and {part} images "
                f"{_shape(images_NCHW.shape[1:])}",
                "give one side in pixels with data.size",
            )
    if min(train_CHW[1:]) < SMALLEST_SIDE:
        raise DataError(
            f"{name}: images of {_shape(train_CHW)} are smaller than {SMALLEST_SIDE} pixels",
            "use larger images, or resize them with data.size",
        )


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in order.

    By number where all are made of digits (2 before 10), else by letter.
    """
    names = tuple(names)
    if all(word.isascii() and word.isdigit() for word in names):
        return tuple(sorted(names, key=lambda word: (int(word), word)))
    return tuple(sorted(names))


def repeated(arrays: Arrays) -> tuple[str, ...]:
    """Return a sentence for each two parts that hold the same image, pixel by pixel."""
    seen = [
        (
            part,
            [
                hashlib.blake2b(image_CHW.tobytes(), digest_size=16).digest()
                for image_CHW in images_NCHW
            ],
        )
        for part, images_NCHW, _ in arrays.parts
    ]
    notes = []
    for (part, known), (other, images) in itertools.combinations(seen, 2):
        # by content: the same picture often has two names
        both = set(known)
        count = sum(image in both for image in images)
        if count:
            verb = "is" if count == 1 else "are"
            notes.append(
                f"{count:,} of {len(images):,} {other} images {verb} {part} images too, "
                "pixel by pixel: "
                f"{other} figures flatter the net"
            )
    return tuple(notes)


def stratified_order(
    labels_N: Labels, counts: Sequence[int], *, seed: int
) -> list[npt.NDArray[np.int64]]:
    """Draw disjoint, class-balanced groups of images, one a count, in one fixed order.

    Each class is shuffled once and dealt to the groups one after another, so a group does not
    change when a later one grows. Within a group every class has its share of the images that were
    left, to the nearest image, and at least one.

    Args:
        labels_N: labels from 0.
        counts: images in each group; 0 for an empty group, -1 for all that are left.
        seed: fixes the shuffle, on any numpy version: it ranks raw words of PCG64, whose stream is
            guaranteed.

    Returns:
        For each group the ascending positions of its images.

    Raises:
        DataError: fewer images than a group asks for, or than it needs to hold every class.
    """
    # raw words: what numpy draws from them with its own methods may change between versions
    raw = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(len(labels_N))
    order = np.argsort(raw, kind="stable")
    by_class = [order[labels_N[order] == label] for label in np.unique(labels_N)]
    taken = np.zeros(len(by_class), dtype=np.int64)
    sizes = np.array([len(members) for members in by_class], dtype=np.int64)
    groups = []
    for count in counts:
        share = _share(sizes - taken, count)
        picked = [
            members[start : start + n]
            for members, start, n in zip(by_class, taken, share, strict=True)
        ]
        groups.append(np.sort(np.concatenate(picked)))
        taken = taken + share
    return groups


def _share(left: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Divide ``count`` images over classes with ``left`` images each.

    One each, the rest in proportion (largest remainder).
    """
    total, classes = int(left.sum()), len(left)
    if count == 0:
        return np.zeros_like(left)
    if count > total or (count < 0 and total == 0):
        raise DataError(f"{max(count, 1):,} images are asked for and {total:,} are left")
    if left.min() == 0 or 0 < count < classes:
        raise DataError(
            f"{total if count < 0 else count:,} images cannot hold every one of {classes} classes"
        )
    if count < 0 or count == total:
        return left
    quota = (left - 1) * ((count - classes) / max(total - classes, 1))
    # 1e-9: a whole number that rounding left just below itself
    extra = np.floor(quota + 1e-9).astype(np.int64)
    missing = count - classes - int(extra.sum())
    extra[np.argsort(extra - quota, kind="stable")[:missing]] += 1
    share: Labels = extra + 1
    return share


def whole_set(
    parts: Sequence[tuple[Pixels, Labels]], classes: tuple[str, ...], notes: tuple[str, ...]
) -> Arrays:
    """Return a data set from its training part.

    With its test and its validation part, where the source brings them.

    Raises:
        DataError: there is no test part and a class has a single image.
    """
    train, *others = parts
    if not others:
        return replace(hold_out(*train, classes), notes=notes)
    test, *val = others
    val_NCHW, val_N = val[0] if val else (None, None)
    return Arrays(*train, *test, classes, val_images_NCHW=val_NCHW, val_labels_N=val_N, notes=notes)


def hold_out(images_NCHW: Pixels, labels_N: Labels, classes: tuple[str, ...]) -> Arrays:
    """Return a data set whose test part is a fixed stratified fifth of the images.

    For sources that bring no test part.

    Raises:
        DataError: a class with a single image, too few for both parts.
    """
    present, sizes = np.unique(labels_N, return_counts=True)
    if len(sizes) and sizes.min() < 2:
        label = int(present[sizes.argmin()])
        word = repr(classes[label]) if 0 <= label < len(classes) else str(label)
        raise DataError(
            f"class {word} has one image, too few for a training and a test part",
            "add images, or a test part",
        )
    test, train = stratified_order(
        labels_N, [max(round(HELD_OUT * len(labels_N)), len(present)), -1], seed=0
    )
    return Arrays(images_NCHW[train], labels_N[train], images_NCHW[test], labels_N[test], classes)


def _shape(shape_CHW: Sequence[int]) -> str:
    channels, height, width = shape_CHW
    return f"{width}x{height} {'grey' if channels == 1 else 'colour'}"
