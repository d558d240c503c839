"""Tables of finished runs as other tools left them: files, folders and databases in, one frame of cells out.

A format or a tool has its own module; none of them knows arms, seeds or verdicts: that is
``harness.analysis.runs_table``. Start with ``reading``: it finds the files and hands each to its
reader.
"""

from __future__ import annotations

from harness.analysis.sources.frame import FILE, LINE, TableSource
from harness.analysis.sources.reading import read_source

__all__ = ["FILE", "LINE", "TableSource", "read_source"]
