"""``ablate --all``: every built-in study one after the other, the cost of all of it first.

Studies share trials: what one has finished the next adopts, so that the baseline is trained once.
Run again, all goes on where it stopped. A study that fails does not keep the others from running.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.commands.ablate import ablate
from harness.commands.arms_phase import ArmsPhase
from harness.commands.before import check_asked
from harness.commands.choose_profile import all_trials, check_device, choose_profile, timing_words
from harness.commands.facts import OnEvent, Outcome
from harness.commands.retune import SettingsPhase
from harness.commands.run import REPORTS
from harness.commands.search_phase import count, ruled
from harness.commands.tune import tune
from harness.errors import HarnessError, ReportError, UsageError
from harness.study.files import builtin_studies
from harness.study.study import Study, load_study
from harness.text import duration, plural

# For a machine that is there for a limited time: what decides the recipe first, what is only shown
# last.
ORDER = (
    "augmentations",
    "claims",
    "dropout",
    "weight-decay",
    "grad-clip",
    "blocks",
    "head",
    "tune",
    "reference",
)


@dataclass(frozen=True, slots=True)
class Share:
    """What one study adds to the whole.

    Attributes:
        trials: of its plan, with what retuning its arms adds at most.
        to_run: those that are neither finished anywhere nor part of a study before it.
        seconds: that these will take here.
        error: why it does not run; then there are no trials.
    """

    study: str
    trials: int = 0
    to_run: int = 0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class WholePlan:
    """All studies under one profile, and what they will cost."""

    profile: str
    why_profile: str
    shares: tuple[Share, ...]

    @property
    def seconds(self) -> float:
        """Seconds until everything is done on this machine."""
        return sum(share.seconds for share in self.shares)

    def title(self) -> str:
        """Return how many studies there are, and the profile with its reason."""
        return f"{plural(len(self.shares), 'study', 'studies')}, profile {self.profile}: {self.why_profile}"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return (study, trials, to run, time) a study, the total last."""
        rows = [
            (
                one.study,
                f"{one.trials:,}",
                f"{one.to_run:,}",
                one.error or f"about {duration(one.seconds)}",
            )
            for one in self.shares
        ]
        trials, to_run = (
            sum(one.trials for one in self.shares),
            sum(one.to_run for one in self.shares),
        )
        return [*rows, ("in all", f"{trials:,}", f"{to_run:,}", f"about {duration(self.seconds)}")]


@dataclass(frozen=True, slots=True)
class WholeOutcome:
    """How running all studies ended.

    Attributes:
        failures: a sentence for every study that could not be run.
        left: studies that were not begun, for want of time or because the run was stopped.
    """

    plan: WholePlan
    outcomes: tuple[Outcome, ...] = ()
    failures: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done, 1 ran with failures, 130 stopped before the end."""
        codes = {outcome.exit_code for outcome in self.outcomes}
        if self.left or 130 in codes:
            return 130
        return 1 if self.failures or 1 in codes else 0

    def closing(self) -> list[str]:
        """Return what remains to be said, a line each."""
        lines = [f"{one.study}: {line}" for one in self.outcomes for line in one.closing()]
        lines += [f"failed: {failure}" for failure in self.failures]
        if self.left:
            lines.append(f"not begun: {', '.join(self.left)}; the same command goes on from here")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "profile": self.plan.profile,
            "seconds": self.plan.seconds,
            "plan": [asdict(share) for share in self.plan.shares],
            "studies": [outcome.as_json() for outcome in self.outcomes],
            "failures": list(self.failures),
            "left": list(self.left),
        }


def all_studies() -> tuple[str, ...]:
    """Return the names of the built-in studies: those of ``ORDER``, then the others by name."""
    there = builtin_studies()
    return (
        *(name for name in ORDER if name in there),
        *(name for name in there if name not in ORDER),
    )


def ablate_all(
    names: Sequence[str] = (),
    *,
    profile: str | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    storage: str | None = None,
    artifacts: str | None = None,
    device: str = "auto",
    timeout: float | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    on_event: OnEvent = lambda _: None,
) -> WholeOutcome:
    """Run every built-in study, searches included, and write their reports and the index over them.

    Args:
        names: studies by name or file, in this order; empty for ``all_studies()``.
        profile: of all of them; None takes the largest under which everything fits here (see
            ``choose_profile``).
        seeds: as ``ablate`` takes it, for every study, and so are the next six.
        overrides: recipe fields.
        workers: processes.
        storage: where ledgers are kept.
        artifacts: folder for curves and per-image outcomes.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        retry_failed: run cells again that failed by their code.
        timeout: seconds from now after which no new trial starts, for all together.
        dry_run: work out the plan and touch nothing.
        on_event: given a ``WholePlan`` first, then what ``ablate`` and ``tune`` give.

    Raises:
        HarnessError: nothing ran: none of the studies can be run as asked.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    names = tuple(names) or all_studies()
    asked: dict[str, Any] = {"overrides": overrides, "seeds": seeds}
    refused = [error for name in names if (error := _refusal(name, profile, asked)) is not None]
    if len(refused) == len(names):  # a field may fit one study and not another
        raise refused[0]
    check_device(device)
    chosen, why = (profile, "as asked") if profile else _profile(names, device, on_event)
    plan = _planned(
        names,
        chosen,
        why=why,
        seeds=seeds,
        overrides=overrides,
        workers=workers,
        device=device,
        storage=storage,
        on_event=on_event,
    )
    if all(share.error for share in plan.shares):
        raise UsageError(
            f"no study can be run: {plan.shares[0].study}: {plan.shares[0].error}",
            "`harness show` lists them",
        )
    on_event(plan)
    failures = [f"{share.study}: {share.error}" for share in plan.shares if share.error]
    if dry_run:
        return WholeOutcome(plan, failures=tuple(failures))
    common: dict[str, Any] = {
        "profile": chosen,
        "seeds": seeds,
        "overrides": overrides,
        "workers": workers,
        "storage": storage,
        "artifacts": artifacts,
        "device": device,
        "on_event": on_event,
    }
    waiting = [share.study for share in plan.shares if not share.error]
    outcomes = _run_each(waiting, failures, common, deadline=deadline, retry_failed=retry_failed)
    _index()
    return WholeOutcome(plan, tuple(outcomes), tuple(failures), tuple(waiting))


