"""What retuning found: from the ledger of the settings and that of the retuned study to what the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.analysis import Retuning, Setting, analyze
from harness.analysis.retuned import leading
from harness.errors import StorageError
from harness.ledger import Ledger
from harness.study.cells import cells
from harness.study.metrics import metric_of, own_metrics
from harness.study.retune_settings import Tried, choose, retuned_study, retuning_study
from harness.study.study import Study
from harness.study.trial import Curve, Outcomes, Trial


def retuning_of(
    study: Study, *, storage: str | None = None, runs: Path = Path("runs")
) -> Retuning | None:
    """Return what retuning a study found so far, from its ledgers; None before its first plan, or without any.

    Args:
        study: under its profile.
        storage: where the ledgers are, as ``Ledger.open`` takes it.
        runs: the folder of all runs.
    """
    if not study.retune:
        return None
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
    found = Retuning(
        entries={name: source.space[name].words() for name in source.retune},
        tries=tries,
        settings=() if missing else _settings(study, chosen),
        missing=missing,
    )
    over = retuned_study(study, chosen)
    if missing:
        return found.model_copy(update={"missing": missing + len(cells(over, images, code))})
    return _with_results(found, over, images, code, storage=storage, runs=runs)


def _settings(study: Study, chosen: tuple[Tried, ...]) -> tuple[Setting, ...]:
    scale = metric_of(study).scale

    def shown(score: float | None) -> float | None:
        return None if score is None else scale * score

    return tuple(
        Setting(
            arm=o.arm,
            chosen=dict(o.setting),
            score=shown(o.score),
            as_is=shown(o.as_is),
            complete=o.complete,
        )
        for o in chosen
    )


def _with_results(
    found: Retuning, over: Study, images: str, code: str, *, storage: str | None, runs: Path
) -> Retuning:
    """Return it with what the retuned study found; of trials that are no more of it, nothing counts."""
    wanted = {cell.key for cell in cells(over, images, code)}
    try:
        with Ledger.open(over.folder, storage=storage, runs=runs, create=False) as ledger:
            planned = {cell.key for cell in ledger.cells()}
            if not planned <= wanted:  # planned for other settings: what it holds is not this
                return found.model_copy(update={"missing": len(wanted)})
            trials = [trial for trial in ledger.trials() if trial.cell in wanted]
            missing, artifacts = ledger.unfinished(), _artifacts(ledger, trials)
    except StorageError:
        return found.model_copy(update={"missing": len(wanted)})
    analysis = analyze(
        over,
        trials,
        curves={key: curve for key, (curve, _) in artifacts.items()},
        data_fingerprint=images,
        metrics=own_metrics(over),
    )
    return found.model_copy(
        update={
            "effects": leading(analysis.effects, analysis.primary),
            "summaries": tuple(one for one in analysis.summaries if one.metric == analysis.primary),
            "missing": missing,
        }
    )


def _artifacts(ledger: Ledger, trials: list[Trial]) -> Mapping[str, tuple[Curve, Outcomes | None]]:
    return {trial.cell: ledger.artifact(trial) for trial in trials if trial.epochs}
