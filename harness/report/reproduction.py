"""Theirs and ours: what a write-up reports of its run, what this study came out at, and in what the two differ.

Only for a study whose file says what the write-up reports (``[reported]``).
"""

from __future__ import annotations

from harness.analysis import Analysis, Summary
from harness.report.answers import level
from harness.report.document import TableBlock, TableCell, table
from harness.report.lookup import SIDES, metric_of, on_held_out, summary_of
from harness.report.words import confidence, listed, number, plain, unit_name
from harness.study.study import Reported
from harness.study.trial import Metric
from harness.text import plural

# recipe fields in the words of a sentence, with their unit after the number where they have one
_PLAIN = {
    "data.train": "training images",
    "data.size": "pixels a side",
    "model.blocks": "blocks",
    "model.width": "times the width",
    "train.epochs": "epochs",
    "train.batch_size": "images a batch",
}


def answer(analysis: Analysis) -> str:
    """Return whether the write-up was reproduced, in what not, and in which settings ours is another run; else empty."""
    reported = analysis.study.reported
    if reported is None or not analysis.seeds:
        return ""
    scores = [
        (f"{_theirs(value, _metric(analysis, name))} {_metric(analysis, name).label}", name, value)
        for name, value in reported.metrics.items()
    ]
    # every figure of the write-up counts, its onset too
    same = [_agrees(analysis, name, value) for _, name, value in scores] + _onset_agrees(analysis)
    if not same:
        return ""
    verdict = "Reproduced" if all(same) else "Reproduced in part" if any(same) else "Not reproduced"
    ours = [
        f"{_metric(analysis, name).label} is {level(analysis, _arm(analysis), name)}"
        for _, name, _ in scores
    ]
    sentences = []
    if scores:
        sentences.append(
            f"{reported.source} reports {listed([text for text, *_ in scores])}; here, {listed(ours)}"
        )
    if reported.onset_epoch is not None:
        sentences.append(
            f"its loss turns up after about epoch {reported.onset_epoch:g}, and here {_onset(analysis)}"
        )
    text = f"{verdict}: {'; '.join(sentences)}."
    gap = level(analysis, _arm(analysis), analysis.gap)
    text += f" The overfitting gap here is {gap}." if gap else ""
    different = differing(analysis)
    if different and not all(same):
        text += f" Ours is not the same run: {listed([_apart(*item) for item in different], 6)}."
    return text


def theirs_and_ours(analysis: Analysis) -> TableBlock | None:
    """Return a row for every figure and setting of the write-up: theirs, ours, and why they may differ; None without any."""
    reported = analysis.study.reported
    if reported is None:
        return None
    # which setting is to blame was not tested, so none is named
    different = differing(analysis)
    cause = "ours is not the same run, see the settings below" if different else ""
    rows: list[list[object]] = [
        [
            _capital(_metric(analysis, name).label),
            _theirs(value, _metric(analysis, name)),
            level(analysis, _arm(analysis), name) or "–",
            _same(_agrees(analysis, name, value)),
            "" if _agrees(analysis, name, value) else cause,
        ]
        for name, value in reported.metrics.items()
    ]
    gap = _gap_row(analysis, reported)
    rows += [gap] if gap else []
    for agrees in _onset_agrees(analysis):
        rows.append(
            [
                f"Epoch after which {on_held_out(analysis, 'loss')} turns up",
                f"about {reported.onset_epoch:g}",
                _capital(_onset(analysis)),
                _same(agrees),
                "" if agrees else cause,
            ]
        )
    rows += [
        [
            _capital(_PLAIN.get(field, field)),
            _count(value),
            _count(ours),
            _same(value == ours),
            "" if value == ours else _set_by(analysis),
        ]
        for field, value, ours in _settings(analysis, reported)
    ]
    caption = (
        f"What {reported.source} reports and what this study has. Same: the reported figure lies "
        f"inside our interval ({confidence(analysis.study)}); for settings, they are equal. "
        "Which of the differing settings makes the difference was not tested."
    )
    heads = ["What", f">{_capital(reported.source)}", ">Here", "Same", "Why they may differ"]
    return table(caption, heads, rows)


