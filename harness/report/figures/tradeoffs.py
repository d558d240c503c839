"""Drawings of two numbers at once: accuracy against gap, accuracy against seconds, and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis import Analysis, Effect
from harness.report import tables
from harness.report.document import Figure, TableCell, table
from harness.report.figures import canvas, scores
from harness.report.lookup import effects_of, metric_of, on_held_out, summary_of
from harness.report.material import Material
from harness.report.palette import MARKERS, PAGE, colour
from harness.report.words import confidence, listed, mark_of, number, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# of a name beside its dot, in points: corners first, which intervals and steps leave free
_PLACES = (
    (7, 9, "left"),
    (7, -9, "left"),
    (-7, 9, "right"),
    (-7, -9, "right"),
    (0, 14, "center"),
    (0, -14, "center"),
    (10, 0, "left"),
    (-10, 0, "right"),
)


def against_gap(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw each arm's accuracy against its gap; None where either is missing."""
    points = []
    for arm in analysis.arms:
        y, x = summary_of(analysis, arm.name, "accuracy"), summary_of(analysis, arm.name, "gap")
        if y is not None and x is not None and y.mean is not None and x.mean is not None:
            points.append((arm.name, x, y))
    if len(points) < 2:
        return None
    scored = on_held_out(analysis, "accuracy")
    with canvas.sheet("against-gap", 3.9, formats=formats) as opened:
        ax = opened.ax
        for name, x, y in points:
            mark = _mark(analysis, name)
            if (
                x.low is not None
                and x.high is not None
                and y.low is not None
                and y.high is not None
            ):
                ax.plot(
                    [x.low, x.high],
                    [y.mean or 0.0] * 2,
                    color=colour(mark),
                    alpha=0.45,
                    linewidth=1.1,
                    zorder=2,
                )
                ax.plot(
                    [x.mean or 0.0] * 2,
                    [y.low, y.high],
                    color=colour(mark),
                    alpha=0.45,
                    linewidth=1.1,
                    zorder=2,
                )
            _dot(
                ax,
                float(x.mean or 0),
                float(y.mean or 0),
                mark,
                base=name == analysis.study.baseline,
            )
        held_out = "test" if analysis.study.without_validation else "validation"
        ax.set_xlabel(f"overfitting gap, pp  (clean train minus {held_out})")
        ax.set_ylabel(f"{scored}, %")
        _labels(opened, [(name, float(x.mean or 0), float(y.mean or 0)) for name, x, y in points])
    best = max(points, key=lambda p: p[2].mean or 0)
    tight = min(points, key=lambda p: p[1].mean or 0)
    alt = (
        f"{best[0]} has the highest {scored}, {number(best[2].mean)} %, at a gap of {number(best[1].mean)} pp; "
        f"{tight[0]} has the narrowest gap, {number(tight[1].mean)} pp, at {number(tight[2].mean)} %."
    )
    counts = sorted({y.n for _, _, y in points})
    spread = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    caption = (
        f"Means over seeds, bars {confidence(analysis.study)}, n = {spread}. "
        "Up is better; left overfits less. Symbols are the verdicts; the ring marks the baseline."
    )
    rows = [
        [
            TableCell(n),
            tables.level_cell(analysis, n, "accuracy"),
            tables.level_cell(analysis, n, "gap"),
        ]
        for n, _, _ in points
    ]
    behind = table(caption, ["Arm", f">{scored[:1].upper()}{scored[1:]}", ">Overfitting gap"], rows)
    return canvas.figure(
        opened,
        "against-gap",
        "Accuracy against overfitting gap",
        alt=alt,
        caption=caption,
        table=behind,
    )


def against_seconds(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw each arm's metric against its training time with the Pareto line; None where either is missing."""
    metric = metric_of(analysis)
    sign = -1.0 if metric.higher_is_better is False else 1.0
    points: list[tuple[str, float, float]] = []
    for arm in analysis.arms:
        summary = summary_of(analysis, arm.name, metric.name)
        if summary is not None and summary.mean is not None and arm.train_seconds:
            points.append((arm.name, arm.train_seconds, summary.mean))
    if len(points) < 2:
        return None
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], -sign * p[2])):
        if not front or sign * point[2] > sign * front[-1][2]:
            front.append(point)
    with canvas.sheet("against-seconds", 3.5, formats=formats) as opened:
        ax = opened.ax
        if len(front) > 1:
            ax.step(
                [p[1] for p in front],
                [p[2] for p in front],
                where="post",
                color=PAGE["unresolved"],
                linewidth=1.2,
                linestyle=(0, (4, 2)),
                zorder=1,
            )
        for name, x, y in points:
            _dot(ax, x, y, _mark(analysis, name), base=name == analysis.study.baseline)
        ax.set_xlabel("training seconds a trial, evaluation left out")
        ax.set_ylabel(f"{metric.label}{', %' if metric.unit == 'pp' else ''}")
        _labels(opened, points)
    names = [name for name, _, _ in front]
    alt = f"On the Pareto line: {listed(names, 6)}; every other arm is both slower and no better than one of them."
    caption = (
        "Means over seeds. The dashed line joins the arms that no other arm beats in both time and score; it ignores noise: "
        "neighbours on it need not differ. Times of arms that ran beside others on one machine include the contention."
    )
    rows = [
        [
            TableCell(n),
            TableCell(seconds(x), x),
            TableCell(number(y, metric.unit), y),
            "yes" if n in names else "no",
        ]
        for n, x, y in points
    ]
    behind = table(
        "Means over seeds.", ["Arm", ">Training", f">{metric.label}", "On the Pareto line"], rows
    )
    return canvas.figure(
        opened, "against-seconds", "Accuracy against time", alt=alt, caption=caption, table=behind
    )


