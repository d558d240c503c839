"""The sections of a study's report, each a function with the section's name: analysis and material in, a Section out.

A section that has nothing to say returns None and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis import Analysis
from harness.report import evidence, methods, searched, speed, tables, words
from harness.report import retuned as retuning
from harness.report.document import (
    Block,
    Bullets,
    Cell,
    Definitions,
    Details,
    Listing,
    Paragraph,
    Section,
    Table,
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

_STRIP_IMAGES = 8
_STRIP_ARMS = 16


@dataclass(frozen=True)
class Job:
    """What every section gets.

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


def sections(job: Job) -> tuple[Section, ...]:
    """Return every section that has something to say, in the order of reading."""
    makers = (
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
    return tuple(made for make in makers if (made := make(job)) is not None)


def verdicts(job: Job) -> Section | None:
    """The table that answers the question, and what to change."""
    analysis = job.analysis
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
            Paragraph("Left out, and why:"),
            Bullets(tuple(map(words.sentence, analysis.kept))),
        ]
    # what a search recommends was run on fresh seeds: see there
    if analysis.recommended and job.material.tuning is None:
        command = _recommended_command(job)
        again = ":" if command else "."
        blocks.append(
            Paragraph(
                f"Recommended recipe: {words.setting(analysis.recommended)}. {words.recommended(analysis)}{again}"
            )
        )
        blocks += [Listing(command)] if command else []
    return Section("verdicts", "Verdicts", tuple(blocks))


def _recommended_command(job: Job) -> str:
    """The command that runs what is recommended: the study's own, settings included, with one flag more; empty without one.

    What a retuned study recommends has no command of its own, nor has what was recommended already.
    """
    study, commands = job.analysis.study, job.material.provenance.commands
    if study.settings or any("--recommended" in text for text in commands):
        return ""
    asked = next((text for text in commands if text.startswith("harness ablate ")), "")
    profile = f" --profile {study.profile}" if study.profile else ""
    return f"{asked or f'harness ablate --study {study.name}{profile}'} --recommended"


def compared(job: Job) -> Section:
    """What the arms are, and what they do to the images."""
    study = job.analysis.study
    blocks: list[Block] = []
    if study.why:
        blocks.append(Paragraph(study.why))
    blocks.append(tables.compared(job.analysis))
    if job.material.samples:
        blocks.append(strips(job.material, job.analysis))
    return Section("compared", "What was compared", tuple(blocks))


def effects(job: Job) -> Section | None:
    """Differences with everything known about them; interactions, Shapley values and curves where the design has them."""
    analysis = job.analysis
    blocks: list[Block | None] = [
        draw_effects.terms(analysis, job.formats),
        *draw_effects.levels(analysis, job.formats),
        draw_effects.forest(analysis, job.formats),
        evidence.orders(analysis),
    ]
    found = [block for block in blocks if block is not None]
    for kind in ("main", "interaction", "shapley", "dataset"):
        found += _maybe(evidence.effects(analysis, kind))
    behind = [
        *_maybe(evidence.effects(analysis, "arm")),
        *_maybe(tables.secondary(analysis)),
        *_maybe(_aliases(job)),
    ]
    if any(summary.mean is not None for summary in analysis.summaries):
        found.append(tables.levels(analysis))
    found += (
        [Details("p-values, seed correlation and secondary metrics", tuple(behind))]
        if behind
        else []
    )
    return Section("effects", "Effects", tuple(found)) if found else None


def retuned(job: Job) -> Section | None:
    """Every verdict as it is and with the arms retuned."""
    shown = retuning.blocks(job.analysis)
    return Section("retuned", "Retuned", shown) if shown else None


def _aliases(job: Job) -> Table | None:
    """Which effects a fractional design cannot tell apart."""
    from harness.study.fraction import alias_table

    rows = [
        [" x ".join(a.term), ", ".join(" x ".join(other) for other in a.with_) or "–"]
        for a in alias_table(job.analysis.study)
    ]
    return (
        table("What this fraction cannot tell apart.", ["Term", "Aliased with"], rows)
        if rows
        else None
    )


def seeds(job: Job) -> Section | None:
    """Every seed."""
    drawn = draw_seeds.seeds(job.material, job.analysis, job.formats)
    return Section("seeds", "Every seed", (drawn,)) if drawn is not None else None


def learning(job: Job) -> Section | None:
    """Curves by epoch."""
    drawn: list[Block] = list(
        draw_learning.learning(job.material, job.analysis, job.formats, brief=job.brief)
    )
    if not drawn:
        return None
    return Section("learning", "Learning", (*drawn, *_maybe(evidence.onsets(job.analysis))))


def tradeoffs(job: Job) -> Section | None:
    """Accuracy against the gap and against time."""
    blocks = [*_maybe(draw_tradeoffs.against_gap(job.analysis, job.formats))]
    if not job.brief:
        blocks += _maybe(draw_tradeoffs.against_seconds(job.analysis, job.formats))
    return Section("tradeoffs", "Trade-offs", tuple(blocks)) if blocks else None


