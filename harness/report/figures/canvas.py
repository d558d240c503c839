"""Paper, pens and printing for every drawing: one style, exact bytes, no global state left behind.

The drawings are matplotlib figures that belong to nobody (no pyplot window, no current axes). SVG
text stays text and takes the page's font. The same drawing on the same matplotlib gives the same
bytes: its name salts its ids and no date is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.report.document import Figure, TableBlock
from harness.report.palette import PAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# inches; 490 units of the SVG, shown at 34rem or wider, so that 9.5-unit text is never below 10 px
WIDTH = 6.8
TEXT = 9.5
_DPI = 160  # of a PNG
FORMATS = ("svg", "png", "pdf")
# never the text of a label
_DRAWN = re.compile(r' (?:d|x|y|width|height|transform|points)="[^"]*"')
_FONTS = "-apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


@dataclass
class Sheet:
    """A drawing under way.

    Attributes:
        drawing: matplotlib's figure.
        axes: its axes, row by row.
        printed: ``{format: bytes}``, filled when the sheet is closed.
    """

    drawing: Drawing
    axes: list[Axes]
    printed: dict[str, bytes] = field(default_factory=dict)

    @property
    def ax(self) -> Axes:
        """The first axes."""
        return self.axes[0]


@contextmanager
def sheet(
    name: str,
    height: float,
    *,
    rows: int = 1,
    columns: int = 1,
    formats: Sequence[str] = FORMATS,
    **subplots: Any,
) -> Iterator[Sheet]:
    """Open a sheet of ``WIDTH`` x ``height`` inches, and print it when the block ends.

    Args:
        name: the figure's id; salts its SVG.
        height: inches.
        rows: of axes.
        columns: of axes.
        formats: what to print besides the page's own SVG.
        **subplots: as ``matplotlib.figure.Figure.subplots`` takes them.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style: Any = {**_style(), "svg.hashsalt": name}
    with mpl.rc_context(style):
        engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.05, hspace=0.05)
        drawing = Drawing(figsize=(WIDTH, height), layout=engine)
        axes = drawing.subplots(rows, columns, squeeze=False, **subplots)
        opened = Sheet(drawing, list(axes.flat))
        yield opened
        for ax in opened.axes:
            ax.spines[["top", "right"]].set_visible(False)
        for ax in opened.axes:
            _freeze_ticks(ax)
        engine.execute(drawing)
        drawing.set_layout_engine("none")  # laid out once, printed several times
        opened.printed.update(_print(drawing, formats))


def figure(
    opened: Sheet, name: str, title: str, *, alt: str, caption: str, table: TableBlock
) -> Figure:
    """Return the closed sheet as a figure of the report."""
    files = {suffix: payload for suffix, payload in opened.printed.items() if suffix != "page"}
    return Figure(name, title, alt, caption, opened.printed["page"].decode(), table, files)


def _freeze_ticks(ax: Axes) -> None:
    """Keep the ticks that are there: axes that shrink under the layout choose no others, and drawing takes half the time."""
    from matplotlib.ticker import AutoLocator, FixedLocator

    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_locator(), AutoLocator):
            low, high = sorted(axis.get_view_interval())
            pad = 1e-9 * (high - low)
            axis.set_major_locator(
                FixedLocator(
                    [tick for tick in axis.get_majorticklocs() if low - pad <= tick <= high + pad]
                )
            )


def _print(drawing: Drawing, formats: Sequence[str]) -> dict[str, bytes]:
    printed = {}
    buffer = io.BytesIO()
    drawing.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    svg = _tidy(buffer.getvalue().decode())
    printed["page"] = svg.encode()
    if "svg" in formats:  # the same, on paper of its own
        head, _, rest = svg.partition(">\n")
        printed["svg"] = (
            f'{head}>\n <rect width="100%" height="100%" fill="#ffffff"/>\n{rest}'.encode()
        )
    if "png" in formats:
        printed["png"] = _png(drawing)
    if "pdf" in formats:
        buffer = io.BytesIO()
        drawing.savefig(
            buffer, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None}
        )
        printed["pdf"] = buffer.getvalue()
    return printed


