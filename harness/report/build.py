"""From material and analysis to a Report: heading, answer, alerts, facts and sections."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis import Analysis
from harness.report import answers, reproduction, retuned, searched, tables, words
from harness.report.document import Alert, Report
from harness.report.lookup import pixels
from harness.report.material import Material
from harness.report.sections import SectionInput, sections
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
    where = [
        study.name,
        *([f"profile {study.profile}"] if study.profile else []),
        _design(material),
    ]
    return Report(
        folder=study.folder,
        title=study.question,
        kicker=" · ".join(where),
        answer=answer(material, analysis),
        support=tuple(_support(material, analysis)),
        facts=_facts(material, analysis),
        alerts=_alerts(material, analysis),
        sections=sections(SectionInput(material, analysis, formats, brief)),
    )


def answer(material: Material, analysis: Analysis) -> str:
    """Return what answers the study: of a search its confirmation, of a reproduction theirs and ours, else the verdicts."""
    if material.tuning is not None and material.tuning.answer:
        return material.tuning.answer
    return reproduction.answer(analysis) or answers.answer(analysis)


def _design(material: Material) -> str:
    """The design in a word: a search is one, whatever its confirmation is."""
    if material.tuning is not None:
        return "search"
    return (
        "one arm"
        if not material.study.arms and material.study.design == "arms"
        else material.study.design
    )


def _support(material: Material, analysis: Analysis) -> list[str]:
    # first, for it is what such a study asks
    sentences = [retuned.sentence(analysis), *answers.support(analysis)]
    if material.tuning is not None:
        sentences += [searched.optimism(material.tuning), searched.package(material.tuning)]
    return [sentence for sentence in sentences if sentence]


# The tiles under the heading: the scale of what was run


def _facts(material: Material, analysis: Analysis) -> tuple[tuple[str, str], ...]:
    study = analysis.study
    seeds, planned = len(analysis.seeds), analysis.seeds_planned
    # all machines: a study is often finished on another one
    places = (trial.environment for trial in material.trials if trial.environment.device)
    machines = dict.fromkeys(place.cpu or place.device for place in places)
    searching = material.tuning is not None and not material.trials
    of_seeds = f"{seeds}" if seeds == planned else f"{seeds} of {planned}"
    facts = [
        ("Arms", "" if searching else str(len(analysis.arms))),
        ("Seeds", of_seeds if study.pairing == "seed" and not searching else ""),
        ("Rows" if study.table else "Trials", _trials(material, analysis)),
        *([] if study.foreign else _scale(material, analysis)),
        ("Time", "" if study.table else time_spent(material, analysis)),
        ("Ran on", "; ".join(machines)),
        ("Table", study.table),
        ("Script", _script(study)),
    ]
    return tuple((label, value) for label, value in facts if value)


def _trials(material: Material, analysis: Analysis) -> str:
    """How many trials were run; of a search those that searched and those that confirmed."""
    if material.tuning is None:
        return f"{analysis.trials_total:,}"
    return f"{len(material.tuning.history):,} to search, {analysis.trials_total:,} to confirm"


def _scale(material: Material, analysis: Analysis) -> list[tuple[str, str]]:
    """Images, pixels, weights and epochs, which say at a glance how small or large the study is."""
    recipe = analysis.study.base_recipe
    # the smallest and the largest net
    sizes = sorted({arm.params_m for arm in analysis.arms if arm.params_m})
    weights = " to ".join(f"{size:.3g} M" for size in dict.fromkeys((*sizes[:1], *sizes[-1:])))
    return [
        # how many of them draw the curves is said where the curves are
        ("Images", (material.provenance.data or recipe.data.name).partition(";")[0]),
        ("Pixels", pixels(analysis)),
        ("Weights", weights),
        ("Epochs", str(recipe.train.epochs)),
    ]


def time_spent(material: Material, analysis: Analysis) -> str:
    """Return what all trials took: training, evaluation and, of a search, its own training."""
    # often longer than the training of a small net
    evaluation = sum(trial.eval_seconds or 0.0 for trial in material.trials)
    training = analysis.train_seconds_total
    parts = [f"{words.seconds(training)} of training"] if training or not material.tuning else []
    if evaluation:
        parts.append(f"{words.seconds(evaluation)} of evaluation")
    if material.tuning is not None:
        search = material.tuning.seconds
        parts += [f"{words.seconds(search)} of training in the search"] if search else []
    apart = f" ({tables.SHARED})" if tables.shared(analysis) else ""
    return ", ".join(parts) + apart


def _script(study: Study) -> str:
    """What of a user's training script was run, without the settings."""
    return study.runner or " ".join(
        word for word in study.command if "{" not in word and not word.startswith("-")
    )


# What must be known before the numbers


def _alerts(material: Material, analysis: Analysis) -> tuple[Alert, ...]:
    alerts = []
    if material.tuning is not None and not material.trials:  # nothing to check yet
        text = f"Incomplete: {material.tuning.ended} of {plural(material.tuning.budget, 'trial')} of the search have ended, and none of its confirmation."
        return (Alert("warn", f"{text} The same command continues where it stopped."),)
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
    if analysis.study.reported is not None and len(analysis.arms) == 1:
        # nothing is to be judged, so that it is no fault to have no images to judge by
        failed = [check for check in failed if check.name != "validation"]
    alerts += [
        Alert("fail", f"{check.name}: {check.what}" + (f" ({check.hint})" if check.hint else ""))
        for check in failed[:3]
    ]
    if len(failed) > 3:
        alerts.append(Alert("fail", f"{plural(len(failed) - 3, 'more check')} failed; see Checks."))
    return tuple(alerts)
