"""Studies that run a training script of the user's: their settings, the command, what it leaves, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.commands.facts import ProgressFacts
from harness.errors import HarnessError, StorageError, StudyError, TrialError, UsageError
from harness.ledger import Ledger, Plan
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.metrics import metric_of, own_metrics
from harness.study.recipe import Recipe
from harness.study.script_code import check_script, command_line
from harness.study.script_settings import expand
from harness.study.study import Study, parse_study
from harness.study.trial import Outcomes, Trial
from harness.workers.drain import drain
from harness.workers.runner import runner_for
from harness.workers.script_results import read_results

RAW: dict[str, Any] = {
    "question": "Does a higher rate help?",
    "command": ["python", "train.py", "--seed", "{seed}", "--lr={lr}"],
    "seeds": 2,
    "margin_pp": 1.0,
    "base": {"lr": 0.1},
    "arms": [{"name": "fast", "set": {"lr": 0.3}}],
}
SCRIPT = """
import json, os, sys
seed, lr = int(sys.argv[2]), float(sys.argv[3].partition("=")[2])
print("training with", lr)
with open(os.environ["HARNESS_OUT"] + "/metrics.json", "w") as file:
    json.dump({"accuracy": 0.5 + lr / 10 + seed / 1000, "train_accuracy": 0.9, "note": "fine"}, file)
"""


def study_of(**changes: Any) -> Study:
    return parse_study({**RAW, **changes}, name="mine").under("")


def faults_of(**changes: Any) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study({**RAW, **changes}, name="mine")
    return caught.value.message


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the script."""
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(study: Study, folder: Path) -> Trial:
    """Run the first cell of a study."""
    runner = runner_for("harness.train:run", study, folder / "runs" / "mine")
    trial, outcomes = runner(
        cells(study, "")[0], device="cpu", threads=1, on_epoch=lambda *_: False
    )
    assert outcomes is None
    return trial


def run_code(code: str, folder: Path, **changes: Any) -> Trial:
    (folder / "train.py").write_text(code, encoding="utf-8")
    return run(study_of(**changes), folder)


# Settings


def test_a_setting_stands_for_a_field_in_arms_factors_levels_and_profiles() -> None:
    factor = {"name": "lr", "field": "lr", "levels": [0.1, 0.3, 1]}
    study = parse_study(
        {
            **RAW,
            "design": "sweep",
            "arms": [],
            "factors": [factor],
            "profiles": {"wide": {"lr": 0.3}},
        },
        name="a",
    )
    assert [arm.overrides for arm in arms(study.under(""))] == [{}, {"lr": 0.3}, {"lr": 1}]
    assert arms(study.under("wide"))[0].recipe.flat() == {"lr": 0.3}


def test_the_command_line_sets_a_setting() -> None:
    study = parse_study(RAW, name="mine").under("", overrides={"lr": 0.2})
    assert arms(study)[0].recipe.flat() == {"lr": 0.2}


def test_a_recipe_without_settings_has_no_trace_of_them() -> None:
    assert "settings" not in Recipe().model_dump()
    assert Recipe.of_stored(Recipe().stored()) == Recipe()


def test_settings_survive_storing_and_distinguish_recipes() -> None:
    one, other = (arm.recipe for arm in arms(study_of()))
    assert Recipe.of_stored(json.loads(json.dumps(one.stored()))) == one
    assert Recipe.model_validate_json(one.model_dump_json()) == one
    assert len({one.id, other.id, Recipe().id}) == 3


