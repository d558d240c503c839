"""The command line as a user meets it: its options, what it prints where, and the status it leaves with.

What needs a run shares one: two arms, two seeds, two epochs on 60 bundled images.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image

from harness import cli
from harness.cli.screen import Screen

SURFACE = {
    "ablate": "name --study -s --all --profile --seeds --set --base --workers --launcher --storage --artifacts --device "
    "--timeout --screen --recommended --retry-failed --dry-run --json",
    "analyze": "sources --arm --seed --dataset --metric --baseline --margin --where --last --best --duplicates --train --gap "
    "--sd --n --unit --lower-is-better --higher-is-better --decimal --alpha --unpaired --common-seeds --top --name --json",
    "bench": "--device --quick --verbose -v --save --json",
    "compare": "a b --check --unsure --speed --json",
    "data fetch": "name --json",
    "data list": "--json",
    "data verify": "name --size --json",
    "doctor": "--json",
    "new-study": "name --json",
    "open": "name --json",
    "plan": "name --study -s --profile --effect --seeds --json",
    "report": "studies --from --all --storage --open --json",
    "show": "name part --profile --json",
    "status": "name --study -s --storage --watch --json",
    "try": "name --study -s --arm --profile --set --device --json",
    "tune": "name --trials --study -s --profile --seeds --set --base --sampler --pruner --workers --launcher --storage --artifacts "
    "--device --timeout --dry-run --json",
    "worker": "name --study -s --storage --shard --device --timeout --max-trials --json",
}
"""Every command with its arguments and options. A new wish belongs in a study or a recipe field before it belongs here."""

ROOT: Any = typer.main.get_command(cli.app)

PAIR = """
schema = 1
question = "Does the net need its dropout?"
seeds = 2
margin_pp = 5.0

[[arms]]
name = "bare"
set = { "model.dropout" = 0 }

[profiles.quick]
seeds = 2
data.train = 60
data.val = 60
train.epochs = 2
train.batch_size = 20
"""
RUN = (
    "ablate",
    "--study",
    "pair.toml",
    "--profile",
    "quick",
    "--workers",
    "1",
    "--set",
    "train.threads=1",
)
COLUMNS = (
    "--arm",
    "arm",
    "--seed",
    "seed",
    "--metric",
    "score",
    "--baseline",
    "base",
    "--margin",
    "0.5",
)
PLANNED = ("ablate", "--study", "dropout", "--profile", "quick", "--dry-run")


def call(*arguments: str) -> tuple[int, str, str]:
    """Run ``harness ARGUMENTS...`` in this process; give status, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patched.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Run the pair of arms once with ``--json``; give its folder, its stdout as data, and its stderr."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "pair.toml").write_text(PAIR, encoding="utf-8")
    with contextlib.chdir(folder):
        status, out, err = call(*RUN, "--json")
    assert status == 0, err
    return folder, json.loads(out), err


