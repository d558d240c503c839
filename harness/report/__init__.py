"""Reports: one folder a study, one page a person reads in five minutes, and the same tables in every format.

document    what a report is made of, plain data
words       numbers, intervals and sentences as text
lookup      questions asked of an analysis
tables      analysis -> tables;  evidence  those behind the verdicts;  searched  those of a search
samples     strips of augmented images
figures     analysis -> drawings with alt text and table
sections    the sections, each under its name
build       all of it together
material    trials, curves, images
export      material -> data files;  folder  data files -> material;  adoption  finished trials in them
write       the whole folder at once;  index  one page over all folders
render      report -> HTML, Markdown;  latex  analysis -> tables and text for a paper
"""

from __future__ import annotations

from harness.analysis.tuning_facts import Confirmed, Finalist, Importance, SearchTrial, TuningFacts
from harness.report.adoption import find_reported
from harness.report.document import Figure, Report
from harness.report.folder import read_analysis, read_folder
from harness.report.index import write_index
from harness.report.material import Material, Provenance
from harness.report.words import answer, support
from harness.report.write import Written, rebuild, write_material, write_report

__all__ = [
    "Confirmed",
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
    "find_reported",
    "read_analysis",
    "read_folder",
    "rebuild",
    "support",
    "write_index",
    "write_material",
    "write_report",
]
