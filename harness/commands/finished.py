"""What a finished run said, kept with its ledger, so that asking again costs neither training nor timing.

The record answers only for the very same plan: the same study under its profile, engine and image
files, with the report that it describes still there. Everything else is run as usual.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.commands.facts import Outcome, PlanFacts
from harness.commands.place import RUNS
from harness.config import find_defaults
from harness.errors import HarnessError
from harness.study.recipe import ENGINE
from harness.study.study import Study

FILE = "finished.json"
_PLAN = "plan"
OutcomeKind = TypeVar("OutcomeKind", bound=Outcome)


def remember(outcome: Outcome, study: Study, *, datasets: Sequence[str], runs: Path = RUNS) -> None:
    """Keep what a run said, where it ended without a failure.

    Args:
        outcome: of the run.
        study: under its profile.
        datasets: names of the images that its arms train on.
        runs: where ledgers lie.
    """
    from harness.train.data import files_of

    if outcome.exit_code or outcome.report is None or not outcome.counts:
        return
    files = [path for name in dict.fromkeys(datasets) for path in files_of(name)]
    said = {
        item.name: getattr(outcome, item.name) for item in fields(outcome) if item.name != _PLAN
    }
    record = {
        "key": _key(study),
        "report": _digest(outcome.report),
        "images": _stamps(files),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        _PLAN: {item.name: getattr(outcome.plan, item.name) for item in fields(outcome.plan)},
        "outcome": said,
    }
    folder = runs / study.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / FILE).write_text(json.dumps(record, default=str), encoding="utf-8")
    except OSError:  # a full disk: then the next command looks for itself
        (folder / FILE).unlink(missing_ok=True)


def recall(
    study: Study, kind: type[OutcomeKind], plan: type[PlanFacts], *, runs: Path = RUNS
) -> OutcomeKind | None:
    """Return what the finished run of this very plan said; None where it has to be looked at again."""
    record = _read(runs / study.folder / FILE)
    if record is None or record["key"] != _key(study):
        return None
    page = Path(record["outcome"]["report"])
    if not page.is_file() or record["report"] != _digest(page):
        return None
    if record["images"] != _stamps([Path(path) for path, _, _ in record["images"]]):
        return None

    # a field that this version has and the record does not, or the other way about
    said, facts = record["outcome"], record[_PLAN]
    if set(said) | {_PLAN} != {item.name for item in fields(kind)}:
        return None
    if set(facts) != {item.name for item in fields(plan)}:
        return None
    paths = {name: Path(said[name]) for name in ("report", "recipe") if said.get(name)}
    return kind(**{**said, **paths}, plan=plan(**{**facts, "to_run": 0, "seconds": 0.0}))


def latest_profile(
    study: Study,
    *,
    overrides: Mapping[str, Any] | None,
    seeds: int | None,
    name: str = "",
    runs: Path = RUNS,
) -> str:
    """Return the profile under which a study finished last, as it is asked for now; empty without any.

    Args:
        study: as its file has it.
        overrides: recipe fields that are asked for.
        seeds: the number asked for, or None.
        name: the study's, where it is run under another one.
        runs: where ledgers lie.
    """
    records = []
    for path in runs.glob(f"{name or study.name}-*/{FILE}"):
        record = _read(path)
        if record is not None:
            records.append((record["when"], str(record["key"]["study"]["profile"]), record))
    for _, profile, record in sorted(records, key=lambda entry: entry[0], reverse=True):
        try:
            asked = study.under(profile, overrides=overrides, seeds=seeds)
        except HarnessError:  # a profile that the file no longer has
            continue
        if record["key"]["study"]["base"] == _plain(asked)["base"]:
            return profile
    return ""


def when_finished(study: Study, *, runs: Path = RUNS) -> str:
    """Return the day and minute, in UTC, at which a study's record was written; empty without any."""
    record = _read(runs / study.folder / FILE)
    return str(record["when"])[:16].replace("T", " ") + " UTC" if record is not None else ""


def _key(study: Study) -> dict[str, Any]:
    """Return all that decides what a run of a study would give and say."""
    data = os.environ.get("HARNESS_DATA") or find_defaults().data or ""
    return {"study": _plain(study), "engine": ENGINE, "data": str(data)}


def _plain(study: Study) -> dict[str, Any]:
    """Return a study as it looks after it was written to a file and read again."""
    plain: dict[str, Any] = json.loads(study.model_dump_json(by_alias=True))
    return plain


def _digest(page: Path) -> str:
    try:
        return hashlib.sha256((page.parent / "analysis.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def _stamps(files: Sequence[Path]) -> list[list[Any]]:
    stamps: list[list[Any]] = []
    for path in files:
        try:
            state = path.stat()
        except OSError:
            stamps.append([str(path), 0, 0])
        else:
            stamps.append([str(path), state.st_size, state.st_mtime_ns])
    return stamps


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    parts = {"key", "report", "images", "when", _PLAN, "outcome"}
    return record if isinstance(record, dict) and parts == set(record) else None


def folders_of(name: str, there: Sequence[str]) -> list[str]:
    """Return the folder of that name, else those of the study, or the study file, of that name."""
    wanted = study_of(name)
    if wanted in there:
        return [wanted]
    return [one for one in there if one.rpartition("-")[0] == wanted]


def study_of(name: str) -> str:
    """Return the name of the study in a study file; any other name as it is."""
    return Path(name).stem if name.endswith(".toml") else name
