"""What the program says, and where. The only module that prints.

stdout carries data: what somebody would pipe into another program. stderr carries talk: the plan, progress, warnings, errors.
Both are plain text unless they go to a terminal that wants colour, and colour never says anything that the words do not.
A reader that goes away (``harness show | head -1``, a closed terminal), a closed stream or a full disk must not cost a running
trial: what would have been read is dropped, and ``lost`` says afterwards that it was. rich draws tables and the progress bar.
It is imported when the first of them is drawn, so that importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from harness.errors import HarnessError
from harness.text import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.progress import Progress as RichProgress
    from rich.table import Table

PLAIN_WIDTH = 80
"""Columns of text where there is no terminal to ask."""

_BOLD, _RED, _YELLOW, _RESET = "\x1b[1m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"

# Names and messages come from files: an escape sequence in one of them must not reach a terminal.
# Tab and line feed may.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}

_EXPECTED_WEIGHT = 8  # finished trials that what was expected of them counts for
_ROWS_BELOW = 4  # of a terminal: the bar, the last trial, and two for what was said before
_lost: list[str] = []
"""Why stdout lost what was written to it, once it has; a reader that went away is no loss."""

_bars: list[Progress] = []
"""The progress bar on the terminal now, if there is one: talk has to be printed above it."""


def data(text: str) -> None:
    """Write text to stdout, as it is, with a line feed at its end."""
    _write(sys.stdout, text if text.endswith("\n") else text + "\n")


def data_json(value: object, *, line: bool = False) -> None:
    """Write one JSON document to stdout, over several lines or, as one of several documents, in a line of its own.

    A number that is not finite, which JSON cannot hold, is written as null. Paths, pydantic models and NumPy's scalars are
    understood; dictionaries keep their order.

    Raises:
        TypeError: the value holds something that has no JSON form.
    """
    data(
        json.dumps(
            _jsonable(value), indent=None if line else 2, ensure_ascii=False, allow_nan=False
        )
    )


def open_standard_streams() -> None:
    """Open the null device in place of each standard stream that is closed, before a file of ours takes its number.

    Otherwise what a child process prints would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def lost() -> str:
    """Return why stdout did not take all that was written to it, empty when it did or when nobody wanted to read on."""
    if sys.stdout is not None:
        _write(sys.stdout, "")  # what is still in its buffer
    return _lost[0] if _lost else ""


def say(text: str = "", *, whole: bool = False) -> None:
    """Write a line, or several, to stderr. A terminal gets long ones broken between words.

    Args:
        text: to be written.
        whole: break nothing: a command that somebody will copy.
    """
    _talk(_printable(text) if whole else _broken(_printable(text)))


def warn(text: str) -> None:
    """Write ``warning: ...`` to stderr."""
    # styled afterwards: codes take no columns
    _talk(_with_style(_broken(f"warning: {_printable(text)}"), "warning:", _YELLOW))


def error(problem: HarnessError | str, hint: str = "") -> None:
    """Write ``error: ...``, a blank line and ``hint: ...`` to stderr.

    Args:
        problem: the error, or what is wrong in a sentence.
        hint: what to do about it; the error's own hint where this is empty.
    """
    if isinstance(problem, HarnessError):
        hint = hint or problem.hint
    text = _with_style(_broken(f"error: {_printable(str(problem))}"), "error:", _RED)
    if hint:
        text += "\n\n" + _with_style(_broken(f"hint: {_printable(hint)}"), "hint:", _BOLD)
    _talk(text)


