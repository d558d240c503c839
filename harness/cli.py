"""The command line: parse, call one function, print. The only place that exits.

Exit codes: 0 done; 1 ran with failures (or ``--check`` says worse); 2 nothing ran; 130 interrupted or out of time, resumable.
Everything heavy is imported inside the command that needs it, so that ``harness --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import console
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.ablation import Outcome, PlanFacts

RUN, READ, SETUP = "Run", "Read", "Set up"
INTERRUPTED = 130

app = typer.Typer(
    name="harness",
    help="Which parts of an image-classification training recipe earn their place, by how much, and at what cost.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="List, fetch and verify images.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=SETUP)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
StudyName = Annotated[str, typer.Option("--study", "-s", help="A study's name, or a study file.")]
Profile = Annotated[str | None, typer.Option(help="quick, small, full or one of the study's own; default: what fits here.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Number of seeds, in place of the profile's.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a recipe field; repeatable.")]
Workers = Annotated[str, typer.Option(help="Processes: auto, or a number.")]
Storage = Annotated[str | None, typer.Option(help="Where the ledger is kept; default: runs/<study>-<profile>/journal.log.")]
Artifacts = Annotated[str | None, typer.Option(help="Folder for curves and per-image outcomes; default: beside the ledger.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds after which no new trial starts; run again to go on.")]


@app.command(rich_help_panel=RUN)
def ablate(
    study: StudyName,
    profile: Profile = None,
    seeds: Seeds = None,
    set_: Sets = None,
    workers: Workers = "auto",
    storage: Storage = None,
    artifacts: Artifacts = None,
    device: Device = "auto",
    timeout: Timeout = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; touch nothing.")] = False,
    json: Json = False,
) -> None:
    """Train every arm of a study over its seeds, and write the comparison report."""
    from harness.ablation import ablate as run

    with _Screen() as screen:
        outcome = run(
            study,
            profile=profile,
            seeds=seeds,
            overrides=_overrides(set_),
            workers=_workers(workers),
            storage=storage,
            artifacts=artifacts,
            device=device,
            timeout=timeout,
            dry_run=dry_run,
            on_event=screen,
        )
    _finish(outcome, json)


@app.command(rich_help_panel=READ)
def show(
    name: Annotated[str | None, typer.Argument(help="A study, or `fields` for the recipe fields; nothing lists the studies.")] = None,
    profile: Annotated[str, typer.Option(help="The profile whose arms are shown.")] = "quick",
    json: Json = False,
) -> None:
    """List the studies, explain one, or list the recipe fields."""
    if name is None:
        _show_studies(json)
    elif name == "fields":
        _show_fields(json)
    else:
        _show_study(name, profile, json)


def _show_studies(json: bool) -> None:
    from harness.study import available_studies, load_study

    rows = [(name, load_study(str(path)).question) for name, path in available_studies().items()]
    if json:
        console.data_json([{"study": name, "question": question} for name, question in rows])
        return
    console.table(("study", "question"), rows)
    console.say("\n`harness show STUDY` prints its arms; `harness ablate --study STUDY` runs it.")


def _show_fields(json: bool) -> None:
    from harness.recipe import fields

    table = fields()
    if json:
        console.data_json({name: {"type": t, "default": d, "description": text} for name, (t, d, text) in table.items()})
        return
    console.table(("field", "default", "what it is"), [(name, _text(d), f"{text} ({t})") for name, (t, d, text) in table.items()])


def _show_study(name: str, profile: str, json: bool) -> None:
    from harness.design import arms
    from harness.study import load_study

    study = load_study(name).under(profile)
    planned = arms(study)
    if json:
        console.data_json(
            {
                "study": study.name,
                "question": study.question,
                "profile": profile,
                "design": study.design,
                "seeds": study.seeds,
                "margin_pp": study.margin_pp,
                "metric": study.metric,
                "arms": [{"arm": a.name, "reference": a.reference, "changes": dict(a.overrides), "why": a.why} for a in planned],
            }
        )
        return
    console.say(f"{study.name}: {study.question}")
    if study.why:
        console.say(study.why)
    console.say(f"design {study.design}, {study.seeds} seeds, margin {study.margin_pp:g} pp, profile {profile}\n")
    rows = [(a.name, a.reference or "-", _changes(dict(a.overrides)) or "the baseline") for a in planned]
    console.table(("arm", "against", "differs from the baseline in"), rows)


@data_app.command("list")
def data_list(json: Json = False) -> None:
    """List the data sets, and which of them are here."""
    from harness.train import data

    found = data.describe()
    if json:
        console.data_json([{key: getattr(info, key) for key in info.__slots__} for info in found])
        return
    rows = [
        (info.name, f"{info.images:,}", "x".join(map(str, info.shape_CHW)), "here" if info.present else "not here", info.how)
        for info in found
    ]
    console.table(("name", "images", "shape", "state", "how to get it"), rows, right=("images",))
    console.say(f"\ndata root: {data.data_root()} (set HARNESS_DATA to change it)")


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="cifar10, cifar100, svhn or fashion-mnist.")], json: Json = False) -> None:
    """Download a data set, check it and decode it once."""
    from harness.train import data

    _show_data(data.fetch(name, on_event=console.say), json)


@data_app.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(help="A data set's name, or a folder of images or parquet shards.")],
    size: Annotated[int, typer.Option(min=0, help="Side in pixels that images are resized to; 0 keeps their own.")] = 0,
    json: Json = False,
) -> None:
    """Read every image again and compare with the cache."""
    from harness.train import data

    _show_data(data.verify(name, size=size, on_event=console.say), json)


def _show_data(found: Any, json: bool) -> None:
    facts = {
        "name": found.name,
        "train": len(found.train_labels_N),
        "test": len(found.test_labels_N),
        "shape": list(found.train_images_NCHW.shape[1:]),
        "classes": list(found.classes),
        "fingerprint": found.fingerprint,
    }
    if json:
        console.data_json(facts)
    else:
        console.table(("what", "value"), [(key, _text(value)) for key, value in facts.items()])


class _Screen:
    """Turns what a verb reports into lines and a progress bar."""

    def __init__(self) -> None:
        self.progress: console.Progress | None = None

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *raised: Any) -> None:
        if self.progress is not None:
            self.progress.__exit__(*raised)

    def __call__(self, event: Any) -> None:
        """Show one event."""
        from harness.ablation import PlanFacts, ProgressFacts

        if isinstance(event, PlanFacts):
            _say_plan(event)
        elif isinstance(event, ProgressFacts):
            if self.progress is None:
                self.progress = console.Progress(event.title, event.total, done=event.before)
                self.progress.__enter__()
            self.progress.update(event.done, event.total, event.note)
            if event.line:
                self.progress.finished(event.line)
        else:
            console.say(str(event))


def _say_plan(facts: PlanFacts) -> None:
    console.say(f"{facts.study}: {facts.question}")
    for line in facts.lines():
        console.say(f"  {line}")
    console.say()


def _finish(outcome: Outcome, json: bool) -> None:
    """Print what a verb came to and exit with its code."""
    if json:
        console.data_json(outcome.as_json())
    else:
        if outcome.answer:
            console.say(f"\n{outcome.answer}")
        for line in outcome.closing():
            console.say(line)
        if outcome.report is not None:
            console.data(str(outcome.report))
        if outcome.next_command:
            console.say(f"next: {outcome.next_command}")
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _overrides(assignments: list[str] | None) -> dict[str, Any]:
    from harness.recipe import parse_assignment

    return dict(parse_assignment(text) for text in assignments or [])


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--workers {text!r} is neither 'auto' nor a whole number from 1", "for example --workers 2")
    return int(text)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _changes(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in overrides.items())


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except HarnessError as error:
        console.error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        console.say("interrupted; the same command goes on from here")
        sys.exit(INTERRUPTED)


__all__ = ["Path", "app", "main"]
