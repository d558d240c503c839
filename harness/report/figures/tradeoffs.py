"""Drawings of two numbers at once: accuracy against gap, accuracy against seconds, and throughput."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.analysis import Analysis, Effect, Summary
from harness.report import tables
from harness.report.document import Figure, TableCell, table
from harness.report.figures import canvas, scores
from harness.report.lookup import effects_of, has_metric, metric_of, on_held_out, summary_of
from harness.report.material import Material
from harness.report.palette import MARKERS, PAGE, colour
from harness.report.words import (
    level_confidence,
    listed,
    mark_of,
    named,
    number,
    seconds,
    unit_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# of a name at its dot, in points: near first, corners before sides, which intervals and steps
# leave free; then farther out, with a line to the dot
_NEAR = (
    (7, 9, "left"),
    (7, -9, "left"),
    (-7, 9, "right"),
    (-7, -9, "right"),
    (0, 14, "center"),
    (0, -14, "center"),
    (10, 0, "left"),
    (-10, 0, "right"),
)
_FAR = tuple(
    (dx, dy, "left" if dx > 0 else "right")
    for reach in (24, 40, 56, 76)
    for dx, dy in (
        (reach, reach / 2),
        (reach, -reach / 2),
        (-reach, reach / 2),
        (-reach, -reach / 2),
    )
)
_Point = tuple[str, float, float]  # name, x, y


def against_gap(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw each arm's accuracy, or what a table has in its place, against its gap; None where either is missing."""
    pair = ("accuracy", "gap")
    if not all(has_metric(analysis, name) for name in pair):
        pair = (analysis.study.metric, analysis.gap)
    score, gap = (metric_of(analysis, name) for name in pair)
    arms: list[tuple[str, Summary, Summary]] = []
    for arm in analysis.arms:
        y, x = (summary_of(analysis, arm.name, name) for name in pair)
        if y is not None and x is not None and y.mean is not None and x.mean is not None:
            arms.append((arm.name, x, y))
    if len(arms) < 2 or score.name == gap.name:
        return None
    # where there are no validation images, the axis says so
    scored = on_held_out(analysis, "accuracy") if score.name == "accuracy" else score.label
    with canvas.sheet("against-gap", 3.9, formats=formats) as opened:
        ax = opened.ax
        for name, x, y in arms:
            mark = _mark(analysis, name)
            _cross(ax, x, y, colour(mark))
            _dot(ax, x.mean or 0.0, y.mean or 0.0, mark, base=name == analysis.study.baseline)
        held_out = "test" if analysis.study.without_validation else "validation"
        ours = f"  (clean train minus {held_out})" if gap.name == "gap" else ""
        ax.set_xlabel(f"{canvas.with_unit('overfitting gap', gap.unit, level=False)}{ours}")
        ax.set_ylabel(canvas.with_unit(scored, score.unit, level=True))
        named_all = _labels(opened, [(name, x.mean or 0.0, y.mean or 0.0) for name, x, y in arms])
    lower = score.higher_is_better is False
    best = (min if lower else max)(arms, key=lambda arm: arm[2].mean or 0.0)
    tight = min(arms, key=lambda arm: arm[1].mean or 0.0)

    def value(summary: Summary, *, level: bool) -> str:
        return number(summary.mean, summary.unit) + unit_name(summary.unit, level=level)

    top = f"The {'lowest' if lower else 'highest'} {scored}, {value(best[2], level=True)}, is that of {named(best[0])}"
    alt = f"{top}, at a gap of {value(best[1], level=False)}"
    alt += (
        ", and the narrowest gap."
        if tight[0] == best[0]
        else f"; {named(tight[0])} has the narrowest gap, {value(tight[1], level=False)}, at {value(tight[2], level=True)}."
    )
    counts = sorted({y.n for _, _, y in arms})
    spread = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    way = {True: "Up is better; l", False: "Down is better; l", None: "L"}[score.higher_is_better]
    caption = (
        f"Means over seeds, bars {level_confidence(analysis.study)}, n = {spread}. {way}eft overfits less."
        f"{_reading(analysis)}{'' if named_all else _TABLE_NAMES}"
    )
    rows = [
        [TableCell(n), *(tables.level_cell(analysis, n, name) for name in pair)] for n, _, _ in arms
    ]
    behind = table(caption, ["Arm", f">{_capital(scored)}", ">Overfitting gap"], rows)
    title = f"{_capital(score.label if score.name != 'accuracy' else 'accuracy')} against overfitting gap"
    return canvas.figure(opened, "against-gap", title, alt=alt, caption=caption, table=behind)


_TABLE_NAMES = " There is no room to name every dot: the table does."


