"""How to read a number that a training script leaves: where it is, in what unit, and which end is good.

A rule is the table ``[metrics.NAME]`` of a study. Without ``stdout`` and ``from``, the number is in
``metrics.json`` under its name. ``harness.workers.script_results`` does the reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.study.trial import METRICS

Unit = Literal["percent", "share", "number", "pp", "1"]
Take = Literal["last", "mean", "best"]
TENSORBOARD = "tensorboard"
_SHARES = ("percent", "share", "pp")  # shown in percentage points, stored in [0, 1]
_SOURCES = ("stdout", "from", "column", "take")


class MetricRule(BaseModel):
    """How to read one number of a script.

    Attributes:
        unit: what the script writes: ``percent``, ``share`` (in [0, 1]; ``pp`` is the older word) or ``number`` (older: ``1``).
        higher_is_better: direction; our own metrics have theirs.
        stdout: a regular expression over what the script prints, or over the text of ``from``; one group is the number, two
            are a ratio.
        from_: a file that the script writes into its folder, a pattern of such files, or ``tensorboard``.
        column: of that file.
        take: which of several numbers counts.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    unit: Unit | None = None
    higher_is_better: bool | None = None
    stdout: str = ""
    from_: str = Field("", alias="from")
    column: str = ""
    take: Take = "last"

    @property
    def elsewhere(self) -> bool:
        """Whether the number is somewhere else than in ``metrics.json``."""
        return bool(self.stdout or self.from_)

    @property
    def shown_unit(self) -> Literal["pp", "1"]:
        """Unit of the stored number, as ``Metric`` has it."""
        return "pp" if self.unit in _SHARES else "1"

    def reading(self) -> dict[str, Any]:
        """Return what decides how the number is read, and nothing else; empty for a rule that only names a direction."""
        given = self.model_dump(by_alias=True, exclude_defaults=True)
        return {
            key: value
            for key, value in given.items()
            # the two older words never had a say in the reading
            if key in _SOURCES or (key == "unit" and value not in ("pp", "1"))
        }


def rule_faults(name: str, rule: Mapping[str, Any], *, by_function: bool) -> list[str]:
    """Return what is wrong with one valid rule of a study, a sentence each.

    Args:
        name: of the metric.
        rule: as ``MetricRule`` dumps it, ``from`` under its alias.
        by_function: whether a function runs in place of a command: what it prints is not kept apart.
    """
    place = f"metrics.{name}"
    faults = [*_pattern_faults(f"{place}.stdout", rule["stdout"]), *_direction_faults(name, rule)]
    if rule["stdout"] and not rule["from"] and by_function:
        faults.append(f"{place}.stdout: is for a command; a function returns its metrics")
    if rule["column"] and (rule["stdout"] or not rule["from"]):
        faults.append(f"{place}.column: names a column of the file in `from`, without `stdout`")
    if rule["from"] and not (rule["column"] or rule["stdout"]):
        faults.append(
            f"{place}: `from` needs `column`, or `stdout` as a pattern over the file's text"
        )
    if rule["take"] != "last" and not (rule["stdout"] or rule["from"]):
        faults.append(f"{place}.take: there is only one number in metrics.json")
    return faults


def _pattern_faults(place: str, pattern: str) -> list[str]:
    if not pattern:
        return []
    try:
        groups = re.compile(pattern, re.MULTILINE).groups
    except re.error as error:
        return [f"{place}: {pattern!r} is no regular expression: {error}"]
    if groups in (1, 2):
        return []
    how = "put the number in ( ), or two numbers of a ratio, and write (?: ) for other brackets"
    return [f"{place}: {pattern!r} has {groups} groups; {how}"]


def _direction_faults(name: str, rule: Mapping[str, Any]) -> list[str]:
    """Compare unit and direction with those of our metric of that name; others have to say their direction."""
    place, ours, better = f"metrics.{name}", METRICS.get(name), rule["higher_is_better"]
    if ours is None:
        return [] if better is not None else [f"{place}.higher_is_better: is missing"]
    faults = []
    if better is not None and better != ours.higher_is_better:
        faults.append(f"{place}.higher_is_better: {name} is one of our metrics; leave this out")
    if rule["unit"] and (rule["unit"] in _SHARES) != (ours.unit == "pp"):
        word = "percent or share" if ours.unit == "pp" else "number"
        faults.append(f"{place}.unit: {name} is one of our metrics; its unit is {word}")
    if not (rule["unit"] or rule["stdout"] or rule["from"] or faults):
        faults.append(f"{place}: {name} is one of our metrics; leave the table out")
    if rule["take"] == "best" and ours.higher_is_better is None:
        faults.append(f"{place}.take: neither end of {name} is the best")
    return faults
