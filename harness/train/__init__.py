"""One trial: images, augmentation, net, step, engines, evaluation.

With ``bench``, the only room that imports torch.

Nothing that knows of studies, arms or storage.
Start with ``run``, which turns a cell into a trial; ``loop`` is the loop over epochs.
"""

from __future__ import annotations

from harness.train.loop import evaluate, fit_one_cycle
from harness.train.run import run

__all__ = ["evaluate", "fit_one_cycle", "run"]
