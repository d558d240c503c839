"""What is looked at before anything is timed: what is asked for, whether files can be written, whose report is replaced."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import StudyError, UsageError
from harness.study.arms import arms
from harness.study.study import Study


def check_asked(
    study: Study, profile: str | None, *, overrides: Mapping[str, Any] | None, seeds: int | None
) -> None:
    """Check profile, recipe fields and seeds as they are asked for, before torch is imported.

    Raises:
        UsageError: there is no such profile, or the study runs nothing.
        StudyError: a field does not exist or does not take its value; every fault is listed. Or
            two arms are the same.
    """
    smallest = "" if study.scripted else "quick"
    try:
        asked = study.under(profile or study.profile or smallest, overrides=overrides, seeds=seeds)
        if profile or study.profile or study.scripted:  # else another one may be chosen
            arms(asked)
    except UsageError as unknown:
        try:  # a wrong profile hides no wrong field
            study.under(smallest, overrides=overrides, seeds=seeds)
        except StudyError as wrong:
            raise UsageError(f"{unknown.message}; {wrong.message}", unknown.hint) from None
        raise


def check_writable(*folders: Path) -> None:
    """Check that files can be written where a run keeps them, before anything is timed.

    Raises:
        UsageError: one of the folders, or the one that it would be made in, takes no file.
    """
    for folder in folders:
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise UsageError(
                f"a run keeps its files in {folder}/, and {place.absolute()} takes none: "
                f"{error.strerror or error}",
                "make it writable, or run from a folder that is",
            ) from error


def replaced_report(study: Study, reports: Path) -> list[str]:
    """Return what becomes of a report that another plan of the same study has left; empty where none is replaced."""
    try:
        before = json.loads((reports / study.folder / "analysis.json").read_bytes())["study"]
        now = json.loads(study.model_dump_json(by_alias=True))
        changed = sorted(
            {
                f"{name} {old!r} -> {new!r}"
                for name in before["base"].keys() | now["base"].keys()
                if (old := before["base"].get(name)) != (new := now["base"].get(name))
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    if not changed:
        return []
    place = reports / study.folder
    return [
        f"{place} is of another recipe ({', '.join(changed)}): this run replaces that report",
        "its trials are kept: the command that made them brings the old report back",
    ]