@pytest.fixture
def finished(ran: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the folder of the finished run."""
    monkeypatch.chdir(ran[0])
    return ran[0]


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that call it."""
    for name, one in (group or ROOT).commands.items():
        yield from (
            commands(one, f"{path}{name} ")
            if hasattr(one, "commands")
            else [(f"{path}{name}", one)]
        )


def in_words(value: object) -> str | None:
    """The name of a test by its arguments: those of the command line, and not what is expected of them."""
    return " ".join(value) if isinstance(value, tuple) else None


def assert_refused(done: tuple[int, str, str], *words: str) -> None:
    """Assert status 2, nothing on stdout, and one error with one hint that say all of the words."""
    status, out, err = done
    assert (status, out) == (2, ""), err
    assert (err.count("error: "), err.count("\nhint: ")) == (1, 1), err
    assert "Traceback" not in err
    assert [word for word in words if word not in err] == [], err


def table_of_runs(path: Path, *, arm: float) -> None:
    """Write a table of ten seeds in which an arm is this many percent right, against a baseline of 80 %."""
    rng = random.Random(path.name)
    rows = [
        f"{name},{seed},{level + rng.gauss(0, 0.3):.3f}"
        for name, level in (("base", 80), ("new", arm))
        for seed in range(10)
    ]
    path.write_text("\n".join(["arm,seed,score", *rows]) + "\n", encoding="utf-8")


# What there is to type


def test_the_commands_and_their_options_are_these() -> None:
    found = {
        name: " ".join(
            word
            for one in command.params
            for word in (
                [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [one.name]
            )
        )
        for name, command in commands()
    }
    assert found == SURFACE


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        f"{name} {one.name}"
        for name, command in commands()
        for one in command.params
        if not one.help
    ]
    assert silent == []


def test_help_shows_what_runs_before_what_reads_and_what_sets_up() -> None:
    status, out, _ = call("--help")
    assert status == 0
    titles = [out.index(f"─ {panel} ") for panel in ("Run", "Read", "Cluster", "Set up")]
    assert titles == sorted(titles)


@pytest.mark.parametrize("name", SURFACE)
def test_every_command_has_help_that_goes_to_stdout(name: str) -> None:
    status, out, err = call(*name.split(), "-h")
    assert (status, err) == (0, "")
    assert f"harness {name}" in out


@pytest.mark.parametrize("words", [(), ("data",)])
def test_a_bare_command_shows_its_help_and_leaves_with_2(words: tuple[str, ...]) -> None:
    status, out, err = call(*words)
    assert (status, err) == (2, "")
    assert "Usage: harness" in out


# What cannot be

EPOCH = "--set train.epoch: no such recipe field (did you mean 'train.epochs'?)"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("ablat",), "'ablate'"),
        (("ablate",), "needs the name of a study"),
        (("worker",), "`harness status` lists what was started"),
        (("try",), "`harness try augmentations`"),
        (("ablate", "dropout", "--set", "train.epoch=3"), EPOCH),
        (("ablate", "--all", "--set", "train.epoch=3"), EPOCH),
        (("tune", "--set", "train.epoch=3"), EPOCH),
        (("try", "dropout", "--set", "train.epoch=3"), EPOCH),
        (("ablate", "dropout", "--set", "epoch=3"), "did you mean 'train.epochs'?"),
        (
            ("ablate", "dropout", "--profile", "quik", "--set", "train.epoch=3"),
            f"(did you mean 'quick'?); {EPOCH}",
        ),
        (("ablate", "dropout", "--set", "train.epochs=two"), "`harness show train.epochs`"),
        (("ablate", "dropout", "--set", "crop=1", "--set", "augment.flip=alway"), "2 faults"),
        (("ablate", "dropout", "--seeds", "20000"), "--seeds: should be at least 1"),
        (("ablate", "dropout", "--base", "nosuch.toml"), "nosuch.toml"),
        (("status", "nosuch"), "no run of 'nosuch'"),
        (("worker", "nosuch"), "no run of 'nosuch'"),
        (("report", "nosuch"), "no trials of 'nosuch'"),
        (("open", "nosuch"), "no report 'nosuch'"),
        (("compare", "nosuch", "x"), "no report 'nosuch'"),
        (("analyze", "x.csv", "--lower-is-better", "--higher-is-better"), "--lower-is-better"),
        (("ablate", "--all", "--study", "dropout"), "--all"),
        (("ablate", "--all", "--screen"), "--screen"),
        (("ablate", "--study", "dropout", "--seed", "3"), "--seeds"),
        (("ablate", "--study", "dropout", "--seeds", "0"), "--seeds"),
        (("ablate", "--study", "dropout", "--seeds", "few"), "--seeds"),
        (("ablate", "--study", "dropout", "--timeout", "-1"), "--timeout"),
        (("ablate", "--study", "dropout", "--workers", "0"), "--workers"),
        (("ablate", "--study", "dropout", "--set", "train.epochs"), "field=value"),
        (("ablate", "--study", "dropout", "--set"), "--set"),
        (("tune", "--sampler", "grid"), "--sampler"),
        (("tune", "augmentations"), "'augmentations' has no [space]"),
        (("compare", "one"), "'B'"),
        (("show", "dropout", "blocks"), "blocks"),
        (("report", "dropout", "--from", "folder"), "--from"),
        (("report", "dropout", "--all"), "--all"),
        (("data", "get"), "data --help"),
    ],
    ids=in_words,
)
def test_arguments_that_cannot_be_are_one_error_and_a_hint(
    here: Path, arguments: Any, word: str
) -> None:
    done = call(*arguments)
    assert_refused(done, word)
    assert "timing" not in done[2]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("model.dropuot=0.1",), ("model.dropuot", "model.dropout")),
        (("train.epochs=many",), ("train.epochs", "'many'")),
        (("model.blocks=0",), ("model.blocks",)),
        (("model.dropout=-1",), ("model.dropout", "-1")),
        (("model.dropout=-1", "train.epochs=many"), ("2 faults", "model.dropout", "train.epochs")),
        (("model.pool=[1, 2, 3]", "data.size=4"), ("3 poolings", "4 pixels")),
        (("data.name=nothing-of-this-name",), ("nothing-of-this-name", "fashion")),
        (("data.name=./nowhere",), ("nowhere",)),
        (("data.name=cifar10",), ("cifar10", "harness data fetch")),
        (("data.train=99999",), ("99,999",)),
    ],
    ids=in_words,
)
def test_a_recipe_that_cannot_be_is_one_error_and_a_hint(
    here: Path, changed: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(call(*PLANNED, *(part for text in changed for part in ("--set", text))), *words)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ablate", "--study", "augmentation"), ("'augmentations'", "harness show")),
        (("ablate", "--study", "nowhere.toml"), ("nowhere.toml",)),
        (("ablate", "--study", "dropout", "--profile", "huge"), ("'huge'", "quick")),
        ((*PLANNED, "--device", "tpu"), ("'tpu'", "cuda:N")),
        (
            ("ablate", "--study", "dropout", "--profile", "quick", "--recommended"),
            ("no report yet",),
        ),
        (("plan", "--study", "nothing"), ("'nothing'",)),
        (("show", "nothing"), ("'nothing'",)),
        (("report",), ("no trials", "harness ablate")),
        (("report", "--from", "nowhere"), ("nowhere",)),
        (("compare", "one", "two"), ("'one'",)),
        (("status", "--study", "dropout-quick"), ("dropout-quick",)),
        (("data", "fetch", "nothing"), ("'nothing'", "cifar10")),
        (("analyze", "no.csv", *COLUMNS), ("no.csv",)),
    ],
    ids=in_words,
)
def test_what_is_not_there_is_one_error_and_a_hint(
    here: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(call(*arguments), *words)
    assert list(here.iterdir()) == []


def test_all_faults_of_a_study_file_are_one_error(here: Path) -> None:
    (here / "bad.toml").write_text(
        'question = 3\ndesign = "swep"\nmargn_pp = 1\n', encoding="utf-8"
    )
    assert_refused(
        call("ablate", "--study", "bad.toml"),
        "question",
        "'sweep'",
        "'margin_pp'",
        "margin_pp: is missing",
    )


def png(path: Path, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), len(path.stem) * 20, dtype=np.uint8)).save(path)


