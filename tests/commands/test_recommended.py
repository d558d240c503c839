from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.choose_profile import next_size, recommended_study
from harness.errors import UsageError
from harness.report import write_report
from harness.study.arms import arms
from harness.study.cells import seeds
from harness.study.study import load_study
from tests.planted import planted, study_of


def test_a_recommendation_is_run_on_seeds_that_the_report_never_saw(tmp_path: Path) -> None:
    study = study_of("a", "b")
    write_report(tmp_path / study.folder, study, planted(study, {"b": 3.0}))
    fewer = study.model_copy(update={"seeds": 3})
    follow_up = recommended_study(fewer, tmp_path)
    assert len(seeds(follow_up)) == 3
    assert not set(seeds(follow_up)) & set(seeds(study))
    assert [arm.name for arm in arms(follow_up)] == [study.baseline, "recommended"]
    assert arms(follow_up)[0].recipe == arms(study)[0].recipe


def test_without_a_report_nothing_is_recommended(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no report yet"):
        recommended_study(study_of("a"), tmp_path)


def test_a_report_without_a_better_arm_recommends_nothing_to_run(tmp_path: Path) -> None:
    study = study_of("a")
    write_report(tmp_path / study.folder, study, planted(study))
    with pytest.raises(UsageError, match="recommends its baseline"):
        recommended_study(study, tmp_path)


def test_the_next_size_is_named_without_running_code_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.train.timing import choose_layout

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "def build(*, classes):\n    raise SystemExit('built for other images')\n", encoding="utf-8"
    )
    layout = choose_layout(
        load_study("dropout").under("quick").base_recipe, device="cpu", workers=1
    )
    for name in ("net.py:build", "nowhere.py:build"):
        head = f'question = "?"\nmargin_pp = 1.0\n[base]\nmodel.name = "{name}"\n'
        text = head + '[[arms]]\nname = "a"\nset = { "augment.crop" = 0 }\n'
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        under = load_study("mine.toml").under("quick")
        assert (
            next_size(under, layout, "mine.toml", line=lambda profile: f"go {profile}")
            == "go small"
        )
