"""What tests/study/test_study.py asks of some hundred broken studies, asked of thousands, with other ones in every run."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.study.test_study import assert_only_our_errors, keys, mutants, trees

MANY = settings(
    max_examples=5_000,
    derandomize=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@MANY
@given(mutants())
def test_no_broken_study_gives_another_error_than_ours(raw: Any) -> None:
    if isinstance(raw, dict):
        assert_only_our_errors(raw)


@MANY
@given(st.dictionaries(keys, trees, max_size=8))
def test_no_table_gives_another_error_than_ours(raw: dict[str, Any]) -> None:
    assert_only_our_errors(raw)