def a_shard_that_is_no_parquet(folder: Path) -> None:
    (folder / "train-0.parquet").write_bytes(b"<html>not here</html>")
    (folder / "test-0.parquet").write_bytes(b"<html>not here</html>")


def images_of_mixed_sizes(folder: Path) -> None:
    for name, side in (("a", 8), ("bb", 9)):
        png(folder / "train" / "cat" / f"{name}.png", side)
        png(folder / "train" / "dog" / f"{name}.png", side)


def a_class_without_images(folder: Path) -> None:
    for name in ("a", "bb"):
        png(folder / "train" / "cat" / f"{name}.png")
    (folder / "train" / "dog").mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_shard_that_is_no_parquet, ("train-0.parquet", "parquet")),
        (images_of_mixed_sizes, ("mixed sizes", "9 x 9", "data.size")),
        (a_class_without_images, ("'dog'", "no image")),
    ],
)
def test_images_that_cannot_be_used_are_one_error_and_a_hint(
    here: Path, make: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    (here / "images").mkdir()
    make(here / "images")
    assert_refused(call(*PLANNED, "--set", "data.name=./images", "--set", "data.size=0"), *words)


# What goes where


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("show",), {"study", "question"}),
        (
            ("data", "list"),
            {
                *("name", "images", "test_images", "shape_CHW", "classes"),
                *("where", "present", "licence", "how"),
            },
        ),
        (
            ("show", "dropout"),
            {
                "study",
                "question",
                "profile",
                "design",
                "seeds",
                "margin_pp",
                "metric",
                "retune",
                "arms",
            },
        ),
        (
            ("data", "verify", "digits"),
            {"name", "train", "test", "shape", "classes", "fingerprint"},
        ),
        (("new-study", "mine"), {"study", "file"}),
    ],
    ids=in_words,
)
def test_json_is_the_only_thing_on_stdout(
    here: Path,  # noqa: ARG001
    arguments: tuple[str, ...],
    keys: set[str],
) -> None:
    status, out, _ = call(*arguments, "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found[0] if isinstance(found, list) else found) == keys


def test_fields_come_with_type_default_and_description() -> None:
    _, out, _ = call("show", "fields", "--json")
    found = json.loads(out)
    assert found["model.dropout"]["default"] == 0.25
    assert {key for field in found.values() for key in field} == {"type", "default", "description"}


def test_a_listing_is_data_and_its_advice_is_talk() -> None:
    status, out, err = call("show")
    assert status == 0
    assert out.startswith("study")
    assert "harness show STUDY" in err


def test_a_dry_run_says_the_plan_and_its_cost_and_touches_nothing(here: Path) -> None:
    status, out, err = call(*PLANNED, "--seeds", "2", "--set", "train.epochs=2", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["plan"]["cells"] == found["plan"]["to_run"] == 10
    assert found["plan"]["seconds"] > 0
    assert (found["report"], found["trials"]) == (None, {})
    assert "5 arms x 2 seeds = 10 trials" in err
    assert list(here.iterdir()) == []


def test_a_plan_is_json_before_anything_has_run(here: Path) -> None:
    status, out, _ = call("plan", "--study", "dropout", "--effect", "2", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["study"] == "dropout"
    assert list(here.iterdir()) == []


def test_a_search_is_refused_for_a_study_that_runs_a_script_under_the_studys_own_name(
    here: Path,
) -> None:
    text = 'question = "q"\nseeds = 2\nmargin_pp = 1\ncommand = ["python", "train.py", "--lr", "{lr}"]\n[base]\nlr = 0.1\n'
    (here / "mine.toml").write_text(
        text + '[[arms]]\nname = "fast"\nset = { lr = 0.3 }\n', encoding="utf-8"
    )
    done = call("tune", "--study", "mine.toml")
    assert_refused(done, "study 'mine' runs a training script", "`harness ablate`")


def test_without_validation_images_a_plan_says_that_nothing_is_judged(here: Path) -> None:  # noqa: ARG001
    _, _, err = call(*PLANNED, "--seeds", "2", "--set", "train.epochs=2", "--set", "data.val=0")
    assert "without validation images nothing is judged" in err


# A run


def test_a_run_with_json_prints_one_document(ran: tuple[Path, dict[str, Any], str]) -> None:
    folder, found, err = ran
    assert set(found) == {
        "study",
        "profile",
        "plan",
        "answer",
        "report",
        "trials",
        "interrupted",
        "out_of_time",
        "failures",
        "next",
    }
    assert found["trials"] == {
        "waiting": 0,
        "running": 0,
        "complete": 4,
        "failed": 0,
        "pruned": 0,
        "diverged": 0,
        "total": 4,
    }
    assert (folder / found["report"]).is_file()
    assert "[4/4]" in err


def test_nothing_is_next_where_nothing_was_learned_and_a_dry_run_keeps_every_set(
    ran: tuple[Path, dict[str, Any], str], finished: Path
) -> None:
    assert "at chance" in ran[1]["answer"]
    assert ran[1]["next"] == ""
    assert (finished / "pair.toml").is_file()
    _, out, _ = call(*RUN, "--seeds", "5", "--dry-run", "--json")
    assert json.loads(out)["next"] == (
        "harness ablate --study pair.toml --profile quick --seeds 5 --set train.threads=1"
    )


def test_a_report_says_the_command_that_was_given(finished: Path) -> None:
    text = (finished / "reports" / "pair-quick" / "report.md").read_text(encoding="utf-8")
    assert "harness ablate --study pair.toml --profile quick --set train.threads=1" in text


def test_a_run_prints_the_path_of_its_report_and_nothing_else_to_stdout(finished: Path) -> None:
    status, out, err = call(*RUN)
    assert (status, out) == (0, "reports/pair-quick/index.html\n")
    assert "nothing to run: pair-quick finished on " in err
    assert (finished / out.strip()).is_file()


def test_a_run_ends_with_its_verdicts_the_answer_and_the_page_in_80_columns(
    finished: Path,  # noqa: ARG001
) -> None:
    _, _, err = call(*RUN)
    assert re.search(r"^arm +accuracy, pp +gap, pp +n +verdict$", err, re.MULTILINE)
    assert re.search(r"^reference .* 2 +the baseline$", err, re.MULTILINE)
    assert "95 % t interval" in err
    assert err.index("verdict") < err.index("No verdict") < err.index("harness open")
    assert "next, " not in err  # nothing was learned
    shown = [line for line in err.splitlines() if line.startswith(("arm ", "reference ", "bare "))]
    assert max(map(len, shown)) <= 80


def test_a_finished_study_answers_without_a_profile_and_without_a_heavy_library(
    finished: Path,
) -> None:
    heavy = ("torch", "scipy", "pandas", "numpy", "optuna", "matplotlib")
    code = (
        "import atexit, sys; sys.argv = ['harness', 'ablate', 'pair.toml', '--set', 'train.threads=1'];"
        f"atexit.register(lambda: print('LOADED', *[name for name in {heavy} if name in sys.modules], file=sys.stderr));"
        "from harness.cli import main; main()"
    )
    page = finished / "reports" / "pair-quick" / "index.html"
    before = page.stat().st_mtime_ns
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "reports/pair-quick/index.html\n"), done.stderr
    assert "profile quick: the latest that finished" in done.stderr
    assert done.stderr.rstrip().endswith("LOADED")
    assert page.stat().st_mtime_ns == before


def test_a_finished_study_is_run_again_where_anything_of_its_plan_is_another(
    finished: Path,  # noqa: ARG001
) -> None:
    for changed in (("--seeds", "3"), ("--set", "train.epochs=1"), ("--retry-failed",)):
        _, _, err = call(*RUN, *changed, "--dry-run")
        assert "nothing to run" not in err
    (Path("reports") / "pair-quick" / "index.html").rename("kept.html")
    try:
        _, _, err = call(*RUN)
    finally:
        Path("kept.html").unlink()
    assert "nothing to run" not in err
    assert Path("reports/pair-quick/index.html").is_file()


def test_a_changed_recipe_says_what_becomes_of_the_report_that_is_there(
    ran: tuple[Path, dict[str, Any], str], here: Path
) -> None:
    shutil.copytree(ran[0] / "reports", here / "reports")
    shutil.copy(ran[0] / "pair.toml", here)
    status, _, err = call(*RUN, "--set", "train.epochs=3", "--timeout", "0")
    assert status == 130, err
    assert "train.epochs 2 -> 3" in err
    assert "this run replaces that report" in err
    assert "next, " not in err


def test_arms_that_base_or_set_make_the_baseline_again_are_left_out(
    ran: tuple[Path, dict[str, Any], str], here: Path
) -> None:
    text = (ran[0] / "pair.toml").read_text(encoding="utf-8")
    more = '[[arms]]\nname = "half"\nset = { "model.dropout" = 0.5 }\n\n[profiles.quick]'
    (here / "three.toml").write_text(text.replace("[profiles.quick]", more), encoding="utf-8")
    (here / "recipe.toml").write_text("[set]\nmodel.dropout = 0.0\n", encoding="utf-8")
    planned = ("ablate", "three.toml", "--profile", "quick", "--dry-run")
    status, _, err = call(*planned, "--set", "model.dropout=0")
    assert status == 0, err
    assert "left out: bare" in err
    assert "2 arms x 2 seeds" in err


def test_a_dry_run_shows_every_arm_and_how_to_start_it(here: Path) -> None:  # noqa: ARG001
    _, _, err = call(*PLANNED, "--seeds", "2", "--set", "train.epochs=2")
    assert "model.dropout = 0.7" in err
    assert "a dry run: nothing was written" in err
    assert (
        "  harness ablate --study dropout --profile quick --seeds 2 --set train.epochs=2\n" in err
    )
    assert "next" not in err


def test_a_folder_that_takes_no_file_is_found_before_anything_is_timed(here: Path) -> None:
    (here / "runs").write_text("a file in the way", encoding="utf-8")
    done = call("ablate", "dropout", "--profile", "quick")
    assert_refused(done, "runs")
    assert "timing" not in done[2]


def test_errors_are_an_object_too_where_json_is_asked_for(here: Path) -> None:  # noqa: ARG001
    for arguments in (("show", "nothing"), ("ablate", "dropout", "--seed", "3")):
        status, out, err = call(*arguments, "--json")
        assert status == 2
        assert set(json.loads(out)) == {"error", "hint", "exit_code"}
        assert json.loads(out)["error"] in err.replace("\n", " ")


def test_the_version_is_printed() -> None:
    assert call("--version")[:2] == (0, f"harness {version('harness')}\n")


@pytest.mark.parametrize("name", SURFACE)
def test_every_help_ends_with_two_examples(name: str) -> None:
    if name == "analyze":
        pytest.skip("its examples are its page's")
    _, out, _ = call(*name.split(), "--help")
    assert len(re.findall(r"\$ harness ", out)) == 2


def test_a_broken_study_is_marked_in_the_list_of_all(here: Path) -> None:
    (here / "studies").mkdir()
    (here / "studies" / "wrong.toml").write_text("= =", encoding="utf-8")
    status, out, _ = call("show")
    assert status == 0
    assert re.search(r"^wrong +BROKEN: ", out, re.MULTILINE)
    assert "augmentations" in out


def test_a_field_is_explained_by_its_name_and_a_part_by_its_own(here: Path) -> None:  # noqa: ARG001
    assert list(json.loads(call("show", "augment.crop", "--json")[1])) == ["augment.crop"]
    part = json.loads(call("show", "fields", "augment", "--json")[1])
    assert {name.partition(".")[0] for name in part} == {"augment"}
    assert_refused(call("show", "augment.corp"), "'augment.crop'")


def test_a_study_with_a_space_shows_it(here: Path) -> None:  # noqa: ARG001
    _, out, err = call("show", "tune")
    assert re.search(r"^schedule.max_lr +0.001 to 0.03, log ", out, re.MULTILINE)
    assert "`harness tune`" in err


def test_a_set_that_is_wrong_is_blamed_and_not_the_file(here: Path) -> None:  # noqa: ARG001
    assert_refused(call(*PLANNED, "--set", "train.epoch=3"), "--set train.epoch", "'train.epochs'")


def test_status_lists_every_run_with_its_answer_and_its_report(finished: Path) -> None:  # noqa: ARG001
    status, out, err = call("status")
    assert status == 0
    assert re.search(r"^pair-quick +4 of 4 +20\d\d-", out, re.MULTILINE)
    assert "reports/RUN/index.html" in err
    assert max(map(len, (out + err).splitlines())) <= 80
    (entry,) = json.loads(call("status", "--json")[1])
    assert (entry["study"], entry["done"], entry["total"]) == ("pair-quick", 4, 4)
    assert entry["report"] == "reports/pair-quick/index.html"


def test_status_answers_from_a_report_where_no_run_is_here(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "reports", tmp_path / "reports")
    here = json.loads(call("status", "pair", "--json")[1])
    monkeypatch.chdir(tmp_path)
    for name in ("pair", "pair-quick"):
        there = json.loads(call("status", name, "--json")[1])
        assert (there["study"], there["trials"]) == (here["study"], here["trials"])
        assert there["arms"].keys() == here["arms"].keys()
    assert "no run of it is here" in call("status", "pair")[2]
    assert_refused(call("status", "pairs"), "'pairs'")


def test_a_run_is_found_by_its_study_its_folder_and_its_file(finished: Path) -> None:  # noqa: ARG001
    names = [("pair",), ("pair-quick",), ("pair.toml",), ("--study", "pair")]
    assert {json.loads(call("status", *name, "--json")[1])["study"] for name in names} == {
        "pair-quick"
    }
    assert call("compare", "pair", "pair.toml", "--json")[0] == 0


def test_two_names_that_differ_are_refused(finished: Path) -> None:  # noqa: ARG001
    assert_refused(call("status", "pair", "--study", "other"), "'pair'", "'other'")


def test_a_page_is_opened_and_a_browser_that_is_missing_is_one_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = finished / "reports" / "pair-quick" / "index.html"
    before = page.stat().st_mtime_ns
    opened: list[str] = []

    def pretend(url: str) -> bool:
        opened.append(url)
        return False

    monkeypatch.setattr(webbrowser, "open", pretend)
    status, out, err = call("open", "pair")
    assert (status, out) == (0, "reports/pair-quick/index.html\n")
    assert opened == [page.as_uri()]
    assert err.count("\n") == 1
    assert "no browser here" in err
    assert page.stat().st_mtime_ns == before


def test_where_reports_lie_and_nothing_has_run_report_compares_them(
    ran: tuple[Path, dict[str, Any], str], here: Path
) -> None:
    shutil.copytree(ran[0] / "reports" / "pair-quick", here / "reports" / "pair")
    status, out, _ = call("report")
    assert (status, out) == (0, "reports/index.html\n")
    assert "pair/index.html" in (here / "reports" / "index.html").read_text(encoding="utf-8")


def test_trials_of_a_report_brought_from_another_machine_are_adopted_and_the_report_says_so(
    ran: tuple[Path, dict[str, Any], str], here: Path
) -> None:
    shutil.copytree(ran[0] / "reports", here / "reports")
    shutil.copy(ran[0] / "pair.toml", here)
    status, out, err = call(*RUN, "--dry-run", "--json")
    assert (status, json.loads(out)["plan"]["to_run"], (here / "runs").exists()) == (0, 0, False)
    assert "adopted: 4 from reports/pair-quick" in err
    before = pd.read_parquet(here / "reports" / "pair-quick" / "trials.parquet")
    status, out, err = call(*RUN, "--json")
    after = pd.read_parquet(here / "reports" / "pair-quick" / "trials.parquet")
    assert (status, json.loads(out)["trials"]["complete"]) == (0, 4), err
    assert set(after.pop("adopted")) == {"reports/pair-quick"}
    pd.testing.assert_frame_equal(after, before.drop(columns="adopted"))
    text = (here / "reports" / "pair-quick" / "report.md").read_text(encoding="utf-8")
    assert "4 of 4 trials, finished before: 4 from reports/pair-quick" in text


def test_report_finds_a_study_by_its_name_and_by_its_folders_and_writes_it_once(
    finished: Path,
) -> None:
    status, out, _ = call("report", "pair", "pair-quick", "--json")
    (found,) = json.loads(out)
    assert status == 0
    assert set(found) == {"report", "answer", "files"}
    assert all((finished / "reports" / "pair-quick" / file).is_file() for file in found["files"])


def test_report_all_makes_every_report_again_from_its_folder_and_names_those_that_cannot_be(
    ran: tuple[Path, dict[str, Any], str], here: Path
) -> None:
    shutil.copytree(ran[0] / "reports" / "pair-quick", here / "reports" / "pair")
    before = (here / "reports" / "pair" / "report.md").read_bytes()
    (here / "reports" / "pair" / "report.md").unlink()
    (here / "reports" / "broken").mkdir()
    shutil.copy(here / "reports" / "pair" / "trials.parquet", here / "reports" / "broken")
    status, out, err = call("report", "--all")
    assert (status, out) == (1, "reports/pair/index.html\nreports/index.html\n")
    assert "broken: reports/broken has no study.toml" in err
    assert (here / "reports" / "pair" / "report.md").read_bytes() == before
    assert "(pair/report.md)" in (here / "reports" / "README.md").read_text(encoding="utf-8")


def test_status_counts_the_trials_of_every_arm(finished: Path) -> None:  # noqa: ARG001
    status, out, _ = call("status", "--study", "pair-quick", "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found) == {"study", "trials", "arms", "running", "trials_per_hour", "seconds_left"}
    assert found["arms"] == {"reference": {"complete": 2}, "bare": {"complete": 2}}


def test_a_status_that_is_watched_is_one_document_a_line(finished: Path) -> None:  # noqa: ARG001
    status, out, _ = call("status", "--study", "pair-quick", "--watch", "--json")
    assert status == 0
    assert [json.loads(line)["trials"]["complete"] for line in out.splitlines()] == [4]


def test_a_status_fits_into_80_columns_and_says_how_fast_it_goes(finished: Path) -> None:  # noqa: ARG001
    _, out, err = call("status", "--study", "pair-quick")
    assert max(len(line) for line in (out + err).splitlines()) <= 80
    assert "4 of 4 trials are final" in err
    assert "an hour lately" in err


# Defaults and clusters


def test_a_default_is_taken_and_said_and_an_option_wins_over_it(here: Path) -> None:
    (here / "harness.toml").write_text('workers = 3\ndevice = "cpu"\n', encoding="utf-8")
    _, out, err = call(*PLANNED, "--json")
    assert json.loads(out)["plan"]["workers"] == 3
    assert f"defaults of {here / 'harness.toml'}: workers 3, device cpu" in err
    _, out, err = call(*PLANNED, "--workers", "2", "--json")
    assert json.loads(out)["plan"]["workers"] == 2
    assert f"defaults of {here / 'harness.toml'}: device cpu" in err


@pytest.mark.parametrize(
    "command", [PLANNED, ("status", "--study", "dropout-quick"), ("report",)], ids=in_words
)
def test_defaults_that_cannot_be_are_one_error_whatever_the_command(
    here: Path, command: tuple[str, ...]
) -> None:
    (here / "harness.toml").write_text("seeds = 3\nwokers = 2\n", encoding="utf-8")
    assert_refused(call(*command), "2 faults", "study file", "'workers'")


def test_the_environment_wins_over_the_default_of_the_data_root(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "harness.toml").write_text('data = "mine"\n', encoding="utf-8")
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    assert str(here / "mine") in call("data", "list")[2]
    monkeypatch.setenv("HARNESS_DATA", str(here / "other"))
    assert str(here / "other") in call("data", "list")[2]


def test_the_doctor_says_where_a_default_is_from(here: Path) -> None:
    (here / "harness.toml").write_text("workers = 3\n", encoding="utf-8")
    _, out, _ = call("doctor", "--json")
    found = {one["name"]: one["what"] for one in json.loads(out)}
    assert found["defaults"] == f"{here / 'harness.toml'}: workers 3"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*PLANNED, "--launcher", "lsf"), ("--launcher",)),
        ((*PLANNED, "--launcher", "slurm", "--workers", "2"), ("sbatch", "login node")),
        ((*PLANNED, "--launcher", "ray", "--device", "cuda:1"), ("cuda:1", "--device cpu or cuda")),
        (
            ("tune", "--launcher", "ray", "--workers", "2", "--profile", "quick"),
            ("database", "--launcher local"),
        ),
    ],
    ids=in_words,
)
def test_a_cluster_that_cannot_be_used_is_one_error_before_anything_is_timed(
    here: Path, arguments: tuple[str, ...], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(here))  # without any sbatch
    done = call(*arguments)
    assert_refused(done, *words)
    assert "timing" not in done[2]
    assert list(here.iterdir()) == []


