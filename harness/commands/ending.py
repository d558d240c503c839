"""What follows from a run: the next step, by its report.

Works on a report's ``analysis.json`` as plain data, so that a finished study is shown without the
libraries that analysed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from harness.commands.facts import Outcome
from harness.text import duration
from harness.verdict_table import leading

# more seeds than this are no next step but another study
_AFFORDABLE_SEEDS = 100
# without as many complete seeds there is no verdict; it is exploratory below _FIRM_SEEDS
_FEWEST_SEEDS, _FIRM_SEEDS = 3, 5


def read_analysis_plain(report: Path | str | None) -> Mapping[str, Any] | None:
    """Return the content of ``analysis.json`` that lies by a report's page; None where there is none to read."""
    if report is None:
        return None
    try:
        content = json.loads((Path(report).parent / "analysis.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def nothing_learned(analysis: Mapping[str, Any]) -> str:
    """Return what to do where the baseline is at chance, which a larger run of the same would be too; empty elsewhere."""
    hints = [
        check["hint"]
        for check in analysis["checks"]
        if check["name"] == "chance" and check["level"] == "fail"
    ]
    return f"before another run: {hints[0]}" if hints else ""


def unstable_arms(analysis: Mapping[str, Any]) -> str:
    """Return which arms have trials that diverged, and what helps; empty without any."""
    lost = [arm["name"] for arm in analysis["arms"] if arm["diverged"]]
    if not lost:
        return ""
    names = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    scripted = analysis["study"].get("command") or analysis["study"].get("runner")
    # the fields of our recipe say nothing to a script
    cure = "" if scripted else "; a lower schedule.max_lr helps, or optimizer.grad_clip"
    return f"diverged: trials of {names}{cure}"


def after(
    outcome: Outcome,
    *,
    asked: Callable[..., str],
    larger: str,
    confirmable: bool,
    settled: bool = False,
    left_out: Collection[str] = (),
) -> str:
    """Return the next step after a run; none after failures, and none while trials are left.

    Arguments as ``next_step`` takes them.
    """
    analysis = read_analysis_plain(outcome.report)
    if outcome.exit_code or analysis is None:
        return ""
    each, plan = outcome.plan.seconds_per_trial, outcome.plan
    arms = len(analysis["arms"])
    seconds = each * arms / max(min(plan.workers, arms), 1) if each else None
    return next_step(
        analysis,
        asked=asked,
        larger=larger,
        seconds_a_seed=seconds,
        confirmable=confirmable,
        settled=settled,
        left_out=left_out,
    )


def next_step(
    analysis: Mapping[str, Any],
    *,
    asked: Callable[..., str],
    larger: str,
    seconds_a_seed: float | None = None,
    confirmable: bool = True,
    settled: bool = False,
    left_out: Collection[str] = (),
) -> str:
    """Return the command of the next step, with ``# why`` behind it: settle, then confirm, then the next size.

    None where nothing was learned.

    Args:
        analysis: a report's ``analysis.json``.
        asked: gives the command that was run, with other ``seeds`` or more ``flags``.
        larger: the command of the next size up; empty at the largest.
        seconds_a_seed: what one seed more of every arm costs.
        settled: whether what was asked is answered, whatever else is open: a search has its winner.
        confirmable: whether ``--recommended`` can follow: it does not follow itself.
        left_out: arms that are no candidates, and need no seeds for their own sake.
    """
    if nothing_learned(analysis):
        return ""
    if analysis["screening"]:
        return f"{asked()}   # judges the arms: a screening does not"

    done = len(analysis["seeds"])
    names, wanted = _to_settle(analysis, left_out)
    if wanted > done and not settled:
        cost = seconds_a_seed * (wanted - done) if seconds_a_seed else 0.0
        time = f", about {duration(cost)}" if cost else ""
        return f"{asked(seeds=wanted)}   # to settle {names}{time}"
    if confirmable and analysis["recommended"] and not analysis["recommended_arm"]:
        return f"{asked(flags='--recommended')}   # to confirm the recommended recipe, which no arm had, on fresh seeds"
    return larger


def _to_settle(analysis: Mapping[str, Any], left_out: Collection[str]) -> tuple[str, int]:
    """Return which arms are open and how many seeds would settle them; ("", 0) where that is nothing to run next."""
    if len(analysis["arms"]) < 2 or analysis["study"]["looks"]:  # looks say when to stop
        return "", 0
    done = len(analysis["seeds"])
    judged = any(effect["verdict"] for effect in analysis["effects"])
    if not judged:
        return (
            ("the arms: a verdict takes 3 seeds", _FIRM_SEEDS) if done < _FEWEST_SEEDS else ("", 0)
        )
    needed = {
        effect["term"]: analysis["seeds_needed"].get(effect["term"], 0)
        for effect in leading(analysis)
        if effect["term"] not in left_out
    }
    open_arms = {name: seeds for name, seeds in needed.items() if done < seeds <= _AFFORDABLE_SEEDS}
    if not open_arms:
        return "", 0
    names = list(open_arms)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return shown, max(open_arms.values())
