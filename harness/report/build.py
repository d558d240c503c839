"""From material and analysis to a Report: heading, answer, alerts, facts and sections."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis import Analysis
from harness.report import retuned, words
from harness.report.document import Alert, Report
from harness.report.material import Material
from harness.report.sections import Job, sections
from harness.study.study import Study
from harness.text import plural


def build(
    material: Material, analysis: Analysis, *, formats: Sequence[str], brief: bool = False
) -> Report:
    """Return the report of a study.

    Args:
        material: trials, curves and all that comes with them.
        analysis: of the same trials.
        formats: stand-alone formats of the figures: svg, png, pdf.
        brief: fewer drawings, while the study still runs.
    """
    study = analysis.study
    where = [study.name, *([f"profile {study.profile}"] if study.profile else []), study.design]
    return Report(
        folder=study.folder,
        title=study.question,
        kicker=" · ".join(where),
        answer=_answer(material, analysis),
        support=(*words.support(analysis), *filter(None, (retuned.sentence(analysis),))),
        facts=_facts(material, analysis),
        alerts=_alerts(material, analysis),
        sections=sections(Job(material, analysis, formats, brief)),
    )


def _answer(material: Material, analysis: Analysis) -> str:
    """A search answers with what its confirmation came to, everything else with the verdicts."""
    told = material.tuning.answer if material.tuning is not None else ""
    return told or words.answer(analysis)


def _facts(material: Material, analysis: Analysis) -> tuple[tuple[str, str], ...]:
    study, recipe = analysis.study, analysis.study.base_recipe
    seeds = f"{len(analysis.seeds)}" + (
        f" of {analysis.seeds_planned}" if len(analysis.seeds) != analysis.seeds_planned else ""
    )
    device = next(
        (
            t.environment.cpu or t.environment.device
            for t in material.trials
            if t.environment.device
        ),
        "",
    )
    facts = [
        ("Arms", str(len(analysis.arms))),
        ("Seeds", seeds if study.pairing == "seed" else ""),
        ("Trials", f"{analysis.trials_total:,}"),
        ("Epochs", "" if study.foreign else str(recipe.train.epochs)),
        ("Training time", "" if study.table else words.seconds(analysis.train_seconds_total)),
        ("Images", "" if study.foreign else recipe.data.name),
        ("Ran on", device),
        ("Table", study.table),
        ("Script", _script(study)),
    ]
    return tuple((label, value) for label, value in facts if value)


def _script(study: Study) -> str:
    """What of a user's training script was run, without the settings."""
    return study.runner or " ".join(
        word for word in study.command if "{" not in word and not word.startswith("-")
    )


def _alerts(material: Material, analysis: Analysis) -> tuple[Alert, ...]:
    alerts = []
    if material.incomplete or not analysis.finished:
        done, planned = len(analysis.seeds), analysis.seeds_planned
        alerts.append(
            Alert(
                "warn",
                f"Incomplete: {plural(done, 'seed')} of {planned} {'is' if done == 1 else 'are'} complete on every arm. "
                "The same command continues where it stopped.",
            )
        )
    if analysis.screening:
        alerts.append(
            Alert("warn", "Screening: arms may have been stopped early. Nothing here is a verdict.")
        )
    failed = [check for check in analysis.checks if check.level == "fail"]
    alerts += [
        Alert("fail", f"{check.name}: {check.what}" + (f" ({check.hint})" if check.hint else ""))
        for check in failed[:3]
    ]
    if len(failed) > 3:
        alerts.append(Alert("fail", f"{plural(len(failed) - 3, 'more check')} failed; see Checks."))
    return tuple(alerts)
