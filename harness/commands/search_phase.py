"""A phase of a search: one search under one profile, from plan to the report that its confirmation completes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.commands.arms_phase import ArmsPhase
from harness.commands.choose_profile import command, next_size
from harness.commands.facts import OnEvent, TuneOutcome, TunePlan
from harness.commands.place import RUNS, Place
from harness.commands.run import Ended, Phase, run_phases, summed
from harness.errors import StorageError
from harness.study.fingerprints import study_code
from harness.study.space import Search, overrides
from harness.study.study import Study
from harness.study.trial import Trial, complete

if TYPE_CHECKING:
    from harness.ledger import Planned
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
    """Return how many trials a search takes at most, its confirmation included."""
    confirmed = to_confirm(study)
    arms = confirmed + 1 + sizes(study) if confirmed else 0
    return study.search.trials + arms * study.seeds


def sizes(study: Study) -> int:
    """Return at how many sizes the reference is run again at most: those of finalists that differ from it."""
    from harness.commands.confirm import varies_size

    return to_confirm(study) if varies_size(study) else 0


def to_confirm(study: Study) -> int:
    """Return how many finalists a search has, unless trials that are stopped leave fewer: the reference is none."""
    return min(study.search.confirm, study.search.trials - 1)


@dataclass(slots=True, kw_only=True)
class SearchPhase(Phase):
    """A search under one profile: its cells are slots, whose recipes are chosen as they are claimed.

    Attributes:
        source: what ``--study`` takes for this study.
        asked: the command that makes this search again.
        chosen: the finalists, once every slot is final.
        report: what was written last.
    """

    ground: Arena
    layout: Layout
    source: str = ""
    asked: str = ""
    larger: Callable[[str], str] | None = None
    chosen: Sequence[Tried] = ()
    report: Written | None = None

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
        larger: Callable[[str], str] | None = None,
    ) -> SearchPhase:
        """Check reference and space against the images and time a few steps, so that what cannot run fails at once.

        ``source`` is what ``--study`` takes for this study, and ``asked`` the command that makes
        this search again; ``larger`` gives that command for another profile.
        """
        from harness.search import slots
        from harness.train.check import check

        base, code = study.base_recipe, study_code(study)
        ground = check(base)

        # The ends of every entry: the largest net and the largest batch are where memory ends.
        for name, entry in study.space.items():
            for end in entry.choices or (entry.low, entry.high):
                value = int(end) if isinstance(end, float) and end == int(end) else end
                # an end that makes no recipe on its own may make one together with other values
                recipe, _ = base.try_overrides(overrides(study.space, {name: value}))
                if recipe is not None:
                    check(recipe)

        return cls(
            study=study,
            why_profile=why,
            ground=ground,
            layout=place.layout(base, device=device, workers=workers),
            storage=storage,
            artifacts=artifacts,
            place=place,
            code=code,
            cells=slots(study, ground.split.fingerprint, code),
            later=count(study) - study.search.trials,
            source=source,
            asked=asked,
            larger=larger,
        )

    def already_done(self) -> tuple[int, int, int]:
        """Return how many trials of the search and of its confirmation are final, and how many the latter has; touch nothing.

        Until the search is done it is not known who is confirmed, and the last number is the most
        that it can be.
        """
        from harness.commands.confirm import confirmation, finalists, of_confirmation
        from harness.ledger import Ledger
        from harness.search import tried

        keys = {cell.key for cell in self.cells}
        try:
            with self.open(create=False) as ledger:
                done = [
                    slot
                    for slot in tried(ledger, self.study.search)
                    if slot.row is not None and slot.row.user_attrs["cell"] in keys
                ]
        except StorageError:
            return 0, 0, self.later

        # more trials may change who the finalists are, and so what of the confirmation counts
        over = confirmation(self.study, finalists(self.study, done))
        later = self.later
        if len(done) == len(self.cells):
            later = (len(over.arms) + 1) * over.seeds if over.arms else 0
        try:
            with Ledger.open(over.folder, storage=self.storage, runs=RUNS, create=False) as ledger_:
                return len(done), len(of_confirmation(over, ledger_.trials())), later
        except StorageError:
            return len(done), 0, later

    def check(self, ledger: SearchLedger) -> None:
        """Check that what was tried before belongs to this search."""
        ledger.same_search(self.cells)

    def plan_facts(self, ledger: SearchLedger, planned: Planned) -> TunePlan:  # noqa: ARG002
        """Return the plan for people; where trials of the search are to be run, none of its confirmation counts."""
        if planned.new:
            return self.facts(planned.kept, 0, self.later)
        return self.facts(planned.kept, *self.already_done()[1:])

    def facts(self, searched: int, confirmed: int, later: int) -> TunePlan:
        """Return the plan for people, given what ``already_done`` says."""
        from harness.search.limits import words

        rules, timing, images = self.study.search, self.layout.timing, self.image_counts()
        total = rules.trials + later
        to_run = max(total - searched - confirmed, 0)
        pruned = "no pruner"
        if rules.pruner == "median":
            pruned = f"median pruner after {100 * rules.warmup:.0f} % of the epochs"

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
            sizes=max(later // self.study.seeds - to_confirm(self.study) - 1, 0),
            entries=len(self.study.space),
            how=f"sampler {rules.sampler}, {pruned}",
            limits=words(rules),
        )

    def note(self, trials: Collection[Trial]) -> str:
        """Return the best score so far."""
        from harness.search.limits import excess
        from harness.search.search_ledger import slot_of

        scores = [
            (trial.metrics["accuracy"], -slot_of(trial.cell))
            for trial in complete(trials)
            if not any(value > 0 for value in excess(self.study.search, trial).values())
        ]
        if not scores:
            return ""
        score, place = max(scores)
        return f"best search score {100 * score:.1f} %, trial {-place}"

    def line(self, trial: Trial) -> str:
        """Return the score of a trial, or why it has none."""
        from harness.search.limits import excess
        from harness.search.search_ledger import slot_of

        slot = slot_of(trial.cell)
        name = f"trial {slot}{' (reference)' if slot == 0 else ''}"
        if trial.state != "complete":
            why = f": {trial.error}" if trial.error else ""
            epochs = f"epoch {trial.epochs} of {trial.recipe.train.epochs}"
            return f"{name}: {trial.state} at {epochs}{why}"

        broken = [limit for limit, value in excess(self.study.search, trial).items() if value > 0]
        beyond = f", beyond the limit on {', '.join(broken)}" if broken else ""
        accuracy, gap = trial.metrics["accuracy"], trial.metrics.get("gap", 0.0)
        scores = f"val {100 * accuracy:.1f} %, gap {100 * gap:.1f} pp"
        return f"{name}: {scores}, {trial.train_seconds:.1f} s{beyond}"

    def failure(self, trial: Trial) -> str:
        """Return slot and error."""
        from harness.search.search_ledger import slot_of

        return f"trial {slot_of(trial.cell)}: {trial.error}"

    def finish(self, ledger: SearchLedger, on_event: OnEvent) -> Written | None:
        """Choose the finalists; where there are none, or not yet, write the report, which else follows on their trials."""
        from harness.commands.confirm import finalists
        from harness.search import tried

        if not ledger.counts().open:
            self.chosen = finalists(self.study, tried(ledger, self.study.search))
        if self.chosen:
            return None
        on_event("writing the report")
        return self.write(ledger, provisional=False)

    def write(self, ledger: SearchLedger, *, provisional: bool) -> Written:
        """Write the report over what the ledgers hold."""
        from harness.commands.report import trials_kept
        from harness.commands.tune_report import report_search
        from harness.ledger.provenance import commit

        # a provisional report that cannot be written ends nothing
        with nullcontext() if provisional else trials_kept(self.study.folder, storage=self.storage):
            self.report = report_search(
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
        return self.report

    def confirming(self, on_event: OnEvent) -> ArmsPhase:
        """Return the ordinary study of finalists and reference on fresh seeds, which writes this search's report."""
        from harness.commands.confirm import confirmation

        over = confirmation(self.study, self.chosen)
        names = ", ".join(arm.name for arm in over.arms)
        on_event(f"confirming {names} and the reference on fresh seeds")

        # Laid out as the search was, over all GPUs where there are several.
        device = self.layout.devices[0]
        if len(self.layout.devices) > 1:
            device = device.partition(":")[0]

        phase = ArmsPhase.prepare(
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
        phase.part = "confirmation: "
        phase.write = self.write_again
        return phase

    def write_again(self, provisional: bool) -> Written:  # noqa: FBT001 - as the phase calls it
        """Write the report while, or after, the finalists run."""
        with self.open(create=False) as ledger:
            return self.write(ledger, provisional=provisional)

    def run_all(self, deadline: float | None, on_event: OnEvent) -> TuneOutcome:
        """Search, confirm and report."""

        def phases() -> Iterator[Phase]:
            yield self
            if self.chosen:
                yield self.confirming(on_event)

        return self._outcome(run_phases(phases(), deadline, on_event))

    def command(self, profile: str) -> str:
        """Return the command that runs this search under a profile."""
        source = self.source or self.study.name.removesuffix("-tune")
        return command(source, profile, flags=f"--trials {self.study.search.trials}", verb="tune")

    def next_command(self) -> str:
        """Return the command for the next size up, with what it would cost here; empty at the largest."""
        name = self.source or self.study.name.removesuffix("-tune")
        trials = self.study.search.trials
        return next_size(
            self.study,
            self.layout,
            name,
            line=self.larger or self.command,
            trials=lambda larger: count(ruled(larger, {"trials": trials})),
        )

    def at_size(self) -> tuple[str, ...]:
        """Return the arms of the report that are the reference at a finalist's size."""
        tuning = self.report.tuning if self.report is not None else None
        return tuning.at_size if tuning is not None else ()

    def _outcome(self, ended: Sequence[Ended]) -> TuneOutcome:
        from harness.commands.tune_report import RECIPE

        written = ended[-1].written
        tuning = self.report.tuning if self.report is not None else None
        confirmed = tuning.confirmed if tuning is not None else None

        return TuneOutcome(
            study=self.study.name,
            profile=self.study.profile,
            answer=tuning.answer if tuning is not None else "",
            report=written.index if written is not None else None,
            next_command=self.next_command(),
            recipe=self.folder / RECIPE if confirmed is not None else None,
            improved=confirmed.improved if confirmed is not None else None,
            **summed(ended),
        )
