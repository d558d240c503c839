"""What an analysis is made of.

Every number here is in the unit that it is shown in: percentage points for metrics of unit ``pp``,
else as it is. A number that is not known is None, never nan.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.study.study import Study
from harness.study.trial import Stored
from harness.verdict_table import as_html

Verdict = Literal["", "better", "worse", "equivalent", "unresolved"]


class Summary(Stored):
    """One arm's level of one metric: mean over seeds with its t interval.

    Attributes:
        n: seeds used (complete blocks only).
        low, high: bounds at the study's confidence, NaN-free: None when n < 2.
        seeds, scores: the seeds and the score of each, in seed order.
    """

    arm: str
    metric: str
    unit: str
    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()


class Effect(Stored):
    """A difference between an arm (or a term of a design) and its reference, with what is known of it.

    Verdict and p-values are those of the study's primary metric; every other metric has its interval alone, but for the gap,
    which has p and ``p_holm`` too. ``p_holm`` and ``p_equivalence`` are adjusted by Holm over the effects of one kind. With
    looks, ``p`` is sequential and the interval is repeated: both hold wherever the arm stopped.
    """

    kind: Literal[
        "arm",
        "main",
        "interaction",
        "shapley",
        "control",
        "leave-one-out",
        "add-one-in",
        "dataset",
    ]
    term: str
    reference: str
    metric: str
    unit: str
    n: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None
    verdict: Verdict = ""
    note: str = (
        # "exploratory", "measurable, below the margin", "unstable (1 of 8)", "stopped at look 1 of
        # 2", ...; "; " between
        ""
    )
    seed_correlation: float | None = None
    pairing_gain: float | None = None
    sd: float | None = None  # of the per-seed differences
    differences: tuple[float, ...] = ()  # one a seed, in seed order
    image_low: float | None = None  # interval for new images too (two-way), accuracy only
    image_high: float | None = None
    # what finitely many images add to the sd of the differences (two-way), accuracy only
    sd_images: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _older(cls, content: Any) -> Any:
        """Read what older reports hold in place of ``sd_images``: the rest of the sd."""
        if not isinstance(content, dict) or "sd_real" not in content:
            return content
        kept = {key: value for key, value in content.items() if key != "sd_real"}
        if kept.get("sd") is not None and content["sd_real"] is not None:
            kept["sd_images"] = sqrt(max(0.0, kept["sd"] ** 2 - content["sd_real"] ** 2))
        return kept


class ArmFacts(Stored):
    """What an arm is and what became of its trials."""

    name: str
    recipe_id: str
    reference: str
    overrides: dict[str, Any]
    components: dict[str, Any]
    why: str
    planned: int
    completed: int
    failed: int
    pruned: int
    diverged: int
    params_m: float | None = None
    mflop_per_image: float | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    throughput: dict[int, float] = {}  # images a second of each analysed seed
    word: str = ""  # regularises, underfits, helps, hurts, or empty
    censored_at: int | None = None  # epoch at which a screening stopped it
    onset_epoch: float | None = None  # counted from 1; median over seeds with an onset
    onset_none: int = 0  # seeds without one
    # why its own runs cannot be judged, whatever it is compared with: "unstable (1 of 8)", ...
    trouble: str = ""

    @property
    def onsets(self) -> int:
        """In how many of its completed runs overfitting sets in."""
        return self.completed - self.onset_none


class ClassEffect(Stored):
    """Difference of an arm's validation accuracy within one class, in pp."""

    arm: str
    label: str
    n: int
    estimate: float
    low: float | None
    high: float | None


class Check(Stored):
    """Something that was looked at: ok, warn or fail, what was found, and what to do about it."""

    level: Literal["ok", "warn", "fail"]
    name: str
    what: str
    hint: str = ""


class Setting(Stored):
    """What retuning chose for one arm.

    Attributes:
        chosen: recipe fields, on top of what makes the arm one; empty when it stays as it is.
        score, as_is: of the chosen setting and of the arm as it is in the search on validation, in the unit shown; None
            where a trial did not run to its end. The best of several is optimistic.
        complete: settings that ran to their end.
        gain, low, high: retuned minus as it is on the study's own seeds, with the paired t interval.
    """

    arm: str
    chosen: dict[str, Any] = {}
    score: float | None = None
    as_is: float | None = None
    complete: int = 0
    gain: float | None = None
    low: float | None = None
    high: float | None = None


