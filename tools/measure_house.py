"""Measure the structure of the package: `python tools/measure_house.py [CHECKOUT]` prints one figure a line.

Reads the source with `ast` and `tokenize` alone, so that two states of the repository can be
compared by the same rules:

- *code* is a line that holds a token other than a comment or a docstring; *characters* are the
  lengths of those tokens;
- *rooms* are the packages and loose modules directly under `harness/`, `__init__`, `__main__` and
  data files left out;
- the *longest import chain* runs over modules, imports inside functions included, cycles taken as
  one;
- *floors* are the longest chain over rooms;
- the *main path* is the files that CONTRIBUTING.md names under "The way of a cell", or those given
  with `--path`.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

LONGEST = 60  # lines of a function without its docstring
_SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines that docstrings take."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def count_code(text: str) -> tuple[int, int, int]:
    """Return (lines of code, characters of code, lines that hold only a comment) of a module."""
    documented = docstring_lines(ast.parse(text))
    code: set[int] = set()
    comments: set[int] = set()
    characters = 0

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _SILENT and token.start[0] not in documented:
            code |= set(range(token.start[0], token.end[0] + 1))
            characters += len(token.string)

    return len(code), characters, len(comments - code)


def long_functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (name, lines without the docstring) of every function that is too long."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                first = node.body[0]
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            if lines > LONGEST:
                yield node.name, lines


def imported(tree: ast.AST, module: str, *, is_package: bool, known: set[str]) -> set[str]:
    """Return the modules of the package that a module imports, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            base = node.module or ""
            names |= {
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                for alias in node.names
            }
    own = (
        {module}
        if not is_package
        else {module, *(name for name in known if name.startswith(f"{module}."))}
    )
    return {name for name in names if name in known} - own


def longest_chain(arrows: Mapping[str, set[str]]) -> int:
    """Return the number of nodes on the longest path, each cycle counted as one node."""
    groups = _components(arrows)
    place = {name: number for number, group in enumerate(groups) for name in group}
    depth = [1] * len(groups)
    for number, group in enumerate(groups):  # what a group imports comes before it
        below = {
            place[other]
            for name in group
            for other in arrows.get(name, ())
            if place[other] != number
        }
        depth[number] = 1 + max((depth[other] for other in below), default=0)
    return max(depth, default=0)


def _components(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components, what is imported first (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            start = stack.index(name)
            groups.append(set(stack[start:]))
            del stack[start:]

    for name in sorted(arrows):
        if name not in order:
            visit(name)
    return groups


def main_path(root: Path) -> list[Path]:
    """Return the files that CONTRIBUTING.md names as the way of a cell, in order."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(r"^##+ The way of a cell\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    names = re.findall(r"`((?:harness/)?[\w/]+\.py)`", section[1]) if section else []
    files = [
        root / name if name.startswith("harness/") else root / "harness" / name for name in names
    ]
    return list(dict.fromkeys(files))


def measure(root: Path, path: list[Path]) -> dict[str, str]:
    """Return every figure by its name."""
    files = sorted((root / "harness").rglob("*.py"))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    counts = {file: count_code(text) for file, text in texts.items()}
    names = {
        file: ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for file in files
    }
    known = set(names.values())

    arrows = {
        names[file]: imported(tree, names[file], is_package=file.name == "__init__.py", known=known)
        for file, tree in trees.items()
    }
    rooms: dict[str, set[str]] = {}
    for module, others in arrows.items():
        room = ".".join(module.split(".")[:2])
        if room not in ("harness", "harness.__main__"):
            beyond = {".".join(other.split(".")[:2]) for other in others} - {room, "harness"}
            rooms.setdefault(room, set()).update(beyond)

    classes = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    too_long = [
        f"{names[file]}.{name} ({lines})"
        for file, tree in trees.items()
        for name, lines in long_functions(tree)
    ]
    code, characters, comments = (sum(count[i] for count in counts.values()) for i in range(3))

    return {
        "files": f"{len(files)}",
        "lines": f"{sum(text.count(chr(10)) for text in texts.values()):,}",
        "lines of code": f"{code:,}",
        "characters of code": f"{characters:,}",
        "comment lines per 100 lines of code": f"{100 * comments / code:.1f}",
        "rooms and loose modules at the top": f"{len(rooms)}",
        "arrows between rooms": f"{sum(map(len, rooms.values()))}",
        "floors between rooms": f"{longest_chain(rooms)}",
        "longest import chain of modules": f"{longest_chain(arrows)}",
        "main path": f"{len(path)} files, {sum(counts[file][0] for file in path):,} lines of code",
        "class names used twice": " ".join(
            sorted(name for name, count in classes.items() if count > 1)
        )
        or "0",
        f"functions over {LONGEST} lines": ", ".join(sorted(too_long)) or "0",
    }


def main() -> None:
    """Print the figures of a checkout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkout", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent
    )
    parser.add_argument(
        "--path",
        nargs="+",
        type=Path,
        default=[],
        help="files of the main path, from the checkout's folder",
    )
    given = parser.parse_args()

    path = [given.checkout / file for file in given.path] or main_path(given.checkout)
    for name, figure in measure(given.checkout, path).items():
        print(f"{name}: {figure}")


if __name__ == "__main__":
    main()
