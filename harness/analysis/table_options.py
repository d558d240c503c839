"""What is asked of a table of finished runs: which columns are arm, seed and score, which rows count, how to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from harness.analysis.cells import Decimal
from harness.errors import UsageError

Unit = Literal["auto", "percent", "share", "number"]
Duplicates = Literal["refuse", "first", "last", "mean"]
Names = str | Sequence[str]


class Columns(TypedDict, total=False):
    """What ``read_runs`` takes besides its source, by the names of its arguments; ``metric``, ``arm``, ``baseline`` and ``margin`` always."""

    arm: Names
    seed: Names
    dataset: Names
    metric: str
    baseline: str
    margin: float
    train: str
    gap: str
    sd: str
    n: str
    unit: Unit
    lower_is_better: bool | None
    where: Names
    last: str
    best: str
    duplicates: Duplicates
    unpaired: bool
    common_seeds: bool
    top: int
    decimal: Decimal
    alpha: float


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The same, settled: every list a tuple, every default filled in.

    Attributes:
        arm: columns that name the arm of a row; several are one arm together.
        seed: columns of the seed; rows of one seed are pairs. Without any, nothing is paired.
        dataset: columns of the data set; a pair is then of one seed on one data set.
        metric: column of the score that decides; ``acc_{seed}`` takes all columns of that form.
        baseline: the arm that every other one is compared with.
        margin: smallest difference worth acting on, in points for shares and percent, else in the column's own unit.
        train: column of the same score on training images: gives the overfitting gap.
        gap: column of the overfitting gap itself.
        sd: column of the sd, for a table of means.
        n: column of the number of runs behind a mean, or that number.
        unit: whether scores are percent, shares of 1 or plain numbers; auto goes by name and size.
        lower_is_better: true for losses; it has to be said for a column that is named like one.
        where: conditions on rows, ``COLUMN=VALUE`` or with !=, <, <=, >, >=.
        last: of several rows of a run, the last by this column counts.
        best: of several rows of a run, the one that is best in this column counts; optimistic.
        duplicates: what to do with two runs of one arm and seed.
        unpaired: compare arms as two groups, whatever the seeds.
        common_seeds: keep only the seeds that every arm has.
        top: keep the baseline and this many arms of the best means; the correction still counts all.
        decimal: what separates decimals in text.
        alpha: level of the tests and intervals.
    """

    arm: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    metric: str = ""
    baseline: str = ""
    margin: float = 0.0
    train: str = ""
    gap: str = ""
    sd: str = ""
    n: str = ""
    unit: Unit = "auto"
    lower_is_better: bool | None = None
    where: tuple[str, ...] = ()
    last: str = ""
    best: str = ""
    duplicates: Duplicates = "refuse"
    unpaired: bool = False
    common_seeds: bool = False
    top: int = 0
    decimal: Decimal = "auto"
    alpha: float = 0.05

    @property
    def missing(self) -> tuple[str, ...]:
        """Options without which nothing can be analysed and that were not given."""
        return tuple(n for n in ("arm", "metric", "baseline", "margin") if not getattr(self, n))


def options_of(columns: Mapping[str, Any]) -> TableOptions:
    """Return settled options.

    Raises:
        UsageError: two of them exclude each other, or one is out of its range.
    """
    plain = {key: value for key, value in columns.items() if value is not None}
    for key in ("arm", "seed", "dataset", "where"):
        value = plain.get(key, ())
        plain[key] = (value,) if isinstance(value, str) and value else tuple(value)
    options = TableOptions(**plain)
    for one, other, why in (
        ("train", "gap", "the gap is worked out from the training scores"),
        ("last", "best", "the last row is unbiased, the best one is optimistic"),
        ("unpaired", "dataset", "keep one data set with --where, or give --seed"),
        ("unpaired", "common_seeds", "runs that are not paired need no common seeds"),
    ):
        if getattr(options, one) and getattr(options, other):
            flags = (f"--{name.replace('_', '-')}" for name in (one, other))
            raise UsageError(f"give {' or '.join(flags)}, not both", why)
    if not 0.0 < options.alpha < 0.5:
        raise UsageError(
            f"--alpha {options.alpha:g} is no level: it lies between 0 and 0.5", "0.05 is usual"
        )
    if "margin" in plain and not options.margin > 0.0:
        raise UsageError(
            f"--margin {options.margin:g} is out of range: the smallest difference worth acting on is above 0",
            "0.3 is usual for accuracies in percent",
        )
    if options.top < 0:
        raise UsageError(f"--top {options.top} is less than one arm", "--top 20 shows 20 arms")
    return options


def flags_of(options: TableOptions) -> list[tuple[str, str]]:
    """Return the options that were given as words of a command: ``("--arm", "model")``; a switch has an empty value."""
    words: list[tuple[str, str]] = []
    for key in ("arm", "seed", "dataset"):
        words += [(f"--{key}", name) for name in getattr(options, key)]
    for key in ("metric", "baseline"):
        if getattr(options, key):
            words.append((f"--{key}", getattr(options, key)))
    if options.margin:
        words.append(("--margin", f"{options.margin!r}"))
    for key in ("train", "gap", "sd", "n", "last", "best"):
        if getattr(options, key):
            words.append((f"--{key}", getattr(options, key)))
    words += [("--where", condition) for condition in options.where]
    for key, usual in (("unit", "auto"), ("duplicates", "refuse"), ("decimal", "auto")):
        if getattr(options, key) != usual:
            words.append((f"--{key}", getattr(options, key)))
    if options.alpha != 0.05:
        words.append(("--alpha", f"{options.alpha!r}"))
    if options.top:
        words.append(("--top", str(options.top)))
    if options.lower_is_better is not None:
        words.append((f"--{'lower' if options.lower_is_better else 'higher'}-is-better", ""))
    words += [("--unpaired", "")] * options.unpaired + [
        ("--common-seeds", "")
    ] * options.common_seeds
    return words
