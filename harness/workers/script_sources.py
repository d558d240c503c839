"""Where a script leaves its numbers: in what it prints, in a table, in JSON, in TensorBoard's events.

Every reader gives all numbers that are there, in order; which of them counts is for
``script_results``.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.analysis.sources.event_files import event_scalars
from harness.errors import TrialError, did_you_mean
from harness.study.recipe import flatten
from harness.study.script_metrics import TENSORBOARD, MetricRule
from harness.workers.script_log import as_printed, read_log

Kind = Literal["", "percent", "share"]
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SEPARATORS = ",;\t|"
_LISTED = 12  # columns that an error names


@dataclass(frozen=True, slots=True)
class Reading:
    """One number as it was written.

    Attributes:
        value: as written; of two groups, their ratio.
        kind: ``percent`` where a % follows the number, ``share`` for a ratio, empty where nothing says so.
    """

    value: float
    kind: Kind = ""


def readings(rule: MetricRule, out: Path, log: Path | None) -> list[Reading]:
    """Return every number that a rule with ``stdout`` or ``from`` finds, at least one.

    Args:
        rule: of the metric.
        out: the run's folder.
        log: what it printed; None for a function.

    Raises:
        TrialError: the file, the column or the pattern is not there.
    """
    if rule.from_ == TENSORBOARD:
        return [Reading(value) for value in _events(out, rule.column)]
    if rule.from_ and not rule.stdout:
        path = file_of(out, rule.from_)
        return [_number(value) for value in _column(path, rule.column)]
    if rule.from_:
        path = file_of(out, rule.from_)
        text, place = read_log(path), path.name
    else:
        text, place = read_log(log) if log is not None else "", "its output"
    matched = _matches(rule.stdout, as_printed(text))
    if not matched:
        raise TrialError(f"{place} has no match for '{rule.stdout}'")
    return matched


def file_of(out: Path, pattern: str) -> Path:
    """Return the newest file of a run's folder under a name or a pattern, wherever it lies in there.

    Raises:
        TrialError: there is none.
    """
    found = [path for path in (*out.glob(pattern), *out.rglob(pattern)) if path.is_file()]
    if found:
        return max(found, key=lambda path: (path.stat().st_mtime_ns, str(path)))
    left = files_in(out)
    listed = f"it left {', '.join(left[:_LISTED])}" if left else "it left no file there"
    raise TrialError(f"wrote no {pattern} into its folder, which HARNESS_OUT names; {listed}")


def files_in(out: Path) -> list[str]:
    """Return the paths of the files in a run's folder, relative to it, in order; linked folders are left out."""
    return sorted(
        str(path.relative_to(out))
        for path in out.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _matches(pattern: str, text: str) -> list[Reading]:
    found = []
    matches = {match.start(): match for match in re.finditer(pattern, text, re.MULTILINE)}
    # a pattern of digits does not see that the number stopped being one
    if lost := _lost_pattern(pattern):
        for match in re.finditer(lost, text, re.MULTILINE):
            matches[match.start()] = match
    for match in (matches[start] for start in sorted(matches)):
        groups = [group for group in match.groups() if group is not None]
        if len(groups) != match.re.groups:  # an optional group that was not there
            continue
        if len(groups) == 2:
            above, below = (_number(group).value for group in groups)
            found.append(Reading(above / below if below else math.nan, "share"))
        else:
            number = _number(groups[0] + _rest(match, text))
            percent = text[match.end(1) :].lstrip(" ").startswith("%")
            found.append(Reading(number.value, "percent" if percent else number.kind))
    return found


_NOT_FINITE = r"(?i:(?<![a-z])[-+]?(?:nan|inf(?:inity)?)(?![a-z]))"


def _lost_pattern(pattern: str) -> str:
    """Return a pattern of one group with "nan or inf" for what the group takes; empty for other patterns."""
    if re.compile(pattern).groups != 1:
        return ""
    start, in_set, at = -1, False, 0
    depth = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\":
            at += 1
        elif in_set:  # a bracket that begins a set is one of its signs
            in_set = sign != "]"
        elif sign == "[":
            in_set = True
            at += len(re.match(r"\^?\]?", pattern[at + 1 :])[0])  # type: ignore[index]
        elif sign == "(":
            named = re.match(r"\(\?P<\w+>", pattern[at:])
            if start < 0 and (named or pattern[at + 1 : at + 2] != "?"):
                start, depth = at, 0
            depth += 1
        elif sign == ")":
            depth -= 1
            if start >= 0 and depth == 0:
                lost = f"{pattern[:start]}({_NOT_FINITE}){pattern[at + 1 :]}"
                return lost if _compiles(lost) else ""
        at += 1
    return ""


def _compiles(pattern: str) -> bool:
    """Whether a pattern is one; a reference to a group by its name is lost with the name."""
    try:
        return re.compile(pattern).groups == 1
    except re.error:
        return False


_POWER = re.compile(r"[eE][-+]?\d+\b")
_AFTER_COMMA = re.compile(r",\d+(?![\d.,])")


def _rest(match: re.Match[str], text: str) -> str:
    r"""Return the power of ten where a pattern such as ``([\d.]+)`` ends in front of it.

    Raises:
        TrialError: the pattern ends in front of a comma that may be a decimal one.
    """
    read = match[1]
    if match.end() != match.end(1) or not read[-1:].isdigit():  # the pattern says what follows
        return ""
    if power := _POWER.match(text, match.end(1)):
        return power[0]
    after = _AFTER_COMMA.match(text, match.end(1))
    if after and read.isdigit():
        raise TrialError(
            f"'{match.re.pattern}' reads {read} of {read}{after[0]}; "
            r"write ([\d.,]+) if that is one number, or a comma after the group if it is two"
        )
    return ""


def _number(value: Any) -> Reading:
    """Read a number, or a text of one: 91.2, "91.2%", "9,100", "1e-3", "nan".

    Raises:
        TrialError: it is none.
    """
    if not isinstance(value, str):
        try:
            return Reading(float(value))
        except TypeError:  # a list of JSON
            raise TrialError(f"{value!r} is no number") from None
    text = value.strip()
    plain = text.removesuffix("%").rstrip()
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    elif plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    try:
        return Reading(float(plain), "percent" if text.endswith("%") else "")
    except ValueError:
        raise TrialError(f"{value!r} is no number") from None


def _column(path: Path, column: str) -> list[Any]:
    """Return what is in a column of a file, empty cells left out."""
    rows = rows_of(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    known = [name for name in names if name == column] or [
        name for name in names if _plain(name) == _plain(column)
    ]
    if not known:
        near = did_you_mean(column, names)
        there = ", ".join(names[:_LISTED]) or "nothing"
        raise TrialError(f"{path.name} has no column {column!r}{near}; it has {there}")
    values = [row[known[0]] for row in rows if row.get(known[0]) not in (None, "")]
    if not values:
        raise TrialError(f"{path.name} has nothing in column {known[0]!r}")
    return values


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read a table: CSV with any usual separator, JSON, JSON lines, or the state of a Hugging Face trainer.

    Raises:
        TrialError: it is unreadable.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
            return _json_rows(text)
        lines = [line for line in text.splitlines() if line.strip()]
        first = lines[0] if lines else ""
        separator = max(_SEPARATORS, key=first.count)
        table = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
        # cells beyond the header's columns have no name
        return [{k: v for k, v in row.items() if k is not None} for row in table]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise TrialError(f"its {path.name} is unreadable: {error}") from None


def _json_rows(text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError:  # one object a line
        content = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(content, Mapping) and isinstance(content.get("log_history"), list):
        content = [*content["log_history"], {k: v for k, v in content.items() if not _listed(v)}]
    if isinstance(content, Mapping):
        columns = {key: value for key, value in content.items() if _listed(value)}
        if columns:  # a list of numbers for every column, as Keras has it
            count = max(map(len, columns.values()))
            return [
                {key: value[row] for key, value in columns.items() if row < len(value)}
                for row in range(count)
            ] + [flatten({k: v for k, v in content.items() if k not in columns})]
        content = [content]
    if not isinstance(content, list):
        raise ValueError("it holds neither an object nor a list of objects")  # noqa: TRY004 - reported as what it is: a bad file
    return [flatten(row) for row in content if isinstance(row, Mapping)]


def _listed(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _events(out: Path, tag: str) -> list[float]:
    """Return a scalar of TensorBoard's event files, in the order of time."""
    folders = sorted({path.parent for path in out.rglob("*tfevents*") if path.is_file()})
    if not folders:
        raise TrialError("wrote no event file of TensorBoard into its folder")
    events: list[tuple[float, int, float]] = []
    tags: list[str] = []
    for folder in folders:
        scalars = event_scalars(folder).scalars
        tags += scalars
        events += scalars.get(tag, [])
    if not events:
        near = did_you_mean(tag, tags)
        raise TrialError(
            f"its events have no scalar {tag!r}{near}; they have {', '.join(dict.fromkeys(tags)) or 'none'}"
        )
    return [value for _, _, value in sorted(events, key=lambda event: event[0])]
