"""The storage, workers and place that a command names, filled up with the defaults of ``harness.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.cli import console
from harness.config import Defaults, find_defaults
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.commands.place import Place
    from harness.workers.cluster import Ask

_TASK = ("partition", "account", "minutes", "gpus", "cpus", "address")


class LauncherName(StrEnum):
    """What starts the workers."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What holds for a run, wherever it was said."""

    workers: int | None
    storage: str | None
    artifacts: str | None
    device: str
    place: Place

    def as_arguments(self) -> dict[str, Any]:
        """Return it as arguments of a verb."""
        return {name: getattr(self, name) for name in self.__slots__}


def settle(
    *,
    workers: str | None,
    storage: str | None,
    artifacts: str | None,
    device: str | None,
    launcher: LauncherName | None,
) -> RunDefaults:
    """Fill up what a command left unsaid, and say which defaults were taken, and from where.

    Raises:
        UsageError: a default or an option has no such value.
    """
    from harness.commands.place import Place

    given = {
        "workers": workers,
        "storage": storage,
        "artifacts": artifacts,
        "device": device,
        "launcher": launcher,
    }
    count = worker_count(workers) if workers is not None else None
    defaults = find_defaults()
    chosen = launcher.value if launcher is not None else defaults.launcher or "local"
    unused = {name for name, value in given.items() if value is not None} | {"data"}
    for line in defaults.lines(
        without=frozenset(unused | (set(_TASK) if chosen == "local" else set()))
    ):
        console.say(f"defaults of {line}")
    return RunDefaults(
        workers=count if workers is not None else worker_count(defaults.workers or "auto"),
        storage=storage if storage is not None else defaults.storage,
        artifacts=artifacts if artifacts is not None else defaults.artifacts,
        device=device or defaults.device or "auto",
        place=Place(chosen, _ask(defaults) if chosen != "local" else None),
    )


def _ask(defaults: Defaults) -> Ask:
    """Return what each task asks a cluster for."""
    from harness.workers.cluster import Ask

    return Ask(
        **{
            name: getattr(defaults, name)
            for name in _TASK
            if getattr(defaults, name) not in (None, "")
        }
    )


def storage_of(given: str | None) -> str | None:
    """Return where the ledger is kept: as a command names it, else as ``harness.toml`` says.

    Raises:
        UsageError: a default has no such value.
    """
    return given if given is not None else find_defaults().storage


def worker_count(text: str) -> int | None:
    """Return what ``--workers`` asks for; None for auto.

    Raises:
        UsageError: neither.
    """
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(
            f"--workers {text!r} is neither 'auto' nor a whole number from 1",
            "for example --workers 2",
        )
    return int(text)
