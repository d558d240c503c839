"""Drawings of every seed: scores with their paired differences, and classes by arm.

Legend: A arms, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis import Analysis, Effect
from harness.report import evidence
from harness.report.document import Figure, TableBlock, TableCell, table
from harness.report.figures import canvas, scores
from harness.report.lookup import drawn, effects_of, in_order, metric_of, on_held_out
from harness.report.material import Material
from harness.report.palette import PAGE
from harness.report.words import (
    MINUS,
    confidence,
    listed,
    named,
    number,
    sample,
    unit_name,
    unit_of_run,
)
from harness.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

_WIDE = 12  # seeds that a table has a column for
_MOST_ROWS = 20  # arms and classes that a heat map has room for


def seeds(material: Material, analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw every trial's score by arm, and every seed's difference to the reference; None without a completed trial."""
    metric = metric_of(analysis)
    by_arm = {
        name: scores.scores(trials, analysis, metric.name)
        for name, trials in scores.by_arm(material, analysis).items()
    }
    by_arm = {name: values for name, values in by_arm.items() if values}
    # the row of an arm that has only a mean is no run
    if not by_arm or analysis.study.pairing == "summary":
        return None
    paired = {e.term: e for e in effects_of(analysis, "arm") if e.differences and e.term in by_arm}
    ordered, left_out = drawn(in_order(analysis, list(paired.values())))
    shown = {analysis.study.baseline, *(effect.term for effect in ordered)}
    names = [name for name in by_arm if name in shown or not left_out]
    # hundreds of dots an arm would make a page of megabytes
    limit = scores.dots(len(names))
    with canvas.sheet(
        "seeds", 1.0 + 0.31 * len(names), columns=1 + bool(paired), formats=formats, sharey=True
    ) as opened:
        left = opened.axes[0]
        _dots(left, [scores.thinned(list(by_arm[name].values()), limit) for name in names])
        for y, name in enumerate(names):
            _mean_line(left, sum(by_arm[name].values()) / len(by_arm[name]), y, down=0.3)
        canvas.name_rows(left, names)
        of_gap = metric.name in ("gap", analysis.gap)
        left.set_xlabel(canvas.with_unit(metric.label, metric.unit, level=not of_gap))
        if paired:
            _paired_side(opened.axes[1], [paired.get(name) for name in names], limit)
            opened.axes[1].set_xlabel(canvas.with_unit("difference, same seed", metric.unit))
        for ax in opened.axes:
            ax.xaxis.set_major_locator(_few_ticks())
    spread = max(by_arm, key=lambda name: _range(by_arm[name]))
    width = f"{number(_range(by_arm[spread]), metric.unit)}{unit_name(metric.unit)}"
    label = f"{metric.label[:1].upper()}{metric.label[1:]}"
    unit = unit_of_run(analysis.study)
    alt = f"{label} of {plural(sum(map(len, by_arm.values())), 'trial')}"
    alt += (
        f" spans {width}."
        if len(names) == 1
        else f" in {len(names)} arms; the {unit}s of {named(spread)} spread the most, over {width}."
    )
    behind = _seed_table(by_arm, metric.unit, metric.label, of=unit)
    title = "Scores and paired differences" if paired else f"Score of every {unit}"
    caption = _seeds_caption(
        analysis, list(paired.values()), limit, most=max(map(len, by_arm.values()))
    )
    return canvas.figure(opened, "seeds", title, alt=alt, caption=caption + left_out, table=behind)


def _range(values: dict[int, float]) -> float:
    return max(values.values()) - min(values.values())


