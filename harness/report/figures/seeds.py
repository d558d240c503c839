"""Drawings of every seed: scores beside paired differences, and classes by arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.analysis import Analysis
from harness.report import evidence
from harness.report.document import Cell, Figure, Table, table
from harness.report.figures import canvas, scores
from harness.report.lookup import drawn, effects_of, in_order, metric_of, on_held_out
from harness.report.material import Material
from harness.report.palette import PAGE
from harness.report.words import confidence, number, sample
from harness.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDE = 12  # seeds that a table has a column for


def seeds(material: Material, analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw every trial's score by arm, and every seed's difference to the reference; None without a completed trial."""
    import seaborn as sns

    metric = metric_of(analysis)
    found = {
        name: scores.scores(trials, analysis, metric.name)
        for name, trials in scores.by_arm(material, analysis).items()
    }
    found = {name: values for name, values in found.items() if values}
    if not found or analysis.study.pairing == "summary":  # the row of an arm is no run
        return None
    paired = {e.term: e for e in effects_of(analysis, "arm") if e.differences}
    ordered, left_out = drawn(in_order(analysis, list(paired.values())))
    shown = {analysis.study.baseline, *(effect.term for effect in ordered)}
    names = [name for name in found if name in shown or not left_out]
    limit = scores.dots(len(names))
    with canvas.sheet(
        "seeds", 1.0 + 0.31 * len(names), columns=1 + bool(paired), formats=formats, sharey=True
    ) as opened:
        left = opened.axes[0]
        for y, name in enumerate(names):
            _dots(left, scores.thinned(list(found[name].values()), limit), y)
            mean = sum(found[name].values()) / len(found[name])
            left.plot([mean, mean], [y - 0.3, y + 0.3], color=PAGE["ink"], linewidth=1.6, zorder=4)
        canvas.name_rows(left, names)
        left.set_xlabel(
            f"{metric.label}{', %' if metric.unit == 'pp' and metric.name != 'gap' else ', pp' * (metric.unit == 'pp')}"
        )
        if paired:
            right = opened.axes[1]
            canvas.zero_line(right)
            for y, name in enumerate(names):
                if name not in paired:
                    continue
                effect = paired[name]
                _dots(right, scores.thinned(effect.differences, limit), y)
                if effect.low is not None and effect.high is not None:
                    right.plot(
                        [effect.low, effect.high],
                        [y + 0.34, y + 0.34],
                        color=PAGE["ink"],
                        linewidth=1.4,
                        zorder=4,
                    )
                right.plot(
                    [effect.estimate or 0.0] * 2,
                    [y - 0.3, y + 0.34],
                    color=PAGE["ink"],
                    linewidth=1.6,
                    zorder=4,
                )
            right.grid(visible=False, axis="y")
            right.set_xlabel(
                f"difference to its reference, same seed{', pp' if metric.unit == 'pp' else ''}"
            )
    sns.despine(fig=opened.drawing)
    spread = max(found, key=lambda name: max(found[name].values()) - min(found[name].values()))
    width = max(found[spread].values()) - min(found[spread].values())
    alt = (
        f"{metric.label} of {plural(sum(map(len, found.values())), 'trial')} in {plural(len(names), 'arm')}; "
        f"seeds of {spread} spread the most, over {number(width, metric.unit)}{' pp' if metric.unit == 'pp' else ''}."
    )
    caption = "A dot is one seed; within an arm, seeds are spread vertically in their order. The upright line is the mean"
    caption += (
        f"; under the differences lies {sample(analysis.study, list(paired.values()))}."
        if paired
        else "."
    )
    if any(len(values) > limit for values in found.values()):
        caption += f" Arms of more than {limit} seeds show {limit} evenly spaced order statistics."
    caption += left_out
    behind = _seed_table(found, metric.unit, metric.label)
    return canvas.figure(
        opened,
        "seeds",
        "Scores and paired differences" if paired else "Scores",
        alt=alt,
        caption=caption,
        table=behind,
    )


