"""JSON and JSON lines: the shapes in which programs leave results, brought to one record a row.

A list of records is what it is. A table of columns, pandas' ``split``, and records kept under the
names of their arms (``{"baseline": {"0": {...}}}``) are recognised; the names above a record become
columns ``key``, ``key 2`` and so on. Anything else is one record, its nested keys dotted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.sources.frame import flat, frame_of, is_series, unrolled
from harness.errors import ReportError

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]
# names that figures have: a group of columns is called so, and no arm is
_FIGURE = re.compile(
    r"(acc|loss|err|score|return|reward|value|epoch|step|iteration|seed|auc|f1|metric|time|top|"
    r"precision|recall|mean|std|name|arm|method|model|lr|perplexity|bleu|map|iou)",
    re.IGNORECASE,
)
_LISTS = ("runs", "results", "data", "rows", "records", "trials", "experiments", "log_history")


def parse_json(text: str, place: str) -> tuple[list[Any], str]:
    """Return the documents of a JSON file, and what it is: ``JSON`` or ``JSON lines``.

    Raises:
        ReportError: a line is no JSON.
    """
    try:
        return [json.loads(text)], "JSON"
    except ValueError as error:
        whole = error
    except RecursionError:
        raise ReportError(f"{place}: nested too deep", "save a list of records") from None
    documents = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            documents.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number == 1 or not documents:
                raise ReportError(
                    f"{place}: not valid JSON: {whole}", "export it again, or as JSON lines"
                ) from None
            raise ReportError(
                f"{place}: line {number} is not valid JSON: {error}",
                "a run that was cut off may have left half a line: delete it",
            ) from None
    return documents, "JSON lines"


def read_json(text: str, place: str, file: str) -> tuple[pd.DataFrame, str]:
    """Read JSON or JSON lines as a frame, and say how.

    Raises:
        ReportError: it is not valid, or holds no records.
    """
    documents, said = parse_json(text, place)
    records, shape = (documents, "") if said == "JSON lines" else shaped(documents[0])
    if not records or not all(isinstance(record, Mapping) for record in records):
        raise ReportError(
            f"{place}: holds no records", "save a list of objects, one a run, or one object a line"
        )
    frame = unrolled(frame_of([flat(record) for record in records], file))
    return frame, f"{said}{shape}"


def shaped(document: Any) -> tuple[list[Any], str]:
    """Return the records of a JSON document, and what had to be done for them, in words."""
    if not isinstance(document, Mapping):
        return (document if isinstance(document, list) else []), ""
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        names = [str(name) for name in document["columns"]]
        return [dict(zip(names, row, strict=False)) for row in document["data"]], ", columns apart"
    listed = [key for key, value in document.items() if _is_records(value)]
    nearest = [key for key in _LISTS if key in listed]
    if nearest or (len(listed) == 1 and len(_scalars(document)) + 1 == len(document)):
        key = (nearest or listed)[0]
        shared = flat(_scalars(document))
        return [{**shared, **record} for record in document[key]], f", the list {key!r}"
    if _is_table(document):
        return _rows(document), ", a list for each column"
    keyed = list(_keyed(document, ()))
    return (keyed, ", records under their keys") if keyed else ([document], "")


def _is_records(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _scalars(document: Mapping[str, Any]) -> Record:
    return {key: value for key, value in document.items() if not isinstance(value, list)}


def _is_table(value: object) -> bool:
    """Whether this is a table of columns: lists of one length under names that figures have."""
    if not isinstance(value, Mapping) or not value:
        return False
    lengths = {len(v) if isinstance(v, list) else -1 for v in value.values()}
    plain = all(
        not isinstance(cell, (list, Mapping))
        for column in value.values()
        if isinstance(column, list)
        for cell in column[:3]
    )
    named = any(_FIGURE.search(str(key)) for key in value)
    return len(lengths) == 1 and -1 not in lengths and plain and named


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Record]:
    return [
        {**dict(zip(columns, cells, strict=True)), "index": i}
        for i, cells in enumerate(zip(*columns.values(), strict=True))
    ]


def _keyed(value: Any, keys: tuple[str, ...]) -> Iterator[Record]:
    """Yield the records of a tree whose upper levels name arms, data sets and seeds."""
    above = {f"key {i}" if i > 1 else "key": key for i, key in enumerate(keys, 1)}
    if keys and _is_table(value):
        yield from ({**above, **row} for row in _rows(value))
    elif keys and _is_records(value):
        yield from ({**above, **record} for record in value)
    elif keys and isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        yield from ({**above, "index": i, "value": cell} for i, cell in enumerate(value))
    elif isinstance(value, Mapping) and value and _names_things(value, keys):
        for key, inner in value.items():
            yield from _keyed(inner, (*keys, str(key)))
    elif keys and isinstance(value, Mapping):
        yield {**above, **value}
    elif keys:
        yield {**above, "value": value}


def _names_things(value: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether the keys of an object name things of one kind, and are no columns of a record."""
    inner = list(value.values())
    if all(isinstance(v, Mapping) for v in inner):
        # things of one kind have a key in common; settings and results next to each other have none
        shared = set.intersection(*(set(v) for v in inner))
        return (len(inner) > 1 or bool(keys)) and bool(shared)
    if all(isinstance(v, list) for v in inner):
        return all(_is_records(v) or not v or is_series(v) or _numbers(v) for v in inner)
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in inner)
    return bool(keys) and numbers and not any(_FIGURE.search(str(key)) for key in value)


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
