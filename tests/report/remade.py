"""Run in a child process: make the numbers of reports again from their folders, and print which files differ.

The first argument is a report whose words are made again too, the others are reports.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.report import read_folder, render
from harness.report.build import build
from harness.report.write import analysed, analysis_json, effects_csv


def differing(folder: Path, *, words: bool = False) -> list[str]:
    """Names of the files that are not byte for byte what they were: those of numbers, and the text with ``words``."""
    material = read_folder(folder)
    analysis = analysed(material)
    made = {"analysis.json": analysis_json(analysis), "effects.csv": effects_csv(analysis)}
    if words:
        made["report.md"] = render.markdown(build(material, analysis, formats=()))
    return [
        f"{folder.name}/{name}"
        for name, text in made.items()
        if (folder / name).read_bytes() != text.encode()
    ]


if __name__ == "__main__":
    whole, *folders = map(Path, sys.argv[1:])
    lines = [
        *differing(whole, words=True),
        *(line for folder in folders for line in differing(folder)),
    ]
    sys.stdout.write("\n".join(lines))
