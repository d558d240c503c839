"""One page over all reports: the question each answers, its verdicts, the command, and what it cost where.

``index.html`` holds all of them; ``README.md``, which is committed, leaves out those of the profile
quick, which are not.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.analysis import Analysis
from harness.errors import HarnessError, ReportError
from harness.report import answers, render, reproduction, words
from harness.report.folder import read_analysis, read_parquet, read_tuning
from harness.report.lookup import by_verdict, in_order, leading, metric_of
from harness.report.material import Provenance
from harness.report.words import MARKS
from harness.text import plural

_NOT_COMMITTED = "-quick"
APART = "Each report is of its own recipe, images and size: where two of them disagree on a component, neither refutes the other."


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One report on the index.

    Attributes:
        folder: name of its folder.
        verdicts: (key of the mark, names) of every verdict that was given.
        commands: what makes its trials again.
        ran: machine and day of the last trial.
        error: why the folder cannot be read; then everything else is empty.
    """

    folder: str
    question: str = ""
    answer: str = ""
    verdicts: tuple[tuple[str, str], ...] = ()
    facts: str = ""
    cost: str = ""
    commands: tuple[str, ...] = ()
    ran: str = ""
    error: str = ""


def entries(reports: Path) -> tuple[IndexEntry, ...]:
    """Return an entry for every folder under ``reports`` that has an analysis, by name."""
    found = []
    for folder in sorted(path.parent for path in reports.glob("*/analysis.json")):
        try:
            found.append(_entry(folder, read_analysis(folder)))
        except HarnessError as error:
            found.append(IndexEntry(folder.name, error=f"{error.message} ({error.hint})"))
    return tuple(found)


def _entry(folder: Path, analysis: Analysis) -> IndexEntry:
    study = analysis.study
    tuning = read_tuning(folder / "tuning.json")
    origin, days, spent = _trials(folder / "trials.parquet")
    # the order of the report's own table
    groups = by_verdict(in_order(analysis, leading(analysis)))
    verdicts = tuple(
        (name or "none", words.listed([e.term for e in some], 6))
        for name, some in groups.items()
        if some
    )
    facts = [
        f"{study.name}" + (f", profile {study.profile}" if study.profile else ""),
        plural(len(analysis.arms), "arm"),
        plural(len(analysis.seeds), "seed"),
        plural(analysis.trials_total, "trial"),
        study.table or ("a training script" if study.scripted else study.base_recipe.data.name),
        f"{metric_of(analysis).label}, {words.direction(metric_of(analysis))}",
        *([] if analysis.finished else ["incomplete"]),
        *(["a screening"] if analysis.screening else []),
    ]
    return IndexEntry(
        folder=folder.name,
        question=study.question,
        answer=(tuning.answer if tuning is not None else "")
        or reproduction.answer(analysis)
        or answers.answer(analysis),
        verdicts=verdicts,
        facts=" · ".join(facts),
        cost=_cost(analysis, *spent),
        commands=origin.commands,
        ran=", ".join(part for part in (origin.hardware, max(days, default="")) if part),
    )


def _cost(analysis: Analysis, evaluation: float, joules: float) -> str:
    """Seconds of training and of evaluation, and the energy where the trials carry it."""
    if analysis.study.table:
        return "not in the table"
    text = f"{words.seconds(analysis.train_seconds_total)} of training"
    text += f", {words.seconds(evaluation)} of evaluation" if evaluation else ""
    return f"{text}, {joules / 3.6e6:.2g} kWh" if joules else text


def _trials(path: Path) -> tuple[Provenance, list[str], tuple[float, float]]:
    """Return where a table of trials comes from, the days on which they started, and (evaluation in s, energy in J)."""
    content = read_parquet(path)
    try:
        facts = content.schema.metadata or {}
        origin = Provenance.model_validate_json(facts.get(b"harness.provenance", b"{}"))
        columns = {
            name: content[name].to_pylist()
            for name in ("started", "readings", "eval_seconds")
            if name in content.column_names
        }
        joules = sum(
            json.loads(text).get("joules", 0.0) for text in columns.get("readings", ()) if text
        )
    except ValueError as error:
        raise ReportError(
            f"{path} cannot be read: {error}", "copy it again from where it was written"
        ) from None
    days = [started[:10] for started in columns.get("started", ()) if started]
    return origin, days, (sum(filter(None, columns.get("eval_seconds", ()))), joules)


def write_index(reports: Path) -> Path:
    """Write ``index.html`` over all reports in a folder, and ``README.md`` over those that are to be committed.

    Returns:
        Path of the page.

    Raises:
        ReportError: there is no report, or the folder cannot be written.
    """
    found = entries(reports)
    if not found:
        raise ReportError(f"there is no report in {reports}", "run a study first: `harness ablate`")
    page = reports / "index.html"
    # quick reports are not committed, and a link to one would lead nowhere
    kept = [entry for entry in found if not entry.folder.endswith(_NOT_COMMITTED)]
    if kept:
        _write(reports / "README.md", markdown(kept))
    _write(page, render.page("index.html.j2", entries=found, marks=MARKS, apart=APART))
    return page


def markdown(found: Iterable[IndexEntry]) -> str:
    """Return the landing page in Markdown."""
    told = render.escape_markdown
    lines = [
        "# Reports",
        "",
        "Generated by `harness report --all`, which makes every report here again from its own data, without training.",
        "A number of a report is in its `effects.csv`, the trials behind it in its `trials.parquet`.",
        APART,
        "",
    ]
    for entry in found:
        if entry.error:
            lines += [f"## {told(entry.folder)}", "", told(entry.error), ""]
            continue
        lines += [f"## [{told(entry.question)}]({entry.folder}/report.md)", ""]
        lines += [f"_{told(entry.facts)}_", "", f"**{told(entry.answer)}**", ""]
        lines += [
            f"- {MARKS[mark].symbol} {MARKS[mark].word}: {told(names)}"
            for mark, names in entry.verdicts
        ]
        lines += [f"- cost: {told(entry.cost)}"]
        lines += [f"- ran on: {told(entry.ran)}"] if entry.ran else []
        lines += [f"- command: `{command}`" for command in entry.commands]
        files = (
            ("report", "report.md"),
            ("page", "index.html"),
            ("effects", "effects.csv"),
            ("trials", "trials.parquet"),
        )
        lines += [
            f"- files: {', '.join(f'[{name}]({entry.folder}/{file})' for name, file in files)}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _write(path: Path, text: str) -> None:
    try:
        # moved whole into place: a reader never sees half a page
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise ReportError(
            f"{path} cannot be written: {error}", "choose a folder that you may write to"
        ) from None
