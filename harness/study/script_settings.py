"""Settings of a training script: free names with plain values, and the command that passes them.

Where a study runs a script in place of our engine, these take the place of the recipe's fields. A
command is a list of words, run without a shell; ``{name}`` in a word is the setting's
value, ``{seed}`` for the seed, ``{out}`` for the folder that the script writes its results to,
``{{`` and ``}}`` for braces.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, RootModel

from harness.errors import did_you_mean
from harness.plugins import is_plugin

GIVEN = ("seed", "out")  # placeholders that every command has
# what they mean in [profiles.NAME]
_IN_PROFILES = ("seeds", "looks", "margin_pp", "factors", "arms", "space", "search")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")

Word = Annotated[str, Field(pattern=r"^[^\x00]*$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Scalar = bool | int | float | Word


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Value = Annotated[Scalar | tuple[Scalar, ...], BeforeValidator(_tuple)]


class Settings(RootModel[dict[str, Value]]):
    """``{name: value}``; a value is true or false, a number, a text, or a list of these."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.root)))


def name_fault(name: str) -> str:
    """Return why a setting cannot have this name, or nothing."""
    if name in GIVEN:
        return "is given to every command already; choose another name"
    if name in _IN_PROFILES:
        return "means something else in a profile; choose another name"
    if "." in name:
        return "recipe fields do not describe a script: give it a plain name, and the command a placeholder of that name"
    return "" if _NAME.fullmatch(name) else "should be a name of letters, digits and '_'"


def placeholders(word: str) -> list[str]:
    """Return the names in braces of one word of a command.

    Raises:
        ValueError: a brace is not closed or not opened, or there is more than a name in it.
    """
    found = []
    for _, name, form, conversion in string.Formatter().parse(word):
        if name is None:
            continue
        if form or conversion or not _NAME.fullmatch(name):
            raise ValueError(
                "braces should hold one name; write {{ and }} for braces that are meant"
            )
        found.append(name)
    return found


def script_faults(raw: Mapping[str, Any]) -> list[str]:
    """Return what a study that runs a script says against itself, and what only such a study may say.

    Args:
        raw: the tables of a valid study.
    """
    command, runner = raw["command"], raw["runner"]
    if not command and not runner:
        return [
            f"{key}: is for a study with command or runner"
            for key in ("timeout_seconds", "metrics", "isolate", "env")
            if raw[key]
        ]
    faults = []
    if command and runner:
        faults.append("runner: give either command or runner, not both")
    if runner and not is_plugin(runner):
        faults.append(f"runner: should be of the form file.py:function (given: {runner!r})")
    if runner and raw["timeout_seconds"]:
        faults.append(
            "timeout_seconds: harness can stop a command, but not a function: that runs inside the worker"
        )
    if runner:
        faults += [
            f"{key}: is for a command; a function runs inside of the worker"
            for key in ("isolate", "env")
            if raw[key]
        ]
    faults += [f"isolate: {fault}" for fault in _link_faults(raw["isolate"])]
    if raw["space"]:
        faults.append(
            "space: a search is for recipes of our engine; sweep a setting with [[factors]] and levels"
        )
    if command:
        faults += _command_faults(command, raw["env"], raw["base"], _values(raw))
    return faults


def _link_faults(isolate: bool | Sequence[str]) -> list[str]:  # noqa: FBT001 - a key of the study
    """What is wrong with the names that are linked into a run's own working folder."""
    names = [] if isinstance(isolate, bool) else isolate
    return [
        f"{name!r} should be the name of a file or folder in the working folder"
        for name in names
        if not name or "/" in name or name in (".", "..")
    ]


def _values(raw: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Every value that the base, a factor or an arm gives each setting; one of several fields of a factor is no list."""
    values: dict[str, list[Any]] = {name: [value] for name, value in raw["base"].items()}
    for factor in raw["factors"]:
        given = [
            value for value in (factor["off"], factor["on"], *factor["levels"]) if value is not None
        ]
        for name in factor["field"] if len(factor["field"]) == 1 else ():
            values.setdefault(name, []).extend(given)
    for arm in raw["arms"]:
        for name, value in arm["set"].items():
            values.setdefault(name, []).append(value)
    return values


def _command_faults(
    command: Sequence[str],
    env: Mapping[str, str],
    settings: Mapping[str, Any],
    values: Mapping[str, Sequence[Any]],
) -> list[str]:
    """What is wrong with the words of a command, given the settings of the base and all values that arms give them."""
    faults: list[str] = []
    used: set[str] = set()
    known = [*settings, *GIVEN]
    lists = {
        name
        for name, given in values.items()
        if any(isinstance(value, (list, tuple)) for value in given)
    }
    words = [(f"command[{index}]", word) for index, word in enumerate(command)]
    words += [(f"env.{name}", word) for name, word in env.items()]

    for place, word in words:
        try:
            names = placeholders(word)
        except ValueError as error:
            faults.append(f"{place}: {word!r}: {error}")
            continue
        used.update(names)
        faults += [
            f"{place}: there is no setting {name!r} in [base]{did_you_mean(name, known)}"
            for name in names
            if name not in known
        ]
        listed = [name for name in names if name in lists]
        if listed and place.startswith("env."):
            faults.append(f"{place}: {listed[0]} is a list, and a variable holds one value")
        elif listed and word != f"{{{listed[0]}}}":
            faults.append(
                f"{place}: {listed[0]} is a list and becomes several words: make this word {{{listed[0]}}} alone"
            )

    faults += [
        f"env.{name}: harness sets it for every run"
        for name in env
        if name in ("HARNESS_OUT", "HARNESS_SEED")
    ]
    faults += [
        f"base.{name}: no word of command uses {{{name}}}" for name in settings if name not in used
    ]
    return faults


def expand(command: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return a command with its placeholders filled in; a list makes as many words as it has, also none."""
    words: list[str] = []
    for word in command:
        names = placeholders(word)
        if (
            len(names) == 1
            and word == f"{{{names[0]}}}"
            and isinstance(values[names[0]], (list, tuple))
        ):
            words += [_text(value) for value in values[names[0]]]
        else:
            words.append(word.format(**{name: _text(values[name]) for name in names}))
    return words


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
