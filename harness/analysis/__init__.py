"""From trials to effects with intervals, verdicts, checks and advice; other people's tables of runs; power.

No test of its own (``stats``), and no word or drawing of the report (``report``).
Start with ``assemble``; ``model`` is what it makes, ``verdicts`` and ``checks`` hold the rules.
"""

from __future__ import annotations

from harness.analysis.assemble import analyze
from harness.analysis.frame import COLUMNS, effects_frame
from harness.analysis.looks import look_decisions
from harness.analysis.model import (
    Analysis,
    ArmFacts,
    Check,
    ClassEffect,
    Effect,
    Pair,
    Retuned,
    Retuning,
    Setting,
    Summary,
    Verdict,
)
from harness.analysis.retuned import join
from harness.analysis.verdicts import Judgement, judge, word

__all__ = [
    "COLUMNS",
    "Analysis",
    "ArmFacts",
    "Check",
    "ClassEffect",
    "Effect",
    "Judgement",
    "Pair",
    "Retuned",
    "Retuning",
    "Setting",
    "Summary",
    "Verdict",
    "analyze",
    "effects_frame",
    "join",
    "judge",
    "look_decisions",
    "word",
]
