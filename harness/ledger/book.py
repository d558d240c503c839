"""One study in a storage: reading its rows and its plan, and the few changes of state that the ledger is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import (
    DuplicatedStudyError,
    OptunaError,
    StorageInternalError,
    UpdateFinishedTrialError,
)
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from harness.errors import StorageError
from harness.ledger.plan_document import Document
from harness.ledger.rows import deciding
from harness.ledger.stopping import Hopeless, Screening
from harness.ledger.storage import Opened, open_storage


class Book:
    """A study in an open storage. Safe to use from several threads.

    Attributes:
        name: the study's.
        opened: the storage.
        study: Optuna's study, for what it offers publicly.
    """

    def __init__(self, name: str, opened: Opened, *, create: bool) -> None:
        self.name, self.opened = name, opened
        self.study = _load(name, opened, create=create)
        self._storage = opened.storage
        self._study_id = opened.storage.get_study_id_from_name(name)
        self._mutex = threading.Lock()
        self._text = ""
        self._document: Document | None = None
        self._ids: dict[int, int] = {}

    @property
    def one_host(self) -> bool:
        """Whether only one machine can use the storage."""
        return self.opened.journal is not None

    @contextmanager
    def reachable(self, doing: str) -> Iterator[None]:
        """Turn what a disk or a database can do to us into one error.

        Raises:
            StorageError: it did.
        """
        try:
            yield
        except (OSError, StorageInternalError) as error:
            first = (str(error).splitlines() or ["no reason given"])[0]
            raise StorageError(
                f"{doing} failed on {self.opened.label}: {first}",
                "repair it, then run the same command again; trials that were not recorded run again",
            ) from error

    def rows(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states (none given: all), by number. Not copies: do not change them."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def attribute(self, name: str) -> Any:
        """Return an attribute of the study; None without it."""
        return self._storage.get_study_user_attrs(self._study_id).get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute of the study."""
        self._storage.set_study_user_attr(self._study_id, name, value)

    def document(self) -> Document | None:
        """Return the stored plan; None before the first. It is parsed again only when its text has changed."""
        # a plan of thousands of cells takes long to parse, and this is asked at every claim
        text = self.attribute("plan") or ""
        with self._mutex:
            if text != self._text:
                document = Document.of(text)
                kind = Screening if document.plan.screen else Hopeless
                self.study.pruner = kind(document.plan.chance)
                self._document, self._text = document, text
            return self._document

    def write(self, document: Document) -> None:
        """Make this the plan that counts."""
        self.set_attribute("plan", document.to_json())

    def deciding(self, document: Document) -> dict[str, FrozenTrial]:
        """Return the trial that decides the state of each planned cell, as ``rows.deciding``."""
        return deciding(self.rows(), document.cells, document)

    def id_of(self, number: int) -> int:
        """Return the storage's own number of a trial."""
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(
                self._study_id, number
            )
        return self._ids[number]

    def take(self, number: int) -> bool:
        """Turn a waiting trial into a running one; False if somebody else was first."""
        try:
            return self._storage.set_trial_state_values(self.id_of(number), TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def note(self, number: int, **attributes: Any) -> bool:
        """Set attributes of a trial; False if it is finished."""
        id_ = self.id_of(number)
        try:
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(id_, name, value)
        except UpdateFinishedTrialError:
            return False
        return True

    def attach(self, number: int, artifact: str, meta: str) -> None:
        """Note an artifact where Optuna's own tools look for it (``optuna.artifacts.get_all_artifact_meta``)."""
        self._storage.set_trial_system_attr(self.id_of(number), f"artifacts:{artifact}", meta)

    def finish(self, number: int, state: TrialState, value: float | None = None) -> bool:
        """Finish a running trial; False if it was finished before: the first who says so wins."""
        try:
            self.study.tell(number, value, state=state)
        except (
            UpdateFinishedTrialError,
            ValueError,
        ):  # the latter is what Optuna says when it can see it beforehand
            return False
        return True

    def fail(self, number: int, *, cause: str, error: str = "") -> bool:
        """Fail a running trial; False if it was finished before."""
        # the cause first, so that no failure is ever without one
        return self.note(number, cause=cause, error=error) and self.finish(number, TrialState.FAIL)

    def open_trial(self, number: int) -> optuna.Trial:
        """Return a running trial as Optuna's trial object, for reports."""
        return optuna.Trial(self.study, self.id_of(number))

    @contextmanager
    def planning(self, *, timeout: float) -> Iterator[bool]:
        """Hold the planner lock; the value says whether it could be had within ``timeout`` seconds."""
        lock = self.opened.planner_lock(self.name)
        got = lock.acquire(timeout)
        try:
            yield got
        finally:
            if got:
                lock.release()


def open_book(
    name: str, where: str | Path, *, create: bool, repair: bool = True, alone: bool = False
) -> Book:
    """Open the storage and the study in it; arguments as ``open_storage`` has them.

    Raises:
        StorageError: there is no such storage or study, or it does not work.
    """
    opened = open_storage(where, create=create, repair=repair, alone=alone)
    try:
        return Book(name, opened, create=create)
    except BaseException:
        opened.close()
        raise


def _load(name: str, opened: Opened, *, create: bool) -> optuna.Study:
    sampler = RandomSampler(seed=0)  # never asked: every trial is a cell, and has no parameters
    load: Callable[[], optuna.Study] = lambda: optuna.load_study(  # noqa: E731
        study_name=name, storage=opened.storage, sampler=sampler
    )
    try:
        return load()
    except KeyError:
        if not create:
            raise StorageError(
                f"{opened.label} holds no study {name!r}", "run `harness ablate` to plan it"
            ) from None

    # Two planners may begin at once: whoever loses the race loads what the other made.
    with suppress(DuplicatedStudyError):  # somebody else has just made it
        return optuna.create_study(
            study_name=name, storage=opened.storage, sampler=sampler, direction="maximize"
        )
    try:
        return load()
    except (KeyError, OptunaError) as error:
        raise StorageError(
            f"could not make study {name!r} in {opened.label}: {error}", "try again"
        ) from None
