"""Shell completion: names of studies, profiles and fields, without loading a heavy library, whatever state the files are in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.study.files import available_studies
from harness.study.plugin_fields import OPEN
from harness.study.recipe import fields

# The parser itself brings pydantic; what is built with it here, recipes and studies, stays out.
HEAVY = ["torch", "numpy", "pandas", "optuna", "scipy", "harness.study.recipe"]


def complete(line: str, folder: Path, words: list[str] | None = None) -> list[str]:
    """Return what bash is offered for the last word of a command line, or of the words that it makes of one."""
    line = "\n".join(words) if words else line
    words = words or line.split(" ")
    code = (
        "import atexit, sys; sys.argv = ['harness']; from harness.cli import main;"
        f"atexit.register(lambda: print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)); main()"
    )
    asked = {
        "_HARNESS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""  # nothing said, and nothing heavy loaded
    return done.stdout.split()


@pytest.mark.parametrize("command", ["ablate --study", "plan -s", "show"])
def test_studies_complete_by_name(command: str, tmp_path: Path) -> None:
    assert set(complete(f"harness {command} ", tmp_path)) >= set(available_studies())
    assert complete(f"harness {command} augm", tmp_path) == ["augmentations"]


def test_profiles_complete_with_those_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'schema = 1\nquestion = "?"\nseeds = 3\nmargin_pp = 1\n[profiles.tiny]\nseeds = 1\n'
    )
    assert complete("harness ablate --study own.toml --profile ", tmp_path) == [
        "quick",
        "small",
        "medium",
        "full",
        "tiny",
    ]


def test_fields_complete_with_an_equals_sign_and_values_after_it(tmp_path: Path) -> None:
    offered = complete("harness ablate --set augment.", tmp_path)
    chosen = [f"{start}." for start in OPEN if start.startswith("augment.")]
    assert sorted(offered) == sorted(
        [*(f"{name}=" for name in fields() if name.startswith("augment.")), *chosen]
    )
    values = complete("harness ablate --set augment.flip=", tmp_path)
    assert values == ["augment.flip=none", "augment.flip=random", "augment.flip=alternating"]


def test_a_broken_study_file_still_completes_by_name(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "wrong.toml").write_text("= =")
    assert complete("harness show wro", tmp_path) == ["wrong"]


def test_words_that_bash_breaks_at_an_equals_sign_are_completed_as_one(tmp_path: Path) -> None:
    words = ["harness", "ablate", "--study", "=", "au"]
    assert complete("", tmp_path, words) == ["augmentations"]
    words = ["harness", "ablate", "--set", "augment.flip", "=", "al"]
    assert complete("", tmp_path, words) == ["alternating"]
    words = ["harness", "ablate", "--set", "augment.flip", "="]
    assert complete("", tmp_path, words) == ["none", "random", "alternating"]


def test_a_field_alone_is_offered_with_its_default_so_that_no_space_follows(
    tmp_path: Path,
) -> None:
    assert complete("harness ablate --set train.ep", tmp_path) == [
        "train.epochs=",
        "train.epochs=30",
    ]


@pytest.mark.parametrize("command", ["status", "worker", "report"])
def test_runs_complete_by_their_folders(command: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "pair-quick").mkdir(parents=True)
    (tmp_path / "runs" / "pair-quick" / "journal.log").touch()
    assert complete(f"harness {command} pa", tmp_path) == ["pair-quick"]


@pytest.mark.parametrize("command", ["open", "compare", "compare x"])
def test_reports_complete_by_their_folders(command: str, tmp_path: Path) -> None:
    (tmp_path / "reports" / "pair-quick").mkdir(parents=True)
    (tmp_path / "reports" / "pair-quick" / "analysis.json").touch()
    assert complete(f"harness {command} pa", tmp_path) == ["pair-quick"]


def test_data_sets_complete_by_name(tmp_path: Path) -> None:
    assert complete("harness data fetch cifar", tmp_path) == ["cifar10", "cifar100"]
