"""A search under one profile, on its way from plan through workers and confirmation to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.choose_profile import command, next_size
from harness.commands.facts import OnEvent, Outcome
from harness.commands.follow import Follower, counted
from harness.commands.place import RUNS, Place
from harness.commands.run import Job
from harness.commands.setup import Setup
from harness.commands.tune_facts import TuneOutcome, TunePlan
from harness.errors import StorageError
from harness.study.fingerprints import study_code
from harness.study.space import Search, overrides
from harness.study.study import Study
from harness.study.trial import Trial

if TYPE_CHECKING:
    from harness.report import Written
    from harness.search import SearchLedger, Tried
    from harness.train.parts import Arena
    from harness.train.timing import Layout


def ruled(study: Study, rules: Mapping[str, Any]) -> Study:
    """Return the study with rules of its search replaced, under a name of its own where it also has arms."""
    name = f"{study.name}-tune" if study.arms or study.factors else study.name
    search = Search.model_validate({**study.search.model_dump(), **rules})
    return study.model_copy(update={"search": search, "name": name})


def count(study: Study) -> int:
    """Return how many trials a search takes, its confirmation included."""
    confirmed = to_confirm(study)
    return study.search.trials + (confirmed + 1) * study.seeds * bool(confirmed)


def to_confirm(study: Study) -> int:
    """Return how many finalists a search has, unless trials that are stopped leave fewer: the reference is none."""
    return min(study.search.confirm, study.search.trials - 1)


@dataclass(slots=True, kw_only=True)
class SearchJob(Setup):
    """A search under one profile, on its way from plan to report."""

    ground: Arena
    layout: Layout
    source: str = ""
    asked: str = ""
    written: Written | None = None

    @classmethod
    def prepare(
        cls,
        study: Study,
        why: str,
        *,
        workers: int | None,
        device: str,
        storage: str | None,
        artifacts: str | None,
        place: Place,
        source: str = "",
        asked: str = "",
    ) -> SearchJob:
        """Check reference and space against the images and time a few steps, so that what cannot run fails at once.

        ``source`` is what ``--study`` takes for this study, and ``asked`` the command that makes
        this search again.
        """
        from harness.train.check import check

        base = study.base_recipe
        ground = check(base)
        for name, entry in study.space.items():
            for end in entry.choices or (entry.low, entry.high):
                value = int(end) if isinstance(end, float) and end == int(end) else end
                found, _ = base.try_overrides(overrides(study.space, {name: value}))
                if found is not None:
                    check(found)
        layout = place.layout(base, device=device, workers=workers)
        return cls(
            study=study,
            why_profile=why,
            ground=ground,
            layout=layout,
            storage=storage,
            artifacts=artifacts,
            place=place,
            code=study_code(study),
            source=source,
            asked=asked,
        )

    def already_done(self) -> tuple[int, int]:
        """Return how many trials of the search and of its confirmation are final, touching nothing."""
        from harness.commands.confirm import confirmation, finalists
        from harness.ledger import Ledger
        from harness.search import SearchLedger, slots, tried

        keys = {cell.key for cell in slots(self.study, self.fingerprint, self.code)}
        try:
            with SearchLedger.open(
                self.study.folder, storage=self.storage, runs=RUNS, create=False
            ) as ledger:
                found = [
                    one
                    for one in tried(ledger)
                    if one.row is not None and one.row.user_attrs["cell"] in keys
                ]
        except StorageError:
            return 0, 0
        over = confirmation(self.study, finalists(self.study, found))
        try:
            with Ledger.open(over.folder, storage=self.storage, runs=RUNS, create=False) as ledger_:
                recipes = {
                    over.base_recipe,
                    *(over.base_recipe.with_overrides(arm.set) for arm in over.arms),
                }
                return len(found), sum(trial.recipe in recipes for trial in ledger_.trials())
        except StorageError:
            return len(found), 0

    def plan_facts(self, searched: int, confirmed: int) -> TunePlan:
        """Return the plan for people, given how many trials are final already."""
        from harness.search.limits import words

        rules, timing, images = self.study.search, self.layout.timing, self.image_counts()
        total = count(self.study)
        to_run = max(total - searched - confirmed, 0)
        pruned = (
            f"median pruner after {100 * rules.warmup:.0f} % of the epochs"
            if rules.pruner == "median"
            else "no pruner"
        )
        return TunePlan(
            study=self.study.name,
            question=self.study.question,
            profile=self.study.profile,
            why_profile=self.why_profile,
            arms=to_confirm(self.study) + 1,
            seeds=self.study.seeds,
            cells=total,
            to_run=to_run,
            device=", ".join(self.layout.devices),
            workers=self.layout.workers,
            threads=self.layout.threads,
            why_workers=self.layout.why,
            engine=f"{self.layout.engine}: {self.layout.why_engine}",
            seconds_per_trial=timing.seconds,
            seconds=timing.seconds * to_run / min(self.layout.workers, max(to_run, 1)),
            estimated_from=f"from {timing.steps} timed steps",
            data=self.study.base_recipe.data.name,
            train_images=images["train"],
            val_images=images["val"],
            test_images=images["test"],
            report=str(self.folder / "index.html"),
            trials=rules.trials,
            confirm=to_confirm(self.study),
            entries=len(self.study.space),
            how=f"sampler {rules.sampler}, {pruned}",
            limits=words(rules),
        )

    def run(self, deadline: float | None, on_event: OnEvent) -> TuneOutcome:
        """Search, confirm and report."""
        from harness.commands.confirm import confirmation, finalists
        from harness.search import SearchLedger, slots, tried

        cells = slots(self.study, self.fingerprint, self.code)
        with SearchLedger.open(
            self.study.folder, storage=self.storage, artifacts=self.artifacts, runs=RUNS
        ) as ledger:
            ledger.same_search(cells)
            planned = ledger.plan(self.plan(self.study), cells)
            facts = self.plan_facts(planned.kept, self.already_done()[1] if not planned.new else 0)
            on_event(facts)
            watch = _Watch(self.study, ledger, on_event, total=facts.cells, before=planned.kept)
            result = self.drain(self.study, planned.new, deadline, watch)
            if result is not None and result.error is not None:
                raise result.error
            searched = ledger.counts()
            failures = [
                f"trial {one.slot}: {one.row.user_attrs.get('trial', {}).get('error', '')}"
                for one in tried(ledger)
                if one.state == "failed" and one.row is not None
            ]
            counts = {name: getattr(searched, name) for name in searched.__slots__}
            chosen = finalists(self.study, tried(ledger))
            ended = Outcome("", "", facts)
            if searched.open or not chosen:
                on_event("writing the report")
                index: Path | None = self.write(ledger, provisional=False).index
            else:
                over = confirmation(self.study, chosen)
                ended = self._confirm(
                    over,
                    ledger,
                    chosen,
                    deadline,
                    counted(on_event, before=searched.total, total=facts.cells),
                )
                index = ended.report  # its report is this search's
                counts = {name: counts[name] + ended.counts.get(name, 0) for name in counts}
                failures += [f"confirmation: {one}" for one in ended.failures]
        interrupted = bool(result and result.interrupted and searched.open) or ended.interrupted
        return self._outcome(facts, index, counts, failures, interrupted=interrupted)

    def write(self, ledger: SearchLedger, *, provisional: bool) -> Written:
        """Write the report over what the ledgers hold."""
        from harness.commands.report import trials_kept
        from harness.commands.tune_report import report_search
        from harness.ledger.provenance import commit

        with nullcontext() if provisional else trials_kept(self.study.folder, storage=self.storage):
            self.written = report_search(
                ledger,
                self.folder,
                storage=self.storage,
                runs=RUNS,
                labels=self.ground.split.val_labels_N.cpu().numpy(),
                classes=self.ground.split.classes,
                provenance=self.provenance(
                    self.asked or self.command(self.study.profile),
                    hardware=", ".join(self.layout.devices),
                    commit=commit(),
                ),
                provisional=provisional,
            )
        return self.written

    def _confirm(
        self,
        over: Study,
        ledger: SearchLedger,
        chosen: Sequence[Tried],
        deadline: float | None,
        on_event: OnEvent,
    ) -> Outcome:
        """Run finalists and reference on fresh seeds, as the ordinary study that it is."""
        on_event(
            f"confirming {', '.join(f'trial {one.slot}' for one in chosen)} and the reference on fresh seeds"
        )
        device = self.layout.devices[0]
        if len(self.layout.devices) > 1:
            device = device.partition(":")[0]
        job = Job.prepare(
            over,
            self.why_profile,
            workers=self.layout.workers,
            device=device,
            place=self.place,
            storage=self.storage,
            artifacts=self.artifacts,
            screen=False,
            retry_failed=False,
        )
        job.write = lambda provisional: self.write(ledger, provisional=provisional)
        return job.run(deadline, on_event)

    def command(self, profile: str) -> str:
        """Return the command that runs this search under a profile."""
        source = self.source or self.study.name.removesuffix("-tune")
        return command(source, profile, flags=f"--trials {self.study.search.trials}", verb="tune")

    def next_command(self) -> str:
        """Return the command for the next size up, with what it would cost here; empty at the largest."""
        name, trials = (
            self.source or self.study.name.removesuffix("-tune"),
            self.study.search.trials,
        )
        return next_size(
            self.study,
            self.layout,
            name,
            line=self.command,
            trials=lambda larger: count(ruled(larger, {"trials": trials})),
        )

    def _outcome(
        self,
        facts: TunePlan,
        index: Path | None,
        counts: Mapping[str, int],
        failures: Sequence[str],
        *,
        interrupted: bool,
    ) -> TuneOutcome:
        from harness.commands.tune_report import RECIPE

        told = self.written.tuning if self.written is not None else None
        confirmed = told.confirmed if told is not None else None
        left = counts["waiting"] + counts["running"]
        return TuneOutcome(
            study=self.study.name,
            profile=self.study.profile,
            plan=facts,
            answer=told.answer if told is not None else "",
            report=index,
            counts=counts,
            interrupted=bool(interrupted and left),
            out_of_time=bool(left and not interrupted),
            failures=failures,
            next_command=self.next_command(),
            recipe=self.folder / RECIPE if confirmed is not None else None,
            improved=confirmed.improved if confirmed is not None else None,
        )


class _Watch(Follower):
    """Follows the workers of a search: the best score so far."""

    def __init__(
        self, study: Study, ledger: SearchLedger, on_event: OnEvent, *, total: int, before: int
    ) -> None:
        from harness.search import tried

        super().__init__(study.folder, on_event, done=before, total=total, before=before)
        self._study = study
        self._scores = {
            slot.slot: slot.value
            for slot in tried(ledger)
            if slot.value is not None and not slot.broken
        }

    def note(self) -> str:
        """Return the best score so far."""
        best = max(self._scores.items(), key=lambda item: (item[1], -item[0]), default=None)
        return f"best search score {100 * best[1]:.1f} %, trial {best[0]}" if best else ""

    def line(self, trial: Trial) -> str:
        """Return the score of a trial, or why it has none."""
        from harness.search.limits import excess
        from harness.search.search_ledger import slot_of

        slot = slot_of(trial.cell)
        name = f"trial {slot}{' (reference)' if slot == 0 else ''}"
        if trial.state != "complete":
            told = f": {trial.error}" if trial.error else ""
            return f"{name}: {trial.state} at epoch {trial.epochs} of {trial.recipe.train.epochs}{told}"
        m = trial.metrics
        broken = [limit for limit, value in excess(self._study.search, trial).items() if value > 0]
        if not broken:
            self._scores[slot] = m["accuracy"]
        beyond = f", beyond the limit on {', '.join(broken)}" if broken else ""
        scores = f"val {100 * m['accuracy']:.1f} %, gap {100 * m.get('gap', 0.0):.1f} pp"
        return f"{name}: {scores}, {trial.train_seconds:.1f} s{beyond}"
