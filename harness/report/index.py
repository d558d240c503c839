"""One page over all reports: the question each answers, its verdicts, the command, and what it cost where.

``index.html`` holds all of them; ``README.md``, which is committed, leaves out those of the profile
quick, which are not. It is written only when every report is made again: a run of yours changes no
committed file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from harness.analysis import Analysis
from harness.analysis.tuning_facts import TuningFacts
from harness.errors import HarnessError, ReportError
from harness.report import answers, render, reproduction, retuned, tables, words
from harness.report.folder import read_analysis, read_parquet, read_tuning
from harness.report.lookup import by_verdict, in_order, leading, metric_of, pixels
from harness.report.material import Provenance
from harness.report.words import MARKS
from harness.study.profiles import PROFILES
from harness.text import plural

_NOT_COMMITTED = "-quick"
APART = "Each report is of its own recipe, images and size: where two of them disagree on a component, neither refutes the other."


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One report on the index.

    Attributes:
        folder: name of its folder.
        profile: the size at which it was run.
        scale: images, pixels and weights.
        largest: the largest difference, with its interval; empty where nothing is compared.
        seeds: complete on every arm.
        planned: seeds that the study asks for.
        verdicts: (key of the mark, names) of every verdict that was given.
        retuned: what retuning did to them, or that it is still to come; empty for a study without.
        commands: what makes its trials again.
        ran: machine and day of the last trial.
        error: why the folder is unreadable; then everything else is empty.
    """

    folder: str
    profile: str = ""
    scale: str = ""
    largest: str = ""
    seeds: int = 0
    planned: int = 0
    question: str = ""
    answer: str = ""
    verdicts: tuple[tuple[str, str], ...] = ()
    retuned: str = ""
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
        (
            name or "none",
            words.listed([f"{words.named(e.term)}{words.against(analysis, e)}" for e in some], 6),
        )
        for name, some in groups.items()
        if some and analysis.trials_total  # a search without confirmation has its answer alone
    )
    facts = [
        f"{study.name}" + (f", profile {study.profile}" if study.profile else ""),
        *_counts(analysis, tuning),
        study.table or ("a training script" if study.scripted else study.base_recipe.data.name),
        f"{metric_of(analysis).label}, {words.direction(metric_of(analysis))}",
        *([] if analysis.finished else ["incomplete"]),
        *(["a screening"] if analysis.screening else []),
    ]
    return IndexEntry(
        folder=folder.name,
        profile=study.profile,
        scale=_scale(analysis, origin),
        largest=_of_test(tuning) if tuning is not None else _largest(analysis),
        seeds=len(analysis.seeds),
        planned=analysis.seeds_planned,
        question=study.question,
        answer=(tuning.answer if tuning is not None else "")
        or reproduction.answer(analysis)
        or answers.answer(analysis),
        verdicts=verdicts,
        retuned=retuned.sentence(analysis),
        facts=" · ".join(facts),
        cost=_cost(analysis, tuning, *spent),
        commands=origin.commands,
        ran=", ".join(part for part in (origin.hardware, max(days, default="")) if part),
    )


def _scale(analysis: Analysis, origin: Provenance) -> str:
    """Images, pixels and weights; empty where they are not ours to know."""
    if analysis.study.foreign:
        return ""
    recipe = analysis.study.base_recipe
    base = next((arm for arm in analysis.arms if arm.name == analysis.study.baseline), None)
    side = f"{pixels(analysis)} pixels" if pixels(analysis) else ""
    images = (origin.data or recipe.data.name).partition(";")[0].replace(" val,", " validation,")
    weights = f"{base.params_m:.3g} M weights" if base is not None and base.params_m else ""
    return ", ".join(part for part in (images, side, weights) if part)


def _largest(analysis: Analysis) -> str:
    """The judged difference that is farthest from zero, with its interval."""
    judged = [e for e in leading(analysis) if e.estimate is not None and e.verdict]
    # what is compared with another arm than the baseline says less of the recipe
    first = [e for e in judged if not words.against(analysis, e)]
    if not judged:
        return ""
    top = max(first or judged, key=lambda effect: abs(effect.estimate or 0.0))
    return f"{top.term}{words.against(analysis, top)} {words.difference(top)}"


