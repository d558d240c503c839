"""Write the README's section "What we found" from the committed reports, so that its numbers are theirs.

python tools/readme_findings.py         # rewrite the part of README.md between the markers

A study without a report has no line. Every difference comes with its interval and its number of
seeds, and every judgement is the report's verdict: what is unresolved is called so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness.analysis import Analysis, Effect
from harness.analysis.tuning_facts import TuningFacts
from harness.report import read_analysis, read_folder, words
from harness.report.folder import read_tuning
from harness.report.lookup import effect_on, in_order, leading, summary_of
from harness.report.retuned import sentence

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PROFILE = "small"
BEGIN, END = "<!-- findings: begin -->\n", "<!-- findings: end -->"
PUBLISHED = (  # (run, accuracy, time, hardware, source)
    (
        "reference recipe, 50,000 images",
        "98 % train, 92 % validation",
        "-",
        "-",
        "the write-up we start from",
    ),
    ("airbench94_muon", "94.01 % test", "2.59 s", "A100", "cifar10-airbench"),
    ("hiverge speedrun", "94.01 % test", "2.0 s", "A100", "cifar10-speedrun"),
    ("airbench96_faster", "96.00 % test", "27.3 s", "A100", "cifar10-airbench"),
    ("ResNet-18, 200 epochs", "96.0 % test", "7 min", "A100", "cifar10-airbench"),
)
SWEPT = {
    "dropout": "Dropout",
    "weight-decay": "Weight decay",
    "grad-clip": "Gradient clipping",
    "blocks": "Blocks",
    "width": "Width",
    "head": "Head",
    "optimizer": "Optimiser",
    "schedule": "Schedule",
}
WRITTEN = {"train_accuracy": 98.0, "accuracy": 92.0}  # %, of the write-up
WRITTEN_ONSET = 30  # epochs, of the write-up


def findings(reports: Path = REPORTS) -> str:
    """Return the section in Markdown, from the reports that are there."""
    found = {
        path.parent.name.removesuffix(f"-{PROFILE}"): read_analysis(path.parent)
        for path in sorted(reports.glob(f"*-{PROFILE}/analysis.json"))
    }
    tuning = read_tuning(reports / f"tune-{PROFILE}" / "tuning.json")
    lines = [_augmentations(found["augmentations"])] if "augmentations" in found else []
    for name, title in SWEPT.items():
        lines += [_swept(title, found[name])] if name in found else []
        lines += [_retuned(found["depth"])] if name == "blocks" and "depth" in found else []
    lines += [_claims(found["claims"])] if "claims" in found else []
    lines += (
        [_tune(found["tune"], tuning, found.get("width"))]
        if tuning is not None and "tune" in found
        else []
    )
    lines += [_reference(found["reference"], reports)] if "reference" in found else []
    if not lines:
        return "No report has been committed yet.\n"
    return "\n".join([_scale(found, tuning), "", *lines, "", *_published(found, tuning)]) + "\n"


def _scale(found: dict[str, Analysis], tuning: TuningFacts | None) -> str:
    first = next(iter(found.values()))
    recipe = first.study.base_recipe
    searched = tuning.history if tuning is not None else ()
    trials = sum(one.trials_total for one in found.values()) + len(searched)
    epochs = sorted({one.study.base_recipe.train.epochs for one in found.values()})
    length = (
        words.plural(epochs[0], "epoch")
        if len(epochs) == 1
        else f"{epochs[0]} to {epochs[-1]} epochs"
    )
    seconds = sum(one.train_seconds_total for one in found.values()) + sum(
        trial.seconds for trial in searched
    )
    size = f"{recipe.data.train:,} CIFAR-10 images at {recipe.data.size} pixels, a net of {first.arms[0].params_m:.2g} M weights"
    return (
        f"CPU-scale, profile `{PROFILE}`: {size}, {length}; {words.plural(trials, 'trial')}, "
        f"{words.seconds(seconds)} of training. What holds here need not hold for the whole net on all images. Differences "
        "are in pp, paired by seed, [95 % t interval over n seeds]; verdicts are on validation accuracy, after Holm, and the "
        "gap is not judged."
    )


def _augmentations(analysis: Analysis) -> str:
    """Which components earn their place: what taking each out of the recipe costs."""
    out = [
        e
        for e in in_order(analysis, leading(analysis))
        if e.term.startswith("no-") and e.reference == analysis.study.baseline
    ]
    earned = {
        "worse": "earn their place in accuracy",
        "better": "are better left out",
        "equivalent": f"can go at no cost within {words.margin(analysis)}",
        "unresolved": "are unresolved",
        "": "are not judged",
    }
    groups = {
        verdict: [e.term.removeprefix("no-") for e in out if e.verdict == verdict]
        for verdict in earned
    }
    told = [
        f"{words.listed(names)} {_verb(earned[verdict], names)}"
        for verdict, names in groups.items()
        if names
    ]
    narrow = [
        e.term.removeprefix("no-")
        for e in out
        if words.gap_word(effect_on(analysis, e, analysis.gap), analysis) == "wider"
    ]
    closes = (
        f" The gap is held down by {words.listed(narrow)}."
        if narrow
        else " No component holds the gap down measurably."
    )
    rest = [
        e
        for e in in_order(analysis, leading(analysis))
        if e.reference == analysis.study.baseline and e not in out
    ]
    return (
        f"- **Augmentations** ({_link(analysis)}): {'; '.join(told)}.{closes} Taken out of the recipe: {_each(analysis, out)}."
        + (f" Beside it: {_each(analysis, rest)}." if rest else "")
    )


def _swept(title: str, analysis: Analysis) -> str:
    """What the other arms do against the baseline."""
    judged = in_order(analysis, leading(analysis))
    better = [e for e in judged if e.verdict == "better"]
    base = ", ".join(
        f"{name.split('.')[-1]} {words.plain(value)}" for name, value in _baseline(analysis).items()
    )
    head = (
        f"{words.listed([f'`{e.term}`' for e in better])} {_verb('are better', better)} than the reference"
        if better
        else ("none is shown to be better than the reference")
    )
    return f"- **{title}** ({_link(analysis)}): {head}{f' ({base})' if base else ''}. {_each(analysis, judged)}."


def _retuned(analysis: Analysis) -> str:
    """What becomes of the depths when each has a learning rate of its own."""
    retuned = analysis.retuned
    told = (
        []
        if retuned is None
        else [
            f"`{pair.term}` {words.difference(pair.as_is)} as it is ({pair.as_is.verdict or 'not judged'}), "
            f"{words.difference(pair.retuned)} retuned ({pair.retuned.verdict or 'not judged'}), n = {pair.retuned.n}"
            for pair in retuned.pairs
        ]
    )
    return f"- **Depth, with a learning rate of its own** ({_link(analysis)}): {sentence(analysis)} {'; '.join(told)}."


def _claims(analysis: Analysis) -> str:
    """Whether what the write-up claims holds: the main effect of each of the three."""
    words_of = {
        "better": "holds",
        "worse": "does not hold, accuracy falls",
        "equivalent": f"makes no difference beyond {words.margin(analysis)}",
        "unresolved": "is unresolved",
        "": "is not judged",
    }
    told = [
        f"{e.term} {words_of[e.verdict]}, {_one(analysis, e)}"
        for e in leading(analysis)
        if e.kind == "main"
    ]
    return (
        f"- **The write-up's claim** ({_link(analysis)}) that weight decay, gradient clipping and the one-cycle schedule all "
        f"assisted, each switched on over all settings of the others: {'; '.join(told) or words.answer(analysis)}."
    )


def _tune(analysis: Analysis, tuning: TuningFacts, width: Analysis | None) -> str:
    """What the search found, how it differs in gap and size, and what finding it cost."""
    searched = sum(trial.seconds for trial in tuning.history)
    cost = f"{words.plural(len(tuning.history), 'trial')} of search, {words.seconds(searched)} of training, then "
    cost += f"{words.plural(analysis.trials_total, 'trial')} on fresh seeds, {words.seconds(analysis.train_seconds_total)}"
    beside = ""
    chosen = next(
        (e for e in leading(analysis) if tuning.confirmed and e.term == tuning.confirmed.name), None
    )
    if chosen is not None:
        gap = effect_on(analysis, chosen, analysis.gap)
        sizes = [
            one.params_m
            for one in analysis.arms
            if one.name in {chosen.term, analysis.study.baseline}
        ]
        beside = (
            f" Its gap: {words.difference(gap)} {words.gap_word(gap, analysis)}".rstrip()
            + f", n = {chosen.n}"
            if gap
            else ""
        )
        if len(sizes) == 2 and sizes[0] and sizes[1] and abs(sizes[1] / sizes[0] - 1) > 0.01:
            beside += f"; its net has {sizes[1] / sizes[0]:.1f} times the weights, which the difference is of too"
            beside += _alone(
                width,
                next(row for row in tuning.finalists if row.chosen).overrides.get("model.width"),
            )
        beside += "."
    limits = f" within {tuning.limits}" if tuning.limits else ""
    return (
        f"- **The best recipe{limits}** ({_link(analysis)}): {tuning.answer}{beside} Cost: {cost}."
    )


def _alone(width: Analysis | None, value: object) -> str:
    """What the width of the chosen recipe does by itself, on other seeds; nothing where that was not run."""
    found = [e for e in leading(width) if e.term == f"width={value}"] if width is not None else []
    return (
        f" (that width alone, on other seeds: {_one(width, found[0])})"
        if width is not None and found
        else ""
    )


def _reference(analysis: Analysis, reports: Path) -> str:
    """The reproduction beside the write-up's figures, and why it differs."""
    arm = analysis.arms[0]
    told = []
    for metric, theirs in WRITTEN.items():
        summary = summary_of(analysis, arm.name, metric)
        if summary is None or summary.mean is None:
            continue
        name, note = (
            ("training", "")
            if metric == "train_accuracy"
            else ("test", " (used for validation, as in the write-up)")
        )
        level = f"{summary.mean:.1f} % {words.bounds(summary.low, summary.high)}"
        apart = f"{words.number(summary.mean - theirs, signed=True)} pp from its {theirs:g} %"
        told.append(f"{name} accuracy{note} {level} (n = {summary.n}), {apart}")
    seeds = arm.completed
    if arm.onset_epoch is None:
        turn = f"test loss turns up in none of {words.plural(seeds, 'seed')}"
    else:
        turn = f"test loss turns up at epoch {arm.onset_epoch:g} (median of {seeds - arm.onset_none} of {seeds} seeds)"
    recipe = analysis.study.base_recipe
    folder = reports / analysis.study.folder
    lowest = [
        min(range(len(curve)), key=curve.val_loss.__getitem__) + 1
        for curve in read_folder(folder).curves.values()
    ]
    best = f", its lowest value at epoch {median(lowest):g} (median)" if lowest else ""
    scale = f"{recipe.data.train:,} of 50,000 training images, {recipe.data.size} of 32 pixels a side, {arm.params_m:.2g} of 15.0 M"
    return (
        f"- **The reference, as published** ({_link(analysis)}; {recipe.train.epochs} epochs, no validation images kept, so "
        f"nothing is judged): {'; '.join(told)}; {turn}{best}, the write-up's after about {WRITTEN_ONSET}. "
        f"The likely reason for the difference is scale: {scale} weights."
    )


