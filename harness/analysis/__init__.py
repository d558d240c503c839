"""From a study and its trials to effects with intervals, verdicts and checks.

model      what an analysis is made of
table      trials joined to arms: status and scores by arm and seed
standing   which arms can be judged at all
looks      how far a study has come: complete blocks, looks, who goes on
verdicts   the rules for verdicts and words
effects    arms, classes, the A/A arm
terms      main effects, interactions, Shapley values
checks     what was looked at before a number is believed
advice     detectable effect, seeds needed, the recommended recipe
assemble   all of it together
retuned    a study as it is beside the same with every arm retuned
frame      the table of effects
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
