"""Every error that harness raises on purpose.

Each carries one sentence that says what is wrong and, where there is one, a hint that says what to
do about it. The command line prints them as ``error: ...`` and ``hint: ...`` and exits with status
2, or 1 where trials ran and only their report is missing; nothing else in the package exits.

    HarnessError                 anything below; catch this one
    ├── UsageError               an option or an argument that does not work
    ├── RecipeError              a recipe field that does not exist or a value it cannot hold
    ├── StudyError               a study file with one or more faults, all of them listed
    ├── DataError                images that are missing, unreadable or inconsistent
    ├── StorageError             a ledger that does not open, is held by another planner, or does not match
    ├── ReportError              a folder or a table that gives no report
    │   ├── RowsError            rows of a table that are not what they should be, and what gets past them
    │   └── UnreportedError      trials that are kept, and whose report could not be written
    ├── DeviceLostError          a GPU that does not answer this process any more
    └── TrialError               a trial that cannot give a result
        └── DivergedError        its loss stopped being a finite number
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class HarnessError(Exception):
    """What is wrong, in one sentence, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:  # a traceback shows it under the message
            self.add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[type[HarnessError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class UsageError(HarnessError):
    """An option or an argument that does not work."""


class RecipeError(HarnessError):
    """A recipe field that does not exist, or a value it cannot hold."""


class StudyError(HarnessError):
    """A study file with one or more faults; the message lists them all."""


class DataError(HarnessError):
    """Images that are missing, unreadable or inconsistent."""


class StorageError(HarnessError):
    """A ledger that does not open, is held by another planner, or does not match the code."""


class ReportError(HarnessError):
    """A folder or a table that gives no report."""


class RowsError(ReportError):
    """Rows of a table that are not what they should be.

    Args:
        message: which rows, and what is wrong with them.
        hint: what to do.
        remedy: options of ``TableOptions`` that would get past them.
    """

    def __init__(
        self, message: str, hint: str = "", remedy: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.remedy = dict(remedy or {})

    def __reduce__(self) -> tuple[type[HarnessError], tuple[str, str, dict[str, Any]]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.remedy)


class UnreportedError(ReportError):
    """Trials that are kept, and whose report could not be written."""


class DeviceLostError(HarnessError):
    """A GPU that does not answer this process any more; a new process can use it."""


class TrialError(HarnessError):
    """A trial that cannot give a result."""


class DivergedError(TrialError):
    """The loss stopped being a finite number.

    Args:
        epoch: zero-based epoch in which it happened.
        step: zero-based step, counted from the first of the run.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(
            f"the loss stopped being a finite number at step {step} (epoch {epoch + 1})",
            "lower schedule.max_lr, or clip gradients with optimizer.grad_clip",
        )
        self.epoch = epoch
        self.step = step

    def __reduce__(self) -> tuple[type[HarnessError], tuple[int, int]]:  # type: ignore[override]
        return type(self), (self.epoch, self.step)


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, or a device's (known by name, so that no framework need be imported)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # cuDNN and cuBLAS say it in a status of their own: CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in message.lower() or "STATUS_ALLOC_FAILED" in message
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known word, or an empty string when nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:  # "crop" for "augment.crop": the last part alone is how people remember a field
        ends = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = difflib.get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.75)
        near = [ends[end] for end in near]
    return f" (did you mean {near[0]!r}?)" if near else ""