def _published(found: dict[str, Analysis], tuning: TuningFacts | None) -> list[str]:
    """What these runs reach beside published runs: on other images and machines, and so no comparison."""
    rows = ["| run | accuracy | training time | on |", "|---|---|---|---|"]
    if tuning is not None and tuning.confirmed is not None and "tune" in found:
        rows += [
            _row(found["tune"], arm.name, "search")
            for arm in found["tune"].arms
            if arm.name in {"reference", tuning.confirmed.name}
        ]
    elif "augmentations" in found:
        rows.append(
            _row(found["augmentations"], found["augmentations"].study.baseline, "augmentations")
        )
    rows += [
        f"| {run} ({source}) | {reached} | {time} | {machine} |"
        for run, reached, time, machine, source in PUBLISHED
    ]
    note = "Published runs use all 50,000 images at 32 pixels and far larger nets: they stand beside, and are not compared."
    return [*rows, "", note]


def _row(analysis: Analysis, name: str, source: str) -> str:
    summary = summary_of(analysis, name, "accuracy")
    arm = next(one for one in analysis.arms if one.name == name)
    level = (
        "-"
        if summary is None or summary.mean is None
        else (
            f"{summary.mean:.1f} % {words.bounds(summary.low, summary.high)} validation, n = {summary.n}"
        )
    )
    return f"| here, {PROFILE}: {name} ({source}) | {level} | {words.seconds(arm.train_seconds)} | one CPU core |"


