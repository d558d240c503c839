"""The plan of a study as a queue on Optuna storage: plan, claim, keep alive, reap, record, each cell once.

Not what runs a cell (``workers``), nor what a search proposes (``search``).
Start with ``core``, which says what every state of an attempt means; ``storage`` is below it.
"""

from __future__ import annotations

from harness.ledger.adoption import Offer, find_adoptable
from harness.ledger.core import Ledger
from harness.ledger.plan_document import (
    Attempt,
    Claim,
    Counts,
    Plan,
    Planned,
    Standing,
    chance_level,
)
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
