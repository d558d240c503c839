"""Text tables: any delimiter, any of the usual encodings, comments and lines before the header; packed or not.

pandas reads the cells. Here is only what it has to be given: the text, the delimiter and where the
header lies.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.sources.frame import placed, unreadable
from harness.errors import ReportError
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_NOTHING = frozenset({"na", "n/a", "nan", "none", "null", "-"})  # no names of columns
_LOOKED_AT = 400  # lines from which the delimiter is judged
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Delimited:
    """A text table as it was read.

    Attributes:
        frame: all cells as text.
        form: how it was read, in words: ``separated by commas``.
        twice: names that more than one column has.
    """

    frame: pd.DataFrame
    form: str
    twice: frozenset[str]


def decoded(payload: bytes, place: str) -> tuple[str, str]:
    """Return the text of a file, and its encoding where that is not UTF-8.

    Raises:
        ReportError: it is no text.
    """
    encoding = next((name for mark, name in _BOMS if payload.startswith(mark)), "")
    if not encoding and b"\x00" in payload[:2000]:
        # UTF-16 without its mark has a zero in every second byte of plain letters
        halves = payload[:2000:2].count(0), payload[1:2000:2].count(0)
        if max(halves) < 0.3 * len(payload[:2000]) or min(halves) > 0.1 * max(halves):
            raise ReportError(
                f"{place}: is not text", "save the table as CSV, JSON, Parquet or Excel"
            )
        encoding = "utf-16-be" if halves[0] > halves[1] else "utf-16-le"
    try:
        if encoding:
            return payload.decode(encoding), "" if encoding == "utf-8-sig" else encoding.upper()
        return payload.decode("utf-8"), ""
    except UnicodeDecodeError:
        if encoding:
            raise unreadable(place, f"it is not {encoding.upper()}", "save it as UTF-8") from None
    try:
        return payload.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        return payload.decode("latin-1"), "Latin-1"


def read_delimited(text: str, place: str, file: str) -> Delimited:
    """Read a text table.

    Args:
        text: of the file.
        place: its path, for errors.
        file: its name in the frame.

    Raises:
        ReportError: it holds no table.
    """
    import pandas as pd

    lines = [_bare(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    lines = _in_double_quotes(lines)
    delimiter, header = _layout(lines, place)
    commented = _comment_header(text, lines[header:], delimiter)
    commented = commented or _header_without_row_names(lines, header, delimiter)
    kept = ["" if i < header else line for i, line in enumerate(lines)]
    if delimiter == " ":  # runs of spaces are one delimiter, and those around a line none
        kept = [" ".join(line.split()) for line in kept]
    names = commented or _cells(kept[header], delimiter)
    if commented:
        header -= 1
    elif levels := _more_levels(kept[header + 1 :], names, delimiter):
        names = _joined([names, *levels])
        header += len(levels)

    body = "\n".join(["", *kept[header + 1 :]])  # an empty first line keeps a first empty cell safe
    try:
        frame = pd.read_csv(
            io.StringIO(body),
            sep=delimiter,
            header=None,
            names=range(len(names) + 1),  # one more, to notice a line that is too long
            index_col=False,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            engine="c",
        ).iloc[1:]
    except (pd.errors.ParserError, ValueError) as error:
        raise _ragged(kept, names, delimiter, place, header) or unreadable(
            place, error, "save the table as plain CSV"
        ) from None
    beyond, frame = frame.iloc[:, -1], frame.iloc[:, :-1]
    if beyond.fillna("").ne("").any():
        raise _ragged(kept, names, delimiter, place, header) or _uneven(place, 1, len(names))
    frame.index = range(header + 2, header + 2 + len(frame))  # type: ignore[assignment]
    return _finished(frame, names, delimiter=delimiter, place=place, file=file)


def _more_levels(below: list[str], names: list[str], delimiter: str) -> list[list[str]]:
    """Return the further lines of a header of several levels, as pandas writes one: names alone, and empty cells."""
    named = [name for name in names if name]
    if len(named) == len(names) and len(set(named)) == len(named):
        # of a pivoted table: the values of a column, and under them the name of the index
        first = _cells(below[0], delimiter) if below and all(map(_is_number, names[1:])) else []
        index_only = len(first) == len(names) > 2 and first[0] and not any(first[1:])
        return [first] if index_only and not _is_number(first[0]) else []
    levels: list[list[str]] = []
    for line in below[:4]:
        cells = _cells(line, delimiter)
        filled = [cell for cell in cells if cell]
        plain = filled and not any(_is_number(cell) or cell.lower() in _NOTHING for cell in filled)
        # the first further level is full where even the columns of the index have names of levels
        if len(cells) != len(names) or not plain or (len(filled) == len(cells) and levels):
            break
        if len(filled) == len(cells) and len(named) != len(names):
            break
        levels.append(cells)
    return levels


def _joined(levels: list[list[str]]) -> list[str]:
    """Return one name a column: its names on all levels, dotted; a last level that is empty for scores names the index."""
    last, columns = levels[-1], list(zip(*levels, strict=True))
    index_only = (len(levels) > 2 and not all(last)) or not any(last[1:])
    return [
        parts[-1] if index_only and parts[-1] else ".".join(part for part in parts if part)
        for parts in columns
    ]


def _finished(
    frame: pd.DataFrame, names: list[str], *, delimiter: str, place: str, file: str
) -> Delimited:
    """Drop empty rows, repeated headers and unnamed empty columns; refuse short lines."""
    cells = frame.fillna("\x00")  # a line that ended early; empty cells are empty texts
    there = ((cells != "") & (cells != "\x00")).any(axis=1)
    cells = cells.loc[there]
    if cells.empty:
        raise ReportError(
            f"{place}: holds no rows below a header",
            "write one run a line, the names of the columns first",
        )
    short = (cells == "\x00").any(axis=1)
    if short.any():
        raise _uneven(place, int(short.index[int(short.to_numpy().argmax())]), len(names))
    cells = cells.apply(lambda column: column.str.strip())
    again = (cells.to_numpy() == names).all(axis=1)
    cells = cells.loc[~again]

    # pandas writes its index under no name: names are kept, numbers of rows are not; a delimiter at
    # the end of lines makes a column without anything
    if names and not names[0] and "name" not in names and not _counts(cells.iloc[:, 0].tolist()):
        names = ["name", *names[1:]]
    unnamed = [i for i, name in enumerate(names) if not name]
    cells = cells.drop(columns=unnamed)
    kept_names = [name for name in names if name]
    counts = Counter(kept_names)
    first = [name not in kept_names[:i] for i, name in enumerate(kept_names)]
    lines = list(cells.index)
    cells = cells.loc[:, first].reset_index(drop=True).astype(object)
    cells.columns = list(counts)
    cells = cells.where(cells != "", None)
    form = f"text separated by {_NAMES[delimiter]}"
    twice = frozenset(name for name, count in counts.items() if count > 1)
    return Delimited(placed(cells, file, lines), form, twice)


def _counts(cells: list[str]) -> bool:
    """Whether cells hold nothing but numbers, or nothing."""
    return all(not cell or _is_number(cell) for cell in cells)


def _bare(line: str) -> str:
    """A line without what surrounds a table: nothing of a comment, and no bars at the ends."""
    stripped = line.strip()
    if stripped.startswith("#") or (stripped.startswith("|") and not stripped.strip("|-: ")):
        return ""
    if stripped.startswith("|") and stripped.endswith("|"):
        return stripped[1:-1].replace("**", "")  # the best score in bold
    return line


def _layout(lines: list[str], place: str) -> tuple[str, int]:
    """Return the delimiter, and the line of the header: the first with as many cells as most have."""
    numbered = [(i, line) for i, line in enumerate(lines) if line.strip()][:_LOOKED_AT]
    if len(numbered) < 2:
        raise ReportError(
            f"{place}: holds no rows below a header",
            "write one run a line, the names of the columns first",
        )
    best: tuple[float, int, str, int] | None = None
    for delimiter in (*_DELIMITERS, " "):
        counts = [len(_cells(line, delimiter)) for _, line in numbered]
        usual, lines_with = Counter(counts).most_common(1)[0]
        if usual < 2 or (delimiter == " " and best is not None):
            continue
        share = lines_with / len(numbered)
        # a decimal comma splits cells too, but not those of the header
        header = _header_of([line for _, line in numbered], counts, usual, delimiter)
        score = (share - 0.5 * (header > 0), usual, delimiter, numbered[header][0])
        best = score if best is None or score[:2] > best[:2] else best
    if best is None:
        raise ReportError(
            f"{place}: has one column only",
            "write one run a line, its cells separated by commas",
        )
    return best[2], best[3]


def _header_of(lines: list[str], counts: list[int], usual: int, delimiter: str) -> int:
    """The first line with the usual number of cells; a title that spreadsheets fill up with delimiters is none."""
    fitting = [i for i, count in enumerate(counts) if count == usual]
    for i in fitting[:5]:
        named = [cell for cell in _cells(lines[i], delimiter) if cell]
        again = len(set(named)) < len(named)  # a name over several columns, in a header of levels
        if len(named) * 2 > usual or (again and i == fitting[0]):
            return i
    return fitting[0]


def _comment_header(text: str, body: list[str], delimiter: str) -> list[str]:
    """Names from a commented line just above the first row, as numpy writes them; empty where that is none."""
    first = next((line for line in body if line.strip()), "")
    cells = _cells(first, delimiter)
    if not any(_is_number(cell) for cell in cells):
        return []
    above = [line for line in text.partition(first)[0].splitlines() if line.strip()]
    if not above or not above[-1].lstrip().startswith("#"):
        return []
    names = _cells(above[-1].lstrip().lstrip("#").strip(), delimiter)
    return names if len(names) == len(cells) and not any(map(_is_number, names)) else []


def _header_without_row_names(lines: list[str], header: int, delimiter: str) -> list[str]:
    """Names from the line above the first row, one cell short: R names no column of row names; empty without such a line."""
    above = [line for line in lines[:header] if line.strip()]
    names = _cells(above[-1], delimiter) if above else []
    first = _cells(lines[header], delimiter)
    named = all(names) and len(set(names)) == len(names) and not any(map(_is_number, names))
    fits = len(names) + 1 == len(first) and any(map(_is_number, first))
    return ["", *names] if names and named and fits else []


_SINGLE_QUOTES = re.compile(r"(?:^|(?<=[,;\t|]))'|'(?=[,;\t|]|$)")


def _in_double_quotes(lines: list[str]) -> list[str]:
    """Lines with cells in double quotes where Weka and its kind put the names of columns in single ones."""
    first = next((line for line in lines if line.strip()), "")
    if len(re.findall(r"'[^',;]+'(?=[,;\t|]|$)", first)) < 2 or any('"' in line for line in lines):
        return lines
    return [_SINGLE_QUOTES.sub('"', line) for line in lines]


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        if delimiter == " ":
            line = " ".join(line.split())
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _ragged(
    kept: list[str], names: list[str], delimiter: str, place: str, header: int
) -> ReportError | None:
    """Return the error of the first line that has another number of cells than the header."""
    reader = csv.reader(kept[header:], delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and len(row) != len(names):
                return _uneven(place, reader.line_num + header, len(names))
    except csv.Error as error:
        return ReportError(
            f"{place}: line {reader.line_num + header}: {error}", "save the table as plain CSV"
        )
    return None


def _uneven(place: str, line: int, count: int) -> ReportError:
    return ReportError(
        f"{place}: line {line} does not have {plural(count, 'cell')} as the header does",
        "put cells with the separator in them in quotes",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
