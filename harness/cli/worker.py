"""``harness worker``: parse, call, print."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console
from harness.cli.defaults import storage_of
from harness.cli.options import (
    CLUSTER,
    Json,
    RunArgument,
    RunOption,
    Storage,
    Timeout,
    app,
    examples,
    needed_study,
)


@app.command(
    rich_help_panel=CLUSTER,
    epilog=examples(
        "harness worker augmentations-small --storage postgresql+psycopg://db/lab",
        "harness worker augmentations-small --shard 1/4",
    ),
)
def worker(
    name: RunArgument = None,
    *,
    study: RunOption = None,
    storage: Storage = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Work off share I of N in a journal of its own; default: SLURM's array.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:N, mps or xpu; default: the plan's.")
    ] = "",
    timeout: Timeout = None,
    max_trials: Annotated[
        int | None, typer.Option(min=1, help="Leave after so many trials.")
    ] = None,
    json: Json = False,
) -> None:
    """Join a study that was planned elsewhere, and work on it until nothing is left."""
    from harness.commands.status import find_run
    from harness.ledger import parse_shard, shard_of_environment
    from harness.workers.join import join

    storage = storage_of(storage)
    share = (
        parse_shard(shard)
        if shard
        else None
        if "://" in (storage or "")
        else shard_of_environment(os.environ)
    )
    done = join(
        name=find_run(needed_study(name, study, "worker"), storage=storage),
        storage=storage,
        runs=Path("runs"),
        device=device,
        shard=share,
        deadline=None if timeout is None else time.monotonic() + timeout,
        max_trials=max_trials,
        on_event=_tell,
    )
    if json:
        console.data_json({"recorded": done.recorded, "failed": done.failed, "why": done.why})
    else:
        console.say(
            f"{done.recorded} trials recorded, {done.failed} of them failed; left because: {done.why}"
        )
    if done.why == "stopped":
        raise typer.Exit(130)
    if done.failed:
        raise typer.Exit(1)


def _tell(event: object) -> None:
    from harness.workers.events import Finished, Note

    if isinstance(event, Finished):
        trial = event.trial
        accuracy = (
            f"val {100 * trial.metrics['accuracy']:.1f} %"
            if "accuracy" in trial.metrics
            else trial.error
        )
        console.say(f"{trial.cell} seed {trial.seed}: {trial.state}, {accuracy}")
    elif isinstance(event, Note):
        console.say(event.text)
