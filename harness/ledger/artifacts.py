"""Files next to the trials: epoch curves and per-image outcomes, through Optuna's artifact-store interface."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from harness.errors import StorageError


class ArtifactFolder:
    """Optuna's artifact store in a folder, each file whole or not there at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact for reading.

        Raises:
            ArtifactNotFound: there is none.
        """
        try:
            return self._file(artifact_id).open("rb")
        except FileNotFoundError:
            raise ArtifactNotFound(f"{self._file(artifact_id)} is missing") from None

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact next to its place, sync it and move it there."""
        self.path.mkdir(parents=True, exist_ok=True)
        final = self._file(artifact_id)
        partial = final.with_name(final.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(content_body.read())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(final)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact.

        Raises:
            ArtifactNotFound: there is none.
        """
        try:
            self._file(artifact_id).unlink()
        except FileNotFoundError:
            raise ArtifactNotFound(f"{self._file(artifact_id)} is missing") from None

    def exists(self, artifact_id: str) -> bool:
        """Return whether there is such an artifact."""
        return self._file(artifact_id).is_file()

    def stamp(self, artifact_id: str) -> tuple[int, int]:
        """Return when an artifact was written, in nanoseconds, and its bytes; both change with its content.

        Raises:
            OSError, ArtifactNotFound: there is none.
        """
        status = self._file(artifact_id).stat()
        return status.st_mtime_ns, status.st_size

    def check(self) -> None:
        """Write and delete a small file.

        Raises:
            StorageError: that failed.
        """
        probe = f"write-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.write(probe, io.BytesIO(b"harness"))
            self.remove(probe)
        except OSError as error:
            raise StorageError(
                f"could not write artifacts to {self.path}: {error}",
                "name another folder with --artifacts",
            ) from None

    def _file(self, artifact_id: str) -> Path:
        if artifact_id != Path(artifact_id).name or artifact_id in (".", ".."):
            raise ArtifactNotFound(f"{artifact_id!r} does not name an artifact")
        return self.path / artifact_id
