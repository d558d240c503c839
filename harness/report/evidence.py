"""The tables behind the verdicts: p-values, orders, onsets, second opinions, classes, and every trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis import Analysis, Effect
from harness.report.document import Column, TableBlock, TableCell, table
from harness.report.lookup import drawn, effects_of, in_order, leading, metric_of, on_held_out
from harness.report.material import Material, recipe_ids
from harness.report.tables import difference_cell, maybe, verdict_cell
from harness.report.words import (
    MARKS,
    MINUS,
    bounds,
    confidence,
    number,
    paired,
    plain_confidence,
    sample,
    seconds,
)
from harness.study.study import Study
from harness.study.trial import Trial
from harness.text import plural

_MOST_RESAMPLED = 200  # seeds; with more, a bootstrap says what the t interval says, slowly
SHOWN_TRIALS = 400  # more of them are in trials.csv


def effects(analysis: Analysis, kind: str) -> TableBlock | None:
    """Return every effect of one kind on the study's metric, with its p-values; None when there is none."""
    found = effects_of(analysis, kind)
    if not found:
        return None
    found = in_order(analysis, found) if kind == "arm" else found
    several = len({e.reference for e in found}) > 1
    rows = [
        [
            TableCell(e.term, note=f"against {e.reference}" if several else ""),
            difference_cell(e),
            TableCell(number(e.sd, e.unit), e.sd, note=_split(e)),
            str(e.n),
            _p(e.p),
            _p(e.p_holm),
            _p(e.p_equivalence),
            TableCell(maybe(e.seed_correlation, "{:.2f}").replace("-", MINUS), e.seed_correlation),
            TableCell(bounds(e.image_low, e.image_high, e.unit, signed=True)),
            verdict_cell(analysis, e),
        ]
        for e in found
    ]
    # the A/A arm takes no part in looks
    plain = kind == "control"
    level = plain_confidence(analysis.study) if plain else confidence(analysis.study)
    heads: list[str | Column] = [
        "Contrast",
        Column("Difference", numeric=True, note=f"mean {level} interval"),
        ">sd",
        ">n",
        ">p",
        Column("p", numeric=True, note="Holm"),
        Column("p", numeric=True, note="equivalence"),
        Column("Correlation", numeric=True, note="of seeds"),
        Column("Interval", numeric=True, note="new images too"),
        "Verdict",
    ]
    # a column without a number in any row would only take width
    keep = [
        i
        for i in range(len(heads))
        if i in (0, 1, 3) or any(row[i] not in ("", TableCell("")) for row in map(_cells, rows))
    ]
    metric = metric_of(analysis)
    names = {
        "arm": "Arms",
        "main": "Main effects",
        "interaction": "Two-factor interactions",
        "shapley": "Shapley values",
        "dataset": "Arms by data set",
        "control": "The A/A arm: the baseline against itself at other seeds",
    }
    caption = f"{names.get(kind, kind)} on {metric.label}: {paired(analysis.study)} differences, {sample(analysis.study, found, plain=plain)}."
    if any(e.sd_images is not None for e in found):
        caption += " Under sd: what of it is real, and what comes from judging each seed by finitely many images."
    return table(caption, [heads[i] for i in keep], [[row[i] for i in keep] for row in rows])


def _split(effect: Effect) -> str:
    """The two parts of the sd between seeds, whose squares add up to its square."""
    if effect.sd is None or effect.sd_images is None:
        return ""
    images = f"{number(effect.sd_images, effect.unit)} images"
    if effect.sd <= effect.sd_images:
        return f"{images}: more than the whole, by chance"
    # variances add up, sds do not
    real = math.sqrt(effect.sd**2 - effect.sd_images**2)
    return f"{number(real, effect.unit)} real, {images}"


def orders(analysis: Analysis) -> TableBlock | None:
    """Return leave-one-out, add-one-in and Shapley in one table, a row a component; None without such a design."""
    found: dict[tuple[str, str], Effect] = {
        (e.kind, e.term): e for e in analysis.orders if e.metric == analysis.study.metric
    }
    found |= {
        (e.kind, e.term): e for kind in ("main", "shapley") for e in effects_of(analysis, kind)
    }
    kinds = ("leave-one-out", "add-one-in", "main", "shapley")
    rows = [
        [TableCell(name), *(difference_cell(found.get((kind, name))) for kind in kinds)]
        for name in (factor.name for factor in analysis.study.factors)
    ]
    heads: list[str | Column] = [
        "Component",
        Column("Added last", numeric=True, note="to all the others"),
        Column("Added first", numeric=True, note="to nothing"),
        Column("Main effect", numeric=True, note="over all settings"),
        Column("Shapley", numeric=True, note="over all orders"),
    ]
    keep = [0, *(i for i in range(1, 5) if any(row[i].text != "–" for row in rows))]
    # one order alone has nothing to differ from
    if len(keep) < 3 or analysis.study.design in ("sweep", "arms"):
        return None
    caption = (
        f"What each component adds to {metric_of(analysis).label}, by the order in which it is added: where the columns "
        "differ, components interact; "
        f"mean [low, high], {confidence(analysis.study)}, n = {len(analysis.seeds)}."
    )
    return table(caption, [heads[i] for i in keep], [[row[i] for i in keep] for row in rows])


