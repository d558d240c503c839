"""The documentation: every command in it exists and takes its options, every study in it is one, every example runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.config import find_defaults
from harness.study.study import parse_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
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
QUICK = ("analyze", "show", "new-study", "compare", "data list", "report --from")


def blocks(path: Path, language: str) -> Iterator[str]:
    """Yield the blocks of one language; a block in a list is indented with it."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield re.sub(rf"^{found[1]}", "", found[2], flags=re.MULTILINE)


def commands() -> list[str]:
    """Return every distinct line of the pages that calls harness, in order, without what follows ``#``."""
    lines = [
        line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()
    ]
    parts = [part.strip() for line in lines for part in line.partition("  #")[0].split("&&")]
    return list(dict.fromkeys(part for part in parts if part.startswith("harness ")))


def page_id(path: Path) -> str:
    return path.stem


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
        if not re.match(r"https?:|docs/report\.png", target):
            file, _, anchor = target.partition("#")
            page = (path.parent / file).resolve() if file else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), target


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
