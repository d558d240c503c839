"""Drawings of a search: its history and the association of its parameters with the metric."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis.tuning_facts import Importance, SearchTrial, TuningFacts
from harness.report.document import Figure, TableBlock, TableCell, table
from harness.report.figures import canvas
from harness.report.palette import PAGE
from harness.report.words import number, plain, unit_name
from harness.study.trial import METRICS
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_STEPS = 4  # values that get a tick each
_SLICES = 15  # parameters that are drawn; the table has all


def scaled(facts: TuningFacts) -> tuple[float, str, float]:
    """Return (scale, words for the axis, 1 or -1 for the direction)."""
    metric = METRICS.get(facts.metric)
    if metric is None:
        return 1.0, facts.metric, 1.0
    return (
        metric.scale,
        f"{metric.label}{', %' if metric.unit == 'pp' else ''}",
        -1.0 if metric.higher_is_better is False else 1.0,
    )


def _allowed(done: list[tuple[SearchTrial, float]]) -> list[tuple[SearchTrial, float]]:
    """The trials within the limits, or all where none is: what broke a limit is never chosen."""
    return [item for item in done if not item[0].broken] or done


def history(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the score of every trial of the search in its order, and the best so far; None without a scored trial."""
    from matplotlib.ticker import MaxNLocator

    scale, label, sign = scaled(facts)
    done = complete(facts)
    if not done:
        return None
    allowed = _allowed(done)
    unit = "pp" if scale > 1 else "1"
    with canvas.sheet("search", 2.7, formats=formats) as opened:
        ax = opened.ax
        beyond = _score_axis(ax, [score for _, score in done], sign)
        _history_dots(ax, done)
        ax.step(
            [trial.number for trial, _ in allowed],
            _best_so_far([score for _, score in allowed], sign),
            where="post",
            color=PAGE["ink"],
            linewidth=1.3,
            label="best so far",
        )
        if facts.reference_value is not None:
            pen: Any = {"color": PAGE["worse"], "linewidth": 1.1, "linestyle": (0, (4, 2))}
            ax.axhline(scale * facts.reference_value, label="reference", **pen)
        _beyond(ax, [trial.number for trial, score in done if beyond(score)], sign)
        ax.set_xlabel("trial of the search")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.set_ylabel(label)
        canvas.legend_below(opened, *ax.get_legend_handles_labels())
    top = max(allowed, key=lambda item: sign * item[1])
    alt = (
        f"{plural(len(done), 'trial')} of the search completed; the best search score, "
        f"{number(top[1], unit)}{unit_name(unit, level=True)}, is that of trial {top[0].number}."
    )
    caption = (
        "Score on validation, one seed each, in the order of the search. The best of many is optimistic: it is a "
        "search score, not a result."
    )
    if any(trial.broken for trial, _ in done):
        caption += " Crosses broke a limit and could not be chosen."
    return canvas.figure(
        opened,
        "search",
        "History of the search",
        alt=alt,
        caption=caption,
        table=_best_table(done, sign, label, unit),
    )


def _best_table(
    done: Sequence[tuple[SearchTrial, float]], sign: float, label: str, unit: str
) -> TableBlock:
    ranked = sorted(done, key=lambda item: -sign * item[1])[:10]
    rows = [
        [
            TableCell(str(trial.number)),
            TableCell(number(score, unit), score),
            ", ".join(trial.broken) or "–",
            TableCell(_params(trial)),
        ]
        for trial, score in ranked
    ]
    heads = [">Trial", f">{label}", "Limits broken", "Parameters"]
    return table("The ten best search scores.", heads, rows)


def _beyond(ax: Axes, numbers: Sequence[int], sign: float) -> None:
    """Mark trials whose score lies beyond the axis at its edge, so that none is cut in half or missing."""
    if not numbers:
        return
    edge, marker = (0.0, "v") if sign > 0 else (1.0, "^")
    ax.plot(
        numbers,
        [edge] * len(numbers),
        transform=ax.get_xaxis_transform(),
        clip_on=False,
        linestyle="none",
        marker=marker,
        markersize=6,
        color=PAGE["unresolved"],
        label="worse than the axis shows",
    )


def complete(facts: TuningFacts) -> list[tuple[SearchTrial, float]]:
    """Return every trial that ran to its end with its score as it is shown, in the order of the search."""
    scale = scaled(facts)[0]
    return [
        (trial, scale * trial.value)
        for trial in facts.history
        if trial.state == "complete" and trial.value is not None
    ]


def _best_so_far(values: Sequence[float], sign: float) -> list[float]:
    best: list[float] = []
    for value in values:
        best.append(value if not best or sign * value > sign * best[-1] else best[-1])
    return best


