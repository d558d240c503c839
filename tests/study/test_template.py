"""A new study file: it validates under every profile, runs as it is, and replaces nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import StudyError, UsageError
from harness.study.arms import arms
from harness.study.profiles import PROFILES
from harness.study.study import load_study
from harness.study.template import new_study, study_template

Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_file_gives_arms_under_every_profile(tmp_path: Path, profile: str) -> None:
    study = load_study(str(new_study("mine", folder=tmp_path))).under(profile)
    assert [arm.name for arm in arms(study)] == ["reference", "no-dropout", "cutout"]


def test_every_key_stands_beside_a_comment_that_explains_it() -> None:
    top = study_template("mine").partition("[base]")[0]
    lines = [
        line
        for line in top.splitlines()
        if line.split(" = ")[0] in ("question", "design", "seeds", "margin_pp")
    ]
    assert len(lines) == 4
    assert [line for line in lines if "#" not in line] == []


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = new_study("mine", folder=tmp_path)
    path.write_text("my work")
    with pytest.raises(UsageError, match="there already"):
        new_study("mine", folder=tmp_path)
    assert path.read_text() == "my work"


def test_the_name_of_a_built_in_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is a study 'augmentations' already"):
        new_study("augmentations", folder=tmp_path)


@pytest.mark.parametrize("name", ["", "../out", "a b", "a\nb = 1", "a/b", ".hidden", "x" * 81])
def test_a_name_that_cannot_name_a_file_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(StudyError) as caught:
        new_study(name, folder=tmp_path / "studies")
    assert "new-study" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(UsageError, match="could not write"):
        new_study("mine", folder=tmp_path / "studies" / "deep")


def test_the_command_prints_the_path_and_what_to_do_next(harness: Harness) -> None:
    done = harness("new-study", "mine")
    assert (done.returncode, done.stdout) == (0, f"{Path('studies/mine.toml')}\n")
    assert "harness ablate --study mine" in done.stderr
    assert harness("show", "mine", "--json").returncode == 0