def throughput(material: Material, analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw images per second of every arm's trials; None where none was measured."""
    import seaborn as sns

    found = {
        name: sorted(t.images_per_second for t in trials if t.images_per_second > 0)
        for name, trials in scores.by_arm(material, analysis).items()
    }
    found = {name: values for name, values in found.items() if values}
    if not found:
        return None
    names = list(found)
    middles = {name: values[len(values) // 2] for name, values in found.items()}
    with canvas.sheet("throughput", 0.9 + 0.27 * len(names), formats=formats) as opened:
        ax = opened.ax
        for y, name in enumerate(names):
            values = scores.thinned(found[name], scores.dots(len(names)))
            sns.scatterplot(
                x=values,
                y=[y] * len(values),
                ax=ax,
                s=20,
                color=PAGE["better"],
                alpha=0.5,
                edgecolor="none",
                legend=False,
            )
            ax.plot([middles[name]] * 2, [y - 0.3, y + 0.3], color=PAGE["ink"], linewidth=1.8)
        canvas.name_rows(ax, names)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.set_xlabel("images per second in training")
    fast, slow = max(names, key=lambda n: middles[n]), min(names, key=lambda n: middles[n])
    alt = f"Median throughput runs from {middles[slow]:,.0f} images/s ({slow}) to {middles[fast]:,.0f} images/s ({fast})."
    rows = []
    for name, values in found.items():
        cells = [TableCell(f"{v:,.0f}", v) for v in (values[0], middles[name], values[-1])]
        rows.append([TableCell(name), *cells, TableCell(str(len(values)))])
    behind = table(
        "Images per second of training, evaluation left out.",
        ["Arm", ">lowest", ">median", ">highest", ">n"],
        rows,
    )
    caption = "A dot is one trial, the upright line the median. Trials that ran beside others share the machine."
    return canvas.figure(
        opened, "throughput", "Images per second", alt=alt, caption=caption, table=behind
    )


def _mark(analysis: Analysis, name: str) -> str:
    effect: Effect | None = next((e for e in effects_of(analysis, "arm") if e.term == name), None)
    return mark_of(effect) if effect is not None and effect.verdict else ""


def _dot(ax: Axes, x: float, y: float, mark: str, *, base: bool) -> None:
    import seaborn as sns

    hollow = mark in ("unresolved", "none")
    sns.scatterplot(
        x=[x],
        y=[y],
        ax=ax,
        marker=MARKERS[mark],
        s=62,
        color=PAGE["bg"] if hollow else colour(mark),
        zorder=3,
        edgecolor=colour(mark),
        linewidth=1.4 if hollow else 0.4,
        legend=False,
    )
    if base:
        ax.plot(
            x,
            y,
            "o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=PAGE["ink"],
            markeredgewidth=1.1,
            zorder=2,
        )


def _labels(opened: canvas.Sheet, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside their dots where they overlap neither a dot nor a name; those without room stay unnamed."""
    ax = opened.ax
    ax.margins(x=0.12, y=0.12)
    opened.drawing.draw_without_rendering()
    to_screen: Any = ax.transData
    scale = opened.drawing.dpi / 72
    height = 12.0 * scale
    dots = [to_screen.transform((x, y)) for _, x, y in points]
    taken = [(x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale) for x, y in dots]
    edge = ax.get_window_extent()
    for (name, px, py), (x, y) in zip(points, dots, strict=True):
        text = canvas.short(name, 22)
        width = (6.0 * len(text) + 3) * scale
        for dx, dy, ha in _PLACES:
            left = x + dx * scale - (0 if ha == "left" else width if ha == "right" else width / 2)
            box = (left, y + dy * scale - height / 2, left + width, y + dy * scale + height / 2)
            inside = (
                box[0] >= edge.x0
                and box[2] <= edge.x1 + 4
                and box[1] >= edge.y0
                and box[3] <= edge.y1
            )
            if inside and not any(
                box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken
            ):
                taken.append(box)
                ax.annotate(
                    text,
                    (px, py),
                    (dx, dy),
                    textcoords="offset points",
                    ha=ha,
                    va="center",
                    color=PAGE["ink"],
                )
                break
