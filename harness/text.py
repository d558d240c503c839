"""Small words that every part of the program uses: durations, counts, and what a value should be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# What each kind of fault that pydantic finds asks for; it has words of its own, which name Python's types.
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "text in quotes",
    "tuple_type": "a list",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}

# What TOML expects where Python's parser stops, by what it says there; the first that fits.
_SYNTAX = (
    ("Invalid value", 'expected a value: "text", a number, true, false or a [list]'),
    ("after a statement", "expected the end of the line: a line has one `key = value`"),
    ("']' at the end", "expected ] after the name of a table, as in [base]"),
    ("']]' at the end", "expected ]] after the name of a table, as in [[arms]]"),
    ("'=' after a key", "expected = after the key, as in `key = value`"),
    ("Cannot overwrite", "this key has a value already"),
    ("twice", "this table is there already"),
    ("redefine", "this table is there already"),
    ("immutable", "a table in braces {...} takes no more keys below it"),
    ("Duplicate inline", "this key has a value already"),
    ("for a key part", "expected a key of letters, digits, _ and -; any other needs quotes"),
    ("Unclosed array", "expected , or ] in a list"),
    ("Unclosed inline", "expected , or } in a table in braces"),
    ("Unescaped", "a backslash in \"...\" is written twice; '...' takes it as it is"),
    ("Illegal character '\\n'", "expected a quote at the end of the text"),
    ("Unterminated", "expected a quote at the end of the text"),
    ("Expected \"'", "expected a quote at the end of the text"),
    ("character", "this character may not be here"),
    ("Invalid statement", "expected `key = value` or a [table]"),
    ("Invalid date", "expected a date that the calendar has, as 2026-01-31"),
    ("Invalid hex", "expected hexadecimal digits after the backslash"),
)
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def duration(seconds: float) -> str:
    """Return a duration in words, to the precision a person plans with: ``42 s``, ``7 min``, ``3 h 10 min``, ``5 days``."""
    if seconds < 99.5:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def plural(count: int, one: str, many: str = "") -> str:
    """Return ``1 seed`` or ``8 seeds``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def unread(path: Path | str, error: Exception) -> str:
    """Return why a TOML file was not read: file, line, column, and what is expected there.

    Args:
        path: of the file.
        error: what reading and parsing it raised: OSError, UnicodeDecodeError, ValueError or RecursionError.
    """
    if isinstance(error, OSError):
        return f"could not read {path}: {error.strerror or error}"
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"{path}, line {line}: expected text in UTF-8"

    place = _PLACE.search(str(error))
    if place is None:  # a number too long or tables too deep for Python
        return f"could not read {path}: {error}"
    where = "the end of the file"
    if place[1]:
        where = f"line {place[1]}, column {place[2]}"
    said = str(error)[: place.start()]
    expects = next((words for sign, words in _SYNTAX if sign in said), "this is not TOML")
    return f"{path}, {where}: {expects}"


def expected(fault: Mapping[str, Any], limits: Iterable[object] = ()) -> str:
    """Return what a value should be, as ``should be a whole number, at least 1``.

    Args:
        fault: as ``errors()`` of pydantic's ValidationError lists it.
        limits: the field's metadata, of which the bounds count.
    """
    kind, context = fault["type"], fault.get("ctx", {})
    bounds = {
        name: getattr(item, name) for item in limits for name in _BOUNDS if hasattr(item, name)
    }
    bounds = bounds or {name: context[name] for name in _BOUNDS if name in context}
    among = " and ".join(f"{_BOUNDS[name]} {bound:,}" for name, bound in bounds.items())
    if kind in _KINDS:
        return f"should be {_KINDS[kind]}" + (f", {among}" if among else "")
    if among or kind == "literal_error":
        return f"should be {among or context['expected']}"
    if kind == "string_pattern_mismatch":
        free = "x00" in context["pattern"]  # text that a process can take as an argument
        return f"should be {'text without a null character' if free else 'letters, digits and _'}"

    # lengths: of a text in characters, of a list in entries
    unit = ("character",) if kind.startswith("string") else ("entry", "entries")
    of = "text" if kind.startswith("string") else "a list"
    for key, words in (("min_length", "at least"), ("max_length", "at most")):
        if key in context:
            return f"should be {of} of {words} {plural(context[key], *unit)}"
    message: str = fault["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "should be")
