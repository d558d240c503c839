"""Reading Optuna trials: which cell, whose, its result, and the state of each cell."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from harness.ledger.plan_document import Attempt, CellState, Document, Standing
from harness.study.recipe import Recipe
from harness.study.trial import Cell, Trial

ACTIVE = (TrialState.WAITING, TrialState.RUNNING)
FINAL = (TrialState.COMPLETE, TrialState.PRUNED)
UNCOUNTED = ("handed back", "withdrawn")  # causes of attempts that say nothing about the cell


def key_of(row: FrozenTrial) -> str:
    """Return the key of the cell; empty for a trial that is none of ours."""
    return str(row.user_attrs.get("cell", ""))


def lease_of(row: FrozenTrial) -> dict[str, Any]:
    """Return who runs it, with its counter; empty before the first."""
    return dict(row.user_attrs.get("lease", {}))


def cause_of(row: FrozenTrial) -> str:
    """Return why a failed trial failed."""
    return str(row.user_attrs.get("cause") or row.user_attrs.get("trial", {}).get("cause", ""))


def artifact_of(row: FrozenTrial) -> str:
    """Return the name of its artifact in the store; empty without one."""
    return str(row.user_attrs.get("trial", {}).get("artifact", ""))


def recipe_of(row: FrozenTrial) -> Recipe:
    """Return the recipe of its cell."""
    return _recipe(json.dumps(row.user_attrs.get("recipe", {}), sort_keys=True))


@lru_cache(maxsize=1024)  # a study has few recipes and many trials
def _recipe(stored: str) -> Recipe:
    return Recipe.of_stored(json.loads(stored))


def deciding(
    rows: Iterable[FrozenTrial], keys: Collection[str], document: Document | None
) -> dict[str, FrozenTrial]:
    """Return, for each cell, the trial that says its state; a cell that is to be enqueued has no entry.

    That is its first finished trial, else the one that runs or waits, else the failure that ends
    it: by its code, or by the infrastructure once no retry is left.
    """
    standings: dict[str, FrozenTrial] = {}
    lost: dict[str, int] = {}
    for row in rows:
        key = key_of(row)
        # a trial whose artifact was lost decides nothing: its cell is run again
        if key not in keys or (document is not None and row.number in document.void):
            continue
        standing = standings.get(key)
        if row.state in FINAL:
            if standing is None or standing.state not in FINAL:
                standings[key] = row
        elif row.state in ACTIVE:
            if standing is None or standing.state == TrialState.FAIL:
                standings[key] = row
        # failures come last, and only those that no retry follows
        elif (
            document is not None
            and (standing is None or _of_shard(row, standing))
            and _ends(row, document, lost)
        ):
            standings[key] = row
    return standings


def _of_shard(row: FrozenTrial, standing: FrozenTrial) -> bool:
    """Whether a failure was taken over from a shard, whose cell still waits in the study's own journal."""
    return "shard" in row.user_attrs and standing.state == TrialState.WAITING


def _ends(row: FrozenTrial, document: Document, lost: dict[str, int]) -> bool:
    """Whether this failure is the last word on its cell; ``lost`` counts those of the infrastructure."""
    cause, serial = cause_of(row), int(row.user_attrs.get("serial", 0))
    if cause == "code":
        return serial >= document.retry_serial
    # a new plan gives every cell its retries again
    if cause in UNCOUNTED or serial < document.serial:
        return False
    key = key_of(row)
    lost[key] = lost.get(key, 0) + 1
    return lost[key] > document.plan.retries


def value_of(trial: Trial, metric: str) -> float:
    """Return the number that Optuna gets: validation accuracy, or the study's metric where a runner gives no accuracy."""
    return float(trial.metrics.get("accuracy", trial.metrics.get(metric, math.nan)))


def stored(trial: Trial, artifact: str) -> dict[str, Any]:
    """Return a trial as it is kept: without its recipe, which has an attribute of its own, and without defaults."""
    return {
        **trial.model_dump(mode="json", exclude={"recipe", "curve"}, exclude_defaults=True),
        "artifact": artifact,
    }


def trial_of(row: FrozenTrial) -> Trial:
    """Return what came of an attempt; for one whose worker died before it could say, a failed trial that says so."""
    attrs = row.user_attrs
    recipe = recipe_of(row)
    kept = {name: value for name, value in attrs.get("trial", {}).items() if name != "artifact"}
    # A worker may die between writing what came of a trial and finishing it: what was finished by
    # the reaper then says that it failed.
    if kept and (row.state != TrialState.FAIL or kept["state"] == "failed"):
        return Trial.model_validate({**kept, "recipe": recipe})
    return Trial(
        cell=key_of(row),
        seed=int(attrs.get("seed", 0)),
        recipe=recipe,
        state="failed",
        cause="code" if cause_of(row) == "code" else "infrastructure",
        error=str(attrs.get("error", "")),
        worker=str(lease_of(row).get("worker", "")),
        attempt=int(attrs.get("attempt", 1)),
        started=_iso(row.datetime_start),
    )


def standing_of(cell: Cell, row: FrozenTrial | None) -> Standing:
    """Return the state of a cell, given the trial that decides it."""
    if row is None or row.state == TrialState.WAITING:
        return Standing(cell, "waiting")
    worker = str(row.user_attrs.get("trial", {}).get("worker") or lease_of(row).get("worker", ""))
    attempt = int(row.user_attrs.get("attempt", 1))
    if row.state == TrialState.RUNNING:
        return Standing(cell, "running", worker, _iso(row.datetime_start), attempt)
    state: CellState = "failed"
    if row.state == TrialState.COMPLETE:
        state = "complete"
    elif row.state == TrialState.PRUNED:
        state = "diverged" if row.user_attrs.get("state") == "diverged" else "pruned"
    return Standing(cell, state, worker, _iso(row.datetime_complete), attempt)


def attempt_of(row: FrozenTrial) -> Attempt:
    """Return an attempt for the table of attempts."""
    attrs = row.user_attrs
    kept = attrs.get("trial", {})
    names = {TrialState.RUNNING: "running", TrialState.FAIL: "failed"}
    return Attempt(
        number=row.number,
        cell=key_of(row),
        seed=int(attrs.get("seed", 0)),
        recipe=recipe_of(row),
        state=names.get(row.state) or str(attrs.get("state", "complete")),
        cause=cause_of(row) if row.state == TrialState.FAIL else "",
        error=str(kept.get("error") or attrs.get("error", "")),
        worker=str(kept.get("worker") or lease_of(row).get("worker", "")),
        started=_iso(row.datetime_start),
        ended=_iso(row.datetime_complete),
    )


def _iso(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment is not None else ""


def attrs_of(item: Cell | Trial) -> dict[str, Any]:
    """Return the attributes that name the cell of a trial."""
    key = item.key if isinstance(item, Cell) else item.cell
    return {"cell": key, "seed": item.seed, "recipe": item.recipe.stored()}
