from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Defaults, find_defaults
from harness.errors import UsageError


def write(folder: Path, text: str, name: str = "harness.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def faults(folder: Path) -> str:
    with pytest.raises(UsageError) as raised:
        find_defaults(folder)
    return raised.value.message


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert find_defaults(tmp_path) == Defaults()


def test_every_default_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        'storage = "postgresql+psycopg://me:pw@db/trials"\nartifacts = "/shared/a"\ndata = "/shared/d"\nworkers = 20\n'
        'device = "cuda"\nlauncher = "slurm"\npartition = "gpu"\naccount = "lab"\nminutes = 60\ngpus = 0.5\ncpus = 4\n'
        'address = "auto"\n',
    )
    found = find_defaults(tmp_path)
    assert (found.storage, found.artifacts, found.data) == (
        "postgresql+psycopg://me:pw@db/trials",
        "/shared/a",
        "/shared/d",
    )
    assert (found.workers, found.device, found.launcher) == ("20", "cuda", "slurm")
    assert (found.partition, found.account, found.minutes) == ("gpu", "lab", 60)
    assert (found.gpus, found.cpus, found.address) == (0.5, 4, "auto")


def test_a_file_above_the_working_folder_holds_and_its_paths_are_its_own(tmp_path: Path) -> None:
    write(tmp_path, 'data = "images"\nstorage = "all.log"\n')
    found = find_defaults(write(tmp_path / "a" / "b", "", "other.toml"))
    assert (found.data, found.storage) == (str(tmp_path / "images"), str(tmp_path / "all.log"))


def test_the_nearest_of_two_files_holds_alone(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 3\ndevice = "cpu"\n')
    found = find_defaults(write(tmp_path / "a", "workers = 2\n"))
    assert (found.workers, found.device) == ("2", None)


def test_a_key_of_harness_toml_wins_over_that_of_pyproject_and_others_stay(tmp_path: Path) -> None:
    write(tmp_path, '[tool.harness]\nworkers = 3\ndevice = "cpu"\n', "pyproject.toml")
    found = find_defaults(write(tmp_path, "workers = 2\n"))
    assert (found.workers, found.device) == ("2", "cpu")
    assert dict(found.sources) == {
        "workers": str(tmp_path / "harness.toml"),
        "device": str(tmp_path / "pyproject.toml"),
    }


def test_a_pyproject_of_another_program_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "[tool.harness]\nworkers = 3\n", "pyproject.toml")
    assert (
        find_defaults(
            write(tmp_path / "a", "[tool.ruff]\nline-length = 3\n", "pyproject.toml")
        ).workers
        == "3"
    )


@pytest.mark.parametrize("name", ["seeds", "looks", "margin_pp", "margin", "alpha", "metric"])
def test_a_rule_of_decision_is_sent_to_the_study_file(tmp_path: Path, name: str) -> None:
    assert "write it in the study file" in faults(write(tmp_path, f"{name} = 3\n"))


def test_all_faults_of_both_files_are_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, '[tool.harness]\nlauncher = "slrum"\n', "pyproject.toml")
    told = faults(write(tmp_path, 'wokers = 2\nminutes = 0\ndevice = "gpu"\n'))
    assert told.startswith("4 faults")
    for words in (
        "'workers'",
        "minutes: 0 is not",
        "'gpu' is not auto",
        "[tool.harness]: launcher: 'slrum' is not",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "true"),
        ("workers", '"many"'),
        ("workers", "1.5"),
        ("gpus", "-1"),
        ("gpus", "inf"),
        ("gpus", "nan"),
        ("storage", "3"),
        ("data", '""'),
        ("cpus", "false"),
        ("launcher", "[]"),
    ],
)
def test_a_value_that_cannot_be_is_a_fault(tmp_path: Path, name: str, value: str) -> None:
    assert f"{name}: " in faults(write(tmp_path, f"{name} = {value}\n"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"workers = \n", "harness.toml, line 1, column 11: expected a value"),
        (b"\xff\xfe", "harness.toml, line 1: expected text in UTF-8"),
    ],
)
def test_a_file_that_is_not_toml_is_a_fault(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "harness.toml").write_bytes(content)
    assert expected in faults(tmp_path)


def test_a_broken_pyproject_is_a_fault_only_where_it_speaks_of_harness(tmp_path: Path) -> None:
    write(tmp_path / "a", "[tool.ruff\n", "pyproject.toml")
    assert find_defaults(tmp_path / "a") == Defaults()
    assert "expected ]" in faults(write(tmp_path / "b", "[tool.harness\n", "pyproject.toml"))


def test_what_is_told_names_file_and_value_and_no_password(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 2\nstorage = "postgresql+psycopg://me:s3c@ret@db/trials"\n')
    (told,) = find_defaults(tmp_path).lines()
    assert (
        told
        == f"{tmp_path / 'harness.toml'}: workers 2, storage postgresql+psycopg://me:***@db/trials"
    )


def test_a_password_is_in_no_fault(tmp_path: Path) -> None:
    assert "s3cret" not in faults(write(tmp_path, 'device = "postgresql://me:s3cret@db/x"\n'))


def test_what_a_command_says_itself_is_not_told(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 2\ndevice = "cpu"\n')
    assert find_defaults(tmp_path).lines(without=frozenset({"workers"})) == [
        f"{tmp_path / 'harness.toml'}: device cpu"
    ]