def _few_ticks() -> Locator:
    """Ticks that leave room for their labels where two axes share the width."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _mean_line(ax: Axes, x: float, y: int, *, down: float) -> None:
    ax.plot([x, x], [y - 0.3, y + down], color=PAGE["ink"], linewidth=1.6, zorder=4)


def _paired_side(ax: Axes, rows: Sequence[Effect | None], limit: int) -> None:
    """Draw the differences of every arm that has any, with their mean and, under it, its interval."""
    canvas.zero_line(ax)
    _dots(ax, [scores.thinned(effect.differences, limit) if effect else [] for effect in rows])
    for y, effect in enumerate(rows):
        if effect is None:
            continue
        _mean_line(ax, effect.estimate or 0.0, y, down=0.34)
        if effect.low is not None and effect.high is not None:
            pen: Any = {"color": PAGE["ink"], "linewidth": 1.4, "zorder": 4}
            ax.plot([effect.low, effect.high], [y + 0.34, y + 0.34], **pen)
    ax.grid(visible=False, axis="y")


def _seeds_caption(analysis: Analysis, paired: Sequence[Effect], limit: int, *, most: int) -> str:
    unit = unit_of_run(analysis.study)
    caption = f"A dot is one {unit}; within an arm, {unit}s are spread vertically in their order. "
    caption += "The upright line is the mean"
    caption += f"; under the differences lies {sample(analysis.study, paired)}." if paired else "."
    references = list(dict.fromkeys(effect.reference for effect in paired))
    if references:
        caption += f" Differences are to {listed([named(name) for name in references], last='or')}"
        caption += ", as the verdict table says." if len(references) > 1 else "."
    if most > limit:
        caption += (
            f" Arms of more than {limit} {unit}s show {limit} evenly spaced order statistics."
        )
    return caption


def _dots(ax: Axes, rows: Sequence[Sequence[float]]) -> None:
    """Draw the values of every row, spread over its height in their order."""
    places = [
        y + (0.0 if len(values) == 1 else -0.22 + 0.44 * i / (len(values) - 1))
        for y, values in enumerate(rows)
        for i in range(len(values))
    ]
    look: Any = {"s": 22, "color": PAGE["better"], "alpha": 0.6, "edgecolor": "none", "zorder": 3}
    ax.scatter([value for values in rows for value in values], places, **look)


def _seed_table(
    found: dict[str, dict[int, float]], unit: str, label: str, *, of: str
) -> TableBlock:
    # a column a seed while they fit
    every = sorted({seed for values in found.values() for seed in values})
    if len(every) <= _WIDE:
        rows = [
            [TableCell(name), *(TableCell(number(v.get(s), unit) or "–", v.get(s)) for s in every)]
            for name, v in found.items()
        ]
        return table(f"{label} of every {of}.", ["Arm", *(f">{of} {seed}" for seed in every)], rows)
    rows = []
    for name, values in found.items():
        ordered = sorted(values.values())
        cells = [
            ordered[0],
            ordered[len(ordered) // 4],
            ordered[len(ordered) // 2],
            ordered[3 * len(ordered) // 4],
            ordered[-1],
        ]
        rows.append(
            [
                TableCell(name),
                TableCell(str(len(ordered))),
                *(TableCell(number(value, unit), value) for value in cells),
            ]
        )
    heads = ["Arm", ">n", ">lowest", ">lower quarter", ">middle", ">upper quarter", ">highest"]
    return table(f"{label} by {of}; all of them are in trials.csv.", heads, rows)


def classes(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw the difference within every class, arms by classes; None without per-image outcomes."""
    import numpy as np

    behind = evidence.classes(analysis)
    if behind is None:
        return None
    names = [row[0].text for row in behind.rows]
    kept = names if len(names) <= _MOST_ROWS else scores.chosen_arms(analysis, _MOST_ROWS)[0]
    rows = [row for row in behind.rows if row[0].text in kept]
    labels = [column.head for column in behind.columns[1:]][:_MOST_ROWS]
    values_AK = np.asarray(
        [
            [np.nan if cell.value is None else cell.value for cell in row[1 : 1 + len(labels)]]
            for row in rows
        ]
    )
    if not values_AK.size or np.isnan(values_AK).all():
        return None
    with canvas.sheet("classes", 1.25 + 0.31 * len(rows), formats=formats) as opened:
        _heatmap(opened.ax, values_AK, [row[0].text for row in rows], labels)
    i, j = np.unravel_index(int(np.nanargmax(np.abs(values_AK))), values_AK.shape)
    alt = (
        f"The largest change within a class is {number(float(values_AK[i, j]), signed=True)} pp, "
        f"on {labels[j]} with {named(rows[i][0].text)}."
    )
    caption = (
        f"Difference in {on_held_out(analysis, 'accuracy')} within each class, pp; purple is up, orange is down, the number "
        f"says by how much. Intervals ({confidence(analysis.study)}) are in the table; exploratory, uncorrected."
    )
    left = len(names) - len(rows)
    if left:
        are = "is" if left == 1 else "are"
        caption += f" The {plural(left, 'arm')} with the smallest effects {are} left out."
    return canvas.figure(
        opened, "classes", "Effect within each class", alt=alt, caption=caption, table=behind
    )


def _heatmap(
    ax: Axes, values_AK: npt.NDArray[np.float64], arms: Sequence[str], labels: Sequence[str]
) -> None:
    """Draw arms by classes, each cell with its number."""
    import numpy as np
    import seaborn as sns

    limit = float(np.nanmax(np.abs(values_AK))) or 1.0
    digits = 1 if len(labels) > 6 else 2  # where the cells are narrow, one is all there is room for
    text_AK = np.asarray(
        [[_rounded(float(v), digits) if np.isfinite(v) else "" for v in row] for row in values_AK]
    )
    sns.heatmap(
        values_AK,
        ax=ax,
        cmap="PuOr",
        vmin=-1.6 * limit,
        vmax=1.6 * limit,
        annot=text_AK,
        fmt="",
        cbar=False,
        linewidths=1.5,
        linecolor=PAGE["bg"],
        annot_kws={"fontsize": 9.5, "color": "#1a1a1a"},
    )
    ax.set_xticks(
        np.arange(len(labels)) + 0.5,
        [canvas.short(label, 10) for label in labels],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_yticks(np.arange(len(arms)) + 0.5, [canvas.short(name) for name in arms], rotation=0)
    for tick in ax.get_yticklabels():
        tick.set_color(PAGE["ink"])
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(True)


def _rounded(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    return f"{'' if not text.strip('0.') else MINUS if value < 0 else '+'}{text}"