def ask(question: str, default: str) -> str:
    """Ask on the terminal, on stderr, and return the answer; an empty one is the default.

    Only where `can_ask` says so.
    """
    _talk(f"{_printable(question)} [{_printable(default)}] ")
    answer = sys.stdin.readline()
    if not answer:  # the end of the input
        raise KeyboardInterrupt
    return answer.strip() or default


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can read a question and answer it."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Collection[str] = (),
    title: str = "",
    talk: bool = False,
) -> None:
    """Write an aligned table to stdout.

    It fits the terminal, or 80 columns elsewhere, by wrapping the last column. Where the other columns alone are wider than
    that, a pipe gets longer lines and a terminal gets every column wrapped: no character is ever cut.

    Args:
        columns: the heads.
        rows: one sequence of cells a row, each as long as `columns`; a cell is written as ``str(cell)``, None as nothing.
        right: heads of the columns to align at the right, those of numbers.
        title: a line above the table.
        talk: write to stderr instead, for a table that belongs to the talk.
    """
    stream = sys.stderr if talk else sys.stdout
    cells = [["" if cell is None else _printable(str(cell)) for cell in row] for row in rows]
    drawn = _draw(
        _build_table([_printable(name) for name in columns], cells, right, stream), stream
    )
    text = "\n".join([*([_printable(title)] if title else []), drawn])
    if talk:
        _talk(text)
    else:
        data(text)


