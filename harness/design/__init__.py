"""From a study to its arms, what each is compared with, and the cells that must be run.

Arms map many-to-one onto recipes; a cell belongs to every arm that has its recipe.

    arms       the arms of every design, the switches of each, names of factorial arms
    fraction   regular two-level fractions of resolution IV or better, and what each of their terms is aliased with
    cells      what has to be run: arms by seeds, up to a look
    code       the user's code that a study runs, and its fingerprints
"""

from __future__ import annotations

from harness.design.arms import Arm, arms, factorial_name, switches
from harness.design.cells import CONTROL_OFFSET, cells, seeds
from harness.design.code import cell_code, plugins_of, study_code
from harness.design.fraction import Alias, Fraction, alias_table, fraction

__all__ = [
    "CONTROL_OFFSET",
    "Alias",
    "Arm",
    "Fraction",
    "alias_table",
    "arms",
    "cell_code",
    "cells",
    "factorial_name",
    "fraction",
    "plugins_of",
    "seeds",
    "study_code",
    "switches",
]
