"""``analyze``: the report of a study from a table of finished runs. Needs neither torch nor images."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

from harness.errors import ReportError
from harness.report import Provenance, Written, write_index, write_report
from harness.runs_table import Runs, Unit, read_runs
from harness.text import plural


def analyze_table(
    path: Path | str,
    *,
    arm: str,
    seed: str,
    metric: str,
    baseline: str,
    margin: float,
    train: str = "",
    gap: str = "",
    unit: Unit = "auto",
    lower_is_better: bool = False,
    common_seeds: bool = False,
    alpha: float = 0.05,
    reports: Path = Path("reports"),
) -> tuple[Written, Runs]:
    """Analyse a table of finished runs and write its report under ``reports/<name of the file>``.

    Args:
        path: of a CSV file, as ``harness.runs_table.read_runs`` takes it.
        arm: as ``read_runs`` takes it, and so are all that follow.
        seed: column of the seed.
        metric: column of the score that decides.
        baseline: name of the arm that the others are compared with.
        margin: smallest difference worth acting on.
        train: column of training scores.
        gap: column of the overfitting gap.
        unit: auto, percent, share or number.
        lower_is_better: for errors and losses.
        common_seeds: keep only the seeds that every arm has.
        alpha: level of the tests and intervals.
        reports: folder of all reports.

    Returns:
        What was written, and the table as it was read.

    Raises:
        ReportError: the table cannot be read, or does not say what is needed; the hint says what to change.
        UsageError: an argument that cannot be.
    """
    file = Path(path)
    found = read_runs(
        file,
        arm=arm,
        seed=seed,
        metric=metric,
        baseline=baseline,
        margin=margin,
        train=train,
        gap=gap,
        unit=unit,
        lower_is_better=lower_is_better,
        common_seeds=common_seeds,
        alpha=alpha,
    )
    folder = reports / found.study.name
    _refuse_other_report(folder, file)
    columns = [("arm", arm), ("seed", seed), ("metric", metric), ("baseline", baseline), ("margin", f"{margin:g}")]
    columns += [("train", train), ("gap", gap), ("unit", "" if unit == "auto" else unit)]
    words = ["harness", "analyze", file.name, *(part for key, value in columns if value for part in (f"--{key}", value))]
    words += ["--lower-is-better"] * lower_is_better + ["--common-seeds"] * common_seeds
    content = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    written = write_report(
        folder,
        found.study,
        found.trials,
        metrics=found.metrics,
        seeds=found.seeds,
        provenance=Provenance(
            commands=(shlex.join(words),), data=f"{file.name}, {plural(len(found.trials), 'row')}, sha256 {content}"
        ),
    )
    write_index(reports)
    return written, found


def _refuse_other_report(folder: Path, file: Path) -> None:
    """Keep the report of a study that was trained from being overwritten by that of a table of the same name."""
    kept = folder / "study.toml"
    if kept.is_file() and not re.search(r"^table = ", kept.read_text(encoding="utf-8"), re.MULTILINE):
        raise ReportError(
            f"{folder} holds the report of a study that was trained, which {file.name} would replace",
            "rename the table: its report is called after the file",
        )
