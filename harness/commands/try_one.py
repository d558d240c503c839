"""``try``: one trial of a study outside of its plan, to see that it runs, how it is read and what the whole would cost.

Nothing is recorded: the run lives in a temporary folder, and the ledger never hears of it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.before import check_asked
from harness.commands.choose_profile import all_trials, check_device, timing_words
from harness.commands.facts import OnEvent
from harness.commands.place import Place, choose_places
from harness.errors import HarnessError, UsageError, did_you_mean
from harness.study.arms import Arm, arms
from harness.study.cells import seeds
from harness.study.metrics import metric_of, own_metrics
from harness.study.script_code import check_script
from harness.study.study import Study, load_study
from harness.study.trial import METRICS, Cell, Trial
from harness.text import duration, plural

if TYPE_CHECKING:
    from harness.workers.runner import OnEpoch, Runner

_LOOK_SECONDS = 0.2  # between two looks at what a script has printed


@dataclass(frozen=True, slots=True)
class OneTrial:
    """What one trial gave, and what the study would cost.

    Attributes:
        study, arm, seed: what was run.
        trial: it, as it would have been recorded.
        seconds: that it took from start to end.
        trials, workers: of the whole study, and how many of them run side by side here.
        sources: ``{metric: where it was read}`` of a script.
        notes: what was understood without being declared.
        left: files in the run's folder.
        rule: lines of a rule that would read the number that decides, where none did.
    """

    study: Study
    arm: str
    seed: int
    trial: Trial
    seconds: float
    trials: int
    workers: int
    sources: Mapping[str, str]
    notes: Sequence[str] = ()
    left: Sequence[str] = ()
    rule: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """0 for a trial that ended with the metric that decides."""
        return 0 if self.trial.state == "complete" else 1

    @property
    def whole_seconds(self) -> float:
        """What the whole study takes here, if every trial takes as long as this one."""
        return self.seconds * self.trials / min(self.workers, self.trials)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the metrics as (name, value with its unit, where it was read), the one that decides first."""
        decides = metric_of(self.study)
        known = {**METRICS, **own_metrics(self.study), decides.name: decides}
        names = sorted(self.trial.metrics, key=lambda name: name != decides.name)
        rows = []
        for name in names:
            value, metric = (
                self.trial.metrics[name],
                known.get(name, known.get(name.removesuffix("_gap"))),
            )
            shown = f"{value:.6g}"
            if metric is not None and metric.unit == "pp":
                shown = f"{100 * value:.4g} " + ("pp" if "gap" in name else "%")
            rows.append((name, shown, self.sources.get(name, "") or self._origin(name)))
        return rows

    def _origin(self, name: str) -> str:
        if not self.study.scripted:
            return "measured"
        return "from the others" if name in ("gap", "loss_gap") else "metrics.json"

    def lines(self) -> list[str]:
        """Return in words what is not in the table."""
        plural_trials = plural(self.trials, "trial")
        cost = (
            f"the whole study: {plural_trials}, about {duration(self.whole_seconds)} with "
            f"{plural(self.workers, 'process', 'processes')}, if each takes as long as this one"
        )
        lines = [
            f"{self.arm}, seed {self.seed}: {self.trial.state} after {self.seconds:.1f} s",
            *([self.trial.error] if self.trial.error else []),
            *(f"note: {note}" for note in self.notes),
            *(f"it left {name}" for name in self.left),
        ]
        if self.rule:
            lines += ["its output has such a number; this in the study file would read it:", ""]
            lines += [*(f"    {line}" for line in self.rule), ""]
        if self.trial.epochs and self.study.scripted:
            lines.append(f"history.csv: {plural(self.trial.epochs, 'epoch')}")
        return [*lines, cost, "nothing was recorded"]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "study": self.study.name,
            "arm": self.arm,
            "seed": self.seed,
            "state": self.trial.state,
            "error": self.trial.error,
            "metrics": dict(self.trial.metrics),
            "sources": dict(self.sources),
            "notes": list(self.notes),
            "left": list(self.left),
            "rule": "\n".join(self.rule),
            "seconds": self.seconds,
            "study_trials": self.trials,
            "study_seconds": self.whole_seconds,
            "workers": self.workers,
        }


def try_study(
    study: str,
    *,
    arm: str | None = None,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
    on_event: OnEvent,
) -> OneTrial:
    """Run one trial of a study, at its first seed, and record nothing.

    Args:
        study: its name or file.
        arm: which; None for the baseline.
        profile: None for quick, or for a study that runs a script as its file has it.
        overrides: recipe fields or settings, as ``ablate`` takes them.
        workers: processes that the whole study would have; None lets the program choose.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        on_event: given every line that is printed.

    Raises:
        HarnessError: nothing ran: the study, the arm, the script or the images are of no use.
    """
    loaded = load_study(study)
    chosen = profile or loaded.profile or ("" if loaded.scripted else "quick")
    check_asked(loaded, chosen, overrides=overrides, seeds=None)
    resolved = loaded.under(chosen, overrides=overrides)
    wanted = _arm(resolved, arm)
    check_device(device)
    cell = Cell.of(wanted.recipe, seeds(resolved)[0], "")
    way: dict[str, Any] = {"workers": workers, "device": device, "on_event": on_event}
    if resolved.scripted:
        return _try_script(resolved, wanted, cell, **way)
    return _try_recipe(resolved, wanted, cell, **way)


