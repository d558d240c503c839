"""The rows of a table that count: conditions, columns of one form put under each other, names of arms and seeds."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.cells import is_numeric, some
from harness.analysis.sources import FILE, LINE, TableSource
from harness.analysis.sources.frame import places, text_of
from harness.analysis.table_options import TableOptions
from harness.errors import ReportError, RowsError, UsageError, did_you_mean
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 60  # characters of an arm's name
_MOST_LISTED = 30  # columns named in one hint
_CONDITION = re.compile(r"(.+?)\s*(!=|>=|<=|==|=|>|<)\s*(.*)", re.DOTALL)
_HOLE = re.compile(r"\{([^{}]+)\}")
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def check_columns(source: TableSource, names: Sequence[str]) -> None:
    """Raise a ReportError that lists every name which is not that of one column."""
    for name in names:
        if name in source.twice:
            raise ReportError(
                f"{source.name}: has two columns {name!r}", "give every column a name of its own"
            )
    faults = column_faults(source, names)
    if faults:
        raise ReportError(f"{source.name}: {'; '.join(faults)}", listed_columns(source))


def column_faults(source: TableSource, names: Sequence[str]) -> list[str]:
    """Say of every name that is no column's what may have been meant."""
    return [
        f"has no column {name!r}{did_you_mean(name, source.columns)}"
        for name in dict.fromkeys(names)
        if name not in source.columns
    ]


def given_faults(source: TableSource, options: TableOptions) -> list[str]:
    """Say of everything that was given and names no column, or no arm, what is wrong, in the order of the options."""
    holes = _HOLE.findall(options.metric)
    metric = () if holes else (options.metric,)
    others = (options.train, options.gap, options.sd, options.last, options.best)
    count = () if options.n.isdigit() else (options.n,)
    keys = [name for name in (*options.arm, *options.seed, *options.dataset) if name not in holes]
    conditions = [_condition(text, source)[0] for text in options.where]
    names = [name for name in (*keys, *metric, *others, *count, *conditions) if name]
    faults = column_faults(source, names)
    known = options.arm and all(name in source.columns for name in options.arm)
    if options.baseline and known:
        arms = set(key_texts(source.frame, options.arm, named=True))
        squeezed = {re.sub(r"\s+", "", arm) for arm in arms}
        if (
            re.sub(r"\s+", "", options.baseline) not in squeezed
            and max(map(len, arms)) <= LONGEST_NAME
        ):
            faults.append(
                f"no row's arm is {options.baseline!r}{did_you_mean(options.baseline, arms)}"
            )
    return faults


def listed_columns(source: TableSource) -> str:
    """Return the names of the columns, as far as they can be listed, for a hint."""
    shown = ", ".join(source.columns[:_MOST_LISTED])
    more = len(source.columns) - _MOST_LISTED
    return f"its columns: {shown}" + (f" and {more} more" if more > 0 else "")


def chosen(source: TableSource, conditions: Sequence[str]) -> tuple[TableSource, list[str]]:
    """Return the rows that meet all conditions, and a note on those left out.

    Several values asked of one column are alternatives: ``State=finished`` and ``State=running``.

    Raises:
        ReportError: a column does not exist, or no row is left.
        UsageError: a condition has no comparison.
    """
    wanted: dict[str, list[tuple[str, str]]] = {}
    for condition in conditions:
        column, how, value = _condition(condition, source)
        wanted.setdefault(f"{column}\x00{how}" if how != "=" else column, []).append((how, value))
    frame = source.frame
    for key, tests in wanted.items():
        column = key.partition("\x00")[0]
        check_columns(source, [column])
        texts = [text_of(cell) for cell in frame[column]]
        how = tests[0][0]
        kept = [any(_meets(t, how, value) for _, value in tests) for t in texts]
        if how == "!=":
            kept = [all(_meets(t, how, value) for _, value in tests) for t in texts]
        if not any(kept):
            values = list(dict.fromkeys(texts))
            near = did_you_mean(tests[0][1], values)
            raise ReportError(
                f"{source.name}: no row has {column} {how} {tests[0][1]}{near}",
                f"column {column!r} holds: {', '.join(values[:8])}",
            )
        frame = frame.loc[kept].reset_index(drop=True)
    left = len(source.frame) - len(frame)
    notes = [f"{plural(left, 'row')} left out by --where"] if left else []
    return source.with_frame(frame), notes


def _condition(text: str, source: TableSource) -> tuple[str, str, str]:
    # the longest name of a column that the text begins with: names may hold signs of comparison
    for name in sorted(source.columns, key=len, reverse=True):
        rest = text[len(name) :].lstrip()
        if text.startswith(name) and (match := re.match(r"(!=|>=|<=|==|=|>|<)\s*(.*)", rest)):
            return name, "=" if match[1] == "==" else match[1], match[2].strip()
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--where {text!r} compares nothing", "write COLUMN=VALUE, or with !=, <, <=, >, >="
        )
    return match[1], "=" if match[2] == "==" else match[2], match[3].strip()


