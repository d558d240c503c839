"""What a column of scores is measured in, and which end of it is the good one: declared, or said before it is assumed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.analysis.table_options import Unit
from harness.errors import ReportError, UsageError
from harness.study.trial import METRICS

_MOST_SHARE = 1.5  # shares end at 1; beyond this a column of accuracies is taken to be in percent
_LEAST_MARGIN_PP = 0.05  # below it a margin in percentage points looks like a share
# Words in the names of scores that should be small. They make us ask; they decide nothing.
_SMALL = frozenset(
    {
        *(
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
        ),
        *("ece", "brier", "regret", "cost", "latency", "time", "seconds", "minutes", "hours", "ms"),
        *(
            "ce",
            "bce",
            "xent",
            "kl",
            "kld",
            "jsd",
            "fdr",
            "rmsle",
            "smape",
            "lpips",
            "nats",
            "miss",
        ),
        *("deviance", "divergence", "distance", "rank", "fpr", "fnr", "mistakes"),
    }
)
_SMALL_ENDS = (
    *("loss", "losses", "error", "errors", "err", "entropy", "misclassification", "misclassified"),
)
# Words in the names of scores that are shares of something, in percent or not.
_SHARES = re.compile(
    r"acc|top.?[15]|\bf1|f1\b|f_1|precision|recall|auc|auroc|\bmap\b|iou|dice|percent|pct|%|exact_?match|"
    r"\bem\b|hit|success|win|sensitivity|specificity|score|kappa|mcc|rate|^value$|^test$|^val$|result",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ScoreUnit:
    """What scores are.

    Attributes:
        kind: percent, share or number.
        sentence: what was taken, why, and how to say otherwise.
    """

    kind: Unit
    sentence: str

    @property
    def shown(self) -> Literal["pp", "own"]:
        """The unit that the report shows them in."""
        return "own" if self.kind == "number" else "pp"


def small_is_good(column: str) -> bool:
    """Whether a column is named like something that should be small."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)]
    return any(word in _SMALL or word.endswith(_SMALL_ENDS) for word in words)


def is_share_name(column: str) -> bool:
    """Whether a column is named like a share: accuracies, rates, scores in general."""
    return bool(_SHARES.search(column)) and not small_is_good(column)


def score_unit(
    name: str,
    metric: str,
    values: npt.NDArray[np.float64],
    *,
    unit: Unit,
    percent: bool,
    margin: float,
) -> ScoreUnit:
    """Return what scores are, from what was declared or else from their name and size, and check the margin against it.

    Raises:
        ReportError: the column holds no finite number, or what is declared does not fit it.
        UsageError: the margin is not above zero, or looks as if it were meant in another unit.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ReportError(
            f"{name}: column {metric!r} holds no finite number",
            "name the column of the final scores",
        )
    low, high = float(finite.min()), float(finite.max())
    settled = _settled(name, metric, low, high, unit, percent=percent)
    _check_margin(margin, settled, unit)
    return settled


def _settled(
    name: str, metric: str, low: float, high: float, unit: Unit, *, percent: bool
) -> ScoreUnit:
    kind: Unit = unit
    why = "as asked"
    if unit == "auto":
        kind, why = likely_unit(metric, low, high, percent=percent)
    if kind == "number":
        how = "" if unit == "number" else "; --unit percent or share says otherwise"
        return ScoreUnit(kind, f"{metric}: taken as a number, in its own unit ({why}){how}")
    if low < 0 or high > (100.0 if kind == "percent" else 1.0):
        raise ReportError(
            f"{name}: column {metric!r} runs from {low:g} to {high:g}, which is no {kind} of images",
            "pass --unit number for a score that is no share of images",
        )
    if unit == "auto" and kind == "percent" and low <= 1.0 and high > 10.0 and not percent:
        raise ReportError(
            f"{name}: column {metric!r} runs from {low:g} to {high:g}: some rows may be shares of 1 and some percent",
            "pass --unit percent if they are all percent",
        )
    words = {"percent": "percent (0 to 100)", "share": "shares (0 to 1), shown in percent"}
    return ScoreUnit(
        kind,
        f"{metric}: taken as {words[kind]}, {why}; --unit percent, share or number says otherwise",
    )


def likely_unit(metric: str, low: float, high: float, *, percent: bool) -> tuple[Unit, str]:
    """Return what a column would be taken for, and why: shares by size, percent by name and size, losses never either."""
    if percent:
        return "percent", "its cells have a percent sign"
    if small_is_good(metric):
        return "number", "it is named like a loss"
    span = f"it runs from {low:g} to {high:g}"
    if low < 0 or high > 100.0 or 1.0 < high <= _MOST_SHARE:
        return "number", span
    if high <= 1.0 or is_share_name(metric):
        return ("share" if high <= 1.0 else "percent"), f"its largest value is {high:g}"
    return "number", "nothing says that it is a share"


def _check_margin(margin: float, settled: ScoreUnit, unit: Unit) -> None:
    points = settled.kind != "number"
    if not (np.isfinite(margin) and margin > 0) or (points and margin > 100):
        allowed = "above 0 and at most 100 percentage points" if points else "above 0"
        raise UsageError(
            f"--margin {margin:g} is out of range: it is the smallest difference worth acting on, {allowed}",
            "0.3 is usual for accuracies" if points else "give it in the unit of the column",
        )
    if points and unit == "auto" and margin < _LEAST_MARGIN_PP:
        raise UsageError(
            f"is --margin {margin:g} a share? It is taken in percentage points, and {margin:g} pp is very little",
            f"pass --margin {100 * margin:g} for {100 * margin:g} pp, or add --unit {settled.kind} to keep {margin:g} pp",
        )


def direction(name: str, column: str, *, lower_is_better: bool | None) -> tuple[bool, str]:
    """Return whether lower scores are better, and the sentence that says so.

    Raises:
        ReportError: nobody said, and the column is named like something that should be small.
    """
    known = METRICS.get(column)
    if lower_is_better is None and known is not None and known.higher_is_better is not None:
        lower_is_better = not known.higher_is_better
    if lower_is_better is None:
        if small_is_good(column):
            raise ReportError(
                f"{name}: column {column!r} is named like something that should be small",
                "pass --lower-is-better, or --higher-is-better if it should be large",
            )
        return False, f"{column}: higher is better; --lower-is-better says otherwise"
    end, other = ("lower", "higher") if lower_is_better else ("higher", "lower")
    return lower_is_better, f"{column}: {end} is better; --{other}-is-better says otherwise"