def test_a_worker_leaves_at_once_where_all_is_done(finished: Path) -> None:  # noqa: ARG001
    status, out, _ = call("worker", "--study", "pair-quick", "--json")
    assert status == 0
    assert json.loads(out)["recorded"] == 0


def test_a_report_compared_with_itself_differs_in_nothing(finished: Path) -> None:  # noqa: ARG001
    status, out, _ = call("compare", "pair-quick", "pair-quick", "--check", "--json")
    found = json.loads(out)
    assert (status, found["answer"]) == (3, "cannot tell")  # from two seeds
    assert {one["arm"] for one in found["differences"]} == {"reference", "bare"}
    assert {one["estimate"] for one in found["differences"]} == {0.0}
    assert found["worse"] is False


def test_check_leaves_with_1_when_an_arm_is_worse_than_it_was(here: Path) -> None:
    for name, arm in (("before", 82.0), ("after", 79.0)):
        table_of_runs(here / f"{name}.csv", arm=arm)
        status, out, _ = call("analyze", f"{name}.csv", *COLUMNS, "--json")
        assert status == 0
        keys = {"report", "answer", "metric", "higher_is_better", "notes", "arms"}
        assert set(json.loads(out)) == keys
    status, out, err = call("compare", "before", "after")
    assert (status, out.splitlines()) == (
        0,
        ["reports/before/index.html", "reports/after/index.html"],
    )
    assert "verdict" in err
    assert "B has the worse " in err
    assert "harness compare before after --check" in err
    assert call("compare", "before", "after", "--check")[0] == 1
    assert call("compare", "after", "before", "--check")[0] == 0


