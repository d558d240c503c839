"""The arms of every design, and what each is compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any

from harness.errors import StudyError, did_you_mean
from harness.study.fraction import fraction
from harness.study.plugin_fields import carried
from harness.study.recipe import Recipe
from harness.study.study import Factor, Study

# of a full factorial: 32 arms; beyond, a fraction says as much about main effects and pairs
_MOST_FACTORS = 5


@dataclass(frozen=True, slots=True)
class Arm:
    """One variant of the recipe and what it is judged against.

    Attributes:
        name: unique within the study.
        recipe: the complete recipe.
        overrides: recipe fields in which it departs from the baseline, with their values.
        why: one sentence, or empty.
        reference: name of the arm it is compared with; empty for the baseline.
        components: ``{factor name: level}`` for arms made by a design, else empty.
        label: name under which a table of finished runs knows the arm; its recipe is then the reference and says nothing.
    """

    name: str
    recipe: Recipe
    overrides: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    reference: str = ""
    components: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def recipe_id(self) -> str:
        """Identity that trials are joined by: the recipe's, or the label where no recipe is known."""
        return self.label or self.recipe.id


def arms(study: Study) -> tuple[Arm, ...]:
    """Return the arms of a study, the baseline first.

    Raises:
        StudyError: two arms have one recipe or one name, a full factorial has more than five
            factors, or there are settings for an arm that is not there.
    """
    return study.once("_arms", lambda: _labelled(study) if study.table else _designed(study))


def _designed(study: Study) -> tuple[Arm, ...]:
    base = study.base_recipe
    on: dict[str, Any] = {}
    for factor in study.factors if study.design != "sweep" else ():
        on.update(factor.setting(factor.on))

    # Every factor on is the baseline of all designs but a sweep, so an arm says what is lost
    # without a part of it.
    baseline = _arm(study.baseline, base, on, components=_baseline_components(study, base))
    planned = [baseline, *_made(study, base, baseline)]
    planned += [
        _arm(
            hand.name,
            base,
            {**carried(on, hand.set), **hand.set},
            why=hand.why,
            reference=study.baseline,
        )
        for hand in study.arms
    ]
    planned = _set(study, planned)
    _refuse_twins(study, planned)

    # Worked out last: what retuning set for an arm departs from the baseline as well.
    departs = [
        {key: there for key, (_, there) in baseline.recipe.difference(arm.recipe).items()}
        for arm in planned
    ]
    return tuple(
        replace(arm, overrides=changed) for arm, changed in zip(planned, departs, strict=True)
    )


def _labelled(study: Study) -> tuple[Arm, ...]:
    """The arms of a table of finished runs, each known by its name."""
    planned = [Arm(study.baseline, Recipe(), label=study.baseline)]
    planned += [
        Arm(a.name, Recipe(), why=a.why, reference=study.baseline, label=a.name) for a in study.arms
    ]
    if study.baseline in {arm.name for arm in study.arms}:
        raise StudyError(
            f"study {study.name!r}: two arms are called {study.baseline!r}",
            "the baseline is no arm of its own",
        )
    return tuple(planned)


def _made(study: Study, base: Recipe, baseline: Arm) -> list[Arm]:
    """The arms that the design makes of the factors, the baseline left out."""
    if study.design == "sweep":
        return _swept(study, base, baseline)
    factors, name = study.factors, study.baseline
    everything = {factor.name for factor in factors}
    made: list[Arm] = []
    if study.design in ("leave-one-out", "both"):
        made += [
            _switched(
                f"no-{f.name}", base, factors, on=everything - {f.name}, reference=name, why=f.why
            )
            for f in factors
        ]
    if study.design in ("add-one-in", "both"):
        made.append(
            _switched("none", base, factors, on=set(), reference=name, why="every factor off")
        )
        # a single factor alone is the baseline
        alone = factors if len(factors) > 1 else ()
        made += [
            _switched(f"only-{f.name}", base, factors, on={f.name}, reference="none", why=f.why)
            for f in alone
        ]
    if study.design in ("factorial", "fraction"):
        for states in _runs(study)[1:]:  # the first is the baseline
            on = {factor.name for factor, state in zip(factors, states, strict=True) if state}
            made.append(
                _switched(factorial_name(factors, on), base, factors, on=on, reference=name)
            )
    seen: dict[Recipe, Arm] = {}
    # with one or two factors, "no-a" is the same arm as "none" or "only-b": the first name stands
    for arm in made:
        seen.setdefault(arm.recipe, arm)
    return list(seen.values())


