"""``harness analyze``: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import console
from harness.cli.options import READ, Json, app

if TYPE_CHECKING:
    from harness.analysis import Analysis


@app.command(rich_help_panel=READ)
def analyze(
    file: Annotated[
        Path, typer.Argument(help="A CSV file, one run a row, names of the columns first.")
    ],
    *,
    arm: Annotated[str, typer.Option(metavar="COLUMN", help="Column that names the arm of a run.")],
    seed: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the seed; runs of one seed are pairs.")
    ],
    metric: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the score that decides.")
    ],
    baseline: Annotated[
        str, typer.Option(metavar="NAME", help="The arm that the others are compared with.")
    ],
    margin: Annotated[
        float, typer.Option(help="Smallest difference worth acting on, in percentage points.")
    ],
    train: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Column of the score on training images, for the gap."),
    ] = "",
    gap: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the overfitting gap itself.")
    ] = "",
    unit: Annotated[
        Literal["auto", "percent", "share", "number"],
        typer.Option(help="What scores are; auto: percent or shares of 1."),
    ] = "auto",
    lower_is_better: Annotated[
        bool | None,
        typer.Option(
            "--lower-is-better/--higher-is-better", help="Which end of the score is the good one."
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the tests and intervals.")] = 0.05,
    common_seeds: Annotated[
        bool, typer.Option("--common-seeds", help="Keep only the seeds that every arm has.")
    ] = False,
    json: Json = False,
) -> None:
    """Report on runs that another program made: which rows are noise, and how many seeds would settle them."""
    from harness.commands.analyze import analyze_table
    from harness.report.words import direction

    written, runs = analyze_table(
        file,
        arm=arm,
        seed=seed,
        metric=metric,
        baseline=baseline,
        margin=margin,
        train=train,
        gap=gap,
        unit=unit,
        lower_is_better=lower_is_better,
        common_seeds=common_seeds,
        alpha=alpha,
    )
    rows = _verdicts(written.analysis)
    if json:
        console.data_json(
            {
                "report": written.index,
                "answer": written.answer,
                "metric": metric,
                "higher_is_better": written.analysis.higher_is_better,
                "notes": runs.notes,
                "arms": rows,
            }
        )
        return
    for note in runs.notes:
        console.say(note)
    console.say()
    console.table(
        ("arm", "difference", "verdict", "seeds"), [_line(row) for row in rows], talk=True
    )
    console.say(f"{metric}: {direction(written.analysis)}")
    console.say(f"\n{written.answer}")
    console.data(str(written.index))


def _verdicts(analysis: Analysis) -> list[dict[str, Any]]:
    """One row an arm: its difference to the baseline, the verdict, and the seeds that would settle it."""
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
        for effect in effects
    ]


def _line(row: dict[str, Any]) -> tuple[str, str, str, str]:
    unit = " pp" if row["unit"] == "pp" else ""
    digits = "+.2f" if unit else "+.4g"
    difference = "no estimate"
    if row["estimate"] is not None:
        difference = f"{row['estimate']:{digits}}{unit}"
        if row["low"] is not None:
            difference += f" [{row['low']:{digits}}, {row['high']:{digits}}]"
    needed = (
        f"{row['n']}, about {row['seeds_needed']} would settle it"
        if row["seeds_needed"]
        else str(row["n"])
    )
    verdict = ", ".join(part for part in (row["verdict"] or "not judged", row["note"]) if part)
    return row["arm"], difference, verdict, needed
