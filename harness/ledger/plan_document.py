"""What is planned and what is said of it: plain data, and the plan as a text that the storage keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from harness.errors import StorageError
from harness.study.arms import arms
from harness.study.recipe import ENGINE, SCHEMA, Recipe
from harness.study.study import Study
from harness.study.trial import Cell

CellState = Literal["waiting", "running", "complete", "failed", "pruned", "diverged"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run and by which rules; kept in the storage, where the latest counts.

    Attributes:
        study: the study under its profile.
        data_fingerprint, code_fingerprint: of the images and of plug-ins; workers that have others are refused.
        threads: CPU threads a trial, the same in every worker, because they change the last bits of a result.
        device: ``cpu``, ``cuda``, ``mps`` or ``xpu``.
        workers: how many it was planned for.
        data_root: where the planner found the images.
        created: date and time, ISO 8601.
        screen: whether an arm may be stopped by epoch for being worse.
        chance: validation accuracy up to which a net is held to be guessing (``chance_level``); 0 if unknown.
        retries: how often an attempt lost to the infrastructure is repeated.
        beat_seconds, grace_seconds: how often a worker shows that it lives, and after how long without a sign it is given up.
    """

    study: Study
    data_fingerprint: str
    code_fingerprint: str
    threads: int
    device: str
    workers: int
    data_root: str
    created: str
    screen: bool = False
    chance: float = 0.0
    retries: int = 2
    beat_seconds: float = 10.0
    grace_seconds: float = 60.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        plain = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name != "study"
        }
        return {**plain, "study": self.study.model_dump(mode="json", by_alias=True)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Plan:
        """Read back ``as_dict``."""
        return cls(**{**data, "study": Study.model_validate(data["study"])})

    def rules(self) -> dict[str, Any]:
        """Return what two plans must share for their cells to run side by side."""
        named = ("study", "data_fingerprint", "code_fingerprint", "threads", "device", "screen")
        return {name: value for name, value in self.as_dict().items() if name in named}


def chance_level(classes: int, images: int) -> float:
    """Return the accuracy up to which a net is held to be guessing: 1 / classes and two binomial standard deviations.

    Args:
        classes: how many there are.
        images: that the accuracy is measured on; of none, nothing is known, and the level is 0.
    """
    if not images:
        return 0.0
    share = 1.0 / max(classes, 1)
    return share + 2.0 * math.sqrt(share * (1.0 - share) / images)


@dataclass(frozen=True, slots=True)
class Planned:
    """The result of a plan, in cells; new + kept + adopted = total.

    Attributes:
        total: all that are wanted.
        new: to be run.
        kept: final already.
        adopted: taken over from elsewhere.
        dropped: waiting under an earlier plan, not wanted any more and withdrawn.
    """

    total: int
    new: int
    kept: int
    adopted: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A cell that this worker runs: the ``attempt``-th try (from 1), Optuna trial ``number``."""

    cell: Cell
    number: int
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Cells of the current plan by state; those not yet enqueued wait."""

    waiting: int
    running: int
    complete: int
    failed: int
    pruned: int
    diverged: int
    total: int

    @property
    def open(self) -> int:
        """Cells that are not final."""
        return self.waiting + self.running

    @property
    def final(self) -> int:
        """Cells that are."""
        return self.total - self.open


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a cell of the plan: its state; who runs or ran it; since when or when it ended (ISO 8601, local)."""

    cell: Cell
    state: CellState
    worker: str = ""
    since: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a cell, also one that failed, was lost or was handed back (``cause``)."""

    number: int
    cell: str
    seed: int
    recipe: Recipe
    state: str
    cause: str
    error: str
    worker: str
    started: str
    ended: str


@dataclass(slots=True)
class Document:
    """The plan as stored: with its cells in order, and what earlier plans said.

    Attributes:
        plan: the rules.
        cells: what is wanted, by key, in the order of claiming.
        serial: number of the plan, from 1; attempts lost under an earlier one do not count against the retries.
        retry_serial: attempts that failed by their code under an earlier plan than this do not count.
        void: numbers of finished trials whose artifact was lost.
        history: the declared rules of earlier plans, and whether cells had been claimed under them.
        todo: keys of the cells that were not final when this was planned; what shards divide among them.
        order: place of each cell.
    """

    plan: Plan
    cells: dict[str, Cell]
    serial: int = 1
    retry_serial: int = 0
    void: frozenset[int] = frozenset()
    history: list[dict[str, Any]] = field(default_factory=list)
    todo: tuple[str, ...] = ()
    order: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {key: index for index, key in enumerate(self.cells)}

    def to_json(self) -> str:
        """Return it as text."""
        # few objects, and an id takes a while
        recipes = {id(cell.recipe): cell.recipe for cell in self.cells.values()}
        ids = {mark: recipe.id for mark, recipe in recipes.items()}
        return json.dumps(
            {
                "schema": SCHEMA,
                "engine": ENGINE,
                "serial": self.serial,
                "retry_serial": self.retry_serial,
                "void": sorted(self.void),
                "plan": self.plan.as_dict(),
                "recipes": {ids[mark]: recipe.stored() for mark, recipe in recipes.items()},
                "cells": [
                    [cell.key, ids[id(cell.recipe)], cell.seed] for cell in self.cells.values()
                ],
                "todo": [self.order[key] for key in self.todo],
                "history": self.history,
            }
        )

    @classmethod
    def of(cls, text: str) -> Document:
        """Read back ``to_json``.

        Raises:
            StorageError: it was written by a version of harness whose recipes or results differ.
        """
        # Another engine gives other numbers for the same cell: what is mixed could not be compared.
        data = json.loads(text)
        if (data["schema"], data["engine"]) != (SCHEMA, ENGINE):
            raise StorageError(
                f"the plan was made by another version of harness (recipe schema {data['schema']}, engine {data['engine']}; "
                f"here {SCHEMA} and {ENGINE})",
                "use the version that planned it, or move the study's folder out of runs/",
            )
        recipes = {key: Recipe.of_stored(stored) for key, stored in data["recipes"].items()}
        keys = [key for key, _, _ in data["cells"]]
        return cls(
            plan=Plan.of(data["plan"]),
            cells={
                key: Cell(recipe=recipes[recipe], seed=seed, key=key)
                for key, recipe, seed in data["cells"]
            },
            serial=data["serial"],
            retry_serial=data["retry_serial"],
            void=frozenset(data["void"]),
            history=data["history"],
            todo=tuple(keys[index] for index in data["todo"]),
        )

    def amended(self, plan: Plan, *, claimed: bool) -> list[dict[str, Any]]:
        """Return the history to keep when ``plan`` takes this one's place."""
        # a plan made again with the same rules is no amendment
        before = declared(self.plan)
        if before == declared(plan):
            return self.history
        return [*self.history, {"created": self.plan.created, "claimed": claimed, "rules": before}]


def declared(plan: Plan) -> dict[str, Any]:
    """Return the rules that verdicts rest on, which should not change once cells have been claimed.

    The arms are the study's, not those of the cells: at a look, arms leave by a rule that was
    declared.
    """
    study = plan.study
    return {
        "metric": study.metric,
        "margin_pp": study.margin_pp,
        "gap_margin_pp": study.gap_margin_pp,
        "alpha": study.alpha,
        "seeds": study.seeds,
        "first_seed": study.first_seed,
        "looks": list(study.looks),
        "boundary": study.boundary,
        "arms": sorted(arm.recipe.id for arm in arms(study)),
    }
