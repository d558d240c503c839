"""Who runs a trial, named so that another process can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that others can tell whether it still lives.

    Attributes:
        host: name of the machine.
        machine: identity of the running kernel and of the process namespace; empty where the system does not give it.
        pid: process number there.
        start: when the process began, in the kernel's ticks; 0 where the system does not give it.
    """

    host: str
    machine: str
    pid: int
    start: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: object) -> Owner | None:
        """Read back ``as_dict``; None for anything else."""
        if not isinstance(data, dict):
            return None
        try:
            return cls(
                str(data["host"]), str(data["machine"]), int(data["pid"]), int(data["start"])
            )
        except (KeyError, TypeError, ValueError):
            return None

    def gone(self, *, one_host: bool) -> bool:
        """Return whether the process is known to be dead; False when that is not visible from here.

        Args:
            one_host: whether the storage is used by one machine only, so that another kernel under
                the same host name is this machine before it was restarted.
        """
        # A number may be given to another process meanwhile: only with its start does it name one.
        here = current_owner()
        if self.machine and self.machine == here.machine:
            return _start_of(self.pid) != self.start
        if not self.machine and self.host == here.host:
            return not _exists(self.pid)
        same_kernel = self.machine.partition(" ")[0] == here.machine.partition(" ")[0]
        return one_host and self.host == here.host and not same_kernel


def current_owner() -> Owner:
    """Return the identity of this process."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _machine(), pid, _start_of(pid))


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path
    except OSError:
        return ""


def _start_of(pid: int) -> int:
    """Ticks at which a live process began; 0 when there is none, and for one that is only waiting to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # a program's name may hold blanks and parentheses
    state, *rest = stat.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(rest[18])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
