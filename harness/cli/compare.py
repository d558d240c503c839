"""``harness compare``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, app, examples
from harness.errors import UsageError
from harness.text import plural

if TYPE_CHECKING:
    from harness.analysis import Analysis
    from harness.analysis.comparison import Comparison, Difference, Ruling

_MOST_ARMS, _MOST_SPEEDS = 6, 3  # that a sentence names
_UNSURE = 3  # exit code of `compare --check` when it cannot tell


@app.command(
    rich_help_panel=READ,
    epilog=examples(
        "harness compare augmentations-quick augmentations-small",
        "harness compare before after --check",
    ),
)
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A report's folder, its name under reports/, or its study: what was there before.",
            autocompletion=complete.reports,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B", help="The one that is asked about.", autocompletion=complete.reports
        ),
    ],
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 0 when B is shown not to be worse within the margin, 1 when worse, 3 when unsure.",
        ),
    ] = False,
    unsure: Annotated[
        Literal["pass", "fail"] | None,
        typer.Option(help="With --check: what an unsure answer counts as."),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="With --check: throughput counts as well.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare two reports arm by arm: accuracy, gap, throughput."""
    from harness.analysis.comparison import compare as difference
    from harness.commands.report import find_report
    from harness.report import read_analysis

    if (unsure or speed) and not check:
        raise UsageError(
            f"{'--unsure' if unsure else '--speed'} says how --check answers", "add --check"
        )
    folders = find_report(a), find_report(b)
    first, second = map(read_analysis, folders)
    compared = difference(first, second, speed=speed)
    if json:
        console.data_json(compared)
    else:
        _say_sides(compared, folders, (first, second))
        _say_table(compared, first)
        for line in _answer(compared) if check else _summary(compared, first):
            console.say(line)
        judged = any(row.verdict for row in compared.differences)
        _say_pages(folders, check=check or not judged)
    if not check:
        return
    code = {"pass": 0, "worse": 1, "cannot tell": _UNSURE}[compared.answer]
    if code == _UNSURE and unsure is not None:
        code = 0 if unsure == "pass" else 1
    if code:
        raise typer.Exit(code)


def _say_sides(
    compared: Comparison, folders: tuple[Path, Path], analyses: tuple[Analysis, Analysis]
) -> None:
    """Say what A and B are and, before any number, what else sets them apart."""
    for side, folder, analysis in zip("AB", folders, analyses, strict=True):
        seeds = plural(len(analysis.seeds), "seed")
        console.say(f"{side}  {folder.name}, {seeds}: {analysis.study.question}")
    for note in compared.notes:
        console.say(f"   {note}")
    for side, names in (("A", compared.only_a), ("B", compared.only_b)):
        if names:
            console.say(f"   only in {side}: {', '.join(names)}")


def _say_table(compared: Comparison, first: Analysis) -> None:
    """Print the differences on stderr, a row an arm, and what their numbers are."""
    from harness.report.words import direction, listed

    rows = [row for row in compared.differences if row.metric == compared.metric]
    if not rows:
        console.say("\nnothing to compare: no arm has finished trials in both")
        return
    gaps = {row.arm: row for row in compared.differences if row.metric == first.gap}
    with_gap = first.gap != compared.metric and bool(gaps)
    heads = (_named(rows[0]), *([_named(next(iter(gaps.values())))] if with_gap else []))
    console.say()
    console.table(
        ("arm", *heads, "n", "verdict"),
        [
            (
                row.arm,
                _difference(row),
                *([_difference(gaps[row.arm]) if row.arm in gaps else "-"] if with_gap else []),
                _counts(row),
                _verdict(row),
            )
            for row in rows
        ],
        right=(*heads, "n"),
        talk=True,
    )
    console.say(f"B - A, {_how(rows, 100 * (1 - compared.alpha))}, n seeds")
    holm = ", Holm" if len(rows) > 1 else ""
    console.say(
        f"verdicts on {compared.metric}: {direction(first)}, margin {_margin(compared)}{holm}"
    )
    speeds = [row for row in compared.differences if row.metric == "images_per_second"]
    if speeds:
        shown = [
            f"{row.arm} {_difference(row)} % ({row.verdict or 'not judged'})" for row in speeds
        ]
        console.say(f"images/s, B over A: {listed(shown, _MOST_SPEEDS)}")


def _how(rows: Sequence[Difference], level: float) -> str:
    """Return how the runs of both sides were compared, and what the intervals are."""
    tests = {row.test for row in rows}
    how = "paired by seed" if tests == {"paired"} else "not the same seeds: Welch's t"
    if len(tests) > 1:
        how = "paired where the seeds are the same, else Welch's t"
    known = any(row.low is not None for row in rows)
    return f"{how} [{level:g} % t interval]" if known else f"{how}, no interval from so few"


