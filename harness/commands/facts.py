"""What a run of a study says of itself: its plan, how far it is, how it ended. Plain data; no console."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path
from typing import Any

from harness.study.trial import deciding_images
from harness.text import duration, plural
from harness.verdict_table import as_html

OnEvent = Callable[[Any], None]
_MOST_FAILURES = 5  # that are listed at the end of a run


@dataclass(frozen=True, slots=True)
class Extra:
    """What retuning adds to a run: words, and at most so many trials and seconds."""

    words: str
    trials: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is about to be run and what it will cost, for people to read before it starts.

    ``lines()`` says it in words; every number of it is a field. ``adopted`` counts trials that were finished elsewhere, by
    the folder that holds them. What retuning adds at most has fields of its own. Of a user's ``script`` nothing is known
    of images, and of its seconds nothing before its first trial: then they are None.
    """

    study: str
    question: str
    profile: str
    why_profile: str
    arms: int
    seeds: int
    cells: int
    to_run: int
    device: str
    workers: int
    threads: int
    why_workers: str
    seconds_per_trial: float | None
    seconds: float | None
    estimated_from: str
    data: str
    train_images: int
    val_images: int
    test_images: int
    report: str
    power: str = ""
    engine: str = ""
    adopted: Mapping[str, int] = field(default_factory=dict)
    retune: str = ""
    retune_trials: int = 0
    retune_seconds: float = 0.0
    script: str = ""
    seedless: bool = False

    def lines(self) -> list[str]:
        """Return the plan, a fact a line."""
        done = self.cells - self.to_run
        kept = f", {done} of them done already" if done else ""
        held = deciding_images(train=self.train_images, val=self.val_images, test=self.test_images)
        held += f", {self.test_images:,} test (read once)"
        if not self.val_images:
            held = f"{self.test_images:,} test (its curves are drawn; without validation images nothing is judged)"
        taken = ", ".join(f"{count} from {place}" for place, count in self.adopted.items())
        what = f"images {self.data}: {self.train_images:,} train, {held}"
        if self.script:
            what = f"script {self.script}"
        if self.seedless:
            what += " (no {seed} among its words: unless it reads HARNESS_SEED or draws its own, every seed trains the same)"
        cost = f"time unknown: {self.estimated_from}"
        if self.seconds is not None and self.seconds_per_trial is not None:
            cost = f"about {duration(self.seconds)} in all: {self.seconds_per_trial:.1f} s a trial, {self.estimated_from}"
        return [
            *([f"profile {self.profile}: {self.why_profile}"] if self.profile else []),
            what,
            f"{plural(self.arms, 'arm')} x {plural(self.seeds, 'seed')} = {plural(self.cells, 'trial')}{kept}",
            *([f"adopted: {taken}"] if taken else []),
            *self.place_lines(),
            cost,
            *([self.retune] if self.retune else []),
            *self.power.splitlines(),
            f"report: {self.report}",
        ]

    def place_lines(self) -> list[str]:
        """Return how many trials run side by side and why, and on a GPU how a step is launched there."""
        each = f"{plural(self.workers, 'trial')} at a time on {self.device}, {plural(self.threads, 'thread')} each"
        # on a CPU there is one way only
        engine = self.engine if self.device != "cpu" else ""
        return [f"{each}: {self.why_workers}", *([f"engine {engine}"] if engine else [])]


