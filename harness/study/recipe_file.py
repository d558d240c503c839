"""Recipe files: a few fields that make a recipe out of any study's base, as ``tune`` writes its winner.

A file holds differences, not a whole recipe: ``--base FILE`` sets its fields before the arms of any
study depart from them, and images, epochs and net stay those of the profile unless the file names
them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import RecipeError
from harness.study.recipe import Recipe, flatten
from harness.text import unread

_KEYS = ("schema", "name", "why", "recipe")
_HINT = 'a recipe file looks like: schema = 1, then a table [recipe] with fields such as "schedule.max_lr" = 0.003'


def write_recipe(path: Path, overrides: Mapping[str, Any], *, name: str, why: str = "") -> None:
    """Write a recipe file, whole or not at all.

    Args:
        path: of the file; its folder is made when needed.
        overrides: ``{dotted field name: value}``; empty for the base as it is.
        name: what it is called.
        why: where it comes from.

    Raises:
        RecipeError: a field does not exist or does not take its value; or writing the file failed.
    """
    import tomli_w

    # refused before anything is written
    Recipe().with_overrides(overrides)
    plain = {
        field: list(value) if isinstance(value, tuple) else value
        for field, value in overrides.items()
    }
    text = tomli_w.dumps({"schema": 1, "name": name, "why": why, "recipe": plain})

    # Put in place whole: a run that reads it as its base never sees a half of it.
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise RecipeError(
            f"could not write {path}: {error}", "choose a folder that you may write to"
        ) from error


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Return the fields of a recipe file as ``{dotted field name: value}``.

    Raises:
        RecipeError: there is no such file, or it has faults, all of which are listed.
    """
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RecipeError(unread(path, error), "run `harness tune`: it writes one") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(unread(path, error), _HINT) from None
    faults = [f"{key}: no such key" for key in raw if key not in _KEYS]
    if raw.get("schema") != 1:
        faults.append(f"schema: should be 1 (given: {raw.get('schema')!r})")
    table = raw.get("recipe")
    if not isinstance(table, Mapping):
        faults.append("recipe: should be a table of recipe fields")
        table = {}
    # TOML has lists where a recipe, which is hashed, has tuples
    overrides = {name: tuple(v) if isinstance(v, list) else v for name, v in flatten(table).items()}
    faults += [f"recipe.{fault}" for fault in Recipe().try_overrides(overrides)[1]]
    if len(faults) == 1:
        raise RecipeError(f"{path}: {faults[0]}", _HINT)
    if faults:
        raise RecipeError("\n  - ".join([f"{path} has {len(faults)} faults:", *faults]), _HINT)
    return overrides
