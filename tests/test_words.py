"""Messages, docstrings and pages are in plain English: docs/style.md says which turns we do without."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = (
    "cannot be",
    "told",
    "tells of",
    "came to",
    "beside",
    "of the user's",
    "anew",
    "sees to",
    "what is missing of",
    "stands",
)
PATTERN = re.compile(rf"\b(?:{'|'.join(re.escape(phrase) for phrase in BANNED)})\b", re.IGNORECASE)
STYLE_PAGE = ROOT / "docs" / "style.md"  # quotes what it bans
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),  # docs/reference repeats what the package says
    *sorted((ROOT / "examples").iterdir()),
    *sorted((ROOT / "harness").rglob("*.j2")),
    *sorted((ROOT / "studies").glob("*.toml")),
]
FILES = [path for path in [*sorted((ROOT / "harness").rglob("*.py")), *PAGES] if path != STYLE_PAGE]


def texts(path: Path) -> Iterator[str]:
    """Yield what a person may read of a file: of a module its string literals, docstrings included, of a page all of it."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield content
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def banned_in(path: Path) -> list[str]:
    return [
        match.group() for text in texts(path) for match in PATTERN.finditer(" ".join(text.split()))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_uses_plain_words(path: Path) -> None:
    assert banned_in(path) == [], "docs/style.md names plain words"


def test_the_search_finds_every_banned_turn_and_no_part_of_a_longer_word() -> None:
    assert all(PATTERN.search(f"it {phrase} x") for phrase in BANNED)
    assert not PATTERN.search("besides, understands, withstands, planewise")
