"""Draw the README's picture, a report's verdict table, and its caption from a committed report.

python tools/readme_picture.py          # writes docs/images/verdicts.svg and README.md's caption
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd

from harness import effects_frame, read_analysis

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "augmentations-small"
PICTURE = ROOT / "docs" / "images" / "verdicts.svg"
BEGIN, END = "<!-- caption: begin -->\n", "<!-- caption: end -->"
LABELS = {
    "no-jitter": "without jitter",
    "no-crop": "without crop",
    "no-flip": "without flip",
    "cutout": "with cutout",
    "none": "without any",
}
# a colour never says it alone: the mark and the word do too
MARKS = {
    "better": ("▲", "#1a7f37"),
    "worse": ("▼", "#b42318"),
    "equivalent": ("■", "#1f5fa8"),
    "unresolved": ("○", "#57606a"),
}
WIDTH, ROW, TOP = 880, 34, 64
COLUMNS = {"arm": 20, "accuracy": 140, "axis": 335, "gap": 545, "verdict": 755}
AXIS_WIDTH = 190
LOWEST_PP, HIGHEST_PP = -5.5, 2.5
FONT = "font-family='system-ui, Segoe UI, Helvetica, Arial, sans-serif' font-size='14'"


def effects() -> Any:
    """Return the report's paired differences of arms to the reference, by arm and metric."""
    frame: Any = effects_frame(read_analysis(REPORT))
    arms = frame[(frame["kind"] == "arm") & (frame["reference"] == "reference")]
    return arms.set_index(["term", "metric"]).sort_index()


def picture() -> str:
    """Return the verdict table as SVG text, which draws the intervals next to their numbers."""
    rows = effects()
    margin_pp = read_analysis(REPORT).study.margin_pp
    bottom = TOP + ROW * len(LABELS)
    height = bottom + 52
    size = f"viewBox='0 0 {WIDTH} {height}'"
    # the margin: differences inside the band are too small to act on
    band = f"x='{_x(-margin_pp):.1f}' width='{_x(margin_pp) - _x(-margin_pp):.1f}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT} fill='#1f2328' role='img'>",
        "<title>Verdict table of the report on augmentations</title>",
        f"<rect width='{WIDTH}' height='{height}' rx='8' fill='#ffffff' stroke='#d0d7de'/>",
        *_header(),
        f"<rect {band} y='{TOP - 8}' height='{bottom - TOP + 8}' fill='#eaeef2'/>",
        f"<path d='M{_x(0):.1f} {TOP - 8}V{bottom}' stroke='#57606a' stroke-dasharray='3 3'/>",
    ]
    for number, (arm, label) in enumerate(LABELS.items()):
        accuracy, gap = rows.loc[(arm, "accuracy")], rows.loc[(arm, "gap")]
        parts += _row(TOP + ROW * number + 16, label, accuracy, gap)
    parts += _ticks(bottom)
    return "\n".join([*parts, "</svg>", ""])


def _x(effect_pp: float) -> float:
    return COLUMNS["axis"] + AXIS_WIDTH * (effect_pp - LOWEST_PP) / (HIGHEST_PP - LOWEST_PP)


def _text(x: float, y: float, content: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(content)}</text>"


def _header() -> list[str]:
    heads = {
        "arm": "Arm",
        "accuracy": "Validation accuracy, pp",
        "gap": "Overfitting gap, pp",
        "verdict": "On accuracy",
    }
    return [
        *(_text(COLUMNS[key], 34, head, "font-weight='600'") for key, head in heads.items()),
        f"<path d='M20 46H{WIDTH - 20}' stroke='#d0d7de'/>",
    ]


def _row(y: float, label: str, accuracy: Any, gap: Any) -> list[str]:
    mark, colour = MARKS.get(accuracy["verdict"], ("×", "#57606a"))
    low, high = _x(accuracy["low"]), _x(accuracy["high"])
    return [
        _text(COLUMNS["arm"], y + 5, label),
        _text(COLUMNS["accuracy"], y + 5, interval(accuracy)),
        f"<path d='M{low:.1f} {y}H{high:.1f}' stroke='{colour}' stroke-width='3'/>",
        f"<circle cx='{_x(accuracy['estimate']):.1f}' cy='{y}' r='5' fill='{colour}'/>",
        _text(COLUMNS["gap"], y + 5, interval(gap)),
        _text(
            COLUMNS["verdict"],
            y + 5,
            f"{mark} {accuracy['verdict'] or 'not judged'}",
            f"fill='{colour}' font-weight='600'",
        ),
    ]


def _ticks(bottom: float) -> list[str]:
    small = "font-size='12' text-anchor='middle' fill='#57606a'"
    ticks = [
        _text(_x(value), bottom + 18, f"{value:+d}".replace("-", "−") if value else "0", small)
        for value in (-4, -2, 0, 2)
    ]
    middle = COLUMNS["axis"] + AXIS_WIDTH / 2
    return [*ticks, _text(middle, bottom + 38, "grey: the margin, too small to act on", small)]


def interval(row: Any) -> str:
    """Return ``+1.15 [+0.61, +1.69]`` with true minus signs."""
    text = f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    return text.replace("-", "−")


def caption() -> str:
    """Return the sentences under the picture: what its numbers are and at which size they were measured."""
    analysis = read_analysis(REPORT)
    recipe = analysis.study.base_recipe
    arms = effects()
    (seeds,) = {int(arms.loc[(arm, "accuracy")]["n"]) for arm in LABELS}
    trials = len(pd.read_parquet(REPORT / "trials.parquet", columns=["state"]))
    return (
        f"Paired differences to the reference [95 % t interval], n = {seeds} seeds, Holm over "
        f"{len(analysis.arms) - 1} arms, margin ±{analysis.study.margin_pp:g} pp. CPU-scale: "
        f"{recipe.data.train:,} CIFAR-10 images at {recipe.data.size} pixels, {trials} trials "
        "([report](reports/augmentations-small/report.md)).\n"
    )


def readme(text: str) -> str:
    """Return a README with the caption put in."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{caption()}{END}{tail}"


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    path = ROOT / "README.md"
    path.write_text(readme(path.read_text(encoding="utf-8")), encoding="utf-8")
