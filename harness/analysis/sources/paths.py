"""What the path of a file says of its run: parts that differ between files become columns.

``{arm}/seed-{seed}/metrics.csv`` is a pattern that says so; without one, a guess is made from the
paths and shown as the pattern it amounts to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import UsageError

_COUNTED = r"seed|s|run|trial|rep|repeat|replicate|fold|version|v|split|job"
_NUMBERED = re.compile(rf"({_COUNTED})[-_=. ]?(\d+)", re.IGNORECASE)
_NAMED_AND_NUMBERED = re.compile(rf"(.+?)[-_., ]+({_COUNTED})[-_=. ]?(\d+)", re.IGNORECASE)
_ENDS_IN_NUMBER = re.compile(r"(.+?)[-_.](\d{1,6})")
_NUMBERED_FIRST = re.compile(rf"({_COUNTED})[-_=. ]?(\d+)[-_., ]+(.+)", re.IGNORECASE)
_PAIR = re.compile(r"([A-Za-z_][\w.]*)=(.*?)(?=(?:[,;&+ _]+[A-Za-z_][\w.]*=)|$)")
_HOLE = re.compile(r"\{([^{}/]+)\}")
_ENDINGS = {
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".feather", ".xlsx"),
    *(".gz", ".xz", ".bz2", ".zip", ".log", ".tab", ".dat"),
}


@dataclass(frozen=True, slots=True)
class PathColumns:
    """What paths say.

    Attributes:
        columns: for every path, ``{column: text}``.
        pattern: the same in one line, such as ``{folder}/seed-{seed}/metrics.csv``.
    """

    columns: tuple[dict[str, str], ...]
    pattern: str


def is_pattern(source: str) -> bool:
    """Whether a source names parts of its paths in braces."""
    return bool(_HOLE.search(source))


def matching(pattern: str) -> tuple[list[Path], PathColumns]:
    """Return the files that a pattern such as ``runs/{arm}/seed-{seed}/metrics.csv`` finds, and what their paths say.

    Raises:
        UsageError: no file matches, or a name is used twice.
    """
    names = _HOLE.findall(pattern)
    if len(set(names)) < len(names):
        raise UsageError(
            f"{pattern}: a name in braces occurs twice", "give every part a name of its own"
        )
    fixed = list(PurePosixPath(pattern).parts)
    first = next(i for i, part in enumerate(fixed) if _HOLE.search(part) or "*" in part)
    root = Path(*fixed[:first]) if first else Path()
    rest = "/".join(fixed[first:])
    form = "".join(
        "([^/]+?)"
        if i % 2
        else re.escape(text).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        for i, text in enumerate(_HOLE.split(rest))
    )
    files, columns = [], []
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        match = re.fullmatch(form, path.relative_to(root).as_posix()) if path.is_file() else None
        if match:
            files.append(path)
            columns.append(dict(zip(names, match.groups(), strict=True)))
    if not files:
        raise UsageError(
            f"no file matches {pattern!r}",
            "a part in braces matches one folder or one part of a name; * matches anything",
        )
    return files, PathColumns(tuple(columns), pattern)


def guessed(paths: Sequence[PurePosixPath]) -> PathColumns:
    """Return what paths say where nobody has: every part that differs between them, under a name made from it."""
    parts = [(*path.parts[:-1], _stem(path.name)) for path in paths]
    depth = max(map(len, parts))
    levels = [[("",) * (depth - len(p)) + p for p in parts]] if parts else []
    columns: list[dict[str, str]] = [{} for _ in paths]
    shown = []
    varied = 0
    for level in range(depth):
        tokens = [row[level] for row in levels[0]]
        if len(set(tokens)) == 1:
            shown.append(tokens[0])
            continue
        word = "file" if level == depth - 1 else "folder"
        varied += word == "folder"
        name = f"{word} {varied}" if word == "folder" and varied > 1 else word
        said, pattern = _token_columns(tokens, name)
        for into, values in zip(columns, said, strict=True):
            into.update({key: value for key, value in values.items() if value})
        shown.append(pattern)
    ending = paths[0].name.removeprefix(_stem(paths[0].name)) if paths else ""
    return PathColumns(tuple(columns), "/".join(shown) + ending)


def _token_columns(tokens: Sequence[str], name: str) -> tuple[list[dict[str, str]], str]:
    """Return what one part of the paths says of each file, and the part as a pattern."""
    numbered = [_NUMBERED.fullmatch(token) for token in tokens]
    if all(numbered):
        words = {match[1].lower() for match in numbered if match}
        if len(words) == 1:
            word = _spelled(words.pop())
            first = tokens[0]
            head = first[: len(first) - len(numbered[0][2])] if numbered[0] else ""
            return [{word: m[2]} for m in numbered if m], f"{head}{{{word}}}"
    if all("=" in token for token in tokens):
        pairs = [dict(_PAIR.findall(token)) for token in tokens]
        if all(pairs):
            keys = list(dict.fromkeys(key for row in pairs for key in row))
            varying = [k for k in keys if len({row.get(k) for row in pairs}) > 1]
            said = [{k: row.get(k, "") for k in varying} for row in pairs]
            return said, ",".join(f"{key}={{{key}}}" for key in varying)
    for form, order in ((_NAMED_AND_NUMBERED, (1, 2, 3)), (_NUMBERED_FIRST, (3, 1, 2))):
        both = [form.fullmatch(token) for token in tokens]
        words = {match[order[1]].lower() for match in both if match}
        if all(both) and len(words) == 1:
            word = _spelled(next(iter(words)))
            said = [{name: m[order[0]], word: m[order[2]]} for m in both if m]
            return said, f"{{{name}}}_{word}{{{word}}}"
    ends = [_ENDS_IN_NUMBER.fullmatch(token) for token in tokens]
    if all(ends):
        said = [{name: m[1], "number": m[2]} for m in ends if m]
        # names like resnet_18 and resnet_34 end in numbers as well; runs repeat theirs
        if len({row["number"] for row in said}) < len(said) and len({r[name] for r in said}) > 1:
            return said, f"{{{name}}}_{{number}}"
    return [{name: token} for token in tokens], f"{{{name}}}"


def numbered(names: Iterable[str]) -> set[str]:
    """Return the names of files that count runs (``run1.log``, ``seed_2.csv``) with one word; none where two words count."""
    said = {name: match[1] for name in names if (match := _NUMBERED.fullmatch(_stem(name)))}
    return set(said) if len(set(said.values())) == 1 else set()


def _spelled(word: str) -> str:
    return {"s": "seed", "v": "version"}.get(word, word)


def _stem(name: str) -> str:
    """A file's name without the endings that say its format."""
    path = PurePosixPath(name)
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return path.name