def _score_axis(ax: Axes, values: Sequence[float], sign: float) -> Callable[[float], bool]:
    """Set the axis so that a few hopeless trials do not flatten the rest; return whether a score lies beyond it."""
    # a tenth of the trials may be hopeless
    ordered = sorted(values)
    tenth = len(ordered) // 10
    core = ordered[tenth:] if sign > 0 else ordered[: len(ordered) - tenth]
    pad = 0.12 * (core[-1] - core[0] or 1.0)
    low, high = core[0] - pad, core[-1] + pad
    # a score that would fit with a little more room is no outlier
    low = min(ordered[0] - pad, low) if ordered[0] > low - 2 * pad else low
    high = max(ordered[-1] + pad, high) if ordered[-1] < high + 2 * pad else high
    ax.set_ylim(low, high)
    return lambda value: not low <= value <= high


def _history_dots(ax: Axes, done: Sequence[tuple[SearchTrial, float]]) -> None:
    """Draw the trials within the limits as dots, those that broke one as crosses."""
    for broken, marker, pen, label in (
        (False, "o", "better", "complete"),
        (True, "x", "unresolved", "broke a limit"),
    ):
        these = [(trial.number, score) for trial, score in done if bool(trial.broken) is broken]
        if these:
            ax.plot(
                [at for at, _ in these],
                [score for _, score in these],
                linestyle="none",
                marker=marker,
                markersize=5.5,
                markeredgewidth=1.3 if broken else 0,
                color=PAGE[pen],
                label=label,
            )


