"""Error rates of what the program says, over simulated studies whose truth is known: `nox -s evidence` prints them.

Everything goes through the functions that a report is made with. Seeds were fixed before the first
run. A rate passes when the bound that is promised is not contradicted by its exact 99.9 % binomial
interval. Accuracies in pp; one arm's sd between seeds is 1 unless a test says otherwise, so a
paired difference has 1.41.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from math import sqrt

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness import stats
from harness.analysis import Analysis, analyze, judge
from harness.analysis.comparison import compare
from harness.analysis.power_plan import plan_power
from harness.study.arms import arms
from harness.study.study import Study, parse_study
from harness.study.trial import Trial
from tests.planted import replaced, study_of, switched, trial, without

STUDIES = 300
SEED = 20_261_126
Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Record a simulated figure and print it; `nox -s evidence` shows what is printed."""

    def told(sentence: str) -> None:
        record_property("figure", sentence)
        sys.stdout.write(f"\n  {sentence}")

    return told


def interval(hits: int, studies: int = STUDIES) -> tuple[float, float]:
    """The exact 99.9 % interval of a rate."""
    test = scipy_stats.binomtest(hits, studies).proportion_ci(0.999, method="exact")
    return float(test.low), float(test.high)


def shown(hits: int, studies: int = STUDIES) -> str:
    test = scipy_stats.binomtest(hits, studies).proportion_ci(0.95, method="exact")
    return f"{hits / studies:.3f} [{test.low:.3f}, {test.high:.3f}]"


@cache
def _blank(text: str) -> tuple[tuple[str, Trial], ...]:
    study = parse_study(tomllib.loads(text), name="planted")
    return tuple(
        (arm.name, trial(study, arm.name, seed))
        for arm in arms(study)
        for seed in range(study.seeds)
    )


def runs(
    study: Study, effects: dict[str, float], rng: np.random.Generator, sd: float = 1.0
) -> list[Trial]:
    """Every trial of a study, Gaussian about 80 % plus the arm's effect."""
    blank = _blank(study.to_toml())
    scores = (
        80.0
        + sd * rng.standard_normal(len(blank))
        + np.array([effects.get(name, 0.0) for name, _ in blank])
    )
    return [
        one.model_copy(update={"metrics": {"accuracy": float(score) / 100}})
        for (_, one), score in zip(blank, scores, strict=True)
    ]


def without_components(study: Study, worth: float) -> dict[str, float]:
    """The effect of every arm where each component is worth as much, and they add up."""
    on = {factor.name: factor.on for factor in study.factors}
    return {
        arm.name: -worth * sum(level != on[name] for name, level in arm.components.items())
        for arm in arms(study)
        if arm.components
    }


def analyses(
    study: Study, effects: dict[str, float], salt: int, studies: int = STUDIES
) -> Iterator[Analysis]:
    rng = np.random.default_rng([SEED, salt])
    for _ in range(studies):
        yield analyze(study, runs(study, effects, rng))


def dropped(analysis: Analysis) -> int:
    """How many components the recommended recipe lacks."""
    off = [factor.setting(factor.off) for factor in analysis.study.factors]
    return sum(setting.items() <= analysis.recommended.items() for setting in off)


def dropped_one_by_one(analysis: Analysis) -> int:
    """How many components would go if each went by its own verdict alone."""
    mains = analysis.study.design == "factorial"
    wanted = ("worse", "equivalent") if mains else ("better", "equivalent")
    kind = "main" if mains else "arm"
    return sum(
        e.kind == kind and e.metric == "accuracy" and e.verdict in wanted for e in analysis.effects
    )


# The advice


@pytest.mark.parametrize(
    ("design", "components", "seeds"),
    [("leave-one-out", 5, 8), ("leave-one-out", 5, 20), ("factorial", 3, 8), ("factorial", 3, 20)],
)
def test_what_is_dropped_together_seldom_costs_more_than_the_margin(
    design: str, components: int, seeds: int, tell: Tell
) -> None:
    """Every component is worth 1 pp and the margin is 2: dropping three or more is an error."""
    study = switched(design, *"abcde"[:components], seeds=seeds, margin_pp=2.0)
    found = list(analyses(study, without_components(study, 1.0), 1000 + 10 * seeds + components))
    ours, before = [dropped(one) for one in found], [dropped_one_by_one(one) for one in found]
    wrong, wrong_before = (sum(count > 2 for count in counts) for counts in (ours, before))
    tell(
        f"{design} of {components} at {seeds} seeds: {np.mean(ours):.2f} dropped, P(loss > margin) {shown(wrong)}; "
        f"one by one {np.mean(before):.2f}, {shown(wrong_before)}"
    )
    assert interval(wrong)[0] <= 0.05


