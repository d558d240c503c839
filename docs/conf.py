"""The documentation as a static site: ``nox -s docs`` builds it under build/docs, with a search that works from files."""

from __future__ import annotations

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
