"""A folder of parquet shards in the Hugging Face layout.

``train-*.parquet`` and ``test-*.parquet``.

An image column is a struct with a ``bytes`` field (or plain binary) that holds an encoded image; a
label column holds integers, or words. Both are found by the metadata that the Hugging Face
libraries write, then by type and by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError
from harness.train import pixels
from harness.train.arrays import Arrays, Labels, OnEvent, class_order, whole_set
from harness.train.folder_parts import is_hidden, part_of

_SHARD = re.compile(r"([a-z]+)([-_.].*)?\.parquet", re.IGNORECASE)
_IMAGE_NAMES = ("image", "img", "images", "picture", "pixels", "png")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "y", "cls")
_FORMS = {
    "image": "images are encoded bytes, or a struct with a field 'bytes'",
    "label": "labels are whole numbers from 0, or words, without holes",
}
_ROWS = 1024  # rows read at once: bounds the memory that large encoded images take


@dataclass(frozen=True, slots=True)
class ParquetShards:
    """The shards of a folder.

    ``test`` may be empty, and ``test_word`` says what the test part is called there.

    ``val`` are validation shards next to test shards; without those, the validation shards are the
    test part.
    """

    folder: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    test_word: str
    val: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every shard, in the order they are read."""
        return (*self.train, *self.test, *self.val)


def find_shards(folder: Path) -> ParquetShards | None:
    """Return the shards in ``folder``, or in the one folder below it that has some, or None.

    Raises:
        DataError: several folders below hold training shards, or there are shards but none is a
            training shard.
    """
    if not folder.is_dir():
        return None
    here = _shards_in(folder)
    if here is None:
        below = [
            shards
            for child in sorted(folder.iterdir())
            if child.is_dir() and not is_hidden(child.name) and (shards := _shards_in(child))
        ]
        below = [shards for shards in below if shards.train] or below
        if len(below) > 1:
            names = ", ".join(repr(shards.folder.name) for shards in below)
            raise DataError(
                f"{folder} holds several sets of parquet shards: {names}",
                "name the folder of one of them",
            )
        here = below[0] if below else None
    if here is not None and not here.train:
        raise DataError(
            f"{here.folder} holds parquet files and none of them is a training shard",
            "name the shards train-*.parquet and test-*.parquet",
        )
    return here


def _shards_in(folder: Path) -> ParquetShards | None:
    files = sorted(
        path
        for path in folder.glob("*.parquet")
        if path.is_file() and not path.name.startswith(".")
    )
    if not files:
        return None
    parts: dict[str, list[Path]] = {}
    words: dict[str, str] = {}
    for path in files:
        match = _SHARD.fullmatch(path.name)
        if match and (part := part_of(match[1])):
            parts.setdefault(part, []).append(path)
            words.setdefault(part, match[1].lower())
    # two parts are train and test, whatever the second is called: validation images are drawn
    test = "test" if "test" in parts else "val"
    val = parts.get("val", ()) if test == "test" else ()
    return ParquetShards(
        folder,
        tuple(parts.get("train", ())),
        tuple(parts.get(test, ())),
        words.get(test, ""),
        tuple(val),
    )


def _row_name(file: Path, row: int) -> str:
    return f"row {row} of {file}"


def read_shards(shards: ParquetShards, *, size: int, name: str, on_event: OnEvent) -> Arrays:
    """Decode all shards. Without a test part, a fixed stratified fifth of the images is held out.

    Raises:
        DataError: a file that is not parquet, columns of unclear meaning, an image or a label
            that is missing or unreadable, images of mixed sizes.
    """
    files = list(shards.files)
    opened = [_open(path) for path in files]
    total = sum(file.metadata.num_rows for file in opened)
    columns = _columns(opened[0].schema_arrow, files[0])
    # before anything is decoded: a column that lacks in the last shard would cost all of it
    for file, path in zip(opened, files, strict=True):
        _check_columns(file.schema_arrow, path, columns, files[0])
    labels: list[list[Any]] = []

    def rows(k: int) -> Iterator[pixels.Named]:
        labels.append([])
        yield from _rows(opened[k], files[k], columns, labels[k])

    # a second pass from the start, which only images of more than 8 bits ask for
    def every() -> Iterator[pixels.Named]:
        for path in files:
            yield from _rows(_open(path), path, columns, [])

    progress, findings = pixels.DecodingCount(name, total, on_event), pixels.Findings(every)
    decoded = [
        pixels.decode_all(rows(k), size=size, progress=progress, findings=findings)
        for k in range(len(files))
    ]
    stacked = pixels.stack(decoded, lambda k, row: f"row {row} of {files[k]}")
    for k, images_NCHW in enumerate(stacked):
        # bound here and not when it is called, which is for an image that is odd
        findings.look(images_NCHW, partial(_row_name, files[k]))
    classes, labels_N = _number(labels, opened[0].schema_arrow, columns[1], files)
    ends = np.cumsum([len(shards.train), len(shards.test), len(shards.val)])
    parts = [
        (np.concatenate(stacked[start:end]), np.concatenate(labels_N[start:end]))
        for start, end in zip((0, *ends), ends, strict=False)
        if end > start
    ]
    return whole_set(parts, classes, findings.notes)


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"could not read {path} as parquet: {_first_line(error)}", _look_at(path)
        ) from error