def importances(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the association of each parameter with the metric, with the dummy's as the floor; None without any."""
    if not facts.importances:
        return None
    found = sorted(facts.importances, key=lambda item: -item.value)
    with canvas.sheet("importances", 0.9 + 0.27 * len(found), formats=formats) as opened:
        _bars(opened.ax, found)
        if facts.floor is not None:
            _floor(opened.ax, facts.floor)
        opened.ax.set_xlabel("importance (share of the association)")
    above = [i.parameter for i in found if facts.floor is not None and i.value > facts.floor]
    alt = f"{found[0].parameter} is most associated with the score ({found[0].value:.2f})" + (
        f"; {len(above)} of {plural(len(found), 'parameter')} {'lies' if len(above) == 1 else 'lie'} above the dummy's floor."
        if facts.floor is not None
        else "."
    )
    spread = any(item.low is not None for item in found)
    caption = "Association within this search space and these trials; never an effect." + (
        " Lines: the middle 80 % of bootstrap resamples." if spread else " Without an error bar."
    )
    rows = []
    for i in found:
        between = (
            f"{i.low:.3f} to {i.high:.3f}" if i.low is not None and i.high is not None else "–"
        )
        rows.append(
            [TableCell(i.parameter), TableCell(f"{i.value:.3f}", i.value), TableCell(between)]
        )
    behind = table(caption, ["Parameter", ">Importance", ">Middle 80 %"], rows)
    return canvas.figure(
        opened,
        "importances",
        "Which parameters went with the score",
        alt=alt,
        caption=caption,
        table=behind,
    )


def _bars(ax: Axes, found: Sequence[Importance]) -> None:
    """Draw a bar a parameter, with its bootstrap range where there is one."""
    for y, item in enumerate(found):
        ax.barh(y, item.value, height=0.55, color=PAGE["better"], alpha=0.45)
        if item.low is not None and item.high is not None:
            pen: Any = {"color": PAGE["ink"], "linewidth": 1.4, "solid_capstyle": "butt"}
            ax.plot([item.low, item.high], [y, y], **pen)
    canvas.name_rows(ax, [item.parameter for item in found])


def _floor(ax: Axes, floor: float) -> None:
    """Mark what a parameter that nothing depends on reached."""
    ax.axvline(floor, color=PAGE["worse"], linestyle=(0, (4, 2)), linewidth=1.2)
    ax.annotate(
        "floor: a dummy parameter",
        (floor, 1),
        (4, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=PAGE["worse"],
        va="bottom",
    )


def slices(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the score against each parameter by itself; None without parameters."""
    _, label, sign = scaled(facts)
    done = complete(facts)
    varied = list(dict.fromkeys(name for trial, _ in done for name in trial.params))
    names = varied[:_SLICES]
    if not names or len(done) < 3:
        return None
    across = min(3, len(names))
    down = -(-len(names) // across)
    winner = _winner(facts)
    with canvas.sheet(
        "slices", 0.7 + 1.75 * down, rows=down, columns=across, formats=formats, sharey=True
    ) as opened:
        for ax in opened.axes[len(names) :]:
            ax.remove()
        opened.axes = opened.axes[: len(names)]
        _score_axis(opened.ax, [score for _, score in done], sign)
        shown: dict[str, Any] = {}
        for ax, name in zip(opened.axes, names, strict=True):
            shown |= _slice(ax, name, done, facts.space.get(name, ""), winner=winner)
        # once: it is longer than a row is high
        opened.drawing.supylabel(label, fontsize="medium", color=PAGE["muted"])
        canvas.legend_below(opened, list(shown.values()), list(shown))
    alt = f"Search scores of {plural(len(done), 'trial')} against each of {plural(len(names), 'parameter')} by itself."
    caption = (
        "Each mark is a completed trial; the axes are scaled as they were searched, and the worst tenth may lie below "
        "them. Where the sampler looked is not uniform: a dense place is not a good place."
    )
    if len(varied) > len(names):
        caption += f" Drawn are the first {len(names)} of {len(varied)} parameters of the space; the table has all."
    best = max(_allowed(done), key=lambda item: sign * item[1])[0]
    rows = [_slice_row(name, done, best) for name in varied]
    heads = ["Parameter", "Tried", "In the trial with the best score"]
    behind = table("What was tried, and the value in the best trial.", heads, rows)
    return canvas.figure(
        opened, "slices", "Score against each parameter", alt=alt, caption=caption, table=behind
    )


def _winner(facts: TuningFacts) -> int:
    """The number of the trial whose recipe was chosen; -1 before one was."""
    chosen = next((f.name for f in facts.finalists if f.chosen), "")
    # an arm of a confirmation is called after its trial
    number_ = chosen.removeprefix("trial ")
    return int(number_) if number_.isdigit() else -1


def _slice(
    ax: Axes, name: str, done: Sequence[tuple[SearchTrial, float]], words: str, *, winner: int
) -> dict[str, Any]:
    """Draw one parameter, and return what each kind of mark means.

    A range is drawn as it was searched, on a logarithmic axis or not; choices are places of equal distance, numbers too.
    """
    having = [(trial, score) for trial, score in done if name in trial.params]
    values = [trial.params[name] for trial, _ in having]
    ranged = " to " in words or not words
    numeric = ranged and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in values
    )
    places: dict[Any, float] = {}
    if not numeric:
        ordered = list(dict.fromkeys(words.split(", "))) if words else []
        ordered += [text for text in dict.fromkeys(map(plain, values)) if text not in ordered]
        places = {text: float(i) for i, text in enumerate(ordered)}
        ax.set_xticks(list(places.values()), [canvas.short(text, 12) for text in places])
        ax.set_xlim(-0.5, len(places) - 0.5)
    shown: dict[str, Any] = {}
    for trial, score in having:
        value = trial.params[name]
        style, label = _slice_mark(trial, winner)
        x = float(value) if numeric else places[plain(value)]
        shown[label] = ax.plot([x], [score], linestyle="none", **style)[0]
    if numeric:
        whole = all(isinstance(value, int) for value in values)
        _slice_axis(ax, [float(value) for value in values], words, whole=whole)
    ax.set_xlabel(canvas.short(name, 28))
    return shown


def _slice_mark(trial: SearchTrial, winner: int) -> tuple[dict[str, Any], str]:
    if trial.number == winner:
        return {"marker": "*", "markersize": 11, "color": PAGE["ink"], "zorder": 4}, "winner"
    if trial.number == 0:
        style = {"marker": "D", "markersize": 6, "markerfacecolor": "none", "color": PAGE["worse"]}
        return {**style, "zorder": 4}, "reference"
    if trial.broken:
        return {"marker": "x", "markersize": 4.5, "color": PAGE["unresolved"]}, "broke a limit"
    pen = {"markersize": 5, "color": PAGE["better"], "alpha": 0.65, "markeredgewidth": 0}
    return {"marker": "o", **pen}, "within the limits"


def _slice_axis(ax: Axes, values: Sequence[float], words: str, *, whole: bool) -> None:
    """Scale a range as it was searched, from end to end, with few ticks in plain numbers: a page has no TeX for powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    searched = re.match(r"(\S+) to ([^\s,]+)", words)
    # the reference may lie outside of what was searched
    ends = [*values, *(float(end) for end in (searched.groups() if searched else ()))]
    low, high = min(ends), max(ends)
    if ", log" in words and low > 0:
        ax.set_xscale("log")
        ax.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        ax.xaxis.set_major_locator(LogLocator(numticks=4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        return
    pad = 0.06 * (high - low or 1.0)
    ax.set_xlim(low - pad, high + pad)
    steps = sorted(set(values))
    if len(steps) <= _FEW_STEPS:
        ax.set_xticks(steps, [f"{step:g}" for step in steps])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=whole))


def _slice_row(
    name: str, done: Sequence[tuple[SearchTrial, float]], best: SearchTrial
) -> list[TableCell]:
    values = [trial.params[name] for trial, _ in done if name in trial.params]
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    spread = (
        f"{plain(min(values))} to {plain(max(values))}"
        if numeric
        else ", ".join(sorted({plain(v) for v in values}))
    )
    return [TableCell(name), TableCell(spread), TableCell(plain(best.params.get(name, "–")))]


def _params(trial: SearchTrial) -> str:
    return ", ".join(f"{name} = {plain(value)}" for name, value in trial.params.items())
