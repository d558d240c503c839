"""``harness ablate``: parse, call, print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.cli.defaults import RunDefaults, settle
from harness.cli.options import (
    RUN,
    All,
    Artifacts,
    Base,
    Device,
    DryRun,
    Json,
    LauncherOption,
    MaybeStudyName,
    Profile,
    Recommended,
    RetryFailed,
    Screening,
    Seeds,
    Sets,
    Storage,
    StudyArgument,
    Timeout,
    Workers,
    app,
    examples,
    overrides,
    study_of,
)
from harness.cli.screen import Screen, finish, finish_all
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.commands.all_studies import WholeOutcome
    from harness.commands.facts import Outcome


@app.command(
    rich_help_panel=RUN,
    epilog=examples("harness ablate augmentations", "harness ablate dropout --seeds 16 --dry-run"),
)
def ablate(
    name: StudyArgument = None,
    *,
    study: MaybeStudyName = None,
    all_: All = False,
    profile: Profile = None,
    seeds: Seeds = None,
    set_: Sets = None,
    base: Base = None,
    workers: Workers = None,
    launcher: LauncherOption = None,
    storage: Storage = None,
    artifacts: Artifacts = None,
    device: Device = None,
    timeout: Timeout = None,
    screen: Screening = False,
    recommended: Recommended = False,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train every arm of a study over its seeds, and write the comparison report."""
    study = study_of(name, study)
    with Screen() as shown:
        settings = settle(
            workers=workers, storage=storage, artifacts=artifacts, device=device, launcher=launcher
        )
        common: dict[str, Any] = {
            "profile": profile,
            "seeds": seeds,
            "overrides": overrides(set_, base),
            "timeout": timeout,
            "retry_failed": retry_failed,
            "dry_run": dry_run,
            "on_event": shown,
            **settings.as_arguments(),
        }
        if all_:
            _check_all(study, settings, screen=screen, recommended=recommended)
            whole = _ablate_all(common)
        else:
            outcome = _ablate(study, screen=screen, recommended=recommended, common=common)
    if all_:
        finish_all(whole, json=json)
    else:
        finish(outcome, json=json)


def _ablate(
    study: str | None, *, screen: bool, recommended: bool, common: Mapping[str, Any]
) -> Outcome:
    from harness.commands.ablate import ablate as run

    if study is None:
        raise UsageError(
            "`harness ablate` needs the name of a study, or --all for every built-in one",
            "for example `harness ablate augmentations`; `harness show` lists the studies",
        )
    return run(study, screen=screen, recommended=recommended, **common)


def _ablate_all(common: Mapping[str, Any]) -> WholeOutcome:
    from harness.commands.all_studies import ablate_all

    return ablate_all(**{name: value for name, value in common.items() if name != "place"})


def _check_all(
    study: str | None, settings: RunDefaults, *, screen: bool, recommended: bool
) -> None:
    """Refuse what goes with one study alone."""
    given = [
        name
        for name, value in (
            ("--study", study),
            ("--screen", screen),
            ("--recommended", recommended),
        )
        if value
    ]
    if given:
        raise UsageError(
            f"--all and {given[0]} exclude each other", "`harness ablate NAME` runs one study"
        )
    if not settings.place.here:
        raise UsageError(
            "--all runs on this machine only", "`--launcher local`, or a study at a time"
        )
