"""Ray from the command line, on a cluster of two nodes: a study in shards, a search on a database, an address of nothing."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest

from harness.report import read_folder
from harness.search import SearchLedger
from tests.faults.tiny import ABLATE, HARNESS, STUDY, complete_once, run, started

# ray's own: it leaves processes and files to the collector
pytestmark = pytest.mark.filterwarnings("ignore")

SEARCH = """
schema = 1
question = "Which dropout?"
seeds = 2
margin_pp = 5.0

[search]
confirm = 1

[space]
"model.dropout" = { low = 0, high = 0.6 }

[profiles.quick]
seeds = 2
"""


def test_a_study_is_sent_to_ray_and_followed_to_its_report(
    tmp_path: Path, ray_cluster: Any
) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "harness.toml").write_text(f'address = "{ray_cluster.address}"\n', encoding="utf-8")
    done = run(tmp_path, *ABLATE, "--launcher", "ray", "--workers", "2", "--set", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reports/tiny-quick/index.html\n"
    assert "sent 2 tasks to the cluster" in done.stderr
    complete_once(tmp_path)


def test_ctrl_c_ends_rays_tasks_too_and_the_same_command_completes_the_study(
    tmp_path: Path, ray_cluster: Any
) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "harness.toml").write_text(f'address = "{ray_cluster.address}"\n', encoding="utf-8")
    slow = ("--launcher", "ray", "--workers", "2", "--set", "train.epochs=40")
    process, _ = started(tmp_path, "[2/", *slow)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(600) == 130, rest
    assert "Traceback" not in rest
    again = run(tmp_path, *ABLATE, *slow)
    assert again.returncode == 0, again.stderr
    complete_once(tmp_path)


@pytest.mark.parametrize("by_variable", [False, True])
def test_an_address_where_no_cluster_listens_is_refused_without_leaving_it_to_ray_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    # bound and not listening, so that nobody else takes the port meanwhile
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        (tmp_path / "tiny.toml").write_text(STUDY, encoding="utf-8")
        if by_variable:
            monkeypatch.setenv("RAY_ADDRESS", address)
        else:
            (tmp_path / "harness.toml").write_text(f'address = "{address}"\n', encoding="utf-8")
        done = run(
            tmp_path, *ABLATE, "--launcher", "ray", "--workers", "2", "--set", "train.epochs=2"
        )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert f"error: found no Ray cluster at {address}" in done.stderr
    assert "hint: `ray start --head` starts one" in done.stderr
    assert "Connecting to existing Ray cluster" not in done.stderr


def test_a_search_on_ray_and_a_database_is_confirmed_and_writes_its_password_nowhere(
    tmp_path: Path, ray_cluster: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    (tmp_path / "few.toml").write_text(SEARCH, encoding="utf-8")
    command = [
        *HARNESS,
        "tune",
        "--study",
        "few.toml",
        "--trials",
        "4",
        "--profile",
        "quick",
        "--set",
        "train.epochs=2",
    ]
    done = run(tmp_path, *command, "--launcher", "ray", "--workers", "2", "--storage", database)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reports/few-quick/index.html\n"
    assert "sent 2 tasks to the cluster" in done.stderr
    found = read_folder(tmp_path / "reports" / "few-quick").tuning
    assert found is not None
    assert [trial.number for trial in found.history] == [0, 1, 2, 3]
    assert found.confirmed is not None
    with SearchLedger.open(
        "few-quick", storage=database, runs=tmp_path / "runs", create=False
    ) as ledger:
        final = [
            attempt
            for attempt in ledger.attempts()
            if attempt.state in {"complete", "pruned", "diverged"}
        ]
        assert (
            len(final)
            == len({attempt.cell for attempt in final})
            == ledger.counts().final
            == ledger.counts().total
            == 4
        )
    password = urlsplit(database).password
    assert password
    assert password not in done.stdout + done.stderr
    written = [
        path
        for folder in ("reports", "runs")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file()
    ]
    assert tmp_path / "reports" / "few-quick" / "index.html" in written
    assert [path for path in written if password.encode() in path.read_bytes()] == []
    # compressed, so that their bytes alone say little
    tables = [path for path in written if path.suffix == ".parquet"]
    assert tables
    assert [path for path in tables if password in pd.read_parquet(path).to_csv()] == []
