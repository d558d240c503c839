"""stdout that is full, closed or read no further: what was printed is lost, what was run and how it ended is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's device that is always full"
)

STUDY = """
question = "Does more help?"
margin_pp = 1.0
seeds = 3
design = "sweep"
command = ["{python}", "train.py", "--more", "{{more}}", "--seed", "{{seed}}"]
factors = [{{ name = "more", field = "more", levels = [0, 1] }}]
[base]
more = 0
"""
SCRIPT = """
import json, os, sys
print("a line of the script's own")
more, seed = int(sys.argv[2]), int(sys.argv[4])
lines = ["epoch,val_loss,val_accuracy"] + [f"{e},{1 / (e + 1) if e % 2 else ''},{0.7 if e % 2 else ''}" for e in range(7)]
open(os.environ["HARNESS_OUT"] + "/history.csv", "w").write("\\n".join(lines))
json.dump({"accuracy": 0.7 + 0.01 * more + 0.001 * seed}, open(os.environ["HARNESS_OUT"] + "/metrics.json", "w"))
"""
STREAMS = {
    "full": ">/dev/full",
    "closed": ">&-",
    "unread": "| true",
    "all closed": ">&- 2>&- <&-",
    "both full": ">/dev/full 2>&1",
}


def run(folder: Path, *arguments: str, stream: str) -> subprocess.CompletedProcess[str]:
    """Run the program by bash, which sends its stdout where ``STREAMS`` says; the status is the program's."""
    line = f'{sys.executable} -m harness "$@" {STREAMS[stream]}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("data", "list"), ("data", "list", "--json"), ("show", "width"), ("--help",)],
    ids=" ".join,
)
@pytest.mark.parametrize("stream", ["full", "closed"])
def test_a_command_whose_product_is_stdout_fails_when_stdout_is_lost(
    tmp_path: Path, stream: str, arguments: tuple[str, ...]
) -> None:
    done = run(tmp_path, *arguments, stream=stream)
    assert done.returncode == 1
    assert "error: stdout was lost" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("data", "list"), ("data", "list", "--json"), ("show", "width", "--json")],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments, stream="unread")
    assert done.returncode == 0
    assert "lost" not in done.stderr


@pytest.mark.parametrize("stream", ["full", "closed", "all closed"])
def test_a_study_runs_to_its_report_whatever_becomes_of_stdout(tmp_path: Path, stream: str) -> None:
    (tmp_path / "more.toml").write_text(STUDY.format(python=sys.executable), encoding="utf-8")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    done = run(tmp_path, "ablate", "--study", "more.toml", "--workers", "1", stream=stream)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reports" / "more" / "report.md").read_text(encoding="utf-8")
    assert "Seeds: 3" in page
    if stream in ("full", "closed"):
        assert "warning: stdout was lost" in done.stderr
    assert "Traceback" not in done.stderr
