"""Workers: ``drain`` a ledger with a ``Runner``, telling ``Event``s.

Modules: ``events`` (what is told), ``runner`` (what runs a cell), ``provenance`` (with what), ``drain`` (the loop).
"""

from __future__ import annotations

from harness.worker.drain import DrainResult, drain
from harness.worker.events import Claimed, EpochDone, Event, Finished, HandedBack, Note, WorkerDied, decode, encode
from harness.worker.runner import OWN_RUNNER, OnEpoch, Runner, load_runner, runner_for

__all__ = [
    "OWN_RUNNER",
    "Claimed",
    "DrainResult",
    "EpochDone",
    "Event",
    "Finished",
    "HandedBack",
    "Note",
    "OnEpoch",
    "Runner",
    "WorkerDied",
    "decode",
    "drain",
    "encode",
    "load_runner",
    "runner_for",
]
