"""Write the page of findings for a reader whose net overfits, and its picture, from the committed reports.

python tools/what_we_found.py           # writes docs/what-we-found.md and docs/images/augmentations-by-size.svg

Each number is a row of a report's effects.csv, and each judgement is that report's verdict. A size
that has no report yet has no column.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

from harness import read_analysis
from harness.analysis import Analysis, Effect
from harness.report.folder import read_tuning
from harness.text import plural

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PAGE = ROOT / "docs" / "what-we-found.md"
PICTURE = ROOT / "docs" / "images" / "augmentations-by-size.svg"
SIZES = ("small", "medium", "full")
FEWEST = 3  # seeds below which a report gives no verdict
LINE = 136  # characters of a line of the page, as in the other pages
OPENING = """# What we found: a net that overfits

We started from a write-up: a CIFAR-10 net of six blocks, trained with Adam and one-cycle to 98 % training and 92 % validation
accuracy. It overfits. This page answers six questions about it from the committed reports, and one more: what beats it.

A difference is an arm minus the reference at the same seed, in percentage points (pp), with its 95 % t interval. The gap is clean
training accuracy minus validation accuracy. A verdict is about accuracy and holds after Holm's correction. [How to read a
report](read-a-report.md) explains the words.
"""


class Question(NamedTuple):
    """One question of the page: its title, the study that answers it, and what was varied."""

    title: str
    study: str
    varied: str


QUESTIONS = (
    Question(
        "Which augmentations close the gap?",
        "augmentations",
        "One augmentation is left out of the recipe, or added alone to a recipe without any.",
    ),
    Question("How many blocks?", "blocks", "The number of blocks changes, and nothing else."),
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


def _seeds(analysis: Analysis) -> str:
    """Return how many seeds a report rests on, and of how many while some are still to come."""
    done, planned = len(analysis.seeds), analysis.seeds_planned
    return f"{done}" if done >= planned else f"{done} of {planned}, provisional"


def page() -> str:
    """Return the page in Markdown."""
    parts = [OPENING, _scales(), _reproduction()]
    for number, question in enumerate(QUESTIONS, 2):
        parts.append(_answer(number, question))
        if question.study == "augmentations":
            parts.append(_figure())
    parts += [_claims(), _search(), _both_sizes()]
    return "\n".join(part for part in parts if part)


def _reports(study: str) -> dict[str, Analysis]:
    """Return the reports of a study that are there, by size."""
    folders = {size: REPORTS / f"{study}-{size}" for size in SIZES}
    return {
        size: read_analysis(folder)
        for size, folder in folders.items()
        if (folder / "analysis.json").is_file()
    }


def _scales() -> str:
    """Return what each size is."""
    lines = [
        "## At what size",
        "",
        "| size | images | pixels | blocks | weights | epochs |",
        "|---|---|---|---|---|---|",
    ]
    for size, analysis in _reports("augmentations").items():
        recipe = analysis.study.base_recipe
        weights = max(arm.params_m or 0.0 for arm in analysis.arms)
        side = recipe.data.size or 32
        images = f"{recipe.data.train or 50_000 - recipe.data.val:,} CIFAR-10"
        cells = (
            size,
            images,
            f"{side} × {side}",
            str(recipe.model.blocks),
            f"{weights:.3g} M",
            str(recipe.train.epochs),
        )
        lines.append(f"| {' | '.join(cells)} |")
    text = (
        "\nThe write-up used 50,000 images, 32 × 32 pixels and a net of its own that its text does not give in full; ours has "
        "15.0 M weights at size `full`, which needs a GPU. What holds for a small net on few images need not hold there."
    )
    return "\n".join([*lines, _wrapped(text), ""])


def _reproduction() -> str:
    """Return what the reference reaches when it is trained as the write-up trained its own."""
    lines = ["## 1. Does the overfitting reproduce?", ""]
    rows = []
    for size, analysis in _reports("reference").items():
        levels = {level.metric: level for level in analysis.summaries}
        scores = [
            f"{levels[name].mean:.1f} % [{levels[name].low:.1f}, {levels[name].high:.1f}]"
            for name in ("train_accuracy", "accuracy")
        ]
        onset = next((arm.onset_epoch for arm in analysis.arms if arm.onset_epoch), None)
        turn = f"after epoch {onset:g} (median)" if onset else "does not turn up"
        rows.append(
            f"| [{size}](../reports/reference-{size}/report.md#theirs-and-ours) | {scores[0]} | {scores[1]} | {turn} | {levels['accuracy'].n} |"
        )
    lines += [
        "| run | training accuracy | test accuracy | test loss | n seeds |",
        "|---|---|---|---|---|",
    ]
    lines += ["| the write-up | 98 % | 92 % | turns up after about epoch 30 | 1 |", *rows, ""]
    text = (
        "Like the write-up, this study keeps no validation images, so the test set takes their place and nothing is judged. "
        "Scale is the first reason for the distance: fewer images, fewer pixels, fewer weights."
    )
    return "\n".join([*lines, _wrapped(text), ""])


def _answer(number: int, question: Question) -> str:
    """Return one question's table: every arm at every size that has a report."""
    reports = _reports(question.study)
    lines = [f"## {number}. {question.title}", "", _wrapped(question.varied), ""]
    if not reports:
        return "\n".join([*lines, "No report yet.", ""])
    heads = ["arm"]
    for size, analysis in reports.items():
        heads += [
            f"[{size}](../reports/{question.study}-{size}/report.md#verdicts): accuracy, pp",
            "gap, pp",
            f"verdict (n = {_seeds(analysis)})",
        ]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    names = list(dict.fromkeys((e.term, e.reference) for a in reports.values() for e in _arms(a)))
    for name, reference in names:
        cells = [name if reference == "reference" else f"{name}, against {reference}"]
        for analysis in reports.values():
            cells += _cells(analysis, name)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _arms(analysis: Analysis) -> list[Effect]:
    metric = analysis.study.metric
    return [e for e in analysis.effects if e.kind == "arm" and e.metric == metric]


