"""What a trial ran on and with."""

from __future__ import annotations

import platform
import socket
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.trial import Environment


def environment(device: str, precision: str) -> Environment:
    """Return the record of this process: versions, hardware, threads, code."""
    return Environment(
        harness=_version("harness"),
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        optuna=_version("optuna"),
        platform=platform.platform(terse=True),
        host=socket.gethostname(),
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        cpu=cpu_model(),
        threads=torch.get_num_threads(),
        precision=precision,
        engine="eager",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _commit() -> str:
    """Return the checkout's short commit, with ``+dirty`` when files differ from it; empty outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        described = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(here), "describe", "--always", "--dirty=+dirty", "--exclude=*"],  # noqa: S607 - the git that the user has
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


@cache
def cpu_model() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
