"""Which arms can be judged at all, and why the others cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from harness.analysis.table import Run, Table
from harness.study.trial import Curve

AT_CHANCE = "at chance"  # the reason for which a net that guesses is not judged
# standard errors above the accuracy of guessing below which a net counts as guessing
CHANCE_ERRORS = 3.0

# Where the images are not at hand (a table of old trials), the number of classes is known by the
# name of the data set.
_CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "svhn": 10,
    "fashion": 10,
    "fashion-mnist": 10,
    "fashionmnist": 10,
    "digits": 10,
}


def complete_blocks(table: Table, required: Sequence[str], among: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds at which every one of these arms has its final state."""
    return tuple(seed for seed in among if all(seed in table.runs[arm] for arm in required))


def holes(table: Table, blocks: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return, for each arm that has any, its missing seeds before the last complete block.

    A run that was cut short leaves its last blocks unfinished; a gap before a complete block is a
    trial that went missing.
    """
    before = table.seeds[: table.seeds.index(blocks[-1])] if blocks else ()
    gaps = {
        arm.name: tuple(seed for seed in before if seed not in table.runs[arm.name])
        for arm in table.arms
    }
    return {name: gap for name, gap in gaps.items() if gap}


@dataclass(frozen=True, slots=True)
class Chance:
    """The scores in pp up to which a net is taken to guess.

    Attributes:
        accuracy: of validation accuracy.
        balanced: of the mean recall over classes, which a net that knows nothing does not raise by favouring a common class.
    """

    accuracy: float
    balanced: float


def chance_line(table: Table, classes: int, counts: Sequence[int] = ()) -> Chance | None:
    """Return what a net that guesses exceeds about once in a thousand runs; None when the number of classes is unknown.

    Definition: c + 3 sqrt(c (1 - c) / N), c the larger of one in K and the share of the commonest
    class, N validation images. For the mean recall: 1 / K + 3 sqrt(sum over classes of (1 / K) (1 -
    1 / K) / n_k) / K. Never more than halfway from guessing to 100 %: few images must not make
    every net one that guesses.

    Args:
        table: joined trials.
        classes: K, 0 when not known.
        counts: validation images of each class that occurs; empty when not known.
    """
    guess = chance_accuracy(table, classes)
    if guess is None:
        return None
    share, many = guess / 100.0, round(100.0 / guess)
    images = sum(counts) or table.arms[0].recipe.data.val or 10_000
    each: list[float] = list(map(float, counts)) or [images / many] * many
    # a net that always says the commonest class has learnt nothing
    common = max(share, max(counts, default=0) / images)

    recall_error = sqrt(sum(share * (1.0 - share) / count for count in each)) / len(each)
    lines = ((common, sqrt(common * (1.0 - common) / images)), (1.0 / len(each), recall_error))
    accuracy, balanced = (
        100.0 * (start + min(CHANCE_ERRORS * error, (1.0 - start) / 2.0)) for start, error in lines
    )
    return Chance(accuracy, balanced)


def chance_accuracy(table: Table, classes: int) -> float | None:
    """Return the accuracy in pp of guessing among equally common classes; None when their number is unknown."""
    many = classes or (
        0 if table.study.foreign else _CLASSES.get(table.arms[0].recipe.data.name, 0)
    )
    return 100.0 / many if many > 1 else None


def at_chance(table: Table, arm: str, line: Chance | None, among: Sequence[int]) -> bool:
    """Whether an arm's nets guess: by their mean recall over classes where every run carries it, else by their accuracy.

    Whatever metric decides: a net can learn to rank images of a rare class long before its accuracy
    moves.
    """
    if line is None:
        return False
    runs = [table.runs[arm][seed] for seed in among if table.status(arm, seed) == "complete"]
    for metric, highest in (("balanced_accuracy", line.balanced), ("accuracy", line.accuracy)):
        scores = [run.scores[metric] for run in runs if metric in run.scores]
        # of a part of the runs, the mean would be of other seeds
        if scores and len(scores) == len(runs):
            return sum(scores) / len(scores) <= highest
    return False


def did_nothing(table: Table, arm: str, reference: str, among: Sequence[int]) -> bool:
    """Whether an arm has its reference's parameter count and epoch losses on every seed, whatever its recipe says.

    Without epoch losses, equal final cross-entropies and an equal primary score stand in;
    accuracies alone are too coarse.
    """
    both = [
        seed
        for seed in among
        if table.status(arm, seed) == "complete" == table.status(reference, seed)
    ]
    return bool(both) and all(
        _same(table.runs[arm][seed], table.runs[reference][seed], table.study.metric)
        for seed in both
    )


def _same(run: Run, other: Run, primary: str) -> bool:
    if run.trial.params != other.trial.params:
        return False
    if run.curve.val_loss and other.curve.val_loss:
        return _losses(run.curve) == _losses(other.curve)
    names = ("nll", "train_nll", primary)
    return "nll" in run.scores and all(
        run.scores.get(name) == other.scores.get(name) for name in names
    )


def _losses(curve: Curve) -> list[list[float | None]]:
    """Return the epoch losses, None where an epoch has none: nan differs from itself."""
    columns = (curve.val_loss, curve.train_loss, curve.online_loss)
    return [[None if math.isnan(loss) else loss for loss in column] for column in columns]


def unjudged(
    table: Table, among: Sequence[int], line: Chance | None, missing: dict[str, tuple[int, ...]]
) -> dict[str, str]:
    """Return ``{arm: why it gets no verdict}`` for the arms whose runs on these seeds allow none, the baseline included.

    Args:
        table: joined trials.
        among: seeds analysed.
        line: from ``chance_line``.
        missing: from ``holes``.
    """
    own = {arm.name: own_reason(table, arm.name, among, missing) for arm in table.arms}
    guessing = {arm.name for arm in table.arms if at_chance(table, arm.name, line, among)}
    reasons = {}
    for arm in table.arms:
        if own[arm.name]:
            reasons[arm.name] = own[arm.name]
        elif not arm.reference:
            continue
        elif own[arm.reference]:
            reasons[arm.name] = f"its reference is {own[arm.reference]}"
        # engines add in another order, and so train another net from one seed
        elif _engines_differ(table, arm.name, arm.reference, among):
            reasons[arm.name] = "run on another engine than its reference"
        elif did_nothing(table, arm.name, arm.reference, among):
            reasons[arm.name] = "did nothing"
        # an arm that fell to chance is a result, and so is one that rose from a reference stripped
        # on purpose; two that guess are none, nor is a rise from a baseline that does not train
        elif {arm.name, arm.reference} <= guessing:
            reasons[arm.name] = AT_CHANCE
        elif arm.reference in guessing & {table.arms[0].name}:
            reasons[arm.name] = f"its reference is {AT_CHANCE}"
    return reasons


def own_reason(
    table: Table, arm: str, among: Sequence[int], missing: Mapping[str, tuple[int, ...]]
) -> str:
    """Return what is wrong with an arm's own runs, or nothing; arguments as ``unjudged`` takes them."""
    runs = [table.runs[arm][seed] for seed in among if seed in table.runs[arm]]
    # The mean over the seeds that are left would be one of those that happened to survive.
    pruned = [run.trial.epochs for run in runs if run.status == "pruned"]
    if pruned:
        return f"censored at epoch {min(pruned)}"
    lost = sum(run.status in ("failed", "diverged") for run in runs)
    if lost:
        return f"unstable ({lost} of {len(runs)})"
    foreign = sum(run.trial.data_fingerprint != table.fingerprint for run in runs)
    if foreign:
        return f"run on other images ({foreign} of {len(runs)})"
    if arm in missing:
        return f"incomplete ({len(missing[arm])} of {len(table.seeds)} seeds missing)"
    return "" if runs or not among else "without trials"


def _engines_differ(table: Table, arm: str, reference: str, among: Sequence[int]) -> bool:
    both = [seed for seed in among if seed in table.runs[arm] and seed in table.runs[reference]]
    return any(
        table.runs[arm][seed].trial.environment.engine
        != table.runs[reference][seed].trial.environment.engine
        for seed in both
    )
