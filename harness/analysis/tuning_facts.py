"""What a search leaves behind for the report: plain data that ``tune`` fills in."""

from __future__ import annotations

from typing import Any, Literal

from harness.study.trial import Stored


class SearchTrial(Stored):
    """One trial of a search.

    Attributes:
        number: its place in the budget, from 0; the reference is 0.
        value: the metric on validation, as stored (accuracies in [0, 1]); None for a trial that was stopped: what it had by
            then is not where it would have ended.
        epoch: epochs finished.
        epochs: that a whole trial has; 0 if unknown.
        gap: overfitting gap in [0, 1].
        broken: limits that it exceeds.
        params: what the sampler chose.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "diverged", "running"]
    value: float | None = None
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    gap: float | None = None
    broken: tuple[str, ...] = ()
    params: dict[str, Any] = {}


class Importance(Stored):
    """Association of one parameter with the metric within this search space; never an effect.

    ``low`` and ``high`` hold the middle 80 % of bootstrap resamples.
    """

    parameter: str
    value: float
    low: float | None = None
    high: float | None = None


class Finalist(Stored):
    """A recipe that was run again on fresh seeds, with its search score.

    Attributes:
        name: how the report calls it.
        overrides: recipe fields in which it departs from the reference.
        search: its score in the search, optimistic.
        fresh, fresh_low, fresh_high, n: mean over fresh seeds with its 95 % t interval.
        test, test_low, test_high: the same on the test set, for the chosen recipe, the reference and the reference at the
            chosen one's size only.
    """

    name: str
    overrides: dict[str, Any] = {}
    search: float | None = None
    fresh: float | None = None
    fresh_low: float | None = None
    fresh_high: float | None = None
    n: int = 0
    test: float | None = None
    test_low: float | None = None
    test_high: float | None = None
    chosen: bool = False


class Confirmed(Stored):
    """What fresh seeds say of the chosen recipe against the reference: differences paired by seed, in the metric's stored unit.

    Attributes:
        name: of the chosen finalist.
        n: seed pairs.
        fresh, fresh_low, fresh_high: difference on validation, with its t interval.
        p_holm: of it, over all arms of the confirmation.
        verdict: of the study's rules: better, worse, equivalent, unresolved, or empty.
        test, test_low, test_high: difference on the test set.
        test_image_low, test_image_high: of it, the interval for new seeds and new images (two-way).
        test_images: images of the test set; 0 where what the nets did with each is not known.
        test_reads: evaluations on the test set that were looked at.
        improved: whether an improvement is claimed.
    """

    name: str
    n: int
    fresh: float | None = None
    fresh_low: float | None = None
    fresh_high: float | None = None
    p_holm: float | None = None
    verdict: str = ""
    test: float | None = None
    test_low: float | None = None
    test_high: float | None = None
    test_image_low: float | None = None
    test_image_high: float | None = None
    test_images: int = 0
    test_reads: int = 0
    improved: bool = False


class TuningFacts(Stored):
    """A search as the report shows it.

    Attributes:
        metric: what was maximised or minimised, on validation.
        budget: trials that were asked for.
        history: every trial.
        best: overrides of the best recipe by search score; not confirmed.
        best_value: its search score, as stored.
        reference_value: the reference's score in the same search.
        importances: of the parameters, with the dummy's as ``floor``.
        space: ``{entry: what it can take, in words}``.
        limits: what a recipe may cost, in words.
        finalists: after confirmation on fresh seeds, the reference first; empty before.
        at_size: names of those that are the reference at a finalist's size, and nothing that was searched for.
        confirmed: the result of that.
        answer: the outcome in a few sentences.
        recipe: file with the winner, in the report's folder; empty before.
    """

    schema_version: Literal[1] = 1
    metric: str = "accuracy"
    sampler: str = ""
    pruner: str = ""
    budget: int = 0
    history: tuple[SearchTrial, ...] = ()
    best: dict[str, Any] = {}
    best_value: float | None = None
    reference_value: float | None = None
    importances: tuple[Importance, ...] = ()
    floor: float | None = None
    floor_high: float | None = None
    space: dict[str, str] = {}
    limits: str = ""
    finalists: tuple[Finalist, ...] = ()
    at_size: tuple[str, ...] = ()
    confirmed: Confirmed | None = None
    answer: str = ""
    recipe: str = ""
    note: str = ""

    @property
    def ended(self) -> int:
        """How many of its trials have ended."""
        return sum(trial.state != "running" for trial in self.history)

    @property
    def seconds(self) -> float:
        """Of training in the search."""
        return sum(trial.seconds for trial in self.history)
