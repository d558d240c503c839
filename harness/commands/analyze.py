"""``analyze``: the report of a study from a table of finished runs. Needs neither torch nor images."""

from __future__ import annotations

import gc
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from harness.analysis.table_options import Columns, TableOptions, flags_of, options_of
from harness.errors import HarnessError, ReportError, UsageError
from harness.text import plural

if TYPE_CHECKING:
    from harness.analysis.column_choice import ColumnChoice, ColumnFacts
    from harness.analysis.runs_table import Runs
    from harness.analysis.sources import TableSource
    from harness.report import Written

Sources = Path | str | Sequence[Path | str]


@dataclass(frozen=True, slots=True)
class TableLook:
    """A table before anything is analysed: its columns, and what they would be taken for.

    Attributes:
        source: as it was read.
        columns: what each looks like.
        choices: what was not given and is proposed, with the reasons.
        options: all of it together.
        command: the same as a command; a word in capitals takes the place of an option not found.
        blanks: ``(word in capitals, what to put in its place, and why)``.
        notes: what the command would leave out or assume, a sentence each.
        obstacle: why the command would give no report; None where it would give one.
    """

    source: TableSource
    columns: tuple[ColumnFacts, ...]
    choices: tuple[ColumnChoice, ...]
    options: TableOptions
    command: str
    blanks: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    obstacle: HarnessError | None


def analyze_table(
    source: Sources,
    *,
    reports: Path = Path("reports"),
    name: str = "",
    **columns: Unpack[Columns],
) -> tuple[Written, Runs]:
    """Analyse a table of finished runs and write its report under ``reports``.

    Args:
        source: a file, folder, glob, pattern of paths or Optuna storage, or several of them.
        reports: folder of all reports.
        name: of the report's folder; the source's own where it is empty.
        columns: ``arm``, ``metric``, ``baseline`` and ``margin``, and if wanted the others that
            ``harness.analysis.table_options.TableOptions`` describes.

    Returns:
        What was written, and the table as it was read.

    Raises:
        ReportError: the table is unreadable, or does not say what is needed; the hint says what to
            change.
        UsageError: an argument has no meaning here.
    """
    from harness.analysis.sources import read_source

    sources = _listed(source)
    return report_on(read_source(sources), sources, options_of(columns), reports=reports, name=name)


def look_at(source: Sources, **columns: Unpack[Columns]) -> TableLook:
    """Read a table and propose how to analyse it; nothing is analysed or written.

    Args:
        source: as ``analyze_table`` takes it.
        columns: what is known already.

    Raises:
        ReportError: the table is unreadable.
        UsageError: an argument has no meaning here.
    """
    from harness.analysis.column_choice import column_facts, proposed, tried
    from harness.analysis.sources import read_source
    from harness.analysis.table_rows import given_faults, listed_columns

    sources, given = _listed(source), options_of(columns)
    read = read_source(sources)
    if faults := given_faults(read, given):
        asked = len(given.missing) < 4  # a report, rather than a look
        faults += [f"--{name} is not given" for name in given.missing if asked]
        raise ReportError(f"{read.name}: {'; '.join(faults)}", listed_columns(read))
    options, choices = proposed(read, given)
    notes: tuple[str, ...] = ()
    facts = tuple(column_facts(read))
    obstacle = _nothing_to_compare(facts, options, read.name)
    blanks = _blanks(options)
    if obstacle is None and not set(options.missing) - {"margin"} and options.n != "N":
        # where scores are such that not even a margin can be proposed, they are what is in the way
        whole, more, runs = tried(read, replace(options, margin=options.margin or 1.0))
        choices += more
        options = replace(whole, margin=options.margin)
        if isinstance(runs, HarnessError):
            obstacle = runs
        else:
            notes = runs.notes[len(read.notes) + 3 :]
    return TableLook(
        source=read,
        columns=facts,
        choices=tuple(choices),
        options=options,
        command=command_of(sources, options),
        blanks=blanks,
        notes=notes,
        obstacle=obstacle,
    )


def _nothing_to_compare(
    facts: Sequence[ColumnFacts], options: TableOptions, name: str
) -> HarnessError | None:
    """Why a table has no two arms: no column is left that could tell them apart."""
    taken = {*options.seed, *options.dataset, options.metric, options.last, options.train}
    facts = [fact for fact in facts if fact.name not in taken]
    if options.baseline or not options.metric or any(fact.distinct > 1 for fact in facts):
        return None
    same = [f"{fact.name} is {fact.samples[0]!r} in every row" for fact in facts if fact.samples]
    return ReportError(
        f"{name}: there is nothing to compare: {'; '.join(same[:4]) or 'no column names arms'}",
        "add the runs of another arm, in rows under the same columns",
    )


