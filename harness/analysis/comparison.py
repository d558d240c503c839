"""Two reports side by side: the same arm in both, for the metric that decides, the overfitting gap and throughput.

Differences are B minus A. Runs are paired by seed when both have the same seeds, else compared by
Welch's t test (Welch 1947, Biometrika 34), which does not take their variances as equal. Verdicts
follow the rules of ``harness.analysis.verdicts``, Holm over the arms of one metric. The gap has no
better end and gets an interval alone. Throughput is compared as a ratio, and judged only where both
sides ran in one environment.

The gate (``compare --check``) has three answers for every arm of A:

- worse: the verdict is "worse";
- pass: B is shown not to be worse by more than the margin, by a one-sided test at alpha. Every arm
  has to pass for the whole to pass, so that no correction for their number is needed (Berger 1982,
  Technometrics 24);
- cannot tell: everything else. An arm is missing, unfinished or unstable, has fewer than 3 pairs,
  its interval is too wide, or the two sides ran on different images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan, sqrt
from typing import Literal

import numpy as np
from scipy.special import chdtri, ndtr, stdtrit

from harness.analysis import Analysis, ArmFacts, Summary, Verdict
from harness.analysis.standing import AT_CHANCE
from harness.analysis.verdicts import FEWEST_PAIRS, SAME_ON_EVERY_SEED, TIE, decide, number
from harness.errors import UsageError
from harness.stats import differences, group_of, holm, paired_t, tost, welch_t, welch_tost
from harness.stats.paired import upper_p
from harness.study.trial import Stored

SPEED = "images_per_second"
SPEED_MARGIN = 0.05  # share; two runs of one program on a shared machine differ by less than that
_POWER = 0.8  # chance of an answer that the number of seeds is asked for
_MOST_SEEDS = 100_000  # more than anybody runs
_SLICES = 400  # of the distribution of the sd, for an integral that needs three digits

_MOST_FIELDS = 4  # that a note names
SAME_RESULTS = "the same results on every seed"

Answer = Literal["pass", "worse", "cannot tell"]


class Difference(Stored):
    """One arm on one metric: B minus A.

    Attributes:
        unit: ``pp``, ``1``, or ``%`` for throughput, whose estimate and bounds are relative to A.
        test: how the runs were compared; empty when there was nothing to compare.
        mean_a, mean_b: means of both sides, of the geometric kind for throughput (images a second).
    """

    arm: str
    metric: str
    unit: str
    test: Literal["paired", "welch", ""]
    n_a: int
    n_b: int
    mean_a: float | None = None
    mean_b: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None
    verdict: Verdict = ""
    note: str = ""


class Ruling(Stored):
    """What the gate says of one arm on one metric.

    Attributes:
        p: one-sided, for a loss of the margin or more; small means that B is shown not to be worse.
        why: what keeps it from an answer, or what makes it pass where no test could.
        seeds: a side, at which an answer has a chance of 80 % if the difference is the one that was seen; None where unknown.
    """

    arm: str
    metric: str
    answer: Answer
    p: float | None = None
    why: str = ""
    seeds: int | None = None


class Comparison(Stored):
    """Every arm that both sides have, and what only one of them has.

    Attributes:
        differences: by arm in the order of A, the deciding metric first, then the gap, then throughput.
        rulings: of the gate, for every arm of A on the deciding metric, then on throughput where that was asked for.
        other_recipes: arms whose recipe in B is not the one in A.
        higher_is_better: which end of the deciding metric is the good one; None where neither is.
        answer: of the gate: worse if any ruling is, pass if all do, else "cannot tell".
        worse: whether the answer is "worse".
    """

    metric: str
    higher_is_better: bool | None = None
    margin: float
    alpha: float
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    other_recipes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rulings: tuple[Ruling, ...] = ()
    answer: Answer = "cannot tell"
    worse: bool = False


@dataclass(frozen=True, slots=True)
class _Tested:
    """A difference before Holm: test, runs of both sides, mean, bounds, p, p for equivalence.

    ``error`` is the mean's standard error and ``df`` its degrees of freedom. With n runs on either side they would be
    ``sd`` / sqrt(n) and ``df_share`` (n - 1).
    """

    test: Literal["paired", "welch", ""]
    sizes: tuple[int, int]
    mean: float
    low: float
    high: float
    p: float
    p_equivalence: float
    constant: bool
    error: float = nan
    df: float = nan
    sd: float = nan
    df_share: float = 1.0


@dataclass(frozen=True, slots=True)
class _Rules:
    """How a metric is judged: sign 1 when more is better, -1 when less is, 0 when neither; the margin in the metric's unit.

    ``barred`` is why nothing is judged by it, empty where it is.
    """

    metric: str
    sign: int
    margin: float
    alpha: float
    unit: str
    barred: str = ""

    @property
    def judged(self) -> bool:
        return bool(self.sign) and not self.barred


def compare(a: Analysis, b: Analysis, *, speed: bool = False) -> Comparison:
    """Compare two analyses, arm by arm; the margin and alpha are those of A.

    Arms are matched by name, and those left over by recipe.

    Args:
        a: the earlier analysis.
        b: the later analysis: is it worse?
        speed: whether throughput counts for the gate's answer as well.

    Raises:
        UsageError: they decide by different metrics, or share no arm.
    """
    if a.primary != b.primary:
        raise UsageError(
            f"one report decides by {a.primary}, the other by {b.primary}",
            "compare reports of one metric",
        )
    pairs = _matched(a, b)
    if not pairs:
        raise UsageError(
            "the two reports share no arm",
            "compare two runs of one study, or of studies with common arms",
        )
    same_ground = bool(a.environments) and a.environments == b.environments
    metrics = [a.primary, *([a.gap] if a.gap != a.primary else []), SPEED]
    rules = {metric: _rules(a, b, metric, same_ground=same_ground) for metric in metrics}
    by_metric = {metric: _differences(a, b, pairs, rules[metric]) for metric in metrics}

    rows = [by_metric[metric][index][0] for index in range(len(pairs)) for metric in metrics]
    gated = [a.primary, *([SPEED] if speed else [])]
    rulings = [
        ruling
        for metric in gated
        for ruling in _rulings(a, b, pairs, by_metric[metric], rules[metric])
    ]
    unlike = [(one, other) for one, other in pairs if one.recipe_id != other.recipe_id]
    notes = _notes(a, b, unlike, every=len(unlike) == len(pairs))
    if not same_ground and any(row.test for row, _ in by_metric[SPEED]):
        notes.append(
            "throughput is shown and not judged: the two ran in different environments, or it is not known in which"
        )
    answers = {ruling.answer for ruling in rulings}
    answer: Answer = (
        "worse" if "worse" in answers else "cannot tell" if "cannot tell" in answers else "pass"
    )
    return Comparison(
        metric=a.primary,
        higher_is_better=a.higher_is_better,
        margin=a.margin,
        alpha=a.study.alpha,
        differences=tuple(row for row in rows if row.test),
        only_a=tuple(arm.name for arm in _unmatched(a, pairs)),
        only_b=tuple(arm.name for arm in b.arms if arm not in [other for _, other in pairs]),
        other_recipes=tuple(one.name for one, _ in unlike),
        notes=tuple(notes),
        rulings=tuple(rulings),
        answer=answer,
        worse=answer == "worse",
    )


def _notes(
    a: Analysis, b: Analysis, unlike: Sequence[tuple[ArmFacts, ArmFacts]], *, every: bool
) -> list[str]:
    """Say what sets A and B apart besides their scores: images, questions, recipes."""
    images = _other_images(a, b)
    notes = [f"nothing is judged: {images}"] if images else []
    # the question of a table is made of its name
    if a.study.question != b.study.question and not (a.study.table and b.study.table):
        notes.append("the two answer different questions: only the arms of both are compared")
    return [*notes, *([_other_recipes(a, b, unlike, every=every)] if unlike else [])]


def _other_recipes(
    a: Analysis, b: Analysis, unlike: Sequence[tuple[ArmFacts, ArmFacts]], *, every: bool
) -> str:
    """Say in which arms A and B ran different recipes, and in which fields."""
    names = ", ".join(f'"{one.name}"' for one, _ in unlike)
    where = "every arm of both" if every and len(unlike) > 1 else names
    if a.study.table or b.study.table:  # nobody knows their recipes
        return f"the recipes differ in {where}"
    changes = [
        a.study.base_recipe.with_overrides(one.overrides).difference(
            b.study.base_recipe.with_overrides(other.overrides)
        )
        for one, other in unlike
    ]
    fields = {field: [change.get(field) for change in changes] for one in changes for field in one}
    # with its values where they are the same in all of these arms
    shown = [
        f"{field} ({values[0][0]} in A, {values[0][1]} in B)"
        if values[0] is not None and all(value == values[0] for value in values)
        else field
        for field, values in fields.items()
    ]
    more = f" and {len(shown) - _MOST_FIELDS} more fields" if len(shown) > _MOST_FIELDS else ""
    return f"the recipes differ in {where}: {', '.join(shown[:_MOST_FIELDS])}{more}"


def _unmatched(a: Analysis, pairs: Sequence[tuple[ArmFacts, ArmFacts]]) -> list[ArmFacts]:
    return [arm for arm in a.arms if arm not in [one for one, _ in pairs]]


def _other_images(a: Analysis, b: Analysis) -> str:
    """Say that the two sides saw different images; empty when they did not, or when one side does not know its own."""
    prints = (a.data_fingerprint, b.data_fingerprint)
    if not all(prints) or prints[0] == prints[1]:
        return ""
    return f"the two ran on different images (fingerprints {prints[0]} and {prints[1]})"


def _rules(a: Analysis, b: Analysis, metric: str, *, same_ground: bool) -> _Rules:
    images = _other_images(a, b)
    if metric == SPEED:
        barred = images or ("" if same_ground else "not judged: see the notes")
        return _Rules(metric, 1, log(1.0 + SPEED_MARGIN), a.study.alpha, "%", barred)
    higher = a.higher_is_better if metric == a.primary else None
    sign = 0 if higher is None else 1 if higher else -1
    unit = next((summary.unit for summary in a.summaries if summary.metric == metric), "1")
    if not images and any(side.screening or side.study.without_validation for side in (a, b)):
        images = "nothing is judged in a screening or by test images"
    return _Rules(metric, sign, a.margin, a.study.alpha, unit, images)


def _matched(a: Analysis, b: Analysis) -> list[tuple[ArmFacts, ArmFacts]]:
    named = {arm.name: arm for arm in b.arms}
    left = {arm.recipe_id: arm for arm in b.arms if arm.name not in {one.name for one in a.arms}}
    found = [(arm, named.get(arm.name) or left.get(arm.recipe_id)) for arm in a.arms]
    return [(one, other) for one, other in found if other is not None]


def _differences(
    a: Analysis, b: Analysis, pairs: Sequence[tuple[ArmFacts, ArmFacts]], rules: _Rules
) -> list[tuple[Difference, _Tested]]:
    """Compare every arm on one metric and judge them as one family; an arm with trouble of its own is not in it."""
    sides = [
        (_scores(a, one, rules.metric), _scores(b, other, rules.metric)) for one, other in pairs
    ]
    # rows of tables are counted from 0 in both, and so are names of seeds: the same count is not the same seed
    paired = a.study.pairing == b.study.pairing == "seed"
    paired = paired and a.study.seed_names == b.study.seed_names
    tested = [
        _test(one, other, alpha=rules.alpha, margin=rules.margin, paired=paired)
        for one, other in sides
    ]
    troubles = [_trouble(one, other) for one, other in pairs]
    untested = [
        t.constant or min(t.sizes) < FEWEST_PAIRS or bool(trouble)
        for t, trouble in zip(tested, troubles, strict=True)
    ]
    adjusted = holm([nan if skip else t.p for t, skip in zip(tested, untested, strict=True)])
    equivalence = holm(
        [nan if skip else t.p_equivalence for t, skip in zip(tested, untested, strict=True)]
    )

    found = []
    for index, ((arm, _), side, t) in enumerate(zip(pairs, sides, tested, strict=True)):
        row = Difference(
            arm=arm.name,
            metric=rules.metric,
            unit=rules.unit,
            test=t.test,
            n_a=t.sizes[0],
            n_b=t.sizes[1],
        )
        row = row.model_copy(update=_numbers(side, t, relative=rules.metric == SPEED))
        if rules.judged and t.test and troubles[index]:
            row = row.model_copy(update={"note": troubles[index]})
        elif rules.judged and t.mean == 0.0 and _same_results(a, b, pairs[index]):
            row = row.model_copy(update={"note": SAME_RESULTS})  # there is nothing to judge
        elif rules.judged and t.test:
            verdict, notes = decide(
                min(t.sizes),
                t.mean,
                p_holm=float(adjusted[index]),
                p_equivalence=float(equivalence[index]),
                alpha=rules.alpha,
                sign=rules.sign,
                unit="pair" if t.test == "paired" else "run",
            )
            row = row.model_copy(
                update={
                    "p": number(t.p),
                    "p_holm": number(adjusted[index]),
                    "p_equivalence": number(equivalence[index]),
                    "verdict": verdict,
                    "note": "; ".join(notes),
                }
            )
        found.append((row, t))
    return found


def _trouble(one: ArmFacts, other: ArmFacts) -> str:
    """Why the runs of an arm give no verdict, on either side; empty when they give one.

    Analyses that were written before arms carried their trouble still have their counts.
    """
    troubles = []
    for side, arm in (("A", one), ("B", other)):
        lost = arm.failed + arm.diverged
        trouble = arm.trouble or (f"unstable ({lost} of {arm.completed + lost})" if lost else "")

        # A net that guesses on one side alone is a result: it fell to chance, or rose from it.
        if trouble and (trouble != AT_CHANCE or one.trouble == other.trouble):
            troubles.append(f"{side} is {trouble}")
    return ", ".join(troubles)


def _rulings(
    a: Analysis,
    b: Analysis,
    pairs: Sequence[tuple[ArmFacts, ArmFacts]],
    rows: Sequence[tuple[Difference, _Tested]],
    rules: _Rules,
) -> list[Ruling]:
    """Return the gate's ruling on every arm of A for one metric."""
    family = sum(row.p is not None for row, _ in rows)
    ruled = [
        _ruling(row, t, pair, rules, family=family, same=_same_results(a, b, pair))
        for pair, (row, t) in zip(pairs, rows, strict=True)
    ]
    gone = [
        Ruling(arm=arm.name, metric=rules.metric, answer="cannot tell", why="not in B")
        for arm in _unmatched(a, pairs)
    ]
    return ruled + gone


