"""``harness compare``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, app, examples
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.analysis.comparison import Comparison, Difference, Ruling

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
            help="A report's folder, its name under reports/, or its study: what was there before.",
            autocompletion=complete.reports,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(help="The one that is asked about.", autocompletion=complete.reports),
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
    from harness.report.words import direction

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
        _show_comparison(
            compared, f"{compared.metric}: {direction(first)}; throughput: higher is better"
        )
        _say_answer(compared, folders, check=check)
    if not check:
        return
    code = {"pass": 0, "worse": 1, "cannot tell": _UNSURE}[compared.answer]
    if code == _UNSURE and unsure is not None:
        code = 0 if unsure == "pass" else 1
    if code:
        raise typer.Exit(code)


def _show_comparison(compared: Comparison, directions: str) -> None:
    kinds = {_kind(row) for row in compared.differences if row.low is not None}
    rows = [_difference(row, sized=len(kinds) > 1) for row in compared.differences]
    if rows:
        heads = ("arm", "metric", "A", "B", "B - A", "interval", "verdict")
        console.table(heads, rows, right=("A", "B", "B - A"))
        console.say(directions)
        if len(kinds) == 1:
            console.say(f"intervals: {kinds.pop()}")
    else:
        console.say("nothing to compare: no arm has finished trials in both")
    for note in compared.notes:
        console.say(note)
    for side, names in (("A", compared.only_a), ("B", compared.only_b)):
        if names:
            console.say(f"only in {side}: {', '.join(names)}")


def _say_answer(compared: Comparison, folders: tuple[Path, Path], *, check: bool) -> None:
    """Say the answer, where both reports are, and how a script asks for it."""
    for line in _answer(compared) if check else _summary(compared):
        console.say(line)
    for side, folder in zip("AB", folders, strict=True):
        console.say(f"{side}: {folder / 'index.html'}")
    if not check:
        names = " ".join(folder.name for folder in folders)
        console.say("next, for a script that needs an exit code:")
        console.say(f"  harness compare {names} --check", whole=True)


def _summary(compared: Comparison) -> list[str]:
    """Return one sentence on the deciding metric: which arms are better, worse, equivalent and unresolved in B."""
    groups: dict[str, list[str]] = {}
    for row in compared.differences:
        if row.metric == compared.metric:
            groups.setdefault(row.verdict or "not judged", []).append(row.arm)
    words = "; ".join(f"{verdict}: {', '.join(arms)}" for verdict, arms in groups.items())
    return (
        [f"\nB against A in {compared.metric}, margin {compared.margin:g}: {words}"]
        if words
        else []
    )


def _answer(compared: Comparison) -> list[str]:
    """Return the gate's answer and, for every arm that it cannot tell, why and how many seeds it would take."""
    kept = f"no arm is worse by {compared.margin:g} or more (one-sided tests at {compared.alpha:g})"
    worse = [_ruled(ruling) for ruling in compared.rulings if ruling.answer == "worse"]
    head = {
        "pass": f"pass: {kept}",
        "worse": f"worse: {', '.join(worse)}",
        "cannot tell": "cannot tell",
    }[compared.answer]
    lines = [f"check: {head}"]
    for ruling in compared.rulings:
        if ruling.answer == "cannot tell":
            seeds = f"; about {ruling.seeds} seeds a side would tell" if ruling.seeds else ""
            lines.append(f"  {_ruled(ruling)}: {ruling.why}{seeds}")
    return lines


def _ruled(ruling: Ruling) -> str:
    return f"{ruling.arm}, images/s" if ruling.metric == "images_per_second" else ruling.arm


def _difference(one: Difference, *, sized: bool) -> tuple[str, ...]:
    """Return a row; ``sized``: with the kind and n of its interval, where they are not the same for all."""
    speed = one.metric == "images_per_second"
    sign = "+.1f" if one.unit == "%" else "+.2f"
    unit = ("pp" if one.metric.endswith("gap") else "%") if one.unit == "pp" else ""
    named = "images/s" if speed else f"{one.metric}, {unit}" if unit else one.metric

    def plain(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}" if speed else f"{value:.2f}"

    change, interval = "", "nothing to compare"
    if one.estimate is not None:
        change, interval = f"{one.estimate:{sign}} {one.unit.replace('1', '')}".rstrip(), ""
        if one.low is not None and one.high is not None:
            interval = f"[{one.low:{sign}}, {one.high:{sign}}]" + (
                f" {_kind(one)}" if sized else ""
            )
    verdict = ", ".join(part for part in (one.verdict, one.note) if part)
    return one.arm, named, plain(one.mean_a), plain(one.mean_b), change, interval, verdict


def _kind(one: Difference) -> str:
    return f"95 % {one.test} t, n = {one.n_a}" + (f" and {one.n_b}" if one.n_b != one.n_a else "")