def _swept(study: Study, base: Recipe, baseline: Arm) -> list[Arm]:
    """One arm a level; a level equal to the base is the baseline."""
    made = [
        _arm(
            f"{factor.name}={_plain(level)}",
            base,
            factor.setting(level),
            why=factor.why,
            reference=study.baseline,
            components={factor.name: level},
        )
        for factor in study.factors
        for level in factor.levels
    ]
    return [arm for arm in made if arm.recipe != baseline.recipe]


def _baseline_components(study: Study, base: Recipe) -> dict[str, Any]:
    """Every factor on; in a sweep, the level that the base recipe already has (of the first of several fields)."""
    if study.design == "sweep":
        return {factor.name: base.flat()[factor.field[0]] for factor in study.factors}
    return {factor.name: factor.on for factor in study.factors}


def _runs(study: Study) -> Sequence[tuple[bool, ...]]:
    """Which factors are on in each run of a factorial or a fraction, the run with all of them on first."""
    if study.design == "fraction":
        return fraction(len(study.factors)).runs
    if len(study.factors) > _MOST_FACTORS:
        raise StudyError(
            f"study {study.name!r}: a full factorial of {len(study.factors)} factors has {2 ** len(study.factors)} arms",
            f"use design = 'fraction', or at most {_MOST_FACTORS} factors",
        )
    return sorted(
        product((True, False), repeat=len(study.factors)), key=lambda states: states.count(False)
    )


def switches(study: Study, planned: Sequence[Arm]) -> dict[str, tuple[bool, ...]]:
    """Return which factors are on in each arm that a design made, in the study's order of factors.

    Arms written by hand and sweeps have none and are left out.
    """
    if study.design in ("sweep", "arms"):
        return {}
    names = [factor.name for factor in study.factors]
    return {
        arm.name: tuple(arm.components[factor.name] == factor.on for factor in study.factors)
        for arm in planned
        if arm.components and all(name in arm.components for name in names)
    }


def factorial_name(factors: Sequence[Factor], on: set[str]) -> str:
    """Return the name of a factorial arm: what is switched off, e.g. ``no-decay-no-clip``, or ``none``."""
    return (
        "none"
        if not on
        else "-".join(f"no-{factor.name}" for factor in factors if factor.name not in on)
    )


def _switched(
    name: str,
    base: Recipe,
    factors: Sequence[Factor],
    *,
    on: Collection[str],
    reference: str,
    why: str = "",
) -> Arm:
    overrides: dict[str, Any] = {}
    components = {}
    for factor in factors:
        components[factor.name] = factor.on if factor.name in on else factor.off
        overrides.update(factor.setting(components[factor.name]))
    return _arm(name, base, overrides, why=why, reference=reference, components=components)


def _arm(
    name: str,
    base: Recipe,
    overrides: Mapping[str, Any],
    *,
    why: str = "",
    reference: str = "",
    components: Mapping[str, Any] | None = None,
) -> Arm:
    return Arm(name, base.with_overrides(overrides), {}, why, reference, dict(components or {}))


def _set(study: Study, planned: Sequence[Arm]) -> list[Arm]:
    """Give every arm of a retuned study what was chosen for it, on top of what makes it that arm."""
    names = [arm.name for arm in planned]
    unknown = sorted(study.settings.keys() - set(names))
    if unknown:
        meant = did_you_mean(unknown[0], names)
        raise StudyError(
            f"study {study.name!r}: settings: there is no arm {unknown[0]!r}{meant}",
            "retuning writes them; run it again",
        )
    return [
        replace(arm, recipe=arm.recipe.with_overrides(study.settings.get(arm.name, {})))
        for arm in planned
    ]


def without_twins_of_baseline(study: Study) -> Study:
    """Return the study without the arms by hand that a changed base has made equal to the baseline.

    Where no arm would be left it stays as it is, and ``arms`` refuses it.
    """
    base = study.base_recipe
    on: dict[str, Any] = {}
    for factor in study.factors if study.design != "sweep" else ():
        on.update(factor.setting(factor.on))
    baseline = base.with_overrides(on)
    kept = tuple(
        hand
        for hand in study.arms
        if base.with_overrides({**on, **carried(on, hand.set), **hand.set}) != baseline
    )
    if len(kept) == len(study.arms) or not (kept or study.factors):
        return study
    return study.model_copy(update={"arms": kept})


def _refuse_twins(study: Study, planned: Sequence[Arm]) -> None:
    faults = []
    for arm, other in combinations(planned, 2):
        if arm.name == other.name:
            faults.append(f"two arms are called {arm.name!r}")
        # the difference would be 0 at every seed and look like a result
        elif arm.recipe == other.recipe:
            faults.append(
                f"arms {arm.name!r} and {other.name!r} have the same recipe, so nothing is compared"
            )
    if faults:
        raise StudyError(
            f"study {study.name!r}: " + "; ".join(faults),
            "remove one of the two, or change what it sets",
        )


def _plain(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