def _arm(study: Study, name: str | None) -> Arm:
    planned = arms(study)
    names = [arm.name for arm in planned]
    if name is not None and name not in names:
        raise UsageError(
            f"study {study.name!r} has no arm {name!r}{did_you_mean(name, names)}",
            f"its arms: {', '.join(names)}",
        )
    return planned[0 if name is None else names.index(name)]


def _try_script(
    study: Study, arm: Arm, cell: Cell, *, workers: int | None, device: str, on_event: OnEvent
) -> OneTrial:
    from harness.workers.local import worker_environment
    from harness.workers.script import FOLDER, ScriptRunner
    from harness.workers.script_hints import left_files, suggested_rule
    from harness.workers.script_results import read_results

    check_script(study)
    places = choose_places(study, device=device, workers=workers)
    inside, environment = worker_environment(places.devices[0], places.threads, "")
    on_event(f"{study.name}: {arm.name} at seed {cell.seed}, on {places.devices[0]}\n")

    with tempfile.TemporaryDirectory(prefix="harness-try-") as folder:
        base = Path(folder) / FOLDER
        runner = ScriptRunner(study, Path(folder), environment)
        with _printed(base, on_event):
            trial, seconds = _timed(runner, cell, device=inside, threads=places.threads)
        out = next(path for path in base.iterdir() if path.is_dir())
        log = out.with_name(f"{out.name}.log")
        results = read_results(out, study, log=log) if trial.state != "failed" else None
        unread = trial.state == "failed" and "ended well" in trial.error
        rule = suggested_rule(study.metric, out, log) if unread else []
        left = left_files(out)

    # the log is gone with its folder, and all of it was printed
    trial = trial.model_copy(update={"error": trial.error.partition(" (log: ")[0]})
    return OneTrial(
        study=study,
        arm=arm.name,
        seed=cell.seed,
        trial=trial,
        seconds=seconds,
        trials=all_trials(study),
        workers=places.workers,
        sources=results.sources if results is not None else {},
        notes=results.notes if results is not None else (),
        left=left,
        rule=rule,
    )


def _try_recipe(
    study: Study, arm: Arm, cell: Cell, *, workers: int | None, device: str, on_event: OnEvent
) -> OneTrial:
    from harness.train.check import check
    from harness.workers.runner import OWN_RUNNER, runner_for

    for each in arms(study):  # what cannot run in another arm shows here too
        check(each.recipe)
    on_event(timing_words(study.profile, "to estimate the whole run"))
    layout = Place().layout(arms(study)[0].recipe, device=device, workers=workers)
    epochs = cell.recipe.train.epochs
    on_event(f"{study.name}: {arm.name} at seed {cell.seed}, on {layout.devices[0]}\n")

    def on_epoch(epoch: int, values: Mapping[str, float]) -> bool:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        on_event(f"epoch {epoch + 1} of {epochs}: {shown}")
        return False

    with tempfile.TemporaryDirectory(prefix="harness-try-") as folder:
        runner = runner_for(OWN_RUNNER, study, Path(folder))
        way: dict[str, Any] = {"device": layout.devices[0], "threads": layout.threads}
        trial, seconds = _timed(runner, cell, **way, on_epoch=on_epoch)
    return OneTrial(
        study=study,
        arm=arm.name,
        seed=cell.seed,
        trial=trial,
        seconds=seconds,
        trials=all_trials(study),
        workers=layout.workers,
        sources={},
    )


def _timed(
    runner: Runner,
    cell: Cell,
    *,
    device: str,
    threads: int,
    on_epoch: OnEpoch = lambda *_: False,
) -> tuple[Trial, float]:
    """Return the trial and its seconds; what code of yours raises makes a failed one, as it would in a worker."""
    from harness.workers.runner import failed

    started = time.perf_counter()
    try:
        trial, _ = runner(cell, device=device, threads=threads, on_epoch=on_epoch)
    except HarnessError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a function of yours raises
        trial = failed(cell, error)
    return trial, time.perf_counter() - started


@contextmanager
def _printed(folder: Path, on_event: OnEvent) -> Iterator[None]:
    """Pass on every line that a script prints into its log, as a terminal shows it, while it runs."""
    from harness.workers.script_log import as_shown

    ended = threading.Event()

    def follow() -> None:
        at, rest, last = 0, "", False
        while not last:
            last = ended.wait(_LOOK_SECONDS)  # one more look after the end
            for log in folder.glob("*.log"):
                with log.open("rb") as file:
                    file.seek(at)
                    new = file.read()
                at += len(new)
                *lines, rest = (rest + new.decode("utf-8", errors="replace")).split("\n")
                for line in lines:
                    on_event(as_shown(line))
        if rest.strip():
            on_event(as_shown(rest))

    follower = threading.Thread(target=follow, name="harness-try", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