def onsets(analysis: Analysis) -> TableBlock | None:
    """Return the epoch after which validation loss turns up, by arm, and in how many seeds; None without curves."""
    if all(arm.onset_epoch is None and not arm.onset_none for arm in analysis.arms):
        return None
    rows = []
    for arm in analysis.arms:
        if arm.onset_epoch is None and not arm.onset_none:
            continue  # no curve of it
        epoch = f"{arm.onset_epoch:g}" if arm.onset_epoch is not None else "does not turn up"
        rows.append(
            [
                arm.name,
                TableCell(epoch, arm.onset_epoch),
                TableCell(f"{arm.onsets} of {arm.completed}"),
            ]
        )
    loss = on_held_out(analysis, "loss")
    caption = (
        f"When {loss} turns up: the epoch of its lowest value (running median of 3 epochs), in seeds where it later "
        f"rises by more than 2 %; the median over those seeds, within {plural(analysis.study.base_recipe.train.epochs, 'epoch')}."
    )
    return table(caption, ["Arm", ">Onset epoch", ">Seeds that turn up"], rows)


def sensitivity(analysis: Analysis) -> TableBlock | None:
    """Return a second opinion on each difference, a bootstrap interval; None without pairs."""
    import numpy as np

    from harness.stats import bootstrap_interval

    rows = []
    for effect in drawn(in_order(analysis, leading(analysis)))[0]:
        if effect.n > _MOST_RESAMPLED:
            continue
        differences_S = np.asarray(effect.differences, dtype=np.float64)
        if differences_S.size < 3:
            continue
        low, high = bootstrap_interval(
            differences_S, np.random.default_rng(0), alpha=analysis.study.alpha
        )
        boot = bounds(_real(low), _real(high), effect.unit, signed=True)
        rows.append([effect.term, difference_cell(effect), TableCell(boot or "–")])
    if not rows:
        return None
    level = f"{100 * (1 - analysis.study.alpha):g} %"
    heads: list[str | Column] = [
        "Contrast",
        Column("As reported", numeric=True, note=confidence(analysis.study)),
        Column("Bootstrap", numeric=True, note=f"{level} BCa"),
    ]
    caption = (
        "Sensitivity: the same differences by another interval. BCa intervals are too short at few seeds and are shown for "
        "comparison only."
    )
    return table(caption, heads, rows)


def classes(analysis: Analysis) -> TableBlock | None:
    """Return the difference within every class, arms by classes; None without per-image outcomes."""
    if not analysis.classes:
        return None
    # in the order of the data set, which readers know
    labels = list(dict.fromkeys(item.label for item in analysis.classes))
    names = list(dict.fromkeys(item.arm for item in analysis.classes))
    found = {(item.arm, item.label): item for item in analysis.classes}
    rows = []
    for name in names:
        cells = []
        for label in labels:
            item = found.get((name, label))
            text = (
                f"{number(item.estimate, signed=True)} {bounds(item.low, item.high, signed=True)}".strip()
                if item
                else "–"
            )
            cells.append(TableCell(text, item.estimate if item else None))
        rows.append([TableCell(name), *cells])
    counts = sorted({item.n for item in analysis.classes})
    caption = (
        f"Difference in {on_held_out(analysis, 'accuracy')} within each class, pp: mean [low, high], "
        f"{confidence(analysis.study)}, n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seeds; exploratory, "
        "uncorrected."
    )
    return table(caption, ["Arm", *(f">{label}" for label in labels)], rows)