def _each(analysis: Analysis, effects: Sequence[Effect]) -> str:
    return "; ".join(
        f"`{effect.term}` {effect.verdict or 'not judged'}, {_one(analysis, effect)}"
        for effect in effects
    )


def _one(analysis: Analysis, effect: Effect) -> str:
    """``-1.24 pp [-2.45, -0.03], gap +20.38 pp [+17.94, +22.81] wider, n = 8``."""
    gap = effect_on(analysis, effect, analysis.gap)
    beside = (
        f", gap {words.difference(gap)} {words.gap_word(gap, analysis)}".rstrip()
        if gap is not None and gap.estimate is not None
        else ""
    )
    return f"{words.difference(effect)}{beside}, n = {effect.n}"


def _baseline(analysis: Analysis) -> dict[str, object]:
    """What the swept fields are in the baseline."""
    flat = analysis.study.base_recipe.flat()
    return {name: flat[name] for factor in analysis.study.factors for name in factor.field}


def _verb(many: str, names: Sequence[object]) -> str:
    if len(names) > 1:
        return many
    return many.replace("earn their", "earns its").replace("are ", "is ")


def _link(analysis: Analysis) -> str:
    return f"[report](reports/{analysis.study.folder}/report.md){'' if analysis.finished else ', incomplete'}"


def readme(text: str) -> str:
    """Return a README with the section put in."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{findings()}{END}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
