"""A search on a ledger: slots that are planned like cells, and whose recipes a sampler chooses when they are claimed.

The budget is a plan of N slots, so that it is exact over any number of workers, wherever one is killed: a slot that was lost is
run again, with the recipe it had. An Optuna trial is an attempt at a slot, with the sampler's parameters in it. What is
reported, recorded, reaped and handed back goes the way of every cell.

    sampling     samplers by name, and values from them for the entries of a space
    pruning      the late median pruner
    limits       what a recipe may cost, as constraints of Optuna
    ledger       claim, report and record for slots; any other ledger is opened as it is
    history      what was tried and what came of it; the best
    importance   association of parameters with the score, with its noise floor
"""

from __future__ import annotations

from harness.search.history import Tried, best, tried
from harness.search.importance import ENOUGH, Share, importances
from harness.search.ledger import SEARCH_SEED, SearchLedger, is_search, slots
from harness.search.pruning import LateMedian
from harness.search.sampling import suggest

__all__ = [
    "ENOUGH",
    "SEARCH_SEED",
    "LateMedian",
    "SearchLedger",
    "Share",
    "Tried",
    "best",
    "importances",
    "is_search",
    "slots",
    "suggest",
    "tried",
]
