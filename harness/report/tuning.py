"""What a search leaves behind for the report: plain data that ``tune`` fills in."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchTrial(_Stored):
    """One trial of a search.

    Attributes:
        number: from 0, in the order in which trials were started.
        value: the metric on validation, as stored (accuracies in [0, 1]); for a pruned trial the last report.
        epoch: epochs finished.
        params: what the sampler chose.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "diverged", "running"]
    value: float | None = None
    epoch: int = 0
    seconds: float = 0.0
    params: dict[str, Any] = {}


class Importance(_Stored):
    """Association of one parameter with the metric within this search space; never an effect."""

    parameter: str
    value: float


class Finalist(_Stored):
    """A recipe that was run again on fresh seeds, beside its search score.

    Attributes:
        name: how the report calls it.
        overrides: recipe fields in which it departs from the reference.
        search: its score in the search, optimistic.
        fresh, fresh_low, fresh_high, n: mean over fresh seeds with its 95 % t interval.
        test, test_low, test_high: the same on the test set, for the chosen recipe and the reference only.
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


class TuningFacts(_Stored):
    """A search as the report shows it.

    Attributes:
        metric: what was maximised or minimised, on validation.
        budget: trials that were asked for.
        history: every trial.
        best: overrides of the best recipe by search score; not confirmed.
        best_value: its search score, as stored.
        reference_value: the reference's score in the same search.
        importances: of the parameters, with the dummy's as ``floor``.
        finalists: after confirmation on fresh seeds; empty before.
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
    finalists: tuple[Finalist, ...] = ()
    note: str = ""
