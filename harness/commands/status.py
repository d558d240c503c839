"""``status``: how far runs are. A finished one is read from its record, any other from its ledger."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.finished import FILE, folders_of, study_of
from harness.commands.place import RUNS
from harness.config import hide_password
from harness.errors import HarnessError, UsageError, did_you_mean
from harness.text import plural

if TYPE_CHECKING:
    from harness.ledger import Ledger, Standing

STATES = ("waiting", "running", "complete", "pruned", "diverged", "failed")
_MARKS = ("better", "worse", "equivalent", "unresolved")


@dataclass(frozen=True, slots=True)
class RunState:
    """How far one run is.

    Attributes:
        name: of its folder.
        done, total: trials that are final, and all.
        when: day and minute, in UTC, of the last that is known of it.
        verdicts: how many arms are better, worse, equivalent and unresolved, by the report.
        report: the page, where there is one.
        note: why there is nothing to read.
    """

    name: str
    done: int = 0
    total: int = 0
    when: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    report: Path | None = None
    note: str = ""

    @property
    def answer(self) -> str:
        """The verdicts in words, or why there are none."""
        if self.note:
            return self.note
        counts = [f"{self.verdicts[mark]} {mark}" for mark in _MARKS if self.verdicts.get(mark)]
        return ", ".join(counts) or ("no verdict" if self.report else "no report yet")


@dataclass(frozen=True, slots=True)
class Standings:
    """How far the trials of one run are.

    Attributes:
        arms: ``{arm: {state: trials}}``.
        running: (arm, seed, worker, since) of each trial that runs.
        pace: trials an hour lately; None while nothing is known.
        seconds_left: until all are final; None while nothing is known.
        reported: whether this is what a report says of trials that ran elsewhere.
    """

    name: str
    trials: Mapping[str, int]
    arms: Mapping[str, Mapping[str, int]]
    running: Sequence[tuple[str, int, str, str]]
    pace: float | None
    seconds_left: float | None
    reported: bool = False

    @property
    def open(self) -> int:
        """Trials that are not final."""
        return self.trials["waiting"] + self.trials["running"]


def all_runs(
    *, storage: str | None = None, runs: Path = RUNS, reports: Path = Path("reports")
) -> list[RunState]:
    """Return how far every run is, and every report whose trials ran elsewhere, the latest first.

    Raises:
        StorageError: nobody can read the storage.
    """
    names = started(storage, runs)
    states = [
        state
        for name in names
        if (state := _run_state(name, storage=storage, runs=runs, reports=reports)) is not None
    ]
    elsewhere = sorted(path.parent for path in reports.glob("*/analysis.json"))
    states += [_reported(folder) for folder in elsewhere if folder.name not in names]
    return sorted(states, key=lambda state: (state.when, state.name), reverse=True)


def started(storage: str | None, runs: Path = RUNS) -> list[str]:
    """Return the folder names of the runs that have a ledger, by name."""
    if storage:
        from harness.ledger import studies_in

        return studies_in(storage)
    return sorted(path.parent.name for path in runs.glob("*/journal.log"))


def find_run(name: str, *, storage: str | None, runs: Path = RUNS) -> str:
    """Return the folder name of a run that is named by its folder, its study or its study file; the latest of several.

    Raises:
        UsageError: there is no such run.
    """
    there = started(storage, runs)
    matches = folders_of(name, there)
    if not matches:
        where = f"in {hide_password(storage)}" if storage else f"under {runs}/"
        raise UsageError(
            f"no run of {name!r} is {where}{did_you_mean(study_of(name), there)}",
            f"there are: {', '.join(there)}"
            if there
            else "nothing was started here: `harness show` lists the studies to run",
        )
    return max(matches, key=lambda run: _modified(runs / run / "journal.log"))


def reported(
    name: str, *, storage: str | None, runs: Path = RUNS, reports: Path = Path("reports")
) -> Standings | None:
    """Return what a report says of trials that ran elsewhere.

    None where a run of that name is here, or no report.
    """
    if storage or folders_of(name, started(storage, runs)):
        return None
    folders = {path.parent.name: path.parent for path in reports.glob("*/analysis.json")}
    latest = sorted(
        folders_of(name, list(folders)), key=lambda one: _modified(folders[one] / "analysis.json")
    )
    content = _record(folders[latest[-1]] / "analysis.json") if latest else None
    return _standings_reported(latest[-1], content) if content is not None else None


def _standings_reported(name: str, content: Mapping[str, Any]) -> Standings:
    """Return how far a report says that the trials of its arms came."""
    arms = {}
    for arm in content["arms"]:
        ended = {
            "complete": arm["completed"],
            "pruned": arm["pruned"],
            "diverged": arm["diverged"],
            "failed": arm["failed"],
        }
        arms[arm["name"]] = {
            "waiting": max(arm["planned"] - sum(ended.values()), 0),
            "running": 0,
            **ended,
        }
    trials = {state: sum(states[state] for states in arms.values()) for state in STATES}
    trials["total"] = sum(trials.values())
    return Standings(name, trials, arms, (), None, None, reported=True)


def standings(ledger: Ledger) -> Standings:
    """Return how far the trials of an open ledger are, arms by their names."""
    from harness.ledger.pace import pace_of

    places = ledger.standings()
    names = _names(ledger)
    counts = ledger.counts()
    pace = pace_of(ledger.trials())
    arms: dict[str, Counter[str]] = {}
    for place in places:
        arms.setdefault(_arm(place, names), Counter())[place.state] += 1

    return Standings(
        name=ledger.name,
        trials={name: getattr(counts, name) for name in (*STATES, "total")},
        arms={arm: dict(states) for arm, states in arms.items()},
        running=[
            (_arm(place, names, single=True), place.cell.seed, place.worker, place.since)
            for place in places
            if place.state == "running"
        ],
        pace=pace,
        seconds_left=counts.open / pace * 3600 if pace and counts.running else None,
    )


def _names(ledger: Ledger) -> dict[str, str] | None:
    """Return ``{recipe id: arm}``; None for a search, whose trials have numbers."""
    from harness.search import is_search
    from harness.study.arms import arms
    from harness.study.retune_settings import is_retuning

    plan, cells = ledger.latest_plan(), ledger.cells()
    if plan is None or is_search(cells) or is_retuning(cells):
        return None
    return {arm.recipe.id: arm.name for arm in arms(plan.study)}


def _arm(place: Standing, names: Mapping[str, str] | None, *, single: bool = False) -> str:
    if names is None:
        return f"trial {place.cell.key.rpartition('-')[2]}" if single else "search"
    return names.get(place.cell.recipe.id, place.cell.recipe.id)


def _run_state(name: str, *, storage: str | None, runs: Path, reports: Path) -> RunState | None:
    """Return how far a run is; None for a part of another one, as a confirmation is."""
    folder = reports / name
    page = folder / "index.html"
    report = page if page.is_file() else None
    when = _minute(_modified(runs / name / "journal.log"))
    record = _record(runs / name / FILE) if not storage else None
    if record is not None and _modified(runs / name / FILE) >= _modified(
        runs / name / "journal.log"
    ):
        counts = record["outcome"]["counts"]
        return RunState(
            name, counts["total"], counts["total"], when, _verdicts(folder), report=report
        )

    from harness.commands.report import is_part
    from harness.search import SearchLedger

    try:
        with SearchLedger.open(name, storage=storage, runs=runs, create=False) as ledger:
            plan = ledger.latest_plan()
            if plan is None:
                return RunState(name, when=when, note="not planned yet")
            if is_part(ledger, plan.study):
                return None
            counts = ledger.counts()
    except HarnessError as error:
        return RunState(name, when=when, note=error.message)
    left = "" if not counts.open else f"{plural(counts.open, 'trial')} left"
    return RunState(
        name, counts.final, counts.total, when, _verdicts(folder), report=report, note=left
    )


def _reported(folder: Path) -> RunState:
    """Return what a report says whose trials ran elsewhere."""
    content = _record(folder / "analysis.json") or {}
    total = int(content.get("trials_total", 0))
    page = folder / "index.html"
    return RunState(
        folder.name,
        total,
        total,
        _minute(_modified(folder / "analysis.json")),
        _verdicts(folder),
        report=page if page.is_file() else None,
        note="" if content else "its analysis.json is not readable",
    )


def _verdicts(folder: Path) -> dict[str, int]:
    content = _record(folder / "analysis.json")
    if content is None:
        return {}
    primary = [
        effect for effect in content["effects"] if effect["metric"] == content["study"]["metric"]
    ]
    leading = [effect for effect in primary if effect["kind"] == "main"] or [
        effect for effect in primary if effect["kind"] == "arm"
    ]
    return dict(Counter(str(effect["verdict"]) for effect in leading if effect["verdict"]))


def _record(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else ""
