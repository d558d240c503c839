"""Regular fractions of two-level factorials: fewer arms than 2^k, at the price of terms that share a column.

Every factor is a column of signs: a product of some of m base columns, kept as a bit mask (bit j:
base column j takes part). The product of two columns is the exclusive or of their masks, and terms
with one mask are aliased. Source: Box, Hunter and Hunter, Statistics for Experimenters, 2nd ed.
(2005), chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product
from operator import xor

from harness.errors import StudyError
from harness.study.study import Study

_FEWEST, _MOST = 4, 16  # below 4 no fraction has resolution IV; 16 factors take 32 runs


@dataclass(frozen=True, slots=True)
class Fraction:
    """A fraction of a 2^k factorial.

    Attributes:
        columns: bit mask of each factor over the base columns.
        base: number of base columns; the fraction has ``2**base`` runs.
        resolution: length of the shortest word of the defining relation, 0 when there is none.
    """

    columns: tuple[int, ...]
    base: int
    resolution: int

    @property
    def runs(self) -> tuple[tuple[bool, ...], ...]:
        """Which factors are on in each run, the run with all of them on first, then by the number that are off."""
        states = []
        for signs in product((True, False), repeat=self.base):
            off = sum(1 << j for j, on in enumerate(signs) if not on)
            states.append(tuple((column & off).bit_count() % 2 == 0 for column in self.columns))
        return tuple(sorted(states, key=lambda run: (run.count(False), [not on for on in run])))


@dataclass(frozen=True, slots=True)
class Alias:
    """A term that a fraction estimates, and the terms that it is the sum with.

    Attributes:
        term: factor names, one for a main effect, two for an interaction.
        with_: the aliased terms of the order that matters: two factors for an interaction, three for a main effect.
    """

    term: tuple[str, ...]
    with_: tuple[tuple[str, ...], ...]


def fraction(factors: int) -> Fraction:
    """Return the smallest regular fraction of resolution IV or better for a number of factors.

    Construction: with m base columns all products of an odd number of them may be used. Three odd
    products multiply to an odd one, never to a constant, so that no word has fewer than four
    letters (it is the fold-over of a saturated design). Five factors take the product of four
    instead, which costs nothing and gives resolution V.

    Raises:
        StudyError: fewer than 4 factors, of which no such fraction exists, or more than 16.
    """
    if not _FEWEST <= factors <= _MOST:
        raise StudyError(
            f"a fraction of {factors} factors is not offered: {_FEWEST} to {_MOST} are",
            "use design = 'factorial'"
            if factors < _FEWEST
            else "split the study into smaller ones",
        )
    base = max(3, (factors - 1).bit_length() + 1)
    full = (1 << base) - 1
    odd = sorted(
        (mask for mask in range(1, full + 1) if mask.bit_count() % 2),
        key=lambda mask: (mask.bit_count(), mask),
    )
    # resolution V: then no two interactions share a contrast
    columns = (1, 2, 4, 8, 15) if factors == 5 else tuple(odd[:factors])
    return Fraction(columns, base, _resolution(columns))


def _resolution(columns: Sequence[int]) -> int:
    for length in range(1, len(columns) + 1):
        if any(reduce(xor, word) == 0 for word in combinations(columns, length)):
            return length
    return 0


def alias_table(study: Study) -> tuple[Alias, ...]:
    """Return what each main effect and two-factor interaction of a study's fraction is aliased with; empty for other designs.

    Interactions that are aliased with each other share one entry, under the first of them; main
    effects list three-factor interactions, which are taken to be small.
    """
    if study.design != "fraction":
        return ()
    columns = {
        factor.name: mask
        for factor, mask in zip(study.factors, fraction(len(study.factors)).columns, strict=True)
    }
    by_mask: dict[int, list[tuple[str, ...]]] = {}
    # higher orders are taken to be nothing
    for order in (1, 2, 3):
        for term in combinations(columns, order):
            by_mask.setdefault(reduce(xor, (columns[name] for name in term)), []).append(term)
    mains = [
        Alias(terms[0], tuple(t for t in terms[1:] if len(t) == 3))
        for terms in by_mask.values()
        if len(terms[0]) == 1
    ]
    pairs = [
        Alias(terms[0], tuple(t for t in terms[1:] if len(t) == 2))
        for terms in by_mask.values()
        if len(terms[0]) == 2
    ]
    return (*mains, *pairs)
