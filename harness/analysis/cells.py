"""Cells as people write them: numbers with a percent sign, a decimal comma or an sd, seeds with a word before them.

What a cell without a value says differs: an empty one, or ``N/A``, is a run that is not there;
``nan``, ``inf`` and words such as ``diverged`` are the score of a run that diverged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from harness.analysis.sources.frame import places, text_of
from harness.errors import ReportError, RowsError

if TYPE_CHECKING:
    import pandas as pd

Decimal = Literal["auto", "point", "comma"]

MISSING = frozenset(
    {
        "",
        "na",
        "n/a",
        "n.a.",
        "none",
        "null",
        "-",
        "--",
        "\N{EN DASH}",
        "\N{EM DASH}",
        "#n/a",
        "<na>",
    }
)
# what people write in place of the score of a run that came to nothing
_CAME_TO_NOTHING = frozenset(
    {"diverged", "diverges", "exploded", "failed", "crashed", "oom", "error"}
)
_MOST_SHOWN = 4  # rows named in one message
_WITH_SPREAD = re.compile(
    r"(.+?)\s*(?:\N{PLUS-MINUS SIGN}|\+/-|\+-|\\pm)\s*(.+)|([\d.,]+%?)\s*\((\d*[.,]\d+)\)"
)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_WHOLE = re.compile(r"\d{1,18}(\.0*)?")
# how the best score of a table is set apart, and what stands around a number in LaTeX and Markdown
_MARKED = re.compile(r"\\(?:textbf|underline|textit|emph|mathbf|bm|uline)\s*\{([^{}]*)\}")
_MARKUP = re.compile(
    r"\$|\*\*|__|\\(?=%)|\\[,;!]|\{\\(?:scriptsize|small|tiny|footnotesize)\s+|[{}]"
)
_ENDS_IN_DIGITS = re.compile(r"(.*?)(\d{1,9})")


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column as numbers.

    Attributes:
        floats: one a row; nan where a run diverged or is missing.
        missing: where the cell holds nothing.
        spread: the sd after a plus-minus sign, nan where there is none; None without any.
        percent: whether a cell has a percent sign.
    """

    floats: npt.NDArray[np.float64]
    missing: npt.NDArray[np.bool_]
    spread: npt.NDArray[np.float64] | None = None
    percent: bool = False


def numbers(frame: pd.DataFrame, column: str, name: str, decimal: Decimal = "auto") -> NumberColumn:
    """Read a column as numbers.

    Args:
        frame: rows of a source.
        column: its name.
        name: of the source, for errors.
        decimal: what separates decimals; auto takes a comma where nothing else makes sense.

    Raises:
        ReportError: a cell is no number, or a comma may mean two things.
    """
    cells = frame[column].tolist()
    texts = [text_of(cell) for cell in cells]
    missing = np.array([text.lower() in MISSING for text in texts], dtype=np.bool_)
    bare = [_plain(text) for text in texts]
    percent = any("%" in text for text, no in zip(bare, missing, strict=True) if not no)
    bare = [text.removesuffix("%").strip() for text in bare]
    spreads = [_WITH_SPREAD.fullmatch(text) if text else None for text in bare]
    spread = None
    if any(spreads):
        second = [(m[2] or m[4]).strip() if m else "nan" for m in spreads]
        bare = [
            (m[1] or m[3]).strip().removesuffix("%") if m else t
            for m, t in zip(spreads, bare, strict=True)
        ]
        spread, _ = _floats(second, column, name, decimal)
    values, bad = _floats(bare, column, name, decimal)
    faults = np.flatnonzero(bad & ~missing)
    if faults.size:
        at = places(frame, faults.tolist())
        wrong = [f"{place}: {texts[row]!r}" for place, row in zip(at, faults.tolist(), strict=True)]
        odd = list(dict.fromkeys(texts[row] for row in faults.tolist()))
        out = [f"{column}!={text}" for text in odd]
        few = 4 * faults.size <= int((~missing).sum()) and len(odd) <= _MOST_SHOWN
        raise RowsError(
            f"{name}: column {column!r} should hold numbers: {some(wrong)}",
            f"correct {'it' if faults.size == 1 else 'them'}, or leave such rows out: "
            f"--where '{out[0]}'"
            if few
            else "name a column of numbers, or leave such rows out with --where",
            {"where": tuple(out)} if few else None,
        )
    return NumberColumn(values, missing, spread, percent)


