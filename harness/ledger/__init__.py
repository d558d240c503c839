"""The plan of a study as a queue on Optuna storage: plan, claim, keep alive, reap, record.

One Optuna study a ledger; one Optuna trial an attempt at a cell. The *plan* (a JSON text on the Optuna study) lists the cells
that are wanted, in order. The queue is worked out from it: a planned cell that has neither a final trial nor one that runs or
waits is enqueued by whoever finds the queue short, under the planner lock. So nothing is lost between two steps, wherever a
kill falls, and there is no second record that could disagree with the plan.

What the state of an attempt means here:

    WAITING, RUNNING   as Optuna has it; RUNNING carries a lease (who runs it, and a counter that grows while it lives)
    COMPLETE           the trial ran to its end; its value is the validation accuracy, never the test accuracy
    PRUNED             stopped on purpose, ``pruned`` or ``diverged``; final, not retried
    FAIL               cause ``code``: the runner raised; final until asked for again
                       cause ``infrastructure``: killed, out of memory, disk; run again, up to ``Plan.retries`` times a plan
                       cause ``handed back`` or ``withdrawn``: says nothing about the cell and does not count

A cell is recorded once because every change of state is a compare-and-set in the storage: a worker that was given up and comes
back finds its trial finished, and what it brings is dropped.

Modules, each importing from those above it only: ``storage`` and ``artifacts`` (where things are kept), ``owner`` (who is
alive), ``plans`` (plain data), ``rows`` (reading trials), ``pruning``, ``book`` (a study in a storage), ``leases`` (liveness),
``records``, ``adoption`` and ``shards`` (writing trials, taking over those of others), ``planning``, ``core`` (the ledger).
"""

from __future__ import annotations

from harness.ledger.adoption import Offer, find_adoptable
from harness.ledger.core import Ledger
from harness.ledger.plans import Attempt, Claim, Counts, Plan, Planned, Standing, chance_level
from harness.ledger.shards import parse_shard, shard_of_environment
from harness.ledger.storage import studies_in

__all__ = [
    "Attempt",
    "Claim",
    "Counts",
    "Ledger",
    "Offer",
    "Plan",
    "Planned",
    "Standing",
    "chance_level",
    "find_adoptable",
    "parse_shard",
    "shard_of_environment",
    "studies_in",
]
