"""Training: ``run`` turns a cell into a trial. With ``harness.bench``, the only code that imports torch."""

from __future__ import annotations

from harness.train.loop import evaluate, fit_one_cycle
from harness.train.run import run

__all__ = ["evaluate", "fit_one_cycle", "run"]
