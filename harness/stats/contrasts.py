"""Contrasts of a factorial design, one value a seed: test them with `one_sample_t`.

A contrast is taken inside each seed, so whatever a seed does to all arms alike cancels, as it does
in a paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.stats.paired import FloatArray, on_grid, size_of

Term = tuple[int, ...]


def contrast_signs(levels_AK: npt.ArrayLike) -> tuple[list[Term], FloatArray]:
    """Signs of the main effects and two-factor interactions of a two-level design.

    Args:
        levels_AK: one row an arm, one column a factor; True or 1 is on, False, 0 or -1 is off.

    Returns:
        The terms, `(k,)` for factor k and `(j, k)` for an interaction, main effects first; and
        their signs, -1 or 1, shape (A, T). In a fraction of resolution IV some interactions share a
        column up to sign: those are aliases, one contrast with two names.

    Raises:
        UsageError: the levels are not two, a column is not half on and half off, or a main effect
            shares its column with another term.
    """
    levels = np.asarray(levels_AK, dtype=np.float64)
    if levels.ndim != 2 or levels.size == 0 or not bool(np.isin(levels, (-1.0, 0.0, 1.0)).all()):
        raise UsageError(
            "levels are not a table of on and off",
            "one row an arm, one column a factor, values 0 or 1",
        )
    signs_AK = np.where(levels > 0, 1.0, -1.0)
    arms, factors = signs_AK.shape
    terms: list[Term] = [(k,) for k in range(factors)] + list(combinations(range(factors), 2))
    signs_AT = np.stack([signs_AK[:, list(term)].prod(axis=1) for term in terms], axis=1)
    if bool((signs_AK.sum(axis=0) != 0).any()):
        raise UsageError(
            "a factor is not on in half of the arms",
            "use a full factorial or a regular fraction of it",
        )
    products_TT = np.abs(signs_AT.T @ signs_AT)
    off_TT = products_TT - np.diag(np.diag(products_TT))
    if (
        bool((off_TT[:factors] != 0).any())
        or bool((off_TT % arms != 0).any())
        or bool((signs_AT.sum(axis=0) % arms != 0).any())
    ):
        raise UsageError(
            "main effects are mixed with other terms in this design",
            "use a fraction of resolution IV or better",
        )
    return terms, signs_AT


def factorial_contrast(
    scores_AS: npt.ArrayLike, levels_AK: npt.ArrayLike
) -> dict[Term, FloatArray]:
    """Main effects and two-factor interactions of a two-level design, seed by seed.

    Definition: (2 / A) sum over arms of sign x score. For a main effect that is mean(factor on) -
    mean(factor off). For an interaction it is half of (effect of j with k on) - (effect of j with k
    off), so that it has the variance of a main effect. Source: Box, Hunter and Hunter (2005),
    Statistics for Experimenters, chapter 5.

    Args:
        scores_AS: shape (A, S), one row an arm, one column a seed, any unit; every seed in every
            arm.
        levels_AK: as `contrast_signs`, rows in the same order.

    Returns:
        Per term a vector of shape (S,), in the unit of the scores.

    Raises:
        UsageError: the shapes do not match, or as `contrast_signs`.
    """
    terms, signs_AT = contrast_signs(levels_AK)
    scores = np.asarray(scores_AS, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != signs_AT.shape[0]:
        raise UsageError(
            f"scores have shape {scores.shape}, expected one row for each of {signs_AT.shape[0]} arms",
            "one row an arm, one column a seed",
        )
    arms = scores.shape[0]
    effects: dict[Term, FloatArray] = {}
    for index, term in enumerate(terms):
        on = signs_AT[:, index] > 0
        contrast_S = (scores[on].sum(axis=0) - scores[~on].sum(axis=0)) * (2.0 / arms)
        effects[term] = on_grid(contrast_S, size_of(scores))
    return effects


def shapley(values: Mapping[frozenset[int], npt.ArrayLike], players: int) -> FloatArray:
    """Exact Shapley value of each component, seed by seed: its mean marginal effect over all orders of adding the components.

    Definition: phi_i = sum over sets without i of |set|! (players - |set| - 1)! / players!
    (value(set and i) - value(set)). They add up to value(all) - value(none) in every seed, whatever
    the interactions. Source: Shapley (1953), A value for n-person games.

    Args:
        values: for each of the 2^players sets of components that are on, its scores, shape (S,),
            any unit.
        players: number of components, numbered from 0.

    Returns:
        Shape (players, S), in the unit of the scores.

    Raises:
        UsageError: a set is missing, or the sets differ in their number of seeds.
    """
    if players < 1:
        raise UsageError(
            f"{players} components have no Shapley values", "name at least one component"
        )
    sets = [
        frozenset(chosen)
        for size in range(players + 1)
        for chosen in combinations(range(players), size)
    ]
    missing = [sorted(chosen) for chosen in sets if chosen not in values]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(sets)} sets of components have no scores, first {missing[0]}",
            "run the full factorial",
        )
    arrays = {
        chosen: np.atleast_1d(np.asarray(values[chosen], dtype=np.float64)) for chosen in sets
    }
    if len({array.shape for array in arrays.values()}) != 1 or arrays[frozenset()].ndim != 1:
        raise UsageError(
            "the sets of components differ in their seeds",
            "keep only the seeds that every set finished",
        )
    result = np.zeros((players, arrays[frozenset()].size))
    for player in range(players):
        for chosen in sets:
            if player not in chosen:
                weight = (
                    factorial(len(chosen))
                    * factorial(players - len(chosen) - 1)
                    / factorial(players)
                )
                result[player] += weight * (arrays[chosen | {player}] - arrays[chosen])
    return on_grid(result, size_of(*arrays.values()))
