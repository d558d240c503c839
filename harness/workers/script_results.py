"""What a training script of yours leaves behind, brought under the names and units of a study.

``metrics.json`` is one object. ``accuracy`` and the other built-in metrics are shares in [0, 1], or
percent where they exceed 1; any other number is a metric under its own name; what is no number is
left alone. ``train_accuracy`` gives the overfitting gap. A rule ``[metrics.NAME]`` finds a number
elsewhere (``script_sources``). ``history.csv`` has one row an epoch and columns under the names that
``harness.analysis.epoch_history`` knows.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.epoch_history import read_history
from harness.errors import TrialError, UsageError
from harness.study.metrics import metric_of
from harness.study.script_metrics import MetricRule
from harness.study.study import Study
from harness.study.trial import METRICS, Curve
from harness.workers.script_sources import Kind, Reading, readings, rows_of

METRICS_FILE, HISTORY_FILE = "metrics.json", "history.csv"
_GAPS = (("gap", "accuracy", "train_accuracy", 1.0), ("loss_gap", "nll", "train_nll", -1.0))
_SHARES = tuple(name for name, metric in METRICS.items() if metric.unit == "pp")
# these are in one unit in every script: one of them above 1 says that all are percent
_ALIKE = tuple(name for name in _SHARES if name != "ece")


@dataclass(frozen=True, slots=True)
class Results:
    """What a run gave.

    Attributes:
        metrics: by name; accuracies in [0, 1].
        curve: as far as the history goes.
        epochs: rows of the history; 0 without one.
        diverged: which number is not finite, in a sentence; empty for a sound run.
        notes: what was understood without being declared, or could not be read and does not decide; a sentence each.
        sources: ``{metric: where it was read}`` of those that a rule found.
        guessed: how the metric that decides was read although no unit is declared: percent, share or nothing.
    """

    metrics: dict[str, float]
    curve: Curve
    epochs: int
    diverged: str = ""
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    guessed: Kind = ""


def read_results(
    out: Path,
    study: Study,
    returned: Mapping[str, float] | None = None,
    *,
    log: Path | None = None,
) -> Results:
    """Read what a run left in its folder.

    Args:
        out: the folder.
        study: whose metric has to be there, and whose shares have to be some.
        returned: metrics that take the place of metrics.json.
        log: what the run printed.

    Raises:
        TrialError: there are no metrics, the one that decides is missing, or a value is no share
            and should be one.
    """
    written = _written(out, study, returned)
    found, sources, notes = _by_rules(out, study, log)
    found = {name: Reading(float(v)) for name, v in written.items() if _is_number(v)} | found
    curve, epochs, trouble = _history(out)
    notes += [trouble] if trouble else []
    broken = next((name for name, number in found.items() if not math.isfinite(number.value)), "")
    if broken:
        return Results({}, curve, epochs, f"{broken} is not a finite number", notes=tuple(notes))
    if study.metric not in found:
        raise TrialError(_missing(study.metric, written))

    numbers, kinds = {}, _kinds(found, study)
    for name, number in found.items():
        numbers[name] = _in_our_unit(name, number, kinds.get(name, ""), study.metrics.get(name))
    for gap, score, on_train, sign in _GAPS:
        if score in numbers and on_train in numbers:
            numbers.setdefault(gap, sign * (numbers[on_train] - numbers[score]))
    guessed = _guessed(study, found, kinds)
    if guessed == "percent":
        value = found[study.metric].value
        notes.append(
            f"{study.metric} {value:g} was read as percent, because it or another accuracy of the run is above 1; "
            f"`unit = 'percent'` in [metrics.{study.metric}] declares it"
        )
    return Results(numbers, curve, epochs, notes=tuple(notes), sources=sources, guessed=guessed)


def _written(out: Path, study: Study, returned: Mapping[str, float] | None) -> Mapping[str, Any]:
    """Return what metrics.json holds, or nothing where rules say that the metric is elsewhere."""
    if returned is None and not (out / METRICS_FILE).exists():
        rule = study.metrics.get(study.metric)
        if rule is not None and rule.elsewhere:
            return {}
        raise TrialError(
            f"wrote no {METRICS_FILE} into the folder that HARNESS_OUT names, and no rule [metrics.{study.metric}] "
            "says where else the number is"
        )
    given = _metrics_file(out) if returned is None else returned
    if not isinstance(given, Mapping):
        raise TrialError(
            f"its metrics are a {type(given).__name__}, not an object of names and numbers"
        )
    return {str(name): value for name, value in given.items()}


def _metrics_file(out: Path) -> Any:
    try:
        return json.loads((out / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrialError(f"could not read its {METRICS_FILE}: {error}") from None


def _by_rules(
    out: Path, study: Study, log: Path | None
) -> tuple[dict[str, Reading], dict[str, str], list[str]]:
    """Return the numbers that rules find, where each was, and what is to be said of those that are not there."""
    found: dict[str, Reading] = {}
    sources: dict[str, str] = {}
    notes: list[str] = []
    for name, rule in study.metrics.items():
        if not rule.elsewhere:
            continue
        try:
            numbers = readings(rule, out, log)
        except TrialError as error:
            if name == study.metric:  # nothing can be judged without it
                raise TrialError(f"[metrics.{name}]: {error.message}") from None
            notes.append(f"[metrics.{name}]: {error.message}; the run has no {name}")
            continue
        found[name] = _taken(name, rule, numbers, study)
        sources[name] = _source(rule, len(numbers))
    return found, sources, notes


def _taken(name: str, rule: MetricRule, numbers: list[Reading], study: Study) -> Reading:
    """Return the number that counts among several."""
    if rule.take == "last" or not math.isfinite(numbers[-1].value):
        return numbers[-1]  # a run whose last number is none has diverged, whatever it was before
    values = [number.value for number in numbers if math.isfinite(number.value)]
    if rule.take == "mean":
        return Reading(sum(values) / len(values), numbers[-1].kind)
    better = rule.higher_is_better
    if name in METRICS:
        better = METRICS[name].higher_is_better
    elif name == study.metric:
        better = metric_of(study).higher_is_better
    return Reading(max(values) if better else min(values), numbers[-1].kind)


def _source(rule: MetricRule, count: int) -> str:
    place = f"column {rule.column!r} of {rule.from_}" if rule.column else rule.from_ or "the output"
    which = {"last": "the last of", "mean": "the mean of", "best": "the best (optimistic) of"}
    return f"{which[rule.take]} {count} in {place}" if count > 1 else f"the only one in {place}"


def _kinds(found: Mapping[str, Reading], study: Study) -> dict[str, Kind]:
    """Return percent or share for every number that should be a share: declared, marked by a %, or by its size."""
    kinds: dict[str, Kind] = {}
    for name, number in found.items():
        rule = study.metrics.get(name)
        unit = rule.unit if rule is not None else None
        if number.kind == "share":  # a ratio is one, in whatever unit it is to be shown
            kinds[name] = "share"
        elif unit is not None:
            kinds[name] = "percent" if unit == "percent" else "share" if unit != "number" else ""
        elif name in METRICS and METRICS[name].unit == "pp":
            kinds[name] = number.kind
    # of what nothing is known, the size of any of them decides
    open_ = [name for name, kind in kinds.items() if not kind and name in _SHARES]
    beyond = any(abs(found[name].value) > 1.0 for name in open_ if name in _ALIKE)
    for name in open_:
        percent = beyond if name in _ALIKE else abs(found[name].value) > 1.0
        kinds[name] = "percent" if percent else "share"
    return kinds


def _guessed(study: Study, found: Mapping[str, Reading], kinds: Mapping[str, Kind]) -> Kind:
    """Return how the metric that decides was read where neither the study nor the script says its unit."""
    rule, number = study.metrics.get(study.metric), found[study.metric]
    declared = (rule is not None and rule.unit is not None) or number.kind
    return "" if declared or study.metric not in _SHARES else kinds[study.metric]


def _in_our_unit(name: str, number: Reading, kind: Kind, rule: MetricRule | None) -> float:
    """Return a number as it is stored: shares in [0, 1].

    Raises:
        TrialError: it is no share and should be one.
    """
    unit: str = rule.shown_unit if rule is not None and rule.unit is not None else "1"
    unit = METRICS[name].unit if name in METRICS else unit
    if unit != "pp":
        return number.value
    value = number.value / 100.0 if kind == "percent" else number.value
    if (-1.0 if "gap" in name else 0.0) <= value <= 1.0:
        return value
    should = "between 0 and 100 percent" if kind == "percent" else "a share between 0 and 1"
    declared = f"; [metrics.{name}] says unit = {rule.unit!r}" if rule and rule.unit else ""
    raise TrialError(f"{name} is {number.value:g} and should be {should}{declared}")


def _missing(metric: str, written: Mapping[str, Any]) -> str:
    if metric in written:
        return f"{METRICS_FILE} holds {written[metric]!r} as {metric!r}, which is no number"
    there = ", ".join(written) or "nothing"
    return f"{METRICS_FILE} has no {metric!r}; it has {there}"


def _is_number(value: object) -> bool:
    """Whether a value is a number; numpy's and torch's scalars say so by ``__float__`` and are no text."""
    return (
        not isinstance(value, (bool, str))
        and hasattr(value, "__float__")
        and getattr(value, "ndim", 0) == 0
    )


def _history(out: Path) -> tuple[Curve, int, str]:
    """Return the epoch history as a curve, its number of epochs, and why it could not be read; nothing without a file."""
    path = out / HISTORY_FILE
    if not path.is_file():
        return Curve(), 0, ""
    try:
        rows = rows_of(path)
        named = [{str(key): value or None for key, value in row.items() if key} for row in rows]
        history = read_history(named)
    except (TrialError, UsageError, ValueError, csv.Error) as error:
        # the curves are a picture, the metrics are the result: those are kept
        reason = getattr(error, "message", str(error))
        return Curve(), 0, f"no curves: {HISTORY_FILE}: {reason}"
    # what was seen during training is no clean accuracy
    seen = "train" if history.clean else "online"
    columns = {
        "val_loss": history.column("val_loss"),
        "val_accuracy": history.column("val_accuracy"),
        f"{seen}_loss": history.column("train_loss"),
        f"{seen}_accuracy": history.column("train_accuracy"),
    }
    return Curve(**columns), len(history), ""
