"""A study that retunes its arms: as it is first, then the settings of every arm, then every arm at its best one.

Three ledgers, one after the other, each resumed where it stopped: the study's own,
``<study>-retuning`` for the settings and ``<study>-retuned``, an ordinary ablation. The study's
report shows both verdicts; what it needs of the other two is read here as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.arms_phase import ArmsPhase
from harness.commands.facts import Extra, OnEvent, Outcome, ProgressFacts
from harness.commands.run import Phase, run_phases
from harness.errors import StorageError, StudyError
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.metrics import metric_of, own_metrics
from harness.study.recipe import Recipe
from harness.study.retune_settings import (
    ChosenSetting,
    check_metric,
    choose,
    retuned_study,
    retuning_cells,
    retuning_study,
    settings,
)
from harness.study.study import Study
from harness.study.trial import Curve, Outcomes, Trial
from harness.text import duration, plural

if TYPE_CHECKING:
    from harness.analysis import Retuning, Setting
    from harness.ledger import Ledger
    from harness.report import Written
    from harness.search import SearchLedger


@dataclass(slots=True, kw_only=True)
class SettingsPhase(Phase):
    """Every arm of a study at every setting, to choose the best of each.

    Attributes:
        first: the study as it is, which is run before.
        chosen: the best setting of every arm, once the phase has ended.
    """

    first: ArmsPhase
    chosen: tuple[ChosenSetting, ...] = ()

    @classmethod
    def prepare(cls, first: ArmsPhase) -> SettingsPhase:
        """Check every arm at every setting against the images, and tell the plan what retuning will cost.

        Raises:
            StudyError: an arm cannot have a setting, or nothing tells which setting is the best.
            RecipeError: a net does not fit the images.
        """
        from harness.train.check import check

        study = first.study
        check_metric(study)
        if not first.image_counts()["val"]:
            raise StudyError(
                f"study {study.name!r}: retune: settings are chosen on validation images and data.val leaves none",
                "set data.val, or take `retune` out of the study",
            )

        # All of them now: a setting that an arm cannot have would otherwise stop the run halfway.
        wanted = retuning_cells(study, first.fingerprint, first.code)
        for recipe in dict.fromkeys(cell.recipe for cell in wanted):
            check(recipe)

        first.extra = _extra(first, len(wanted))
        first.later = len(wanted) + len(first.cells)
        return cls(
            study=retuning_study(study),
            cells=wanted,
            later=len(first.cells),
            first=first,
            **first.setting(),
        )

    def already_done(self) -> int:
        """Return how many of the trials that retuning adds are final, touching nothing."""
        keys = {cell.key for cell in self.cells}
        try:
            with self.open(create=False) as ledger:
                done = [trial for trial in ledger.trials() if trial.cell in keys]
        except StorageError:
            return 0
        if len(done) < len(keys):  # which settings are run again is not known yet
            return len(done)

        self.chosen = choose(self.first.study, done)
        return len(done) + len(self.retuned().already_done())

    def retuned(self) -> ArmsPhase:
        """Return every arm at its best setting: an ordinary phase, with the threads and workers of the first."""
        first, study = self.first, retuned_study(self.first.study, self.chosen)
        return replace(
            first,
            study=study,
            arms=arms(study),
            cells=cells(study, first.fingerprint, first.code),
            # the fingerprint of the whole study serves every arm
            codes={},
            planned=(),
            before=0,
            later=0,
            blocks=0,
            reported=0.0,
            source="",
            part="retuned ",
            extra=None,
        )

    def named(self, recipe: Recipe) -> str:
        """Return in words which arm has which setting."""
        tried = settings(self.first.study)
        places = {
            arm.recipe.with_overrides(setting): (arm.name, place)
            for arm in self.first.arms
            for place, setting in enumerate(tried)
        }
        name, place = places[recipe]
        return f"{name}, setting {place + 1} of {len(tried)}{'' if place else ' (as it is)'}"

    def note(self, trials: Collection[Trial]) -> str:  # noqa: ARG002
        """Return what is being done."""
        return "retuning"

    def line(self, trial: Trial) -> str:
        """Return the arm, its setting and the score of a trial."""
        name = self.named(trial.recipe)
        if trial.state != "complete":
            return f"{name}: {trial.state} after {plural(trial.epochs, 'epoch')}. {trial.error}".rstrip()
        return f"{name}: val {100 * trial.metrics['accuracy']:.1f} %, {trial.train_seconds:.1f} s"

    def failure(self, trial: Trial) -> str:
        """Return arm, setting and error."""
        return f"retuning {self.named(trial.recipe)}: {trial.error}"

    def finish(self, ledger: SearchLedger, on_event: OnEvent) -> Written | None:  # noqa: ARG002
        """Choose the settings; the report is the study's."""
        self.chosen = choose(self.first.study, ledger.trials())
        return None