@dataclass(frozen=True, slots=True)
class ArmTable:
    """The arms of a plan: ``(name, what it is compared with, the recipe fields that it changes)``."""

    arms: tuple[tuple[str, str, dict[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class ProgressFacts:
    """How far a run has come; ``line`` is set when a trial has just ended."""

    title: str
    done: int
    total: int
    before: int
    note: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run of a study.

    Attributes:
        answer: the report's first sentences.
        report: path of the page; None when none was written.
        counts: trials by state.
        next_command: what to run next.
        elsewhere: the study's folder name when a cluster runs its trials.
    """

    study: str
    profile: str
    plan: PlanFacts
    answer: str = ""
    report: Path | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    interrupted: bool = False
    out_of_time: bool = False
    failures: Sequence[str] = ()
    next_command: str = ""
    dry: bool = False
    elsewhere: str = ""
    again: str = ""  # what runs failed trials again, in a sentence
    notes: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """0 done, 1 ran with failures or no trial finished, 130 stopped before the end."""
        if self.interrupted or self.out_of_time:
            return 130
        # a run whose every trial diverged has nothing to report on
        barren = bool(self.counts) and not self.counts.get("complete")
        return 1 if self.failures or barren else 0

    def closing(self) -> list[str]:
        """Return what remains to be said, a line each."""
        more = len(self.failures) - _MOST_FAILURES
        lines = [*self.notes, *(f"failed: {failure}" for failure in self.failures[:_MOST_FAILURES])]
        lines += [f"and {more} more failed; the report lists them"] if more > 0 else []
        left = self.counts.get("waiting", 0) + self.counts.get("running", 0)
        stopped = self.interrupted or self.out_of_time
        if left and not self.dry and self.interrupted and self.elsewhere:
            # the tasks are the cluster's and go on
            follow = f"`harness status --study {self.elsewhere}` follows them, `harness report {self.elsewhere}` reports"
            lines.append(
                f"no longer watching: {plural(left, 'trial')} left, and the tasks go on; {follow}"
            )
        elif left and not self.dry and (stopped or not self.again):
            why = (
                "stopped by hand"
                if self.interrupted
                else "out of time"
                if self.out_of_time
                else "not done"
            )
            lines.append(f"{why}: {plural(left, 'trial')} left; the same command goes on from here")
        if self.again:
            too = f", and runs the {left} that are left" if left else ""
            lines.append(f"{self.again}{too}")
        return lines

    def _repr_html_(self) -> str:
        """Return the answer, the verdict table and its intervals, for a notebook."""
        from harness.commands.ending import read_analysis_plain

        analysis = read_analysis_plain(self.report)
        closing = "".join(f"<p>{escape(line)}</p>" for line in self.closing())
        if analysis is None:
            return f"<div><p>{escape(self.answer or 'nothing has been run')}</p>{closing}</div>"
        return (
            as_html(analysis, answer=self.answer) + closing + f"<p>{escape(str(self.report))}</p>"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "study": self.study,
            "profile": self.profile,
            "plan": {item.name: getattr(self.plan, item.name) for item in fields(self.plan)},
            "answer": self.answer,
            "report": str(self.report) if self.report else None,
            "trials": dict(self.counts),
            "interrupted": self.interrupted,
            "out_of_time": self.out_of_time,
            "failures": list(self.failures),
            "next": self.next_command,
        }


@dataclass(frozen=True, slots=True)
class TunePlan(PlanFacts):
    """The plan of a search: ``cells`` are its trials and those of its confirmation."""

    seconds_per_trial: float  # of our engine, which is always timed
    seconds: float
    trials: int = 0
    confirm: int = 0
    sizes: int = 0  # at which the reference runs again, at most
    entries: int = 0
    how: str = ""
    limits: str = ""

    def lines(self) -> list[str]:
        """Return the plan, a fact a line."""
        done = self.cells - self.to_run
        kept = f", {done} of them done already" if done else ""
        best = f"the {self.confirm} best" if self.confirm > 1 else "the best"
        again = f"then {best} and the reference"
        again += ", at its own size and at theirs," if self.sizes else ""
        most = "at most " if self.sizes else ""
        held = deciding_images(train=self.train_images, val=self.val_images, test=self.test_images)
        images = f"images {self.data}: {self.train_images:,} train, {held}, "
        space = f"{plural(self.trials, 'trial')} over {plural(self.entries, 'entry', 'entries')} of the space"
        lines = [
            f"profile {self.profile}: {self.why_profile}",
            images
            + f"{self.test_images:,} test (looked at for the chosen and what it is compared with, after the choice)",
            f"{space}, the reference first: {self.how}",
        ]
        if self.limits:
            lines.append(f"only recipes within {self.limits}")
        if self.confirm:
            lines.append(
                f"{again} on {plural(self.seeds, 'fresh seed')}: {most}{plural(self.cells, 'trial')} in all{kept}"
            )
        cost = f"about {duration(self.seconds)} in all: {self.seconds_per_trial:.1f} s for the reference, {self.estimated_from}"
        return [
            *lines,
            *self.place_lines(),
            f"{cost}; larger nets take longer, stopped trials less",
            f"report: {self.report}",
        ]


@dataclass(frozen=True, slots=True)
class TuneOutcome(Outcome):
    """The result of a search.

    Attributes:
        recipe: file of the winner; None before the confirmation is done.
        improved: whether the winner is shown to be better than the reference; None before.
    """

    recipe: Path | None = None
    improved: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        own = {"recipe": str(self.recipe) if self.recipe else None, "improved": self.improved}
        return {**Outcome.as_json(self), **own}
