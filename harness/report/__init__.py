"""The document: its sections, words, tables and figures, and every format it is written in.

No number is worked out here: ``analysis`` gives them all.
Start with ``write`` (the folder), then ``build`` and ``sections``; ``answers`` turns verdicts into
sentences, ``words`` numbers into text.
"""

from __future__ import annotations

from harness.report.adoption import find_reported
from harness.report.answers import answer, support
from harness.report.document import Figure, Report
from harness.report.folder import read_analysis, read_folder
from harness.report.index import write_index
from harness.report.material import Material, Provenance
from harness.report.write import Written, rebuild, write_material, write_report

__all__ = [
    "Figure",
    "Material",
    "Provenance",
    "Report",
    "Written",
    "answer",
    "find_reported",
    "read_analysis",
    "read_folder",
    "rebuild",
    "support",
    "write_index",
    "write_material",
    "write_report",
]
