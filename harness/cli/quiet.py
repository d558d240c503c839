"""The verbs as Python code calls them: with one line of progress where somebody watches, a terminal or a notebook.

What listens to the events itself is left alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from harness.cli import console
from harness.commands.ablate import ablate as ablate_loud
from harness.commands.facts import PlanFacts, ProgressFacts
from harness.commands.tune import tune as tune_loud

Taken = ParamSpec("Taken")
Given = TypeVar("Given")


def quietly(verb: Callable[Taken, Given]) -> Callable[Taken, Given]:
    """Return a verb that shows its progress in one line, unless it is given ``on_event``."""

    @functools.wraps(verb)
    def call(*args: Taken.args, **kwargs: Taken.kwargs) -> Given:
        if "on_event" in kwargs or not _watched():
            return verb(*args, **kwargs)
        with console.OneLine() as line:
            progress: list[console.Progress] = []
            seconds: float | None = None

            def show(event: Any) -> None:
                nonlocal seconds
                if isinstance(event, PlanFacts):
                    seconds = event.seconds
                elif isinstance(event, ProgressFacts):
                    if not progress:
                        progress.append(
                            console.Progress(
                                event.title, event.total, done=event.before, expected=seconds
                            )
                        )
                    progress[0].update(event.done, event.total)
                    left = progress[0].left()
                    line.show(
                        f"{event.title}: {event.done} of {event.total} trials"
                        + (f", {left}" if left else "")
                    )
                elif isinstance(event, str) and not progress:
                    line.show(event)

            kwargs["on_event"] = show
            return verb(*args, **kwargs)

    return call


def _watched() -> bool:
    """Return whether somebody sees stderr: at a terminal, or in a notebook."""
    return "ipykernel" in sys.modules or console.is_watched()


ablate = quietly(ablate_loud)
tune = quietly(tune_loud)
