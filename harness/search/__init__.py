"""Proposing and pruning the trials of a search on a ledger.

Not the space (``study.space``), and not the confirmation of what was found (``commands.confirm``).
Start with ``search_ledger``; ``sampling`` proposes, ``pruner`` stops, ``results`` reads what was
tried.
"""

from __future__ import annotations

from harness.search.importance import ENOUGH, ImportanceShare, importances
from harness.search.pruner import LateMedian
from harness.search.results import Tried, best, tried
from harness.search.sampling import suggest
from harness.search.search_ledger import SEARCH_SEED, SearchLedger, is_search, slots

__all__ = [
    "ENOUGH",
    "SEARCH_SEED",
    "ImportanceShare",
    "LateMedian",
    "SearchLedger",
    "Tried",
    "best",
    "importances",
    "is_search",
    "slots",
    "suggest",
    "tried",
]