def _say_pages(folders: tuple[Path, Path], *, check: bool) -> None:
    """Print both pages on stdout, and how a script asks where it has not been asked for."""
    for folder in dict.fromkeys(folders):
        console.data(str(folder / "index.html"))
    console.say("`harness open NAME` shows a page")
    if not check:
        names = " ".join(folder.name for folder in folders)
        console.say("next, for a script that needs an exit code:")
        console.say(f"  harness compare {names} --check", whole=True)


def _summary(compared: Comparison, first: Analysis) -> list[str]:
    """Return one sentence on the deciding metric: what B is against A, by verdict."""
    from harness.analysis.comparison import SAME_RESULTS
    from harness.report.lookup import metric_of
    from harness.report.words import listed

    rows = [row for row in compared.differences if row.metric == compared.metric]
    if not rows:
        return []
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row.verdict or row.note or "", []).append(_recipe_of(compared, row.arm))
    label = metric_of(first).label
    phrases = {
        "better": f"B has the better {label} in {{arms}}",
        "worse": f"B has the worse {label} in {{arms}}",
        "equivalent": f"{label} is equivalent within ±{_margin(compared)} in {{arms}}",
        "unresolved": f"no difference in {label} is shown for {{arms}}",
        SAME_RESULTS: "A and B have the same results on every seed in {arms}",
    }
    order = [*phrases, *(verdict for verdict in groups if verdict not in phrases)]
    said = [
        phrases.get(verdict, f"not judged{f' ({verdict})' if verdict else ''}: {{arms}}").format(
            arms=listed(groups[verdict], _MOST_ARMS)
        )
        for verdict in order
        if verdict in groups
    ]
    text = "; ".join(said)
    return [f"\n{text[:1].upper()}{text[1:]}."]


def _margin(compared: Comparison) -> str:
    unit = next((row.unit for row in compared.differences if row.metric == compared.metric), "")
    return f"{compared.margin:g}{' pp' if unit == 'pp' else ''}"


def _recipe_of(compared: Comparison, arm: str) -> str:
    """Return an arm's name, and that it is another recipe in B, where that is not said of all."""
    from harness.report.words import named

    every = {row.arm for row in compared.differences} == set(compared.other_recipes)
    other = arm in compared.other_recipes and not every
    return f"{named(arm)}{' (another recipe)' if other else ''}"


def _answer(compared: Comparison) -> list[str]:
    """Return the gate's answer and, for every arm that it cannot tell, why and how many seeds it would take."""
    tests = f"one-sided tests at {compared.alpha:g}"
    kept = f"no arm of B is worse by {_margin(compared)} or more ({tests})"
    worse = [_ruled(compared, r) for r in compared.rulings if r.answer == "worse"]
    head = {
        "pass": f"pass: {kept}",
        "worse": f"B is worse than A in {', '.join(worse)}",
        "cannot tell": "cannot tell",
    }[compared.answer]
    lines = [f"\ncheck: {head}"]
    open_: dict[str, list[str]] = {}
    for ruling in compared.rulings:
        if ruling.answer == "cannot tell":
            seeds = f"; about {ruling.seeds:,} seeds a side would tell" if ruling.seeds else ""
            open_.setdefault(ruling.why + seeds, []).append(_ruled(compared, ruling))
    lines += [f"  {', '.join(arms)}: {why}" for why, arms in open_.items()]
    return lines


def _ruled(compared: Comparison, ruling: Ruling) -> str:
    arm = _recipe_of(compared, ruling.arm)
    return f"{arm}, images/s" if ruling.metric == "images_per_second" else arm


def _named(one: Difference) -> str:
    return f"{one.metric}, pp" if one.unit == "pp" else one.metric


def _difference(one: Difference) -> str:
    """Return ``+1.05 [+0.31, +1.79]``."""
    if one.estimate is None:
        return "-"
    form = {"pp": "+.2f", "%": "+.1f"}.get(one.unit, "+.3g")
    if one.low is None or one.high is None:
        return f"{one.estimate:{form}}"
    return f"{one.estimate:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _counts(one: Difference) -> str:
    return f"{one.n_a}" if one.n_a == one.n_b else f"{one.n_a}, {one.n_b}"


def _verdict(one: Difference) -> str:
    from harness.analysis.comparison import SAME_RESULTS

    if one.note == SAME_RESULTS:
        return "the same"
    if one.verdict:
        return ", ".join(part for part in (one.verdict, one.note) if part)
    return f"not judged{f': {one.note}' if one.note else ''}"
