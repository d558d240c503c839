"""Drawings of learning: loss, accuracy, gap and learning rate by epoch, each arm in front of the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.analysis import Analysis
from harness.plugins import is_plugin
from harness.report.document import Figure, TableBlock, TableCell, table
from harness.report.figures import canvas, scores
from harness.report.lookup import arm_of, on_held_out, summary_of
from harness.report.material import Material, recipe_ids
from harness.report.palette import PAGE
from harness.report.words import listed, named, number, plain_confidence
from harness.study.schedules import schedule_table
from harness.study.trial import CURVE_IMAGES, Curve, Trial
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 3


@dataclass(frozen=True)
class _Job:
    """What every drawing here needs.

    Attributes:
        trials: completed trials of every arm.
        names: arms that get a panel; ``left`` have none.
    """

    material: Material
    analysis: Analysis
    trials: Mapping[str, list[Trial]]
    names: list[str]
    left: int
    formats: Sequence[str]


_TRAIN, _VAL = PAGE["worse"], PAGE["better"]


def learning(
    material: Material, analysis: Analysis, formats: Sequence[str], *, brief: bool = False
) -> list[Figure]:
    """Draw losses, accuracies, gaps and learning rates by epoch; only the losses when ``brief``."""
    if not material.curves:
        return []
    trials = {name: found for name, found in scores.by_arm(material, analysis).items() if found}
    if not any(len(material.curves.get(t.cell, ())) for found in trials.values() for t in found):
        return []
    names, left = scores.chosen_arms(analysis)
    job = _Job(
        material, analysis, trials, [name for name in names if name in trials], left, formats
    )
    drawn = [_losses(job)]
    if not brief:
        drawn += [_accuracies(job), _gaps(job), _rates(job)]
    return [figure for figure in drawn if figure is not None]


def _losses(job: _Job) -> Figure | None:
    bands = _bands(job, {"train": "train_loss", "val": "val_loss"})
    if not bands:
        return None
    # the first epochs are so bad that they would flatten the rest
    early = max(1, min(len(b.mean_E) for pair in bands.values() for b in pair.values()) // 10)
    top = max(
        float(pair["val"].high_E[early:].max(initial=0.0))
        for pair in bands.values()
        if "val" in pair
    )
    with _panels("losses", bands, job.formats) as (opened, panels):
        _draw(opened, panels, bands, job.analysis, label="loss")
        # loss has a true zero
        for name, ax in panels.items():
            ax.set_ylim(0, 1.04 * top or 1.0)
            _onset(ax, job.analysis, name, bands[name].get("val"))
    onsets = {
        name: arm.onset_epoch
        for name in bands
        if (arm := arm_of(job.analysis, name)) and arm.onset_epoch is not None
    }
    alone = len(bands) == 1
    if onsets:
        first = min(onsets, key=lambda name: onsets[name] or 0.0)
        where = "" if alone else f" in {len(onsets)} of {len(bands)} arms, first in {named(first)},"
        alt = f"{_loss(job)} turns up{where} after epoch {onsets[first]:g}."
    else:
        alt = f"{_loss(job)} does not turn up{'' if alone else f' in any of {len(bands)} arms'}."
    caption = _caption(job, "Cross-entropy")
    if onsets:  # what is not drawn is not explained
        curve = "test" if job.analysis.study.without_validation else "validation"
        caption += f" A tick on the {curve} curve marks the onset: the median epoch of lowest loss."
    behind = _table(bands, "Loss", _curves(job), "1")
    return canvas.figure(opened, "losses", "Loss by epoch", alt=alt, caption=caption, table=behind)


def _accuracies(job: _Job) -> Figure | None:
    bands = _bands(job, {"train": "train_accuracy", "val": "val_accuracy"}, scale=100.0)
    if not bands:
        return None
    ends = [float(b.mean_E[-1]) for pair in bands.values() for b in pair.values()]
    low = min(float(b.mean_E[len(b.mean_E) // 8]) for pair in bands.values() for b in pair.values())
    with _panels("accuracies", bands, job.formats) as (opened, panels):
        _draw(opened, panels, bands, job.analysis, label="accuracy, %")
        for ax in panels.values():
            ax.set_ylim(max(0.0, low - 2), min(100.5, max(ends) + 0.06 * (max(ends) - low) + 1))
    finals = _finals(job, bands, "accuracy")
    best = max(finals, key=lambda name: finals[name], default="")
    scored = on_held_out(job.analysis, "accuracy")
    alt = f"{scored[:1].upper()}{scored[1:]} by epoch."
    if best:
        ending = "ends at" if len(finals) == 1 else f"ends highest in {named(best)}, at"
        alt = f"{scored[:1].upper()}{scored[1:]} {ending} {number(finals[best])} %."
    behind = _table(bands, "Accuracy, %", _curves(job), "pp")
    caption = _caption(job, "Accuracy") + _subset(finals, bands, "val")
    return canvas.figure(
        opened, "accuracies", "Accuracy by epoch", alt=alt, caption=caption, table=behind
    )


def _gaps(job: _Job) -> Figure | None:
    """The gap's band comes from each seed's own gap, not from two bands."""
    import numpy as np

    bands: dict[str, dict[str, scores.Band]] = {}
    for name in job.names:
        rows = []
        for trial in job.trials[name]:
            curve = job.material.curves.get(trial.cell, Curve())
            if len(curve.train_accuracy) == len(curve.val_accuracy) > 0:
                rows.append(
                    100 * (np.asarray(curve.train_accuracy) - np.asarray(curve.val_accuracy))
                )
        if rows:
            epochs = min(map(len, rows))
            band = scores.band_of(
                np.asarray([row[:epochs] for row in rows]), alpha=job.analysis.study.alpha
            )
            if band is not None:
                bands[name] = {"gap": band}
    if not bands:
        return None
    with _panels("gaps", bands, job.formats) as (opened, panels):
        _draw(opened, panels, bands, job.analysis, label="gap, pp")
        low = min(
            float(pair["gap"].low_E[len(pair["gap"].low_E) // 8 :].min()) for pair in bands.values()
        )
        high = max(
            float(pair["gap"].high_E[len(pair["gap"].high_E) // 8 :].max())
            for pair in bands.values()
        )
        for ax in panels.values():
            ax.axhline(0, color=PAGE["faint"], linewidth=0.8)
            ax.set_ylim(low - 0.04 * (high - low) - 0.5, high + 0.04 * (high - low) + 0.5)
    finals = _finals(job, bands, "gap")
    alt = "The overfitting gap by epoch."
    if finals:
        wide, narrow = max(finals, key=lambda n: finals[n]), min(finals, key=lambda n: finals[n])
        alt = (
            f"The gap ends widest in {named(wide)}, {number(finals[wide])} pp, and narrowest in "
            f"{named(narrow)}, {number(finals[narrow])} pp."
            if wide != narrow
            else f"The gap ends at {number(finals[wide])} pp."
        )
    caption = _caption(
        job, f"Clean train accuracy minus {on_held_out(job.analysis, 'accuracy')}", lines=""
    )
    caption += _subset(finals, bands, "gap")
    behind = _table(bands, "Gap, pp", {"gap": "gap"}, "pp")
    return canvas.figure(
        opened, "gaps", "Overfitting gap by epoch", alt=alt, caption=caption, table=behind
    )


@dataclass(frozen=True, slots=True)
class _Schedule:
    """A learning rate by step, and the arms that have it."""

    rates: tuple[float, ...]
    epochs: int
    arms: list[str]

    def epoch(self, step: int) -> float:
        """Return the epoch at whose end a drawn step lies."""
        return (step + 1) * self.epochs / len(self.rates)


def _rates(job: _Job) -> Figure | None:
    """Draw the learning rate of every step, one line a distinct schedule; nothing for a script, whose schedule is its own."""
    schedules = [] if job.analysis.study.foreign else _schedules(job)
    if not schedules:
        return None
    # line styles, for those who do not see the colours
    styles = ["-", "--", ":", "-."]
    pens = [PAGE["better"], PAGE["worse"], PAGE["equivalent"], PAGE["ink"]]
    with canvas.sheet("rates", 2.3, formats=job.formats) as opened:
        drawn = schedules[: 4 * len(styles)]
        for i, schedule in enumerate(drawn):
            opened.ax.plot(
                [schedule.epoch(step) for step in range(len(schedule.rates))],
                schedule.rates,
                color=pens[i % 4],
                linestyle=styles[i % 4],
                linewidth=1.5,
            )
        opened.ax.set_xlabel("epoch")
        opened.ax.set_ylabel("learning rate")
        opened.ax.set_ylim(bottom=0)
        if len(schedules) > 1:
            names = [canvas.short(listed(schedule.arms, 2), 38) for schedule in drawn]
            canvas.legend_below(opened, opened.ax.get_lines(), names)
    rows = []
    for schedule in schedules:
        peak = max(schedule.rates)
        numbers = (
            schedule.rates[0],
            peak,
            schedule.epoch(schedule.rates.index(peak)),
            schedule.rates[-1],
        )
        cells = [TableCell(f"{value:.3g}", value) for value in numbers]
        rows.append([TableCell(", ".join(schedule.arms)), *cells])
    first = schedules[0]
    peak = max(first.rates)
    whose = "" if len(schedules) == 1 else f" of {named(first.arms[0])}"
    alt = (
        f"{plural(len(schedules), 'schedule')}; the highest rate{whose}, {peak:.3g}, is reached at epoch "
        f"{first.epoch(first.rates.index(peak)):.1f}."
    )
    heads = ["Arms", ">First", ">Highest", ">At epoch", ">Last"]
    behind = table("Learning rate of each distinct schedule.", heads, rows)
    caption = "Learning rate of every step, from the recipe"
    caption += (
        "; the same in every arm." if len(schedules) == 1 and len(job.analysis.arms) > 1 else "."
    )
    return canvas.figure(opened, "rates", "Learning rate", alt=alt, caption=caption, table=behind)


def _schedules(job: _Job) -> list[_Schedule]:
    """Return the distinct schedules of the arms, in the order of the arms."""
    recipes = {
        key: trial.recipe
        for key, trial in zip(recipe_ids(job.material.trials), job.material.trials, strict=True)
    }
    shapes: dict[tuple[tuple[float, ...], int], list[str]] = {}
    for arm in job.analysis.arms:
        recipe = recipes.get(arm.recipe_id)
        if recipe is None:
            continue
        # all images: the shape does not depend on how many
        images = recipe.data.train or 100 * recipe.train.batch_size
        steps = recipe.train.epochs * max(1, -(-images // recipe.train.batch_size))
        # a user's own code is not run for a report: what its trials noted is drawn
        if is_plugin(recipe.schedule.name):
            rates = _noted(job, arm.name)
        else:
            every = max(1, steps // 300)
            rates = tuple(rate for rate, _ in schedule_table(recipe.schedule, steps)[::every])
        if rates:
            shapes.setdefault((rates, recipe.train.epochs), []).append(arm.name)
    return [_Schedule(rates, epochs, names) for (rates, epochs), names in shapes.items()]


def _noted(job: _Job, arm: str) -> tuple[float, ...]:
    """Return the last learning rate of every epoch, as the first trial of an arm that has a curve noted it."""
    curves = (job.material.curves.get(trial.cell) for trial in job.trials.get(arm, ()))
    return next(
        (curve.learning_rate for curve in curves if curve is not None and curve.learning_rate), ()
    )


def _bands(
    job: _Job, columns: Mapping[str, str], scale: float = 1.0
) -> dict[str, dict[str, scores.Band]]:
    found = {}
    for name in job.names:
        pair = {}
        for label, column in columns.items():
            band = scores.band(
                job.trials[name],
                job.material.curves,
                column,
                alpha=job.analysis.study.alpha,
                scale=scale,
            )
            if band is not None:
                pair[label] = band
        if "val" in pair:
            found[name] = pair
    return found


@contextmanager
def _panels(
    name: str, bands: Mapping[str, object], formats: Sequence[str]
) -> Iterator[tuple[canvas.Sheet, dict[str, Axes]]]:
    """Open a sheet with one panel an arm, axes shared; those left over are removed."""
    from matplotlib.ticker import MaxNLocator

    count, across = len(bands), _across(len(bands))
    down = -(-count // across)
    height = 0.55 + 1.6 * down if across > 1 else 2.6
    with canvas.sheet(
        name, height, rows=down, columns=across, formats=formats, sharex=True, sharey=True
    ) as opened:
        for ax in opened.axes[count:]:
            ax.remove()
        opened.axes = opened.axes[:count]
        for i, ax in enumerate(opened.axes):
            ax.tick_params(labelbottom=i + across >= count)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(4))
        yield opened, dict(zip(bands, opened.axes, strict=True))


def _across(count: int) -> int:
    """Panels in a row: three, but two where three would leave a row with one."""
    return 2 if count == 4 else min(_ACROSS, count)


_DASHED: Any = (0, (3.2, 1.4))
_PENS: dict[str, tuple[str, Any]] = {
    "train": (_TRAIN, _DASHED),
    "val": (_VAL, "-"),
    "gap": (_VAL, "-"),
}


def _draw(
    opened: canvas.Sheet,
    panels: Mapping[str, Axes],
    bands: Mapping[str, Mapping[str, scores.Band]],
    analysis: Analysis,
    *,
    label: str,
) -> None:
    """Draw each arm's curves in front of the baseline's in grey, and name them under the drawing."""
    from matplotlib.lines import Line2D

    baseline = analysis.study.baseline
    across = _across(len(panels))
    for index, (name, ax) in enumerate(panels.items()):
        if name != baseline:
            for which, band in bands.get(baseline, {}).items():
                pen = {"color": PAGE["faint"], "linewidth": 1.3, "linestyle": _PENS[which][1]}
                ax.plot(band.epochs_E, band.mean_E, zorder=1, **pen)
        for which, band in bands[name].items():
            _curve(ax, band, *_PENS[which])
        ax.set_title(canvas.short(name, 24), color=PAGE["ink"])
        ax.set_ylabel(label if index % across == 0 else "")
        ax.set_xlabel("epoch" if index + across >= len(panels) else "")

    words = {"train": "train, clean", "val": on_held_out(analysis, ""), "gap": "gap"}
    kinds = [which for which in _PENS if any(which in pair for pair in bands.values())]
    handles = [
        Line2D([], [], color=_PENS[which][0], linewidth=1.6, linestyle=_PENS[which][1])
        for which in kinds
    ]
    names = [words[which] for which in kinds]
    if baseline in bands and len(bands) > 1:
        handles.append(Line2D([], [], color=PAGE["faint"], linewidth=1.3))
        names.append(f"{canvas.short(baseline, 20)}, for comparison")
    canvas.legend_below(opened, handles, names, handlelength=2.6)


def _curve(ax: Axes, band: scores.Band, colour: str, line: Any) -> None:
    """Draw a mean curve, and its interval where there is more than one seed."""
    if band.n > 1:
        ax.fill_between(
            band.epochs_E, band.low_E, band.high_E, color=colour, alpha=0.18, linewidth=0, zorder=2
        )
    ax.plot(band.epochs_E, band.mean_E, color=colour, linewidth=1.6, linestyle=line, zorder=3)


def _onset(ax: Axes, analysis: Analysis, name: str, band: scores.Band | None) -> None:
    arm = arm_of(analysis, name)
    if arm is None or band is None or arm.onset_epoch is None:
        return
    y = float(band.mean_E[band.at(round(arm.onset_epoch))])
    ax.plot(
        [arm.onset_epoch],
        [y],
        marker="|",
        markersize=13,
        markeredgewidth=1.8,
        color=PAGE["ink"],
        zorder=5,
    )
    ax.annotate(
        f"{arm.onset_epoch:g}",
        (arm.onset_epoch, y),
        (0, 9),
        textcoords="offset points",
        ha="center",
        color=PAGE["ink"],
    )


def _finals(job: _Job, bands: Mapping[str, object], metric: str) -> dict[str, float]:
    """Return the arms' means of the finished trials, on all images: curves may be drawn on fewer of them."""
    summaries = {name: summary_of(job.analysis, name, metric) for name in bands}
    return {name: s.mean for name, s in summaries.items() if s is not None and s.mean is not None}


