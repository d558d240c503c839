from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.cli import console
from harness.errors import HarnessError, UsageError
from harness.text import duration

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WORDS = st.text(st.characters(exclude_categories=["C"]), max_size=60)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def on_a_terminal(
    code: str, *, columns: int = 80, environment: Mapping[str, str] | None = None
) -> str:
    """Run code with stdout and stderr on a pseudo-terminal; return what it wrote there."""
    leader, follower = pty.openpty()
    os.set_blocking(leader, True)
    size = f"import fcntl, struct, termios; fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, {columns}, 0, 0))\n"
    child = subprocess.Popen(
        [sys.executable, "-c", size + code],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={
            # else they would say how wide the terminal is
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("COLUMNS", "LINES")
            },
            "TERM": "xterm",
            **(environment or {}),
        },
    )
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert child.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def test_data_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.data("a,b")
    assert capsys.readouterr() == ("a,b\n", "")


def test_data_that_ends_its_line_gets_no_second_line_feed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.data("a,b\n")
    assert capsys.readouterr().out == "a,b\n"


def test_talk_goes_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("7 arms x 8 seeds")
    console.warn("the disk is nearly full")
    assert capsys.readouterr() == ("", "7 arms x 8 seeds\nwarning: the disk is nearly full\n")


def test_an_error_is_followed_by_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(UsageError("there is no study 'x'", "`harness show` lists them"))
    assert capsys.readouterr() == (
        "",
        "error: there is no study 'x'\n\nhint: `harness show` lists them\n",
    )


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(HarnessError("it failed"))
    assert capsys.readouterr().err == "error: it failed\n"


def test_an_error_can_be_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("it failed", "try again")
    assert capsys.readouterr().err == "error: it failed\n\nhint: try again\n"


def test_control_characters_of_a_name_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.say("arm \x1b[2J\x9b31m\x07")
    console.table(["arm"], [["a\x1b[31mb"]])
    written = capsys.readouterr()
    assert written == ("arm\na\\x1b[31mb\n", "arm \\x1b[2J\\x9b31m\\x07\n")


def test_json_keeps_the_order_of_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    console.data_json({"b": 1, "a": [True, None, "ä"]})
    assert (
        capsys.readouterr().out == '{\n  "b": 1,\n  "a": [\n    true,\n    null,\n    "ä"\n  ]\n}\n'
    )


def test_json_writes_null_for_a_number_that_is_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.data_json([float("nan"), float("inf"), 0.1])
    assert json.loads(capsys.readouterr().out) == [None, None, 0.1]


def test_json_understands_paths_models_and_numpy_scalars(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import numpy as np

    class Model(BaseModel):
        path: PurePosixPath
        low: float

    console.data_json(
        {
            "model": Model(path=PurePosixPath("a/b"), low=float("nan")),
            "n": np.int64(3),
            "x": np.float32(0.5),
        }
    )
    assert json.loads(capsys.readouterr().out) == {
        "model": {"path": "a/b", "low": None},
        "n": 3,
        "x": 0.5,
    }


def test_json_refuses_what_has_no_json_form() -> None:
    with pytest.raises(TypeError, match="a object has no JSON form"):
        console.data_json(object())


def test_a_table_aligns_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(
        ["arm", "gap", "verdict"], [["no crop", 7.9, "worse"], ["flip", 12.5, None]], right=["gap"]
    )
    assert (
        capsys.readouterr().out == "arm       gap  verdict\nno crop   7.9  worse\nflip     12.5\n"
    )


def test_a_table_takes_other_peoples_text_literally(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["[bold]arm[/]"], [[":smile: [red]x"]])
    assert capsys.readouterr().out == "[bold]arm[/]\n:smile: [red]x\n"


def test_a_table_can_belong_to_the_talk(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["arm"], [["x"]], title="Plan", talk=True)
    assert capsys.readouterr() == ("", "Plan\narm\nx\n")


def test_a_table_without_rows_shows_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["arm", "gap"], [])
    assert capsys.readouterr().out == "arm  gap\n"


def test_a_table_wraps_its_last_column_to_eighty_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table(["arm", "why"], [["cutout", "the strongest single regulariser " * 4]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert {line[:8] for line in lines[2:]} == {" " * 8}


def test_a_table_never_cuts_a_wide_column_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["cell", "error", "hint"], [["c" * 70, "e" * 50, "ask for less of it at once"]])
    assert f"{'c' * 70}  {'e' * 50}  ask for less of" in capsys.readouterr().out


@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4))
def test_no_character_of_a_table_is_lost(rows: list[tuple[str, str, str]]) -> None:
    drawn = console._draw(
        console._build_table(["a", "b", "c"], rows, (), sys.__stderr__ or sys.stderr), sys.stderr
    )
    given_text = "abc" + "".join("".join(row) for row in rows)
    assert sorted("".join(drawn.split())) == sorted("".join(given_text.split()))


def test_a_table_fits_a_narrow_terminal() -> None:
    written = on_a_terminal(
        "from harness.cli import console\nconsole.table(['arm', 'name', 'why'], [['crop ' * 6, 'flip ' * 6, 'jitter ' * 9]])",
        columns=40,
    )
    assert max(len(line) for line in ESCAPES.sub("", written).splitlines()) <= 40


def test_a_board_on_a_terminal_that_got_narrower_is_erased_whole() -> None:
    code = """
from harness.cli import console
with console.Board(live=True) as board:
    board.show(['arm', 'n'], [['crop', '1']], 'word ' * 11)
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 30, 0, 0))
    print('HERE', flush=True)
    board.show(['arm', 'n'], [['crop', '2']], 'word')
"""
    again = on_a_terminal(code).partition("HERE")[2]
    # two lines of the table, and the line of 55 columns in two rows
    assert again.partition("arm")[0].count("\x1b[1A") == 3


