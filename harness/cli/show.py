"""``harness show``: parse, call, print."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, app


@app.command(rich_help_panel=READ)
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A study, or `fields` for the recipe fields; nothing lists the studies.",
            autocompletion=complete.shown,
        ),
    ] = None,
    *,
    profile: Annotated[
        str | None,
        typer.Option(
            help="The profile whose arms are shown; default: quick.",
            autocompletion=complete.profiles,
        ),
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

    table = fields() | {
        f"{start}.NAME": ("value of yours", "", text) for start, text in OPEN.items()
    }
    if json:
        console.data_json(
            {
                name: {"type": t, "default": d, "description": text}
                for name, (t, d, text) in table.items()
            }
        )
        return
    console.table(
        ("field", "default", "what it is"),
        [(name, _text(d), f"{text} ({t})") for name, (t, d, text) in table.items()],
    )


def _show_study(name: str, profile: str | None, *, json: bool) -> None:
    from harness.study.arms import arms
    from harness.study.study import load_study

    loaded = load_study(name)
    study = loaded.under(
        loaded.profile or ("" if loaded.scripted else "quick") if profile is None else profile
    )
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
                    {
                        "arm": a.name,
                        "reference": a.reference,
                        "changes": dict(a.overrides),
                        "why": a.why,
                    }
                    for a in planned
                ],
            }
        )
        return
    console.say(f"{study.name}: {study.question}")
    if study.why:
        console.say(study.why)
    of = f", profile {study.profile}" if study.profile else ""
    console.say(f"design {study.design}, {study.seeds} seeds, margin {study.margin_pp:g} pp{of}\n")
    rows = [
        (a.name, a.reference or "-", _changes(dict(a.overrides)) or "the baseline") for a in planned
    ]
    console.table(("arm", "against", "differs from the baseline in"), rows)
    if study.retune:
        console.say(
            f"\nthen every arm retuned over {', '.join(study.retune)}: {study.search.retune_trials} settings each"
        )


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _changes(changed: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in changed.items())
