"""Write the page of findings for a reader whose net overfits, and its picture, from the committed reports.

python tools/what_we_found.py           # writes docs/what-we-found.md and docs/images/augmentations-by-size.svg

Each number is a row of a report's effects.csv, and each judgement is that report's verdict. A size
that has no report yet has no column.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness import read_analysis
from harness.analysis import Analysis, Effect
from harness.report import answers, reproduction, retuned, searched
from harness.report.folder import read_tuning
from harness.report.lookup import (
    arm_of,
    effect_on,
    effects_of,
    leading,
    pixels,
    summary_of,
)
from harness.report.words import (
    against,
    difference,
    gap_word,
    listed,
    margin,
    named,
    number,
    plain,
    unit_name,
)

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PAGE = ROOT / "docs" / "what-we-found.md"
PICTURE = ROOT / "docs" / "images" / "augmentations-by-size.svg"
SIZES = ("full", "medium", "small")  # the largest first
FEWEST = 3  # seeds below which a report gives no verdict
LINE = 136  # characters of a line of the page, as in the other pages
OPENING = """# What we found: a net that overfits

We started from a write-up: a CIFAR-10 net of six blocks, trained with Adam and one-cycle to 98 % training and 92 % validation
accuracy. It overfits. Here are its author's questions, each with what our reports answer.