def _cells(analysis: Analysis, arm: str) -> list[str]:
    """Return difference in accuracy and gap, and the verdict, of an arm; dashes where there is none."""
    of = {e.metric: e for e in analysis.effects if e.kind == "arm" and e.term == arm}
    accuracy, gap = of.get(analysis.study.metric), of.get(analysis.gap)
    if accuracy is None:
        return ["-", "-", "-"]
    verdict = accuracy.verdict or ("too few seeds" if accuracy.n < FEWEST else "not judged")
    return [_number(accuracy), _number(gap), verdict]


def _number(effect: Effect | None) -> str:
    if effect is None or effect.estimate is None:
        return "-"
    text = f"{effect.estimate:+.2f}"
    if effect.low is not None and effect.high is not None:
        text += f" [{effect.low:+.2f}, {effect.high:+.2f}]"
    return text.replace("-", "−")


def _claims() -> str:
    """Return whether the three parts that the write-up credits help, averaged over settings of the others."""
    lines = ["## Do weight decay, clipping and one-cycle help together?", ""]
    text = "The write-up credits all three. Each is switched on and off over all settings of the other two: the average change is its main effect."
    lines += [
        _wrapped(text),
        "",
        "| part | size | accuracy, pp | gap, pp | verdict | n seeds |",
        "|---|---|---|---|---|---|",
    ]
    for size, analysis in _reports("claims").items():
        for effect in analysis.effects:
            if effect.kind == "main" and effect.metric == analysis.study.metric:
                gap = next(
                    (
                        e
                        for e in analysis.effects
                        if e.kind == "main" and e.term == effect.term and e.metric == analysis.gap
                    ),
                    None,
                )
                lines.append(
                    f"| {effect.term} | [{size}](../reports/claims-{size}/report.md#verdicts) | {_number(effect)} | {_number(gap)} | {effect.verdict or 'not judged'} | {effect.n} |"
                )
    return "\n".join([*lines, ""])