def _of_test(tuning: TuningFacts) -> str:
    """What the recipe of a search gains on the test set, which the search never saw."""
    chosen = tuning.confirmed
    if chosen is None or chosen.test is None or not chosen.verdict:
        return ""
    low, high, new = chosen.test_image_low, chosen.test_image_high, " for new seeds and images"
    if low is None or high is None:
        low, high, new = chosen.test_low, chosen.test_high, ""
    if low is None or high is None:
        return ""
    gain = words.number(100 * chosen.test, signed=True)
    interval = words.bounds(100 * low, 100 * high, signed=True)
    return f"{chosen.name} on test {gain} pp {interval}{new}"


def _counts(analysis: Analysis, tuning: TuningFacts | None) -> list[str]:
    """What was run: arms, seeds and trials, and of a search its own trials."""
    counts = []
    if tuning is not None:
        counts.append(f"{plural(len(tuning.history), 'trial')} to search")
    if analysis.trials_total or tuning is None:
        counts += [plural(len(analysis.arms), "arm"), plural(len(analysis.seeds), "seed")]
        counts.append(f"{plural(analysis.trials_total, 'trial')}{' to confirm' if tuning else ''}")
    return counts


def _cost(analysis: Analysis, tuning: TuningFacts | None, evaluation: float, joules: float) -> str:
    """Seconds of training, of evaluation and of a search, and the energy where the trials carry it."""
    if analysis.study.table:
        return "not in the table"
    training = analysis.train_seconds_total
    search = tuning.seconds if tuning is not None else 0.0
    parts = [f"{words.seconds(training)} of training"] if training or not search else []
    parts += [f"{words.seconds(evaluation)} of evaluation"] if evaluation else []
    parts += [f"{words.seconds(search)} of training in the search"] if search else []
    parts += [f"{joules / 3.6e6:.2g} kWh"] if joules else []
    text = ", ".join(parts)
    return f"{text} ({tables.SHARED})" if tables.shared(analysis) else text


def _trials(path: Path) -> tuple[Provenance, list[str], tuple[float, float]]:
    """Return where a table of trials comes from, the days on which they started, and (evaluation in s, energy in J)."""
    content = read_parquet(path, columns=["started", "readings", "eval_seconds"])
    try:
        facts = content.schema.metadata or {}
        origin = Provenance.model_validate_json(facts.get(b"harness.provenance", b"{}"))
        columns = {name: content[name].to_pylist() for name in content.column_names}
        joules = sum(
            json.loads(text).get("joules", 0.0) for text in columns.get("readings", ()) if text
        )
    except ValueError as error:
        raise ReportError(
            f"could not read {path}: {error}", "copy it again from where it was written"
        ) from None
    days = [started[:10] for started in columns.get("started", ()) if started]
    return origin, days, (sum(filter(None, columns.get("eval_seconds", ()))), joules)


def write_index(reports: Path, *, landing: bool = False) -> Path:
    """Write ``index.html`` over all reports in a folder.

    Args:
        reports: the folder.
        landing: also write ``README.md``, over those that are to be committed.

    Returns:
        Path of the page.

    Raises:
        ReportError: there is no report, or the folder is not writable.
    """
    found = entries(reports)
    if not found:
        raise ReportError(f"there is no report in {reports}", "run a study first: `harness ablate`")
    page = reports / "index.html"
    # quick reports are not committed, and a link to one would lead nowhere
    kept = [entry for entry in found if not entry.folder.endswith(_NOT_COMMITTED)]
    if landing and kept:
        _write(reports / "README.md", markdown(kept))
    _write(page, render.page("index.html.j2", entries=found, marks=MARKS, apart=APART))
    return page


def markdown(listed: Sequence[IndexEntry]) -> str:
    """Return the landing page in Markdown: a table a size, the largest size first, then every report folded."""
    lines = [
        "# Reports",
        "",
        "`harness report --all` makes this page and every report here again from their own data, without training.",
        "The numbers of a report are in its `effects.csv`, its trials in `trials.parquet`.",
        APART,
        "",
    ]
    for entry in listed:
        if entry.error:
            lines += [f"**{_text(entry.folder)}**: {_text(entry.error)}", ""]
    readable = [entry for entry in listed if not entry.error]
    for profile in sorted({entry.profile for entry in readable}, key=_size):
        lines += _findings(profile, [entry for entry in readable if entry.profile == profile])

    lines += ["## Each report", ""]
    for entry in readable:
        lines += _folded(entry)
    return "\n".join(lines).rstrip() + "\n"


