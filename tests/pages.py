"""The pages that people read, and what of them a machine can try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# docs/reference is generated, and its text is tested where it is written
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def fences(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (language, what else the opening line says, text) of each block; one in a list is indented with it."""
    text = path.read_text(encoding="utf-8")
    pattern = r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        indent, language, more, body = match.groups()
        yield language, more.strip(), re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)


def blocks(path: Path, language: str) -> Iterator[str]:
    """Yield the text of the blocks of one language."""
    for found, _, text in fences(path):
        if found == language:
            yield text


def titled(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of the blocks that a reader is to save under a name."""
    for _, more, text in fences(path):
        title = re.search(r'title="([^"]+)"', more)
        if title:
            yield title[1], text


def page_id(path: Path) -> str:
    """Return a page's name as tests show it."""
    return path.stem
