"""The frame that every reader gives: one row a record, cells as they were, None where there is nothing.

Two more columns than the source has remember where a row lies, for messages. Their names begin
with a character that no column of a file has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.errors import ReportError

if TYPE_CHECKING:
    import pandas as pd

FILE, LINE = "\x00file", "\x00line"
_DEEPEST = 12  # levels of nested keys that become a dotted name; beyond it a cell keeps the rest


@dataclass(frozen=True, slots=True)
class TableSource:
    """Rows that some tool left behind.

    Attributes:
        frame: one row a record; cells are text, numbers, truth values or None.
        name: of the file or folder, as sentences and the report's folder use it.
        sentence: what it is and how it was read, in one line.
        where: conditions that suit this tool, such as ``State=finished``.
        last: column by which the rows of one run are ordered, where the tool writes several.
        created: column of the time at which a run began, where the tool knows it.
        notes: what was left out or assumed while reading, a sentence each.
        twice: names that more than one column has.
    """

    frame: pd.DataFrame
    name: str
    sentence: str
    where: tuple[str, ...] = ()
    last: str = ""
    created: str = ""
    notes: tuple[str, ...] = ()
    twice: frozenset[str] = field(default_factory=frozenset)

    @property
    def columns(self) -> list[str]:
        """Names of the source's own columns."""
        return [name for name in self.frame.columns if name not in (FILE, LINE)]

    def with_frame(self, frame: pd.DataFrame, **changes: Any) -> TableSource:
        """Return the source with other rows."""
        return replace(self, frame=frame, **changes)


def places(frame: pd.DataFrame, rows: Iterable[int]) -> list[str]:
    """Return where some rows lie, in words: ``line 4``, or ``a.csv line 4`` where there are several files."""
    several = len(frame[FILE].unique()) > 1
    files, lines = frame[FILE], frame[LINE]
    return [
        f"{files.iloc[row]} line {lines.iloc[row]}" if several else f"line {lines.iloc[row]}"
        for row in rows
    ]


def frame_of(records: Sequence[Mapping[str, Any]], file: str = "") -> pd.DataFrame:
    """Return records as a frame; a key that a record lacks is an empty cell, which nan is not."""
    import pandas as pd

    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    return placed(frame, file, range(1, len(records) + 1))


def placed(frame: pd.DataFrame, file: str, lines: Iterable[Any]) -> pd.DataFrame:
    """Return the frame with the place of every row."""
    marks: dict[str, Any] = {FILE: file, LINE: list(lines)}
    return frame.assign(**marks)


def untyped(frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """Return a frame of a typed format: its cells as objects, where nothing is None and nan counts as nothing."""
    names = [str(name) for name in frame.columns]
    cells = frame.astype(object).where(frame.notna(), None)
    cells.columns = names
    return placed(cells.reset_index(drop=True), file, range(2, len(cells) + 2))


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose nested keys are dotted names, and whose lists of one are what they hold."""
    cells: dict[str, Any] = {}
    waiting: list[tuple[str, Any, int]] = [
        (str(key), value, 0) for key, value in reversed(list(record.items()))
    ]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            waiting += [
                (f"{name}.{key}", inner, depth + 1) for key, inner in reversed(list(value.items()))
            ]
        elif isinstance(value, (list, tuple)):
            cells[name] = _list_cell(value)
        else:
            cells[name] = None if isinstance(value, Mapping) else value
    return cells


def _list_cell(values: Sequence[Any]) -> Any:
    """A list as a cell: what a list of one holds, text of several; lists of numbers stay as they are."""
    if len(values) == 1 and not isinstance(values[0], (list, Mapping)):
        return values[0]
    if is_series(values):
        return list(values)
    return ", ".join(map(str, values)) if len(values) < 20 else None


def is_series(value: object) -> bool:
    """Whether a cell holds measurements: a list of two numbers or more, not all of them whole."""
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        return False
    numbers = [v for v in value if isinstance(v, (int, float)) and not isinstance(v, bool)]
    fractions = (v for v in numbers if isinstance(v, float) and not float(v).is_integer())
    return len(numbers) == len(value) and any(True for _ in fractions)


def unrolled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in which a row whose cells hold measurements is as many rows, numbered by a column ``index``."""
    import pandas as pd

    own = [name for name in frame.columns if name not in (FILE, LINE)]
    lists = [name for name in own if frame[name].map(is_series).any()]
    if not lists:
        return frame
    rows: list[dict[str, Any]] = []
    for record in frame.to_dict("records"):
        values = {name: record[name] for name in lists if is_series(record[name])}
        for i in range(max(map(len, values.values()), default=1)):
            row = {str(name): value for name, value in record.items()}
            row |= {name: cells[i] if i < len(cells) else None for name, cells in values.items()}
            rows.append(row if not values else {**row, "index": i})
    names = [*own, *(["index"] if "index" not in own else []), FILE, LINE]
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    )


def text_of(value: object) -> str:
    """Return a cell as text: whole numbers without a point, nothing as an empty string."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isfinite(value) and value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return repr(value)
    return value.strip() if isinstance(value, str) else str(value)


def unreadable(place: object, why: object, hint: str) -> ReportError:
    """Return the error of an unreadable source."""
    return ReportError(f"could not read {place}: {why}", hint)