def test_a_study_that_runs_a_script_survives_being_written_as_toml() -> None:
    import tomllib

    study = study_of(metrics={"f1": {"higher_is_better": True}}, timeout_seconds=9.0)
    assert parse_study(tomllib.loads(study.to_toml()), name="mine") == study


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"command": ["python", "train.py", "{lr}", "{lrr}"]},
            "command[3]: there is no setting 'lrr' in [base]",
        ),
        ({"command": ["python", "train.py", "{lr}", "{sed}"]}, "did you mean 'seed'?"),
        ({"command": ["python", "train.py"]}, "base.lr: no word of command uses {lr}"),
        ({"command": ["python", "train.py", "{lr"]}, "command[2]: '{lr'"),
        ({"command": ["python", "train.py", "{lr:.3f}"]}, "braces should hold one name"),
        ({"runner": "train.py:main"}, "give either command or runner, not both"),
        ({"command": [], "runner": "train.py"}, "runner: should be of the form file.py:function"),
        (
            {"command": [], "runner": "train.py:main", "timeout_seconds": 3.0},
            "timeout_seconds: harness can stop a command, but not a function",
        ),
        (
            {"base": {"lr": 0.1, "train": {"epochs": 3}}},
            "base.train.epochs: recipe fields do not describe a script",
        ),
        ({"base": {"lr": 0.1, "seed": 3}}, "base.seed: is given to every command already"),
        ({"base": {"lr": 0.1, "seeds": 3}}, "base.seeds: means something else in a profile"),
        (
            {"base": {"lr": [[1]]}},
            "base.lr: should be text, a number, true, false or a list of these",
        ),
        (
            {"arms": [{"name": "a", "set": {"lrr": 1}}]},
            "arms[a].set.lrr: no such setting in [base] (did you mean 'lr'?)",
        ),
        ({"arms": [{"name": "a", "set": {"lr": ["1"]}}]}, "command[4]: lr is a list"),
        (
            {"space": {"lr": {"low": 0.1, "high": 1.0}}},
            "space: a search is for recipes of our engine",
        ),
        (
            {"command": [], "base": {}, "arms": [], "timeout_seconds": 3.0},
            "timeout_seconds: is for a study with command or runner",
        ),
    ],
)
def test_what_a_script_study_cannot_say_is_a_fault_that_names_its_place(
    changes: dict[str, Any], words: str
) -> None:
    assert words in faults_of(**changes)


@pytest.mark.parametrize("profile", ["quick", "small", "medium", "full"])
def test_the_built_in_profiles_are_not_for_scripts(profile: str) -> None:
    with pytest.raises(UsageError, match=f"no profile '{profile}'"):
        parse_study(RAW, name="mine").under(profile)


def test_a_list_makes_words_of_its_own_and_braces_can_be_meant() -> None:
    values = {"flags": ("--wide", 3, True), "none": (), "name": "a b"}
    assert expand(["run", "{flags}", "{none}", "x={name}", "{{name}}"], values) == [
        "run",
        "--wide",
        "3",
        "true",
        "x=a b",
        "{name}",
    ]


def test_python_is_the_one_that_runs_this() -> None:
    study = study_of()
    assert command_line(study, {"lr": 0.1, "seed": 3, "out": "o"}) == [
        sys.executable,
        "train.py",
        "--seed",
        "3",
        "--lr=0.1",
    ]


# Metrics


def test_a_number_of_the_scripts_own_decides_once_the_study_says_how_to_read_it() -> None:
    study = study_of(metric="f1", metrics={"f1": {"unit": "pp", "higher_is_better": False}})
    assert (metric_of(study).unit, metric_of(study).higher_is_better) == ("pp", False)


def test_a_metric_that_nothing_says_how_to_read_is_refused() -> None:
    study = study_of(metric="f1")
    with pytest.raises(StudyError, match="nothing says how to read 'f1'"):
        own_metrics(study)


def results(folder: Path, text: str, **changes: Any) -> Any:
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    return read_results(folder, study_of(**changes))