def _floats(
    texts: Sequence[str], column: str, name: str, decimal: Decimal
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return texts as numbers, and which of them are none."""
    if any("," in text for text in texts):
        texts = _without_commas(texts, column, name, decimal)
    values = np.full(len(texts), np.nan)
    bad = np.zeros(len(texts), dtype=np.bool_)
    for row, text in enumerate(texts):
        try:
            values[row] = float(text)
        except ValueError:
            bad[row] = text.lower() not in MISSING | _CAME_TO_NOTHING
    return values, bad


def _without_commas(texts: Sequence[str], column: str, name: str, decimal: Decimal) -> list[str]:
    """Write decimal commas as points, and leave out commas that group thousands."""
    with_comma = [text for text in texts if "," in text]
    if decimal == "auto":
        grouped = [_GROUPED.fullmatch(text) is not None for text in with_comma]
        decimals = [_COMMA.fullmatch(text) is not None for text in with_comma]
        if all(grouped) and all(decimals):
            raise ReportError(
                f"{name}: column {column!r}: {with_comma[0]!r} may be a decimal or a thousand",
                "pass --decimal comma or --decimal point",
            )
        decimal = "point" if all(grouped) else "comma"
    if decimal == "point":
        return [text.replace(",", "") for text in texts]
    return [text.replace(".", "").replace(",", ".") if "," in text else text for text in texts]


def is_numeric(cells: Sequence[Any]) -> bool:
    """Whether a column holds numbers throughout, where it holds anything; a cheap look at up to 200 cells."""
    return numeric_share(cells) == 1.0


def has_spread(text: str) -> bool:
    """Whether a cell holds a mean and its sd: ``93.1 ± 0.4`` or ``93.1 (0.4)``."""
    return bool(_WITH_SPREAD.fullmatch(_plain(text)))


def _plain(text: str) -> str:
    """A cell without the marks of LaTeX and Markdown around its number."""
    if not any(mark in text for mark in ("\\", "$", "*")):
        return text
    while (unmarked := _MARKED.sub(r"\1", text)) != text:
        text = unmarked
    return _MARKUP.sub("", text).strip()


def numeric_share(cells: Sequence[Any]) -> float:
    """Return the share of numbers among the cells that hold anything, 0 without any; a cheap look at up to 200 of them."""
    step = max(1, len(cells) // 200)
    texts = [text_of(cell) for cell in cells[::step]]
    texts = [_plain(text) for text in texts if text.lower() not in MISSING]
    texts = [text.removesuffix("%").strip() for text in texts]
    if not texts:
        texts = [t for t in map(text_of, cells) if t.lower() not in MISSING][:200]
    return sum(map(_looks_numeric, texts)) / len(texts) if texts else 0.0


def _looks_numeric(text: str) -> bool:
    match = _WITH_SPREAD.fullmatch(text)
    bare = (match[1] or match[3]).strip() if match else text
    try:
        float(bare)
    except ValueError:
        return text.lower() in _CAME_TO_NOTHING or bool(
            _COMMA.fullmatch(bare) or _GROUPED.fullmatch(bare)
        )
    return True


def whole_numbers(texts: Sequence[str]) -> list[int] | None:
    """Return texts as whole numbers from 0; None where one is none."""
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return None
    return [int(text.partition(".")[0]) for text in texts]


def seed_numbers(texts: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Return a number for every seed, and whether the numbers say all there is to say.

    Whole numbers are themselves. Words that end in numbers of their own (``s1``, ``seed_42``) are
    those numbers. Anything else is counted in the order of the table.
    """
    names = list(dict.fromkeys(texts))
    whole = whole_numbers(names)
    if whole is not None:  # 1 and 1.0 are one seed
        return dict(zip(names, whole, strict=True)), True
    ends = [_ENDS_IN_DIGITS.fullmatch(name) for name in names]
    if all(ends) and len({match[1] for match in ends if match}) == 1:
        numbers_ = [int(match[2]) for match in ends if match]
        if len(set(numbers_)) == len(names):
            return dict(zip(names, numbers_, strict=True)), False
    return {name: i for i, name in enumerate(names)}, False


def some(items: Sequence[str], most: int = _MOST_SHOWN) -> str:
    """Return the first of some things and how many more there are."""
    more = len(items) - most
    return "; ".join(items[:most]) + (f"; and {more} more" if more > 0 else "")