def test_an_error_on_a_terminal_says_the_same_words_in_colour() -> None:
    written = on_a_terminal(
        "from harness.cli import console\nconsole.error('it failed', 'try again')"
    )
    assert "\x1b[" in written
    assert ESCAPES.sub("", written) == "error: it failed\n\nhint: try again\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colour_gets_plain_text(variable: str, value: str) -> None:
    code = """
from harness.cli import console
console.error('it failed', 'try again')
console.table(['arm'], [['x']])
with console.Progress('a', 2) as progress:
    progress.update(1, 2)
    progress.finished('crop')
"""
    assert "\x1b" not in on_a_terminal(code, environment={variable: value})


def test_an_old_encoding_costs_a_sign_and_not_the_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import console; console.data('1.0 ± 0.1')"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"1.0 ? 0.1\n", b"")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_stops_nothing(stream: str, tmp_path: Path) -> None:
    write = "console.data" if stream == "stdout" else "console.say"
    code = f"from harness.cli import console\nfor n in range(20000): {write}('a line of text')\nopen('end', 'w').close()"
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writing}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=streams["stdout"],
        stderr=streams["stderr"],
    )
    os.close(writing)
    assert (child.wait(), (tmp_path / "end").exists()) == (0, True)


needs_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's device that is always full"
)


@needs_full
@pytest.mark.parametrize(
    "write", ["console.data('x')", "console.table(('a',), [('b',)])", "console.data_json({'a': 1})"]
)
def test_a_full_disk_behind_stdout_loses_the_output_and_nothing_else(write: str) -> None:
    code = f"import sys; from harness.cli import console\nfor _ in range(2): {write}\nsys.stderr.write(console.lost())"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "No space left on device")


def test_progress_off_a_terminal_is_one_line_a_finished_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with console.Progress("augmentations", 4, done=1, clock=clock) as progress:
        clock.now = 30.0
        progress.update(2, 4, "crop 81.2 %")
        progress.finished("seed 0, crop: 81.2 %")
        clock.now = 60.0
        progress.update(4, 4)
        progress.finished("seed 1, crop: 80.9 %")
    assert capsys.readouterr() == (
        "",
        "[2/4] seed 0, crop: 81.2 %  (about 60 s left)\n[4/4] seed 1, crop: 80.9 %\n",
    )


def test_the_time_left_is_judged_by_this_run_alone() -> None:
    clock = Clock()
    progress = console.Progress("augmentations", 100, done=90, clock=clock)
    clock.now = 50.0
    progress.update(95, 100)
    assert progress.left() == "about 50 s left"


def test_the_time_left_counts_down_between_two_trials_and_never_below_nothing() -> None:
    clock = Clock()
    progress = console.Progress("augmentations", 10, expected=100.0, clock=clock)
    assert progress.left() == "about 100 s left".replace("100 s", "2 min")
    clock.now = 20.0
    assert progress.left() == "about 80 s left"
    progress.update(2, 10)
    assert progress.left() == "about 80 s left"
    clock.now = 25.0
    assert progress.left() == "about 75 s left"
    clock.now = 200.0
    assert progress.left() == "longer than expected"


def test_the_start_of_the_first_trial_is_not_taken_for_the_pace_of_all() -> None:
    clock = Clock()
    progress = console.Progress("augmentations", expected=16.0, clock=clock)
    assert progress.left() == "about 16 s left"
    progress.update(0, 16)
    clock.now = 10.0
    progress.update(1, 16)
    assert progress.left() == "about 30 s left"


def test_a_long_line_is_broken_between_words_on_a_terminal_and_a_command_is_not() -> None:
    code = (
        "from harness.cli import console\n"
        "console.say('  ' + 'word ' * 30)\n"
        "console.say('harness ' * 12, whole=True)\n"
    )
    lines = ESCAPES.sub("", on_a_terminal(code, columns=40)).splitlines()
    # what goes on is indented further, so that a list keeps its shape
    assert lines[0].startswith("  word")
    assert all(line.startswith("    word") for line in lines[1:-1])
    assert all(len(line) <= 40 for line in lines[:-1])
    assert lines[-1].count("harness") == 12


def test_a_run_that_has_finished_nothing_yet_promises_nothing() -> None:
    assert console.Progress("augmentations", 100, done=90).left() == ""


def test_progress_on_a_terminal_shows_means_count_and_time_left() -> None:
    code = """
from harness.cli import console
now = [0.0]
with console.Progress('augmentations', 4, clock=lambda: now[0]) as progress:
    now[0] = 30.0
    progress.update(1, 4, 'crop 81.2 %, n = 1')
    progress.finished('seed 0, [crop]: 81.2 %')
    console.warn('the disk is nearly full')
console.say('end')
"""
    written = ESCAPES.sub("", on_a_terminal(code, columns=100))
    for text in [
        "augmentations",
        "1/4",
        "about 90 s left",
        "crop 81.2 %, n = 1",
        "[crop]: 81.2 %",
    ]:
        assert text in written
    assert "warning: the disk is nearly full\n" in written
    assert written.endswith("end\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (42, "42 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (420, "7 min"),
        (11400, "3 h 10 min"),
        (7200, "2 h"),
        (172_000, "47 h 47 min"),
        (172_800, "2 days"),
        (7_800_000, "90 days"),
    ],
)
def test_a_duration_is_said_as_a_person_plans_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_drawing_loads_rich_and_importing_does_not() -> None:
    code = "import sys\nfrom harness.cli import console\nconsole.say('x')\nconsole.data_json({})\nassert 'rich' not in sys.modules"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )
