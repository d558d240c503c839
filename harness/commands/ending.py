"""How a run ends in a terminal: the verdict table, and the step that follows from it.

Works on a report's ``analysis.json`` as plain data, so that a finished study is shown without the
libraries that analysed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.facts import Outcome
from harness.text import duration

# more seeds than this are no next step but another study
_AFFORDABLE_SEEDS = 100
# without as many complete seeds there is no verdict; it is exploratory below _FIRM_SEEDS
_FEWEST_SEEDS, _FIRM_SEEDS = 3, 5

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """Rows for ``console.table``, and the line below them that says what their numbers are."""

    heads: Row
    rows: tuple[Row, ...]
    legend: str

    @property
    def numbers(self) -> Row:
        """Heads of the columns that hold numbers."""
        return self.heads[1:-1]


def read_analysis_plain(report: Path | str | None) -> Mapping[str, Any] | None:
    """Return the content of ``analysis.json`` that lies by a report's page; None where there is none to read."""
    if report is None:
        return None
    try:
        content = json.loads((Path(report).parent / "analysis.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def verdict_table(analysis: Mapping[str, Any]) -> VerdictTable | None:
    """Return every contrast that answers the question: its difference, its gap, n and verdict; None without any.

    Args:
        analysis: a report's ``analysis.json``.
    """
    effects = _leading(analysis)
    if not effects:
        return None

    study, primary = analysis["study"], analysis["primary"]
    second = "accuracy" if primary == analysis["gap"] else analysis["gap"]
    gaps = [_effect_on(analysis, effect, second) for effect in effects]
    with_gap = any(gap is not None and gap["estimate"] is not None for gap in gaps)

    rows = [] if effects[0]["kind"] == "main" else [_baseline(analysis, second, with_gap=with_gap)]
    against = study["baseline"]
    for effect, gap in zip(effects, gaps, strict=True):
        if effect["kind"] != "main" and effect["reference"] != against:
            against = effect["reference"]
            rows.append((f"against {against}:", *([""] * (4 if with_gap else 3))))
        cells = (_difference(effect), *((_difference(gap),) if with_gap else ()))
        rows.append((effect["term"], *cells, str(effect["n"]), _verdict(effect)))

    heads = (_named(primary, effects[0]["unit"]), *((_named(second, "pp"),) if with_gap else ()))
    first = "component" if effects[0]["kind"] == "main" else "arm"
    return VerdictTable((first, *heads, "n", "verdict"), tuple(rows), _legend(analysis, effects))


def _leading(analysis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return main effects where the design gives them, else those of the arms: by reference, the best first."""
    primary = [
        effect for effect in analysis["effects"] if effect["metric"] == analysis["study"]["metric"]
    ]
    leading = [effect for effect in primary if effect["kind"] == "main"]
    leading = leading or [effect for effect in primary if effect["kind"] == "arm"]
    references = list(
        dict.fromkeys([analysis["study"]["baseline"], *(one["reference"] for one in leading)])
    )
    sign = -1.0 if analysis["higher_is_better"] is False else 1.0

    def place(effect: Mapping[str, Any]) -> tuple[float, ...]:
        head = float(references.index(effect["reference"]))
        if analysis["study"]["design"] == "sweep":  # in the order of their levels
            return (head,)
        return (head, effect["estimate"] is None, -sign * (effect["estimate"] or 0.0))

    return sorted(leading, key=place)


def _effect_on(
    analysis: Mapping[str, Any], effect: Mapping[str, Any], metric: str
) -> Mapping[str, Any] | None:
    """Return the same contrast on another metric."""
    names = ("kind", "term", "reference")
    return next(
        (
            other
            for other in analysis["effects"]
            if other["metric"] == metric and all(other[name] == effect[name] for name in names)
        ),
        None,
    )


def _baseline(analysis: Mapping[str, Any], second: str, *, with_gap: bool) -> Row:
    name = analysis["study"]["baseline"]
    levels = {level["metric"]: level for level in analysis["summaries"] if level["arm"] == name}
    cells = [_level(levels.get(metric)) for metric in (analysis["study"]["metric"], second)]
    count = levels.get(analysis["study"]["metric"], {}).get("n", 0)
    return (name, *cells[: 2 if with_gap else 1], str(count), "the baseline")


def _level(summary: Mapping[str, Any] | None) -> str:
    if summary is None or summary["mean"] is None:
        return "-"
    percent = "" if "gap" in summary["metric"] else " %"
    return (
        f"{summary['mean']:.2f}{percent}" if summary["unit"] == "pp" else f"{summary['mean']:.4g}"
    )


def _difference(effect: Mapping[str, Any] | None) -> str:
    """Return ``+1.05 [+0.31, +1.79]``."""
    if effect is None or effect["estimate"] is None:
        return "-"
    form = "+.2f" if effect["unit"] == "pp" else "+.3g"
    text = f"{effect['estimate']:{form}}"
    if effect["low"] is not None and effect["high"] is not None:
        text += f" [{effect['low']:{form}}, {effect['high']:{form}}]"
    return text


def _verdict(effect: Mapping[str, Any]) -> str:
    if effect["verdict"]:
        return str(effect["verdict"])
    return f"not judged: {effect['note']}" if effect["note"] else "not judged"


def _named(metric: str, unit: str) -> str:
    return f"{metric.rpartition(':')[2]}{', pp' if unit == 'pp' else ''}"


def _legend(analysis: Mapping[str, Any], effects: Sequence[Mapping[str, Any]]) -> str:
    """Say what the numbers are: pairs, interval, margin, which end is the good one."""
    study = analysis["study"]
    kind = "repeated t" if len(study["looks"]) > 1 else "t"
    unit = " pp" if effects[0]["unit"] == "pp" else ""
    good = {True: "higher is better", False: "lower is better", None: "no end is the better one"}
    what = "means over all settings of the others" if effects[0]["kind"] == "main" else "paired"
    holm = ", Holm" if len(effects) > 1 else ""

    terms = [effect["term"] for effect in effects if effect["verdict"] == "unresolved"]
    needed = [
        f"{name} {analysis['seeds_needed'][name]:,}"
        for name in terms
        if analysis["seeds_needed"].get(name)
    ]
    judged = f"verdicts on {analysis['primary']}: {good[analysis['higher_is_better']]}"
    judged += f", margin {analysis['margin']:g}{unit}{holm}"
    lines = [
        f"differences {what}, by seed [{100 * (1 - study['alpha']):g} % {kind} interval], n seeds",
        judged,
        *([f"seeds that would settle it, about: {', '.join(needed)}"] if needed else []),
    ]
    return "\n".join(lines)


def after(outcome: Outcome, *, asked: Callable[..., str], larger: str, confirmable: bool) -> str:
    """Return the next step after a run; none after failures, and none while trials are left."""
    analysis = read_analysis_plain(outcome.report)
    if outcome.exit_code or analysis is None:
        return ""
    each, plan = outcome.plan.seconds_per_trial, outcome.plan
    seconds = each * plan.arms / max(min(plan.workers, plan.arms), 1) if each else None
    return next_step(
        analysis, asked=asked, larger=larger, seconds_a_seed=seconds, confirmable=confirmable
    )


def next_step(
    analysis: Mapping[str, Any],
    *,
    asked: Callable[..., str],
    larger: str,
    seconds_a_seed: float | None = None,
    confirmable: bool = True,
) -> str:
    """Return the command of the next step, with ``# why`` behind it: settle, then confirm, then the next size.

    Args:
        analysis: a report's ``analysis.json``.
        asked: gives the command that was run, with other ``seeds`` or more ``flags``.
        larger: the command of the next size up; empty at the largest.
        seconds_a_seed: what one seed more of every arm costs.
        confirmable: whether ``--recommended`` can follow: it does not follow itself.
    """
    if analysis["screening"]:
        return f"{asked()}   # judges the arms: a screening does not"

    done = len(analysis["seeds"])
    names, wanted = _to_settle(analysis)
    if wanted > done:
        cost = seconds_a_seed * (wanted - done) if seconds_a_seed else 0.0
        time = f", about {duration(cost)}" if cost else ""
        return f"{asked(seeds=wanted)}   # to settle {names}{time}"
    if confirmable and analysis["recommended"] and not analysis["recommended_arm"]:
        return f"{asked(flags='--recommended')}   # to confirm the recommended recipe, which no arm had, on fresh seeds"
    return larger


def _to_settle(analysis: Mapping[str, Any]) -> tuple[str, int]:
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
        for effect in _leading(analysis)
    }
    open_arms = {name: seeds for name, seeds in needed.items() if done < seeds <= _AFFORDABLE_SEEDS}
    if not open_arms:
        return "", 0
    names = list(open_arms)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return shown, max(open_arms.values())
