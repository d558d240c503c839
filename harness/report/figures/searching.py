"""Drawings of what a search cost: how far each trial came, and score against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.tuning_facts import SearchTrial, TuningFacts
from harness.report.document import Figure, TableCell, table
from harness.report.figures import canvas
from harness.report.figures.search import scaled
from harness.report.palette import PAGE
from harness.report.words import number, seconds
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PENS = {"complete": "better", "pruned": "unresolved", "diverged": "worse", "failed": "worse"}
_MARKS = {"complete": "o", "pruned": "X", "diverged": "v", "failed": "s"}


def timeline(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw how many epochs each trial of the search ran; None while none was stopped early."""
    trials = [trial for trial in facts.history if trial.epochs]
    # where every trial ran to its end there is nothing to see
    stopped = [trial for trial in trials if trial.state != "complete"]
    if not stopped:
        return None
    with canvas.sheet("search-epochs", 2.3, formats=formats) as opened:
        ax = opened.ax
        for state, pen in _PENS.items():
            these = [trial for trial in trials if trial.state == state]
            if these:
                at, ran = [trial.number for trial in these], [trial.epoch for trial in these]
                ax.vlines(at, 0, ran, color=PAGE[pen], linewidth=1.4, alpha=0.5)
                ax.plot(
                    at,
                    ran,
                    linestyle="none",
                    marker=_MARKS[state],
                    markersize=4.5,
                    color=PAGE[pen],
                    label=state,
                )
        ax.set_ylim(bottom=0)
        ax.set_xlabel("trial of the search")
        ax.set_ylabel("epochs run")
        canvas.legend_below(opened, *ax.get_legend_handles_labels())
    saved = 1 - sum(trial.epoch for trial in trials) / sum(trial.epochs for trial in trials)
    ended = f"{len(stopped)} of {plural(len(trials), 'trial')} stopped before the last epoch"
    alt = f"{ended}, which saved {100 * saved:.0f} % of the epochs."
    caption = f"A stopped trial is censored: it has no score. Stopping saved {100 * saved:.0f} % of the epochs."
    rows = [
        [str(t.number), t.state, TableCell(f"{t.epoch} of {t.epochs}", t.epoch)] for t in stopped
    ]
    behind = table(caption, [">Trial", "State", ">Epochs"], rows)
    return canvas.figure(
        opened, "search-epochs", "How far each trial came", alt=alt, caption=caption, table=behind
    )


def front(facts: TuningFacts) -> list[SearchTrial]:
    """Return the complete trials within the limits that no other beats in both seconds and score, the fastest first."""
    # a trial that broke a limit could not be chosen, so it is no offer
    sign = scaled(facts)[2]
    done = [
        trial
        for trial in facts.history
        if trial.value is not None and trial.seconds > 0 and not trial.broken
    ]
    found: list[SearchTrial] = []
    for trial in sorted(done, key=lambda t: (t.seconds, -sign * (t.value or 0.0))):
        if not found or sign * (trial.value or 0.0) > sign * (found[-1].value or 0.0):
            found.append(trial)
    return found


def against_seconds(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the search score against training seconds with the Pareto line; None with fewer than three complete trials."""
    scale, axis_label, _ = scaled(facts)
    unit = "pp" if scale > 1 else "1"
    done = [trial for trial in facts.history if trial.value is not None and trial.seconds > 0]
    best = front(facts)
    if len(done) < 3 or not best:
        return None
    with canvas.sheet("search-seconds", 3.1, formats=formats) as opened:
        ax = opened.ax
        for within, marker, pen in ((True, "o", "better"), (False, "x", "unresolved")):
            these = [trial for trial in done if bool(trial.broken) is not within]
            label = "within the limits" if within else "beyond a limit"
            _timed(ax, these, scale, label, marker=marker, markersize=5, alpha=0.7, color=PAGE[pen])
        reference = [trial for trial in done if trial.number == 0]
        style = {"marker": "D", "markersize": 7, "markerfacecolor": "none", "color": PAGE["worse"]}
        _timed(ax, reference, scale, "reference", **style)
        ax.step(
            [t.seconds for t in best],
            [scale * (t.value or 0.0) for t in best],
            where="post",
            color=PAGE["ink"],
            linewidth=1.1,
            linestyle=(0, (4, 2)),
            label="Pareto line",
        )
        ax.set_xlabel("training seconds, evaluation left out")
        ax.set_ylabel(axis_label)
        canvas.legend_below(opened, *ax.get_legend_handles_labels())
    ends = [
        f"{number(scale * (t.value or 0.0), unit)} in {seconds(t.seconds)}"
        for t in (best[0], best[-1])
    ]
    alt = f"{plural(len(best), 'trial')} of {len(done)} on the Pareto line, from {ends[0]} to {ends[1]}."
    caption = "Search scores, one seed each: neighbours on the line need not differ. Times include what else ran on the machine."
    rows = [
        [
            TableCell(str(t.number)),
            TableCell(seconds(t.seconds), t.seconds),
            TableCell(number(scale * (t.value or 0.0), unit), scale * (t.value or 0.0)),
        ]
        for t in best
    ]
    behind = table(
        "The trials on the Pareto line.", [">Trial", ">Training", f">{axis_label}"], rows
    )
    return canvas.figure(
        opened,
        "search-seconds",
        "Search score against time",
        alt=alt,
        caption=caption,
        table=behind,
    )


def _timed(ax: Axes, trials: Sequence[SearchTrial], scale: float, label: str, **style: Any) -> None:
    """Draw trials by their seconds and scores; nothing, not even a name, where there is none."""
    if trials:
        levels = [scale * (trial.value or 0.0) for trial in trials]
        ax.plot([trial.seconds for trial in trials], levels, linestyle="none", label=label, **style)
