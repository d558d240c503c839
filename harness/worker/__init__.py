"""Workers: ``drain`` a ledger with a ``Runner``, telling ``Event``s.

Modules: ``events`` (what is told), ``runner`` (what runs a cell), ``script`` (of the user's, that does), ``results`` (that it
leaves), ``provenance`` (with what), ``drain`` (the loop).
"""

from __future__ import annotations

from harness.worker.drain import DrainResult, drain
from harness.worker.events import Claimed, EpochDone, Event, Finished, HandedBack, Note, WorkerDied, decode, encode
from harness.worker.runner import OWN_RUNNER, OnEpoch, Runner, load_runner, runner_for
from harness.worker.script import TrainFunction, check_script

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
    "TrainFunction",
    "WorkerDied",
    "check_script",
    "decode",
    "drain",
    "encode",
    "load_runner",
    "runner_for",
]