A difference is an arm minus what it is compared with, seed by seed, in percentage points (pp), with its own 95 % t interval. The gap is
clean training accuracy minus validation accuracy. Verdicts are about validation accuracy; they and *wider* and *narrower* hold after
Holm's correction over the arms. [How to read a report](read-a-report.md) explains the words.
"""


class Question(NamedTuple):
    """One question of the page: its title, the study that answers it, what was varied, and studies that say more."""

    title: str
    study: str
    varied: str
    more: tuple[str, ...] = ()


QUESTIONS = (
    Question(
        "Which augmentations close the gap?",
        "augmentations",
        "`no-` leaves one augmentation out of the recipe, `none` all three; `only-` adds one to `none`; `cutout` is added to the recipe.",
    ),
    Question(
        "How many blocks?",
        "blocks",
        "The number of blocks changes, and with it the weights; the learning rate stays that of the reference.",
        ("depth",),
    ),
    Question("How much dropout?", "dropout", "The dropout rate before the classifier changes."),
    Question(
        "How much weight decay?",
        "weight-decay",
        "The strength of Adam's L2 term changes; `decoupled` is AdamW.",
    ),
    Question(
        "Where to clip gradients?",
        "grad-clip",
        "The largest gradient value changes; `by-norm` clips the norm.",
    ),
)
OTHERS = ("schedule", "optimizer", "width", "head")


def page() -> str:
    """Return the page in Markdown."""
    parts = [OPENING, _scales(), _reproduction()]
    for place, question in enumerate(QUESTIONS, 2):
        parts.append(_answer(place, question))
        if question.study == "augmentations":
            parts.append(_figure())
    parts += [_claims(), _search(), _others(), _both_sizes()]
    return "\n".join(part for part in parts if part)


@cache  # every section asks for some of them
def _reports(study: str) -> dict[str, Analysis]:
    """Return the reports of a study that are there, by size."""
    folders = {size: REPORTS / f"{study}-{size}" for size in SIZES}
    return {
        size: read_analysis(folder)
        for size, folder in folders.items()
        if (folder / "analysis.json").is_file()
    }


def _link(analysis: Analysis, anchor: str = "verdicts", text: str = "") -> str:
    folder = analysis.study.folder
    return f"[{text or folder}](../reports/{folder}/report.md#{anchor})"


def _seeds(analysis: Analysis) -> str:
    """Return how many seeds a report rests on, and of how many while some are still to come."""
    done, planned = len(analysis.seeds), analysis.seeds_planned
    return f"n = {done}" if done >= planned else f"n = {done} of {planned}, provisional"


# The parts of the page


def _scales() -> str:
    """Return what each report was run on: reports of one size may differ in images and epochs."""
    studies = ["reference", "claims", "tune", *OTHERS]
    for question in QUESTIONS:
        studies += [question.study, *question.more]
    rows: dict[tuple[str, ...], list[str]] = {}
    for study in studies:
        for size, analysis in _reports(study).items():
            if not analysis.trials_total:  # a search without confirmation
                continue
            recipe, base = (
                analysis.study.base_recipe,
                arm_of(analysis, analysis.study.baseline),
            )
            row = (
                size,
                f"{recipe.data.train or 50_000 - recipe.data.val:,}",
                f"{recipe.data.val:,}",
                pixels(analysis),
                str(recipe.model.blocks),
                f"{(base.params_m if base else None) or 0.0:.3g} M",
                str(recipe.train.epochs),
            )
            rows.setdefault(row, []).append(study)
    lines = [
        "## At what size",
        "",
        "| size | training images | validation images | pixels | blocks | weights | epochs | reports |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(rows, key=lambda row: (SIZES.index(row[0]), -len(rows[row])))
    lines += [f"| {' | '.join(row)} | {', '.join(sorted(rows[row]))} |" for row in order]
    text = (
        "All are CIFAR-10; each size has a crop, cutout, learning rate and batch of its own. The write-up used 50,000 images of 32 × 32 "
        "pixels and a net that its text does not give in full; ours has 15.0 M weights at size `full`, which needs a GPU. What holds for a "
        "small net on few images need not hold there."
    )
    return "\n".join([*lines, "", _wrapped(text), ""])


def _reproduction() -> str:
    """Return what the reference reaches when it is trained as the write-up trained its own."""
    lines = ["## 1. Does the overfitting reproduce?", ""]
    rows = []
    for size, analysis in _reports("reference").items():
        # the figures are in the table
        verdict, _, rest = reproduction.answer(analysis).partition(":")
        _, apart, settings = rest.partition("Ours is not the same run")
        gap = summary_of(analysis, analysis.study.baseline, "gap")
        sure = gap is not None and gap.low is not None and gap.low > 0
        told = [
            f"It {'overfits' if sure else 'is not shown to overfit'}. {verdict}.",
            apart + settings,
        ]
        lines += [_said(analysis, told, "theirs-and-ours"), ""]
        what = f"{size}, as the write-up"
        rows.append(_curve(analysis, analysis.study.baseline, what, "test", "theirs-and-ours"))
    for size, analysis in _reports("augmentations").items():
        for arm, what in ((analysis.study.baseline, "the recipe"), ("none", "no augmentation")):
            rows.append(_curve(analysis, arm, f"{size}, {what}", "validation", "verdicts"))
    text = (
        "Like the write-up, the study `reference` keeps no validation images, so the test set takes their place and nothing is judged. "
        "The arms of `augmentations` are judged by validation images. The loss turns up where it ends more than 2 % above its lowest "
        "(smoothed)."
    )
    heads = (
        "run",
        "training accuracy",
        "held-out accuracy",
        "gap",
        "held-out loss turns up",
        "n seeds",
    )
    lines += [_wrapped(text), "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    theirs = "| the write-up | 98 % | 92 % | 6 pp | after about epoch 30 | not said |"
    return "\n".join([*lines, theirs, *rows, ""])


def _curve(analysis: Analysis, name: str, run: str, held: str, anchor: str) -> str:
    """Return the row of one arm: what it reaches in training and on held-out images, and when its loss turns up."""
    cells = [_level(analysis, name, m) for m in ("train_accuracy", "accuracy", "gap")]
    arm, epochs = arm_of(analysis, name), analysis.study.base_recipe.train.epochs
    turns = f"not within {epochs} epochs"
    if arm is not None and arm.onset_epoch is not None:
        turns = f"after epoch {arm.onset_epoch:g} (median of {arm.onsets})"
    cells[1] += f" ({held})"
    row = [_link(analysis, anchor, run), *cells, turns, _seeds(analysis).removeprefix("n = ")]
    return f"| {' | '.join(row)} |"


def _answer(place: int, question: Question) -> str:
    """Return one question's answer and table: every arm at every size that has a report."""
    reports = _reports(question.study)
    lines = [f"## {place}. {question.title}", ""]
    for analysis in reports.values():
        lines += [_said(analysis, [_short(analysis)]), ""]
    for study in question.more:
        for analysis in _reports(study).values():
            section = "retuned" if analysis.retuned is not None else "verdicts"
            lines += [_said(analysis, [retuned.sentence(analysis)], section), ""]
    lines += [_wrapped(question.varied), ""]
    if not reports:
        return "\n".join([*lines, "No report yet.", ""])
    heads = ["arm"]
    for size, analysis in reports.items():
        heads += [
            f"{_link(analysis, text=size)}: accuracy, pp",
            "gap, pp",
            "verdict",
        ]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    first = []
    for analysis in reports.values():
        base = analysis.study.baseline
        first += [_level(analysis, base, m) for m in ("accuracy", "gap")] + ["–"]
    lines.append(f"| {_baseline(reports)} | {' | '.join(first)} |")
    names = [(e.term, e.reference) for a in reports.values() for e in effects_of(a, "arm")]
    for name, reference in dict.fromkeys(names):
        cells = [name if reference == "reference" else f"{name}, against {reference}"]
        for analysis in reports.values():
            found = [e for e in effects_of(analysis, "arm") if e.term == name]
            cells += _cells(analysis, found[0]) if found else ["–", "–", "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _claims() -> str:
    """Return whether the three parts that the write-up credits help, averaged over settings of the others."""
    lines = ["## Do weight decay, clipping and one-cycle help together?", ""]
    for analysis in _reports("claims").values():
        lines += [_said(analysis, [_short(analysis)]), ""]
    text = (
        "The write-up credits all three. Each is switched on and off over all settings of the other two: the average change is its main "
        "effect, and the verdict is about that. *Added last* is the change where the other two are on, as in the recipe. Without "
        "one-cycle the rate stays at the height of the cycle's peak; the study `schedule`, below, has lower constant rates."
    )
    lines += [
        _wrapped(text),
        "",
        "| part | size | accuracy, pp | gap, pp | verdict | accuracy, added last, pp |",
        "|---|---|---|---|---|---|",
    ]
    for size, analysis in _reports("claims").items():
        size_ = f"{_link(analysis, text=size)} ({_seeds(analysis)}; margin {margin(analysis)})"
        for effect in effects_of(analysis, "main"):
            places = {(e.kind, e.term, e.metric): e for e in analysis.orders}
            last = places.get(("leave-one-out", effect.term, effect.metric))
            cells = [*_cells(analysis, effect), *(_cells(analysis, last)[:1] if last else ["–"])]
            lines.append(f"| {effect.term} | {size_} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _search() -> str:
    """Return what the best recipe of each search gains on test images, at what price, and which single changes gain."""
    lines = ["## What beats it?", ""]
    for analysis in _reports("tune").values():
        tuning = read_tuning(REPORTS / analysis.study.folder / "tuning.json")
        if tuning is None:
            continue
        if not analysis.trials_total:
            told = [tuning.answer, f"{tuning.ended} of its {tuning.budget} trials have ended."]
            lines += [_said(analysis, told, "the-search"), ""]
            continue
        told = [tuning.answer, _gaps(analysis), answers.of_size(analysis), searched.package(tuning)]
        lines += [_said(analysis, told, "the-search"), ""]
    for size in SIZES:
        won = []
        for study in (*(question.study for question in QUESTIONS), *OTHERS):
            single = _reports(study).get(size)
            if single is None:
                continue
            for effect in leading(single):
                if effect.verdict == "better" and effect.reference == single.study.baseline:
                    gap = gap_word(effect_on(single, effect, single.gap), single)
                    of_gap = f"gap {gap}" if gap else "gap not shown to change"
                    won.append(f"{effect.term} {difference(effect)}, {of_gap}, {_link(single)}")
        if won:
            text = f"Single changes that are better than the reference at size {size}, on validation images (95 % t): {'; '.join(won)}."
            lines += [_wrapped(text), ""]
    return "\n".join(lines)


def _others() -> str:
    """Return the answers of the studies that go beyond the write-up's questions."""
    lines = ["## What else we asked", ""]
    for study in OTHERS:
        for analysis in _reports(study).values():
            lines += [f"**{analysis.study.question}**", ""]
            lines += [_said(analysis, [_short(analysis)]), ""]
    return "\n".join(lines)


def _both_sizes() -> str:
    """Return which verdicts agree between sizes, which contradict each other, and which cannot be compared."""
    kinds: dict[str, list[str]] = {"same": [], "unresolved": [], "opposite": [], "open": []}
    margins: set[str] = set()
    studies = [question.study for question in QUESTIONS] + ["claims"]
    for study in studies:
        reports = _reports(study)
        judged: dict[tuple[str, str], dict[str, str]] = {}
        for size, analysis in reports.items():
            for effect in leading(analysis):
                if effect.verdict:
                    arm = (effect.term, effect.reference if effect.kind == "arm" else "")
                    judged.setdefault(arm, {})[size] = effect.verdict
        for (term, reference), by_size in judged.items():
            verdicts = list(dict.fromkeys(by_size.values()))
            if len(by_size) < 2:
                continue
            margins |= {margin(reports[size]) for size in by_size}
            name = term if reference in ("reference", "") else f"{term} against {reference}"
            if verdicts == ["unresolved"]:
                kinds["unresolved"].append(name)
                continue
            if len(verdicts) == 1:
                kinds["same"].append(f"{name} ({verdicts[0]})")
                continue
            kind = "opposite" if {"better", "worse"} <= set(verdicts) else "open"
            told = ", ".join(f"{verdict} at {size}" for size, verdict in by_size.items())
            kinds[kind].append(f"{name} ({told})")
    lines = ["## What holds at more than one size", ""]
    if not any(kinds.values()):
        text = f"No arm has verdicts at two sizes yet: that takes {FEWEST} complete seeds at each."
        return "\n".join([*lines, _wrapped(text), ""])
    lines += [
        _wrapped(f"The same verdict at every size: {', '.join(kinds['same']) or 'no arm'}."),
        "",
        _wrapped(f"Unresolved at every size: {', '.join(kinds['unresolved']) or 'no arm'}."),
        "",
        _wrapped(
            f"Better at one size and worse at another: {', '.join(kinds['opposite']) or 'no arm'}."
        ),
        "",
        _wrapped(
            f"Other verdicts, which need not contradict each other, for margins ({listed(sorted(margins))}) and seeds differ: "
            f"{'; '.join(kinds['open']) or 'no arm'}."
        ),
        "",
    ]
    return "\n".join(lines)


# Cells and sentences


def _short(analysis: Analysis) -> str:
    """Return the verdicts on accuracy and what the gap does, without numbers, which the table has."""
    phrases = {
        "better": ("raises accuracy", "raise accuracy"),
        "worse": ("lowers accuracy", "lower accuracy"),
        "equivalent": ("stays within the margin", "stay within the margin"),
        "unresolved": ("is unresolved", "are unresolved"),
    }
    clauses = []
    for verdict, verbs in phrases.items():
        names = [_against(analysis, e) for e in leading(analysis) if e.verdict == verdict]
        if names:
            clauses.append(f"{listed(names, 9)} {verbs[len(names) > 1]}")
    text = "; ".join(clauses) or "no verdict yet"
    about = f"{_seeds(analysis)}; margin {margin(analysis)}"
    return f"{text[:1].upper()}{text[1:]} ({about}). {_gaps(analysis)}"


def _gaps(analysis: Analysis) -> str:
    """Return in a sentence with which arms the gap is wider or narrower."""
    told = []
    for word in ("narrower", "wider"):
        names = [
            _against(analysis, effect)
            for effect in leading(analysis)
            if gap_word(effect_on(analysis, effect, analysis.gap), analysis) == word
        ]
        told += [f"{word} with {listed(names, 9)}"] if names else []
    return f"The gap is {' and '.join(told) or 'not shown to change'}."


def _against(analysis: Analysis, effect: Effect) -> str:
    """Return an arm's name in a sentence, with what it is compared with where that is not the baseline."""
    other = against(analysis, effect)
    return f"{effect.term}{other}" if other else named(effect.term)


def _said(analysis: Analysis, sentences: list[str], anchor: str = "verdicts") -> str:
    """Return sentences of a report as a paragraph that names it."""
    head = f"**{analysis.study.profile.capitalize()}** ({_link(analysis, anchor)})"
    return _wrapped(f"{head}: {' '.join(text for text in sentences if text)}")


def _baseline(reports: dict[str, Analysis]) -> str:
    """Return the baseline's name, with its level of what is swept."""
    first = next(iter(reports.values()))
    base = arm_of(first, first.study.baseline)
    if first.study.design != "sweep" or base is None:
        return first.study.baseline
    levels = {
        plain(arm.components[factor.name])
        for analysis in reports.values()
        for factor in analysis.study.factors
        if (arm := arm_of(analysis, analysis.study.baseline)) and factor.name in arm.components
    }
    return f"{first.study.baseline} ({listed([f.name for f in first.study.factors])} = {' / '.join(sorted(levels))})"


def _level(analysis: Analysis, arm: str, metric: str) -> str:
    """Return an arm's mean with its interval."""
    level = summary_of(analysis, arm, metric)
    if level is None or level.mean is None:
        return "–"
    text = number(level.mean) + unit_name("pp", level=metric != "gap")
    if level.low is None or level.high is None:
        return text
    return f"{text} [{number(level.low)}, {number(level.high)}]"


def _cells(analysis: Analysis, effect: Effect) -> list[str]:
    """Return difference in accuracy and gap, and the verdict, of an effect."""
    gap = effect_on(analysis, effect, analysis.gap)
    word = gap_word(gap, analysis)
    of_gap = _number(gap) + (f" {word}" if word else "")
    verdict = effect.verdict or ("too few seeds" if effect.n < FEWEST else "not judged")
    arm = arm_of(analysis, effect.term) if effect.kind == "arm" else None
    early = "exploratory" if "exploratory" in effect.note else ""
    word = arm.word if arm is not None else ""
    joint = ", ".join(part for part in (word, early) if part)
    return [_number(effect), of_gap, f"{verdict} ({joint})" if joint else verdict]


def _number(effect: Effect | None) -> str:
    return "–" if effect is None else difference(effect).replace(" pp", "")


def _figure() -> str:
    text = "![Effect of each augmentation on accuracy and gap, by size](images/augmentations-by-size.svg)"
    note = (
        "Dots are paired differences, bars their 95 % t intervals. The lower three arms are compared with the recipe without any "
        "augmentation, the others with the whole recipe. Grey: the margin of each size."
    )
    few = [size for size, a in _reports("augmentations").items() if len(a.seeds) < FEWEST]
    if few:
        note += f" Hollow: fewer than {FEWEST} seeds, so no interval ({', '.join(few)})."
    return "\n".join([text, "", _wrapped(note), ""])


def picture() -> str:
    """Return the effect of each augmentation at every size as SVG text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    reports = _reports("augmentations")
    first = next(iter(reports.values()))
    # those compared with the whole recipe first, then those compared with none of them
    arms = sorted(
        ((e.term, e.reference) for e in effects_of(first, "arm")),
        key=lambda arm: arm[1] != first.study.baseline,
    )
    colours = {"small": "#1f5fa8", "medium": "#b25b00", "full": "#1a7f37"}
    rc: dict[Any, Any] = {"svg.hashsalt": "augmentations", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(rc):
        figure = Figure(figsize=(8.2, 0.42 * len(arms) + 1.1), layout="constrained")
        for ax, metric in zip(figure.subplots(1, 2, sharey=True), ("accuracy", "gap"), strict=True):
            for k, (size, analysis) in enumerate(reports.items()):
                shift = (k - (len(reports) - 1) / 2) * 0.26
                _draw(ax, analysis, arms, metric, shift=shift, colour=colours[size])
            if metric == "accuracy":
                ax.axvspan(-analysis.margin, analysis.margin, color="#57606a", alpha=0.12, lw=0)
            ax.axvline(0.0, color="#57606a", linewidth=0.8)
            ax.axhline(
                sum(arm[1] == first.study.baseline for arm in arms) - 0.5,
                color="#57606a",
                linewidth=0.6,
                linestyle=":",
            )
            against = f" against {arms[-1][1]}"
            ax.set_yticks(
                range(len(arms)),
                [arm + ("" if other == first.study.baseline else against) for arm, other in arms],
            )
            ax.set_ylim(len(arms) - 0.5, -0.5)
            ax.set_xlabel(
                f"difference in {'validation accuracy' if metric == 'accuracy' else 'overfitting gap'}, pp"
            )
            ax.spines[["top", "right"]].set_visible(False)
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(),
            loc="outside upper right",
            ncols=len(reports),
            frameon=False,
        )
        svg = io.StringIO()
        figure.savefig(
            svg, format="svg", metadata={"Date": None, "Creator": "tools/what_we_found.py"}
        )
    return "\n".join(line.rstrip() for line in svg.getvalue().splitlines()) + "\n"


def _draw(
    ax: Any,
    analysis: Analysis,
    arms: list[tuple[str, str]],
    metric: str,
    *,
    shift: float,
    colour: str,
) -> None:
    """Draw one size: an interval where there is one, else a hollow dot."""
    effects = {(e.term, e.reference): e for e in effects_of(analysis, "arm", metric)}
    name = f"{analysis.study.profile}, {_seeds(analysis)}"
    for y, arm in enumerate(arms):
        effect = effects.get(arm)
        if effect is None or effect.estimate is None:
            continue
        firm = effect.n >= FEWEST and effect.low is not None
        if firm:
            # ends that show where the interval is narrower than the dot
            ax.plot([effect.low, effect.high], [y + shift] * 2, "|-", color=colour, linewidth=1.4)
        ax.plot(
            effect.estimate,
            y + shift,
            "o",
            color=colour,
            markerfacecolor=colour if firm else "white",
            markersize=4,
            label=name if y == 0 else None,
        )


def _wrapped(text: str) -> str:
    import textwrap

    head = "\n" if text.startswith("\n") else ""
    return head + textwrap.fill(text.strip(), LINE, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
