"""Drawings of a search: its history and the association of its parameters with the metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.tuning_facts import SearchTrial, TuningFacts
from harness.report.document import Figure, TableCell, table
from harness.report.figures import canvas
from harness.report.palette import PAGE
from harness.report.words import number, plain
from harness.study.trial import METRICS
from harness.text import plural

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


def history(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the score of every trial of the search in its order, and the best so far; None without a scored trial."""
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    scale, label, sign = scaled(facts)
    scored = [(t, scale * t.value) for t in facts.history if t.value is not None]
    done = [(t, v) for t, v in scored if t.state == "complete"]
    if not done:
        return None
    unit = "pp" if scale > 1 else "1"
    with canvas.sheet("search", 2.7, formats=formats) as opened:
        ax = opened.ax
        for state, marker, pen in (
            ("complete", "o", PAGE["better"]),
            ("pruned", "X", PAGE["unresolved"]),
        ):
            these = [(t.number, v) for t, v in scored if t.state == state]
            if these:
                sns.scatterplot(
                    x=[n for n, _ in these],
                    y=[v for _, v in these],
                    ax=ax,
                    marker=marker,
                    s=30,
                    color=pen,
                    edgecolor="none",
                    label=state,
                )
        best: list[float] = []
        for _, value in done:
            best.append(value if not best or sign * value > sign * best[-1] else best[-1])
        ax.step(
            [t.number for t, _ in done],
            best,
            where="post",
            color=PAGE["ink"],
            linewidth=1.3,
            label="best so far",
        )
        if facts.reference_value is not None:
            ax.axhline(
                scale * facts.reference_value,
                color=PAGE["worse"],
                linewidth=1.1,
                linestyle=(0, (4, 2)),
                label="reference",
            )
        values = sorted(v for _, v in done)
        if len(values) > 7:  # a few hopeless trials must not flatten the rest
            core = (
                values[len(values) // 10 :] if sign > 0 else values[: -(len(values) // 10) or None]
            )
            pad = 0.15 * (core[-1] - core[0] or 1.0)
            ax.set_ylim(core[0] - pad, core[-1] + pad)
        ax.set_xlabel("trial of the search")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.set_ylabel(label)
        handles, names = ax.get_legend_handles_labels()
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        opened.drawing.legend(
            handles,
            names,
            loc="outside lower left",
            ncols=4,
            labelcolor=PAGE["muted"],
            columnspacing=1.4,
        )
    top = max(done, key=lambda item: sign * item[1])
    alt = (
        f"{plural(len(done), 'trial')} of the search completed; the best search score, {number(top[1], unit)}, "
        f"came at trial {top[0].number}."
    )
    caption = "Score on validation in the order of the search. The best of many is optimistic: it is a search score, not a result."
    caption += " The axis leaves out the worst tenth." if len(done) > 7 else ""
    ranked = sorted(done, key=lambda item: -sign * item[1])[:10]
    rows = [
        [TableCell(str(t.number)), TableCell(number(v, unit), v), TableCell(_params(t))]
        for t, v in ranked
    ]
    behind = table("The ten best search scores.", [">Trial", f">{label}", "Parameters"], rows)
    return canvas.figure(
        opened, "search", "History of the search", alt=alt, caption=caption, table=behind
    )


def importances(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the association of each parameter with the metric, with the dummy's as the floor; None without any."""
    import seaborn as sns

    if not facts.importances:
        return None
    found = sorted(facts.importances, key=lambda item: -item.value)
    with canvas.sheet("importances", 0.9 + 0.27 * len(found), formats=formats) as opened:
        ax = opened.ax
        sns.barplot(
            x=[i.value for i in found],
            y=[i.parameter for i in found],
            ax=ax,
            color=PAGE["better"],
            errorbar=None,
            alpha=0.45,
            width=0.55,
        )
        for y, item in enumerate(found):
            if item.low is not None and item.high is not None:
                ax.plot(
                    [item.low, item.high],
                    [y, y],
                    color=PAGE["ink"],
                    linewidth=1.4,
                    solid_capstyle="butt",
                )
        canvas.name_rows(ax, [i.parameter for i in found])
        if facts.floor is not None:
            ax.axvline(facts.floor, color=PAGE["worse"], linestyle=(0, (4, 2)), linewidth=1.2)
            ax.annotate(
                "floor: a dummy parameter",
                (facts.floor, 1),
                (4, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=PAGE["worse"],
                va="bottom",
            )
        ax.set_xlabel("importance (share of the association)")
    above = [i.parameter for i in found if facts.floor is not None and i.value > facts.floor]
    alt = f"{found[0].parameter} is most associated with the score ({found[0].value:.2f})" + (
        f"; {plural(len(above), 'parameter')} of {len(found)} above the dummy's floor."
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


def slices(facts: TuningFacts, formats: Sequence[str]) -> Figure | None:
    """Draw the score against each parameter by itself; None without parameters."""
    import seaborn as sns
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    scale, label, _ = scaled(facts)
    done = [t for t in facts.history if t.state == "complete" and t.value is not None]
    varied = list(dict.fromkeys(name for trial in done for name in trial.params))
    names = varied[:_SLICES]
    if not names or len(done) < 3:
        return None
    across = min(3, len(names))
    down = -(-len(names) // across)
    with canvas.sheet(
        "slices", 0.35 + 1.75 * down, rows=down, columns=across, formats=formats, sharey=True
    ) as opened:
        for ax in opened.axes[len(names) :]:
            ax.remove()
        opened.axes = opened.axes[: len(names)]
        for ax, name in zip(opened.axes, names, strict=True):
            chosen = [(t.params[name], scale * (t.value or 0.0)) for t in done if name in t.params]
            numeric = all(
                isinstance(v, (int, float)) and not isinstance(v, bool) for v, _ in chosen
            )
            x: list[Any] = [v if numeric else canvas.short(plain(v), 12) for v, _ in chosen]
            sns.scatterplot(
                x=x,
                y=[v for _, v in chosen],
                ax=ax,
                s=20,
                color=PAGE["better"],
                alpha=0.65,
                edgecolor="none",
                legend=False,
            )
            if numeric and min(x) > 0 and max(x) / min(x) > 30:
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(numticks=4))
                # a page has no TeX for powers
                ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.xaxis.set_minor_formatter(NullFormatter())
            elif numeric:
                ax.xaxis.set_major_locator(
                    MaxNLocator(3, integer=all(isinstance(v, int) for v in x))
                )
            ax.set_xlabel(canvas.short(name, 28))
            ax.set_ylabel("")
        # once: it is longer than a row is high
        opened.drawing.supylabel(label, fontsize="medium", color=PAGE["muted"])
    alt = f"Search scores of {plural(len(done), 'trial')} against each of {plural(len(names), 'parameter')} by itself."
    caption = "Each dot is a completed trial. Where the sampler looked is not uniform: a dense place is not a good place."
    if len(varied) > len(names):
        caption += f" Drawn are the first {len(names)} of {len(varied)} parameters of the space; the table has all."
    rows = []
    for name in varied:
        values = [t.params[name] for t in done if name in t.params]
        best = max(done, key=lambda t: scaled(facts)[2] * (t.value or 0.0)).params.get(name)
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        spread = (
            f"{plain(min(values))} to {plain(max(values))}"
            if numeric
            else ", ".join(sorted({plain(v) for v in values}))
        )
        rows.append([TableCell(name), TableCell(spread), TableCell(plain(best))])
    behind = table(
        "What was tried, and the value in the best trial.",
        ["Parameter", "Tried", "In the best trial"],
        rows,
    )
    return canvas.figure(
        opened, "slices", "Score against each parameter", alt=alt, caption=caption, table=behind
    )


def _params(trial: SearchTrial) -> str:
    return ", ".join(f"{name} = {plain(value)}" for name, value in trial.params.items())
