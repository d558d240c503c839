"""Tables of finished runs that somebody else's program made: a CSV file, read as a study with its trials.

A row is one run: which arm, which seed, what it scored. Arms are known by the names in the table;
seeds pair the rows.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from harness.analysis.table import gap_name
from harness.errors import ReportError, UsageError, did_you_mean
from harness.study.recipe import Recipe, digest
from harness.study.study import HandArm, Study
from harness.study.trial import METRICS, Metric, Trial
from harness.text import plural

Unit = Literal["auto", "percent", "share", "number"]
Rows = list[tuple[int, Mapping[str, str]]]

_MOST_SHARE = 1.5  # shares end at 1; beyond this a column of scores is taken to be in percent
_MOST_SHOWN = 4  # rows named in one message
_LONGEST_NAME = 60  # characters of an arm's name
# Words in the names of scores that should be small. They make us ask; they decide nothing.
_SMALL = frozenset(
    {
        "nll",
        "mse",
        "rmse",
        "mae",
        "mape",
        "bpd",
        "perplexity",
        "ppl",
        "wer",
        "cer",
        "eer",
        "fid",
        "ece",
        "brier",
        "regret",
        "cost",
        "latency",
        "time",
        "seconds",
        "minutes",
        "hours",
        "ms",
        "deviance",
        "divergence",
        "distance",
        "rank",
        "fpr",
        "fnr",
        "mistakes",
    }
)
_SMALL_ENDS = (
    "loss",
    "losses",
    "error",
    "errors",
    "err",
    "entropy",
    "misclassification",
    "misclassified",
)
_MISSING = {"", "na", "n/a", "none", "null", "-"}
# pandas writes whole numbers with a point once one of them is missing
_WHOLE = re.compile(r"\d{1,18}(\.0*)?")


@dataclass(frozen=True, slots=True)
class Runs:
    """A table of finished runs, ready for analysis.

    Attributes:
        study: made from the table; design ``arms``.
        trials: one a row.
        metrics: the column that decides, with unit and direction.
        seeds: of the table, in order.
        notes: what was assumed or left out, a sentence each.
    """

    study: Study
    trials: tuple[Trial, ...]
    metrics: Mapping[str, Metric]
    seeds: tuple[int, ...]
    notes: tuple[str, ...]


class Columns(TypedDict):
    """What ``read_runs`` is told of a table beside its path, by the names of its arguments."""

    arm: str
    seed: str
    metric: str
    baseline: str
    margin: float
    train: NotRequired[str]
    gap: NotRequired[str]
    unit: NotRequired[Unit]
    lower_is_better: NotRequired[bool | None]
    common_seeds: NotRequired[bool]
    alpha: NotRequired[float]


def read_runs(
    path: Path,
    *,
    arm: str,
    seed: str,
    metric: str,
    baseline: str,
    margin: float,
    train: str = "",
    gap: str = "",
    unit: Unit = "auto",
    lower_is_better: bool | None = None,
    common_seeds: bool = False,
    alpha: float = 0.05,
) -> Runs:
    """Read a table of finished runs as a study with its trials.

    Args:
        path: of a CSV file, one run a row, a header first.
        arm: column that names the arm of a row.
        seed: column of the seed, a whole number; rows of one seed are pairs.
        metric: column of the score that decides.
        baseline: the arm that every other one is compared with.
        margin: smallest difference worth acting on: percentage points for percent and shares, else
            in the score's own unit.
        train: column of the same score on training images: gives the overfitting gap.
        gap: column of the overfitting gap itself.
        unit: whether scores are percent, shares of 1 or plain numbers; auto tells percent from
            shares by the largest value.
        lower_is_better: true for errors and losses, false for scores; it has to be said for a
            column that is named like a loss.
        common_seeds: keep only the seeds that every arm has, instead of refusing a table with
            holes.
        alpha: level of the tests and intervals.

    Raises:
        ReportError: the table cannot be read, or does not say what is needed; the hint says what to
            change.
        UsageError: an argument that cannot be.
    """
    if train and gap:
        raise UsageError(
            "give the training scores or the gap, not both",
            "the gap is worked out from the training scores",
        )
    rows = _read(path, [arm, seed, metric, *filter(None, (train, gap))])
    places = _places(path, rows, arm=arm, seed=seed)
    names = list(dict.fromkeys(name for name, _ in places))
    if baseline not in names:
        raise ReportError(
            f"{path}: no row of column {arm!r} is {baseline!r}{did_you_mean(baseline, names)}",
            f"arms there are: {', '.join(names[:10])}",
        )
    if len(names) < 2:
        raise ReportError(
            f"{path}: every row is of {baseline!r}, so nothing is compared",
            "add the rows of another arm",
        )
    columns = {
        name: _numbers(path, rows, name)
        for name in dict.fromkeys(filter(None, (metric, train, gap)))
    }
    kept, notes = _complete(path, places, names, common_seeds=common_seeds)
    lower, told_direction = _direction(path, metric, lower_is_better=lower_is_better)
    scale, told = _scale(path, metric, columns[metric], unit)
    shown, margin_pp = _metric(metric, scale, lower_is_better=lower), _margin_pp(margin, scale)
    keys = {shown.name: metric, f"train_{shown.name}": train, gap_name(shown.name): gap}
    trials = []
    for index, (name, number) in enumerate(places):
        if number in kept:
            values = {
                key: columns[column][index] / (100.0 if scale == "percent" else 1.0)
                for key, column in keys.items()
                if column
            }
            trials.append(_trial(name, number, values, shown.name))
    diverged = sum(trial.state == "diverged" for trial in trials)
    if diverged:
        notes.append(
            f"{plural(diverged, 'row')} without a finite score: counted as diverged, which leaves the arm unjudged"
        )
    study = Study(
        name=_study_name(path),
        question=f"Which rows of {path.name} differ from {baseline}, and which are noise?"[:300],
        design="arms",
        baseline=baseline,
        metric=shown.name,
        alpha=alpha,
        margin_pp=margin_pp,
        seeds=len(kept),
        arms=tuple(HandArm(name=name, set={}) for name in names if name != baseline),
        table=path.name,
    )
    beside = [
        Metric(key, shown.unit, None, column)
        for key, column in keys.items()
        if column and key != shown.name
    ]
    metrics = {one.name: one for one in (shown, *beside) if one.name not in METRICS}
    return Runs(study, tuple(trials), metrics, tuple(kept), (told, told_direction, *notes))


def _read(path: Path, wanted: Sequence[str]) -> Rows:
    """Return (line number, row) of every row that is not empty, after checking the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be read: {error.strerror or error}", "name a CSV file"
        ) from None
    except UnicodeDecodeError:
        raise ReportError(
            f"{path}: is not text in UTF-8", "save the table as CSV in UTF-8"
        ) from None
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count) if any(mark in head for mark in ",;\t") else ","
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise ReportError(
            f"{path}: line {reader.line_num}: {error}", "save the table as plain CSV"
        ) from None
    lines = [(number, line) for number, line in lines if any(line)]
    if len(lines) < 2:
        raise ReportError(
            f"{path}: holds no rows below a header",
            "write one run a line, the names of the columns first",
        )
    names = lines[0][1]
    for name in wanted:
        if names.count(name) != 1:
            problem = "has two columns" if name in names else "has no column"
            guess = "" if name in names else did_you_mean(name, names)
            raise ReportError(
                f"{path}: {problem} {name!r}{guess}",
                f"its columns: {', '.join(filter(None, names))}",
            )
    ragged = [number for number, line in lines if len(line) != len(names)]
    if ragged:
        raise ReportError(
            f"{path}: line {ragged[0]} does not have {plural(len(names), 'cell')} as the header does",
            "put cells with the separator in them in quotes",
        )
    return [(number, dict(zip(names, line, strict=True))) for number, line in lines[1:]]