def test_train_accuracy_gives_the_gap_and_what_is_no_number_is_left_alone(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        '{"accuracy": 0.75, "train_accuracy": 1, "f1": 12.5, "best": true, "net": "cnn", "all": [1]}',
    )
    assert found.metrics == {"accuracy": 0.75, "train_accuracy": 1.0, "gap": 0.25, "f1": 12.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "could not read"),
        ("[0.5]", "are a list"),
        ("{}", "has no 'accuracy'; it has nothing"),
        ('{"acc": 0.5}', "has no 'accuracy'; it has acc"),
        ('{"accuracy": "0.5"}', "holds '0.5' as 'accuracy', which is no number"),
        ('{"accuracy": 925}', "accuracy is 925 and should be between 0 and 100 percent"),
    ],
)
def test_metrics_that_cannot_be_are_an_error_that_says_why(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(TrialError) as caught:
        results(tmp_path, text)
    assert words in caught.value.message


def test_a_metric_that_is_no_finite_number_makes_the_run_diverged(tmp_path: Path) -> None:
    assert "accuracy is not a finite number" in results(tmp_path, '{"accuracy": NaN}').diverged


def test_the_history_is_read_under_the_names_that_loops_use(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(
        "epoch,loss,val_loss,val_acc\n1,2.0,1.5,0.4\n2,1.0,1.2,0.5\n", encoding="utf-8"
    )
    found = results(tmp_path, '{"accuracy": 0.5}')
    assert (found.epochs, found.curve.val_loss, found.curve.val_accuracy) == (
        2,
        (1.5, 1.2),
        (0.4, 0.5),
    )
    assert (found.curve.online_loss, found.curve.train_loss) == ((2.0, 1.0), ())


def test_a_history_that_cannot_be_read_costs_the_curves_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,val_loss\n1,high\n", encoding="utf-8")
    found = results(tmp_path, '{"accuracy": 0.5}')
    assert (found.metrics, found.epochs, len(found.curve)) == ({"accuracy": 0.5}, 0, 0)
    assert "no curves: history.csv: key 'val_loss'" in found.notes[0]


# Running


def test_a_script_gives_its_trial_the_metrics_and_a_log_of_what_it_printed(here: Path) -> None:
    trial = run(study_of(), here)
    assert trial.state == "complete"
    assert trial.metrics["accuracy"] == pytest.approx(0.51)
    (log,) = (here / "runs" / "mine" / "scripts").glob("*.log")
    assert log.read_text(encoding="utf-8") == "training with 0.1\n"


def test_every_attempt_has_an_empty_folder_of_its_own(here: Path) -> None:
    code = "import os\no = os.environ['HARNESS_OUT']\nopen(o + '/x', 'w')\nraise SystemExit(str(os.listdir(o)))"
    errors = [run_code(code, here).error for _ in range(2)]
    assert all("exit code 1: ['x'] (log: " in error for error in errors)
    assert [error.rpartition("-")[2] for error in errors] == ["1.log)", "2.log)"]


def test_the_seed_and_the_device_are_in_the_environment(here: Path) -> None:
    code = "import os\nraise SystemExit(os.environ['HARNESS_SEED'] + '|' + os.environ['CUDA_VISIBLE_DEVICES'] + '|')"
    assert "0||" in run_code(code, here).error


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (
            "raise ValueError('no such layer')",
            "ended with exit code 1: ValueError: no such layer, at train.py:1 (log: runs/mine/scripts/",
            "code",
        ),
        (
            "pass",
            "ended well, but wrote no metrics.json into the folder that HARNESS_OUT names, and no rule [metrics.accuracy]",
            "code",
        ),
        ("raise MemoryError", "MemoryError", "infrastructure"),
        ("raise RuntimeError('CUDA out of memory. Tried')", "out of memory", "infrastructure"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL", "infrastructure"),
        ("import os; os.abort()", "was killed by SIGABRT", "code"),
    ],
)
def test_a_script_that_gives_no_result_fails_its_trial_with_its_last_words(
    here: Path, code: str, words: str, cause: str
) -> None:
    trial = run_code(code, here)
    assert words in trial.error
    assert (trial.state, trial.cause) == ("failed", cause)


def test_a_script_that_takes_too_long_is_stopped(here: Path) -> None:
    trial = run_code(
        "print('at work', flush=True)\nimport time\ntime.sleep(600)", here, timeout_seconds=2.0
    )
    assert "took longer than timeout_seconds = 2" in trial.error
    assert (trial.state, trial.cause) == ("failed", "code")


def test_a_diverged_script_is_a_diverged_trial(here: Path) -> None:
    code = "import os\nopen(os.environ['HARNESS_OUT'] + '/metrics.json', 'w').write('{\"accuracy\": NaN}')"
    trial = run_code(code, here)
    assert (trial.state, trial.metrics) == ("diverged", {})


CHILDREN = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
WORKER = """
import sys
from pathlib import Path
from harness.study.cells import cells
from harness.study.study import parse_study
from harness.workers.runner import runner_for
study = parse_study({raw!r}, name="mine").under("")
runner_for("harness.train:run", study, Path("runs/mine"))(cells(study, "")[0], device="cpu", threads=1, on_epoch=None)
"""


def alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


def wait_for(condition: Any) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_killing_the_worker_kills_the_script_and_all_that_it_started(here: Path) -> None:
    (here / "train.py").write_text(CHILDREN, encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(raw=RAW)], cwd=here, env={**os.environ}
    )
    pids = here / "pids"
    try:
        assert wait_for(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    started = [int(pid) for pid in pids.read_text().split()]
    assert wait_for(lambda: not any(alive(pid) for pid in started))


# Functions


FUNCTION = """
def train(*, seed, settings, out):
    (out / "weights.txt").write_text("w")
    return {"accuracy": settings["lr"] + seed / 100}

def needs_more(seed, settings, out, data):
    return {}

def fails(**_):
    raise KeyError("layer")

not_a_function = 3
"""


def by_function(name: str) -> Study:
    return study_of(command=[], runner=f"train.py:{name}")


def test_a_function_is_given_seed_settings_and_folder_and_returns_its_metrics(here: Path) -> None:
    (here / "train.py").write_text(FUNCTION, encoding="utf-8")
    assert run(by_function("train"), here).metrics == {"accuracy": 0.1}


def test_what_a_function_raises_is_for_the_worker_to_record(here: Path) -> None:
    (here / "train.py").write_text(FUNCTION, encoding="utf-8")
    with pytest.raises(KeyError, match="layer"):
        run(by_function("fails"), here)


@pytest.mark.parametrize(
    ("name", "words"),
    [("needs_more", "data"), ("not_a_function", "not a function"), ("tarin", "it has")],
)
def test_a_function_that_does_not_fit_is_refused_before_anything_is_planned(
    here: Path, name: str, words: str
) -> None:
    (here / "train.py").write_text(FUNCTION, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        check_script(by_function(name))
    assert words in caught.value.message + caught.value.hint


# Code


def test_editing_the_script_or_the_command_changes_the_fingerprint_and_the_settings_do_not(
    here: Path,
) -> None:
    first = check_script(study_of())
    assert check_script(study_of(base={"lr": 0.7})) == first
    assert check_script(study_of(command=[*RAW["command"], "-v"])) != first
    (here / "train.py").write_text(SCRIPT + "# edited\n", encoding="utf-8")
    assert check_script(study_of()) != first


def test_a_module_in_the_working_folder_counts_as_source(here: Path) -> None:
    study = study_of(command=["python", "-m", "train", "{lr}"])
    first = check_script(study)
    (here / "train.py").write_text(SCRIPT + "# edited\n", encoding="utf-8")
    assert check_script(study) != first


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["python", "tarin.py", "{lr}"], "command[1]: 'tarin.py' is unreadable: No such file"),
        (
            ["no-such-program-anywhere", "{lr}"],
            "command[0]: there is no program 'no-such-program-anywhere'",
        ),
    ],
)
def test_a_program_or_file_that_is_not_there_is_refused(
    here: Path, command: list[str], words: str
) -> None:
    del here
    with pytest.raises(UsageError) as caught:
        check_script(study_of(command=command))
    assert words in caught.value.message
    assert "working folder" in caught.value.hint


