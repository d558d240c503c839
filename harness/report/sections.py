"""The sections of a study's report, each a function with the section's name: analysis and material in, a Section out.

A section that has nothing to say returns None and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis import Analysis, Check
from harness.report import answers, evidence, methods, reproduction, searched, speed, tables, words
from harness.report import retuned as retuning
from harness.report.document import (
    Block,
    Bullets,
    Definitions,
    Details,
    Figure,
    Listing,
    Paragraph,
    Section,
    TableBlock,
    TableCell,
    table,
)
from harness.report.figures import effects as draw_effects
from harness.report.figures import learning as draw_learning
from harness.report.figures import search as draw_search
from harness.report.figures import searching as draw_searching
from harness.report.figures import seeds as draw_seeds
from harness.report.figures import tradeoffs as draw_tradeoffs
from harness.report.lookup import leading
from harness.report.material import Material
from harness.report.samples import strips
from harness.report.words import MARKS, plain
from harness.study.cells import seeds as planned_seeds
from harness.study.trial import Environment, Trial
from harness.text import plural


@dataclass(frozen=True)
class SectionInput:
    """What every section is made of.

    Attributes:
        formats: stand-alone formats that figures are printed in.
        brief: leave out the figures that take long: the run is still going on.
    """

    material: Material
    analysis: Analysis
    formats: Sequence[str]
    brief: bool = False


# Fields that later versions added, at what every recipe had before: earlier reports stay byte for
# byte.
_ADDED = (("loss.name", "cross-entropy"),)


def sections(given: SectionInput) -> tuple[Section, ...]:
    """Return every section that has something to say, in the order of reading."""
    makers: tuple[Callable[[SectionInput], Section | None], ...] = (
        reproduced,
        verdicts,
        compared,
        effects,
        retuned,
        seeds,
        learning,
        tradeoffs,
        throughput,
        classes,
        tuning,
        checks,
        reproduce,
        trials,
        glossary,
    )
    # a search without confirmation has no runs to compare, and who is confirmed is still open
    if given.material.tuning is not None and not given.material.trials:
        makers = (tuning, reproduce, glossary)
    return tuple(made for make in makers if (made := make(given)) is not None)


def reproduced(given: SectionInput) -> Section | None:
    """Theirs and ours, for a study that trains a write-up's recipe again."""
    shown = reproduction.theirs_and_ours(given.analysis)
    return Section("reproduced", "Theirs and ours", (shown,)) if shown is not None else None


def verdicts(given: SectionInput) -> Section | None:
    """The table that answers the question, and what to change."""
    analysis = given.analysis
    # one arm has nothing to be judged against
    if len(analysis.arms) < 2 or not leading(analysis):
        return None
    blocks: list[Block] = [tables.verdicts(analysis)]
    if split := words.split(analysis):
        blocks.append(Paragraph(split, "note"))
    if analysis.reasons:
        blocks += [
            Paragraph("What to change, in order:"),
            Bullets(tuple(map(words.sentence, analysis.reasons)), ordered=True),
        ]
    if analysis.kept:
        blocks += [
            Paragraph("Changes that are not recommended, and why:"),
            Bullets(tuple(map(words.sentence, analysis.kept))),
        ]
    # what a search recommends was run on fresh seeds: see there
    if analysis.recommended and given.material.tuning is None:
        command = _recommended_command(given)
        again = ":" if command else "."
        blocks.append(
            Paragraph(
                f"Recommended recipe, on top of {words.named(analysis.study.baseline)}: {words.setting(analysis.recommended)}. {answers.recommended(analysis)}{again}"
            )
        )
        blocks += [Listing(command)] if command else []
    return Section("verdicts", "Verdicts", tuple(blocks))


def _recommended_command(given: SectionInput) -> str:
    """The command that runs what is recommended: the study's own, settings included, with one flag more; empty without one.

    What a retuned study recommends has no command of its own, nor has what was recommended already.
    """
    study, commands = given.analysis.study, given.material.provenance.commands
    if study.settings or any("--recommended" in text for text in commands):
        return ""
    asked = next((text for text in commands if text.startswith("harness ablate ")), "")
    # the command that was typed has settings that the study file may lack
    profile = f" --profile {study.profile}" if study.profile else ""
    return f"{asked or f'harness ablate --study {study.name}{profile}'} --recommended"


def compared(given: SectionInput) -> Section:
    """What the arms are, and what they do to the images."""
    study = given.analysis.study
    blocks: list[Block] = []
    if study.why:
        blocks.append(Paragraph(study.why))
    blocks.append(tables.compared(given.analysis))
    if given.material.samples:
        blocks.append(strips(given.material, given.analysis))
    return Section("compared", "What was compared", tuple(blocks))


