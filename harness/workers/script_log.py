"""What a script printed: cleaned of what only a terminal shows, and searched for why it failed."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 64_000  # a traceback through torch.compile and a launcher is some 20,000
_ROW_BYTES = 4_000  # of one line that a progress bar went on overwriting
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_HEAD = "Traceback (most recent call last)"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?$')
_LIBRARY = re.compile(r"site-packages|dist-packages|[/\\]lib[/\\]python3|^<")
_RANK = re.compile(r"^\[rank\d+\]: ?")  # torchrun's before every line of a traceback
_FRAMES = 3
_AFTER = 15  # lines that may follow an exception: the rest of its message, a launcher's farewell


def as_printed(text: str) -> str:
    """Return printed text for patterns: every state of a progress bar is a line; no colours, no backspaces."""
    plain = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return plain.replace("\b", "")


def as_shown(text: str) -> str:
    """Return printed text as a terminal shows it in the end: a bar's last state, nothing that was overwritten."""
    return "\n".join(_row(line) for line in _ESCAPES.sub("", text).split("\n"))


def _row(line: str) -> str:
    """What a terminal shows of one line once carriage returns and backspaces have moved its cursor."""
    line = line.rstrip("\r")
    if "\r" not in line and "\b" not in line:
        return line
    shown: list[str] = []
    at = 0
    for sign in line[-_ROW_BYTES:]:
        if sign == "\r":
            at = 0
        elif sign == "\b":
            at = max(0, at - 1)
        else:
            shown[at : at + 1] = [sign]
            at += 1
    return "".join(shown).rstrip()


def read_log(log: Path) -> str:
    """Return all that was printed; nothing where there is no log."""
    with suppress(OSError):
        return log.read_bytes().decode("utf-8", errors="replace")
    return ""


def tail(log: Path) -> list[str]:
    """Return the last lines of a log as a terminal shows them, empty ones left out."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = as_shown(file.read().decode("utf-8", errors="replace"))
        return [line.rstrip() for line in text.split("\n") if line.strip()]
    return []


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a script ended, by its own words.

    Attributes:
        message: the exception, or the last line; empty for a script that printed nothing.
        frames: the last frames of the traceback, ``train.py:12 in main``, the innermost at the end.
    """

    message: str
    frames: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return both in words that follow ``the script ended``."""
        if not self.message:
            return ", without a word"
        where = f", at {', '.join(self.frames)}" if self.frames else ""
        return f": {self.message[:300]}{where}"


def failure(log: Path) -> Failure:
    """Look in the end of a log for the exception that ended the script, and where it was raised."""
    lines = [line for line in (_RANK.sub("", line) for line in tail(log)) if line]
    starts = [index for index, line in enumerate(lines) if _HEAD in line]
    # a script that Python cannot read has a frame and no head
    starts = starts or [index for index, line in enumerate(lines) if _FRAME.match(line)]
    last = lines[-1].strip() if lines else ""
    if not starts:
        return Failure(last)

    frames: list[re.Match[str]] = []
    for index in range(starts[-1], len(lines)):
        frame = _FRAME.match(lines[index])
        if frame is not None:
            frames.append(frame)
        elif frames and not lines[index][0].isspace():
            if len(lines) - index > _AFTER:  # it was caught, printed, and training went on
                return Failure(last)
            return Failure(lines[index].strip(), _shown(frames))
    return Failure(last, _shown(frames))


def _shown(frames: list[re.Match[str]]) -> tuple[str, ...]:
    """The last frames of files that are no library's, and the library's where the exception left it."""
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])] or frames
    shown = own[-_FRAMES:]
    if frames[-1] is not shown[-1]:
        shown = [*own[-_FRAMES + 1 :], frames[-1]]
    return tuple(map(_place, shown))


def _place(frame: re.Match[str]) -> str:
    path, name = Path(frame["file"]), frame["name"]
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    shown = str(path) if not path.is_absolute() else path.name
    inside = f" in {name}" if name and name != "<module>" else ""
    return f"{shown}:{frame['line']}{inside}"