def differing(analysis: Analysis) -> list[tuple[str, object, object]]:
    """Return (field, theirs, ours) of every stated setting that ours has otherwise."""
    reported = analysis.study.reported
    return (
        [item for item in _settings(analysis, reported) if item[1] != item[2]] if reported else []
    )


def _settings(analysis: Analysis, reported: Reported) -> list[tuple[str, object, object]]:
    ours = analysis.study.base_recipe.flat()
    # 0 is the size that the images have
    side = ours["data.size"] or SIDES.get(analysis.study.base_recipe.data.name, 0)
    ours = {**ours, "data.size": side}
    return [(field, value, ours.get(field)) for field, value in reported.settings.items()]


def _gap_row(analysis: Analysis, reported: Reported) -> list[object]:
    """The gap that follows from the two accuracies; nothing where one of them is not reported."""
    # a write-up that gives both has given its gap
    known = {"train_accuracy", "accuracy"} <= reported.metrics.keys()
    if not known or "gap" in reported.metrics:
        return []
    gap = reported.metrics["train_accuracy"] - reported.metrics["accuracy"]
    agrees = _agrees(analysis, "gap", gap)
    shown = f"{number(100 * gap)} pp"
    return [
        "Overfitting gap",
        TableCell(shown, 100 * gap),
        level(analysis, _arm(analysis), "gap"),
        _same(agrees),
        "",
    ]


def _arm(analysis: Analysis) -> str:
    return analysis.study.baseline


def _metric(analysis: Analysis, name: str) -> Metric:
    return metric_of(analysis, name)


def _theirs(value: float, metric: Metric) -> str:
    """A figure of the write-up with the digits that it was given with."""
    return f"{metric.scale * value:g}{unit_name(metric.unit, level=metric.name != 'gap')}"


def _agrees(analysis: Analysis, name: str, value: float) -> bool:
    summary: Summary | None = summary_of(analysis, _arm(analysis), name)
    if summary is None or summary.low is None or summary.high is None:
        return False
    return summary.low <= value * metric_of(analysis, name).scale <= summary.high


def _onset_agrees(analysis: Analysis) -> list[bool]:
    """Whether the loss turns up in most seeds, as theirs does; nothing where the write-up does not say when it does."""
    reported = analysis.study.reported
    if reported is None or reported.onset_epoch is None:
        return []
    arm = next(arm for arm in analysis.arms if arm.name == _arm(analysis))
    return [arm.onset_epoch is not None and arm.onset_none < arm.completed / 2]


def _onset(analysis: Analysis) -> str:
    """When our loss turns up, in words."""
    arm = next(arm for arm in analysis.arms if arm.name == _arm(analysis))
    seeds, epochs = arm.completed, analysis.study.base_recipe.train.epochs
    within = f"within {plural(epochs, 'epoch')}"
    if arm.onset_epoch is None:
        return f"it does not turn up {within} in any of {plural(seeds, 'seed')}"
    return f"it turns up after epoch {arm.onset_epoch:g} (median) in {arm.onsets} of {plural(seeds, 'seed')}"


def _apart(field: str, theirs: object, ours: object) -> str:
    """``2,000 training images instead of 50,000``, or ``model.width 0.25 instead of 1``."""
    if field in _PLAIN:
        return f"{_count(ours)} {_PLAIN[field]} instead of {_count(theirs)}"
    return f"{field} {_count(ours)} instead of {_count(theirs)}"


def _set_by(analysis: Analysis) -> str:
    profile = analysis.study.profile
    return f"profile {profile} sets it, to fit its machine" if profile else "this study sets it"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def _same(agrees: bool) -> str:  # noqa: FBT001 - a column of yes and no
    return "yes" if agrees else "no"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