def planned(study: Study, folder: Path) -> Ledger:
    ledger = Ledger.open("mine", runs=folder / "runs")
    plan = Plan(
        study,
        "",
        check_script(study),
        threads=1,
        device="cpu",
        workers=1,
        data_root="",
        created="2026-11-23T12:00:00",
    )
    ledger.plan(plan, cells(study, "", plan.code_fingerprint))
    return ledger


def test_a_worker_records_every_trial_in_the_ledger_under_its_settings(here: Path) -> None:
    study = study_of()
    with planned(study, here) as ledger:
        runner = runner_for("harness.train:run", study, here / "runs" / "mine")
        options: dict[str, Any] = {
            "deadline": None,
            "max_trials": None,
            "on_event": lambda _: None,
            "stop": threading.Event(),
        }
        done = drain(ledger, runner, worker="w", device="cpu", threads=1, **options)
        trials = ledger.trials()
    assert (done.recorded, done.failed) == (4, 0)
    assert {(trial.recipe.flat()["lr"], trial.seed) for trial in trials} == {
        (0.1, 0),
        (0.1, 1),
        (0.3, 0),
        (0.3, 1),
    }


def test_a_worker_whose_script_differs_is_refused(here: Path) -> None:
    from harness.workers.join import join

    planned(study_of(), here).close()
    (here / "train.py").write_text(SCRIPT + "# edited\n", encoding="utf-8")
    with pytest.raises(StorageError, match="code here"):
        join(name="mine", runs=here / "runs", on_event=lambda _: None)


def outcome_of(folder: Path, **options: Any) -> Any:
    from harness.commands.ablate import ablate

    (folder / "mine.toml").write_text(parse_study(RAW, name="mine").to_toml(), encoding="utf-8")
    return ablate("mine.toml", **options)