def _ruling(
    row: Difference,
    t: _Tested,
    pair: tuple[ArmFacts, ArmFacts],
    rules: _Rules,
    *,
    family: int,
    same: bool,
) -> Ruling:
    if row.verdict == "worse":
        return Ruling(arm=row.arm, metric=row.metric, answer="worse")
    testable = rules.judged and t.error > 0.0 and min(t.sizes) >= FEWEST_PAIRS
    p = upper_p((rules.sign * t.mean + rules.margin) / t.error, t.df) if testable else nan
    why = _open(t, pair, rules)

    # Runs that came out the same to the last digit in everything have no variance, and need none.
    if not why or why == TIE:
        if same and t.mean == 0.0:
            return Ruling(arm=row.arm, metric=row.metric, answer="pass", why=SAME_RESULTS)
        if p < rules.alpha:
            return Ruling(arm=row.arm, metric=row.metric, answer="pass", p=number(p))
    return Ruling(
        arm=row.arm,
        metric=row.metric,
        answer="cannot tell",
        p=number(p),
        why=why or "the interval is too wide",
        # more seeds help against none of what bars a verdict
        seeds=None if rules.barred else _seeds_to_tell(t, rules, family=max(family, 1)),
    )


def _open(t: _Tested, pair: tuple[ArmFacts, ArmFacts], rules: _Rules) -> str:
    """What keeps the gate from an answer before any test is made; empty when nothing does."""
    short = [
        f"{side} is unfinished ({arm.completed} of {arm.planned} trials)"
        for side, arm in zip("AB", pair, strict=True)
        if arm.completed < arm.planned
    ]
    reasons = (
        (bool(_trouble(*pair)), _trouble(*pair)),
        (not t.test, "no finished trials to compare"),
        (not rules.sign, "neither more nor less of the metric is better"),
        (bool(rules.barred), rules.barred),
        (bool(short), ", ".join(short)),
        (min(t.sizes) < FEWEST_PAIRS, f"fewer than {FEWEST_PAIRS} pairs"),
        (t.error == 0.0, SAME_ON_EVERY_SEED if t.mean else TIE),
    )
    return next((why for holds, why in reasons if holds), "")


