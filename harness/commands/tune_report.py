"""The report of a search: from its ledger and the ledger of its confirmation to facts, document and recipe file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.tuning_facts import Importance, SearchTrial, TuningFacts
from harness.commands.confirm import (
    Judged,
    arm_name,
    confirmation,
    departures,
    finalists,
    judge,
    not_final,
    of_confirmation,
)
from harness.errors import ReportError, StorageError
from harness.ledger import Ledger
from harness.report import Provenance, Written, read_folder, write_report
from harness.report.searched import answer
from harness.search import ENOUGH, SearchLedger, Tried, best, importances, is_search, tried
from harness.search.limits import words
from harness.study.plugin_fields import self_standing
from harness.study.recipe import digest
from harness.study.recipe_file import write_recipe
from harness.study.study import Study
from harness.study.trial import Curve, Outcomes, Trial
from harness.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RECIPE = "recipe.toml"  # the winner: of a search that found nothing, the reference
CANDIDATE = "candidate.toml"  # the best finalist where no improvement is claimed


def report_search(
    ledger: SearchLedger,
    folder: Path,
    *,
    storage: str | None = None,
    runs: Path = Path("runs"),
    labels: npt.NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    provenance: Provenance | None = None,
    provisional: bool = False,
) -> Written:
    """Write the report of a search and, once it is confirmed, the recipe file of its winner.

    Labels, class names and provenance that are not given are taken over from the report that is
    there.

    Args:
        ledger: of the search.
        folder: of the report.
        storage: where the ledger of the confirmation is, as ``Ledger.open`` takes it.
        runs: the folder of all runs.
        labels: as ``write_report`` takes it.
        classes: as ``write_report`` takes it.
        provenance: as ``write_report`` takes it.
        provisional: as ``write_report`` takes it.

    Raises:
        ReportError: nothing was planned, or the folder takes no files.
    """
    plan = ledger.latest_plan()
    if plan is None or not is_search(ledger.cells()):
        raise ReportError(f"{ledger.name} is not a search", "start one with `harness tune`")
    samples: Mapping[str, npt.NDArray[np.uint8]] = {}
    if labels is None and (folder / "trials.parquet").is_file():
        before = read_folder(folder)
        labels, classes = before.labels_N, classes or before.classes
        samples, provenance = before.samples, provenance or before.provenance

    study, slots = plan.study, tried(ledger, plan.study.search)
    chosen = finalists(study, slots)
    over = confirmation(study, chosen)
    # by the rules that the report goes by
    by_rules = partial(judge, over, chosen, _reference(slots), labels=labels, classes=classes)
    judged, curves, outcomes, left = _confirmed(over, by_rules, storage=storage, runs=runs)
    left += ledger.counts().open
    names = {arm_name(finalist) for finalist in chosen}
    at_size = tuple(arm.name for arm in over.arms if arm.name not in names)
    facts = _facts(study, slots, judged, left).model_copy(update={"at_size": at_size})

    # A recipe file is taken for a result: none before every trial has had its say.
    if facts.confirmed is not None and not left and not provisional:
        facts = facts.model_copy(update={"recipe": _write_winner(folder, study, judged)})

    # Its trials are the confirmation's; its name and its question are the search's.
    shown = over.model_copy(
        update={"name": study.name, "question": study.question, "why": study.why}
    )
    return write_report(
        folder,
        shown,
        judged.trials,
        curves=curves,
        outcomes=outcomes,
        labels=labels,
        classes=classes,
        samples=samples,
        incomplete=left > 0,
        provenance=provenance,
        provisional=provisional,
        tuning=facts,
    )


def _reference(slots: Sequence[Tried]) -> Tried | None:
    return slots[0] if slots and slots[0].slot == 0 else None


def _confirmed(
    over: Study,
    judged_by: Callable[[Sequence[Trial]], Judged],
    *,
    storage: str | None,
    runs: Path,
) -> tuple[Judged, dict[str, Curve], dict[str, Outcomes], int]:
    """Return the result of the confirmation, its curves, the outcomes that may be seen, and how many trials are missing."""
    curves: dict[str, Curve] = {}
    outcomes: dict[str, Outcomes] = {}
    try:
        ledger = Ledger.open(over.folder, storage=storage, runs=runs, create=False)
    except StorageError:
        return judged_by(()), curves, outcomes, not_final(over, ()) if over.arms else 0
    with ledger:
        trials = of_confirmation(over, ledger.trials())
        judged = judged_by(trials)
        for trial in judged.trials:
            if trial.epochs:
                curves[trial.cell], kept = ledger.artifact(trial)
                # of finalists that were not chosen, nothing of the test set is looked at
                if kept is not None and "test_accuracy" in trial.metrics:
                    outcomes[trial.cell] = kept
        # arms that the ledger does not plan yet are open, too
        left = max(ledger.counts().open, not_final(over, trials) if over.arms else 0)
        return judged, curves, outcomes, left


def _facts(study: Study, slots: Sequence[Tried], judged: Judged, left: int) -> TuningFacts:
    import numpy as np

    rules, reference = study.search, _reference(slots)
    # shown while nothing is confirmed yet, and where nothing is to be
    top = next(iter(best(slots, 1, besides=study.base_recipe)), None)
    pruner = "none"
    if rules.pruner == "median":
        pruner = f"median, one look after {100 * rules.warmup:.0f} % of the epochs"

    # A generator named after the study: a report made again has the same importances.
    rng = np.random.default_rng(int(digest(["importances", study.folder]), 16))
    shares, floor = importances(slots, rng=rng)
    named = set().union(*(slot.params for slot in slots)) if slots else set()
    left_out = sorted(named - {share.parameter for share in shares}) if shares else []

    return TuningFacts(
        metric="accuracy",
        sampler=rules.sampler,
        pruner=pruner,
        budget=rules.trials,
        history=tuple(_history(slot) for slot in slots),
        best=departures(study, top.recipe) if top else {},
        best_value=top.value if top else None,
        reference_value=reference.value if reference else None,
        importances=tuple(
            Importance(parameter=s.parameter, value=s.value, low=s.low, high=s.high) for s in shares
        ),
        floor=floor.value if floor else None,
        floor_high=floor.high if floor else None,
        space={name: entry.words() for name, entry in study.space.items()},
        limits=words(rules),
        finalists=judged.finalists if judged.confirmed else (),
        confirmed=None if left else judged.confirmed,
        answer=answer(None if left else judged.confirmed, open_trials=left),
        note=_note(slots, shares=bool(shares), left_out=left_out),
    )


def _history(slot: Tried) -> SearchTrial:
    return SearchTrial(
        number=slot.slot,
        state=slot.state,
        value=slot.value,
        epoch=slot.epochs,
        epochs=slot.epochs_planned,
        seconds=slot.seconds,
        gap=slot.gap,
        broken=slot.broken,
        params=dict(slot.params),
    )


def _note(slots: Sequence[Tried], *, shares: bool, left_out: Sequence[str]) -> str:
    sentences = []
    done = sum(slot.value is not None for slot in slots)
    if not shares:
        have = f"there {'is' if done == 1 else 'are'} {done}"
        sentences.append(f"Importances need {ENOUGH} complete trials; {have}.")
        sentences.append("The same command with more --trials searches on.")
    if left_out:
        names = ", ".join(left_out)
        sentences.append(
            f"Without importance, because they take part in some trials only: {names}."
        )
    broken = sum(bool(slot.broken) for slot in slots)
    if broken:
        sentences.append(f"{plural(broken, 'trial')} broke a limit and could not be chosen.")
    return " ".join(sentences)


def _write_winner(folder: Path, study: Study, judged: Judged) -> str:
    """Write the winner's recipe file and, where no improvement is claimed, the best finalist's in the same folder."""
    confirmed = judged.confirmed
    if confirmed is None:
        return ""
    candidate = next((row for row in judged.finalists if row.chosen), None)
    origin = f"{study.folder}, {plural(confirmed.n, 'fresh seed')}"
    verdict = "the reference: nothing was confirmed to beat it"
    if confirmed.improved:
        verdict = "beats the reference"

    base = study.base_recipe.flat()
    write_recipe(
        folder / RECIPE,
        self_standing(judged.winner, base),
        name=f"{study.folder}-winner",
        why=f"{origin}: {verdict}",
    )
    if not confirmed.improved and candidate is not None:
        fields = self_standing(candidate.overrides, base)
        write_recipe(
            folder / CANDIDATE,
            fields,
            name=f"{study.folder}-candidate",
            why=f"{origin}: unconfirmed",
        )
    else:
        # an earlier confirmation, on fewer seeds, may have left one
        (folder / CANDIDATE).unlink(missing_ok=True)
    return RECIPE
