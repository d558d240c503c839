"""What a benchmark found, and the files it is kept in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.study.trial import Environment

SCHEMA = 1
FOLDER = Path("reports/bench")
HEADS = ("what", "images/s", "interval", "n", "ratio", "to", "of the ceiling")


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed stretch of one case: ``images`` in ``seconds`` of the clock, ``cpu_seconds`` of this process's cores."""

    name: str
    round: int
    images: float
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """One case over all its rounds.

    Attributes:
        images_per_second: median over rounds. A ceiling's is what it would allow: a rate of arithmetic or of memory, divided by
            what one image takes of it.
        low, high: distribution-free 95 % interval of the median, all samples' range below six of them.
        n: number of rounds.
        ratio: median over rounds of this case's rate divided by its reference's in the same round.
        reference: name of the case that ``ratio`` divides by.
        share_of_ceiling: the same against the case's ceiling; for steps that of the matmul, so it is their MFU.
    """

    name: str
    images_per_second: float
    low: float
    high: float
    n: int
    ratio: float | None
    reference: str | None
    share_of_ceiling: float | None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All results of one run, its raw samples, and what they were taken on and with.

    ``environment`` holds what ``Environment`` does and the benchmark's settings; its ``warnings`` are sentences with a remedy.
    """

    environment: Mapping[str, Any]
    results: tuple[Result, ...]
    samples: tuple[Sample, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures doubtful, a sentence each, with what to do about it."""
        return tuple(self.environment.get("warnings", ()))

    def of(self, name: str) -> Result:
        """Return the result of a case.

        Raises:
            UsageError: it was not measured.
        """
        for result in self.results:
            if result.name == name:
                return result
        raise UsageError(
            f"{name} was not measured",
            f"measured: {', '.join(result.name for result in self.results)}",
        )

    def as_json(self) -> dict[str, Any]:
        """Return schema, environment and results as plain data; the samples are not among them."""
        return {
            "schema": SCHEMA,
            "environment": dict(self.environment),
            "results": [
                {name: _rounded(value) for name, value in asdict(result).items()}
                for result in self.results
            ],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the results as text under ``HEADS``, for a table."""
        return [
            (
                result.name,
                f"{result.images_per_second:,.0f}",
                f"[{result.low:,.0f}, {result.high:,.0f}]",
                str(result.n),
                "" if result.ratio is None else f"{result.ratio:.2f}",
                result.reference or "",
                "" if result.share_of_ceiling is None else f"{100 * result.share_of_ceiling:.0f} %",
            )
            for result in self.results
        ]

    def save(self, folder: Path = FOLDER) -> Path:
        """Write NAME.json and, with the raw samples, NAME.parquet, NAME being the device's; return the JSON's path.

        Raises:
            UsageError: writing to the folder failed.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = slug(str(self.environment.get("device", "")), str(self.environment.get("cpu", "")))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(
                pa.Table.from_pylist([asdict(sample) for sample in self.samples]),
                folder / f"{name}.parquet",
            )
            path = folder / f"{name}.json"
            path.write_text(
                json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise UsageError(
                f"could not write to {folder}: {error}", "choose another folder"
            ) from None
        return path


def slug(device: str, cpu: str) -> str:
    """Return a file name for a machine: the GPU's, or ``cpu-`` and the processor's."""
    words = f"cpu {cpu}" if device in ("", "cpu") else device
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "machine"


def saved_benchmark(environment: Environment | None, folder: Path = FOLDER) -> str:
    """Return the path of the benchmark that was saved on such a machine, empty if there is none."""
    path = folder / f"{slug(environment.device, environment.cpu)}.json" if environment else None
    return str(path) if path is not None and path.is_file() else ""


def summarised(
    samples: Sequence[Sample],
    *,
    names: Sequence[str],
    references: Mapping[str, str],
    ceilings: Mapping[str, str],
) -> tuple[Result, ...]:
    """Return the results of the cases, in the order of their names; a case without samples has none."""
    rates: dict[str, dict[int, float]] = {}
    for sample in samples:
        rates.setdefault(sample.name, {})[sample.round] = sample.rate
    results = []
    for name in names:
        if name not in rates:
            continue
        low, middle, high = interval(list(rates[name].values()))
        reference = references.get(name)
        share = _ratio(rates, name, ceilings.get(name))
        ratio = _ratio(rates, name, reference)
        results.append(
            Result(
                name,
                middle,
                low,
                high,
                len(rates[name]),
                ratio,
                reference if ratio is not None else None,
                share,
            )
        )
    return tuple(results)


def _ratio(rates: Mapping[str, Mapping[int, float]], name: str, to: str | None) -> float | None:
    """Return the median ratio of two cases over the rounds that both have."""
    from statistics import median

    if to is None or to == name or to not in rates:
        return None
    # within a round both had the same clocks and the same neighbours
    shared = rates[name].keys() & rates[to].keys()
    return median(rates[name][turn] / rates[to][turn] for turn in shared) if shared else None


def interval(rates: Sequence[float]) -> tuple[float, float, float]:
    """Return (low, median, high): the distribution-free 95 % interval of a median from order statistics.

    Below six samples no pair of order statistics reaches 95 %: then low and high are the smallest
    and the largest.
    """
    from statistics import median

    from scipy.stats import binom

    ordered = sorted(rates)
    # the outermost pair that still leaves at most 2.5 % on either side
    rank = int(binom.ppf(0.025, len(ordered), 0.5)) if len(ordered) >= 6 else 1
    rank = max(rank, 1)
    return ordered[rank - 1], median(ordered), ordered[-rank]


def _rounded(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value
