"""What the shell completes: studies, runs, reports, profiles, recipe fields and their values, data sets.

A shell asks at every Tab, so nothing is validated: names and questions are read with ``tomllib``,
fields from the committed schema of study files. A file that nobody can read completes to nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from harness.study.files import available_studies, builtin_folders

Choices = list[tuple[str, str]]
_PROFILES_FILE = Path(__file__).resolve().parent.parent / "study" / "profiles.toml"
_DATASETS = {
    "cifar10": "60,000 images of 10 things",
    "cifar100": "60,000 images of 100 things",
    "svhn": "99,289 house numbers",
    "fashion-mnist": "70,000 images of clothes",
}


def studies(incomplete: str) -> Choices:
    """Return the studies whose names begin so, each with its question."""
    return [
        (name, str(_toml(path).get("question", "")))
        for name, path in available_studies().items()
        if name.startswith(incomplete)
    ]


def runs(incomplete: str) -> Choices:
    """Return the studies that were started here, by the names of their folders."""
    names = sorted(path.parent.name for path in Path("runs").glob("*/journal.log"))
    return _beginning(incomplete, [(name, "") for name in names])


def reports(incomplete: str) -> Choices:
    """Return the reports that lie here."""
    names = sorted(path.parent.name for path in Path("reports").glob("*/analysis.json"))
    return _beginning(incomplete, [(name, "") for name in names])


def datasets(incomplete: str) -> Choices:
    """Return the data sets that can be downloaded."""
    return _beginning(incomplete, _DATASETS.items())


def shown(incomplete: str) -> Choices:
    """Return what ``harness show`` takes: the studies, ``fields``, and the fields themselves once a part is typed."""
    offered = [*studies(incomplete), *_beginning(incomplete, [("fields", "every recipe field")])]
    if "." in incomplete:
        table = _fields()
        offered += _beginning(incomplete, [(name, _about(table[name])) for name in table])
    return offered


def profiles(context: typer.Context, incomplete: str) -> Choices:
    """Return the built-in profiles and those of the study on the command line."""
    builtin = {
        name: f"data {table.get('data', {}).get('name', table.get('data.name', ''))}"
        for name, table in _toml(_PROFILES_FILE).items()
        if name != "observed"
    }
    study = str(context.params.get("study") or context.params.get("name") or "")
    path = available_studies().get(study, Path(study)) if study else None
    own = _toml(path).get("profiles", {}) if path is not None else {}
    choices = builtin | {name: "the study's own" for name in own if name not in builtin}
    return _beginning(incomplete, choices.items())


def assignments(incomplete: str) -> Choices:
    """Return ``field=`` for every recipe field that begins so; after the ``=``, the values of a field with a few."""
    table = _fields()
    name, equals, _ = incomplete.partition("=")
    if equals:
        values = _values(table[name]) if name in table else ()
        return _beginning(incomplete, ((f"{name}={value}", "") for value in values))

    offered = [(f"{field}=", _about(entry)) for field, entry in table.items()]
    offered = _beginning(incomplete, [*offered, *((f"{start}.", "") for start in _open_fields())])
    if len(offered) == 1 and offered[0][0].endswith("="):
        # A second choice keeps the shell from closing the word with a space behind the sign.
        default = table[offered[0][0][:-1]].get("default")
        offered.append((f"{offered[0][0]}{_written(default)}", "its default"))
    return offered


def answer_bash(ask: Callable[[], object]) -> None:
    """Answer bash, which takes ``field=value`` for three words, as if it were one, and cut what is typed already.

    Args:
        ask: prints the choices; given the words of the environment.
    """
    words, cursor = _bash_words()
    joined, place, typed = _joined(words, cursor)
    os.environ["COMP_WORDS"] = shlex.join(joined)
    os.environ["COMP_CWORD"] = str(place)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            ask()
    finally:
        for line in printed.getvalue().splitlines():
            _say(line.removeprefix(typed))


def _say(line: str) -> None:
    from harness.cli import console

    console.data(line)


def _bash_words() -> tuple[list[str], int]:
    text = os.environ.get("COMP_WORDS", "")
    words = text.split("\n") if "\n" in text else text.split(" ")
    try:
        return words, int(os.environ.get("COMP_CWORD", "0"))
    except ValueError:
        return words, 0


def _joined(words: list[str], cursor: int) -> tuple[list[str], int, str]:
    """Return the words with those around a lone ``=`` joined, the cursor's place, and what of its word stays as it is."""
    joined: list[str] = []
    place, typed = cursor, ""
    for index, word in enumerate(words):
        glued = bool(joined) and (word == "=" or (index > 0 and words[index - 1] == "="))
        if index == cursor:
            place = len(joined) - 1 if glued else len(joined)
            whole = joined[-1] + word if glued else word
            typed = whole[: whole.rfind("=") + 1] if glued else ""
        if glued:
            joined[-1] += word
        else:
            joined.append(word)
    return joined, place, typed


def _fields() -> Mapping[str, Mapping[str, Any]]:
    """Return every recipe field as the schema describes it."""
    for folder in builtin_folders():
        with contextlib.suppress(OSError, ValueError):
            defs = json.loads((folder / "schema.json").read_bytes())["$defs"]
            return {name: entry for name, entry in defs.items() if "." in name}
    return {}


def _open_fields() -> Iterator[str]:
    """Yield the beginnings of fields whose last name the user chooses."""
    for folder in builtin_folders():
        with contextlib.suppress(OSError, ValueError):
            patterns = json.loads((folder / "schema.json").read_bytes())["$defs"]["FieldName"]
            for entry in patterns["anyOf"]:
                start = entry.get("pattern", "")
                if start.startswith("^") and start.endswith(r"\..+$"):
                    yield start[1 : -len(r"\..+$")].replace("\\", "")
            return


def _values(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry.get("type") == "boolean":
        yield from ("true", "false")
    yield from map(str, entry.get("enum", ()))
    for kind in entry.get("anyOf", ()):
        if "const" in kind:
            yield str(kind["const"])
        yield from map(str, kind.get("enum", ()))


def _about(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('description', '')}; default {_written(entry.get('default'))}"


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _beginning(incomplete: str, choices: Iterable[tuple[str, str]]) -> Choices:
    return [(name, text) for name, text in choices if name.startswith(incomplete)]