def _same_results(a: Analysis, b: Analysis, pair: tuple[ArmFacts, ArmFacts]) -> bool:
    """Whether an arm has the same score on every seed in every metric, and scores that vary: then one program ran twice.

    Scores of few values tie by chance; three and more that all tie do not, unless the two sides
    hardly differ.
    """
    sides = [
        {
            s.metric: (s.seeds, s.scores)
            for s in analysis.summaries
            if s.arm == arm.name and s.n >= FEWEST_PAIRS
        }
        for analysis, arm in zip((a, b), pair, strict=True)
    ]
    varied = any(len(set(scores)) >= FEWEST_PAIRS for _, scores in sides[0].values())
    return varied and sides[0] == sides[1]


def _seeds_to_tell(t: _Tested, rules: _Rules, *, family: int) -> int | None:
    """Return the smallest number of seeds a side at which the gate answers with 80 % power; None where nothing is known.

    If the true difference and sd are those that were seen. Always more than have left it open.
    """
    if not (t.sd > 0.0 and rules.sign):
        return None
    few = max(min(t.sizes), FEWEST_PAIRS - 1)
    many = few + 1
    while _answered(t, many, rules, family) < _POWER:
        few, many = many, 2 * many
        if many > _MOST_SEEDS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        if _answered(t, middle, rules, family) < _POWER:
            few = middle
        else:
            many = middle
    return many