@pytest.mark.parametrize("worth", [0.0, 3.0])
def test_components_that_do_nothing_go_and_those_worth_more_than_the_margin_stay(
    worth: float, tell: Tell
) -> None:
    study = switched("leave-one-out", *"abc", seeds=20, margin_pp=2.0)
    counts = Counter(
        dropped(one)
        for one in analyses(study, without_components(study, worth), 1200 + int(worth), 100)
    )
    tell(
        f"three components worth {worth:g} pp each, 20 seeds, margin 2: dropped {dict(sorted(counts.items()))}"
    )
    assert (counts[0] < 50) if worth == 0.0 else interval(100 - counts[0], 100)[0] <= 0.05


# The gate


def gate(
    loss: float, salt: int, *, seeds: int = 8, margin: float = 2.0, studies: int = 150
) -> Counter[str]:
    """How often the gate gives each answer for a second report that is this much worse, runs of both independent."""
    study = study_of("a", seeds=seeds, margin_pp=margin)
    rng = np.random.default_rng([SEED, salt])
    answers: Counter[str] = Counter()
    for _ in range(studies):
        a, b = (
            analyze(study, runs(study, dict.fromkeys(("reference", "a"), -down), rng))
            for down in (0.0, loss)
        )
        answers[compare(a, b).answer] += 1
    return answers


@pytest.mark.parametrize("seeds", [8, 20])
def test_the_gate_seldom_calls_the_same_recipe_worse_and_seldom_passes_a_loss_of_the_margin(
    seeds: int, tell: Tell
) -> None:
    same, half, at_margin, twice = (
        gate(loss, 2000 + seeds + int(loss), seeds=seeds) for loss in (0.0, 1.0, 2.0, 4.0)
    )
    for name, answers in (
        ("no loss", same),
        ("a loss of half the margin", half),
        ("a loss of the margin", at_margin),
        ("a loss of twice the margin", twice),
    ):
        told = ", ".join(
            f"{answer} {shown(answers[answer], 150)}" for answer in ("pass", "worse", "cannot tell")
        )
        tell(f"gate at {seeds} seeds, two arms, margin 2, {name}: {told}")
    assert interval(same["worse"], 150)[0] <= 0.05
    assert interval(at_margin["pass"], 150)[0] <= 0.05
    assert twice["pass"] == 0


@pytest.mark.parametrize("loss", [0.0, 0.5, 3.0])
def test_the_seeds_that_the_gate_asks_for_give_an_answer_as_often_as_promised(
    loss: float, tell: Tell
) -> None:
    """At the difference and the sd that a gate of 4 seeds saw and could not judge: N seeds answer in 80 %."""
    rng = np.random.default_rng([SEED, 2200, int(10 * loss)])
    small = study_of("a", seeds=4, margin_pp=2.0)
    while True:
        sides = [analyze(small, runs(small, {"a": -down}, rng, sd=2.0)) for down in (0.0, loss)]
        seen = compare(*sides)
        asked = next(ruling for ruling in seen.rulings if ruling.arm == "a")
        row = next(d for d in seen.differences if (d.arm, d.metric) == ("a", "accuracy"))
        if asked.answer == "cannot tell" and asked.seeds is not None and asked.seeds < 100:
            break
    assert row.estimate is not None
    assert row.low is not None
    half = row.estimate - row.low
    sd = half * sqrt(4) / float(scipy_stats.t.ppf(0.975, 3))

    larger = study_of("a", seeds=asked.seeds, margin_pp=2.0)
    answered = 0
    for _ in range(100):
        before, after = (
            analyze(larger, runs(larger, {"a": change}, rng, sd=sd / sqrt(2)))
            for change in (0.0, row.estimate)
        )
        ruling = next(r for r in compare(before, after).rulings if r.arm == "a")
        answered += ruling.answer != "cannot tell"
    tell(
        f"gate, 4 seeds saw {row.estimate:+.2f} pp with an sd of {sd:.2f}: "
        f"{asked.seeds} seeds a side, promised .80, answer {shown(answered, 100)}"
    )
    assert interval(answered, 100)[1] >= 0.8


