from __future__ import annotations

from pathlib import Path

import pytest

from harness.ablation import recommended_study
from harness.design import arms, seeds
from harness.errors import UsageError
from harness.report import write_report
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
