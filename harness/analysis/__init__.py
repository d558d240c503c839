"""From a study and its trials to effects with intervals, verdicts and checks."""

from __future__ import annotations

from harness.analysis.model import Analysis, ArmFacts, Check, ClassEffect, Effect, Summary, Verdict

__all__ = ["Analysis", "ArmFacts", "Check", "ClassEffect", "Effect", "Summary", "Verdict"]
