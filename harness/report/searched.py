"""The tables of a search: its best recipe, and the finalists on fresh seeds."""

from __future__ import annotations

from harness.report import words
from harness.report.document import Cell, Table, table
from harness.report.tuning import TuningFacts
from harness.text import plural
from harness.trial import METRICS


def best(facts: TuningFacts) -> Table | None:
    """Return the best recipe by search score beside the reference; None before a trial completed."""
    if facts.best_value is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")
    rows = [["best of the search", Cell(words.number(scale * facts.best_value, unit), scale * facts.best_value),
             words.setting(dict(facts.best)) or "the reference"]]  # fmt: skip
    if facts.reference_value is not None:
        value = scale * facts.reference_value
        rows.append(["reference, same search", Cell(words.number(value, unit), value), "–"])
    caption = "Search scores on validation: the best of many is optimistic and is not confirmed until it is run on fresh seeds."
    label = metric.label if metric is not None else facts.metric
    return table(caption, ["Recipe", f">Search score, {label}", "Settings"], rows)


def finalists(facts: TuningFacts) -> Table | None:
    """Return search score, fresh-seed mean and test mean of every finalist; None before confirmation."""
    if not facts.finalists:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
        if value is None:
            return Cell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        return Cell(words.number(scale * value, unit), scale * value, note=words.bounds(least, most, unit))

    rows = [
        [Cell(f.name, note="chosen on fresh seeds" if f.chosen else ""), cell(f.search),
         cell(f.fresh, f.fresh_low, f.fresh_high), cell(f.test, f.test_low, f.test_high), str(f.n),
         words.setting(dict(f.overrides)) or "–"]
        for f in facts.finalists
    ]  # fmt: skip
    caption = (
        "Search score, mean on fresh seeds and on the test set beside each other; intervals are 95 % t over n fresh seeds."
    )
    return table(caption, ["Recipe", ">Search", ">Fresh seeds", ">Test", ">n", "Settings"], rows)


def confirmed(facts: TuningFacts) -> Table | None:
    """Return the chosen recipe's difference to the reference on fresh seeds and on the test set; None before confirmation."""
    found = facts.confirmed
    if found is None:
        return None
    metric = METRICS.get(facts.metric)
    scale, unit = (metric.scale, metric.unit) if metric is not None else (1.0, "1")

    def cell(value: float | None, low: float | None, high: float | None) -> Cell:
        if value is None:
            return Cell("–")
        least, most = (None if end is None else scale * end for end in (low, high))
        text = f"{words.number(scale * value, unit, signed=True)} {words.bounds(least, most, unit, signed=True)}"
        return Cell(text.strip(), scale * value)

    mark = found.verdict or "none"
    row = [
        found.name,
        cell(found.fresh, found.fresh_low, found.fresh_high),
        cell(found.test, found.test_low, found.test_high),
        str(found.n),
        Cell("" if found.p_holm is None else f"{found.p_holm:.3g}", found.p_holm),
        Cell(f"{words.MARKS[mark].symbol} {words.MARKS[mark].word}", mark=mark),
    ]
    reads = f" The test set was read {plural(found.test_reads, 'time')}." if found.test_reads else ""
    # a metric of the user's own is searched as it is: the largest value won
    better = words.direction(metric) if metric is not None else "higher is better"
    caption = f"Paired difference to the reference [low, high], 95 % t, n = {found.n} fresh seeds; {better}.{reads}"
    return table(caption, ["Recipe", ">Fresh seeds", ">Test", ">n", ">p (Holm)", "Verdict"], [row])


def space(facts: TuningFacts) -> Table | None:
    """Return what the search could choose from; None when it is not known."""
    if not facts.space:
        return None
    caption = f"The search space. Limits: {facts.limits}." if facts.limits else "The search space."
    return table(caption, ["Parameter", "Could be"], list(facts.space.items()))
