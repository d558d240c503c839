from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StudyError, UsageError
from harness.plugins import code_fingerprint, is_plugin, load_plugin
from harness.study.metrics import metric_of, own_metrics
from harness.study.study import Study, parse_study
from harness.study.trial import METRICS


def study(metric: str) -> Study:
    return parse_study(
        {"question": "Is it so?", "margin_pp": 1.0, "seeds": 3, "metric": metric}, name="asked"
    )


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own metrics.py"
    file.write_text(
        "def worst(probabilities, labels):\n    return 0.5\n\nworst.unit = 'pp'\nworst.higher_is_better = False\n"
    )
    return f"{file}:worst"


def test_a_built_in_metric_is_found_by_name() -> None:
    assert metric_of(study("nll")) is METRICS["nll"]
    assert own_metrics(study("nll")) == {}


def test_an_unknown_metric_is_one_error_with_the_nearest_name() -> None:
    with pytest.raises(StudyError, match="did you mean 'accuracy'"):
        metric_of(study("acuracy"))


def test_a_function_in_a_file_brings_its_unit_and_direction(own: str) -> None:
    metric = metric_of(study(own))
    assert (metric.unit, metric.higher_is_better, metric.label) == ("pp", False, "worst")
    assert own_metrics(study(own)) == {own: metric}


def test_a_file_without_the_function_says_what_it_has(own: str) -> None:
    with pytest.raises(UsageError, match="has no 'best'") as caught:
        load_plugin(own.replace(":worst", ":best"), what="metric")
    assert "worst" in caught.value.hint


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="could not import"):
        load_plugin(f"{tmp_path}/none.py:f", what="metric")


def test_the_fingerprint_changes_with_the_source_and_not_with_the_order(
    own: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text("def f(): ...\n")
    names = [own, f"{other}:f"]
    before = code_fingerprint(names)
    assert before == code_fingerprint(reversed(names))
    other.write_text("def f(): return 1\n")
    assert code_fingerprint(names) != before
    assert code_fingerprint([]) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.py:f", True), ("pkg.mod:f", True), ("accuracy", False), ("a.py:", False)],
)
def test_a_plug_in_is_told_by_its_form(name: str, expected: bool) -> None:
    assert is_plugin(name) is expected
