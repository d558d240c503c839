"""Run in a child process: make the numbers of reports again from their folders, and print which files differ.

The first argument is an empty folder to write in, the second a report whose words are made again too, the others are reports.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from harness.report import read_folder, rebuild
from harness.report.write import analysed, analysis_json, effects_csv


def differing(folder: Path) -> list[str]:
    """Names of the files of numbers that are not byte for byte what they were."""
    analysis = analysed(read_folder(folder))
    made = {"analysis.json": analysis_json(analysis), "effects.csv": effects_csv(analysis)}
    return [f"{folder.name}/{name}" for name, text in made.items() if (folder / name).read_bytes() != text.encode()]


def differing_words(folder: Path, into: Path) -> list[str]:
    """The same of a report that is rebuilt whole in a copy."""
    copy = into / folder.name
    shutil.copytree(folder, copy)
    rebuild(copy)
    names = ("analysis.json", "effects.csv", "report.md")
    return [f"{folder.name}/{name}" for name in names if (folder / name).read_bytes() != (copy / name).read_bytes()]


if __name__ == "__main__":
    into, whole, *folders = map(Path, sys.argv[1:])
    lines = [*differing_words(whole, into), *(line for folder in folders for line in differing(folder))]
    sys.stdout.write("\n".join(lines))
