"""An ablation harness for image-classification training recipes.

Names of the public API are resolved on first use, so that ``import harness`` loads neither torch
nor pandas. No module of the package imports from here.

Train and look     fit_one_cycle, evaluate, diagnose, history_frame
Ask and answer     Recipe, Study, load_study, ablate, tune, Outcome, TuneOutcome
Analyse            analyze, analyze_table, read_analysis, Analysis, effects_frame, compare, write_report, Trial
Errors             HarnessError
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis import Analysis, analyze, effects_frame
    from harness.analysis.comparison import compare
    from harness.analysis.diagnosis import diagnose
    from harness.analysis.epoch_history import history_frame
    from harness.commands.ablate import ablate
    from harness.commands.analyze import analyze_table
    from harness.commands.facts import Outcome, TuneOutcome
    from harness.commands.tune import tune
    from harness.errors import HarnessError
    from harness.report import read_analysis, write_report
    from harness.study.recipe import Recipe
    from harness.study.study import Study, load_study
    from harness.study.trial import Trial
    from harness.train import evaluate, fit_one_cycle

__version__ = "0.1.0"

# Public name -> the module that defines it under the same name. No public name may be a module's:
# importing the module would put it in the name's place.
_API: dict[str, str] = {
    "Analysis": "harness.analysis",
    "HarnessError": "harness.errors",
    "Outcome": "harness.commands.facts",
    "Recipe": "harness.study.recipe",
    "Study": "harness.study.study",
    "Trial": "harness.study.trial",
    "TuneOutcome": "harness.commands.facts",
    "ablate": "harness.cli.quiet",
    "analyze": "harness.analysis",
    "analyze_table": "harness.commands.analyze",
    "compare": "harness.analysis.comparison",
    "diagnose": "harness.analysis.diagnosis",
    "effects_frame": "harness.analysis",
    "evaluate": "harness.train",
    "fit_one_cycle": "harness.train",
    "history_frame": "harness.analysis.epoch_history",
    "load_study": "harness.study.study",
    "read_analysis": "harness.report",
    "tune": "harness.cli.quiet",
    "write_report": "harness.report",
}

__all__ = [
    "Analysis",
    "HarnessError",
    "Outcome",
    "Recipe",
    "Study",
    "Trial",
    "TuneOutcome",
    "__version__",
    "ablate",
    "analyze",
    "analyze_table",
    "compare",
    "diagnose",
    "effects_frame",
    "evaluate",
    "fit_one_cycle",
    "history_frame",
    "load_study",
    "read_analysis",
    "tune",
    "write_report",
]


if not TYPE_CHECKING:  # with it, a type checker would take any name for public

    def __getattr__(name: str) -> Any:
        """Import a public name on first use, and keep it.

        Raises:
            AttributeError: the name is not public.
        """
        if name not in _API:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_API[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
