"""A study as it is beside the same with every arm retuned: joined numbers, the section, and a real run from plan to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from harness.analysis import Analysis, Pair, Retuned, Retuning, Setting, analyze, join
from harness.commands.ablate import ablate
from harness.commands.all_studies import ablate_all
from harness.commands.facts import PlanFacts, ProgressFacts
from harness.commands.report import report
from harness.commands.retune import retuning_of
from harness.errors import HarnessError, ReportError
from harness.ledger import Ledger
from harness.report import Written, read_analysis, read_folder, rebuild, write_report
from harness.report.retuned import sentence
from harness.study.arms import arms
from harness.study.retune_settings import RETUNING_SEED, is_retuning
from harness.study.study import Study, parse_study
from harness.study.trial import Trial
from tests.planted import planted, replaced, study_of, switched

FEW = {"train.epochs": 3, "train.batch_size": 10, "data.train": 100, "data.val": 100}


def facts(retuned: Study, trials: list[Trial], **more: Any) -> Retuning:
    """What is kept of a retuned study with these trials."""
    found = analyze(retuned, trials)
    settings = tuple(
        Setting(arm=arm.name, chosen={"schedule.max_lr": 0.004}, score=61.0, complete=8)
        for arm in arms(retuned)
    )
    effects = tuple(one for one in found.effects if one.metric == "accuracy")
    levels = tuple(one for one in found.summaries if one.metric == "accuracy")
    return Retuning(
        entries={"schedule.max_lr": "0.001 to 0.1, log"},
        tries=8,
        settings=settings,
        effects=effects,
        summaries=levels,
        **more,
    )


def joined(study: Study, before: list[Trial], after: list[Trial]) -> Retuned:
    return join(analyze(study, before), facts(study, after))


def pair_of(found: Retuned, term: str) -> Pair:
    return next(pair for pair in found.pairs if pair.term == term)


def told(before: dict[str, float], after: dict[str, float], *names: str, sd: float = 0.1) -> str:
    study = study_of(*names)
    analysis = analyze(study, planted(study, before, sd=sd))
    return sentence(
        analysis.model_copy(
            update={"retuned": join(analysis, facts(study, planted(study, after, sd=sd, rng=1)))}
        )
    )


def test_a_verdict_that_turns_flips() -> None:
    study = study_of("a", "b")
    found = joined(
        study, planted(study, {"a": -2.0, "b": 2.0}), planted(study, {"a": 2.0, "b": 2.0}, rng=1)
    )
    assert [(pair.term, pair.change_of_verdict) for pair in found.pairs] == [
        ("a", "flips"),
        ("b", ""),
    ]
    assert found.flips == 1


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ((-2.0, 0.1), (0.0, 0.1), "flips"),
        ((2.0, 0.1), (0.0, 2.0), "no longer resolved"),
        ((0.0, 2.0), (2.0, 0.1), "resolves"),
    ],
)
def test_a_verdict_that_appears_or_goes_is_told_apart_from_one_that_turns(
    before: tuple[float, float], after: tuple[float, float], change: str
) -> None:
    study = study_of("a")
    found = joined(
        study,
        planted(study, {"a": before[0]}, sd=before[1]),
        planted(study, {"a": after[0]}, sd=after[1], rng=1),
    )
    assert pair_of(found, "a").change_of_verdict == change


def test_the_change_of_an_effect_has_the_paired_t_interval_of_scipy() -> None:
    study = study_of("a")
    found = pair_of(
        joined(study, planted(study, {"a": 1.0}), planted(study, {"a": 2.0}, rng=1)), "a"
    )
    theirs = scipy_stats.ttest_rel(found.retuned.differences, found.as_is.differences)
    interval = theirs.confidence_interval(0.95)
    assert (found.change, found.low, found.high) == pytest.approx(
        (
            sum(found.retuned.differences) / 10 - sum(found.as_is.differences) / 10,
            interval.low,
            interval.high,
        )
    )


def test_effects_on_other_seeds_are_shown_without_a_change() -> None:
    study = study_of("a")
    after = replaced(planted(study, rng=1), study, "a", 3, state="failed")
    before = replaced(planted(study), study, "a", 4, state="failed")
    found = pair_of(joined(study, before, after), "a")
    assert (found.change, found.low, found.high) == (None, None, None)


def test_what_retuning_gained_is_paired_over_the_studys_seeds() -> None:
    study = study_of("a")
    before, after = planted(study), planted(study, {"a": 1.0}, rng=1)
    found = next(one for one in joined(study, before, after).settings if one.arm == "a")
    scores = [
        [100 * t.metrics["accuracy"] for t in trials if t.recipe == arms(study)[1].recipe]
        for trials in (after, before)
    ]
    interval = scipy_stats.ttest_rel(*scores).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_main_effects_stand_side_by_side_in_a_factorial() -> None:
    study = switched("factorial", "crop", "jitter")
    found = joined(study, planted(study), planted(study, rng=1))
    assert {(pair.term, pair.as_is.kind) for pair in found.pairs} == {
        ("crop", "main"),
        ("jitter", "main"),
    }
    assert all(pair.change is not None for pair in found.pairs)


def test_the_sentence_names_the_flips_with_both_verdicts() -> None:
    assert told({"a": -2.0}, {"a": 2.0}, "a", "b") == (
        "With every arm retuned, 1 of 2 verdicts flips: a (worse as it is, better retuned) flips."
    )


def test_the_sentence_says_that_all_stay() -> None:
    assert (
        told({"a": -2.0}, {"a": -1.5}, "a", "b") == "With every arm retuned, all 2 verdicts stay."
    )


def test_the_sentence_says_what_is_left_to_run() -> None:
    study = study_of("a")
    analysis = analyze(study, planted(study))
    waiting = join(analysis, Retuning(missing=12))
    assert sentence(analysis.model_copy(update={"retuned": waiting})).startswith(
        "Retuning is not finished (12 trials left)"
    )


def study() -> Study:
    raw = {
        "question": "Does crop matter once the rate is retuned?",
        "margin_pp": 1.0,
        "seeds": 3,
        "arms": [{"name": "no-crop", "set": {"augment.crop": 0}}],
        "space": {"schedule.max_lr": {"low": 3e-3, "high": 0.1, "log": True}},
        "search": {"retune_trials": 3},
        "retune": "schedule.max_lr",
    }
    return parse_study(raw, name="again")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    """A study of two arms with its retuning, in a folder of its own."""
    folder = tmp_path_factory.mktemp("retune")
    events: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = ablate(
            study(),
            profile="quick",
            seeds=3,
            overrides=FEW,
            workers=2,
            device="cpu",
            on_event=events.append,
        )
    return folder, outcome, events


def retuned_in(folder: Path) -> Retuned:
    found = read_analysis(folder / "reports" / "again-quick").retuned
    assert found is not None
    return found


def test_every_arm_is_tried_at_its_whole_budget_and_run_over_the_studys_seeds(
    ran: tuple[Path, Any, list[Any]],
) -> None:
    folder, outcome, _ = ran
    assert outcome.exit_code == 0
    totals = []
    for name in ("again-quick", "again-retuning-quick", "again-retuned-quick"):
        with Ledger.open(name, runs=folder / "runs", create=False) as ledger:
            totals.append(
                (
                    ledger.counts().total,
                    ledger.counts().final,
                    {trial.seed for trial in ledger.trials()},
                )
            )
    assert totals == [(6, 6, {0, 1, 2}), (6, 6, {RETUNING_SEED}), (6, 6, {0, 1, 2})]
    assert outcome.counts["total"] == 18


def test_nothing_of_the_test_set_is_kept_while_settings_are_tried(
    ran: tuple[Path, Any, list[Any]],
) -> None:
    with Ledger.open("again-retuning-quick", runs=ran[0] / "runs", create=False) as ledger:
        assert is_retuning(ledger.cells())
        trials = ledger.trials()
        assert all("accuracy" in trial.metrics for trial in trials)
        assert not any(name.startswith("test_") for trial in trials for name in trial.metrics)
        assert all(ledger.artifact(trial)[1] is None for trial in trials)


def test_the_plan_says_what_retuning_adds_and_the_bar_ends_at_all_of_it(
    ran: tuple[Path, Any, list[Any]],
) -> None:
    _, _, events = ran
    (plan,) = [event for event in events if isinstance(event, PlanFacts)]
    assert (plan.cells, plan.retune_trials) == (6, 12)
    assert "2 arms x 3 settings = 6 trials, then at most 6 trials" in "\n".join(plan.lines())
    last = [event for event in events if isinstance(event, ProgressFacts)][-1]
    assert (last.done, last.total) == (18, 18)


def test_the_report_shows_every_verdict_as_it_is_and_retuned(
    ran: tuple[Path, Any, list[Any]],
) -> None:
    folder, outcome, _ = ran
    assert outcome.report == Path("reports/again-quick/index.html")
    found = retuned_in(folder)
    assert [(pair.term, pair.as_is.n, pair.retuned.n) for pair in found.pairs] == [
        ("no-crop", 3, 3)
    ]
    assert (found.tries, found.missing, [one.arm for one in found.settings]) == (
        3,
        0,
        ["reference", "no-crop"],
    )
    page, text = (
        (folder / outcome.report).with_name(name).read_text()
        for name in ("index.html", "report.md")
    )
    assert 'id="retuned"' in page
    assert "## Retuned" in text
    assert all("With every arm retuned" in told for told in (page, text, outcome.answer))


def test_a_retuned_arm_has_its_chosen_setting_in_the_retuned_study(
    ran: tuple[Path, Any, list[Any]],
) -> None:
    chosen = {one.arm: one.chosen for one in retuned_in(ran[0]).settings if one.chosen}
    assert read_folder(ran[0] / "reports" / "again-retuned-quick").study.settings == chosen


def test_the_section_is_rebuilt_from_the_folder_byte_by_byte(
    ran: tuple[Path, Any, list[Any]], tmp_path: Path
) -> None:
    folder = ran[0] / "reports" / "again-quick"
    again = rebuild(folder, into=tmp_path / "copy").folder
    names = ("analysis.json", "report.md", "retuning.json", "effects.csv", "index.html")
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_reports_are_written_again_from_the_runs_with_the_same_numbers(
    ran: tuple[Path, Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran[0])
    before = (ran[0] / "reports" / "again-quick" / "analysis.json").read_bytes()
    assert [one.folder.name for one in report(["again"])] == ["again-quick"]
    assert (ran[0] / "reports" / "again-quick" / "analysis.json").read_bytes() == before


def test_tried_settings_have_no_report_of_their_own(
    ran: tuple[Path, Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran[0])
    with pytest.raises(ReportError, match="part of"):
        report(["again-retuning"])


def test_before_its_first_plan_there_is_nothing_of_retuning(tmp_path: Path) -> None:
    assert retuning_of(study().under("quick"), runs=tmp_path / "runs") is None


def test_a_study_without_validation_images_cannot_be_retuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match=r"data\.val leaves none"):
        ablate(
            study(),
            profile="quick",
            overrides={**FEW, "data.val": 0},
            workers=1,
            device="cpu",
            dry_run=True,
        )


def test_the_cost_of_all_studies_counts_what_retuning_adds_and_what_of_it_is_left(
    ran: tuple[Path, Any, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "profile": "quick",
        "seeds": 3,
        "overrides": FEW,
        "workers": 2,
        "device": "cpu",
        "dry_run": True,
    }
    told = []
    for folder in (tmp_path, ran[0]):
        monkeypatch.chdir(folder)
        file = tmp_path / "again.toml"
        file.write_text(study().to_toml(), encoding="utf-8")
        told.append(ablate_all((str(file),), **options).plan)
    assert [[(share.trials, share.to_run) for share in plan.shares] for plan in told] == [
        [(18, 18)],
        [(18, 0)],
    ]
    assert told[0].seconds > 0 == told[1].seconds
    assert told[0].rows()[-1][:3] == ("in all", "18", "18")


def test_a_screening_retunes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = ablate(
        study(), profile="quick", overrides=FEW, workers=1, device="cpu", screen=True, dry_run=True
    )
    assert outcome.plan.retune_trials == 0


def test_a_folder_without_retuning_has_neither_section_nor_file(tmp_path: Path) -> None:
    which = study_of("a")
    written: Written = write_report(tmp_path / "plain", which, planted(which), provisional=True)
    assert "retuning.json" not in written.files
    assert 'id="retuned"' not in written.index.read_text()
    content = json.loads((written.folder / "analysis.json").read_bytes())
    assert Analysis.model_validate(content).retuned is None