def _look_at(path: Path) -> str:
    """Say what a file that is not parquet seems to be."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return "check that the file exists and may be read"
    # what a clone without LFS leaves is the usual case
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull` in the repository it came from"
    if len(head) > 1 and head[0] == 0x80 and head[1] <= 5:
        return (
            "it looks like a Python pickle, which harness never opens: "
            "save the images as parquet or as files"
        )
    if head.startswith(b"PAR1"):
        return "it begins like parquet: copy or download it again, the rest is damaged or cut off"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "it looks like text: a saved web page or a CSV is not a shard of images"
    return "replace it with a parquet file, or remove it"


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    """Return (image column, label column) of a schema."""
    features = _features(schema)
    kinds = {
        word: value.get("_type") for word, value in features.items() if isinstance(value, dict)
    }
    names = list(schema.names)

    images = [word for word in names if _is_image(schema.field(word).type)]
    labels = [word for word in names if _is_label(schema.field(word).type)]
    marked_images = [word for word in images if kinds.get(word) == "Image"]
    marked_labels = [word for word in labels if kinds.get(word) == "ClassLabel"]
    return (
        _choose("image", (marked_images, images), schema, path),
        _choose("label", (marked_labels, labels), schema, path),
    )


def _check_columns(schema: Any, path: Path, columns: tuple[str, str], first: Path) -> None:
    """Check that a shard has the columns of the first one, of types that hold images and labels."""
    for what, column in zip(("image", "label"), columns, strict=True):
        if column not in schema.names:
            seen = ", ".join(schema.names) or "none"
            raise DataError(
                f"{path} has no column {column!r}, which holds the {what}s of {first.name}; "
                f"its columns are: {seen}",
                f"every shard needs it; leave out a part that was published without its {what}s",
            )
        kind = schema.field(column).type
        if not (_is_image(kind) if what == "image" else _is_label(kind)):
            raise DataError(
                f"{path}: column {column!r} is of type {kind} and holds no {what}s", _FORMS[what]
            )


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(
            kind.field(i).name == "bytes" and _is_binary(kind.field(i).type)
            for i in range(kind.num_fields)
        )
    return _is_binary(kind)


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_integer(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_dictionary(kind)
    )


def _choose(what: str, choices: tuple[list[str], list[str]], schema: Any, path: Path) -> str:
    """Choose among the columns that are marked as ``what``, else among those whose type fits."""
    known, names = _IMAGE_NAMES if what == "image" else _LABEL_NAMES, list(schema.names)
    for candidates in choices:
        if len(candidates) == 1:
            return candidates[0]
        for word in known:
            if word in candidates:
                return word
    fit, seen = choices[1], ", ".join(names) or "none"
    named = next((word for word in known if word in names), "")
    if named and not fit:
        raise DataError(
            f"{path}: column {named!r} is of type {schema.field(named).type} and holds no {what}s",
            _FORMS[what],
        )
    hint = f"name the {what} column {known[0]!r}"
    if fit:
        raise DataError(
            f"{path} has several columns that may be the {what}: {', '.join(fit)}", hint
        )
    raise DataError(f"{path} has no {what} column; its columns are: {seen}", hint)


def _features(schema: Any) -> dict[str, Any]:
    """Return the feature table of the Hugging Face libraries in the metadata, or an empty one."""
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
    except (ValueError, KeyError, TypeError):  # a hint only: the columns' types decide without it
        return {}
    return features if isinstance(features, dict) else {}


def _rows(
    file: Any, path: Path, columns: tuple[str, str], labels: list[Any]
) -> Iterator[pixels.Named]:
    import pyarrow as pa

    image_column, label_column = columns
    row = 0
    try:
        for batch in file.iter_batches(batch_size=_ROWS, columns=[image_column, label_column]):
            if batch.column(label_column).null_count:
                at = f"rows {row} to {row + len(batch) - 1}"
                raise DataError(
                    f"{path}: column {label_column!r} holds no label for an image in {at}",
                    "remove or label it; leave out a part that was published without its labels",
                )
            labels += batch.column(label_column).to_pylist()
            for value in batch.column(image_column).to_pylist():
                content = value.get("bytes") if isinstance(value, dict) else value
                if content is None:
                    raise DataError(
                        f"row {row} of {path} holds no image",
                        "embed the images' bytes in the shard",
                    )
                yield f"row {row} of {path}", content
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is damaged near row {row}: {_first_line(error)}", "copy or download it again"
        ) from error


def _number(
    labels: list[list[Any]], schema: Any, column: str, files: list[Path]
) -> tuple[tuple[str, ...], list[Labels]]:
    """Return the class names and the labels of each file as numbers."""
    words = [isinstance(label, str) for part in labels for label in part]
    if any(words):
        if not all(words):
            raise DataError(
                f"{files[0].parent}: some shards label images by words, others by numbers",
                "use one of the two",
            )
        classes = class_order({label for part in labels for label in part})
        index = {label: i for i, label in enumerate(classes)}
        return classes, [
            np.array([index[label] for label in part], dtype=np.int64) for part in labels
        ]
    numbers = [np.array(part, dtype=np.int64) for part in labels]
    feature = _features(schema).get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, list) and names:
        return tuple(str(word) for word in names), numbers
    highest = max((int(part.max()) for part in numbers if len(part)), default=-1)
    images = sum(len(part) for part in numbers)
    if highest >= images:  # every class has an image, so that these are no class numbers
        raise DataError(
            f"{files[0].parent}: column {column!r} holds {highest:,}, and there are {images:,} images",
            f"{_FORMS['label']}; an identity or a time is no label",
        )
    return tuple(str(i) for i in range(highest + 1)), numbers


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