def effects(given: SectionInput) -> Section | None:
    """Differences with everything known about them; interactions, Shapley values and curves where the design has them."""
    analysis = given.analysis
    drawn: list[Block | None] = [
        draw_effects.terms(analysis, given.formats),
        *draw_effects.levels(analysis, given.formats),
        draw_effects.forest(analysis, given.formats),
        evidence.orders(analysis),
    ]
    found = [block for block in drawn if block is not None]
    for kind in ("main", "interaction", "shapley", "dataset"):
        found += _maybe(evidence.effects(analysis, kind))
    unpaired = analysis.study.pairing != "seed"
    behind = [
        *_maybe(evidence.effects(analysis, "arm")),
        *_maybe(tables.secondary(analysis)),
        *_maybe(_aliases(given)),
    ]
    if any(summary.mean is not None for summary in analysis.summaries):
        found.append(tables.levels(analysis))
    found += (
        [
            Details(
                "p-values and secondary metrics"
                if unpaired
                else "p-values, seed correlation and secondary metrics",
                tuple(behind),
            )
        ]
        if behind
        else []
    )
    return Section("effects", "Effects", tuple(found)) if found else None


def retuned(given: SectionInput) -> Section | None:
    """Every verdict as it is and with the arms retuned."""
    shown = retuning.blocks(given.analysis)
    return Section("retuned", "Retuned", shown) if shown else None


def _aliases(given: SectionInput) -> TableBlock | None:
    """Which effects a fractional design cannot tell apart."""
    from harness.study.fraction import alias_table

    rows = [
        [" x ".join(a.term), ", ".join(" x ".join(other) for other in a.with_) or "–"]
        for a in alias_table(given.analysis.study)
    ]
    return (
        table("What this fraction cannot tell apart.", ["Term", "Aliased with"], rows)
        if rows
        else None
    )


def seeds(given: SectionInput) -> Section | None:
    """Every seed."""
    drawn = draw_seeds.seeds(given.material, given.analysis, given.formats)
    return (
        Section("seeds", f"Every {words.unit_of_run(given.analysis.study)}", (drawn,))
        if drawn is not None
        else None
    )


def learning(given: SectionInput) -> Section | None:
    """Curves by epoch."""
    drawn: list[Block] = list(
        draw_learning.learning(given.material, given.analysis, given.formats, brief=given.brief)
    )
    if not drawn:
        return None
    # The recipe alone says how the rate goes: it is there for who asks.
    rates = tuple(figure for figure in drawn if isinstance(figure, Figure) and figure.id == "rates")
    shown = [figure for figure in drawn if figure not in rates]
    folded = [Details("The learning rate", rates)] if rates else []
    onset = _maybe(evidence.onsets(given.analysis))
    return Section("learning", "Learning", (*shown, *onset, *folded))


def tradeoffs(given: SectionInput) -> Section | None:
    """Accuracy against the gap and against time."""
    # times of a run that still goes on change under the reader's eyes
    blocks = [*_maybe(draw_tradeoffs.against_gap(given.analysis, given.formats))]
    if not given.brief:
        blocks += _maybe(draw_tradeoffs.against_seconds(given.analysis, given.formats))
    return Section("tradeoffs", "Trade-offs", tuple(blocks)) if blocks else None


def throughput(given: SectionInput) -> Section | None:
    """Images per second and what else was measured of the trials, and a saved benchmark."""
    if given.brief or given.analysis.study.table:  # a table says nothing of the machine
        return None
    drawn = _maybe(draw_tradeoffs.throughput(given.material, given.analysis, given.formats))
    blocks: list[Block] = [Details("Images per second of every arm", tuple(drawn))] if drawn else []
    blocks += [
        *_maybe(speed.readings(given.material, given.analysis)),
        *_maybe(speed.benchmark(given.material.bench)),
    ]
    return Section("throughput", "Throughput", tuple(blocks)) if blocks else None


def classes(given: SectionInput) -> Section | None:
    """Effects within classes."""
    # a heat map is the slowest of the drawings
    drawn = None if given.brief else draw_seeds.classes(given.analysis, given.formats)
    return Section("classes", "Classes", (drawn,)) if drawn is not None else None


def tuning(given: SectionInput) -> Section | None:
    """The search, what it found, and what fresh seeds say of it."""
    facts = given.material.tuning
    if facts is None:
        return None
    blocks: list[Block] = [Paragraph(searched.course(facts), "note")]
    if facts.note:
        blocks.append(Paragraph(facts.note, "warn"))
    blocks += _maybe(searched.best(facts))
    blocks += [*_maybe(searched.confirmed(facts)), *_maybe(searched.finalists(facts))]
    if facts.recipe:
        blocks += searched.how_to_use(facts, given.analysis.study)
    if slowed := searched.slowed(facts, given.analysis):
        blocks.append(Paragraph(slowed, "note"))
    drawings = (
        draw_search.history,
        draw_searching.timeline,
        *([] if slowed else [draw_searching.against_seconds]),
        draw_search.importances,
        draw_search.slices,
    )
    for draw in drawings:
        blocks += _maybe(draw(facts, given.formats))
    blocks += _maybe(searched.space(facts))
    return Section("tuning", "The search", tuple(blocks))


