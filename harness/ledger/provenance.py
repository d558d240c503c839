"""Where and with what a trial was run, as far as that shows without importing a framework."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.study.trial import Environment


def completed(environment: Environment, *, device: str, threads: int) -> Environment:
    """Return ``environment`` with what the runner left empty filled in."""
    known = {
        "harness": _version("harness"),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": str(getattr(sys.modules.get("torch"), "__version__", "")),
        "optuna": _version("optuna"),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device,
        "cpu": _cpu(),
        "threads": threads,
    }
    return environment.model_copy(
        update={name: value for name, value in known.items() if not getattr(environment, name)}
    )


@cache
def commit() -> str:
    """Return the git commit of the package, with ``-dirty`` when its files were changed since; empty outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    # a checkout that merely contains the installed package says nothing
    if not _git(here, "ls-files", "__init__.py"):
        return ""
    head = _git(here, "rev-parse", "--short=12", "HEAD")
    return f"{head}-dirty" if head and _git(here, "status", "--porcelain", "--", ".") else head


def _git(folder: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [program, "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
