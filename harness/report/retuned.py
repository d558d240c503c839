"""The section on retuned arms: every effect as it is and retuned, and what each arm was set to."""

from __future__ import annotations

from harness.analysis import Analysis, Pair, Retuned
from harness.report.document import Block, Column, Paragraph, TableBlock, TableCell, table
from harness.report.lookup import metric_of
from harness.report.words import (
    MARKS,
    bounds,
    difference,
    direction,
    listed,
    mark_of,
    named,
    number,
    plain_confidence,
    sample,
    setting,
    unit_name,
)
from harness.text import plural


def blocks(analysis: Analysis) -> tuple[Block, ...]:
    """Return what the section shows; nothing for a study that retunes nothing or has not begun to."""
    found = analysis.retuned
    if found is None:
        return ()
    shown: list[Block] = [Paragraph(sentence(analysis))]
    shown.append(Paragraph(_method(analysis, found), "note"))
    if found.pairs:
        shown.append(side_by_side(analysis, found))
    if found.settings:
        shown.append(settings(analysis, found))
    return tuple(shown)


def sentence(analysis: Analysis) -> str:
    """Return in a sentence what retuning did to the verdicts, or that it is still to come; empty for a study without."""
    found, asked = analysis.retuned, analysis.study.retune
    if found is None:
        if not asked or not analysis.seeds:
            return ""
        return (
            f"Retuning has not begun: every arm here has the {listed(asked)} of "
            f"{named(analysis.study.baseline)}, and what it would do at its own is not known yet."
        )
    if found.missing or not found.pairs:
        left = f" ({plural(found.missing, 'trial')} left)" if found.missing else ""
        return (
            f"Retuning is not finished{left}; the verdicts here are those of the arms as they are."
        )
    # a verdict that was never given cannot flip
    judged = [pair for pair in found.pairs if pair.as_is.verdict and pair.retuned.verdict]
    if not judged:
        return "With every arm retuned, there is no verdict that could flip: none was given on both sides."
    kinds = {kind: _named(found, kind) for kind in ("flips", "no longer resolved", "resolves")}
    # the verb agrees with the number of names
    verbs = {
        "flips": ("flips", "flip"),
        "no longer resolved": ("is no longer resolved", "are no longer resolved"),
        "resolves": ("is now resolved", "are now resolved"),
    }
    told = [
        f"{listed(names)} {verbs[kind][len(names) > 1]}" for kind, names in kinds.items() if names
    ]
    if not told:
        return f"With every arm retuned, {'the verdict stays' if len(judged) == 1 else f'all {len(judged)} verdicts stay'}."
    head = f"{found.flips} of {plural(len(judged), 'verdict')} {'flips' if found.flips == 1 else 'flip'}"
    return (
        f"With every arm retuned, {head if found.flips else 'no verdict flips'}: {'; '.join(told)}."
    )


def _named(found: Retuned, kind: str) -> list[str]:
    """Return the effects whose verdicts changed in one way, with both verdicts."""
    return [
        f"{named(pair.term)} ({pair.as_is.verdict} as it is, {pair.retuned.verdict} retuned)"
        for pair in found.pairs
        if pair.change_of_verdict == kind
    ]


def _method(analysis: Analysis, found: Retuned) -> str:
    entries = "; ".join(f"{name}: {words}" for name, words in found.entries.items())
    return (
        f"Every arm, the baseline included, was tried at the same {plural(found.tries, 'setting')} (the first is the arm as it "
        f"is), at one seed that the study does not use, and the best by {metric_of(analysis).label} was run over the study's "
        f"own seeds. Tried over {entries}."
    )


