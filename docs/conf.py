"""The documentation as a static site: ``nox -s docs`` builds it under build/docs, with a search that works from files."""

from __future__ import annotations

import re
from typing import Any

project = "harness"
author = "The harness authors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
# index.rst includes README.md, which a code host shows for the folder
exclude_patterns = ["README.md", "images"]
root_doc = "index"
html_theme = "furo"
html_title = "harness"
html_show_sourcelink = False
html_copy_source = False
nitpicky = True


def name_reports(_app: Any, _page: str, source: list[str]) -> None:
    """Turn links to reports, which are not part of the site, into their paths in the repository."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./(reports/[^)/]+)[^)]*\)", r"\1 (`\2`)", source[0])


def setup(app: Any) -> None:
    """Let Sphinx call what this file adds."""
    app.connect("source-read", name_reports)
