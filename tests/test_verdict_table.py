"""The verdict table of a report as a terminal and a notebook show it, from analysis.json alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.commands.ending import next_step
from harness.report import read_analysis
from harness.verdict_table import as_html, verdict_table

REPORTS = sorted(Path(__file__).parent.parent.glob("reports/*/analysis.json"))
AUGMENTATIONS = Path(__file__).parent.parent / "reports" / "augmentations-small" / "analysis.json"


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def step(analysis: dict[str, Any], **more: Any) -> str:
    def asked(*, seeds: int = 0, flags: str = "") -> str:
        return f"run --seeds {seeds} {flags}".rstrip()

    return next_step(analysis, asked=asked, larger="larger", **more)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_a_row_says_what_the_analysis_says(path: Path) -> None:
    analysis = content(path)
    table = verdict_table(analysis)
    if table is None:
        assert len(analysis["arms"]) == 1 or not analysis["trials_total"]
        return
    kind = "main" if table.heads[0] == "component" else "arm"
    effects = {
        effect["term"]: effect
        for effect in analysis["effects"]
        if effect["kind"] == kind and effect["metric"] == analysis["study"]["metric"]
    }
    rows = {row[0]: row for row in table.rows if row[0] in effects}
    assert rows.keys() == effects.keys()
    for name, row in rows.items():
        effect = effects[name]
        interval = "" if effect["low"] is None else f" [{effect['low']:+.2f}, "
        assert row[1].startswith(f"{effect['estimate']:+.2f}{interval}")
        assert row[-2:] == (str(effect["n"]), effect["verdict"] or row[-1])
    assert all(len(row) == len(table.heads) for row in table.rows)


def test_the_table_of_a_report_fits_into_80_columns_and_names_what_others_are_against() -> None:
    table = verdict_table(content(AUGMENTATIONS))
    assert table is not None
    widths = [max(map(len, column)) for column in zip(table.heads, *table.rows, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert max(map(len, table.legend.splitlines())) <= 80
    assert "95 % t interval" in table.legend
    assert ("against none:", "", "", "", "") in table.rows


def test_the_next_step_settles_first_then_confirms_then_grows() -> None:
    analysis = content(AUGMENTATIONS)
    assert step(analysis) == "larger"
    unconfirmed = {**analysis, "recommended": {"augment.hue": 0.0}, "recommended_arm": ""}
    assert step(unconfirmed).startswith("run --seeds 0 --recommended   # to confirm")
    assert step(unconfirmed, confirmable=False) == "larger"
    open_ = {**unconfirmed, "seeds_needed": {"cutout": 14}}
    assert step(open_, seconds_a_seed=10.0) == ("run --seeds 14   # to settle cutout, about 60 s")
    assert step(open_, confirmable=False, settled=True) == "larger"
    assert step({**unconfirmed, "seeds_needed": {"cutout": 5000}}).startswith("run --seeds 0 --rec")


def test_nothing_follows_a_study_whose_baseline_learned_nothing() -> None:
    check = {"level": "fail", "name": "chance", "what": "", "hint": ""}
    assert step({**content(AUGMENTATIONS), "checks": [check]}) == ""


def test_a_screening_is_followed_by_a_study_that_judges() -> None:
    assert step({**content(AUGMENTATIONS), "screening": True}).startswith("run")


def test_a_notebook_shows_table_intervals_and_answer_and_escapes_names() -> None:
    analysis = read_analysis(str(AUGMENTATIONS.parent))
    shown = analysis._repr_html_()
    assert shown.count("<tr>") == 11
    assert shown.count("<circle") == 8
    assert ">no-jitter</td>" in shown
    plain = content(AUGMENTATIONS)
    for effect in plain["effects"]:
        effect["term"] = effect["term"].replace("cutout", "<b>")
    assert ">&lt;b&gt;</td>" in as_html(plain, answer="1 < 2")
    assert "1 &lt; 2" in as_html(plain, answer="1 < 2")
    assert not re.search(r"nan|None", as_html(plain))


def test_a_table_of_two_groups_is_not_called_paired() -> None:
    analysis = content(AUGMENTATIONS)
    analysis["study"]["pairing"] = "none"
    table = verdict_table(analysis)
    assert table is not None
    assert "each against its reference, not paired [95 % Welch t interval], n runs" in table.legend
