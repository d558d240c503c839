from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from harness.analysis import judge, word
from harness.analysis.verdicts import BELOW_MARGIN, SAME_ON_EVERY_SEED, gap_direction
from harness.stats import differences

CLEAR = [0.9, 1.1, 1.0, 1.2, 0.8, 1.0]  # pp: far above any margin here
WIDE = [-2.0, 2.5, -1.5, 1.0, 0.5, -0.2]
SMALL = [0.10, 0.12, 0.11, 0.09, 0.10, 0.11]  # told apart from zero, far inside 0.3
TIED = [0.0] * 6


def test_a_clear_gain_is_better_and_a_clear_loss_worse() -> None:
    found = judge({"a": CLEAR, "b": [-d for d in CLEAR]}, alpha=0.05, margin=0.3)
    assert (found["a"].verdict, found["b"].verdict) == ("better", "worse")


def test_where_less_is_better_a_fall_is_better() -> None:
    assert (
        judge({"a": [-d for d in CLEAR]}, alpha=0.05, margin=0.3, sign=-1)["a"].verdict == "better"
    )


def test_equivalent_comes_before_better() -> None:
    found = judge({"a": SMALL}, alpha=0.05, margin=0.3)["a"]
    assert found.p_holm is not None
    assert found.p_holm < 0.05
    assert found.verdict == "equivalent"
    assert BELOW_MARGIN in found.notes


def test_a_wide_interval_is_unresolved() -> None:
    assert judge({"a": WIDE}, alpha=0.05, margin=0.3)["a"].verdict == "unresolved"


def test_a_tie_on_every_seed_is_unresolved_and_says_so() -> None:
    found = judge({"a": TIED}, alpha=0.05, margin=0.3)["a"]
    assert (found.verdict, found.p, found.notes) == ("unresolved", None, ("tie on every seed",))


def test_the_same_difference_on_every_seed_is_unresolved() -> None:
    found = judge({"a": [0.5] * 8}, alpha=0.05, margin=0.3)["a"]
    assert (found.verdict, found.p) == ("unresolved", None)
    assert "no variance" in found.notes[0]


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_fewer_than_three_pairs_give_no_verdict_and_no_p(pairs: int) -> None:
    found = judge({"a": CLEAR[:pairs], "b": CLEAR}, alpha=0.05, margin=0.3)
    assert (found["a"].verdict, found["a"].p, found["a"].p_equivalence) == ("", None, None)
    assert found["b"].p == found["b"].p_holm  # a member without a test does not count in the family


@pytest.mark.parametrize("pairs", [3, 4])
def test_three_or_four_pairs_are_exploratory(pairs: int) -> None:
    assert "exploratory" in judge({"a": CLEAR[:pairs]}, alpha=0.05, margin=0.3)["a"].notes


def test_a_metric_without_a_better_end_has_neither_winner_nor_loser() -> None:
    assert (
        judge({"a": CLEAR}, alpha=0.05, margin=0.3, has_direction=False)["a"].verdict
        == "unresolved"
    )


def test_p_values_are_those_of_scipy_and_statsmodels() -> None:
    family = {"a": CLEAR, "b": WIDE, "c": [0.3, 0.9, -0.2, 0.4, 0.6, 0.2]}
    found = judge(family, alpha=0.05, margin=0.3)
    raw = [float(scipy_stats.ttest_1samp(values, 0.0).pvalue) for values in family.values()]
    adjusted = multipletests(raw, method="holm")[1]
    for name, p, p_holm in zip(family, raw, adjusted, strict=True):
        assert found[name].p == pytest.approx(p, rel=1e-9)
        assert found[name].p_holm == pytest.approx(p_holm, rel=1e-9)


@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=5, max_size=5), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_neither_names_nor_their_order_matter_to_a_family(
    family: list[list[float]], random: object
) -> None:
    order = list(range(len(family)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = judge({f"arm{i}": values for i, values in enumerate(family)}, alpha=0.05, margin=0.3)
    other = judge({f"<{i}>": family[i] for i in order}, alpha=0.05, margin=0.3)
    assert all(other[f"<{i}>"] == plain[f"arm{i}"] for i in order)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=9))
def test_turning_the_sign_turns_better_and_worse_and_nothing_else(values: list[float]) -> None:
    turned = {"better": "worse", "worse": "better"}
    one = judge({"a": values}, alpha=0.05, margin=0.3)["a"]
    other = judge({"a": [-v for v in values]}, alpha=0.05, margin=0.3)["a"]
    assert other.verdict == turned.get(one.verdict, one.verdict)
    assert other.p == pytest.approx(one.p) if one.p is not None else other.p is None


@pytest.mark.parametrize(
    ("verdict", "gap", "expected"),
    [
        ("better", "narrower", "regularises"),
        ("equivalent", "narrower", "regularises"),
        ("unresolved", "narrower", ""),
        ("worse", "narrower", "underfits"),
        ("", "narrower", ""),
        ("better", "wider", "helps"),
        ("worse", "wider", "hurts"),
        ("equivalent", "wider", ""),
        ("unresolved", "wider", ""),
        ("better", "", ""),
        ("worse", "", ""),
    ],
)
def test_the_word_of_an_arm_needs_accuracy_and_gap_resolved(
    verdict: str, gap: str, expected: str
) -> None:
    assert word(verdict, gap) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "p", "expected"),
    [(2.0, 0.01, "wider"), (-2.0, 0.01, "narrower"), (-2.0, 0.05, ""), (None, None, "")],
)
def test_a_gap_has_a_direction_where_its_p_is_below_alpha(
    estimate: float | None, p: float | None, expected: str
) -> None:
    assert gap_direction(estimate, p, 0.05) == expected


@pytest.mark.parametrize("images", [300, 10_000])
def test_one_difference_of_counted_scores_on_every_seed_is_unresolved(images: int) -> None:
    base = np.array([231, 237, 242, 250, 229])
    found = judge(
        {"a": differences(100 * (base + 3) / images, 100 * base / images).tolist()},
        alpha=0.05,
        margin=0.001,
    )["a"]
    assert (found.verdict, found.p, found.notes) == ("unresolved", None, (SAME_ON_EVERY_SEED,))


def test_a_difference_that_varies_by_one_image_in_10_000_is_tested() -> None:
    base = np.array([7310, 7370, 7420, 7500, 7290])
    values = differences((base + np.array([3, 3, 4, 3, 3])) / 10_000, base / 10_000)
    found = judge({"a": values.tolist()}, alpha=0.05, margin=1e-6)["a"]
    expected = scipy_stats.ttest_1samp([3, 3, 4, 3, 3], 0.0).pvalue
    assert found.p == pytest.approx(float(expected), rel=1e-6)