def checks(given: SectionInput) -> Section:
    """What was checked, what ended badly, and what other methods say."""
    raised = [check for check in given.analysis.checks if check.level != "ok"]
    passed = [check for check in given.analysis.checks if check.level == "ok"]
    raised.sort(key=lambda check: check.level)  # "fail" before "warn"

    blocks: list[Block] = []
    if raised:
        blocks.append(_checks_table("What the checks found, the serious ones first.", raised))
    elif passed:
        blocks.append(Paragraph(f"All {plural(len(passed), 'check')} passed."))
    if passed:
        count = plural(len(passed), "passed check")
        blocks.append(
            Details(
                f"{count}", (_checks_table("What was looked at and is as it should be.", passed),)
            )
        )
    blocks += _maybe(evidence.ended(given.material))
    blocks += _maybe(evidence.effects(given.analysis, "control"))
    if not given.brief:
        second = _maybe(evidence.sensitivity(given.analysis))
        blocks += (
            [Details("The same differences by another interval", tuple(second))] if second else []
        )
    if not blocks:
        blocks.append(Paragraph("Nothing has been checked yet."))
    return Section("checks", "Checks and sensitivity", tuple(blocks))


def _checks_table(caption: str, checks: Sequence[Check]) -> TableBlock:
    rows = [
        [
            TableCell(f"{MARKS[check.level].symbol} {MARKS[check.level].word}", mark=check.level),
            TableCell(check.name),
            TableCell(check.what, note=check.hint),
        ]
        for check in checks
    ]
    return table(caption, ["Result", "Check", "What was found"], rows)


def reproduce(given: SectionInput) -> Section:
    """Commands, study file, environment and fingerprints."""
    origin, study = given.material.provenance, given.analysis.study
    blocks: list[Block] = []
    if origin.commands:
        blocks.append(Listing("\n".join(origin.commands)))
    # in the order of the trials, so that the first machine comes first
    there = {id(trial.environment): trial.environment for trial in given.material.trials}
    environments = list(dict.fromkeys(there.values()))
    fingerprints = list(
        dict.fromkeys(
            trial.data_fingerprint for trial in given.material.trials if trial.data_fingerprint
        )
    )
    items = [
        ("table" if study.table else "images", origin.data),
        ("image fingerprint", ", ".join(fingerprints) or origin.data_fingerprint),
        ("hardware", origin.hardware),
        ("adopted", _adopted(given.material.trials)),
        (
            "seeds",
            _span(given.material.seeds or planned_seeds(study)) if study.pairing == "seed" else "",
        ),
        (
            "code",
            " ".join(
                part
                for part in (f"harness {origin.harness}" if origin.harness else "", origin.commit)
                if part
            ),
        ),
        *_environment(environments),
    ]
    blocks.append(Definitions(tuple((term, text) for term, text in items if text)))
    blocks.append(Details("The study file", (Listing(study.to_toml()),)))
    if study.table:
        return Section("reproduce", "How to reproduce", tuple(blocks))
    base = study.base_recipe
    rows = [
        [name, plain(value)] for name, value in base.flat().items() if (name, value) not in _ADDED
    ]
    blocks.append(
        Details(
            "The base settings" if study.scripted else "The base recipe, every field",
            (table("Overrides of the arms apply to this.", ["Field", "Value"], rows),),
        )
    )
    return Section("reproduce", "How to reproduce", tuple(blocks))


def _adopted(trials: Sequence[Trial]) -> str:
    """How many trials were finished elsewhere before, and where."""
    places = Counter(trial.adopted for trial in trials if trial.adopted)
    told = [f"{count:,} from {place}" for place, count in sorted(places.items())]
    return (
        f"{places.total():,} of {plural(len(trials), 'trial')}, finished before: {words.listed(told)}"
        if told
        else ""
    )


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])


def _environment(found: Sequence[Environment]) -> list[tuple[str, str]]:
    if not found:
        return []
    told = []
    for name in Environment.model_fields:
        values = list(dict.fromkeys(str(getattr(environment, name)) for environment in found))
        values = [value for value in values if value not in ("", "0")]
        # a host's name is nobody's business, and the code has a line of its own
        if values and name not in ("host", "commit", "harness"):
            told.append((name, words.listed(values, 4)))
    return told


def trials(given: SectionInput) -> Section | None:
    """Every trial."""
    if not given.material.trials or given.brief:
        return None
    return Section(
        "trials",
        "Every trial",
        (Details("Every trial in a table", (evidence.trials(given.material, given.analysis),)),),
    )


def glossary(given: SectionInput) -> Section:
    """Terms, methods and sources."""
    analysis, tuning = given.analysis, given.material.tuning
    method = " ".join(sentence for sentence, _ in methods.paragraph(analysis, tuning))
    sources = tuple(source.text for source in methods.cited(analysis, tuning))
    blocks: list[Block] = [
        Paragraph(method),
        Details("Glossary", (Definitions(methods.glossary(analysis, tuning)),)),
        Details("Sources", (Bullets(sources),)),
    ]
    return Section("glossary", "Methods and glossary", tuple(blocks))


def _maybe(block: Block | None) -> list[Block]:
    return [] if block is None else [block]
