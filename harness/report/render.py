"""From a report's plain data to HTML and Markdown. Knows how things look; knows nothing of statistics.

The HTML is one file: styles inside, drawings inline, no script, nothing fetched. Everything that
came from a user (names, questions, error messages) is escaped by the template engine.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from harness.report.document import (
    Block,
    Bullets,
    Definitions,
    Details,
    Figure,
    Listing,
    Paragraph,
    Report,
    Strips,
    TableBlock,
    TableCell,
)
from harness.report.palette import PAGE

TEMPLATES = Path(__file__).resolve().parent / "templates"
MAIN = "forest"  # the figure that Markdown shows
FOOTER = "Written by harness. This page holds no script and fetches nothing; its numbers are in analysis.json and effects.csv."


@cache
def _environment() -> Any:
    import jinja2
    import markupsafe

    # StrictUndefined: a template that misspells a name fails here and not on a reader's screen
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_typeset,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "base64": lambda payload: base64.b64encode(payload).decode(),
        "exact": lambda value: f"{value:.6g}",
        "inline_svg": _inline_svg,
        "verbatim": markupsafe.escape,
        "kind": lambda block: type(block).__name__,
    }
    return environment


def _typeset(value: Any) -> Any:
    """Keep a number and its unit, an interval and "n = 8" on one line; what is markup or verbatim already stays as it is."""
    if type(value) is not str:
        return value
    value = re.sub(
        r"(?<=\d) (?=(?:%|pp|s|min|h|t)\b|%)|(?<=%) (?=t\b)|(?<=\bn) (?== \d)|(?<=n =) (?=\d)",
        "\N{NO-BREAK SPACE}",
        value,
    )
    value = re.sub(r"(?<=\w) = (?=\S)", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", value)
    return re.sub(
        r"(\[[+\N{MINUS SIGN}]?[\d.]+,) (?=[+\N{MINUS SIGN}]?[\d.]+\])",
        "\\1\N{NO-BREAK SPACE}",
        value,
    )


@cache
def style() -> str:
    """Return the style sheet of every page, without the blanks that only its author needs."""
    text = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def html(report: Report) -> str:
    """Return the report as one HTML document."""
    return page("page.html.j2", report=report, footer=FOOTER)


def page(template: str, **values: Any) -> str:
    """Return a template filled in, with the style sheet at hand."""
    import markupsafe

    rendered = (
        _environment().get_template(template).render(style=markupsafe.Markup(style()), **values)  # noqa: S704 - our own file
    )
    return re.sub(r"\n{2,}", "\n", rendered)


def _inline_svg(figure: Figure) -> Any:
    """Return a figure's SVG as an element of the page: its colours the page's, its ids its own, its name the alt text."""
    import markupsafe

    svg = figure.svg[figure.svg.index("<svg") :]
    # ids of two drawings on one page would clash
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{figure.id}-{m[1]}"' if m[1] in used else "", svg
    )
    svg = re.sub(r'(url\(#|href="#)', lambda m: f"{m[1]}{figure.id}-", svg)
    # colours by name follow the reader's light or dark setting
    for name, colour in PAGE.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    head = re.sub(r' (?:width|height)="[^"]*"', "", svg[: svg.index(">")])
    label = markupsafe.escape(figure.alt)
    body = re.sub(r">\s+<", "><", svg[svg.index(">") :])
    return markupsafe.Markup(f'{head} role="img" aria-label="{label}"{body}')  # noqa: S704 - drawn by us, the label escaped


# Markdown


def markdown(report: Report) -> str:
    """Return the report as Markdown. It shows the main figure and says what the others show: those are in index.html."""
    lines = [f"# {escape_markdown(report.title)}", "", f"_{escape_markdown(report.kicker)}_", ""]
    for alert in report.alerts:
        lines += [f"> **{alert.level}:** {escape_markdown(alert.text)}", ""]
    lines += [f"**{escape_markdown(report.answer)}**", ""]
    for sentence in report.support:
        lines += [escape_markdown(sentence), ""]
    lines += [
        f"- {escape_markdown(label)}: {escape_markdown(value)}" for label, value in report.facts
    ]
    for section in report.sections:
        lines += ["", f"## {escape_markdown(section.title)}", ""]
        for block in section.blocks:
            lines += _md_block(block)
    return "\n".join(lines).rstrip() + "\n"


def _md_block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield from (escape_markdown(block.text), "")
    elif isinstance(block, Bullets):
        yield from (
            f"{f'{i}.' if block.ordered else '-'} {escape_markdown(item)}"
            for i, item in enumerate(block.items, 1)
        )
        yield ""
    elif isinstance(block, Listing):
        # longer than any run of ticks inside
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", block.text)), 3)
        yield from ([f"{escape_markdown(block.title)}:", ""] if block.title else [])
        yield from (f"{fence}text", block.text.rstrip("\n"), fence, "")
    elif isinstance(block, Definitions):
        yield from (
            f"- **{escape_markdown(term)}**: {escape_markdown(meaning)}"
            for term, meaning in block.items
        )
        yield ""
    elif isinstance(block, Strips):
        yield from ("![Augmented images, one row an arm](samples.png)", "")
        yield from (
            escape_markdown(
                f"Rows: {', '.join(strip.label for strip in block.items)}. {block.caption}"
            ),
            "",
        )
    elif isinstance(block, TableBlock):
        yield from _md_table(block)
    elif isinstance(block, Figure):
        yield from (f"### {escape_markdown(block.title)}", "")
        if block.id == MAIN:
            yield from (f"![{_alt(block.title)}](figures/{block.id}.svg)", "")
            yield from (escape_markdown(f"{block.alt} {block.caption}"), "")
        else:  # a caption of what is not here would only puzzle
            yield from (
                f"{escape_markdown(block.alt)} [The drawing is in the page.](index.html)",
                "",
            )
    elif isinstance(block, Details):
        yield from (f"#### {escape_markdown(block.summary)}", "")
        for inner in block.blocks:
            yield from _md_block(inner)


def _md_table(table: TableBlock) -> Iterator[str]:
    heads = [
        escape_markdown(f"{column.head} ({column.note})" if column.note else column.head)
        for column in table.columns
    ]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join(' ---: ' if column.numeric else ' --- ' for column in table.columns)}|"
    for i, row in enumerate(table.rows):
        if i in table.groups:
            yield f"| _{escape_markdown(table.groups[i])}_ |{' |' * (len(heads) - 1)}"
        yield f"| {' | '.join(escape_markdown(_flat(cell)) for cell in row)} |"
    yield from ("", escape_markdown(table.caption), "")


def _flat(cell: TableCell) -> str:
    if not cell.note:
        return cell.text
    return f"{cell.text} {cell.note}" if cell.note.startswith("[") else f"{cell.text} ({cell.note})"


def _alt(text: str) -> str:
    return re.sub(r"(?<!\\)([\[\]])", r"\\\1", escape_markdown(text))


def escape_markdown(text: str) -> str:
    """Return plain text with the characters escaped that Markdown or HTML inside it would act on."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"([\\`*_<>|~$&])", r"\\\1", text)
    text = text.replace("](", r"\](").replace("![", r"\![")
    return re.sub(r"^(\d*)([#+.)-])(?=\s)", r"\1\\\2", text.strip())
