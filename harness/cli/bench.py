"""``harness bench``: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import console
from harness.cli.options import (
    RUN,
    Device,
    Json,
    app,
    examples,
)
from harness.config import find_defaults

if TYPE_CHECKING:
    from harness.bench import BenchResult
    from harness.bench.suite import Stretch

_QUICK_SECONDS = 10.0  # of timing: imports, images and warming up take as long again
_QUICK_SAMPLE_SECONDS = 0.05
_QUICK_GROUPS = ("pipeline", "epoch")
# what people ask for: how much faster a trial, an epoch and its augmentation are than the usual way
_HEADLINES = (
    ("a whole trial", "trial/harness"),
    ("an epoch", "epoch/harness"),
    ("augmentation", "pipeline/harness"),
)
_ROWS = (
    "trial/pil-dataloader",
    "trial/harness",
    "epoch/pil-dataloader",
    "epoch/harness",
    "pipeline/pil-dataloader",
    "pipeline/harness",
    "pipeline/torchvision-v2",  # of a quick run, which has no whole trials
    "epoch/static-step",
)
_MOST = 6


@app.command(rich_help_panel=RUN, epilog=examples("harness bench --quick", "harness bench --save"))
def bench(
    *,
    device: Device = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="20 seconds in place of 3 minutes, without whole trials."),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Print every case, not the six that matter most."),
    ] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the figures under reports/bench.")
    ] = False,
    json: Json = False,
) -> None:
    """Time the engine against the usual pipeline and against what this machine could do."""
    from harness.bench import HEADS
    from harness.bench import bench as measure
    from harness.bench.suite import BUDGET_SECONDS

    budget = _QUICK_SECONDS if quick else BUDGET_SECONDS
    shorter: dict[str, Any] = {"groups": _QUICK_GROUPS, "sample_seconds": _QUICK_SAMPLE_SECONDS}
    with console.Progress("timing", expected=budget) as bar:

        def show(stretch: Stretch) -> None:
            bar.update(stretch.done, stretch.total, stretch.what)
            if stretch.over:
                bar.finished(stretch.what)

        measured = measure(
            device=device or find_defaults().device or "auto",
            save=save,
            budget_seconds=budget,
            on_event=show,
            **(shorter if quick else {}),
        )
    if json:
        console.data_json(measured.as_json())
        return

    console.say(_sentence(measured))
    if verbose:
        console.table(HEADS, measured.rows(), right=HEADS[1:])
    else:
        heads = ("what", "images/s", "95 % interval", "ratio", "n")
        console.table(heads, _first(measured), right=heads[1:])
        console.say("`--verbose` prints every case and what bounds it")
    for warning in measured.warnings:
        console.warn(warning)


def _sentence(measured: BenchResult) -> str:
    """Return in a sentence how much faster the engine is than the usual pipeline here."""
    results = {result.name: result for result in measured.results}
    for what, name in _HEADLINES:
        ours = results.get(name)
        if ours is not None and ours.ratio is not None and ours.reference in results:
            usual = results[ours.reference]
            return (
                f"Here {what} runs {ours.ratio:.1f} times as fast as with a PIL DataLoader: "
                f"{ours.images_per_second:,.0f} against {usual.images_per_second:,.0f} images a second "
                f"(median of {ours.n} rounds)."
            )
    return "Nothing was timed against the usual pipeline."


def _first(measured: BenchResult) -> list[tuple[str, ...]]:
    """Return the six rows that matter most, each pair with its reference first."""
    results = {result.name: result for result in measured.results}
    return [
        (
            name,
            f"{results[name].images_per_second:,.0f}",
            f"[{results[name].low:,.0f}, {results[name].high:,.0f}]",
            "" if (ratio := results[name].ratio) is None else f"{ratio:.2f}",
            str(results[name].n),
        )
        for name in [name for name in _ROWS if name in results][:_MOST]
    ]
