"""One page over all reports: the question each answers, its verdicts, the best recipe, and what it cost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.analysis import Analysis
from harness.errors import HarnessError, ReportError
from harness.report import render, words
from harness.report.folder import read_analysis
from harness.report.lookup import by_verdict, in_order, leading, metric_of, summary_of
from harness.report.words import MARKS
from harness.text import plural


@dataclass(frozen=True, slots=True)
class Entry:
    """One report on the index.

    Attributes:
        folder: name of its folder.
        verdicts: (key of the mark, names) of every verdict that was given.
        best: the arm with the best mean, with its level.
        error: why the folder cannot be read; then everything else is empty.
    """

    folder: str
    question: str = ""
    answer: str = ""
    verdicts: tuple[tuple[str, str], ...] = ()
    best: str = ""
    facts: str = ""
    cost: str = ""
    error: str = ""


def entries(reports: Path) -> tuple[Entry, ...]:
    """Return an entry for every folder under ``reports`` that has an analysis, by name."""
    found = []
    for folder in sorted(path.parent for path in reports.glob("*/analysis.json")):
        try:
            found.append(_entry(folder, read_analysis(folder)))
        except HarnessError as error:
            found.append(Entry(folder.name, error=f"{error.message} ({error.hint})"))
    return tuple(found)


def _entry(folder: Path, analysis: Analysis) -> Entry:
    study = analysis.study
    groups = by_verdict(in_order(analysis, leading(analysis)))
    verdicts = tuple((name or "none", words.listed([e.term for e in some], 6)) for name, some in groups.items() if some)
    facts = [
        f"{study.name}" + (f", profile {study.profile}" if study.profile else ""),
        plural(len(analysis.arms), "arm"),
        plural(len(analysis.seeds), "seed"),
        plural(analysis.trials_total, "trial"),
        study.table or study.base_recipe.data.name,
        *([] if analysis.finished else ["incomplete"]),
        *(["a screening"] if analysis.screening else []),
    ]
    return Entry(
        folder=folder.name,
        question=study.question,
        answer=words.answer(analysis),
        verdicts=verdicts,
        best=_best(analysis),
        facts=" · ".join(facts),
        cost=_cost(folder, analysis),
    )


def _best(analysis: Analysis) -> str:
    """The arm with the best mean: a description of these runs, not a verdict."""
    metric = metric_of(analysis)
    if metric.higher_is_better is None or analysis.screening:
        return ""
    sign = 1.0 if metric.higher_is_better else -1.0
    scored = [
        (arm.name, s) for arm in analysis.arms if (s := summary_of(analysis, arm.name, metric.name)) and s.mean is not None
    ]
    if not scored:
        return ""
    name, summary = max(scored, key=lambda item: sign * (item[1].mean or 0.0))
    unit = words.unit_name(summary.unit, level=True)
    interval = words.bounds(summary.low, summary.high, summary.unit)
    told = f"{interval} ({words.confidence(analysis.study)}, n = {summary.n})" if interval else f"(n = {summary.n})"
    return f"{name}, {words.number(summary.mean, summary.unit)}{unit} {told}"


def _cost(folder: Path, analysis: Analysis) -> str:
    """Training time, and the energy where the trials carry it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if analysis.study.table:
        return "not in the table"
    told = f"{words.seconds(analysis.train_seconds_total)} of training"
    try:
        names = pq.read_schema(folder / "trials.parquet").names
        column = next((name for name in ("joules", "energy_joules") if name in names), None)
        if column is None:
            return told
        values = [v for v in pq.read_table(folder / "trials.parquet", columns=[column])[column].to_pylist() if v]
    except (OSError, pa.ArrowException):
        return told
    return f"{told}, {sum(values) / 3.6e6:.2g} kWh" if values else told


def write_index(reports: Path) -> Path:
    """Write ``index.html`` and ``README.md`` over all reports in a folder.

    Returns:
        Path of the page.

    Raises:
        ReportError: there is no report, or the folder cannot be written.
    """
    found = entries(reports)
    if not found:
        raise ReportError(f"there is no report in {reports}", "run a study first: `harness ablate`")
    page = reports / "index.html"
    _write(reports / "README.md", markdown(found))
    _write(page, render.page("index.html.j2", entries=found, marks=MARKS))
    return page


def markdown(found: Iterable[Entry]) -> str:
    """Return the landing page in Markdown."""
    lines = ["# Reports", "", "Generated from the folders here; each has its page, tables and trials.", ""]
    for entry in found:
        name = render.escape_markdown(entry.folder)
        if entry.error:
            lines += [f"## {name}", "", render.escape_markdown(entry.error), ""]
            continue
        lines += [f"## [{render.escape_markdown(entry.question)}]({entry.folder}/report.md)", ""]
        lines += [f"_{render.escape_markdown(entry.facts)}_", "", f"**{render.escape_markdown(entry.answer)}**", ""]
        lines += [
            f"- {MARKS[mark].symbol} {MARKS[mark].word}: {render.escape_markdown(names)}" for mark, names in entry.verdicts
        ]
        lines += [f"- best mean: {render.escape_markdown(entry.best)}"] if entry.best else []
        lines += [f"- cost: {render.escape_markdown(entry.cost)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _write(path: Path, text: str) -> None:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error}", "choose a folder that you may write to") from None