def run_retuned(
    first: ArmsPhase, trying: SettingsPhase, deadline: float | None, on_event: OnEvent
) -> Outcome:
    """Run a study as it is, try the settings, run the retuned study, and report both."""
    from harness.commands.report import trials_kept
    from harness.report.retuned import sentence

    def phases() -> Iterator[Phase]:
        yield first
        yield trying

        words = "; ".join(
            f"{best.arm}: {_plain(best.setting) or 'as it is'}" for best in trying.chosen
        )
        on_event(f"chosen on validation: {words}")
        retuned = trying.retuned()
        yield retuned

        # settings that change nothing leave no trial to run, and the bar short of its end
        total = retuned.earlier + len(retuned.planned)
        on_event(ProgressFacts(first.study.folder, total, total, retuned.earlier))

    ended = run_phases(phases(), deadline, on_event)
    outcome = first.outcome(ended)
    # stopped before any setting was tried: the report is the study's own so far
    if len(ended) == 1:
        return outcome

    on_event("writing the report with both verdicts")
    name, storage = first.study.folder, first.storage
    with first.open(create=False) as ledger, trials_kept(name, storage=storage):
        written = first.report(ledger)
    answer = "\n".join(filter(None, (outcome.answer, sentence(written.analysis))))
    return replace(outcome, answer=answer, report=written.index)


def retuning_of(
    study: Study, *, storage: str | None = None, runs: Path = Path("runs")
) -> Retuning | None:
    """Return the results of retuning a study so far, from its ledgers; None before its first plan, or without any.

    Args:
        study: under its profile.
        storage: where the ledgers are, as ``Ledger.open`` takes it.
        runs: the folder of all runs.
    """
    if not study.retune:
        return None
    from harness.analysis import Retuning
    from harness.ledger import Ledger

    try:
        with Ledger.open(
            retuning_study(study).folder, storage=storage, runs=runs, create=False
        ) as ledger:
            plan = ledger.latest_plan()
            if plan is None:
                return None
            chosen, missing = choose(plan.study, ledger.trials()), ledger.unfinished()
            source, tries = plan.study, len(ledger.cells()) // max(len(chosen), 1)
            images, code = plan.data_fingerprint, plan.code_fingerprint
    except StorageError:
        return None

    retuning = Retuning(
        entries={name: source.space[name].words() for name in source.retune},
        tries=tries,
        settings=() if missing else _settings(study, chosen),
        missing=missing,
    )

    # What is missing counts the retuned runs too, which are not planned before every setting is
    # known.
    over = retuned_study(study, chosen)
    if missing:
        return retuning.model_copy(update={"missing": missing + len(cells(over, images, code))})
    return _with_results(retuning, over, images, code, storage=storage, runs=runs)


def _settings(study: Study, chosen: tuple[ChosenSetting, ...]) -> tuple[Setting, ...]:
    from harness.analysis import Setting

    scale = metric_of(study).scale

    def shown(score: float | None) -> float | None:
        return None if score is None else scale * score

    return tuple(
        Setting(
            arm=best.arm,
            chosen=dict(best.setting),
            score=shown(best.score),
            as_is=shown(best.as_is),
            complete=best.complete,
        )
        for best in chosen
    )


def _with_results(
    retuning: Retuning, over: Study, images: str, code: str, *, storage: str | None, runs: Path
) -> Retuning:
    """Return it with the results of the retuned study; of trials that are no more of it, nothing counts."""
    from harness.analysis import analyze
    from harness.analysis.retuned import leading
    from harness.ledger import Ledger

    wanted = {cell.key for cell in cells(over, images, code)}
    try:
        with Ledger.open(over.folder, storage=storage, runs=runs, create=False) as ledger:
            planned = {cell.key for cell in ledger.cells()}
            if not planned <= wanted:  # planned for other settings: what it holds is not this
                return retuning.model_copy(update={"missing": len(wanted)})
            trials = [trial for trial in ledger.trials() if trial.cell in wanted]
            missing, artifacts = ledger.unfinished(), _artifacts(ledger, trials)
    except StorageError:
        return retuning.model_copy(update={"missing": len(wanted)})
    analysis = analyze(
        over,
        trials,
        curves={key: curve for key, (curve, _) in artifacts.items()},
        data_fingerprint=images,
        metrics=own_metrics(over),
    )
    return retuning.model_copy(
        update={
            "effects": leading(analysis.effects, analysis.primary),
            "summaries": tuple(
                level for level in analysis.summaries if level.metric == analysis.primary
            ),
            "missing": missing,
        }
    )


def _artifacts(ledger: Ledger, trials: list[Trial]) -> Mapping[str, tuple[Curve, Outcomes | None]]:
    return {trial.cell: ledger.artifact(trial) for trial in trials if trial.epochs}


def _extra(first: ArmsPhase, tried: int) -> Extra:
    study, again = first.study, len(first.cells)
    # of our engine, which is timed: a script has no space to retune over
    seconds = first.seconds_of(tried + again) or 0.0
    each = tried // len(first.arms)
    words = (
        f"retuned over {', '.join(study.retune)}: {plural(len(first.arms), 'arm')} x {plural(each, 'setting')} = "
        f"{plural(tried, 'trial')}, then at most {plural(again, 'trial')} at the best ones: about {duration(seconds)} more"
    )
    return Extra(words, tried + again, seconds)


def _plain(setting: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in setting.items()
    )