def _places(path: Path, rows: Rows, *, arm: str, seed: str) -> list[tuple[str, int]]:
    """Return (arm, seed) of every row, each once."""
    bad = [
        f"line {number}: {row[seed]!r}" for number, row in rows if not _WHOLE.fullmatch(row[seed])
    ]
    if bad:
        raise ReportError(
            f"{path}: column {seed!r} should hold whole numbers from 0: {_some(bad)}",
            "number the runs that are to be paired",
        )
    bad = [
        f"line {number}"
        for number, row in rows
        if not 0 < len(row[arm]) <= _LONGEST_NAME or not row[arm].isprintable()
    ]
    if bad:
        raise ReportError(
            f"{path}: column {arm!r} should name an arm in 1 to {_LONGEST_NAME} characters: {_some(bad)}",
            "shorten the names, or fill them in",
        )
    places = [(row[arm], int(row[seed].partition(".")[0])) for _, row in rows]
    lines: dict[tuple[str, int], list[int]] = {}
    for place, (number, _) in zip(places, rows, strict=True):
        lines.setdefault(place, []).append(number)
    twice = [
        f"{name} at seed {number} (lines {', '.join(map(str, at))})"
        for (name, number), at in lines.items()
        if len(at) > 1
    ]
    if twice:
        raise ReportError(
            f"{path}: more than one row for {_some(twice)}",
            "keep one row a run: the last epoch, one metric; or name the arms more finely",
        )
    return places


def _numbers(path: Path, rows: Rows, column: str) -> list[float]:
    """Return a column as numbers; nan and inf stand for runs that diverged."""
    values, bad = [], []
    for number, row in rows:
        text = row[column]
        try:
            values.append(float(text))
        except ValueError:
            bad.append(f"line {number}: {'empty' if text.lower() in _MISSING else repr(text)}")
    if bad:
        comma = any(re.search(r"\d,\d", fault) for fault in bad)
        hint = (
            "write numbers with a decimal point"
            if comma
            else "write numbers without signs of percent; nan for a run that diverged"
        )
        raise ReportError(f"{path}: column {column!r} should hold numbers: {_some(bad)}", hint)
    return values


