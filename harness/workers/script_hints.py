"""What a rule for a script's number may look like, from what the script printed and left; tried before it is shown."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import TrialError
from harness.study.script_metrics import MetricRule
from harness.study.trial import METRICS, Metric
from harness.workers.script_log import as_printed, read_log
from harness.workers.script_sources import files_in, readings, rows_of

_TABLES = (".csv", ".tsv", ".json", ".jsonl")
_LARGEST = 5_000_000  # bytes of a table that is looked into
_COLUMNS = 12
_OTHER = Metric("", "1", None, "")  # a metric that is none of ours


def suggested_rule(metric: str, out: Path, log: Path) -> list[str]:
    """Return the lines of a rule ``[metrics.NAME]`` that reads the last such number that was printed; none without one.

    Args:
        metric: name of the number.
        out: the run's folder.
        log: what the run printed.
    """
    word = "acc" if metric == "accuracy" else metric
    name = rf"[\w/@.-]*{re.escape(word)}[\w/@.-]*"
    pattern = re.compile(
        rf"(?P<words>{name}[^\n\d]{{0,12}}?)(?P<value>\d+(?:\.\d+)?)(?P<total> ?/ ?\d+)?(?P<sign> ?%)?",
        re.IGNORECASE,
    )
    matches = list(pattern.finditer(as_printed(read_log(log))))
    # a figure of training is the last choice
    held_out = [match for match in matches if "train" not in match["words"].lower()]
    if not matches:
        return []

    last = (held_out or matches)[-1]
    words = re.escape(last["words"]).replace("\\ ", " ")
    slash = (last["total"] or "").rstrip("0123456789")
    number = rf"(\d+){slash}(\d+)" if slash else r"([\d.]+)"
    rule = MetricRule(stdout=words + number)
    try:
        readings(rule, out, log)
    except TrialError:  # what was matched is no number after all
        return []
    unit = "percent" if float(last["value"]) > 1 else "share"
    if not slash and float(last["value"]) > 100 and METRICS.get(metric, _OTHER).unit == "pp":
        return _as_number(metric, last["value"], rule.stdout)
    quote = "'" if "'" not in rule.stdout else "'''"
    return [
        f"[metrics.{metric}]",
        f"stdout = {quote}{rule.stdout}{quote}",
        *([] if slash or last["sign"] else [f'unit = "{unit}"']),
        *([] if metric == "accuracy" else ["higher_is_better = true  # or false"]),
    ]


def _as_number(metric: str, value: str, pattern: str) -> list[str]:
    """The lines for a number that is no share under the name of one: it is judged under another name."""
    name = f"{metric}_number"
    quote = "'" if "'" not in pattern else "'''"
    return [
        f"# {value} is neither a share nor percent; better, print the number right / all",
        f'metric = "{name}"  # this line and the next above all tables',
        "margin_pp = 100.0  # in hundredths of it: 100.0 is a difference of 1",
        f"[metrics.{name}]",
        f"stdout = {quote}{pattern}{quote}",
        'unit = "number"',
        "higher_is_better = true  # or false",
    ]


def left_files(out: Path) -> list[str]:
    """Return what a run left in its folder: its files, and the columns of the tables among them."""
    lines = []
    for name in files_in(out):
        path, columns = out / name, ""
        if path.suffix.lower() in _TABLES and path.stat().st_size <= _LARGEST:
            try:
                names = list(dict.fromkeys(key for row in rows_of(path) for key in row))
            except TrialError:
                names = []
            more = ", ..." if len(names) > _COLUMNS else ""
            columns = f" with {', '.join(names[:_COLUMNS])}{more}" if names else ""
        lines.append(f"{name}{columns}")
    return lines
