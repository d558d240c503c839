"""The metric a study decides by: one of ours, or a function of yours.

A user's metric is ``file.py:function``: it takes (probabilities_NK float64, labels_N int64) of the
validation images and returns a float. Two attributes of the function say how to read it: ``unit``
(``"pp"`` for a share in [0, 1], shown in percentage points, or ``"1"``, the default) and
``higher_is_better`` (True by default).
"""

from __future__ import annotations

from typing import Any

from harness.errors import StudyError, did_you_mean
from harness.plugins import is_plugin, load_plugin
from harness.study.study import Study
from harness.study.trial import METRICS, Metric


def metric_of(study: Study) -> Metric:
    """Return the metric that a study decides by.

    Raises:
        StudyError: there is no such metric.
        UsageError: its function does not import.
    """
    name = study.metric
    if study.scripted:
        return _of_script(study, name)
    if name in METRICS:
        return METRICS[name]
    if not is_plugin(name):
        raise StudyError(
            f"study {study.name!r}: metric: there is no metric {name!r}{did_you_mean(name, METRICS)}",
            f"metrics: {', '.join(METRICS)}, or file.py:function",
        )

    # Read from the function, so that unit and direction are data and nobody guesses them from a
    # name.
    function = load_plugin(name, what="metric")
    unit: Any = getattr(function, "unit", "1")
    higher = getattr(function, "higher_is_better", True)
    if not callable(function) or unit not in {"pp", "1"} or not isinstance(higher, bool):
        raise StudyError(
            f"study {study.name!r}: metric: {name!r} should be a function with unit 'pp' or '1' and higher_is_better a bool",
            "it takes (probabilities_NK, labels_N) and returns a float",
        )
    return Metric(name, unit, higher, name.rpartition(":")[2].replace("_", " "))


def _of_script(study: Study, name: str) -> Metric:
    """One of ours, which a script can write under its name, or one whose rule the study gives."""
    if name in METRICS:
        return METRICS[name]
    rule = study.metrics.get(name)
    if rule is None:
        raise StudyError(
            f"study {study.name!r}: metric: nothing says how to read {name!r}{did_you_mean(name, [*study.metrics, *METRICS])}",
            f"add a table [metrics.{name}] with higher_is_better = true or false, and unit = 'percent' or 'share' if it is one",
        )
    return Metric(name, rule.shown_unit, rule.higher_is_better, name.replace("_", " "))


def own_metrics(study: Study) -> dict[str, Metric]:
    """Return the metrics beyond ours that a study knows how to read, by name."""
    metric = metric_of(study)
    if study.scripted:
        # all that a script may write, not only the one that decides: the others are shown
        return {name: _of_script(study, name) for name in study.metrics if name not in METRICS}
    return {} if metric.name in METRICS else {metric.name: metric}