def _answered(t: _Tested, n: int, rules: _Rules, family: int) -> float:
    """Chance that n seeds a side end in pass or worse, for Gaussian runs: one minus that of a mean between the two thresholds.

    Given the sd s, a mean passes above t_pass s / sqrt(n) - margin and is worse below -t_worse s /
    sqrt(n); s^2 is averaged over its chi-square distribution. Holm asks alpha over the family's
    size of the smallest p, which is what is used here.
    """
    df = t.df_share * (n - 1)
    t_pass, t_worse = (
        -float(stdtrit(df, rules.alpha)),
        -float(stdtrit(df, rules.alpha / (2 * family))),
    )
    upper_Q = (np.arange(_SLICES) + 0.5) / _SLICES
    error, error_Q = t.sd / sqrt(n), t.sd * np.sqrt(chdtri(df, upper_Q) / df / n)
    mean = rules.sign * t.mean
    open_Q = ndtr((t_pass * error_Q - rules.margin - mean) / error) - ndtr(
        (-t_worse * error_Q - mean) / error
    )
    return 1.0 - float(np.clip(open_Q, 0.0, 1.0).mean())


def _scores(analysis: Analysis, arm: ArmFacts, metric: str) -> dict[int, float]:
    """Return ``{seed: score}``; throughput as its logarithm, so that differences are ratios."""
    if metric == SPEED:
        return {seed: log(speed) for seed, speed in arm.throughput.items() if speed > 0}
    none = Summary(arm=arm.name, metric=metric, unit="1", n=0)
    level = next((s for s in analysis.summaries if s.arm == arm.name and s.metric == metric), none)
    return dict(zip(level.seeds, level.scores, strict=True))


