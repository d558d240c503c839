"""The verdict table as a terminal, a notebook and a finished study show it.

Works on a report's ``analysis.json`` as plain data, so that it needs none of the libraries that
analysed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Row = tuple[str, ...]

# of the drawing: pixels of its plot, of a row, of a letter of the names left of it, and the letters
# that there is room for
_PLOT, _ROW, _LETTER, _LETTERS = 360, 22, 7, 44
_COLOURS = {
    "better": "#1b7837",
    "worse": "#b2182b",
    "equivalent": "#2166ac",
    "unresolved": "#777777",
}


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


def verdict_table(analysis: Mapping[str, Any]) -> VerdictTable | None:
    """Return every contrast that answers the question: its difference, its gap, n and verdict; None without any.

    Args:
        analysis: a report's ``analysis.json``.
    """
    effects = leading(analysis)
    # the arms of a search without confirmation are still to come
    if not effects or not analysis["trials_total"]:
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


def leading(analysis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
    unit = " pp" if effects[0]["unit"] == "pp" else ""
    good = {True: "higher is better", False: "lower is better", None: "no end is the better one"}
    unpaired = study.get("pairing", "seed") != "seed"
    what = f"each against its reference, {'not paired' if unpaired else 'paired by seed'}"
    if effects[0]["kind"] == "main":
        what = "switched on, over all settings of the others"
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
        f"{what} [{_interval(study)}], n {'runs' if unpaired else 'seeds'}",
        judged,
        *([f"seeds that would settle it, about: {', '.join(needed)}"] if needed else []),
    ]
    return "\n".join(lines)


def _interval(study: Mapping[str, Any]) -> str:
    kind = "repeated t" if len(study["looks"]) > 1 else "t"
    if study.get("pairing", "seed") != "seed":
        kind = "Welch t"
    return f"{100 * (1 - study['alpha']):g} % {kind} interval"


def as_html(analysis: Mapping[str, Any], *, answer: str = "") -> str:
    """Return the verdict table and a drawing of its intervals for a notebook."""
    table = verdict_table(analysis)
    said = f"<p><b>{escape(answer)}</b></p>" if answer else ""
    if table is None:
        name, level, count, _ = _baseline(analysis, "", with_gap=False)
        shown = f"{analysis['primary']} of {name}: {level}, n = {count}"
        return f"<div>{said or f'<p>nothing is compared; {escape(shown)}</p>'}</div>"

    def cells(tag: str, row: Row) -> str:
        left = "text-align:left"
        number = "text-align:right;white-space:nowrap"  # an interval stays in one piece
        styles = [left, *[number] * len(table.numbers), left]
        return "".join(
            f'<{tag} style="{style}">{escape(cell)}</{tag}>'
            for style, cell in zip(styles, row, strict=True)
        )

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    legend = escape(table.legend).replace("\n", "<br>")
    return (
        f"<div>{said}<table><thead><tr>{cells('th', table.heads)}</tr></thead>"
        f"<tbody>{rows}</tbody></table><small>{legend}</small>{_forest(analysis)}</div>"
    )


def _forest(analysis: Mapping[str, Any]) -> str:
    """Return the intervals of the leading contrasts as a drawing, with lines at zero and at the margin."""
    effects = [effect for effect in leading(analysis) if effect["low"] is not None]
    if not effects:
        return ""
    margin = float(analysis["margin"])
    bounds = [abs(float(effect[end])) for effect in effects for end in ("low", "high")]
    reach = 1.05 * max(margin, *bounds)
    names = [_short(effect["term"]) for effect in effects]
    left = 16 + _LETTER * max(map(len, names))

    def x(value: float) -> float:
        return left + _PLOT * (value + reach) / (2 * reach)

    height = _ROW * (len(effects) + 1)
    lines = [
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{height - _ROW}" stroke="#999" '
        f'stroke-dasharray="{dash}"/>'
        for at, dash in ((0.0, "none"), (-margin, "3"), (margin, "3"))
    ]
    for place, (name, effect) in enumerate(zip(names, effects, strict=True)):
        y = _ROW * (place + 0.5)
        colour = _COLOURS.get(effect["verdict"], "#777777")
        lines.append(
            f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end" font-size="12" '
            f'fill="currentColor">{escape(name)}</text>'
            f'<line x1="{x(effect["low"]):.1f}" x2="{x(effect["high"]):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(effect["estimate"]):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    unit = " pp" if effects[0]["unit"] == "pp" else ""
    lines.append(
        f'<text x="{x(0.0):.1f}" y="{height - 6}" text-anchor="middle" font-size="11" '
        f'fill="currentColor">difference in {escape(analysis["primary"])}{unit and ", pp"}, '
        f"{_interval(analysis['study'])}; dashed: margin {margin:g}{unit}</text>"
    )
    return (
        f'<br><svg width="{left + _PLOT}" height="{height}" role="img" '
        f'aria-label="intervals of every contrast">{"".join(lines)}</svg>'
    )


def _short(name: str) -> str:
    """Return a name that the drawing has room for; the table above it has all of it."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