def test_an_answer_that_check_cannot_give_is_3_or_what_unsure_makes_of_it(finished: Path) -> None:  # noqa: ARG001
    compared = ("compare", "pair-quick", "pair-quick", "--check")
    status, _, err = call(*compared)
    assert status == 3
    assert "cannot tell" in err
    assert "at chance" in err
    assert call(*compared, "--unsure", "pass")[0] == 0
    assert call(*compared, "--unsure", "fail")[0] == 1


@pytest.mark.parametrize("option", [("--unsure", "pass"), ("--speed",)], ids=in_words)
def test_options_of_the_check_need_the_check(option: tuple[str, ...]) -> None:
    assert_refused(call("compare", "a", "b", *option), "--check")


# Stopping


def test_a_run_that_is_out_of_time_leaves_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(PAIR, encoding="utf-8")
    with contextlib.chdir(tmp_path):
        status, out, err = call(*RUN, "--timeout", "0", "--json")
    found = json.loads(out)
    assert status == 130, err
    assert found["out_of_time"] is True
    assert found["trials"]["waiting"] == 4


def test_ctrl_c_while_steps_are_timed_ends_the_run_even_where_a_shell_had_it_ignored(
    tmp_path: Path,
) -> None:
    (tmp_path / "pair.toml").write_text(PAIR, encoding="utf-8")
    ignored = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-m", "harness", *RUN]
    with subprocess.Popen(
        [sys.executable, "-c", ignored, *command],
        cwd=tmp_path,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert any("timing a few steps" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        talk = running.stderr.read()
    assert running.returncode == 130, talk
    assert "the same command goes on from here" in talk
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_in_a_benchmark_is_answered_in_one_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        # as a script starts what it ends with &
        ["/bin/sh", "-c", f"trap '' INT; exec {sys.executable} -m harness bench --quick"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert "pipeline: " in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, talk = running.communicate()
    assert (running.returncode, out, talk) == (130, "", "interrupted\n")


def test_an_interrupt_that_a_library_swallowed_is_raised_again_at_the_next_event() -> None:
    with Screen() as shown:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            shown("the plan")


def test_ctrl_c_before_the_first_trial_leaves_with_130_and_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "pair.toml").write_text(PAIR, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *RUN, "--set", "train.epochs=3000"],
        cwd=tmp_path,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        assert running.stdout is not None
        assert any("report: " in line for line in running.stderr)
        time.sleep(3)
        running.send_signal(signal.SIGINT)
        talk, out = running.stderr.read(), running.stdout.read()
    assert running.returncode == 130, talk
    assert "the same command goes on from here" in talk
    assert "Traceback" not in talk
    assert out.count("\n") <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ablate", "augmentations", "--seeds", "x"), "it takes a whole number"),
        (("tune", "--trials", "0"), "it takes 1 or more"),
        (("analyze", "a.csv", "--margin", "x"), "it takes a number"),
        (("ablate", "augmentations", "dropout"), "there is no place for dropout"),
        (("ablate", "augmentations", "--launcher", "foo"), "'foo' is not one of 'local', 'slurm'"),
    ],
)
def test_a_value_that_an_option_cannot_take_is_refused_in_our_words(
    words: tuple[str, ...], said: str
) -> None:
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert said in err.replace("\n", " ")
    assert "Input should" not in err
