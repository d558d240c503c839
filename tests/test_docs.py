"""The documentation: every command in it exists and takes its options, every study in it is one, every example runs.

``nox -s e2e`` runs the commands in a fresh clone.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import find_defaults
from harness.study.study import parse_study
from tests.pages import PAGES, ROOT, blocks, page_id, titled

REFERENCE = ROOT / "docs" / "reference"
MOST_WORDS = {"README.md": 900, "CONTRIBUTING.md": 1_500, "what-we-found.md": 1_400}
MOST_WORDS_OF_A_PAGE = 1_000
LARGEST_PICTURE_KB = 200
Harness = Callable[..., subprocess.CompletedProcess[str]]

# Where a page's Python starts from: what the text around it says is there.
PREPARED = """
import torch
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
train_loader = val_loader = [(torch.rand(8, 1, 8, 8), torch.arange(8))]
history = [dict(epoch=e, train_accuracy=.5 + .1 * e, val_accuracy=.5 + .05 * e, val_loss=1 - .1 * e) for e in range(4)]
"""
# Commands that take seconds and touch only the folder they run in; the others are parsed and not
# run.
QUICK = ("analyze runs.csv --", "show", "new-study", "compare", "data list", "report --from")


def commands() -> list[str]:
    """Return every distinct line of the pages that calls harness, in order, without what follows ``#``."""
    lines = [
        line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()
    ]
    parts = [part.strip() for line in lines for part in line.partition("  #")[0].split("&&")]
    return list(dict.fromkeys(part for part in parts if part.startswith("harness ")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the pages presume it: a table of runs, and a report."""
    rows = [
        f"{arm},{seed},{90 + shift + seed % 3},{97 + seed % 2}"
        for seed in range(5)
        for arm, shift in (("plain", 0), ("ema", 1))
    ]
    (tmp_path / "runs.csv").write_text(
        "\n".join(["model,seed,val_acc,train_acc", *rows, ""]), encoding="utf-8"
    )
    for arm, score in (("plain", 0.90), ("ema", 0.91)):
        for seed in range(4):
            run = tmp_path / "runs" / arm / f"seed-{seed}"
            run.mkdir(parents=True)
            lines = f"acc\tloss\n{score + 0.001 * seed * (seed + len(arm))}\t0.3\n"
            (run / "metrics.csv").write_text(lines, encoding="utf-8")
    shutil.copytree(
        ROOT / "reports" / "augmentations-small", tmp_path / "reports" / "augmentations-small"
    )
    for page in PAGES:
        for name, text in titled(page):
            (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_there_are_commands_to_try() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("command", commands())
def test_every_command_exists_and_takes_these_options(command: str) -> None:
    import typer

    from harness.cli import app

    group = typer.main.get_command(app)
    arguments = shlex.split(command)[1:]
    while hasattr(group, "resolve_command"):
        outer = group.make_context("harness", list(arguments), resilient_parsing=True)
        if arguments[0].startswith("-"):  # an option of the program itself
            return
        _, group, arguments = group.resolve_command(outer, arguments)
    assert group.make_context(command, arguments, resilient_parsing=False).params


@pytest.mark.parametrize(
    "command",
    [command for command in commands() if command.removeprefix("harness ").startswith(QUICK)],
)
def test_every_quick_command_runs(command: str, folder: Path, harness: Harness) -> None:
    if "batch-size" in command and "new-study" not in command:  # what the line before it made
        harness("new-study", "batch-size")
    done = harness(*shlex.split(command)[1:], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_study_is_one(path: Path) -> None:
    for text in blocks(path, "toml"):
        if text.startswith("# harness.toml"):
            continue
        study = parse_study(tomllib.loads(text), name="example")
        assert study.question


def test_every_file_of_defaults_is_one(tmp_path: Path) -> None:
    found = [
        text for page in PAGES for text in blocks(page, "toml") if text.startswith("# harness.toml")
    ]
    assert found
    for text in found:
        (tmp_path / "harness.toml").write_text(text, encoding="utf-8")
        assert {name for name, _ in find_defaults(tmp_path).sources} == set(tomllib.loads(text))


def test_every_python_example_runs(folder: Path) -> None:
    parts = [block for page in PAGES for block in blocks(page, "python")]
    assert len(parts) > 4
    # one after the other in one process: torch takes seconds to import
    for number, part in enumerate(parts):
        (folder / f"part{number}.py").write_text(part, encoding="utf-8")
    code = PREPARED + "\n".join(
        f"exec(compile(open('part{i}.py').read(), 'part{i}.py', 'exec'), dict(globals()))"
        for i in range(len(parts))
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:", target):
            file, _, anchor = target.partition("#")
            page = (path.parent / file).resolve() if file else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), target


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_page_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.stem == "what-we-found":  # its tables are looked up, not read
        lines = [line for line in lines if not line.startswith("|")]
    # docs/README.md is a page like others
    name = "" if path == ROOT / "docs" / "README.md" else path.name
    # the rules of a table are no words
    words = len([w for line in lines for w in line.split() if w.strip("|-")])
    assert words <= MOST_WORDS.get(name, MOST_WORDS_OF_A_PAGE)


def test_every_page_is_in_a_list_of_contents() -> None:
    contents = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
    home = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.stem != "README":
            assert f"   {page.stem}\n" in contents
            assert f"({page.name}" in home


def test_the_reference_is_what_the_program_says() -> None:
    """``python tools/reference.py`` writes it again."""
    written = {
        path.relative_to(REFERENCE).as_posix(): path.read_text(encoding="utf-8")
        for path in REFERENCE.rglob("*.md")
    }
    assert tool("reference").pages() == written


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size <= LARGEST_PICTURE_KB * 1000, path.name


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