def _test(
    a: dict[int, float], b: dict[int, float], *, alpha: float, margin: float, paired: bool
) -> _Tested:
    sizes = (len(a), len(b))
    if min(sizes) == 0:
        return _Tested("", sizes, nan, nan, nan, nan, nan, constant=False)
    if paired and set(a) == set(b):
        seeds = sorted(a)
        one, other = [b[seed] for seed in seeds], [a[seed] for seed in seeds]
        result = paired_t(one, other, alpha=alpha)
        constant = result.sd == 0.0
        n, p_equivalence = len(seeds), tost(differences(one, other), margin)
        return _Tested(
            "paired",
            sizes,
            result.mean,
            result.low,
            result.high,
            result.p,
            p_equivalence,
            constant,
            error=result.sd / sqrt(n),
            df=n - 1,
            sd=result.sd,
        )
    return _welch(list(b.values()), list(a.values()), alpha=alpha, margin=margin)


def _welch(one: Sequence[float], other: Sequence[float], *, alpha: float, margin: float) -> _Tested:
    """Welch's test of mean(one) - mean(other), with what the number of runs that would tell is worked out from."""
    groups = [group_of(one), group_of(other)]
    result = welch_t(*groups, alpha=alpha)
    variances = [group.sd**2 for group in groups]
    squares = sum(variance**2 for variance in variances)
    return _Tested(
        "welch",
        (len(other), len(one)),
        result.mean,
        result.low,
        result.high,
        result.p,
        welch_tost(result, margin),
        constant=result.se == 0.0,
        error=result.se,
        df=result.df,
        sd=result.sd,
        df_share=sum(variances) ** 2 / squares if squares > 0.0 else nan,
    )


def _numbers(
    side: tuple[dict[int, float], dict[int, float]], t: _Tested, *, relative: bool
) -> dict[str, float | None]:
    means = [sum(scores.values()) / len(scores) if scores else nan for scores in side]
    values = [t.mean, t.low, t.high]
    if relative:
        means = [exp(mean) for mean in means]
        values = [100.0 * (exp(value) - 1.0) for value in values]
    names = ("mean_a", "mean_b", "estimate", "low", "high")
    return {name: number(value) for name, value in zip(names, (*means, *values), strict=True)}