def _complete(
    path: Path, places: Sequence[tuple[str, int]], names: Sequence[str], *, common_seeds: bool
) -> tuple[list[int], list[str]]:
    """Return the seeds to analyse, and what has to be told about those left out."""
    there = set(places)
    seeds = sorted({number for _, number in places})
    holes = {name: [number for number in seeds if (name, number) not in there] for name in names}
    holes = {name: missing for name, missing in holes.items() if missing}
    if not holes:
        return seeds, []
    common = [
        number for number in seeds if not any(number in missing for missing in holes.values())
    ]
    if not common_seeds or not common:
        told = [
            f"{name} ({'seed' if len(m) == 1 else 'seeds'} {', '.join(map(str, m[:_MOST_SHOWN]))})"
            for name, m in holes.items()
        ]
        hint = f"add the rows, or pass --common-seeds to keep the {plural(len(common), 'seed')} that every arm has"
        raise ReportError(
            f"{path}: no row for {_some(told)}",
            hint if common else "arms are compared seed by seed: give every arm the same seeds",
        )
    lost = Counter(number for _, number in places if number not in common)
    return common, [
        f"{plural(len(lost), 'seed')} ({plural(sum(lost.values()), 'row')}) left out for every arm: not all arms have them"
    ]


def _scale(path: Path, metric: str, values: Sequence[float], unit: Unit) -> tuple[Unit, str]:
    """Return whether scores are percent, shares or numbers, and the sentence that says so."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise ReportError(
            f"{path}: column {metric!r} holds no finite number",
            "name the column of the final scores",
        )
    low, high = min(finite), max(finite)
    if unit == "number":
        return unit, f"{metric}: taken as a number, in its own unit"
    found: Unit = unit if unit != "auto" else "percent" if high > _MOST_SHARE else "share"
    if low < 0 or high > (100.0 if found == "percent" else 1.0):
        raise ReportError(
            f"{path}: column {metric!r} runs from {low:g} to {high:g}, which is no {found} of images",
            "pass --unit number for a score that is no share of images",
        )
    if unit == "auto" and found == "percent" and low <= 1.0 and high > 10.0:
        raise ReportError(
            f"{path}: column {metric!r} runs from {low:g} to {high:g}: some rows may be shares of 1 and some percent",
            "pass --unit percent if they are all percent",
        )
    why = "as asked" if unit != "auto" else f"its largest value is {high:g}"
    words = {"percent": "percent (0 to 100)", "share": "shares (0 to 1), shown in percent"}
    return (
        found,
        f"{metric}: taken as {words[found]}, {why}; --unit percent, share or number says otherwise",
    )


def _direction(path: Path, column: str, *, lower_is_better: bool | None) -> tuple[bool, str]:
    """Return whether lower scores are better, and the sentence that says so.

    Raises:
        ReportError: nobody said, and the column is named like something that should be small.
    """
    known = METRICS.get(column)
    if lower_is_better is None and known is not None and known.higher_is_better is not None:
        lower_is_better = not known.higher_is_better
    if lower_is_better is None:
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)]
        if any(word in _SMALL or word.endswith(_SMALL_ENDS) for word in words):
            raise ReportError(
                f"{path}: column {column!r} is named like something that should be small",
                "pass --lower-is-better, or --higher-is-better if it should be large",
            )
        return False, f"{column}: higher is better; --lower-is-better says otherwise"
    end, other = ("lower", "higher") if lower_is_better else ("higher", "lower")
    return lower_is_better, f"{column}: {end} is better; --{other}-is-better says otherwise"


def _metric(column: str, scale: Unit, *, lower_is_better: bool) -> Metric:
    """The column as a metric; under its own name unless ours of that name means something else."""
    mine = Metric(
        column, "1" if scale == "number" else "pp", not lower_is_better, column.replace("_", " ")
    )
    ours = METRICS.get(column)
    if ours is None:
        return mine
    if (ours.unit, ours.higher_is_better) == (mine.unit, mine.higher_is_better):
        return ours
    return Metric(f"{column}_column", mine.unit, mine.higher_is_better, mine.label)


def _margin_pp(margin: float, scale: Unit) -> float:
    """The margin in the study's unit: hundredths of what trials store."""
    margin_pp = margin * 100.0 if scale == "number" else margin
    if not 0 < margin_pp <= 100:
        allowed = (
            "above 0 and at most 1"
            if scale == "number"
            else "above 0 and at most 100 percentage points"
        )
        raise UsageError(
            f"a margin of {margin:g} cannot be: it is the smallest difference worth acting on, {allowed}",
            "0.3 is usual for accuracies; scale a column of large numbers down",
        )
    return margin_pp


def _trial(name: str, seed: int, values: Mapping[str, float], primary: str) -> Trial:
    finite = math.isfinite(values[primary])
    return Trial(
        cell=digest(["table", name, seed]),
        seed=seed,
        recipe=Recipe(),
        state="complete" if finite else "diverged",
        metrics={key: value for key, value in values.items() if math.isfinite(value)}
        if finite
        else {},
        label=name,
    )


def _study_name(path: Path) -> str:
    """The file's name without its ending, as far as it can name a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:80] or "table"


def _some(items: Sequence[str]) -> str:
    more = len(items) - _MOST_SHOWN
    return "; ".join(items[:_MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")
