"""A ledger whose cells may be slots of a search: the recipe of a slot is chosen when it is claimed.

Everything else is the ledger's. What a search adds to an Optuna trial: the sampler's parameters,
and the constraints. What it leaves out: test scores and per-image outcomes, so that nothing of the
test set can be looked at before the choice is made.

The budget is a plan of N slots, so that it is exact over any number of workers, wherever one is
killed: a slot that was lost is run again, with the recipe it had. An Optuna trial is an attempt at
a slot, with the sampler's parameters in it. What is reported, recorded, reaped and handed back goes
the way of every cell.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from harness.errors import RecipeError, StorageError
from harness.ledger import Claim, Ledger
from harness.ledger.rows import ACTIVE, key_of
from harness.search.limits import excess
from harness.search.pruner import SearchPruner
from harness.search.sampling import SlotSampler, suggest
from harness.study.recipe import ENGINE, SCHEMA, Recipe, digest
from harness.study.retune_settings import is_retuning
from harness.study.space import overrides, place_of
from harness.study.study import Study
from harness.study.trial import Cell, Outcomes, Trial

SEARCH_SEED = 3_000_000  # beyond every seed of an ablation, an A/A arm or a confirmation
_PREFIX = "search"


def slots(study: Study, data_fingerprint: str, code_fingerprint: str = "") -> tuple[Cell, ...]:
    """Return the slots of a search: as many cells as its budget, all at the search's seed, named by what they are part of.

    Args:
        study: under a profile, with a space.
        data_fingerprint: of the images.
        code_fingerprint: of the plug-ins that base recipe and space name; empty without any.
    """
    base = study.base_recipe
    space = {name: entry.model_dump(mode="json") for name, entry in study.space.items()}
    code = [code_fingerprint] if code_fingerprint else []
    about = digest([base.id, space, data_fingerprint, ENGINE, SCHEMA, *code], 8)
    keys = [_key(f"{_PREFIX}-{about}", slot) for slot in range(study.search.trials)]
    return tuple(Cell(recipe=base, seed=SEARCH_SEED, key=key) for key in keys)


def is_search(cells: tuple[Cell, ...]) -> bool:
    """Return whether the cells of a plan are the slots of a search."""
    return bool(cells) and cells[0].key.startswith(f"{_PREFIX}-")


def slot_of(key: str) -> int:
    """Return the number of the slot that a key is of, from 0; the first is the reference's."""
    return int(key.rpartition("-")[2])