def test_the_plan_names_the_script_and_says_that_its_cost_is_unknown(here: Path) -> None:
    told = "\n".join(outcome_of(here, dry_run=True).plan.lines())
    assert "script python train.py --seed {seed} --lr={lr}" in told
    assert "time unknown: what the script takes is known once its first trial is done" in told
    assert "images" not in told
    assert not (here / "runs").exists()


def test_screening_is_refused_for_a_script(here: Path) -> None:
    with pytest.raises(HarnessError, match="no arm can be stopped"):
        outcome_of(here, screen=True, dry_run=True)


def test_a_script_study_runs_to_a_report_that_speaks_of_settings_and_not_of_images(
    here: Path,
) -> None:
    outcome = outcome_of(here)
    page = (here / "reports" / "mine" / "report.md").read_text(encoding="utf-8")
    assert outcome.counts["complete"] == 4
    assert "lr 0.3" in page or "lr = 0.3" in page
    for word in ("cifar10", "one-cycle", "every recipe the same initialisation", "augment.crop"):
        assert word not in page
    again = outcome_of(here, dry_run=True)
    assert (again.plan.to_run, again.plan.estimated_from) == (0, "the mean of 4 finished trials")


def test_a_script_that_fails_is_told_with_its_last_words_and_without_epochs_that_nobody_counted(
    here: Path,
) -> None:
    (here / "train.py").write_text("raise ValueError('no such layer')", encoding="utf-8")
    events: list[Any] = []
    outcome_of(here, on_event=events.append)
    lines = [event.line for event in events if isinstance(event, ProgressFacts) and event.line]
    assert len(lines) == 3
    assert all(
        "failed: the script ended with exit code 1: ValueError: no such layer, at train.py:1 (log: "
        in line
        for line in lines
    )
    report = (here / "reports" / "mine" / "report.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in report.splitlines() if "no such layer" in line
    ]
    assert [row[4] for row in rows] == ["\N{EN DASH}"] * 3  # the epochs


def test_first_trials_that_all_fail_alike_stop_the_study_with_the_traceback_and_the_command(
    here: Path,
) -> None:
    whole = (here / "train.py").read_text(encoding="utf-8")
    (here / "train.py").write_text(
        "def deep():\n    raise ValueError('no such layer')\ndeep()\n", encoding="utf-8"
    )
    outcome = outcome_of(here)
    closing = "\n".join(outcome.closing())
    assert (outcome.counts["failed"], outcome.counts["waiting"], outcome.exit_code) == (3, 1, 1)
    assert "stopped: the first 3 trials failed in the same way" in closing
    assert "in deep" in closing
    assert (
        "`harness ablate --study mine.toml --retry-failed` runs the failed trials again" in closing
    )

    (here / "train.py").write_text(whole, encoding="utf-8")
    again = outcome_of(here)
    assert (again.counts["complete"], again.exit_code) == (4, 0)


def test_failures_of_two_kinds_do_not_stop_a_study(here: Path) -> None:
    program = "import os\nraise (ValueError if int(os.environ['HARNESS_SEED']) else KeyError)('no such layer')\n"
    (here / "train.py").write_text(program, encoding="utf-8")
    assert outcome_of(here).counts["failed"] == 4


def test_a_command_without_its_seed_and_scores_without_any_spread_are_said(here: Path) -> None:
    program = "import json, os\njson.dump({'accuracy': 0.5}, open(os.environ['HARNESS_OUT'] + '/metrics.json', 'w'))\n"
    (here / "train.py").write_text(program, encoding="utf-8")
    raw = {**RAW, "command": [word for word in RAW["command"] if "seed" not in word]}
    (here / "mine.toml").write_text(parse_study(raw, name="mine").to_toml(), encoding="utf-8")
    from harness.commands.ablate import ablate

    outcome = ablate("mine.toml")
    assert "no {seed} among its words" in "\n".join(outcome.plan.lines())
    (line,) = [line for line in outcome.closing() if "never varies" in line]
    assert line.startswith("accuracy never varies in ")
    assert line.count("(50 % at all 2 seeds)") == 1


def test_outcomes_are_none_because_a_script_tells_nothing_of_single_images(here: Path) -> None:
    kept: Outcomes | None
    with planned(study_of(), here) as ledger:
        claim = ledger.claim("w")
        assert claim is not None
        trial = run(study_of(), here).model_copy(update={"cell": claim.cell.key})
        ledger.record(claim, trial, None)
        _, kept = ledger.artifact(ledger.trials()[0])
    assert kept is None
