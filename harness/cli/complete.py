"""What the shell completes: names of studies, profiles and recipe fields. Loads neither torch nor numpy.

A name is given with its help text. What cannot be read, a broken study file say, completes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import typer

from harness.errors import HarnessError

Choices = list[tuple[str, str]]


def studies(incomplete: str) -> Choices:
    """Return the studies whose names begin so, each with its question."""
    from harness.study.study import available_studies, load_study

    found = []
    for name, path in available_studies().items():
        if name.startswith(incomplete):
            try:
                found.append((name, load_study(str(path)).question))
            except HarnessError as error:
                found.append((name, error.message.partition("\n")[0]))
    return found


def shown(incomplete: str) -> Choices:
    """Return what ``harness show`` takes: the studies, and ``fields``."""
    return [*studies(incomplete), *_beginning(incomplete, [("fields", "every recipe field")])]


def profiles(context: typer.Context, incomplete: str) -> Choices:
    """Return the built-in profiles and those of the study on the command line."""
    from harness.study.profiles import builtin_profiles
    from harness.study.study import load_study

    found = {
        name: f"data {table.get('data.name', '')}" for name, table in builtin_profiles().items()
    }
    try:
        own = load_study(
            str(context.params.get("study") or context.params.get("name") or "")
        ).profiles
    except HarnessError:
        own = {}
    found |= {name: "the study's own" for name in own if name not in found}
    return _beginning(incomplete, found.items())


def assignments(incomplete: str) -> Choices:
    """Return ``field=`` for every recipe field that begins so; after the ``=``, the values of a field with a few."""
    from harness.study.plugin_fields import OPEN
    from harness.study.recipe import fields

    table = fields()
    name, equals, _ = incomplete.partition("=")
    if not equals:
        offered = [(f"{field}=", f"{text} ({kind})") for field, (kind, _, text) in table.items()]
        return _beginning(
            incomplete, [*offered, *((f"{start}.", text) for start, text in OPEN.items())]
        )
    values = _values(table[name]) if name in table else ()
    return _beginning(incomplete, ((f"{name}={value}", "") for value in values))


def _values(field: tuple[str, Any, str]) -> Iterator[str]:
    kind, _, _ = field
    if kind == "true or false":
        yield from ("true", "false")
    elif " | " in kind:
        yield from (value for value in kind.split(" | ") if ":" not in value)


def _beginning(incomplete: str, found: Iterable[tuple[str, str]]) -> Choices:
    return [(name, text) for name, text in found if name.startswith(incomplete)]
