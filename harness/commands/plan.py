"""``plan``: what a study can find and what it will cost, before anything runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.commands.choose_profile import timing_words
from harness.commands.facts import OnEvent
from harness.commands.place import choose_places
from harness.errors import DataError, StorageError
from harness.study.arms import arms
from harness.study.metrics import own_metrics
from harness.study.retune_settings import most_trials
from harness.study.study import load_study
from harness.study.trial import Trial, complete
from harness.text import duration, plural

if TYPE_CHECKING:
    from harness.analysis.power_plan import PowerPlan


@dataclass(frozen=True, slots=True)
class Forecast:
    """Power and cost of a study.

    Attributes:
        power: what it can find.
        seconds_per_trial: None where it is not known.
        cost_from: where the seconds come from, or why there are none.
        workers: trials that run side by side here.
        retune_trials: that retuning adds at most.
    """

    study: str
    profile: str
    power: PowerPlan
    seconds_per_trial: float | None
    cost_from: str
    workers: int
    retune_trials: int = 0

    @property
    def seconds(self) -> float | None:
        """Seconds until all trials are done on this machine, those of retuning too."""
        trials = self.power.trials + self.retune_trials
        return (
            None
            if self.seconds_per_trial is None
            else self.seconds_per_trial * trials / self.workers
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the plan as (what, value) rows."""
        plan, nothing = self.power, self.power.judges_nothing()
        looks = f", looks at {', '.join(map(str, plan.looks))}" if plan.looks else ""
        sd = f"unknown: {plan.source}"
        if plan.sd is not None:
            sd = f"{plan.sd:.2g} {plan.unit}".rstrip() + f", {plan.source}"
        time = f"unknown: {self.cost_from}"
        if self.seconds is not None and self.seconds_per_trial is not None:
            each = f"{self.seconds_per_trial:.1f} s a trial, {plural(self.workers, 'process', 'processes')}"
            time = f"about {duration(self.seconds)}: {each}, {self.cost_from}"

        rows = [
            ("study", f"{self.study}, profile {self.profile}" if self.profile else self.study),
            ("decides", f"{plan.metric}, alpha {plan.alpha:g}"),
            (
                "trials",
                f"{plural(plan.arms, 'arm')} x {plural(plan.seeds, 'seed')} = {plan.trials:,}{looks}",
            ),
            ("sd between seeds", sd),
            *([("finds", nothing)] if nothing else self._finds()),
            ("time", time),
        ]
        if self.retune_trials:
            rows.insert(3, ("retuning", f"at most {plural(self.retune_trials, 'trial')} more"))
        return rows + [("note", caveat) for caveat in plan.caveats if not nothing]

    def _finds(self) -> list[tuple[str, str]]:
        """What the seeds can find, as rows; each figure as it is, and as it is where all arms rise and fall together."""
        from harness.analysis.power_plan import CORRELATIONS

        plan = self.power

        def both(values: Any, form: str, none: str = "unknown") -> str:
            alone, alike = (
                form.format(value).rstrip() if value is not None else none
                for value in values.values()
            )
            return f"{alone}, or {alike} if arms move together"

        wanted = f"{plan.effect:g} {plan.unit}".rstrip()
        among = f", {plan.family} comparisons" if plan.family > 1 else ""
        power = "80 % power: 8 of 10 studies like it find it"
        looks = []
        if plan.looks:
            without = both(plan.expected_seeds_null, "{:.1f}")
            takes = f"{both(plan.expected_seeds, '{:.1f}')}; without an effect {without}"
            looks.append(("expected seeds", takes))
        return [
            (
                "smallest effect found",
                f"{both(plan.detectable, f'{{:.2g}} {plan.unit}')} ({power}; {plan.contrast}{among})",
            ),
            (f"seeds for {wanted}", f"{both(plan.seeds_needed, '{:,}', 'too many')} (80 % power)"),
            (f"power for {wanted}", both(plan.power_family, "{:.0%}").replace("%", " %")),
            *looks,
            (
                "arms move together",
                f"a seed lifts or lowers all arms alike: correlation {CORRELATIONS[1]:g}, else 0",
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "seconds": self.seconds}


def plan_study(
    study: str,
    *,
    profile: str | None = None,
    effect: float | None = None,
    seeds: int | None = None,
    on_event: OnEvent,
) -> Forecast:
    """Work out what a study can find and what it will cost. Trains nothing but a few timed steps.

    Args:
        study: its name or file.
        profile: under which it would be run; None for quick, or for a study that runs a script as
            its file has it.
        effect: that should be found, in the deciding metric's unit; None for the margin.
        seeds: in place of the profile's.
        on_event: receives what is being timed.
    """
    from harness.analysis.power_plan import plan_power

    loaded = load_study(study)
    resolved = loaded.under(
        loaded.profile or ("" if loaded.scripted else "quick") if profile is None else profile,
        seeds=seeds,
    )
    finished = _finished(resolved.folder)
    seconds: float | None = None
    workers, source, images = 1, "", 0
    try:
        if resolved.scripted:
            workers = choose_places(resolved, device="auto", workers=None).workers
            source = "what the script takes is known once its first trial is done"
        else:
            from harness.train.parts import arena
            from harness.train.timing import choose_layout

            on_event(timing_words(resolved.profile, "to estimate the whole run"))
            recipe = arms(resolved)[0].recipe
            layout = choose_layout(recipe)
            images = len(arena(recipe.data, layout.devices[0]).split.val_labels_N)
            seconds, workers, source = (
                layout.timing.seconds,
                layout.workers,
                f"from {layout.timing.steps} timed steps",
            )
    except DataError as error:
        source = error.message
    done = complete(finished)
    if done and seconds is None:
        seconds = sum(trial.train_seconds + trial.eval_seconds for trial in done) / len(done)
        source = f"the mean of {plural(len(done), 'finished trial')}"
    power = plan_power(
        resolved,
        effect=effect,
        finished=finished,
        seconds_per_trial=seconds,
        metrics=own_metrics(resolved),
        images=images,
    )
    return Forecast(
        resolved.name, resolved.profile, power, seconds, source, workers, most_trials(resolved)
    )


def _finished(folder: str) -> list[Trial]:
    from harness.commands.place import RUNS
    from harness.ledger import Ledger

    try:
        with Ledger.open(folder, runs=RUNS, create=False) as ledger:
            return ledger.trials()
    except StorageError:
        return []
