"""Commands that read: show, plan, report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness import console
from harness.cli import complete
from harness.cli.app import READ, Json, Seeds, Storage, StudyName, app
from harness.cli.place import storage_of
from harness.errors import ReportError, UsageError, did_you_mean

if TYPE_CHECKING:
    from harness.analysis import Analysis
    from harness.analysis.comparison import Comparison, Difference, Ruling

_UNSURE = 3  # exit code of `compare --check` when it cannot tell


@app.command(rich_help_panel=READ)
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A study, or `fields` for the recipe fields; nothing lists the studies.", autocompletion=complete.shown
        ),
    ] = None,
    *,
    profile: Annotated[
        str | None,
        typer.Option(help="The profile whose arms are shown; default: quick.", autocompletion=complete.profiles),
    ] = None,
    json: Json = False,
) -> None:
    """List the studies, explain one, or list the recipe fields."""
    if name is None:
        _show_studies(json=json)
    elif name == "fields":
        _show_fields(json=json)
    else:
        _show_study(name, profile, json=json)


def _show_studies(*, json: bool) -> None:
    from harness.study.study import available_studies, load_study

    rows = [(name, load_study(str(path)).question) for name, path in available_studies().items()]
    if json:
        console.data_json([{"study": name, "question": question} for name, question in rows])
        return
    console.table(("study", "question"), rows)
    console.say("\n`harness show STUDY` prints its arms; `harness ablate --study STUDY` runs it.")


def _show_fields(*, json: bool) -> None:
    from harness.study.plugin_fields import OPEN
    from harness.study.recipe import fields

    table = fields() | {f"{start}.NAME": ("value of yours", "", text) for start, text in OPEN.items()}
    if json:
        console.data_json({name: {"type": t, "default": d, "description": text} for name, (t, d, text) in table.items()})
        return
    console.table(
        ("field", "default", "what it is"), [(name, _text(d), f"{text} ({t})") for name, (t, d, text) in table.items()]
    )


def _show_study(name: str, profile: str | None, *, json: bool) -> None:
    from harness.study.arms import arms
    from harness.study.study import load_study

    loaded = load_study(name)
    study = loaded.under(("" if loaded.scripted else "quick") if profile is None else profile)
    planned = arms(study)
    if json:
        console.data_json(
            {
                "study": study.name,
                "question": study.question,
                "profile": study.profile,
                "design": study.design,
                "seeds": study.seeds,
                "margin_pp": study.margin_pp,
                "metric": study.metric,
                "retune": list(study.retune),
                "arms": [
                    {"arm": a.name, "reference": a.reference, "changes": dict(a.overrides), "why": a.why} for a in planned
                ],
            }
        )
        return
    console.say(f"{study.name}: {study.question}")
    if study.why:
        console.say(study.why)
    of = f", profile {study.profile}" if study.profile else ""
    console.say(f"design {study.design}, {study.seeds} seeds, margin {study.margin_pp:g} pp{of}\n")
    rows = [(a.name, a.reference or "-", _changes(dict(a.overrides)) or "the baseline") for a in planned]
    console.table(("arm", "against", "differs from the baseline in"), rows)
    if study.retune:
        console.say(f"\nthen every arm retuned over {', '.join(study.retune)}: {study.search.retune_trials} settings each")


@app.command(rich_help_panel=READ)
def plan(
    *,
    study: StudyName,
    profile: Annotated[
        str | None,
        typer.Option(help="quick, small, medium, full or the study's own; default: quick.", autocompletion=complete.profiles),
    ] = None,
    effect: Annotated[float | None, typer.Option(min=0, help="Effect that should be found; default: the margin.")] = None,
    seeds: Seeds = None,
    json: Json = False,
) -> None:
    """Say what a study can find before it is run: power, seeds needed, trials, time."""
    from harness.commands.plan import plan_study

    facts = plan_study(study, profile=profile, effect=effect, seeds=seeds, on_event=console.say)
    if json:
        console.data_json(facts.as_json())
        return
    console.table(("what", "value"), facts.rows())


@app.command(rich_help_panel=READ)
def report(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies with trials under runs/; default: all.")] = None,
    *,
    from_: Annotated[Path | None, typer.Option("--from", help="Rebuild a report from its own folder.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Rebuild every report under reports/ from its own folder.")] = False,
    storage: Storage = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
) -> None:
    """Write the comparison documents from what has been run."""
    from harness.commands.report import report as write
    from harness.commands.report import report_all

    if bool(studies) + (from_ is not None) + all_ > 1:
        raise UsageError("give either studies, --from or --all", "`harness report --from FOLDER` rebuilds one folder")
    failures: list[str] = []
    if all_:
        written, failures = report_all(on_event=console.say)
    else:
        written = write(studies or (), from_folder=from_, storage=storage_of(storage), on_event=console.say)
    if json:
        console.data_json([{"report": w.index, "answer": w.answer, "files": w.files} for w in written])
    else:
        for one in written:
            console.say(f"{one.folder.name}: {one.answer}")
            console.data(str(one.index))
    for failure in failures:
        console.warn(f"not made again: {failure}")
    if open_ and written:
        typer.launch(str(written[0].index))
    if failures:
        raise typer.Exit(1)


@app.command(rich_help_panel=READ)
def compare(
    a: Annotated[str, typer.Argument(help="A report's folder, or its name under reports/: what was there before.")],
    b: Annotated[str, typer.Argument(help="The one that is asked about.")],
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit with 0 when B is shown not to be worse within the margin, 1 when worse, 3 when unsure."
        ),
    ] = False,
    unsure: Annotated[
        Literal["pass", "fail"] | None, typer.Option(help="With --check: what an unsure answer counts as.")
    ] = None,
    speed: Annotated[bool, typer.Option("--speed", help="With --check: throughput counts as well.")] = False,
    json: Json = False,
) -> None:
    """Compare two reports arm by arm: accuracy, gap, throughput."""
    from harness.analysis.comparison import compare as difference
    from harness.report.words import direction

    if (unsure or speed) and not check:
        raise UsageError(f"{'--unsure' if unsure else '--speed'} says how --check answers", "add --check")
    first = _analysis(a)
    compared = difference(first, _analysis(b), speed=speed)
    if json:
        console.data_json(compared)
    else:
        _show_comparison(compared, f"{compared.metric}: {direction(first)}; throughput: higher is better")
    if not check:
        return
    if not json:
        for line in _answer(compared):
            console.say(line)
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


def _answer(compared: Comparison) -> list[str]:
    """Return the gate's answer and, for every arm that it cannot tell, why and how many seeds it would take."""
    kept = f"no arm is worse by {compared.margin:g} or more (one-sided tests at {compared.alpha:g})"
    worse = [_ruled(ruling) for ruling in compared.rulings if ruling.answer == "worse"]
    head = {"pass": f"pass: {kept}", "worse": f"worse: {', '.join(worse)}", "cannot tell": "cannot tell"}[compared.answer]
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
            interval = f"[{one.low:{sign}}, {one.high:{sign}}]" + (f" {_kind(one)}" if sized else "")
    verdict = ", ".join(part for part in (one.verdict, one.note) if part)
    return one.arm, named, plain(one.mean_a), plain(one.mean_b), change, interval, verdict


def _kind(one: Difference) -> str:
    return f"95 % {one.test} t, n = {one.n_a}" + (f" and {one.n_b}" if one.n_b != one.n_a else "")


def _analysis(name: str) -> Analysis:
    from harness.report import read_analysis

    folder = Path(name) if Path(name).is_dir() else Path("reports") / name
    if not folder.is_dir():
        there = sorted(path.parent.name for path in Path("reports").glob("*/analysis.json"))
        raise ReportError(
            f"there is no report {name!r}{did_you_mean(name, there)}",
            f"reports here: {', '.join(there)}" if there else "`harness ablate --study augmentations` makes one",
        )
    return read_analysis(folder)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _changes(changed: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in changed.items())