def rows_of_table(material: Material, analysis: Analysis) -> TableBlock:
    """Return the rows of a table of finished runs, the first ``SHOWN_TRIALS`` of them."""
    carried = {name for trial in material.trials for name in trial.metrics}
    shown = [
        name for name in dict.fromkeys(s.metric for s in analysis.summaries) if name in carried
    ]
    metrics = [metric_of(analysis, name) for name in shown]
    rows = []
    for trial in material.trials[:SHOWN_TRIALS]:
        scores = [trial.metrics.get(metric.name) for metric in metrics]
        values = [
            None if score is None else score * metric.scale
            for score, metric in zip(scores, metrics, strict=True)
        ]
        cells = [
            TableCell(number(v, m.unit) or "–", v) for v, m in zip(values, metrics, strict=True)
        ]
        rows.append([TableCell(trial.label), TableCell(str(trial.seed)), _state(trial), *cells])
    heads = [Column(m.label, numeric=True, note="%" if m.unit == "pp" else "") for m in metrics]
    left = len(material.trials) - len(rows)
    caption = f"{plural(len(material.trials), 'row')}" + (
        f"; the other {left:,} are in trials.csv" if left else ""
    )
    return table(caption + ".", ["Arm", ">Seed", "State", *heads], rows)


def trials(material: Material, analysis: Analysis) -> TableBlock:
    """Return the trials, one row each, the first ``SHOWN_TRIALS`` of them."""
    if analysis.study.table:
        return rows_of_table(material, analysis)
    # two arms may share a recipe, and then their trials
    named: dict[str, list[str]] = {}
    for arm in analysis.arms:
        named.setdefault(arm.recipe_id, []).append(arm.name)
    rows = []
    place = {arm.recipe_id: i for i, arm in enumerate(analysis.arms)}
    # seed by seed, as trials are paired
    listed = sorted(
        zip(recipe_ids(material.trials), material.trials, strict=True),
        key=lambda item: (item[1].seed, place.get(item[0], len(place)), item[1].cell),
    )
    tested = analysis.study.without_validation  # the same accuracy need not stand there twice
    shown = ("accuracy", "train_accuracy", "gap", *(() if tested else ("test_accuracy",)))
    for key, trial in listed[:SHOWN_TRIALS]:
        cells = [
            TableCell(" = ".join(named.get(key, ["–"]))),
            TableCell(str(trial.seed)),
            _state(trial),
        ]
        for name in shown:
            value = trial.metrics.get(name)
            percent = None if value is None else 100 * value
            cells.append(TableCell(number(percent) or "–", percent))
        cells += [
            _epochs(trial, analysis.study),
            TableCell(seconds(trial.train_seconds), trial.train_seconds),
            TableCell(trial.cell),
        ]
        rows.append(cells)
    left = len(material.trials) - len(rows)
    caption = f"{plural(len(material.trials), 'trial')}" + (
        f"; the other {left:,} are in trials.csv" if left else ""
    )
    heads = [
        "Arm",
        ">Seed",
        "State",
        Column(
            "Accuracy", numeric=True, note="test, used for validation, %" if tested else "val, %"
        ),
        Column("Accuracy", numeric=True, note="train, %"),
    ]
    heads += [
        Column("Gap", numeric=True, note="pp"),
        *([] if tested else [Column("Accuracy", numeric=True, note="test, %")]),
        ">Epochs",
        ">Training",
        "Cell",
    ]
    return table(caption + ".", heads, rows)


def ended(material: Material) -> TableBlock | None:
    """Return the trials that did not end well, earlier attempts included; None when there are none."""
    # earlier attempts count: a retry that worked hides a cause that may come back
    bad = [*(t for t in material.trials if t.state != "complete"), *material.attempts]
    if not bad:
        return None
    rows = [
        [
            t.cell,
            TableCell(str(t.seed)),
            _state(t),
            TableCell(str(t.attempt)),
            _epochs(t, material.study),
            TableCell(t.error or "–", note=t.cause),
        ]
        for t in bad[:SHOWN_TRIALS]
    ]
    caption = f"{plural(len(bad), 'trial')} that did not run to the end, or were run again."
    return table(caption, ["Cell", ">Seed", "State", ">Attempt", ">Epochs", "What happened"], rows)


def _state(trial: Trial) -> TableCell:
    mark = {"complete": "ok", "pruned": "warn"}.get(trial.state, "fail")
    return TableCell(f"{MARKS[mark].symbol} {trial.state}", mark=mark)


def _epochs(trial: Trial, study: Study) -> TableCell:
    """How many epochs a trial finished; a script need not tell."""
    return TableCell("–" if study.scripted and not trial.epochs else str(trial.epochs))


def _p(value: float | None) -> TableCell:
    if value is None:
        return TableCell("")
    return TableCell(
        "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}", value
    )


def _cells(row: Sequence[object]) -> list[TableCell]:
    return [cell if isinstance(cell, TableCell) else TableCell(str(cell)) for cell in row]


def _real(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
