"""Where trials are kept: an Optuna journal on one host, or PostgreSQL for many, and the locks and identities around them.

Three things that Optuna leaves open are settled here:

* A journal's lock is the kernel's (``flock``), so that a process killed while holding it holds
  nothing: Optuna's own lock file makes the next writer wait 30 s.
* A line cut short by a kill is cut off by the next one that takes the lock, before it appends:
  behind a torn line a journal does not read any more.
* The journal is synced to disk when something is recorded that nobody can compute again (a plan,
  a result). Claims, signs of life and epoch reports are only written: they survive a kill, and a
  power cut merely has their cells run again. Measured on
  two cores: 3.3 ms an append synced, 0.1 ms not.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from harness.config import hide_password
from harness.errors import StorageError

POSTGRES = "postgresql+psycopg://"
_PASSING = (int(TrialState.RUNNING), int(TrialState.WAITING))
# bytes; a line is far shorter, so that one step back usually finds its start
_REPAIR_BLOCK = 65_536


class Lock(Protocol):
    """Held by one process or thread at a time, and by none that is dead."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, waiting for at most ``timeout`` seconds (None: without end); return whether it is held."""
        ...

    def release(self) -> None:
        """Give the lock back."""
        ...


class FileLock:
    """A lock on a file that the kernel drops with the process that held it (``flock``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, waiting for at most ``timeout`` seconds (None: without end); return whether it is held."""
        import fcntl

        # NFS grants an exclusive lock only on a file that is open for writing.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if timeout is None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            elif not _poll(handle, timeout):
                os.close(handle)
                return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Give the lock back."""
        import fcntl

        if self._handle is not None:
            handle, self._handle = self._handle, None
            # by name: a child forked meanwhile may hold a copy of the handle
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


def _poll(handle: int, timeout: float) -> bool:
    import fcntl

    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True


class ThreadLock:
    """A lock between the threads of this process, for what no other process writes to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock, waiting for at most ``timeout`` seconds (None: without end); return whether it is held."""
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


class _DatabaseLock:
    """An advisory lock of PostgreSQL, which the server drops with the connection that held it."""

    def __init__(self, storage: RDBStorage, name: str) -> None:
        self._engine = storage.engine
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._connection: Any = None

    def acquire(self, timeout: float | None = None) -> bool:
        with _as_optuna_says():
            return self._acquire(timeout)

    def _acquire(self, timeout: float | None) -> bool:
        from sqlalchemy import text

        # A connection of its own, held as long as the lock: the server drops the lock with it.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while not connection.execute(
                text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}
            ).scalar():
                if end is not None and time.monotonic() >= end:
                    connection.close()
                    return False
                # asked again and again: a wait inside the server would not end at our time
                time.sleep(0.05)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return True

    def release(self) -> None:
        from sqlalchemy import text

        if self._connection is not None:
            connection, self._connection = self._connection, None
            with _as_optuna_says():
                try:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})
                finally:
                    connection.close()


@contextmanager
def _as_optuna_says() -> Iterator[None]:
    """Raise what the database does to us as Optuna raises it, so that it is one error wherever it happens."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        raise StorageInternalError(str(getattr(error, "orig", None) or error)) from error


class _JournalLock(JournalFileOpenLock):
    """The lock that every append takes; whoever gets it first cuts off what a killed writer left unfinished."""

    def __init__(self, journal: Path, *, alone: bool) -> None:
        self._journal = journal
        # Not .lock: that is the name of Optuna's own lock, which other programs may take while they
        # append.
        self._file_lock: Lock = (
            ThreadLock() if alone else FileLock(journal.with_name(journal.name + ".flock"))
        )

    def acquire(self) -> bool:
        self._file_lock.acquire()
        try:
            cut_torn_line(self._journal)
        except BaseException:
            self._file_lock.release()
            raise
        return True

    def release(self) -> None:
        self._file_lock.release()