def throughput(job: Job) -> Section | None:
    """Images per second and what else was measured of the trials, and a saved benchmark."""
    if job.brief:
        return None
    blocks: list[Block] = [
        *_maybe(draw_tradeoffs.throughput(job.material, job.analysis, job.formats))
    ]
    blocks += [
        *_maybe(speed.readings(job.material, job.analysis)),
        *_maybe(speed.benchmark(job.material.bench)),
    ]
    return Section("throughput", "Throughput", tuple(blocks)) if blocks else None


def classes(job: Job) -> Section | None:
    """Effects within classes."""
    drawn = None if job.brief else draw_seeds.classes(job.analysis, job.formats)
    return Section("classes", "Classes", (drawn,)) if drawn is not None else None


def tuning(job: Job) -> Section | None:
    """The search, what it found, and what fresh seeds say of it."""
    facts = job.material.tuning
    if facts is None:
        return None
    done = sum(trial.state == "complete" for trial in facts.history)
    pruned = sum(trial.state == "pruned" for trial in facts.history)
    parts = [plural(done, "complete trial"), *([f"{pruned} pruned"] if pruned else [])]
    told = f"{', '.join(parts)} of {facts.budget or len(facts.history)} asked for"
    told += f"; sampler {facts.sampler}" if facts.sampler else ""
    told += f", pruner {facts.pruner}" if facts.pruner else ""
    blocks: list[Block] = [
        *([Paragraph(facts.answer)] if facts.answer else []),
        Paragraph(told + ".", "note"),
    ]
    if facts.note:
        blocks.append(Paragraph(facts.note, "warn"))
    blocks += _maybe(searched.best(facts))
    blocks += [*_maybe(searched.confirmed(facts)), *_maybe(searched.finalists(facts))]
    if facts.recipe:
        improved = facts.confirmed is not None and facts.confirmed.improved
        whose = (
            "the confirmed recipe"
            if improved
            else "the reference, unchanged; candidate.toml holds the best, unconfirmed"
        )
        where = f"reports/{job.analysis.study.folder}/{facts.recipe}"
        blocks.append(
            Paragraph(
                f"{facts.recipe} holds {whose}. Any study starts from it with --base {where}.",
                "note",
            )
        )
    drawings = (
        draw_search.history,
        draw_searching.timeline,
        draw_searching.against_seconds,
        draw_search.importances,
        draw_search.slices,
    )
    for draw in drawings:
        blocks += _maybe(draw(facts, job.formats))
    blocks += _maybe(searched.space(facts))
    return Section("tuning", "Tuning", tuple(blocks))


def checks(job: Job) -> Section:
    """What was checked, what ended badly, and what other methods say."""
    order = {"fail": 0, "warn": 1, "ok": 2}
    rows = [
        [
            Cell(f"{MARKS[c.level].symbol} {MARKS[c.level].word}", mark=c.level),
            Cell(c.name),
            Cell(c.what, note=c.hint),
        ]
        for c in sorted(job.analysis.checks, key=lambda check: order[check.level])
    ]
    blocks: list[Block] = []
    if rows:
        blocks.append(
            table("Checks, the serious ones first.", ["Result", "Check", "What was found"], rows)
        )
    blocks += _maybe(evidence.ended(job.material))
    control = evidence.effects(job.analysis, "control")
    blocks += _maybe(control)
    if not job.brief:
        blocks += _maybe(evidence.sensitivity(job.analysis))
    if not blocks:
        blocks.append(Paragraph("Nothing has been checked yet."))
    return Section("checks", "Checks and sensitivity", tuple(blocks))


def reproduce(job: Job) -> Section:
    """Commands, study file, environment and fingerprints."""
    origin, study = job.material.provenance, job.analysis.study
    blocks: list[Block] = []
    if origin.commands:
        blocks.append(Listing("\n".join(origin.commands)))
    environments = list(dict.fromkeys(trial.environment for trial in job.material.trials))
    fingerprints = list(
        dict.fromkeys(
            trial.data_fingerprint for trial in job.material.trials if trial.data_fingerprint
        )
    )
    items = [
        ("table" if study.table else "images", origin.data),
        ("image fingerprint", ", ".join(fingerprints) or origin.data_fingerprint),
        ("hardware", origin.hardware),
        ("adopted", _adopted(job.material.trials)),
        ("seeds", _span(job.material.seeds or planned_seeds(study))),
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
        if values and name not in ("host", "commit", "harness"):
            told.append((name, words.listed(values, 4)))
    return told


def trials(job: Job) -> Section | None:
    """Every trial."""
    if not job.material.trials or job.brief:
        return None
    return Section(
        "trials",
        "Every trial",
        (Details("Show the table", (evidence.trials(job.material, job.analysis),)),),
    )


def glossary(job: Job) -> Section:
    """Terms, methods and sources."""
    analysis = job.analysis
    told = " ".join(sentence for sentence, _ in methods.paragraph(analysis))
    sources = tuple(
        source.text for source in methods.cited(analysis, tuned=job.material.tuning is not None)
    )
    blocks: list[Block] = [
        Definitions(methods.glossary(analysis)),
        Paragraph(told),
        Details("Sources", (Bullets(sources),)),
    ]
    return Section("glossary", "Glossary and methods", tuple(blocks))


def _maybe(block: Block | None) -> list[Block]:
    return [] if block is None else [block]