class SearchLedger(Ledger):
    """The ledger of a search. One of a study without a search behaves as any other, so that a worker opens all as this."""

    _choosing = threading.Lock()
    _serving: tuple[str, SearchPruner] | None = None

    def same_search(self, cells: tuple[Cell, ...]) -> None:
        """Check that what was tried before belongs to this search.

        Raises:
            StorageError: it was of another space, base recipe, images or plug-in code: scores could
                not be compared.
        """
        about = _about(cells[0].key)
        with self._book.reachable("reading the trials"):
            strangers = {
                key_of(row)
                for row in self._book.rows()
                if key_of(row) and _about(key_of(row)) != about
            }
        if strangers:
            raise StorageError(
                f"{self.name} holds another search: its space, base recipe, images or plug-in code differ",
                f"move runs/{self.name} away to start a new search, or name another place with --storage",
            )

    def finals(self) -> list[tuple[int, FrozenTrial]]:
        """Return (slot, Optuna's trial that decides it) for every slot of the plan that is final, in their order."""
        with self._book.reachable("reading the trials"):
            document = self._book.document()
            rows = self._book.deciding(document) if document else {}
        slots = [(slot_of(key), row) for key, row in rows.items() if row.state not in ACTIVE]
        return sorted(slots, key=lambda item: item[0])

    def claim(self, worker: str) -> Claim | None:
        """Take the next waiting cell, as ``Ledger.claim``; a slot gets the recipe that the sampler chooses."""
        while True:
            claim = super().claim(worker)
            if claim is None or not is_search((claim.cell,)):
                return claim
            # the sampler is set on the study, which all threads of this process share
            with self._book.reachable("choosing a recipe"), self._choosing:
                chosen = self._choose(claim)
            if chosen is not None:
                return chosen

    def report(self, claim: Claim, epoch: int, values: Mapping[str, float]) -> bool:
        """Note an epoch, as ``Ledger.report``; a trial of a search is also stopped for being below the median, late."""
        if is_search((claim.cell,)):
            self._book.study.pruner = self._pruner()
        return super().report(claim, epoch, values)

    def record(self, claim: Claim, trial: Trial, outcomes: Outcomes | None) -> Trial | None:
        """Record what came of a claim, as ``Ledger.record``; of a slot without anything of the test set, with constraints.

        What is run to choose the settings of a retuned arm is recorded without anything of the test
        set too.
        """
        slot = is_search((claim.cell,))
        if not slot and not is_retuning((claim.cell,)):
            return super().record(claim, trial, outcomes)
        # nothing of the test set is to be had before the choice is made
        kept = {
            name: value for name, value in trial.metrics.items() if not name.startswith("test_")
        }
        trial = trial.model_copy(update={"metrics": kept})
        if not slot:
            return super().record(claim, trial, None)
        held = self._leases.get(claim)
        if held is not None:
            with self._book.reachable("recording what a recipe costs"):
                for name, value in excess(self._study().search, trial).items():
                    if name not in held.trial.constraints:
                        held.trial.set_constraint(name, value)
        return super().record(claim, trial, None)

    def _study(self) -> Study:
        plan = self.latest_plan()
        if plan is None:
            raise StorageError(
                f"nothing is planned for {self.name}", "run `harness tune` to plan it"
            )
        return plan.study

    def _choose(self, claim: Claim) -> Claim | None:
        """Return the claim with its recipe; None when the values chosen make none, which is how the slot then ends."""
        study, held = self._study(), self._leases.get(claim)
        if held is None:
            return None
        base, key = study.base_recipe, claim.cell.key
        # Seeded by the slot, so that its values do not depend on who claims it.
        fixed = self._fixed(claim, study, base)
        self._book.study.sampler = SlotSampler(
            study.search.sampler, seed=int(digest(key), 16) % 2**32, fixed=fixed
        )
        try:
            chosen = suggest(held.trial, study.space, base)
            recipe = (
                base if slot_of(key) == 0 else base.with_overrides(overrides(study.space, chosen))
            )
        # values that each are allowed may make no recipe together
        except RecipeError as error:
            self._leases.drop(claim)
            self._book.fail(claim.number, cause="code", error=error.message)
            return None
        if not self._book.note(claim.number, recipe=recipe.changed()):
            self._leases.drop(claim)
            return None

        # Optuna keeps a copy, which does not have the recipe yet
        held.trial = self._book.open_trial(claim.number)
        return replace(claim, cell=Cell(recipe=recipe, seed=claim.cell.seed, key=key))

    def _fixed(self, claim: Claim, study: Study, base: Recipe) -> dict[str, Any]:
        """Return the values a slot has to have: those of an attempt that was lost, or the reference's in the first slot."""
        before = [
            row
            for row in self._book.rows()
            if key_of(row) == claim.cell.key and row.number != claim.number and row.params
        ]
        # run again with the recipe it had, so that a kill changes no search
        if before:
            return dict(before[-1].params)
        return place_of(study.space, base)[0] if slot_of(claim.cell.key) == 0 else {}

    def _pruner(self) -> optuna.pruners.BasePruner:
        """Return the search's pruner; made again when the plan has changed."""
        document = self._book.document()
        mark = f"{document.serial}" if document else ""
        if self._serving is None or self._serving[0] != mark:
            rules, plan = self._study().search, self.latest_plan()
            warmup = rules.warmup if rules.pruner == "median" else None
            reference = _key(_about(self.cells()[0].key), 0)
            self._serving = (
                mark,
                SearchPruner(plan.chance if plan else 0.0, warmup=warmup, reference=reference),
            )
        return self._serving[1]


def _key(about: str, slot: int) -> str:
    return f"{about}-{slot:05d}"


def _about(key: str) -> str:
    return key.rpartition("-")[0]
