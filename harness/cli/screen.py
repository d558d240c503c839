"""What a running command looks like: its plan, a progress bar or lines, its outcome."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from harness.cli import console

if TYPE_CHECKING:
    from harness.commands.all_studies import WholeOutcome
    from harness.commands.facts import ArmTable, Outcome, PlanFacts


class Screen:
    """Turns what a command reports into lines and a progress bar, and keeps Ctrl-C from being lost.

    An interrupt that arrives in the midst of an import, a finaliser or a callback of a library is swallowed there: the next
    event raises it again. And a shell script starts what it runs with ``&`` with SIGINT ignored; it is heeded here all the
    same, as it is while the workers run, because whoever sends it wants the run to stop.
    """

    def __init__(self) -> None:
        self.progress: console.Progress | None = None
        self._interrupted = False
        self._before: Any = None
        self._seconds: float | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        signal.default_int_handler(number, frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        self._end_progress(kind, value, trace)

    def _end_progress(self, *raised: Any) -> None:
        if self.progress is not None:
            self.progress.__exit__(*(raised or (None, None, None)))
            self.progress = None

    def __call__(self, event: Any) -> None:
        """Show one event."""
        if self._interrupted:
            raise KeyboardInterrupt
        if isinstance(event, str):
            console.say(event)
        else:
            self._show_facts(event)

    def _show_facts(self, event: Any) -> None:
        from harness.commands.all_studies import WholePlan
        from harness.commands.facts import ArmTable, PlanFacts, ProgressFacts

        if isinstance(event, WholePlan):
            console.table(
                ("study", "trials", "to run", "time"),
                event.rows(),
                right=("trials", "to run"),
                title=event.title(),
                talk=True,
            )
            console.say()
        elif isinstance(event, PlanFacts):
            self._end_progress()  # of the study before
            self._seconds = event.seconds
            _say_plan(event)
        elif isinstance(event, ArmTable):
            _say_arms(event)
        elif isinstance(event, ProgressFacts):
            if self.progress is None:
                self.progress = console.Progress(
                    event.title, event.total, done=event.before, expected=self._seconds
                )
                self.progress.__enter__()
            self.progress.update(event.done, event.total, event.note)
            if event.line:
                self.progress.finished(event.line)
        else:
            console.say(str(event))


def _say_plan(facts: PlanFacts) -> None:
    console.say(f"{facts.study}: {facts.question}")
    for line in facts.lines():
        console.say(f"  {line}")
    console.say()


def _say_arms(table: ArmTable) -> None:
    rows = [
        (name, against or "-", changes(changed) or "the baseline")
        for name, against, changed in table.arms
    ]
    console.table(("arm", "against", "differs from the baseline in"), rows, talk=True)
    console.say()


def say_verdicts(report: Path | None) -> None:
    """Print the verdict table of a report on stderr, and what its numbers are."""
    from harness.commands.ending import read_analysis_plain
    from harness.verdict_table import verdict_table

    analysis = read_analysis_plain(report)
    table = verdict_table(analysis) if analysis is not None else None
    if table is None:
        return
    console.say()
    console.table(table.heads, table.rows, right=table.numbers, talk=True)
    console.say(table.legend)


def say_next(command: str) -> None:
    """Print the next step: why in a line, the command alone in the next, to be copied."""
    line, _, why = command.partition("   # ")
    if line:
        console.say(f"next{', ' + why if why else ''}:")
        console.say(f"  {line}", whole=True)


def finish(outcome: Outcome, *, json: bool) -> None:
    """Print the verdicts, the answer, the page and the next step of a run, and exit with its code."""
    if json:
        console.data_json(outcome.as_json())
    elif outcome.dry:
        console.say("a dry run: nothing was written. To start it:")
        console.say(f"  {outcome.next_command}", whole=True)
    else:
        say_verdicts(outcome.report)
        if outcome.answer:
            console.say(f"\n{outcome.answer}")
        for line in outcome.closing():
            console.say(line)
        if outcome.report is not None:
            console.data(str(outcome.report))
            console.say(f"`harness open {outcome.report.parent.name}` shows it")
        say_next(outcome.next_command)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def finish_all(whole: WholeOutcome, *, json: bool) -> None:
    """Print what all studies found and exit with their code."""
    if json:
        console.data_json(whole.as_json())
    else:
        for outcome in whole.outcomes:
            if outcome.answer:
                console.say(f"\n{outcome.study}: {outcome.answer}")
            if outcome.report is not None:
                console.data(str(outcome.report))
        for line in whole.closing():
            console.say(line)
    if whole.exit_code:
        raise typer.Exit(whole.exit_code)


def changes(changed: Mapping[str, Any]) -> str:
    """Return the fields that an arm changes, with their values: ``augment.crop = 0, ...``."""
    return ", ".join(f"{name} = {plain(value)}" for name, value in changed.items())


def plain(value: Any) -> str:
    """Return a recipe value as a person reads it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