_BLANKS = {
    "arm": "the column that names what is compared: no column looks like it",
    "metric": "the column of the score that decides: no column of numbers is named like one",
    "baseline": "the arm that the others are compared with, as the column of arms has it",
    "margin": "the smallest difference worth acting on, in the unit of the score",
    "n": "the number of runs behind each mean, which the table does not say: a number or a column",
}


def _blanks(options: TableOptions) -> tuple[tuple[str, str], ...]:
    names = [*options.missing, *(["n"] if options.n == "N" else [])]
    return tuple((name.upper(), _BLANKS[name]) for name in names)


def check_pairing(source: TableSource, options: TableOptions) -> TableSource:
    """Return the source, but refuse to leave runs unpaired where a column looks like a seed and nobody said what to do about it.

    Raises:
        UsageError: neither ``--seed`` nor ``--unpaired`` was given, and there is such a column.
    """
    from harness.analysis.column_choice import proposed

    if options.seed or options.unpaired or options.n or options.missing:
        return source
    likely = proposed(source, replace(options, seed=()))[0].seed
    if likely:
        raise UsageError(
            f"runs are paired by seed, and column {likely[0]!r} looks like one",
            f"pass --seed '{likely[0]}' to pair them, or --unpaired to compare arms as groups",
        )
    return source


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep Python's collector from walking a hundred thousand trials again and again: all of them stay to the end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def report_on(
    source: TableSource,
    sources: Sequence[str],
    options: TableOptions,
    *,
    reports: Path = Path("reports"),
    name: str = "",
) -> tuple[Written, Runs]:
    """Analyse a source that has been read; arguments, result and errors as ``analyze_table`` has them."""
    from harness.analysis.runs_table import runs_of, study_name
    from harness.report import Provenance, write_index, write_report

    origin = _origin(source, sources)
    with _collector_at_rest():
        runs = runs_of(source, options)
    del source  # its cells have become trials, and would fill the memory twice
    if name and study_name(name) != name:
        raise UsageError(
            f"--name {name!r} is no name for a folder",
            "use letters, digits, '.', '_' and '-', and no ending of a file",
        )
    study = runs.study.model_copy(update={"name": name or runs.study.name})
    folder = reports / study.name
    command = command_of(sources, options, name=name)
    _refuse_other_report(folder, sources)
    with _collector_at_rest():
        written = write_report(
            folder,
            study,
            runs.trials,
            metrics=runs.metrics,
            seeds=runs.seeds,
            provenance=Provenance(commands=(command,), data=origin),
        )
        write_index(reports)
    return written, runs


def _listed(source: Sources) -> list[str]:
    return [str(s) for s in ([source] if isinstance(source, (str, Path)) else source)]


def _origin(source: TableSource, sources: Sequence[str]) -> str:
    """What the report was made of, in one line, with the digest of a file."""
    told = source.sentence
    if len(sources) == 1 and (file := Path(sources[0])).is_file():
        told += f", sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    return told


def command_of(sources: Sequence[str], options: TableOptions, *, name: str = "") -> str:
    """Return the command that makes a report, with its missing options in capitals."""
    words = ["harness", "analyze", *map(_place, sources)]
    for flag, value in flags_of(options):
        words += [flag, value] if value else [flag]
    if not options.seed and not options.unpaired and not options.n:
        words += ["--unpaired"] if options.arm and options.metric else []
    for missing in options.missing:
        words += [f"--{missing}", missing.upper()]
    return shlex.join(words + (["--name", name] if name else []))


def _place(text: str) -> str:
    """A path as seen from here, which is where the report's command is run; absolute only where it lies elsewhere."""
    file, here = Path(text), Path.cwd()
    if file.is_absolute() and file.is_relative_to(here):
        return str(file.relative_to(here))
    return text


def _refuse_other_report(folder: Path, sources: Sequence[str]) -> None:
    """Keep a report from being overwritten by that of another source, or of a study that was trained."""
    from harness.report.folder import read_origin

    if not (folder / "study.toml").is_file():
        return
    hint = "pass --name to give this report another name"
    try:
        study, made = read_origin(folder)
    except HarnessError:
        raise ReportError(
            f"{folder} holds a report whose source is not known, which this one would replace", hint
        ) from None
    if not study.table:
        raise ReportError(
            f"{folder} holds the report of a study that was trained, which this one would replace",
            hint,
        )
    words = shlex.split(made.commands[0]) if made.commands else []
    named = words[2 : next((i for i, w in enumerate(words) if w.startswith("--")), len(words))]
    if [Path(text).absolute() for text in named] != [Path(_place(t)).absolute() for t in sources]:
        shown = ", ".join(named) or study.table
        raise ReportError(
            f"{folder} holds the report of {plural(len(named) or 1, 'other source')}: {shown}", hint
        )