@pytest.mark.parametrize(
    "case",
    ["4 of 8 diverged", "an arm is missing", "two seeds", "3 of 8 seeds to come", "other images"],
)
def test_the_gate_never_passes_what_it_cannot_judge(case: str, tell: Tell) -> None:
    study = study_of("a", margin_pp=2.0, seeds=2 if case == "two seeds" else 8)
    rng = np.random.default_rng([SEED, 2100, len(case)])
    answers: Counter[str] = Counter()
    for _ in range(100):
        before, after = (runs(study, {"a": down}, rng) for down in (0.0, -4.7))
        if case == "4 of 8 diverged":
            for seed in range(4):
                after = replaced(after, study, "a", seed, state="diverged")
        elif case == "an arm is missing":
            after = without(after, study, "a", *range(8))
        elif case == "3 of 8 seeds to come":
            after = without(after, study, "a", 5, 6, 7)
        elif case == "other images":
            after = [t.model_copy(update={"data_fingerprint": "images-b"}) for t in after]
        answers[compare(analyze(study, before), analyze(study, after)).answer] += 1
    tell(f"gate, {case}: {dict(answers)}")
    assert answers["pass"] == 0


# Families


def false_verdicts(analysis: Analysis) -> dict[str, bool]:
    """Which families of a study without any effect give a verdict."""
    wrong = [
        e.kind
        for e in analysis.effects
        if e.metric == "accuracy" and e.verdict in ("better", "worse")
    ]
    return {kind: kind in wrong for kind in ("arm", "main", "interaction")}


@pytest.mark.parametrize(
    "design", ["leave-one-out", "add-one-in", "both", "factorial", "fraction", "arms", "sweep"]
)
def test_a_family_gives_a_false_verdict_no_more_often_than_alpha(design: str, tell: Tell) -> None:
    narrow = {"margin_pp": 0.001, "seeds": 8}
    if design == "arms":
        study = study_of(*"abcdef", **narrow)
    elif design == "sweep":
        factor = {"name": "blocks", "field": "model.blocks", "levels": [2, 3, 4, 5, 6, 7]}
        study = study_of(design="sweep", factors=[factor], **narrow)
    else:
        study = switched(design, *("abcd" if design == "fraction" else "abc"), **narrow)
    families = ("arm", "main", "interaction") if design in ("factorial", "fraction") else ("arm",)
    found = [
        false_verdicts(one)
        for one in analyses(study, {}, 3000 + len(design), 600 if len(families) > 1 else STUDIES)
    ]
    for kind in families:
        hits = sum(one[kind] for one in found)
        tell(
            f"{design}, 8 seeds, no effect: a false verdict among {kind}s in {shown(hits, len(found))}"
        )
        assert interval(hits, len(found))[0] <= 0.05
    if len(families) > 1:
        hits = sum(any(one.values()) for one in found)
        tell(
            f"{design}, 8 seeds, no effect: in any of the three families {shown(hits, len(found))}"
        )
        assert interval(hits, len(found))[0] <= 1 - 0.95**3


@pytest.mark.parametrize(
    ("case", "undecided"),
    [
        ("skewed and unequal arms, 8 seeds", 0),
        *((f"{count} undecided images, 3 seeds", count) for count in (4, 15, 60)),
    ],
)
def test_the_known_exceptions_of_the_level_are_what_the_documentation_says(
    case: str, undecided: int, tell: Tell
) -> None:
    """Not a promise but a limit: t tests of few seeds lean on normal scores. docs/statistics.md has these figures."""
    rng = np.random.default_rng([SEED, 3100, len(case)])
    studies, wrong = 2000, 0
    for _ in range(studies):
        if not undecided:
            base_S = 1 - rng.exponential(1.0, 8)
            family = {
                str(sd): (sd * (1 - rng.exponential(1.0, 8)) - base_S).tolist()
                for sd in (1.0, 1.5, 2.0, 3.0)
            }
        else:
            rights_S = rng.binomial(undecided, 0.5, (5, 3)) / 15.0
            family = {str(k): (rights_S[k] - rights_S[4]).tolist() for k in range(4)}
        verdicts = judge(family, alpha=0.05, margin=0.001)
        wrong += any(one.verdict in ("better", "worse") for one in verdicts.values())
    tell(f"{case}, 4 arms: a false verdict in {shown(wrong, studies)}")
    assert interval(wrong, studies)[0] < 0.1