def _text(text: str) -> str:
    return render.escape_markdown(text)


def _size(profile: str) -> tuple[int, str]:
    """Order profiles from the largest to the smallest, then those of a study's own."""
    known = [*reversed(PROFILES)]
    return (known.index(profile) if profile in known else len(known), profile)


def _findings(profile: str, listed: Sequence[IndexEntry]) -> list[str]:
    """Return the table of one size, and a line that says what it was run on."""
    lines = [
        f"## Profile {_text(profile)}" if profile else "## Tables of runs",
        "",
        "| question | verdicts | largest difference [95 % interval] | n seeds | report |",
        "|---|---|---|---|---|",
    ]
    for entry in listed:
        verdicts = "; ".join(
            f"{MARKS[mark].symbol} {MARKS[mark].word}: {_text(names)}"
            for mark, names in entry.verdicts
        )
        # verdicts of a study that goes on are provisional
        of_seeds = (
            f"{entry.seeds} of {entry.planned}" if entry.planned > entry.seeds else entry.seeds
        )
        told = f"{verdicts}. {_text(entry.retuned)}" if entry.retuned else verdicts
        cells = (_text(entry.question), told or _text(entry.answer), _text(entry.largest))
        row = " | ".join(cell.replace("|", "\\|") or "-" for cell in cells)
        lines.append(f"| {row} | {of_seeds} | [{_text(entry.folder)}]({entry.folder}/report.md) |")

    ran = "; ".join(entry.ran.rpartition(", ")[0] for entry in listed if entry.ran)
    machines = sorted({machine for machine in ran.split("; ") if machine})
    # of a machine whose model is known, the bare device says nothing more
    machines = [one for one in machines if not any(m.startswith(f"{one} (") for m in machines)]
    seeds = sorted({entry.seeds for entry in listed if entry.seeds})
    least = f"{seeds[0]} to " if seeds[1:] else ""
    n = (
        [f"n = {least}{plural(seeds[-1], 'seed')}"]
        if any(e.scale for e in listed) and seeds
        else []
    )
    about = "; ".join([*_scales(listed), *n, *machines])
    return [*lines, "", *([f"{_text(about)}.", ""] if about else [])]


def _scales(listed: Sequence[IndexEntry]) -> list[str]:
    """Return the images and weights of a size; with the reports' names where they are not all the same."""
    of: dict[str, list[str]] = {}
    for entry in listed:
        if entry.scale:
            of.setdefault(entry.scale, []).append(entry.folder)
    if len(of) < 2:
        return list(of)
    # the one that most reports have comes first, by count; it needs no list of them
    by_count = sorted(of, key=lambda scale: -len(of[scale]))
    rest = [f"{scale} in {words.listed(of[scale], 12)}" for scale in by_count[1:]]
    return [f"{by_count[0]} in {plural(len(of[by_count[0]]), 'report')}", *rest]


def _folded(entry: IndexEntry) -> list[str]:
    """Return what the page says of one report, folded: answer, cost, machine, command and files."""
    files = (
        ("report", "report.md"),
        ("page", "index.html"),
        ("effects", "effects.csv"),
        ("trials", "trials.parquet"),
    )
    return [
        f"<details><summary>{escape(entry.folder)}: {escape(entry.question)}</summary>",
        "",
        f"{_text(entry.facts)}",
        "",
        f"**{_text(entry.answer)}**",
        "",
        *([_text(entry.retuned), ""] if entry.retuned else []),
        f"- cost: {_text(entry.cost)}",
        *([f"- ran on: {_text(entry.ran)}"] if entry.ran else []),
        *(f"- command: `{command}`" for command in entry.commands),
        f"- files: {', '.join(f'[{name}]({entry.folder}/{file})' for name, file in files)}",
        "",
        "</details>",
        "",
    ]


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
            f"could not write {path}: {error}", "choose a folder that you may write to"
        ) from None
