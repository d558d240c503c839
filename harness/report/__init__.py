"""Reports: one folder a study, one page a person reads in five minutes, and the same tables in every format.

document    what a report is made of, plain data
words       numbers, intervals and sentences as text
lookup      questions asked of an analysis
tables      analysis -> tables
figures     analysis -> drawings with alt text and table
sections    the sections, each under its name
build       all of it together
render      report -> HTML, Markdown;  latex  analysis -> tables and text for a paper
folder      the data files, written and read back;  write  the whole folder at once;  index  one page over all
"""

from __future__ import annotations

from harness.report.document import Figure, Report
from harness.report.folder import Material, Provenance, read_analysis, read_folder, read_trials
from harness.report.index import write_index
from harness.report.tuning import Finalist, Importance, SearchTrial, TuningFacts
from harness.report.words import answer, support
from harness.report.write import Written, rebuild, write_material, write_report

__all__ = [
    "Figure",
    "Finalist",
    "Importance",
    "Material",
    "Provenance",
    "Report",
    "SearchTrial",
    "TuningFacts",
    "Written",
    "answer",
    "read_analysis",
    "read_folder",
    "read_trials",
    "support",
    "rebuild",
    "write_index",
    "write_material",
    "write_report",
]