# Power


@pytest.mark.parametrize("design", ["arms", "factorial"])
def test_the_detectable_effect_is_found_at_least_as_often_as_promised(
    design: str, tell: Tell
) -> None:
    """One member of the family has the effect that the plan calls detectable; the others have none."""
    if design == "arms":
        study = study_of(*"abcdefgh", seeds=8, margin_pp=0.001)
    else:
        study = switched("factorial", *"abc", seeds=8, margin_pp=0.001)
    plan = plan_power(study, sd=1.0)
    size = plan.detectable[0.0] or 0.0
    if design == "arms":
        kind, effects = "arm", {"a": size}
    else:
        kind = "main"
        effects = {
            arm.name: -size for arm in arms(study) if arm.components["a"] != study.factors[0].on
        }
    found = sum(
        any(
            (e.kind, e.term, e.metric, e.verdict) == (kind, "a", "accuracy", "better")
            for e in one.effects
        )
        for one in analyses(study, effects, 4000 + len(design))
    )
    tell(f"{design}: an effect of {size:.2f} pp, promised .80, is found in {shown(found)}")
    assert interval(found)[1] >= 0.8
    assert interval(found)[0] <= 0.9


@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_the_seeds_that_settle_an_effect_settle_it_as_often_as_promised(
    effect: float, tell: Tell
) -> None:
    """Margin 2. The second figure: the seeds of the two-sided test for the larger of effect and margin, as was said before."""
    rates = []
    for seeds in (
        stats.seeds_to_settle(1.0, effect, margin=2.0),
        stats.seeds_needed(1.0, max(effect, 2.0)),
    ):
        rows = np.random.default_rng([SEED, 5000, int(10 * effect)]).normal(
            effect, sqrt(2), (2000, seeds)
        )
        verdicts = [judge({"a": row.tolist()}, alpha=0.05, margin=2.0)["a"].verdict for row in rows]
        rates.append(
            (seeds, sum(verdict in ("better", "worse", "equivalent") for verdict in verdicts))
        )
    (seeds, settled), (others, before) = rates
    tell(
        f"effect {effect:g}: {seeds} seeds settle {shown(settled, 2000)}; before, {others} seeds {shown(before, 2000)}"
    )
    assert interval(settled, 2000)[1] >= 0.8


# Looks


@pytest.mark.parametrize("boundary", ["wang-tsiatis", "pocock"])
@pytest.mark.parametrize("looks", [(5, 10), (5, 10, 20)])
def test_looks_keep_their_level(
    looks: tuple[int, ...], boundary: stats.Boundary, tell: Tell
) -> None:
    rows = np.random.default_rng([SEED, 6000, *looks]).standard_normal((4000, looks[-1]))
    wrong = sum(
        stats.sequential_p(stats.look_statistics(row, looks), looks, boundary=boundary) <= 0.05
        for row in rows
    )
    tell(f"looks {looks}, {boundary}: an effect is found without one in {shown(wrong, 4000)}")
    assert interval(wrong, 4000)[0] <= 0.05 <= interval(wrong, 4000)[1]


@pytest.mark.parametrize("boundary", ["wang-tsiatis", "pocock"])
def test_expected_seeds_against_a_fixed_number_of_seeds(
    boundary: stats.Boundary, tell: Tell
) -> None:
    """In units of the paired sd; the fixed number is the one that has the power of the looks, between two whole numbers."""
    looks, sd = (5, 10), 1 / sqrt(2)
    rng = np.random.default_rng([SEED, 6100])
    for effect in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0):
        power = float(stats.sequential_power(sd, effect, looks=looks, boundary=boundary)[-1])
        takes = stats.expected_seeds(sd, effect, looks=looks, boundary=boundary)
        sizes = np.arange(2, 12)
        fixed = float(np.interp(power, [stats.power(sd, effect, n=int(n)) for n in sizes], sizes))
        tell(
            f"{boundary} (5, 10), effect {effect:g} sd: power {power:.3f}, {takes:.2f} seeds, a fixed n takes {fixed:.2f}"
        )
        rows = rng.normal(effect, 1.0, (2000, 10))
        level = stats.boundary_levels(looks, boundary=boundary)[0]
        early = int((scipy_stats.ttest_1samp(rows[:, :5], 0.0, axis=1).pvalue <= level).sum())
        low, high = interval(early, 2000)
        assert 10 - 5 * high <= takes <= 10 - 5 * low
