"""A search under one profile, on its way from plan through workers and confirmation to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.ablation import REPORTS, RUNS, Job, OnEvent, Outcome, Place, Shifted, command, drain
from harness.design import study_code
from harness.errors import HarnessError, StorageError
from harness.profiles import PROFILES
from harness.space import Search, overrides
from harness.study import Study, load_study
from harness.text import duration
from harness.trial import curve_images, split_words
from harness.tuning.facts import TuneOutcome, TunePlan
from harness.tuning.watch import Watch

if TYPE_CHECKING:
    from harness.launch import LaunchResult
    from harness.ledger import Ledger, Plan
    from harness.report import Provenance, Written
    from harness.search import SearchLedger, Tried
    from harness.train.run import Arena
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


@dataclass(slots=True)
class _Confirmation(Job):
    """The ordinary study of the finalists; its report is the search's."""

    write: Callable[[bool], Written] | None = None

    def report(self, ledger: Ledger, *, provisional: bool = False) -> Written:
        """Write the search's report, with what is confirmed so far."""
        if self.write is None:
            return Job.report(self, ledger, provisional=provisional)
        return self.write(provisional)

    def write_recommended(self, written: Written) -> None:
        """Write nothing: the search's report has the recipe of its winner beside it."""


@dataclass(slots=True)
class SearchJob:
    """A search under one profile, on its way from plan to report."""

    study: Study
    why_profile: str
    ground: Arena
    layout: Layout
    storage: str | None
    artifacts: str | None
    place: Place
    code: str = ""
    source: str = ""
    asked: str = ""

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

        ``source`` is what ``--study`` takes for this study, and ``asked`` the command that makes this search again.
        """
        from harness.train.run import check

        base = study.base_recipe
        ground = check(base)
        for name, entry in study.space.items():
            for end in entry.choices or (entry.low, entry.high):
                value = int(end) if isinstance(end, float) and end == int(end) else end
                found, _ = base.try_overrides(overrides(study.space, {name: value}))
                if found is not None:
                    check(found)
        layout = place.layout(base, device=device, workers=workers)
        return cls(study, why, ground, layout, storage, artifacts, place, study_code(study), source, asked)

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        return REPORTS / self.study.folder

    def already_done(self) -> tuple[int, int]:
        """Return how many trials of the search and of its confirmation are final, touching nothing."""
        from harness.confirm import confirmation, finalists
        from harness.ledger import Ledger
        from harness.search import SearchLedger, slots, tried

        keys = {cell.key for cell in slots(self.study, self.ground.split.fingerprint, self.code)}
        try:
            with SearchLedger.open(self.study.folder, storage=self.storage, runs=RUNS, create=False) as ledger:
                found = [one for one in tried(ledger) if one.row is not None and one.row.user_attrs["cell"] in keys]
        except StorageError:
            return 0, 0
        over = confirmation(self.study, finalists(self.study, found))
        try:
            with Ledger.open(over.folder, storage=self.storage, runs=RUNS, create=False) as ledger_:
                recipes = {over.base_recipe, *(over.base_recipe.with_overrides(arm.set) for arm in over.arms)}
                return len(found), sum(trial.recipe in recipes for trial in ledger_.trials())
        except StorageError:
            return len(found), 0

    def plan_facts(self, searched: int, confirmed: int) -> TunePlan:
        """Return the plan for people, given how many trials are final already."""
        from harness.search.limits import words

        rules, timing, split = self.study.search, self.layout.timing, self.ground.split
        total = count(self.study)
        to_run = max(total - searched - confirmed, 0)
        pruned = f"median pruner after {100 * rules.warmup:.0f} % of the epochs" if rules.pruner == "median" else "no pruner"
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
            train_images=len(split.train_labels_N),
            val_images=len(split.val_labels_N),
            test_images=len(split.test_labels_N),
            report=str(self.folder / "index.html"),
            trials=rules.trials,
            confirm=to_confirm(self.study),
            entries=len(self.study.space),
            how=f"sampler {rules.sampler}, {pruned}",
            limits=words(rules),
        )

    def run(self, deadline: float | None, on_event: OnEvent) -> TuneOutcome:
        """Search, confirm and report."""
        from harness.confirm import confirmation, finalists
        from harness.search import SearchLedger, slots, tried

        cells = slots(self.study, self.ground.split.fingerprint, self.code)
        with SearchLedger.open(self.study.folder, storage=self.storage, artifacts=self.artifacts, runs=RUNS) as ledger:
            ledger.same_search(cells)
            planned = ledger.plan(self._plan(), cells)
            facts = self.plan_facts(planned.kept, self.already_done()[1] if not planned.new else 0)
            on_event(facts)
            result: LaunchResult | None = None
            if planned.new:
                watch = Watch(self.study, ledger, on_event, total=facts.cells, before=planned.kept)
                on_event(watch.progress())
                result = drain(self, self.study, planned.new, deadline, watch)
                if result.error is not None:
                    raise result.error
            searched = ledger.counts()
            failures = [f"trial {one.slot}: {one.row.user_attrs.get('trial', {}).get('error', '')}" for one in tried(ledger)
                        if one.state == "failed" and one.row is not None]  # fmt: skip
            counts = {name: getattr(searched, name) for name in searched.__slots__}
            chosen = finalists(self.study, tried(ledger))
            ended = Outcome("", "", facts)
            if searched.open or not chosen:
                on_event("writing the report")
                index: Path | None = self.write(ledger, provisional=False).index
            else:
                over = confirmation(self.study, chosen)
                ended = self._confirm(over, ledger, chosen, deadline, Shifted(on_event, searched.total, facts.cells))
                index = ended.report  # its report is this search's
                counts = {name: counts[name] + ended.counts.get(name, 0) for name in counts}
                failures += [f"confirmation: {one}" for one in ended.failures]
        interrupted = bool(result and result.interrupted and searched.open) or ended.interrupted
        return self._outcome(facts, index, counts, failures, interrupted=interrupted)

    def write(self, ledger: SearchLedger, *, provisional: bool) -> Written:
        """Write the report over what the ledgers hold."""
        from harness.reporting import trials_kept
        from harness.tuned import report_search

        with nullcontext() if provisional else trials_kept(self.study.folder, storage=self.storage):
            return report_search(
                ledger,
                self.folder,
                storage=self.storage,
                runs=RUNS,
                labels=self.ground.split.val_labels_N.cpu().numpy(),
                classes=self.ground.split.classes,
                provenance=self._provenance(),
                provisional=provisional,
            )

    def _plan(self) -> Plan:
        from harness.ledger import Plan, chance_level
        from harness.train import data

        split = self.ground.split
        return Plan(
            study=self.study,
            data_fingerprint=split.fingerprint,
            code_fingerprint=self.code,
            threads=self.layout.threads,
            device=self.layout.devices[0].partition(":")[0],
            workers=self.layout.workers,
            data_root=str(data.data_root()),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            chance=chance_level(len(split.classes), curve_images(**self._counts())),
        )

    def _confirm(
        self, over: Study, ledger: SearchLedger, chosen: Sequence[Tried], deadline: float | None, on_event: OnEvent
    ) -> Outcome:
        """Run finalists and reference on fresh seeds, as the ordinary study that it is."""
        on_event(f"confirming {', '.join(f'trial {one.slot}' for one in chosen)} and the reference on fresh seeds")
        device = self.layout.devices[0] if len(self.layout.devices) == 1 else "cuda"
        job = _Confirmation.prepare(
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
        job.write = lambda provisional: self.write(ledger, provisional=provisional)  # type: ignore[attr-defined]
        return job.run(deadline, on_event)

    def _counts(self) -> dict[str, int]:
        """Images of each part."""
        return {part: len(getattr(self.ground.split, f"{part}_labels_N")) for part in ("train", "val", "test")}

    def _provenance(self) -> Provenance:
        from harness.report import Provenance
        from harness.worker.provenance import commit

        split, name = self.ground.split, self.study.base_recipe.data.name
        return Provenance(
            commands=(self.asked or self.command(self.study.profile),),
            data=split_words(name, **self._counts()),
            data_fingerprint=split.fingerprint,
            hardware=", ".join(self.layout.devices),
            commit=commit(),
        )

    def command(self, profile: str) -> str:
        """Return the command that runs this search under a profile."""
        source = self.source or self.study.name.removesuffix("-tune")
        return command(source, profile, flags=f"--trials {self.study.search.trials}", verb="tune")

    def next_command(self) -> str:
        """Return the command for the next size up, with what it would cost here; empty at the largest."""
        from harness.train import data
        from harness.train.timing import extrapolate, has_gpu

        if self.study.profile not in PROFILES[:-1]:
            return ""
        profile = PROFILES[PROFILES.index(self.study.profile) + 1]
        try:
            larger = load_study(self.source or self.study.name.removesuffix("-tune")).under(profile)
        except HarnessError:  # a study built in a program has no file to look up
            return ""
        info = next((one for one in data.describe() if one.name == larger.base_recipe.data.name), None)
        if info is None:
            return self.command(profile)
        rate = self.layout.timing.mflops_per_second * self.layout.workers
        each = extrapolate(larger.base_recipe, info.shape_CHW, info.classes, info.images - 10_000, rate)
        seconds = each * count(ruled(larger, {"trials": self.study.search.trials}))
        cost = f"about {duration(seconds)} on this machine, guessed from counted operations"
        if profile == "full" and not has_gpu():
            cost += "; meant for a GPU"
        if not info.present:
            cost += f"; first: {info.how}"
        return f"{self.command(profile)}   # {cost}"

    def _outcome(
        self, facts: TunePlan, index: Path | None, counts: Mapping[str, int], failures: Sequence[str], *, interrupted: bool
    ) -> TuneOutcome:
        from harness.report import read_folder
        from harness.tuned import RECIPE

        told = read_folder(self.folder).tuning
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