def _reading(analysis: Analysis) -> str:
    """What symbols and rings mean, in a drawing that has them."""
    base = named(analysis.study.baseline)
    text = f" The ring marks {base}; symbols are the verdicts against it."
    others = {effect.reference for effect in effects_of(analysis, "arm")} - {
        analysis.study.baseline
    }
    if others:  # their verdicts would be read on the wrong axis
        text += f" Black dots are arms that are judged against {listed([named(o) for o in sorted(others)], last='or')}."
    return text


def _cross(ax: Axes, x: Summary, y: Summary, pen: str) -> None:
    """Draw the intervals of both numbers."""
    if x.low is None or x.high is None or y.low is None or y.high is None:
        return
    style: Any = {"color": pen, "alpha": 0.45, "linewidth": 1.1, "zorder": 2}
    ax.plot([x.low, x.high], [y.mean or 0.0] * 2, **style)
    ax.plot([x.mean or 0.0] * 2, [y.low, y.high], **style)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def against_seconds(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw each arm's metric against its training time with the Pareto line; None where either is missing or other work shared the machine."""
    metric = metric_of(analysis)
    sign = -1.0 if metric.higher_is_better is False else 1.0
    points: list[tuple[str, float, float]] = []
    for arm in analysis.arms:
        summary = summary_of(analysis, arm.name, metric.name)
        if summary is not None and summary.mean is not None and arm.train_seconds:
            points.append((arm.name, arm.train_seconds, summary.mean))
    if len(points) < 2 or tables.shared(analysis):
        return None
    # only times of an undisturbed machine say which arm is the faster one
    disturbed = tables.unmeasured(analysis)
    front = [] if disturbed else _front(points, sign)
    with canvas.sheet("against-seconds", 3.5, formats=formats) as opened:
        ax = opened.ax
        if len(front) > 1:
            ax.step(
                [x for _, x, _ in front],
                [y for _, _, y in front],
                where="post",
                color=PAGE["unresolved"],
                linewidth=1.2,
                linestyle=(0, (4, 2)),
                zorder=1,
            )
        for name, x, y in points:
            _dot(ax, x, y, _mark(analysis, name), base=name == analysis.study.baseline)
        ax.set_xlabel("training seconds a trial, evaluation left out")
        of_gap = metric.name in ("gap", analysis.gap)
        ax.set_ylabel(canvas.with_unit(metric.label, metric.unit, level=not of_gap))
        named_all = _labels(opened, points)
    names = [name for name, _, _ in front]
    fast, slow = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    times = f"a trial trains for {seconds(fast[1])} ({named(fast[0])}) to {seconds(slow[1])} ({named(slow[0])})"
    if disturbed:
        alt = f"{_capital(times)}; {tables.UNKNOWN}."
        caption = "Means over seeds. No line of best trade-offs is drawn, for the times may be those of other work."
    else:
        alt = (
            f"{_capital(times)}. On the Pareto line: {listed([named(name) for name in names], 6)}."
        )
        caption = (
            "Means over seeds. The dashed line joins the arms that no other arm beats in both time and score; it ignores "
            "noise: neighbours on it need not differ. Times include what else ran on the machine."
        )
    caption += f"{_reading(analysis)}{'' if named_all else _TABLE_NAMES}"
    rows = [
        [
            TableCell(n),
            TableCell(seconds(x), x),
            TableCell(number(y, metric.unit), y),
            *([] if disturbed else ["yes" if n in names else "no"]),
        ]
        for n, x, y in points
    ]
    heads = ["Arm", ">Training", f">{metric.label}", *([] if disturbed else ["On the Pareto line"])]
    behind = table("Means over seeds.", heads, rows)
    return canvas.figure(
        opened, "against-seconds", "Accuracy against time", alt=alt, caption=caption, table=behind
    )


def _front(points: Sequence[_Point], sign: float) -> list[_Point]:
    """Return the points that no other beats in both seconds and score, the fastest first."""
    front: list[_Point] = []
    for point in sorted(points, key=lambda p: (p[1], -sign * p[2])):
        if not front or sign * point[2] > sign * front[-1][2]:
            front.append(point)
    return front


def throughput(material: Material, analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw images per second of every arm's trials; None where none was measured or other work shared the machine."""
    if tables.shared(analysis):
        return None
    found = {
        name: sorted(t.images_per_second for t in trials if t.images_per_second > 0)
        for name, trials in scores.by_arm(material, analysis).items()
    }
    found = {name: values for name, values in found.items() if values}
    if not found:
        return None
    names = list(found)
    # of an even number the mean of the middle two
    middles = {name: median(values) for name, values in found.items()}
    with canvas.sheet("throughput", 0.9 + 0.27 * len(names), formats=formats) as opened:
        ax = opened.ax
        for y, name in enumerate(names):
            values = scores.thinned(found[name], scores.dots(len(names)))
            look: Any = {"s": 20, "color": PAGE["better"], "alpha": 0.5, "edgecolor": "none"}
            ax.scatter(values, [y] * len(values), **look)
            ax.plot([middles[name]] * 2, [y - 0.3, y + 0.3], color=PAGE["ink"], linewidth=1.8)
        canvas.name_rows(ax, names)
        ax.set_xlim(left=0)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.set_xlabel("images per second in training")
    fast, slow = max(names, key=lambda n: middles[n]), min(names, key=lambda n: middles[n])
    alt = (
        f"Median throughput runs from {middles[slow]:,.0f} images/s ({named(slow)}) to {middles[fast]:,.0f} images/s "
        f"({named(fast)})."
        if fast != slow
        else f"Median throughput is {middles[fast]:,.0f} images/s."
    )
    rows = []
    for name, values in found.items():
        cells = [TableCell(f"{v:,.0f}", v) for v in (values[0], middles[name], values[-1])]
        rows.append([TableCell(name), *cells, TableCell(str(len(values)))])
    behind = table(
        "Images per second of training, evaluation left out.",
        ["Arm", ">lowest", ">median", ">highest", ">n"],
        rows,
    )
    caption = "A dot is one trial, the upright line the median. Trials that ran at the same time shared the machine."
    return canvas.figure(
        opened, "throughput", "Images per second", alt=alt, caption=caption, table=behind
    )


def _mark(analysis: Analysis, name: str) -> str:
    """The verdict of an arm against the baseline, which these axes show; nothing for an arm that is judged against another."""
    effect: Effect | None = next((e for e in effects_of(analysis, "arm") if e.term == name), None)
    if effect is None or effect.reference != analysis.study.baseline or not effect.verdict:
        return ""
    return mark_of(effect)


def _dot(ax: Axes, x: float, y: float, mark: str, *, base: bool) -> None:
    hollow = mark in ("unresolved", "none")
    ax.scatter(
        x,
        y,
        marker=MARKERS[mark],
        s=62,
        color=PAGE["bg"] if hollow else colour(mark),
        zorder=3,
        edgecolor=colour(mark),
        linewidth=1.4 if hollow else 0.4,
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


def _labels(opened: canvas.Sheet, points: Sequence[_Point]) -> bool:
    """Write names at their dots where they overlap neither a dot nor a name; all of them, or none where one has no room.

    Returns:
        Whether the names were written.
    """
    ax = opened.ax
    ax.margins(x=0.12, y=0.12)
    opened.drawing.draw_without_rendering()
    scale = opened.drawing.dpi / 72
    to_screen: Any = ax.transData
    dots = [to_screen.transform((x, y)) for _, x, y in points]
    taken = [(x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale) for x, y in dots]
    edge = ax.get_window_extent()
    frame = (edge.x0, edge.y0, edge.x1 + 4, edge.y1)

    # Crowded dots choose first: the others have room elsewhere.
    order = sorted(range(len(points)), key=lambda i: _loneliness(dots, i))
    places = {}
    for i in order:
        place = _room(dots[i], canvas.short(points[i][0], 22), frame, taken, scale)
        if place is None:
            return False
        places[i], box = place
        taken.append(box)
    for i, (dx, dy, ha) in places.items():
        name, x, y = points[i]
        far = (dx, dy, ha) in _FAR
        line: Any = {
            "arrowstyle": "-",
            "color": PAGE["faint"],
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 5,
        }
        ax.annotate(
            canvas.short(name, 22),
            (x, y),
            (dx, dy),
            textcoords="offset points",
            ha=ha,
            va="center",
            color=PAGE["ink"],
            arrowprops=line if far else None,
        )
    return True


_Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels


def _loneliness(dots: Sequence[Any], i: int) -> float:
    """The distance in pixels from a dot to its nearest neighbour."""
    x, y = dots[i]
    others = [(x - a) ** 2 + (y - b) ** 2 for j, (a, b) in enumerate(dots) if j != i]
    return min(others, default=0.0)


def _room(
    dot: Any, text: str, frame: _Box, taken: Sequence[_Box], scale: float
) -> tuple[tuple[float, float, str], _Box] | None:
    """Return the first place that a name fits in, and its box; None where every place is taken."""
    (x, y), width, height = dot, (6.0 * len(text) + 3) * scale, 12.0 * scale
    for dx, dy, ha in (*_NEAR, *_FAR):
        left = x + dx * scale - (0 if ha == "left" else width if ha == "right" else width / 2)
        box = (left, y + dy * scale - height / 2, left + width, y + dy * scale + height / 2)
        inside = (
            box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
        )
        if inside and not any(
            box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken
        ):
            return (dx, dy, ha), box
    return None
