"""``harness analyze``: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import console
from harness.cli.options import READ, Json, app, examples
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.analysis import Analysis
    from harness.analysis.runs_table import Runs
    from harness.commands.analyze import TableLook
    from harness.report import Written

_COLUMNS, _ROWS, _JUDGED = "Which columns", "Which rows", "How it is judged"  # panels of the help
_MOST_ROWS = 40  # arms or columns in a table on the screen; more are in the report

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Files, folders, globs, a pattern such as '{arm}/seed-{seed}/metrics.csv', or an Optuna storage.",
        show_default=False,
    ),
]


ArmColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="COLUMN",
        help="Names the arm of a run; repeatable.",
        rich_help_panel=_COLUMNS,
    ),
]
SeedColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--seed",
        metavar="COLUMN",
        help="The seed: runs of one seed are pairs; repeatable.",
        rich_help_panel=_COLUMNS,
    ),
]
DatasetColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="COLUMN",
        help="The data set: pairs are within one; repeatable.",
        rich_help_panel=_COLUMNS,
    ),
]
MetricColumn = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="The score that decides; 'acc_{seed}' takes all columns of that form.",
        rich_help_panel=_COLUMNS,
    ),
]
TrainColumn = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="The score on training images, for the overfitting gap.",
        rich_help_panel=_COLUMNS,
    ),
]
GapColumn = Annotated[
    str,
    typer.Option(metavar="COLUMN", help="The overfitting gap itself.", rich_help_panel=_COLUMNS),
]
SdColumn = Annotated[
    str,
    typer.Option(
        metavar="COLUMN", help="The sd, where rows are means of runs.", rich_help_panel=_COLUMNS
    ),
]
CountColumn = Annotated[
    str,
    typer.Option(
        "--n",
        metavar="COLUMN",
        help="Number of runs behind a mean; also a plain number.",
        rich_help_panel=_COLUMNS,
    ),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Rows that count; also !=, <, <=, >, >=; repeatable.",
        rich_help_panel=_ROWS,
    ),
]
LastColumn = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="Of several rows of a run, the last by this column counts.",
        rich_help_panel=_ROWS,
    ),
]
BestColumn = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="Of several rows of a run, the best counts (optimistic).",
        rich_help_panel=_ROWS,
    ),
]
DuplicatePolicy = Annotated[
    Literal["refuse", "first", "last", "mean"],
    typer.Option(
        metavar="RULE",
        help="Several runs of one arm and seed: refuse, or take the first, last or mean.",
        rich_help_panel=_ROWS,
    ),
]
CommonSeeds = Annotated[
    bool,
    typer.Option(
        "--common-seeds", help="Keep only the seeds that every arm has.", rich_help_panel=_ROWS
    ),
]
BaselineName = Annotated[
    str,
    typer.Option(
        metavar="ARM", help="The arm that the others are compared with.", rich_help_panel=_JUDGED
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        help="Smallest difference worth acting on, in pp or the column's own unit.",
        rich_help_panel=_JUDGED,
    ),
]
UnitName = Annotated[
    Literal["auto", "percent", "share", "number"],
    typer.Option(
        metavar="UNIT",
        help="What scores are: percent, share (0 to 1), number; auto goes by name and size.",
        rich_help_panel=_JUDGED,
    ),
]
LowerIsBetter = Annotated[
    bool,
    typer.Option(
        "--lower-is-better", help="The low end of the score is good.", rich_help_panel=_JUDGED
    ),
]
HigherIsBetter = Annotated[
    bool,
    typer.Option(
        "--higher-is-better", help="The high end of the score is good.", rich_help_panel=_JUDGED
    ),
]
DecimalMark = Annotated[
    Literal["auto", "point", "comma"],
    typer.Option(
        metavar="MARK", help="What separates decimals: point, comma or auto.", rich_help_panel=_ROWS
    ),
]
Alpha = Annotated[
    float, typer.Option(help="Level of the tests and intervals.", rich_help_panel=_JUDGED)
]
IsUnpaired = Annotated[
    bool,
    typer.Option(
        "--unpaired",
        help="Compare arms as two groups, whatever the seeds.",
        rich_help_panel=_JUDGED,
    ),
]
Top = Annotated[
    int,
    typer.Option(
        help="Show only so many of the best arms, correct for all; 0: all.",
        rich_help_panel=_JUDGED,
    ),
]
ReportName = Annotated[
    str, typer.Option("--name", help="Name of the report's folder; default: the source's.")
]


@app.command(
    rich_help_panel=READ,
    epilog=examples(
        "harness analyze runs.csv",
        "harness analyze runs.csv --arm model --seed seed --metric acc --margin 0.5",
    ),
)
def analyze(
    sources: Files,
    *,
    arm: ArmColumns = None,
    seed: SeedColumns = None,
    dataset: DatasetColumns = None,
    metric: MetricColumn = "",
    baseline: BaselineName = "",
    margin: Margin = None,
    where: Conditions = None,
    last: LastColumn = "",
    best: BestColumn = "",
    duplicates: DuplicatePolicy = "refuse",
    train: TrainColumn = "",
    gap: GapColumn = "",
    sd: SdColumn = "",
    count: CountColumn = "",
    unit: UnitName = "auto",
    lower_is_better: LowerIsBetter = False,
    higher_is_better: HigherIsBetter = False,
    decimal: DecimalMark = "auto",
    alpha: Alpha = 0.05,
    unpaired: IsUnpaired = False,
    common_seeds: CommonSeeds = False,
    top: Top = 0,
    name: ReportName = "",
    json: Json = False,
) -> None:
    """Report on runs that another program made; without options, list the columns and propose a command."""
    if lower_is_better and higher_is_better:
        raise UsageError(
            "--lower-is-better and --higher-is-better say the opposite", "leave one of them out"
        )
    columns = {
        "arm": arm or (),
        "seed": seed or (),
        "dataset": dataset or (),
        "metric": metric,
        "baseline": baseline,
        "margin": margin,
        "where": where or (),
        "last": last,
        "best": best,
        "duplicates": duplicates,
        "train": train,
        "gap": gap,
        "sd": sd,
        "n": count,
        "unit": unit,
        "lower_is_better": lower_is_better or (False if higher_is_better else None),
        "decimal": decimal,
        "alpha": alpha,
        "unpaired": unpaired,
        "common_seeds": common_seeds,
        "top": top,
    }
    _run(sources, columns, name=name, json=json)


def _run(sources: Sequence[str], columns: dict[str, Any], *, name: str, json: bool) -> None:
    """Report, or look at the table first where something is not said."""
    from harness.analysis.sources import read_source
    from harness.analysis.table_options import options_of
    from harness.commands.analyze import check_pairing, look_at, report_on

    options = options_of(columns)
    if (options.missing and columns["margin"] is None) or set(options.missing) - {"margin"}:
        look = look_at(sources, **columns)
        if json:
            console.data_json(_look_json(look))
            return
        _show_look(look)
        if not console.can_ask():
            _end_of_look(look, columns)
            return
        options = _asked(look, columns)
        written, runs = report_on(look.source, sources, options, name=name)
    else:
        written, runs = report_on(
            check_pairing(read_source(sources), options), sources, options, name=name
        )
    _show_report(written, runs, json=json)


def _show_look(look: TableLook) -> None:
    """Say what a source is, list its columns, and what they would be taken for."""
    console.say(look.source.sentence)
    for note in look.source.notes:
        console.say(note)
    console.say()
    shown = look.columns[:_MOST_ROWS]
    rows = [
        (c.name, f"{c.distinct:,}", ", ".join(_clipped(sample) for sample in c.samples))
        for c in shown
    ]
    console.table(("column", "values", "for example"), rows, right=("values",), talk=True)
    if len(look.columns) > len(shown):
        console.say(f"and {len(look.columns) - len(shown)} more columns")
    console.say()
    chosen = [(f"--{choice.option} {choice.value}".strip(), choice.why) for choice in look.choices]
    if chosen:
        console.table(("proposed", "because"), chosen, talk=True)
    if not (look.options.seed or look.options.n) and look.options.baseline:
        console.say("no column looks like a seed: arms would be compared as two groups, unpaired")
    for note in look.notes:
        console.say(note)
    console.say()


def _clipped(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}..."


def _end_of_look(look: TableLook, columns: dict[str, Any]) -> None:
    """Print the command; where a report was asked for by some options, say that there is none."""
    from harness.errors import UsageError

    given = [key for key, value in columns.items() if value not in ((), "", None, 0, False)]
    usual = {"duplicates": "refuse", "unit": "auto", "decimal": "auto", "alpha": 0.05}
    given = [key for key in given if usual.get(key) != columns[key]]
    if look.obstacle is not None:
        raise look.obstacle
    if not given:
        console.say("Nothing was analysed. Check the command, change what is wrong, and run it:")
        for word, what in look.blanks:
            console.say(f"first put in place of {word}: {what}")
        console.data(look.command)
        return
    missing = [k for k in ("arm", "metric", "baseline", "margin") if columns[k] in ((), "", None)]
    first = "; ".join(f"in place of {word} put {what}" for word, what in look.blanks)
    raise UsageError(
        f"no report: {', '.join(f'--{name}' for name in missing)} not given",
        f"the whole command would be: {look.command}" + (f" ({first})" if first else ""),
    )


def _asked(look: TableLook, columns: dict[str, Any]) -> Any:
    """Ask for everything that was not given, with the proposals as answers to an empty line."""
    from dataclasses import replace

    from harness.analysis.table_options import options_of
    from harness.errors import UsageError

    options = look.options
    answers: dict[str, Any] = {}
    for key in ("arm", "seed", "dataset", "metric", "baseline", "margin"):
        if columns[key] not in ((), "", None):
            continue
        proposal = getattr(options, key)
        several = isinstance(proposal, tuple)
        shown = ", ".join(proposal) if several else f"{proposal:g}" if key == "margin" else proposal
        answer = console.ask(f"{key}{' (- for none)' if several else ''}", shown or "-")
        answer = "" if answer == "-" else answer
        if key == "margin":
            try:
                answers[key] = float(answer or "nan")
            except ValueError:
                raise UsageError(f"margin: {answer!r} is no number", "for example 0.5") from None
        else:
            parts = tuple(part.strip() for part in answer.split(",") if part.strip())
            answers[key] = parts if several else answer
    return options_of({**columns, **_given(replace(options, **answers))})


def _given(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in type(options).__dataclass_fields__}


def _look_json(look: TableLook) -> dict[str, Any]:
    return {
        "source": look.source.sentence,
        "columns": [
            {"name": c.name, "values": c.distinct, "samples": c.samples} for c in look.columns
        ],
        "proposed": [
            {"option": c.option, "value": c.value, "because": c.why} for c in look.choices
        ],
        "command": look.command,
        "fill_in": dict(look.blanks),
        "notes": look.notes,
        "obstacle": look.obstacle.message if look.obstacle else "",
    }


def _show_report(written: Written, runs: Runs, *, json: bool) -> None:
    from harness.report.words import direction

    rows = _verdicts(written.analysis)
    if json:
        console.data_json(
            {
                "report": written.index,
                "answer": written.answer,
                "metric": written.analysis.study.metric,
                "higher_is_better": written.analysis.higher_is_better,
                "notes": runs.notes,
                "arms": rows,
            }
        )
        return
    for note in runs.notes:
        console.say(note)
    console.say()
    study = written.analysis.study
    counted = "runs" if study.pairing != "seed" else "seeds"
    lines = [_line(row) for row in rows[:_MOST_ROWS]]
    console.table(("arm", "difference", "verdict", counted), lines, talk=True)
    if len(rows) > _MOST_ROWS:
        console.say(f"and {len(rows) - _MOST_ROWS} more arms, in the report")
    console.say(f"{written.analysis.primary}: {direction(written.analysis)}")
    console.say(f"\n{written.answer}")
    console.data(str(written.index))


def _verdicts(analysis: Analysis) -> list[dict[str, Any]]:
    """One row an arm: its difference to the baseline, the verdict, and the seeds that would settle it."""
    from harness.report.lookup import in_order

    effects = [
        effect
        for effect in analysis.effects
        if effect.kind == "arm" and effect.metric == analysis.primary
    ]
    names = ("n", "unit", "estimate", "low", "high", "p_holm", "p_equivalence", "verdict", "note")
    return [
        {
            "arm": effect.term,
            **{name: getattr(effect, name) for name in names},
            "seeds_needed": analysis.seeds_needed.get(effect.term),
        }
        for effect in in_order(analysis, effects)
    ]


def _line(row: dict[str, Any]) -> tuple[str, str, str, str]:
    from harness.report.words import MINUS, bounds, number, unit_name

    difference = "no estimate"
    if row["estimate"] is not None:
        interval = bounds(row["low"], row["high"], row["unit"], signed=True)
        estimate = number(row["estimate"], row["unit"], signed=True) + unit_name(row["unit"])
        difference = f"{estimate} {interval}".strip().replace(MINUS, "-")
    needed = (
        f"{row['n']}, about {row['seeds_needed']} would settle it"
        if row["seeds_needed"]
        else str(row["n"])
    )
    verdict = ", ".join(part for part in (row["verdict"] or "not judged", row["note"]) if part)
    return row["arm"], difference, verdict, needed
