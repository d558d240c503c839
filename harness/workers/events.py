"""What a worker tells while it works: small, plain, and able to cross a pipe as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker has taken a cell; ``attempt`` counts from 1."""

    worker: str
    cell: str
    seed: int
    attempt: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """Epoch ``epoch`` (from 0) of ``epochs`` is over; ``values`` are its numbers under the names of ``Curve``."""

    worker: str
    cell: str
    epoch: int
    epochs: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial was recorded, whatever its state. Its curve is in the ledger's artifact; ``traceback`` is of what it raised."""

    worker: str
    trial: Trial
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A worker was asked to stop and has given its cell back, which waits again."""

    worker: str
    cell: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process ended without having been asked to; its cell is run again by another."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line."""

    worker: str
    text: str


Event = Claimed | EpochDone | Finished | HandedBack | WorkerDied | Note
_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Claimed, EpochDone, Finished, HandedBack, WorkerDied, Note)
}


def encode(event: Event) -> str:
    """Return the event as one line of JSON."""
    plain: dict[str, Any] = {item.name: getattr(event, item.name) for item in fields(event)}
    if isinstance(event, Finished):
        plain["trial"] = event.trial.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"event": type(event).__name__, **plain})


def decode(line: str) -> Event:
    """Read back ``encode``.

    Raises:
        ValueError: it is no such line.
    """
    try:
        plain = json.loads(line)
        kind = _KINDS[plain.pop("event")]
        if kind is Finished:
            plain["trial"] = Trial.model_validate(plain["trial"])
        return kind(**plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line!r}") from error
