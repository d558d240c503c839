"""Writing a report's folder, whole or not at all: made next to it first, then moved file by file, the page last."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from harness.analysis import Analysis, Retuning, analyze, effects_frame, join
from harness.analysis.tuning_facts import TuningFacts
from harness.report import latex, render, searched
from harness.report.build import build
from harness.report.document import Report
from harness.report.export import data_files
from harness.report.figures.canvas import FORMATS
from harness.report.folder import read_bench, read_folder
from harness.report.material import Material, Provenance, in_order
from harness.study.study import Study
from harness.study.trial import Curve, Metric, Outcomes, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SOMETIMES = (
    "effects.tex",
    "samples.png",
    "tuning.json",
    "retuning.json",
    "bench.json",
)  # an earlier report may have left them

# Fields that studies got after reports had been written: at their defaults they would only make
# those differ.
_ADDED_TO_STUDY = (
    "command",
    "runner",
    "timeout_seconds",
    "isolate",
    "env",
    "hash_imports",
    "metrics",
    "retune",
    "settings",
    "gap_margin_pp",
    "boundary",
    "reported",
    "pairing",
    "seed_names",
    "datasets",
    "family",
)
_SETTINGS = ("study", "overrides", "components", "recommended", "chosen")


@dataclass(frozen=True, slots=True)
class Written:
    """A report that was written.

    Attributes:
        folder: where it lies.
        index: its page.
        files: names of every file written, relative to the folder.
        analysis: the numbers.
        answer: the answer in one sentence.
        tuning: the result of the search, for a tune.
    """

    folder: Path
    index: Path
    files: tuple[str, ...]
    analysis: Analysis
    answer: str
    tuning: TuningFacts | None = None


def write_report(
    folder: Path | str,
    study: Study,
    trials: Sequence[Trial],
    *,
    curves: Mapping[str, Curve] | None = None,
    outcomes: Mapping[str, Outcomes] | None = None,
    attempts: Sequence[Trial] = (),
    labels: npt.NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    samples: Mapping[str, npt.NDArray[np.uint8]] | None = None,
    incomplete: bool = False,
    provenance: Provenance | None = None,
    tuning: TuningFacts | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seeds: Sequence[int] = (),
    screening: bool = False,
    changed: Sequence[str] = (),
    retuning: Retuning | None = None,
    provisional: bool = False,
) -> Written:
    """Analyse trials and write their report's folder.

    Args:
        folder: made when needed; files of other names in it are left alone.
        study: under its profile.
        trials: the final record of every cell that has one.
        curves: by cell key; default: each trial's own curve.
        outcomes: by cell key.
        attempts: earlier records of cells that were run again.
        labels: validation labels, int (N,).
        classes: names of the classes.
        samples: ``{arm: augmented images}``, uint8 (K, H, W, C).
        incomplete: the plan still has unfinished cells.
        provenance: commands, data and hardware.
        tuning: the search, for a tune.
        metrics: metrics beyond the built-in ones, by name.
        seeds: the planned seeds, where they are not 0, 1, 2, ...
        screening: arms could be stopped by epoch.
        changed: what of the plan changed after the first trial was claimed.
        retuning: the result of retuning the arms.
        provisional: fewer drawings and no stand-alone figures, for a run that still goes on.

    Returns:
        What was written, and the analysis.

    Raises:
        ReportError: the folder is not writable, or its disk is full.
    """
    provenance = provenance or Provenance()
    own = {trial.cell: trial.curve for trial in trials if len(trial.curve)}
    material = Material(
        study=study,
        trials=tuple(trials),
        attempts=tuple(attempts),
        curves={**own, **(curves or {})},
        outcomes=dict(outcomes or {}),
        labels_N=labels,
        classes=tuple(classes),
        samples=dict(samples or {}),
        provenance=provenance,
        tuning=tuning,
        bench=read_bench(Path(provenance.bench) if provenance.bench else None),
        incomplete=incomplete,
        metrics=dict(metrics or {}),
        seeds=tuple(seeds),
        screening=screening,
        changed=tuple(changed),
        retuning=retuning,
    )
    return write_material(Path(folder), material, provisional=provisional)


def write_material(
    folder: Path, material: Material, *, provisional: bool = False, data: bool = True
) -> Written:
    """Write a report's folder from its material; without ``data``, only what is made of the data files.

    Raises:
        ReportError: the folder is not writable, or its disk is full.
    """
    material = replace(
        material, trials=in_order(material.trials), attempts=in_order(material.attempts)
    )
    # before anything is drawn, which needs the memory that the tables give back
    files = data_files(material) if data else {}
    analysis = analysed(material)
    # an answer is made of the trials, so that new rules reach old searches
    material = replace(material, tuning=searched.settled(material, analysis))
    report = build(material, analysis, formats=() if provisional else FORMATS, brief=provisional)
    if material.tuning is not None:  # its answer is made of the trials, and changes with the rules
        files |= {"tuning.json": (material.tuning.model_dump_json(indent=1) + "\n").encode()}
    files |= made_files(report, analysis, material.tuning, figures=not provisional)
    _replace(folder, files, stale=data)
    return Written(
        folder, folder / "index.html", tuple(files), analysis, report.answer, material.tuning
    )


def analysed(material: Material) -> Analysis:
    """Return the numbers of a report as they are stored and shown: with 6 significant digits.

    What is zero or equal up to rounding has become so before, at the scale of the scores
    (`harness.stats.on_grid`).
    """
    analysis = analyze(
        material.study,
        material.trials,
        curves=material.curves,
        outcomes=material.outcomes,
        labels=material.labels_N,
        classes=material.classes,
        data_fingerprint=material.provenance.data_fingerprint,
        metrics=material.metrics,
        seeds=material.seeds or None,
        screening=material.screening,
        changed=material.changed,
    )
    if material.retuning is not None:
        analysis = analysis.model_copy(update={"retuned": join(analysis, material.retuning)})
    tuning = searched.settled(material, analysis)
    if tuning is not None:
        analysis = analysis.model_copy(update={"reasons": searched.adopted(tuning, analysis)})
    rounded: Analysis = _rounded(analysis)  # what is shown is what is stored
    return rounded


def made_files(
    report: Report, analysis: Analysis, tuning: TuningFacts | None = None, *, figures: bool = True
) -> dict[str, bytes]:
    """Return every file that is made of the data files, as ``{name: bytes}``; the page is the last."""
    files: dict[str, bytes] = {
        "analysis.json": analysis_json(analysis).encode(),
        "effects.csv": effects_csv(analysis).encode(),
    }
    files |= {name: text.encode() for name, text in latex.files(analysis, tuning).items()}
    if figures:
        for drawn in report.figures:
            files |= {
                f"figures/{drawn.id}.{suffix}": payload for suffix, payload in drawn.files.items()
            }
        files["report.md"] = render.markdown(report).encode()
    files["index.html"] = render.html(report).encode()
    return files


def analysis_json(analysis: Analysis) -> str:
    """Return the analysis as JSON; of what later versions added to it only what is not at its default."""
    content = analysis.model_dump(mode="json", by_alias=True)
    before = Study(question="?", margin_pp=1.0, seeds=1).model_dump(mode="json")
    added: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
        (
            content,
            {"retuned": None, "kept": [], "recommended_arm": "", "images": 0},
            ("retuned", "kept", "recommended_arm", "images"),
        ),
        *((arm, {"trouble": ""}, ("trouble",)) for arm in content["arms"]),
        *(
            (effect, {"sd_images": None}, ("sd_images",))
            for effect in (*content["effects"], *content["orders"])
        ),
        (content["study"], before, _ADDED_TO_STUDY),
        (content["study"]["search"], before["search"], ("retune_trials",)),
    ]
    for part, default, names in added:
        for name in names:
            if part[name] == default[name]:
                del part[name]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def effects_csv(analysis: Analysis) -> str:
    """Return the table of effects as CSV, numbers with 6 significant digits."""
    return str(
        effects_frame(analysis).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    )


def rebuild(folder: Path, *, into: Path | None = None) -> Written:
    """Build a report again from its exported folder alone; its data files are read and not touched.

    Args:
        folder: what `write_report` wrote, or a copy of its data files.
        into: write there, with the data files, instead of in place.

    Raises:
        ReportError: a data file is missing or unreadable, or the folder is not writable.
    """
    material = read_folder(folder)
    if into is None:
        return write_material(folder, material, data=False)
    return write_material(into, material)


def _rounded(value: Any) -> Any:
    """Return a tree of values with every number at 6 significant digits, the study's own settings left as they are."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={key: _rounded(item) for key, item in value if key not in _SETTINGS}
        )
    if isinstance(value, dict):
        return {key: item if key in _SETTINGS else _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item) for item in value)
    return value


def _replace(folder: Path, files: Mapping[str, bytes], *, stale: bool) -> None:
    """Move files into a folder, each at once, the last one last; then remove what an earlier report left there."""
    from harness.errors import ReportError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # on the same disk, so that moving a file is one step
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name, payload in files.items():
                path = made / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(payload)
            for name in files:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (made / name).replace(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        # a provisional report leaves the figures of the last whole one
        wrote_figures = any(name.startswith("figures/") for name in files)
        old = [
            path
            for path in (folder / "figures").glob("*.*")
            if wrote_figures and f"figures/{path.name}" not in files
        ]
        old += [folder / name for name in _SOMETIMES if stale and name not in files]
        for path in old:
            path.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = (
            "make room on its disk, then write it again"
            if full
            else "choose a folder that you may write to"
        )
        raise ReportError(f"could not write {folder}: {error.strerror or error}", hint) from error