def _search() -> str:
    """Return what the best recipe of each search gains on test images."""
    lines = ["## What beats it?", ""]
    for size in _reports("tune"):
        tuning = read_tuning(REPORTS / f"tune-{size}" / "tuning.json")
        chosen = None if tuning is None else tuning.confirmed
        if tuning is None or chosen is None or chosen.test is None:
            continue
        low, high = chosen.test_image_low, chosen.test_image_high
        interval = "" if low is None or high is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]"
        gain = f"{100 * chosen.test:+.2f} pp{interval}".replace("-", "−")
        text = (
            f"At size {size}, a search of {plural(len(tuning.history), 'recipe')} chose "
            f"[{chosen.name}](../reports/tune-{size}/report.md#the-search). On {plural(chosen.n, 'fresh seed')} and the test set it gains "
            f"{gain} over the reference (95 % for new seeds and images)."
        )
        lines += [_wrapped(text), ""]
    return "\n".join(lines)


def _both_sizes() -> str:
    """Return which verdicts agree between sizes, as far as both have one."""
    lines = ["## What holds at more than one size", ""]
    agree: list[str] = []
    differ: list[str] = []
    for question in QUESTIONS:
        judged = [
            {e.term: e.verdict for e in _arms(a) if e.verdict}
            for a in _reports(question.study).values()
        ]
        for arm in judged[0] if len(judged) > 1 else ():
            verdicts = [by_arm[arm] for by_arm in judged if arm in by_arm]
            if len(verdicts) > 1:
                (agree if len(set(verdicts)) == 1 else differ).append(
                    f"{arm} ({' / '.join(dict.fromkeys(verdicts))})"
                )
    if not agree and not differ:
        text = f"No arm has verdicts at two sizes yet: the medium reports have fewer than {FEWEST} complete seeds."
        return "\n".join([*lines, _wrapped(text), ""])
    lines += [_wrapped(f"Same verdict: {', '.join(agree) or 'none'}."), ""]
    return "\n".join([*lines, _wrapped(f"Different verdict: {', '.join(differ) or 'none'}."), ""])


def _figure() -> str:
    text = "![Effect of each augmentation on accuracy and gap, by size](images/augmentations-by-size.svg)"
    few = [s for s, a in _reports("augmentations").items() if len(a.seeds) < FEWEST]
    note = f" Hollow: fewer than {FEWEST} seeds, so no interval ({', '.join(few)})." if few else ""
    return "\n".join(
        [text, "", _wrapped(f"Dots are paired differences, bars their 95 % t intervals.{note}"), ""]
    )


def picture() -> str:
    """Return the effect of each augmentation at every size as SVG text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    reports = _reports("augmentations")
    arms = [e.term for e in _arms(next(iter(reports.values())))]
    colours = {"small": "#1f5fa8", "medium": "#b25b00", "full": "#1a7f37"}
    rc: dict[Any, Any] = {"svg.hashsalt": "augmentations", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(rc):
        figure = Figure(figsize=(8.2, 0.42 * len(arms) + 1.1), layout="constrained")
        for ax, metric in zip(figure.subplots(1, 2, sharey=True), ("accuracy", "gap"), strict=True):
            for k, (size, analysis) in enumerate(reports.items()):
                _draw(
                    ax,
                    analysis,
                    arms,
                    metric,
                    shift=(k - (len(reports) - 1) / 2) * 0.26,
                    label=size,
                    colour=colours[size],
                )
            ax.axvline(0.0, color="#57606a", linewidth=0.8)
            ax.set_yticks(range(len(arms)), arms)
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
    arms: list[str],
    metric: str,
    *,
    shift: float,
    label: str,
    colour: str,
) -> None:
    """Draw one size: an interval where there is one, else a hollow dot."""
    effects = {e.term: e for e in analysis.effects if e.kind == "arm" and e.metric == metric}
    for y, arm in enumerate(arms):
        effect = effects.get(arm)
        if effect is None or effect.estimate is None:
            continue
        firm = effect.n >= FEWEST and effect.low is not None
        if firm:
            ax.plot([effect.low, effect.high], [y + shift] * 2, color=colour, linewidth=1.6)
        face = colour if firm else "white"
        name = f"{label}, n = {effect.n}" if y == 0 else None
        ax.plot(
            effect.estimate,
            y + shift,
            "o",
            color=colour,
            markerfacecolor=face,
            markersize=5,
            label=name,
        )


def _wrapped(text: str) -> str:
    import textwrap

    head = "\n" if text.startswith("\n") else ""
    return head + textwrap.fill(text.strip(), LINE, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