class _Journal(JournalFileBackend):
    """A journal file that is synced when a result or a plan is recorded, and else only written."""

    def __init__(self, path: Path, *, alone: bool) -> None:
        self._own_path, self._own_lock = path, _JournalLock(path, alone=alone)
        super().__init__(str(path), lock_obj=self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._own_lock.acquire()
        try:
            with self._own_path.open("ab", buffering=0) as file:
                # a full disk takes a part of it; the next writer cuts that off
                if file.write(lines) != len(lines):
                    raise OSError(f"{self._own_path}: only part of a record was written")
                if any(_lasting(log) for log in logs):
                    os.fsync(file.fileno())
        finally:
            self._own_lock.release()


def _lasting(log: dict[str, Any]) -> bool:
    if "intermediate_value" in log or (
        "trial_id" in log and ("user_attr" in log or "system_attr" in log)
    ):
        return False
    return log.get("state") not in _PASSING


def cut_torn_line(path: Path) -> int:
    """Cut an unfinished last line off a journal; return how many bytes it had. Its lock must be held."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return 0
            file.seek(size - 1)
            # the last record is whole
            if file.read(1) == b"\n":
                return 0
            keep = _last_line_end(file, size)
            file.truncate(keep)
            return size - keep
    except FileNotFoundError:
        return 0


def _last_line_end(file: BinaryIO, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _REPAIR_BLOCK)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A storage that is open.

    Attributes:
        storage: Optuna's.
        journal: the journal file; None for a database.
        label: its name for messages, without a password.
        alone: the lock of a journal that no other process writes to; else None.
    """

    storage: BaseStorage
    journal: Path | None
    label: str
    alone: Lock | None = None

    def planner_lock(self, study: str) -> Lock:
        """Return the lock under which a study's cells are planned and queued."""
        if self.alone is not None:
            return self.alone
        if isinstance(self.storage, RDBStorage):
            return _DatabaseLock(self.storage, f"harness:{study}")
        journal = self.journal or Path(study)
        return FileLock(journal.with_name(f"{journal.name}.planner.flock"))

    def close(self) -> None:
        """Give back what the storage holds open."""
        if isinstance(self.storage, RDBStorage):
            with suppress(Exception):
                self.storage.remove_session()
                self.storage.engine.dispose()


def open_storage(
    where: str | Path, *, create: bool = True, repair: bool = True, alone: bool = False
) -> Opened:
    """Open a journal or a PostgreSQL database.

    Args:
        where: path of a journal file, or ``postgresql+psycopg://...``.
        create: whether a journal that is not there is made, with its folder.
        repair: whether an unfinished last line is cut off; needs the right to write.
        alone: whether no other process ever writes to this journal, so that it needs no lock that
            the file system must know.

    Raises:
        StorageError: it is not there, not readable, or of a kind that loses or doubles trials.
    """
    # who waits for what is said by the console, in our words
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = str(where)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _open_journal(Path(where), create=create, repair=repair, alone=alone)
    if scheme.startswith("sqlite"):
        raise StorageError(
            "sqlite storage is not supported: two workers can take the same waiting trial",
            "use a journal (--storage PATH) on one host, postgresql+psycopg://... for several",
        )
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise StorageError(
            f"storage {scheme}:// is not supported",
            "use a journal (--storage PATH) on one host, postgresql+psycopg://... for several",
        )
    return _open_database(POSTGRES + rest)


def _open_journal(path: Path, *, create: bool, repair: bool, alone: bool) -> Opened:
    try:
        if not path.exists():
            if not create:
                raise StorageError(
                    f"there is no journal {path}",
                    "run `harness ablate` first: it makes the journal",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
        backend = _Journal(path, alone=alone)

        # A journal with a torn line cannot be loaded; taking the lock once mends it.
        if repair:
            with suppress(PermissionError):  # reading is allowed without the right to write
                lock = _JournalLock(path, alone=alone)
                lock.acquire()
                lock.release()
        return Opened(JournalStorage(backend), path, str(path), ThreadLock() if alone else None)
    except OSError as error:
        raise StorageError(
            f"could not open the journal {path}: {error}",
            "check the folder, its permissions and its disk",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"journal {path} is damaged: {error}",
            "move it away, then run the study again; it reuses the trials under reports/",
        ) from None


def _open_database(url: str) -> Opened:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    label = hide_password(url)
    try:
        import psycopg  # noqa: F401 - only whether it is there

        make_url(url)
        storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError:
        raise StorageError(
            "PostgreSQL storage needs psycopg", "pip install 'harness[postgres]'"
        ) from None
    except (SQLAlchemyError, ValueError, RuntimeError) as error:
        first = str(getattr(error, "orig", None) or error).splitlines()[0].replace(url, label)
        raise StorageError(
            f"could not open {label}: {first}", "check host, port, user, password and database"
        ) from None
    return Opened(storage, None, label)


def studies_in(where: str | Path) -> list[str]:
    """Return the names of the studies in a storage, sorted.

    Raises:
        StorageError: it is missing, or does not read.
    """
    opened = open_storage(where, create=False)
    try:
        return sorted(study.study_name for study in opened.storage.get_all_studies())
    finally:
        opened.close()


@contextmanager
def held(lock: Lock, *, timeout: float | None, refusal: StorageError) -> Iterator[None]:
    """Hold a lock for a while.

    Raises:
        StorageError: ``refusal``, when it could not be had within ``timeout`` seconds.
    """
    if not lock.acquire(timeout):
        raise refusal
    try:
        yield
    finally:
        lock.release()
