"""What runs a cell, named by text so that another process can find it, and what its failures mean."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, cast

from harness.errors import DivergedError, UsageError, out_of_memory
from harness.plugins import is_plugin, load_plugin
from harness.study.study import Study
from harness.study.trial import Cell, Outcomes, Trial
from harness.workers.script import ScriptRunner

OWN_RUNNER = "harness.train:run"
OnEpoch = Callable[[int, Mapping[str, float]], bool]


class Runner(Protocol):
    """Runs one cell to its end.

    It calls ``on_epoch(epoch, values)`` after every epoch (from 0; names of ``Curve``); True means: stop, and return the trial
    as ``pruned``. A loss that is not finite makes it ``diverged``. Anything it raises is a failure of its code, except memory
    that ran out, which is one of the infrastructure.
    """

    def __call__(
        self, cell: Cell, /, *, device: str, threads: int, on_epoch: OnEpoch
    ) -> tuple[Trial, Outcomes | None]:
        """Return what came of the cell, and what the net did with every image."""
        ...


def load_runner(name: str) -> Runner:
    """Find a runner by ``package.module:function`` or ``path/to/file.py:function``.

    Raises:
        UsageError: there is none; the message says what is missing.
    """
    if not is_plugin(name):
        raise UsageError(
            f"runner {name!r} should have the form module:function", "for example 'train.py:run'"
        )
    runner = load_plugin(name, what="runner")
    if not callable(runner):
        raise UsageError(
            f"runner {name!r} is not a function",
            "name one that takes (cell, *, device, threads, on_epoch)",
        )
    return cast("Runner", runner)


def runner_for(name: str, study: Study, folder: Path) -> Runner:
    """Find the runner of a study's plan.

    That is, in place of our own, the study's script; and our own also measures a metric of
    yours that decides.

    Args:
        name: as ``load_runner`` takes it.
        study: as planned.
        folder: of the study's ledger.

    Raises:
        UsageError: there is none.
    """
    if name == OWN_RUNNER and study.scripted:
        return ScriptRunner(study, folder)
    runner = load_runner(name)
    if name == OWN_RUNNER and is_plugin(study.metric):
        return partial(
            cast("Callable[..., tuple[Trial, Outcomes | None]]", runner), metric=study.metric
        )
    return runner


def failed(cell: Cell, error: BaseException) -> Trial:
    """Return the trial that a runner's exception makes of a cell."""
    if isinstance(error, DivergedError):
        return Trial(
            cell=cell.key,
            seed=cell.seed,
            recipe=cell.recipe,
            state="diverged",
            epochs=error.epoch,
            error=str(error),
        )
    cause: Literal["code", "infrastructure"] = "infrastructure" if out_of_memory(error) else "code"
    return Trial(
        cell=cell.key,
        seed=cell.seed,
        recipe=cell.recipe,
        state="failed",
        cause=cause,
        error=_sentence(error),
    )


def _sentence(error: BaseException) -> str:
    """``Type: message (file:line)``, of where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    message = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}{': ' + message if message else ''}{where}"
