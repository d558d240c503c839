"""``harness show``: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import complete, console
from harness.cli.options import READ, Json, app, examples
from harness.cli.screen import changes, plain
from harness.errors import HarnessError, UsageError, did_you_mean

if TYPE_CHECKING:
    from harness.study.study import Study


@app.command(
    rich_help_panel=READ,
    epilog=examples("harness show augmentations", "harness show augment.crop"),
)
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A study, a recipe field, or `fields`; nothing lists the studies.",
            autocompletion=complete.shown,
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="PART", help="After `fields`: a part of the recipe, or the start of a field."
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
    """List the studies, explain one, or explain the recipe fields."""
    if part is not None and name != "fields":
        raise UsageError(
            f"{part!r} is one word too many", "`harness show fields augment` shows a part's fields"
        )
    if name is None:
        _show_studies(json=json)
    elif name == "fields":
        _show_fields(part or "", json=json)
    elif _is_field(name):
        _show_fields(name, json=json)
    else:
        _show_study(name, profile, json=json)


def _show_studies(*, json: bool) -> None:
    from harness.study.files import available_studies
    from harness.study.study import load_study

    rows = []
    for name, path in available_studies().items():
        try:
            rows.append((name, load_study(str(path)).question, ""))
        except HarnessError as error:
            rows.append((name, "", error.message))
    if json:
        console.data_json(
            [
                {"study": name, "question": question, **({"error": fault} if fault else {})}
                for name, question, fault in rows
            ]
        )
        return
    console.table(
        ("study", "question"),
        [
            (name, f"BROKEN: {fault.splitlines()[0]}" if fault else question)
            for name, question, fault in rows
        ],
    )
    if any(fault for _, _, fault in rows):
        console.say("\n`harness show STUDY` lists every fault of a broken file")
    console.say("\n`harness show STUDY` prints its arms; `harness ablate STUDY` runs it.")


def _is_field(name: str) -> bool:
    """Return whether a name is a recipe field's, or looks like one: a part of the recipe before the dot."""
    from harness.study.recipe import fields

    parts = {field.partition(".")[0] for field in fields()}
    return not name.endswith(".toml") and name.partition(".")[0] in parts


def _show_fields(start: str, *, json: bool) -> None:
    """Print the fields whose names begin so: a part's, or one."""
    from harness.study.plugin_fields import OPEN
    from harness.study.recipe import fields

    table = fields() | {
        f"{opening}.NAME": ("value of yours", "", text) for opening, text in OPEN.items()
    }
    opening = start if "." in start or not start else f"{start}."
    shown = (
        {start: table[start]}
        if start in table
        else {name: entry for name, entry in table.items() if name.startswith(opening)}
    )
    if not shown:
        raise UsageError(
            f"there is no recipe field {start!r}{did_you_mean(start, table)}",
            "`harness show fields` lists them all",
        )
    table = shown
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
        [(name, plain(d), f"{text} ({t})") for name, (t, d, text) in table.items()],
    )
    if len(table) == 1:
        (field,) = table
        console.say(f"\n`harness ablate STUDY --set {field}=VALUE` sets it for one run")


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
                **({"space": _space(study)} if study.space else {}),
            }
        )
        return
    console.say(f"{study.name}: {study.question}")
    if study.why:
        console.say(study.why)
    of = f", profile {study.profile}" if study.profile else ""
    console.say(f"design {study.design}, {study.seeds} seeds, margin {study.margin_pp:g} pp{of}\n")
    rows = [
        (a.name, a.reference or "-", changes(dict(a.overrides)) or "the baseline") for a in planned
    ]
    if len(rows) > 1 or not study.space:
        console.table(("arm", "against", "differs from the baseline in"), rows)
    if study.space:
        _show_space(study)
    if study.retune:
        console.say(
            f"\nthen every arm retuned over {', '.join(study.retune)}: {study.search.retune_trials} settings each"
        )


def _show_space(study: Study) -> None:
    search = study.search
    console.say(
        f"searched by `harness tune{'' if study.name == 'tune' else ' ' + study.name}`: {search.trials} trials, sampler {search.sampler}, "
        f"pruner {search.pruner}; the best {search.confirm} again on fresh seeds\n"
    )
    console.table(("entry", "between", "sets"), [tuple(row.values()) for row in _space(study)])


def _space(study: Study) -> list[dict[str, str]]:
    """Return every entry of the space: its name, its interval or choices, and the fields that it sets."""
    rows = []
    for name, entry in study.space.items():
        if entry.choices:
            between = ", ".join(plain(choice) for choice in entry.choices)
        else:
            between = f"{plain(entry.low)} to {plain(entry.high)}{', log' if entry.log else ''}"
        if entry.when:
            between += (
                f" (when {', '.join(f'{key} is {plain(v)}' for key, v in entry.when.items())})"
            )
        rows.append({"entry": name, "between": between, "sets": ", ".join(entry.fields(name))})
    return rows