def _tidy(svg: str) -> str:
    """Drop the XML prologue, name the reader's fonts, shorten numbers: a tenth of a unit is below what a screen shows."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"(font: (?:[a-z0-9]+ )*[\d.]+px) [^;\"]+", rf"\1 {_FONTS}", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return _DRAWN.sub(lambda m: re.sub(r"(-?\d+\.\d\d)\d+", r"\1", m[0]), svg)


def _png(drawing: Drawing) -> bytes:
    """Return a drawing as PNG with a palette of 128 colours: a third of the size, no difference to the eye."""
    from PIL import Image

    pixels = io.BytesIO()
    drawing.savefig(pixels, format="rgba", dpi=_DPI, facecolor="white")
    width = int(WIDTH * _DPI)
    size = (width, pixels.tell() // (4 * width))
    picture = Image.frombuffer("RGBA", size, pixels.getvalue(), "raw", "RGBA", 0, 1).convert("RGB")
    del pixels  # of many arms 10 MB, and as much again to reduce the colours
    buffer = io.BytesIO()
    reduced = picture.quantize(128, dither=Image.Dither.NONE)
    reduced.save(buffer, "PNG", dpi=(_DPI, _DPI))
    return buffer.getvalue()


def _style() -> dict[str, Any]:
    return {
        "font.family": "DejaVu Sans",
        "font.size": TEXT,
        "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
        "text.color": PAGE["ink"],
        "axes.titlesize": TEXT,
        "axes.titlelocation": "left",
        "axes.titleweight": "regular",
        "axes.labelsize": TEXT,
        "axes.labelcolor": PAGE["muted"],
        "axes.edgecolor": PAGE["faint"],
        "axes.facecolor": "none",
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "figure.facecolor": "none",
        "grid.color": PAGE["line"],
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.2,
        "lines.markersize": 4.8,
        "patch.edgecolor": "white",
        "patch.force_edgecolor": True,
        "patch.linewidth": 0.8,
        "xtick.labelsize": TEXT,
        "ytick.labelsize": TEXT,
        "xtick.color": PAGE["faint"],
        "ytick.color": PAGE["faint"],
        "xtick.labelcolor": PAGE["muted"],
        "ytick.labelcolor": PAGE["muted"],
        "xtick.major.size": 3,
        "xtick.major.width": 1,
        "xtick.minor.size": 3.2,
        "xtick.minor.width": 0.8,
        "ytick.major.size": 0,
        "ytick.minor.size": 3.2,
        "ytick.minor.width": 0.8,
        "legend.fontsize": TEXT,
        "legend.frameon": False,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "none",
        "pdf.fonttype": 3,  # outlines: a third of the time of a subset of the font
        "path.simplify": True,
    }


def legend_below(opened: Sheet, handles: Sequence[Any], names: Sequence[str], **style: Any) -> None:
    """Name what is drawn under the drawing, off the data, in as many rows as its names need."""
    if not handles:
        return
    # 0.075 inches a letter at 9.5 points, and the handle before it; columns are as wide as the widest
    inches = [len(name) * 0.075 + 0.55 for name in names]
    fit = len(names) if sum(inches) <= WIDTH - 0.1 else int((WIDTH - 0.1) / max(inches))
    opened.drawing.legend(
        list(handles),
        list(names),
        loc="outside lower left",
        ncols=max(1, fit),
        labelcolor=PAGE["muted"],
        columnspacing=1.4,
        **style,
    )


def with_unit(label: str, unit: str, *, level: bool = False) -> str:
    """Return the name of an axis with its unit: ``validation accuracy, %`` of a level, ``..., pp`` of a difference."""
    return f"{label}{'' if unit != 'pp' else ', %' if level else ', pp'}"


def short(name: str, limit: int = 26) -> str:
    """Return a name that fits at an axis; the table behind the figure has it whole."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Label the rows of a drawing with names, the first at the top."""
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    for label in ax.get_yticklabels():
        label.set_color(PAGE["ink"])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_ylabel("")


def zero_line(ax: Axes, *, margin: float = 0.0) -> None:
    """Mark zero, and the band of differences that do not matter."""
    if margin:
        ax.axvspan(-margin, margin, color=PAGE["band"], linewidth=0, zorder=0)
    ax.axvline(0, color=PAGE["unresolved"], linewidth=0.9, zorder=1)


def directions(ax: Axes, left: str, right: str) -> None:
    """Say above an axis of differences what its two sides mean."""
    low, high = ax.get_xlim()
    # an arrow to a side that is not drawn would point nowhere
    if low < 0:
        ax.annotate(
            f"← {left}",
            (0, 1),
            (-4, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=PAGE["muted"],
            annotation_clip=False,
        )
    if high > 0:
        ax.annotate(
            f"{right} →",
            (0, 1),
            (4, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left",
            va="bottom",
            color=PAGE["muted"],
            annotation_clip=False,
        )
