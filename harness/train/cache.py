"""The cache of decoded data sets: one file a source and size, written once, checked on every read.

A file is records in NumPy's own format, one after another: a JSON header as bytes, then images and
labels of the training part, of the test part and, where there is one, of the validation part. That
reads at the speed of memory and cannot hold a pickle. (One .npz was the other candidate: its
checksums made a warm load of CIFAR-10 twice as long and still said nothing about the header.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np

from harness.errors import DataError
from harness.train.arrays import Arrays, Labels, OnEvent, Pixels, digest, whole_set

# bumped when a file of before would be read wrongly, or would be decoded differently today
FORMAT = 2
_FOLDER = ".harness-cache"
# of every format: what has another state is only out of date
_KEYS = {"format", "state", "fingerprint", "classes"}


def user_folder() -> Path:
    """Return the user's cache folder for harness: ``XDG_CACHE_HOME``, else ``~/.cache``.

    ``LOCALAPPDATA`` on Windows.
    """
    local = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(local) if local else Path.home() / ".cache") / "harness"


def state_of(kind: str, files: Sequence[Path], *, size: int) -> str:
    """Return what a cache file is valid for.

    16 hexadecimal digits over kind, size and each file's path, length and time.

    Raises:
        DataError: a file that has vanished or may not be read.
    """
    state = hashlib.sha256(json.dumps([FORMAT, kind, size]).encode())
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(
                f"could not read {path}: {error.strerror}",
                "check that it exists and that you may read it",
            ) from error
        state.update(json.dumps([str(path), stat.st_size, stat.st_mtime_ns]).encode())
    return state.hexdigest()[:16]


class CacheEntry:
    """The cache file of one source at one size.

    In the data root or, where that is read-only, in the user's folder.
    """

    def __init__(self, root: Path, *, name: str, where: Path, size: int, state: str) -> None:
        word = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).name).strip("-")[:40] or "data"
        place = hashlib.sha256(str(where).encode()).hexdigest()[:8]
        self.name = name
        self.state = state
        self._file = f"{word}-{size or 'native'}-{place}.npy"
        self._folders = list(dict.fromkeys([root / _FOLDER, user_folder() / _FOLDER]))

    def header(self) -> dict[str, Any] | None:
        """Return the header of a fresh file, or None. It is not compared with the content."""
        for path in self._existing():
            with contextlib.suppress(OSError, ValueError, EOFError), path.open("rb") as file:
                header = _header(file)
                if header["state"] == self.state:
                    return header
        return None

    def read(self, on_event: OnEvent) -> tuple[Arrays, str] | None:
        """Return (arrays, fingerprint) of a fresh and sound file, or None.

        A damaged file is said to be so.
        """
        for path in self._existing():
            try:
                with path.open("rb") as file:
                    header = _header(file)
                    if header["state"] != self.state:
                        continue
                    parts = [_part(file) for _ in range(header["parts"])]
                arrays = whole_set(parts, tuple(header["classes"]), tuple(header["notes"]))
                _agree(arrays, header)
            except (OSError, ValueError, EOFError, TypeError, MemoryError) as error:
                on_event(f"{self.name}: the cache file {path} is damaged ({error}); decoding again")
                continue
            return arrays, str(header["fingerprint"])
        return None

    def write(self, arrays: Arrays, fingerprint: str, on_event: OnEvent) -> None:
        """Write the file whole or not at all.

        Where the disk refuses, say so and go on without.
        """
        header = {
            "format": FORMAT,
            "state": self.state,
            "fingerprint": fingerprint,
            "classes": arrays.classes,
            "parts": len(arrays.parts),
            "notes": arrays.notes,
        }
        folder = self._writable()
        if folder is None:
            on_event(
                f"{self.name}: no cache folder is writable; the next run decodes the images again"
            )
            return
        # under the lock: what a killed process left is written over
        temporary = folder / f".writing-{self._file}"
        try:
            # not tempfile: a shared data root wants the user's usual permissions
            with temporary.open("wb") as file:
                np.save(
                    file,
                    np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
                    allow_pickle=False,
                )
                for _, images_NCHW, labels_N in arrays.parts:
                    np.save(file, images_NCHW, allow_pickle=False)
                    np.save(file, labels_N, allow_pickle=False)
            temporary.replace(folder / self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            on_event(
                f"{self.name}: could not write the cache ({error}); the next run decodes the images again"
            )

    @contextlib.contextmanager
    def locked(self, on_event: OnEvent) -> Iterator[None]:
        """Hold the lock that lets one process decode while others wait.

        The system frees it when its holder dies.
        """
        folder = self._writable()
        if folder is None:
            yield
            return
        lock: contextlib.AbstractContextManager[object]
        try:
            lock = hold(
                folder / f"{self._file}.lock",
                f"{self.name}: another process is decoding it; waiting",
                on_event,
            )
        # another user's lock file, or a file system without locks: decode twice rather than fail
        except OSError:
            lock = contextlib.nullcontext()
        with lock:
            yield

    def _existing(self) -> list[Path]:
        return [path for folder in self._folders if (path := folder / self._file).is_file()]

    def _writable(self) -> Path | None:
        return next((folder for folder in self._folders if can_write(folder)), None)


def hold(path: Path, waiting: str, on_event: OnEvent) -> contextlib.AbstractContextManager[object]:
    """Return an acquired lock between processes.

    ``waiting`` is said once when another process holds it.
    """
    lock = filelock.FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        on_event(waiting)
        return lock.acquire()


def can_write(folder: Path) -> bool:
    """Make a folder if need be and say whether files can be made in it.

    A folder whose mode forbids writing is left alone even where the user, as root, could write all
    the same.
    """
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not there.stat().st_mode & 0o222 or not os.access(there, os.W_OK):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            return True
    except (OSError, StopIteration):
        return False


def _agree(arrays: Arrays, header: dict[str, Any]) -> None:
    if digest(arrays) != header["fingerprint"]:
        raise ValueError("its content does not match its fingerprint")


def _part(file: BinaryIO) -> tuple[Pixels, Labels]:
    return np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)


def _header(file: BinaryIO) -> dict[str, Any]:
    raw = np.load(file, allow_pickle=False)
    header = json.loads(raw.tobytes()) if raw.dtype == np.uint8 and raw.ndim == 1 else None
    if not isinstance(header, dict) or not _KEYS.issubset(header):
        raise ValueError("it has no header")
    return header


def cached(
    entry: CacheEntry, decode: Callable[[], Arrays], on_event: OnEvent
) -> tuple[Arrays, str]:
    """Return (arrays, fingerprint) from the cache, else decode them.

    Once, whatever the number of processes that ask.
    """
    if stored := entry.read(on_event):
        return stored
    with entry.locked(on_event):
        if stored := entry.read(_silent):
            return stored
        arrays = decode()
        fingerprint = digest(arrays)
        entry.write(arrays, fingerprint, on_event)
        return arrays, fingerprint


def _silent(_: str) -> None:
    """Hear nothing: what the second look finds was said at the first."""