def _meets(text: str, how: str, value: str) -> bool:
    try:
        number, wanted = float(text), float(value)
    except ValueError:
        if how in _ORDERS:
            return False
        return (text == value) == (how == "=")
    if how in _ORDERS:
        return _ORDERS[how](number, wanted)
    return (number == wanted or text == value) == (how == "=")


def melted(source: TableSource, form: str, keep: Sequence[str]) -> tuple[TableSource, str]:
    """Put all columns of a form such as ``acc_{seed}`` under each other; the part in braces becomes a column.

    Args:
        source: the table.
        form: of the columns' names.
        keep: columns that stand for something else, whatever their names.

    Returns:
        The table, and the name of its column of scores.

    Raises:
        ReportError: no column has that form.
    """
    import pandas as pd

    holes = _HOLE.findall(form)
    if not holes or form in source.columns:
        return source, form
    pieces = _HOLE.split(form)
    pattern = "".join("(.+?)" if i % 2 else re.escape(text) for i, text in enumerate(pieces))
    matches = {
        name: match
        for name in source.columns
        if name not in keep and (match := re.fullmatch(pattern, name))
    }
    matches = {n: m for n, m in matches.items() if is_numeric(source.frame[n].tolist())}
    if not matches:
        raise ReportError(
            f"{source.name}: no column of numbers is named like {form!r}",
            f"its columns: {', '.join(source.columns[:_MOST_LISTED])}",
        )
    score = melted_name(form)
    others = [name for name in source.columns if name not in matches]
    parts = []
    for name, match in matches.items():
        part = source.frame[[*others, FILE, LINE]].copy()
        for hole, value in zip(holes, match.groups(), strict=True):
            part[hole] = value
        part[score] = source.frame[name]
        parts.append(part.astype(object))
    return source.with_frame(pd.concat(parts, ignore_index=True)), score


def melted_name(form: str) -> str:
    """Return the name of the column that all columns of a form become."""
    # the word before the part in braces says what that is, and nothing of the score
    form = re.sub(r"(?i)(seed|run|rep|trial|fold|split)s?[ _./-]*(?=\{)", "", form)
    rest = "".join(_HOLE.split(form)[::2]).strip(" _-./")
    return rest if rest and rest not in _HOLE.findall(form) else "score"


def key_texts(frame: pd.DataFrame, columns: Sequence[str], *, named: bool) -> list[str]:
    """Return the texts of some columns together: of one its own, of several ``lr=0.1, wd=0`` or ``a / 1``.

    Where such a name would be too long, the values alone: ``0.1, 0``.
    """
    texts = [[text_of(cell) for cell in frame[column]] for column in columns]
    if len(texts) == 1:
        return texts[0]
    if not named:
        return [" / ".join(parts) for parts in zip(*texts, strict=True)]
    shorts = [_short(column, columns) for column in columns]
    rows = list(zip(*texts, strict=True))
    full = [
        ", ".join(f"{short}={part or 'none'}" for short, part in zip(shorts, parts, strict=True))
        for parts in rows
    ]
    if max(map(len, full), default=0) <= LONGEST_NAME:
        return full
    return [", ".join(part or "none" for part in parts) for parts in rows]  # the values alone


def _short(column: str, columns: Sequence[str]) -> str:
    """The last part of a dotted name, where that is enough to tell columns apart."""
    last = [re.split(r"[./]", name)[-1].removeprefix("param_") for name in columns]
    short = re.split(r"[./]", column)[-1].removeprefix("param_")
    return short if last.count(short) == 1 and short else column


def arm_names(source: TableSource, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the name of every row's arm, and notes on names that were shortened.

    Raises:
        ReportError: a row names no arm.
    """
    frame = source.frame
    texts = key_texts(frame, columns, named=True)
    empty = [i for i, text in enumerate(texts) if not text]
    if empty:
        raise RowsError(
            f"{source.name}: column {columns[0]!r} should name an arm: "
            f"{some([f'{place} is empty' for place in places(frame, empty)])}",
            f"fill it in, or leave such rows out: --where '{columns[0]}!='",
            {"where": (f"{columns[0]}!=",)},
        )
    distinct = list(dict.fromkeys(texts))
    names = {text: _printable(text) for text in distinct}
    long = [text for text, name in names.items() if len(name) > LONGEST_NAME]
    for number, text in enumerate(long, 1):
        names[text] = f"{names[text][: LONGEST_NAME - 8].rstrip()}... #{number}"
    notes = []
    if long:
        example = f"{names[long[0]]!r}"
        notes.append(
            f"{plural(len(long), 'name')} shortened to {LONGEST_NAME} characters: {example}"
        )
    return [names[text] for text in texts], notes


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
