"""A study as it is and the same study with every arm retuned, side by side.

A verdict that changes is marked; whether the effect itself changed is another question, and gets an
interval of its own: the paired t interval of the per-seed differences of the two effects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.model import Analysis, Effect, Pair, Retuned, Retuning, Setting, Summary
from harness.analysis.verdicts import number
from harness.stats import paired_t

RESOLVED = ("better", "worse", "equivalent")


def leading(effects: Sequence[Effect], metric: str) -> tuple[Effect, ...]:
    """Return the effects that answer the question: main effects where a design gives them, else those of the arms."""
    for kind in ("main", "arm"):
        of_kind = tuple(e for e in effects if e.kind == kind and e.metric == metric)
        if of_kind:
            return of_kind
    return ()


def join(analysis: Analysis, retuning: Retuning) -> Retuned:
    """Return the effects as they are next to those of the retuned arms, and what retuning chose and gained.

    Args:
        analysis: of the study as it is.
        retuning: what was tried, and the results of the retuned study.
    """
    metric, alpha = analysis.primary, analysis.study.alpha
    there = {(effect.kind, effect.term, effect.reference): effect for effect in retuning.effects}
    before, after = (
        {level.arm: level for level in summaries if level.metric == metric}
        for summaries in (analysis.summaries, retuning.summaries)
    )

    pairs = []
    for effect in leading(analysis.effects, metric):
        retuned = there.get((effect.kind, effect.term, effect.reference))
        if retuned is not None:
            # Over other seeds, a change may be the seeds'.
            same_seeds = _seeds(effect, before) == _seeds(retuned, after)
            pairs.append(_pair(effect, retuned, alpha, same_seeds=same_seeds))
    settings = [
        _with_gain(setting, before.get(setting.arm), after.get(setting.arm), alpha)
        for setting in retuning.settings
    ]
    return Retuned(
        entries=retuning.entries,
        tries=retuning.tries,
        settings=tuple(settings),
        pairs=tuple(pairs),
        missing=retuning.missing,
        flips=sum(pair.change_of_verdict == "flips" for pair in pairs),
    )


def _seeds(effect: Effect, levels: Mapping[str, Summary]) -> set[tuple[int, ...]]:
    """Return the seeds of the arms that an effect is made of: its own two, or all for a main effect."""
    return {
        level.seeds
        for arm, level in levels.items()
        if effect.kind == "main" or arm in (effect.term, effect.reference)
    }


def _pair(as_is: Effect, retuned: Effect, alpha: float, *, same_seeds: bool) -> Pair:
    return Pair(
        term=as_is.term,
        reference=as_is.reference,
        as_is=as_is,
        retuned=retuned,
        change_of_verdict=_change(as_is, retuned),
        **(_difference(as_is.differences, retuned.differences, alpha) if same_seeds else {}),
    )


def _change(as_is: Effect, retuned: Effect) -> str:
    """Say what became of a verdict; nothing when it stayed, or when one side was not judged."""
    before, after = as_is.verdict, retuned.verdict
    if before == after or not before or not after:
        return ""
    if before in RESOLVED and after in RESOLVED:
        return "flips"
    return "resolves" if after in RESOLVED else "no longer resolved"


def _difference(
    before: Sequence[float], after: Sequence[float], alpha: float
) -> dict[str, float | None]:
    """Return mean and bounds of after minus before, paired; nothing where there are none or their numbers differ."""
    if not before or len(before) != len(after):
        return {}
    result = paired_t(after, before, alpha=alpha)
    return {"change": number(result.mean), "low": number(result.low), "high": number(result.high)}


def _with_gain(
    setting: Setting, as_is: Summary | None, retuned: Summary | None, alpha: float
) -> Setting:
    """Return a setting with what it gained on the study's own seeds."""
    if as_is is None or retuned is None:
        return setting
    # A seed that one of the two lost has no pair.
    scores = dict(zip(retuned.seeds, retuned.scores, strict=True))
    pairs = [
        (scores[seed], score)
        for seed, score in zip(as_is.seeds, as_is.scores, strict=True)
        if seed in scores
    ]
    if not pairs:
        return setting
    result = paired_t([new for new, _ in pairs], [old for _, old in pairs], alpha=alpha)
    return setting.model_copy(
        update={"gain": number(result.mean), "low": number(result.low), "high": number(result.high)}
    )