def _run_each(
    waiting: list[str],
    failures: list[str],
    common: dict[str, Any],
    *,
    deadline: float | None,
    retry_failed: bool,
) -> list[Outcome]:
    """Run studies until none is waiting or the run is stopped; what was begun leaves ``waiting``."""
    outcomes: list[Outcome] = []
    total, on_event = len(waiting), common["on_event"]
    while waiting and not (outcomes and outcomes[-1].interrupted):
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            break
        name = waiting.pop(0)
        on_event(f"{name}: study {total - len(waiting)} of {total}")
        try:
            if _searched(load_study(name)):
                outcomes.append(tune(name, **common, timeout=remaining))
            else:
                outcomes.append(
                    ablate(name, **common, timeout=remaining, retry_failed=retry_failed)
                )
        except HarnessError as error:
            failures.append(f"{name}: {error.message} ({error.hint})")
            on_event(f"failed: {failures[-1]}")
    return outcomes


def _index() -> None:
    from harness.report import write_index

    try:
        write_index(REPORTS)
    except ReportError:  # every study failed, and said so
        return


def _searched(study: Study) -> bool:
    """Whether a study is a search alone."""
    return bool(study.space) and not study.arms and not study.factors


def _retuning(phase: ArmsPhase) -> tuple[int, int]:
    """How many trials retuning a study's arms adds at most, and how many of them are not final; none where it does not."""
    if not phase.study.retune:
        return 0, 0
    settings = SettingsPhase.prepare(phase)
    more = phase.extra.trials if phase.extra is not None else 0
    return more, more - settings.already_done()


def _refusal(name: str, profile: str | None, asked: Mapping[str, Any]) -> HarnessError | None:
    """Return why a study does not run as asked, found before anything is timed; None where it does."""
    try:
        check_asked(load_study(name), profile, **asked)
    except HarnessError as error:
        return error
    return None


def _profile(names: Sequence[str], device: str, on_event: OnEvent) -> tuple[str, str]:
    def trials(resolved: Study) -> int:
        others = [load_study(name).under(resolved.profile) for name in names]
        return sum(count(ruled(one, {})) if _searched(one) else all_trials(one) for one in others)

    first = next(
        (study for study in map(load_study, names) if not _searched(study)), load_study(names[0])
    )
    return choose_profile(first, device=device, on_event=on_event, count=trials)


def _planned(
    names: Sequence[str],
    profile: str,
    *,
    why: str,
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
    workers: int | None,
    device: str,
    storage: str | None,
    on_event: OnEvent,
) -> WholePlan:
    """Work out what every study adds to those before it, touching nothing."""
    shares, counted = [], set[str]()
    for name in names:
        on_event(f"{name}: {timing_words(profile, 'to say how long it takes')}")
        try:
            study = load_study(name).under(profile, seeds=seeds, overrides=overrides)
            if _searched(study):
                facts = tune(
                    study, workers=workers, device=device, storage=storage, dry_run=True
                ).plan
                # a search is always timed
                shares.append(Share(name, facts.cells, facts.to_run, facts.seconds or 0.0))
                continue
            phase = ArmsPhase.prepare(
                study,
                why,
                workers=workers,
                device=device,
                storage=storage,
                artifacts=None,
                screen=False,
                retry_failed=False,
            )
            counted |= {trial.cell for trial in phase.already_done()}
            new = {cell.key for cell in phase.cells} - counted
            counted |= new
            more, left = _retuning(phase)
            # of our engine, as all that is built in: timed
            seconds = phase.seconds_of(len(new) + left) or 0.0
            shares.append(Share(name, len(phase.cells) + more, len(new) + left, seconds))
        except HarnessError as error:
            shares.append(Share(name, error=f"{error.message} ({error.hint})"))
    return WholePlan(profile, why, tuple(shares))
