"""What every test may rely on: one thread, no user's folders, nothing downloaded, and the program as a subprocess."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# tests/gpu has no use for it, and may run where it is not installed
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # Examples are the same on every run, and a loaded machine fails no test by being slow.
    settings.register_profile("harness", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("harness")


@pytest.fixture(scope="session", autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's settings out of the tests, and the tests out of the user's folders; subprocesses inherit this.

    The real data of ``HARNESS_DATA`` are left to the tests that ask for them by `real_data`.
    """
    home = tmp_path_factory.mktemp("home")
    for name in [
        name
        for name in os.environ
        if name.startswith(("HARNESS_", "SLURM_")) or name in {"NO_COLOR", "FORCE_COLOR"}
    ]:
        _GIVEN[name] = os.environ.pop(name)
    (home / "data").mkdir()
    os.environ.update(
        XDG_CACHE_HOME=str(home / "cache"),
        HARNESS_DATA=str(home / "data"),
        MPLBACKEND="Agg",
        MPLCONFIGDIR=os.environ.get("MPLCONFIGDIR") or str(home / "matplotlib"),
        OMP_NUM_THREADS="1",
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    )


_GIVEN: dict[str, str] = {}
"""The variables that the tests were started with and that `own_surroundings` took away."""


@pytest.fixture(scope="session")
def real_data(own_surroundings: None) -> Path:  # noqa: ARG001 - it has to have run before
    """Return the folder of real data sets that ``HARNESS_DATA`` named when the tests were started."""
    folder = _GIVEN.get("HARNESS_DATA")
    if not folder:
        pytest.skip("HARNESS_DATA names no folder of real data sets")
    return Path(folder).resolve()


@pytest.fixture
def harness(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``harness ARGUMENTS...`` in a folder of its own and gives status, stdout and stderr."""

    def run(
        *arguments: str, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run