def _dots(ax: Axes, values: Sequence[float], y: int) -> None:
    import seaborn as sns

    spread = [
        y + (0.0 if len(values) == 1 else -0.22 + 0.44 * i / (len(values) - 1))
        for i in range(len(values))
    ]
    sns.scatterplot(
        x=list(values),
        y=spread,
        ax=ax,
        s=22,
        color=PAGE["better"],
        alpha=0.6,
        edgecolor="none",
        zorder=3,
        legend=False,
    )


def _seed_table(found: dict[str, dict[int, float]], unit: str, label: str) -> Table:
    every = sorted({seed for values in found.values() for seed in values})
    if len(every) <= _WIDE:
        rows = [
            [Cell(name), *(Cell(number(v.get(s), unit) or "–", v.get(s)) for s in every)]
            for name, v in found.items()
        ]
        return table(f"{label} of every seed.", ["Arm", *(f">seed {seed}" for seed in every)], rows)
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
                Cell(name),
                Cell(str(len(ordered))),
                *(Cell(number(value, unit), value) for value in cells),
            ]
        )
    heads = ["Arm", ">n", ">lowest", ">lower quarter", ">middle", ">upper quarter", ">highest"]
    return table(f"{label} by seed; all of them are in trials.csv.", heads, rows)


def classes(analysis: Analysis, formats: Sequence[str]) -> Figure | None:
    """Draw the difference within every class, arms by classes; None without per-image outcomes."""
    import numpy as np
    import seaborn as sns

    behind = evidence.classes(analysis)
    if behind is None:
        return None
    names, labels = (
        [row[0].text for row in behind.rows],
        [column.head for column in behind.columns[1:]],
    )
    shown = names if len(names) <= 20 else scores.chosen_arms(analysis, 20)[0]
    rows = [row for row in behind.rows if row[0].text in shown]
    labels = labels[:20]
    values = np.asarray(
        [
            [np.nan if cell.value is None else cell.value for cell in row[1 : 1 + len(labels)]]
            for row in rows
        ]
    )
    if not values.size or np.isnan(values).all():
        return None
    limit = float(np.nanmax(np.abs(values))) or 1.0
    digits = -1 if len(labels) > 6 else None  # one decimal where the cells are narrow
    text = np.asarray(
        [
            [number(float(v), signed=True)[:digits] if np.isfinite(v) else "" for v in row]
            for row in values
        ]
    )
    with canvas.sheet("classes", 1.25 + 0.31 * len(rows), formats=formats) as opened:
        ax = opened.ax
        sns.heatmap(
            values,
            ax=ax,
            cmap="PuOr",
            vmin=-1.6 * limit,
            vmax=1.6 * limit,
            annot=text,
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
        ax.set_yticks(
            np.arange(len(rows)) + 0.5, [canvas.short(row[0].text) for row in rows], rotation=0
        )
        for tick in ax.get_yticklabels():
            tick.set_color(PAGE["ink"])
        ax.grid(visible=False)
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    i, j = np.unravel_index(int(np.nanargmax(np.abs(values))), values.shape)
    alt = (
        f"The largest change within a class is {number(float(values[i, j]), signed=True)} pp, "
        f"on {labels[j]} with {rows[i][0].text}."
    )
    left = len(names) - len(rows)
    caption = (
        f"Difference in {on_held_out(analysis, 'accuracy')} within each class, pp; purple is up, orange is down, the number "
        "says by how much. "
        f"Intervals ({confidence(analysis.study)}) are in the table; exploratory, uncorrected."
        + (
            f" The {plural(left, 'arm')} with the smallest effects {'is' if left == 1 else 'are'} left out."
            if left
            else ""
        )
    )
    return canvas.figure(
        opened, "classes", "Effect within each class", alt=alt, caption=caption, table=behind
    )