class Progress:
    """How far a run is: a bar on a terminal, one line a finished trial elsewhere.

    Use it as a context manager. Talk printed meanwhile appears above the bar.

    Args:
        title: what is running, a few words.
        total: trials of the plan; 0 where it is not known yet.
        done: trials that earlier runs finished: the time left is judged by the others alone.
        expected: seconds that all of it should take, which count until a trial has finished.
        clock: seconds on a monotonic clock, for the time that is left.
    """

    def __init__(
        self,
        title: str,
        total: int = 0,
        *,
        done: int = 0,
        expected: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = _printable(title)
        self._done = self._before = done
        self._total = total
        self._note = ""
        self._last = ""
        self._clock = clock
        self._expected = expected
        self._each = 0.0  # what a trial should take, from the first plan
        self._since = self._ended = clock()
        self._drawn: list[int] = []
        self._bar: Live | None = None
        self._progress: RichProgress | None = None

    def __enter__(self) -> Self:
        self._since = self._ended = self._clock()
        if _is_rich(sys.stderr):
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._bar.stop()
            self._drop_bar()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Say how many trials are finished, out of how many, and what the results look like so far.

        Args:
            done: trials finished, with those of earlier runs.
            total: trials of the plan.
            note: running means, one line an arm; kept until the next one. Shown on a terminal only, as many
                lines as it has room for.
        """
        if done > self._done:
            self._ended = self._clock()
        if not self._each and self._expected is not None and total > self._before:
            self._each = self._expected / (total - self._before)
        self._done, self._total = done, total
        self._note = _printable(note) or self._note
        self._refresh()

    def finished(self, line: str) -> None:
        """Say what a trial gave, in a line on stderr or under the bar. Call `update` first: the line carries its count."""
        line = _printable(line)
        if self._bar is not None:
            self._last = line
            self._refresh()
            return
        left = self.left()
        count = f"[{self._done}/{self._total}] " if self._total else ""
        _talk(f"{count}{line}" + (f"  ({left})" if left else ""))

    def left(self) -> str:
        """Return ``about 7 min left``, counting down between two trials; empty while nothing is known."""
        fresh, waiting = self._done - self._before, self._total - self._done
        if fresh > 0 and waiting > 0:
            # The first trials carry the start of their process: what was expected counts as some
            # trials of its own.
            known, each = (0, 0.0) if self._expected is None else (_EXPECTED_WEIGHT, self._each)
            spent = known * each + self._ended - self._since
            seconds = spent / (known + fresh) * waiting - (self._clock() - self._ended)
        elif self._expected is not None and fresh <= 0 and (waiting > 0 or not self._total):
            seconds = self._expected - (self._clock() - self._since)
        else:
            return ""
        return f"about {duration(seconds)} left" if seconds >= 0.5 else "longer than expected"

    def _open_bar(self) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._progress = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            expand=True,
        )
        self._progress.add_task(
            self._title, total=self._total or None, completed=self._done, left=self.left()
        )
        # Transient: when the run is over its summary takes the place of the bar. The program's own
        # writes are not redirected: they all come through this module.
        self._bar = Live(
            console=_rich(sys.stderr),
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._bar.start()
        _bars[:] = [self]

    def _drop_bar(self) -> None:
        self._bar = None
        _bars.clear()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        if self._progress is None or self._bar is None:
            return Text("")
        self._progress.update(self._progress.task_ids[0], left=self.left())  # it counts down
        width, height = self._bar.console.size
        notes = self._note.split("\n") if self._note else []
        room = max(height - _ROWS_BELOW, 1)
        if len(notes) > room:
            notes = [*notes[: room - 1], f"and {len(notes) - room + 1} more"]
        lines = [
            Text(text, no_wrap=True, overflow="ellipsis")
            for text in (*notes, self._last and f"last: {self._last}")
            if text
        ]
        _mind_resize(self._bar, self._drawn)
        self._drawn = [width, *(min(line.cell_len, width) for line in lines)]
        return Group(self._progress, *lines)

    def _refresh(self) -> None:
        if self._bar is None or self._progress is None:
            return
        task = self._progress.task_ids[0]
        self._progress.update(
            task, completed=self._done, total=self._total or None, left=self.left()
        )
        try:
            self._bar.refresh()
        except OSError:  # the terminal is gone; the trials go on
            self._drop_bar()

    def print_above(self, text: str) -> None:
        """Print text above the bar."""
        from rich.text import Text

        if self._bar is None:
            return
        try:
            self._bar.console.print(Text.from_ansi(text), soft_wrap=True)
        except OSError:
            self._drop_bar()


class OneLine:
    """A line on stderr that is written over, and gone at the end."""

    def __init__(self) -> None:
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.show("")
        _write(sys.stderr, "\r")

    def show(self, text: str) -> None:
        """Write text in the place of the last one."""
        text = _printable(text)[: max(_width(sys.stderr) - 1, 1)]
        _write(sys.stderr, "\r" + text.ljust(self._length))
        self._length = len(text)


def _mind_resize(live: Live, drawn: Sequence[int]) -> None:
    """Count again the rows that a narrower terminal broke the last picture into: all are erased.

    Args:
        live: what draws the picture.
        drawn: columns that each of its lines took.
    """
    width = live.console.size.width
    if drawn and width < max(drawn):
        rows = sum(max(1, math.ceil(columns / width)) for columns in drawn)
        live._live_render._shape = (width, rows)  # noqa: SLF001 - rich has no other way


class Board:
    """A table and lines below it that are shown again and again: in place where a terminal is watched.

    Elsewhere the table goes to stdout and the lines to stderr, each time.

    Args:
        live: whether the same place is drawn over.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live and _is_rich(sys.stdout)
        self._shown: Live | None = None
        self._drawn: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._shown.stop()

    def show(self, columns: Sequence[str], rows: Sequence[Sequence[object]], lines: str) -> None:
        """Draw a table, its numbers at the right but for the first column, and lines below it."""
        if not self._live:
            table(columns, rows, right=columns[1:])
            say(lines)
            return

        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        cells = [[_printable(str(cell)) for cell in row] for row in rows]
        grid = _build_table([_printable(name) for name in columns], cells, columns[1:], sys.stdout)
        picture = Group(grid, Text(_printable(lines)))
        if self._shown is None:
            self._shown = Live(
                console=_rich(sys.stdout),
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._shown.start()
        _mind_resize(self._shown, self._drawn)
        self._shown.update(picture, refresh=True)
        lines_drawn = self._shown.console.render_lines(picture, pad=False)
        self._drawn = [sum(part.cell_length for part in line) for line in lines_drawn]


def _build_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    right: Collection[str],
    stream: TextIO | None,
) -> Table:
    """Build rich's table, `width` set to what it may take."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = [
        max(cell_len(line) for text in column for line in text.split("\n"))
        for column in zip(columns, *cells, strict=True)
    ]
    room, gap, least = _width(stream), 2, 16
    fixed = sum(widths[:-1]) + gap * (len(widths) - 1)
    tight = fixed + min(widths[-1], least) > room  # the last column alone cannot make it fit
    if tight and not _is_terminal(stream):
        room, tight = fixed + min(widths[-1], max(least, PLAIN_WIDTH - fixed)), False
    grid = Table(
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        header_style="bold",
        width=min(room, fixed + widths[-1]),
    )
    for place, name in enumerate(columns):
        last = place == len(columns) - 1
        grid.add_column(
            Text(name),
            justify="right" if name in right else "left",
            no_wrap=not (last or tight),
            overflow="fold",
            min_width=None if last or tight else widths[place],
        )
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def _draw(grid: Table, stream: TextIO | None) -> str:
    """Return the table as lines without trailing blanks, with a terminal's codes where the stream wants them."""
    drawn = io.StringIO()  # rich's own capture writes to the stream all the same, which may be full
    _rich(stream, width=max(grid.width or 0, 1), file=drawn).print(grid)
    return "\n".join(line.rstrip() for line in drawn.getvalue().rstrip("\n").split("\n"))


def _rich(
    stream: TextIO | None, *, width: int | None = None, file: TextIO | None = None
) -> Console:
    """Return rich's console on a stream, with this module's choices: colour, width, no markup in other people's text."""
    from rich.console import Console

    fancy = _is_rich(stream)
    return Console(
        file=file or stream,
        force_terminal=fancy,
        no_color=not fancy,
        color_system="auto" if fancy else None,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def is_watched() -> bool:
    """Return whether stderr is a terminal."""
    return _is_terminal(sys.stderr)


def _is_rich(stream: TextIO | None) -> bool:
    """Return whether the stream is a terminal that wants more than plain text (https://no-color.org)."""
    return (
        _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _with_style(text: str, word: str, code: str) -> str:
    """Return text with its first word styled, where stderr takes that."""
    return f"{code}{word}{_RESET}{text.removeprefix(word)}" if _is_rich(sys.stderr) else text


def _width(stream: TextIO | None) -> int:
    if stream is not None and _is_terminal(stream):
        try:
            return os.get_terminal_size(stream.fileno()).columns or PLAIN_WIDTH
        except (OSError, ValueError):
            return PLAIN_WIDTH
    return PLAIN_WIDTH


def _printable(text: str) -> str:
    return text.translate(_CONTROLS)


def _broken(text: str) -> str:
    """Return text with its long lines broken between words, where a terminal would break them anywhere."""
    if not _is_terminal(sys.stderr):
        return text
    width = max(_width(sys.stderr), 20)
    lines: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        hang = indent + "  " if indent else ""  # of a list: the next entry begins further left
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=hang,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
            replace_whitespace=False,
        ) or [line]
    return "\n".join(lines)


def _talk(text: str) -> None:
    if _bars:
        _bars[0].print_above(text)
    else:
        _write(sys.stderr, text + "\n")


def _write(stream: TextIO | None, text: str) -> None:
    """Write and flush. Text that the stream refuses is dropped; of stdout that is noted, unless its reader went away."""
    to_stdout = stream is sys.stdout
    if stream is None or stream.closed:
        _lost.extend(["it is closed"] * to_stdout)
        return
    try:
        try:
            stream.write(text)
        except (
            UnicodeEncodeError
        ):  # an old terminal's encoding: the words matter more than the plus-minus sign
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
    except OSError as error:
        _lost.extend([error.strerror or str(error)] * to_stdout)
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Send what is left in the stream's buffer, and all that follows, to the null device: a flush at exit would raise again."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except (OSError, ValueError):  # no descriptor behind it: nothing is left to flush
        return
    finally:
        os.close(null)


def _jsonable(value: Any) -> Any:
    """Return the value in JSON's own types."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            _jsonable(item)
            for item in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # pydantic's models; NumPy's scalars
    for method, arguments in (("model_dump", {"mode": "python"}), ("item", {})):
        convert = getattr(value, method, None)
        if callable(convert):
            return _jsonable(convert(**arguments))
    raise TypeError(f"a {type(value).__name__} has no JSON form")