class Pair(Stored):
    """One effect as it is and with every arm retuned.

    Attributes:
        change_of_verdict: flips (between better, worse and equivalent), resolves, no longer resolved, or nothing.
        change, low, high: retuned effect minus the one as it is, paired by seed; None unless both have the same seeds.
    """

    term: str
    reference: str
    as_is: Effect
    retuned: Effect
    change_of_verdict: str = ""
    change: float | None = None
    low: float | None = None
    high: float | None = None


class Retuning(Stored):
    """The result of retuning a study, as the report's folder keeps it.

    Attributes:
        entries: ``{entry of the space: what it could be}``.
        tries: settings that every arm was tried at.
        settings: what was chosen, by arm; empty before every setting is final.
        effects, summaries: of the retuned study, on the deciding metric.
        missing: trials that are still to be run, in the search and in the retuned study.
    """

    schema_version: Literal[1] = 1
    entries: dict[str, str] = {}
    tries: int = 0
    settings: tuple[Setting, ...] = ()
    effects: tuple[Effect, ...] = ()
    summaries: tuple[Summary, ...] = ()
    missing: int = 0


class Retuned(Stored):
    """The effects of a study as it is, next to those of its retuned arms; ``flips`` counts verdicts that turn."""

    entries: dict[str, str] = {}
    tries: int = 0
    settings: tuple[Setting, ...] = ()
    pairs: tuple[Pair, ...] = ()
    missing: int = 0
    flips: int = 0


class Analysis(Stored):
    """Everything that a report says in numbers.

    Attributes:
        primary, higher_is_better: name and direction of the metric that decides.
        gap: name of the overfitting gap that goes with it.
        margin: the smallest difference worth acting on, in the unit of the primary metric.
        level: confidence of every interval, 0.95 for alpha 0.05; with looks higher, as the repeated intervals are.
        orders: in designs that switch factors, what each component adds when it is the last one in (leave-one-out) and
            when it is the only one (add-one-in); intervals only.
        aliases: terms of a fraction that share a column, e.g. ``("crop x flip", "jitter x cutout")``.
        looks_reached, arms_in: looks complete so far, and the arms that go on to the next one.
        images: validation images that the scores are of, 0 if unknown.
        data_fingerprint: of the images that count; read back from the trials, which have it, and not
            from analysis.json.
        environments: distinct hardware and software of the trials, one line each.
        retuned: the same effects with every arm retuned, where the study asks for it.
    """

    schema_version: Literal[1] = 1
    study: Study
    seeds: tuple[int, ...]  # complete blocks, the ones analysed
    seeds_planned: int
    finished: bool  # every planned cell has its final state
    screening: bool = False
    arms: tuple[ArmFacts, ...]
    summaries: tuple[Summary, ...]
    effects: tuple[Effect, ...]
    classes: tuple[ClassEffect, ...] = ()
    checks: tuple[Check, ...] = ()
    primary: str = "accuracy"
    higher_is_better: bool | None = True
    gap: str = "gap"
    margin: float = 0.0
    level: float = 0.95
    orders: tuple[Effect, ...] = ()
    aliases: tuple[tuple[str, ...], ...] = ()
    looks_reached: int = 0
    arms_in: tuple[str, ...] = ()
    images: int = 0
    data_fingerprint: str = Field("", exclude=True)
    environments: tuple[str, ...] = ()
    # smallest effect that these seeds find with 80 % power under Holm's correction
    detectable_pp: float | None = None
    # unresolved arm or component -> seeds that settle its estimate with a chance of 80 %
    seeds_needed: dict[str, int] = {}
    # what to set on top of the baseline's recipe; empty when it is the baseline
    recommended: dict[str, Any] = {}
    # one sentence for each change recommended, in the order to make them
    reasons: tuple[str, ...] = ()
    # one for each change that its own verdict allows and that is not recommended, and why
    kept: tuple[str, ...] = ()
    recommended_arm: str = ""  # the arm that has the recommended recipe; empty when it was not run
    trials_total: int = 0
    train_seconds_total: float = 0.0
    retuned: Retuned | None = None

    def _repr_html_(self) -> str:
        """Return the verdict table and its intervals, for a notebook."""
        return as_html(self.model_dump(mode="json", by_alias=True))
