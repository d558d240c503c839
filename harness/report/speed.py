"""What the trials took of the machine, and what it was measured to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.analysis import Analysis
from harness.report.document import Details, TableBlock, TableCell, table
from harness.report.figures import scores
from harness.report.material import Material
from harness.report.tables import SHARED, shared
from harness.study.trial import Trial


@dataclass(frozen=True, slots=True)
class _Reading:
    """Something measured of a trial; ``of`` returns None where it was not."""

    head: str
    form: str
    of: Callable[[Trial], float | None]
    wall: bool = False  # other work on the machine stretches it


def _read(name: str) -> Callable[[Trial], float | None]:
    return lambda trial: trial.readings.get(name)


_READINGS = (
    _Reading("Training, s", ".1f", lambda trial: trial.train_seconds or None, wall=True),
    _Reading("Processor, s", ".1f", _read("cpu_seconds")),
    _Reading("Evaluation, s", ".1f", lambda trial: trial.eval_seconds or None, wall=True),
    _Reading("Start, s", ".2f", _read("start_seconds"), wall=True),
    _Reading("Peak memory, MiB", ",.0f", lambda trial: trial.peak_mib or None),
    _Reading("Energy, J", ",.0f", _read("joules")),
    _Reading("Power, W", ",.0f", _read("watts")),
    _Reading("SM clock, MHz", ",.0f", _read("sm_mhz")),
    _Reading("Hottest, °C", ".0f", _read("celsius")),
)


def readings(material: Material, analysis: Analysis) -> Details | None:
    """Return a table of what an arm's trials took, medians over its completed trials; None where nothing was measured."""
    found = {name: trials for name, trials in scores.by_arm(material, analysis).items() if trials}
    # a median, because one trial that waited for a disk would move a mean
    medians = {
        name: [
            median(values) if (values := _values(reading, trials)) else None
            for reading in _READINGS
        ]
        for name, trials in found.items()
    }
    stretched = shared(analysis)
    shown = [
        i
        for i, reading in enumerate(_READINGS)
        if not (stretched and reading.wall) and any(row[i] is not None for row in medians.values())
    ]
    if not shown:
        return None
    rows = [
        [
            TableCell(name),
            TableCell(str(len(found[name]))),
            *(_cell(_READINGS[i], row[i]) for i in shown),
        ]
        for name, row in medians.items()
    ]
    heads = ["Arm", ">n", *(f">{_READINGS[i].head}" for i in shown)]
    # only where it was measured
    processor = (
        "Processor: of the training, what the process had of it. "
        if ">Processor, s" in heads
        else ""
    )
    start = "" if stretched else "Start: data, net and warm-up. "
    left_out = f" Other times are left out: {SHARED}." if stretched else ""
    rest = f"{processor}{start}Memory: of the GPU, else of the process.{left_out}"
    caption = f"Median over an arm's completed trials. {rest}"
    return Details("What a trial took", (table(caption, heads, rows),))


def _values(reading: _Reading, trials: list[Trial]) -> list[float]:
    return [value for trial in trials if (value := reading.of(trial)) is not None]


def _cell(reading: _Reading, value: float | None) -> TableCell:
    return TableCell("–") if value is None else TableCell(format(value, reading.form), value)


def benchmark(bench: Mapping[str, Any]) -> Details | None:
    """Return a table of a saved benchmark; None without one."""
    rows = [_row(result) for result in bench.get("results", ())]
    return Details("harness bench on this machine", (_benchmark(rows),)) if rows else None


def _benchmark(rows: list[list[TableCell]]) -> TableBlock:
    heads = ["What", ">Images/s", ">[low, high]", ">n", "Against", ">Of the ceiling"]
    return table(
        "Saved by harness bench: median of n rounds [low, high] as the benchmark reports them.",
        heads,
        rows,
    )


def _row(result: Mapping[str, Any]) -> list[TableCell]:
    low, high, speed, ratio, share = (
        result.get(name)
        for name in ("low", "high", "images_per_second", "ratio", "share_of_ceiling")
    )
    return [
        TableCell(str(result["name"])),
        TableCell(f"{speed:,.0f}" if speed is not None else "–", speed),
        TableCell(f"[{low:,.0f}, {high:,.0f}]" if low is not None and high is not None else "–"),
        TableCell(str(result.get("n") or "–")),
        TableCell(
            f"{ratio:.2f} × {result.get('reference') or ''}".strip() if ratio is not None else "–"
        ),
        TableCell(f"{100 * share:.0f} %" if share is not None else "–"),
    ]
