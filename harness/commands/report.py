"""``report``: documents from what a ledger holds, or from an exported folder alone. Needs neither torch nor the images."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.confirm import is_confirmation
from harness.commands.finished import folders_of, study_of
from harness.commands.retune import retuning_of
from harness.commands.tune_report import report_search
from harness.config import hide_password
from harness.errors import HarnessError, RecipeError, ReportError, UnreportedError, did_you_mean
from harness.ledger import Attempt, Ledger, studies_in
from harness.report import Provenance, Written, read_folder, rebuild, write_index, write_report
from harness.search import SearchLedger, is_search
from harness.study.metrics import own_metrics
from harness.study.retune_settings import is_retuning
from harness.study.trial import Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from harness.study.study import Study

_CLOSING_SECONDS = 10.0


def report(
    names: Sequence[str] = (),
    *,
    from_folder: Path | None = None,
    storage: str | None = None,
    reports: Path = Path("reports"),
    runs: Path = Path("runs"),
    on_event: Callable[[str], None] = lambda _: None,
) -> list[Written]:
    """Write the reports of studies, and the index over all of them.

    Args:
        names: folder names (``augmentations-quick``) or studies (``augmentations``, all its
            profiles); empty for every study that has trials under ``runs``.
        from_folder: a report's folder, to be rebuilt from its own files.
        storage: a ledger that holds the studies, as ``Ledger.open`` takes it; None for one a study
            under ``runs``.
        reports: where reports lie.
        runs: where ledgers lie.
        on_event: receives the name of each report before it is written.

    Raises:
        ReportError: there is nothing to report on, or a folder is not a report's. Where reports lie
            and nothing has run, their index is written.
    """
    if from_folder is not None:
        return [rebuild(from_folder)]
    there = (
        studies_in(storage)
        if storage
        else sorted(path.parent.name for path in runs.glob("*/journal.log"))
    )
    if not (names or there or storage) and any(reports.glob("*/analysis.json")):
        write_index(reports)  # a fresh clone: what others ran is compared
        return []
    where = f"in {hide_password(storage)}" if storage else f"under {runs}/"
    found = _chosen(names, there, where, reports)
    written = []
    for name in found:
        on_event(f"writing the report of {name}")
        with SearchLedger.open(name, storage=storage, runs=runs, create=False) as ledger:
            plan = ledger.latest_plan()
            if plan is None:
                raise ReportError(f"{name} has no plan yet", "start it with `harness ablate`")
            if is_search(ledger.cells()):
                written.append(report_search(ledger, reports / name, storage=storage, runs=runs))
            elif not is_part(ledger, plan.study):
                written.append(
                    from_ledger(
                        ledger,
                        plan.study,
                        reports / name,
                        metrics=own_metrics(plan.study),
                        screening=plan.screen,
                        retuning=retuning_of(plan.study, storage=storage, runs=runs)
                        if not plan.screen
                        else None,
                    )
                )
    if not written:
        listed = ", ".join(found)
        raise ReportError(
            f"{listed}: shown in the report of the study that it is part of",
            "bare `harness report` writes all",
        )
    write_index(reports)
    return written


def find_report(name: str, *, reports: Path = Path("reports")) -> Path:
    """Return the folder of a report that is named by its path, its folder or its study; the latest of several.

    Raises:
        ReportError: there is no such report.
    """
    if (Path(name) / "analysis.json").is_file():
        return Path(name)
    names = sorted(path.parent.name for path in reports.glob("*/analysis.json"))
    matches = [reports / one for one in folders_of(name, names)]
    if not matches:
        raise ReportError(
            f"there is no report {name!r}{did_you_mean(study_of(name), names)}",
            f"reports here: {', '.join(names)}"
            if names
            else "there are no reports here yet: `harness ablate augmentations` makes a first one",
        )
    return max(matches, key=lambda folder: (folder / "analysis.json").stat().st_mtime)


def fresh_page(
    name: str,
    *,
    reports: Path = Path("reports"),
    runs: Path = Path("runs"),
    on_event: Callable[[str], None] = lambda _: None,
) -> Path:
    """Return the page of a report, written again only where it is missing or older than its trials.

    Args:
        name: as ``find_report`` takes it; empty for the page over all reports.
        reports: where reports lie.
        runs: where ledgers lie.
        on_event: given a line of text before something is written.

    Raises:
        ReportError: there is no such report.
    """
    if not name:
        page = reports / "index.html"
        made = max((path.stat().st_mtime for path in reports.glob("*/analysis.json")), default=0.0)
        return page if page.is_file() and page.stat().st_mtime >= made else write_index(reports)
    started = runs / name / "journal.log"
    folder = reports / name if started.is_file() else find_report(name, reports=reports)
    page, ledger = folder / "index.html", runs / folder.name / "journal.log"
    trials = ledger.stat().st_mtime if ledger.is_file() else 0.0
    # The ledger is closed a moment after its last report is written.
    if page.is_file() and page.stat().st_mtime + _CLOSING_SECONDS >= trials:
        return page
    on_event(f"writing the report of {folder.name}: its page is missing or older than its trials")
    if trials and folder.parent == reports:
        (written,) = report([folder.name], reports=reports, runs=runs)
        return written.index
    return rebuild(folder).index


@contextmanager
def trials_kept(name: str, *, storage: str | None) -> Iterator[None]:
    """Say of a report that failed at the end of a run that its trials are kept, and how to write it later.

    Args:
        name: the study's folder name.
        storage: where its ledger is, when that was said.

    Raises:
        UnreportedError: the disk is full, or the folder is not writable.
    """
    try:
        yield
    except (ReportError, RecipeError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):  # nothing that room or rights would mend
            raise
        full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        again = f"`harness report {name}`{' with the same --storage' if storage else ''}"
        raise UnreportedError(
            f"the trials ran, but their report could not be written: {error}",
            f"{'make room on that disk' if full else 'make the folder writable'}, then run {again}; your trials are safe",
        ) from error


def report_all(
    *, reports: Path = Path("reports"), on_event: Callable[[str], None] = lambda _: None
) -> tuple[list[Written], list[str]]:
    """Make every report in a folder again from its own data, and the pages over all of them. Trials are not needed.

    Args:
        reports: where reports lie.
        on_event: receives the name of each report before it is made.

    Returns:
        What was written, and a sentence for every folder whose report failed.

    Raises:
        ReportError: there is no report.
    """
    folders = sorted(path.parent for path in reports.glob("*/trials.parquet"))
    written, failures = [], []
    for folder in folders:
        on_event(f"making {folder} again")
        try:
            written.append(rebuild(folder))
        except HarnessError as error:
            failures.append(f"{folder.name}: {error.message} ({error.hint})")
    write_index(reports, landing=True)
    return written, failures


def is_part(ledger: Ledger, study: Study) -> bool:
    """Return whether trials have no report of their own: a confirmation is its search's, tried settings are their study's."""
    return is_confirmation(study) or is_retuning(ledger.cells())


def _chosen(names: Sequence[str], there: Sequence[str], where: str, reports: Path) -> list[str]:
    if not (there or names):
        raise ReportError(
            f"there are no trials {where}", "`harness ablate augmentations` makes some"
        )
    chosen: list[str] = []
    for name in names:
        wanted = study_of(name)
        matches = [one for one in there if one == wanted or one.rpartition("-")[0] == wanted]
        if not matches:
            hint = f"there are: {', '.join(there)}" if there else "nothing was run here yet"
            if (reports / name / "trials.parquet").is_file():
                hint = f"`harness report --from {reports / name}` makes its report again"
            raise ReportError(
                f"there are no trials of {name!r} {where}{did_you_mean(name, there)}", hint
            )
        chosen += [one for one in matches if one not in chosen]
    return chosen or list(there)


def from_ledger(
    ledger: Ledger,
    study: Study,
    folder: Path,
    *,
    labels: npt.NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    samples: Mapping[str, npt.NDArray[np.uint8]] | None = None,
    provenance: Provenance | None = None,
    provisional: bool = False,
    **more: Any,
) -> Written:
    """Write a study's report from its ledger.

    Labels, class names, sample images and provenance that are not given are taken over from the
    report that is there.

    Args:
        ledger: open.
        study: under its profile.
        folder: of the report.
        labels: as ``write_report`` takes it.
        classes: as ``write_report`` takes it.
        samples: as ``write_report`` takes it.
        provenance: as ``write_report`` takes it.
        provisional: as ``write_report`` takes it.
        more: the rest of ``write_report``'s arguments.
    """
    trials = ledger.trials()
    artifacts = {trial.cell: ledger.artifact(trial) for trial in trials if trial.epochs}
    if labels is None and (folder / "trials.parquet").is_file():
        before = read_folder(folder)
        labels, classes = before.labels_N, classes or before.classes
        samples, provenance = samples or before.samples, provenance or before.provenance
    return write_report(
        folder,
        study,
        trials,
        curves={key: curve for key, (curve, _) in artifacts.items()},
        outcomes={
            key: outcomes for key, (_, outcomes) in artifacts.items() if outcomes is not None
        },
        attempts=_earlier(ledger, trials),
        labels=labels,
        classes=classes,
        samples=samples,
        incomplete=ledger.counts().open > 0,
        provenance=provenance,
        provisional=provisional,
        changed=ledger.amendments(),
        **more,
    )


def _earlier(ledger: Ledger, trials: Sequence[Trial]) -> list[Trial]:
    """The attempts that were not the last word on their cell: lost, or failed before a retry."""
    failed: dict[str, list[Attempt]] = {}
    for attempt in ledger.attempts():
        if attempt.state == "failed":
            failed.setdefault(attempt.cell, []).append(attempt)
    for trial in trials:
        if trial.state == "failed" and trial.cell in failed:
            failed[trial.cell].pop()
    return [
        Trial(
            cell=attempt.cell,
            seed=attempt.seed,
            recipe=attempt.recipe,
            state="failed",
            error=attempt.error,
            cause="code" if attempt.cause == "code" else "infrastructure",
            started=attempt.started,
            worker=attempt.worker,
        )
        for attempts in failed.values()
        for attempt in attempts
    ]
