"""What a report is made of: plain data, without files, formats or drawing.

A ``Report`` holds sections, a section holds blocks. Every renderer (HTML, Markdown, LaTeX) shows
the same blocks, so the same numbers stand in all of them. Text is plain text: renderers escape it,
so that a name may hold any character.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import ReportError


@dataclass(frozen=True, slots=True)
class Glyph:
    """A small interval drawn inside a table cell: a dot and a bar on an axis shared by the column.

    Attributes:
        estimate, low, high: in the column's unit; the bounds are None where there is no interval.
        left, right: ends of the shared axis.
        margin: half-width of the band of differences that do not matter; 0 draws none.
        mark: key of the verdict that styles it.
    """

    estimate: float
    low: float | None
    high: float | None
    left: float
    right: float
    margin: float = 0.0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        value: the number behind the text, in the unit shown; None where the text is no number.
        note: a second, smaller line.
        mark: key of a verdict (better, worse, equivalent, unresolved, none) or of a check's level (ok, warn, fail).
        glyph: an interval drawn above the text.
    """

    text: str
    value: float | None = None
    note: str = ""
    mark: str = ""
    glyph: Glyph | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """Head of a table's column; numeric columns are aligned at the right with figures of equal width."""

    head: str
    numeric: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A caption, columns and rows; the first column heads its row.

    Attributes:
        groups: ``{row index: subhead above this row}``.
        verdicts: the table that carries the verdicts: on a narrow screen each of its rows becomes a card.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    groups: Mapping[int, str] = field(default_factory=dict)
    verdicts: bool = False

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        wrong = [i for i, row in enumerate(self.rows) if len(row) != len(self.columns)]
        if wrong:
            cells = f"row {wrong[0] + 1} has {len(self.rows[wrong[0]])} cells for {len(self.columns)} columns"
            raise ReportError(
                f"table {self.caption!r}: {cells}", "give every row one cell a column"
            )


def table(
    caption: str,
    columns: Iterable[object],
    rows: Iterable[Sequence[object]],
    *,
    groups: Mapping[int, str] | None = None,
    verdicts: bool = False,
) -> TableBlock:
    """Return a table from strings and cells; a head that starts with ``>`` is numeric, None is an empty cell."""
    heads = tuple(
        head
        if isinstance(head, Column)
        else Column(str(head).removeprefix(">"), numeric=str(head).startswith(">"))
        for head in columns
    )
    cells = tuple(
        tuple(cell if isinstance(cell, TableCell) else TableCell(str(cell or "")) for cell in row)
        for row in rows
    )
    return TableBlock(caption, heads, cells, dict(groups or {}), verdicts)


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with the words and the numbers that stand in for it.

    Attributes:
        id: name of its files and anchor: small letters, digits, hyphens.
        title: what it shows, a few words.
        alt: the finding in a sentence, for those who cannot see the drawing.
        caption: how to read it: kinds of intervals, n, what is left out.
        svg: a complete SVG document with the page's colours by name (see ``figures.canvas``).
        table: the numbers it draws.
        files: ``{suffix: bytes}`` of the stand-alone versions (svg, png, pdf).

    Raises:
        ReportError: alt, table or drawing is missing.
    """

    id: str
    title: str
    alt: str
    caption: str
    svg: str
    table: TableBlock
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a figure that only the sighted could read."""
        # a drawing without words is nothing to a screen reader
        lacking = [
            name
            for name, there in (
                ("alt text", self.alt.strip()),
                ("a table", self.table.rows),
                ("a drawing", self.svg),
            )
            if not there
        ]
        if lacking:
            listed = " and ".join(lacking)
            raise ReportError(
                f"figure {self.id!r} lacks {listed}",
                "state the finding in alt and give the numbers that are drawn as a table",
            )

    def _repr_svg_(self) -> str:
        """Show the figure in a notebook."""
        return self.files["svg"].decode() if "svg" in self.files else self.svg


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of plain text; ``kind`` is empty, ``note`` (smaller) or ``warn`` (set apart)."""

    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list; numbered where the order matters."""

    items: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Verbatim text: commands, a study file."""

    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Definitions:
    """Terms and what they mean, or labels and their values."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of small images of one arm: PNG bytes, side by side in one picture of ``width`` x ``height`` pixels."""

    label: str
    png: bytes
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True)
class Strips:
    """Strips under each other."""

    items: tuple[Strip, ...]
    caption: str


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks behind a summary line that opens them; in print only where the reader has opened them."""

    summary: str
    blocks: tuple[Block, ...]


Block = Paragraph | Bullets | Listing | Definitions | Strips | TableBlock | Figure | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report under one heading."""

    id: str
    title: str
    blocks: tuple[Block, ...]

    @property
    def folded(self) -> bool:
        """Whether all of it is folded, so that its heading would head nothing in print."""
        return all(isinstance(block, Details) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something the reader must know before the numbers: level warn or fail."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report.

    Attributes:
        folder: name of the report's folder.
        title: the question.
        kicker: study and profile, in words.
        answer: the answer in one sentence.
        support: sentences that qualify it.
        facts: label and value of the figures under the heading.
        alerts: what must be known before the numbers.
    """

    folder: str
    title: str
    kicker: str
    answer: str
    support: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    alerts: tuple[Alert, ...]
    sections: tuple[Section, ...]

    @property
    def folded(self) -> tuple[str, ...]:
        """What is folded on the screen, as its summaries call it."""
        return tuple(
            block.summary[:1].lower() + block.summary[1:]
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Details)
        )

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in order, those behind details included."""
        return tuple(_figures(block for section in self.sections for block in section.blocks))


def _figures(blocks: Iterable[Block]) -> Iterable[Figure]:
    for block in blocks:
        if isinstance(block, Figure):
            yield block
        elif isinstance(block, Details):
            yield from _figures(block.blocks)
