"""Write the README's table from a committed report, so that its numbers are the report's.

python tools/readme_table.py            # rewrite the part of README.md between the markers
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.report import read_analysis

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "augmentations-small"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
ARMS = ("no-crop", "no-flip", "no-jitter", "none", "cutout")


def table() -> str:
    """Return the table in Markdown, with the sentence that says where it comes from."""
    effects: Any = (
        pd.read_csv(REPORT / "effects.csv").set_index(["kind", "term", "metric"]).sort_index()
    )
    analysis = read_analysis(REPORT)
    recipe = analysis.study.base_recipe
    trials = pd.read_parquet(REPORT / "trials.parquet", columns=["state"])
    rows = [
        "| arm, against the reference | validation accuracy, pp | overfitting gap, pp | n | verdict |",
        "|---|---|---|---|---|",
    ]
    for arm in ARMS:
        accuracy, gap = (effects.loc[("arm", arm, metric)] for metric in ("accuracy", "gap"))
        rows.append(
            f"| {arm} | {_interval(accuracy)} | {_interval(gap)} | {accuracy['n']:.0f} | {accuracy['verdict'] or '-'} |"
        )
    level = effects.loc[("arm", "reference", "accuracy")]
    source = (
        f"Paired difference to the reference [95 % t interval] over n seeds; accuracy judged after Holm, margin "
        f"{analysis.study.margin_pp:g} pp, the gap unjudged. CPU-scale: {recipe.data.train:,} CIFAR-10 images at "
        f"{recipe.data.size} pixels, a small net (reference {level['mean']:.1f} % on {recipe.data.val:,} validation images), "
        f"{len(trials)} trials; all of it in [`reports/augmentations-small`](reports/augmentations-small/report.md)."
    )
    return "\n".join(rows) + "\n\n" + source + "\n"


def _interval(row: Any) -> str:
    return f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def readme(text: str) -> str:
    """Return a README with the table put in."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
