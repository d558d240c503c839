"""``harness status``: parse, call, print."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import console
from harness.cli.defaults import storage_of
from harness.cli.options import READ, RunArgument, RunOption, Storage, app, examples, study_of
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.commands.status import Standings

_LOOK_SECONDS = 5.0


@app.command(
    rich_help_panel=READ,
    epilog=examples("harness status", "harness status augmentations --watch"),
)
def status(
    name: RunArgument = None,
    *,
    study: RunOption = None,
    storage: Storage = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds until all is final.")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the result as JSON on stdout; with --watch, a document a line."
        ),
    ] = False,
) -> None:
    """List all runs; of one, say how many trials of each arm wait, run and are final, and when all will be done."""
    chosen, where = study_of(name, study), storage_of(storage)
    if chosen is None:
        if watch:
            raise UsageError("--watch follows one run", "`harness status` lists them")
        _show_all(where, json=json)
        return

    from harness.commands.status import find_run, reported, standings
    from harness.search import SearchLedger

    known = reported(chosen, storage=where)
    if known is not None:
        with console.Board(live=False) as board:
            _show(board, known, json=json, line=watch)
        return

    run = find_run(chosen, storage=where)
    with (
        SearchLedger.open(run, storage=where, create=False) as ledger,
        console.Board(live=watch and not json) as board,
    ):
        while True:
            now = standings(ledger)
            _show(board, now, json=json, line=watch)
            if not watch or now.open == 0:
                return
            time.sleep(_LOOK_SECONDS)


def _show(board: console.Board, now: Standings, *, json: bool, line: bool) -> None:
    if json:
        console.data_json(_as_json(now), line=line)
    else:
        board.show(*_picture(now))


def _show_all(storage: str | None, *, json: bool) -> None:
    from harness.commands.status import all_runs

    states = all_runs(storage=storage)
    if json:
        console.data_json(
            [
                {
                    "study": state.name,
                    "done": state.done,
                    "total": state.total,
                    "when": state.when,
                    "answer": state.answer,
                    "report": state.report,
                }
                for state in states
            ]
        )
        return
    if not states:
        console.say("nothing has run here yet\n\n`harness ablate augmentations` starts a study")
        return
    rows = [
        (
            state.name,
            f"{state.done} of {state.total}",
            state.when,
            state.answer,
        )
        for state in states
    ]
    console.table(("run", "trials", "last (UTC)", "answer"), rows)
    if any(state.report for state in states):
        console.say("\nreports are in reports/RUN/index.html; `harness open RUN` shows one")
    console.say("`harness status RUN` shows the arms of a run")


def _as_json(now: Standings) -> dict[str, Any]:
    return {
        "study": now.name,
        "trials": now.trials,
        "arms": now.arms,
        "running": [
            dict(zip(("arm", "seed", "worker", "since"), row, strict=True)) for row in now.running
        ],
        "trials_per_hour": now.pace,
        "seconds_left": now.seconds_left,
    }


def _picture(now: Standings) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """Return heads, rows and the lines below them. A state that no trial is in has no column."""
    from harness.commands.status import STATES
    from harness.text import duration

    used = [state for state in STATES if now.trials[state]]
    rows = [
        (arm, *(str(states.get(state) or "-") for state in used))
        for arm, states in now.arms.items()
    ]
    speed = f", {_plain(now.pace)} an hour lately" if now.pace else ""
    left = f", about {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
    total = now.trials["total"]
    lines = [f"{total - now.open} of {total} trials are final{speed}{left}"]
    lines += [
        f"running: {arm}, seed {seed}, on {worker} since {since.replace('T', ' ')}"
        for arm, seed, worker, since in now.running
    ]
    if now.reported:
        lines.append("by its report: no run of it is here")
    if not now.open:
        lines.append(f"`harness open {now.name}` shows its report")
    return ("arm", *used), rows, "\n".join(lines)


def _plain(number: float) -> str:
    """Return a number with three digits that count, never as a power of ten."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