def _subset(
    finals: Mapping[str, float], bands: Mapping[str, Mapping[str, scores.Band]], which: str
) -> str:
    """Say why the curves end a little off the tables, where they do; empty where they agree."""
    ends = {name: float(pair[which].mean_E[-1]) for name, pair in bands.items() if which in pair}
    if all(abs(ends[name] - value) < 0.005 for name, value in finals.items() if name in ends):
        return ""
    return (
        f" Curves are drawn on at most {CURVE_IMAGES:,} held-out images and as many training images; the tables "
        "count more, so the last points differ a little from them."
    )


def _loss(job: _Job) -> str:
    text = on_held_out(job.analysis, "loss")
    return text[:1].upper() + text[1:]


def _curves(job: _Job) -> dict[str, str]:
    return {
        "train": "train",
        "val": on_held_out(job.analysis, "") if job.analysis.study.without_validation else "val",
    }


def _caption(job: _Job, what: str, lines: str | None = None) -> str:
    if lines is None:
        lines = f"solid {on_held_out(job.analysis, '')}, dashed train (clean: no augmentation)"
    study, n = job.analysis.study, len(job.analysis.seeds)
    text = f"{what}: mean over seeds" + (
        f", band {plain_confidence(study)}, n = {n}" if n > 1 else ""
    )
    text += f"; {lines}." if lines else "."
    text += " Grey: the baseline." if len(job.analysis.arms) > 1 else ""
    if job.left:
        verb = "has" if job.left == 1 else "have"
        text += f" {plural(job.left, 'arm')} with the smallest effects {verb} no panel; curves.parquet has all."
    return text


def _table(
    bands: Mapping[str, Mapping[str, scores.Band]], what: str, words: Mapping[str, str], unit: str
) -> TableBlock:
    """The curves at a quarter, a half, three quarters and the end."""
    epochs = max(int(b.epochs_E[-1]) for pair in bands.values() for b in pair.values())
    # four epochs say how a curve runs
    marks = sorted({max(1, round(epochs * share)) for share in (0.25, 0.5, 0.75, 1.0)})
    rows = []
    for name, pair in bands.items():
        for which, word in words.items():
            band = pair.get(which)
            if band is None:
                continue
            cells = [
                TableCell(
                    number(float(band.mean_E[band.at(m)]), unit), float(band.mean_E[band.at(m)])
                )
                if band.epochs_E[0] <= m <= band.epochs_E[-1]
                else TableCell("–")
                for m in marks
            ]
            rows.append([TableCell(name), word, *cells, TableCell(str(band.n))])
    return table(
        f"{what} at some epochs, mean over n seeds.",
        ["Arm", "Curve", *(f">epoch {m}" for m in marks), ">n"],
        rows,
    )