def side_by_side(analysis: Analysis, found: Retuned) -> TableBlock:
    """Return every effect as it is and retuned, with the change of the effect and what became of the verdict."""
    main = found.pairs[0].as_is.kind == "main"
    # a column that says the same in every row is left out
    several = len({pair.reference for pair in found.pairs}) > 1
    rows = [
        [
            TableCell(pair.term, note=f"against {pair.reference}" if several and not main else ""),
            TableCell(difference(pair.as_is), pair.as_is.estimate),
            TableCell(difference(pair.retuned), pair.retuned.estimate),
            _change(pair),
            _verdict(pair, retuned=False),
            _verdict(pair, retuned=True),
            _flip(pair),
        ]
        for pair in found.pairs
    ]
    heads: list[str | Column] = [
        "Component" if main else "Arm",
        Column("As it is", numeric=True, note="difference"),
        Column("Retuned", numeric=True, note="difference"),
        Column("Change", numeric=True, note="retuned minus as it is"),
        "Verdict as it is",
        "Verdict retuned",
        "Flip",
    ]
    metric = metric_of(analysis)
    caption = (
        f"Differences in {metric.label} ({direction(metric)}), mean [low, high], {_sample(analysis, found)}; "
        "retuned arms against the retuned baseline. Each side has a Holm family of its own. A verdict that flips says nothing "
        f"of how far the effect moved: its change has an interval, {plain_confidence(analysis.study)}, uncorrected."
    )
    return table(caption, heads, rows)


def _sample(analysis: Analysis, found: Retuned, *, plain: bool = False) -> str:
    effects = [effect for pair in found.pairs for effect in (pair.as_is, pair.retuned)]
    return sample(analysis.study, effects, plain=plain)


def _change(pair: Pair) -> TableCell:
    if pair.change is None:
        return TableCell("–")
    unit = pair.as_is.unit
    interval = bounds(pair.low, pair.high, unit, signed=True)
    return TableCell(
        f"{number(pair.change, unit, signed=True)}{unit_name(unit)} {interval}".strip(), pair.change
    )


def _verdict(pair: Pair, *, retuned: bool) -> TableCell:
    effect = pair.retuned if retuned else pair.as_is
    mark = mark_of(effect)
    return TableCell(f"{MARKS[mark].symbol} {MARKS[mark].word}", mark=mark, note=effect.note)


def _flip(pair: Pair) -> TableCell:
    if not pair.as_is.verdict or not pair.retuned.verdict:
        return TableCell("–")
    if pair.change_of_verdict == "flips":
        return TableCell("! flips", mark="warn")
    return TableCell(pair.change_of_verdict or "stays")


def settings(analysis: Analysis, found: Retuned) -> TableBlock:
    """Return what every arm was set to, its score in the search, and what that gained on the study's own seeds."""
    unit = metric_of(analysis).unit
    level = unit_name(unit, level=True)
    rows = []
    for one in found.settings:
        interval = bounds(one.low, one.high, unit, signed=True)
        gain = (
            f"{number(one.gain, unit, signed=True)}{unit_name(unit)} {interval}".strip()
            if one.gain is not None
            else "–"
        )
        rows.append(
            [
                TableCell(
                    one.arm, note="the baseline" if one.arm == analysis.study.baseline else ""
                ),
                TableCell(setting(one.chosen) or "as it is"),
                TableCell(
                    f"{number(one.as_is, unit)}{level}" if one.as_is is not None else "–", one.as_is
                ),
                TableCell(
                    f"{number(one.score, unit)}{level}" if one.score is not None else "–", one.score
                ),
                TableCell(gain, one.gain),
                TableCell(f"{one.complete} of {found.tries}"),
            ]
        )
    heads: list[str | Column] = [
        "Arm",
        "Chosen setting",
        Column("Search score as it is", numeric=True, note="one seed"),
        Column("Search score chosen", numeric=True, note="one seed, optimistic"),
        Column("Gained", numeric=True, note="on the study's seeds"),
        Column("Settings", numeric=True, note="complete"),
    ]
    caption = (
        "What every arm was set to. A search score is one validation score at one seed, the best of several; what it gained is "
        f"measured on the study's own seeds, mean [low, high], {_sample(analysis, found, plain=True)}."
    )
    return table(caption, heads, rows)
