"""Where a script leaves its numbers: patterns over what it prints, tables, JSON; units; what a log says of a failure."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StudyError, TrialError
from harness.study.metrics import metric_of
from harness.study.study import Study, parse_study
from harness.workers.script_hints import left_files, suggested_rule
from harness.workers.script_log import as_printed, as_shown, failure
from harness.workers.script_results import Results, read_results

BAR = " [====>....]  Loss: 1.20 | Acc: {:.3f}% ({}/100)    \b\b\b\b 3/3 "


def study_of(metric: str = "accuracy", **rules: Any) -> Study:
    raw = {
        "question": "Does it help?",
        "command": ["python", "train.py", "{lr}"],
        "seeds": 2,
        "margin_pp": 1.0,
        "base": {"lr": 0.1},
        "metric": metric,
        "metrics": rules,
    }
    return parse_study(raw, name="mine").under("")


def read(folder: Path, printed: str = "", metric: str = "accuracy", **rules: Any) -> Results:
    log = folder.with_name(f"{folder.name}.log")
    log.write_text(printed, encoding="utf-8")
    return read_results(folder, study_of(metric, **rules), log=log)


def accuracy(folder: Path, printed: str = "", **rule: Any) -> float:
    return read(folder, printed, accuracy=rule).metrics["accuracy"]


# What is printed


@pytest.mark.parametrize(
    ("printed", "rule", "value"),
    [
        ("Accuracy: 8/10\nAccuracy: 9100/10000 (91%)", {"stdout": r"Accuracy: (\d+)/(\d+)"}, 0.91),
        ("acc 0.5\nacc 0.75\n", {"stdout": r"acc ([\d.]+)"}, 0.75),
        ("acc 0.5\nacc 0.75\n", {"stdout": r"acc ([\d.]+)", "take": "mean"}, 0.625),
        ("acc 0.75\nacc 0.5\n", {"stdout": r"acc ([\d.]+)", "take": "best"}, 0.75),
        ("acc 91.2%", {"stdout": r"acc ([\d.]+)"}, 0.912),
        ("acc 0.9 %", {"stdout": r"acc ([\d.]+)"}, 0.009),
        ("acc 0.9", {"stdout": r"acc ([\d.]+)", "unit": "percent"}, 0.009),
        ("acc 91.2", {"stdout": r"acc (\S+)", "unit": "percent"}, 0.912),
        ("acc 91.2", {"stdout": r"acc (\S+)"}, 0.912),
        ("right 9,100 of 10,000", {"stdout": r"right (\S+) of (\S+)", "unit": "percent"}, 0.91),
        ("\x1b[32macc\x1b[0m 0.5", {"stdout": r"^acc ([\d.]+)$"}, 0.5),
        ("1/9 acc 0.1\r9/9 acc 0.7\r\nbye\n", {"stdout": r"^9/9 acc ([\d.]+)$"}, 0.7),
        (
            BAR.format(45, 45) + "\r" + BAR.format(88, 88) + "\n",
            {"stdout": r"Acc: ([\d.]+)%"},
            0.88,
        ),
    ],
)
def test_a_pattern_finds_the_number_among_what_is_printed(
    tmp_path: Path, printed: str, rule: dict[str, Any], value: float
) -> None:
    assert accuracy(tmp_path, printed, **rule) == pytest.approx(value)


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-inf", "Infinity", "nan%"])
@pytest.mark.parametrize(
    "pattern",
    [
        *(r"acc: ([\d.]+)", r"acc: (\d+\.\d+)", r"acc: (?P<value>[0-9.]+)", r"acc: (\S+?)%?$"),
        *(r"(?:val )?acc: ([^]x ]\d*\.?\d*)", r"acc: ((?:\d|\.)+)"),
    ],
)
@pytest.mark.parametrize("take", ["last", "mean", "best"])
def test_a_last_number_that_is_none_makes_the_run_diverged(
    tmp_path: Path, word: str, pattern: str, take: str
) -> None:
    printed = f"acc: 0.5\nacc: 0.7\nacc: {word}\nbye, conan and finance\n"
    found = read(tmp_path, printed, accuracy={"stdout": pattern, "take": take})
    assert found.diverged == "accuracy is not a finite number"


@pytest.mark.parametrize("take", ["last", "best"])
def test_a_number_that_comes_back_is_no_divergence(tmp_path: Path, take: str) -> None:
    printed = "loss nan\nacc: nan\nacc: 0.7\ninfo: nan values were left out\n"
    assert accuracy(tmp_path, printed, stdout=r"acc: ([\d.]+)", take=take) == 0.7


def test_a_pattern_without_a_match_is_an_error_that_shows_it(tmp_path: Path) -> None:
    with pytest.raises(TrialError) as caught:
        accuracy(tmp_path, "loss 3", stdout=r"acc ([\d.]+)")
    assert caught.value.message == r"[metrics.accuracy]: its output has no match for 'acc ([\d.]+)'"


@pytest.mark.parametrize(
    ("printed", "pattern", "share"),
    [
        ("accuracy: 8.094e-01", r"accuracy: ([\d.]+)", 0.8094),
        ("accuracy: 8.094E+01%", r"accuracy: ([\d.]+)", 0.8094),
        ("accuracy: 81 epoch 2", r"accuracy: ([\d.]+)", 0.81),
        ("accuracy: 0.81,0.9", r"accuracy: ([\d.]+)", 0.81),
        ("accuracy: 81, 90", r"accuracy: ([\d.]+)", 0.81),
        ("accuracy: 81,90", r"accuracy: (\d+),", 0.81),
        ("accuracy: 81,50", r"accuracy: ([\d.,]+)", 0.815),
    ],
)
def test_a_number_is_read_to_its_end(
    tmp_path: Path, printed: str, pattern: str, share: float
) -> None:
    assert accuracy(tmp_path, printed, stdout=pattern) == pytest.approx(share)


def test_a_pattern_that_ends_in_front_of_a_decimal_comma_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"reads 0 of 0,8134; write \(\[\\d\.,\]\+\) if"):
        accuracy(tmp_path, "accuracy: 0,8134", stdout=r"accuracy: ([\d.]+)")


def test_a_number_that_does_not_decide_may_be_missing_and_is_spoken_of(tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "accuracy": {"stdout": r"acc ([\d.]+)"},
        "f1": {"stdout": r"f1 ([\d.]+)", "higher_is_better": True},
    }
    found = read(tmp_path, "acc 0.5", **rules)
    assert found.metrics == {"accuracy": 0.5}
    assert "the run has no f1" in found.notes[0]


def test_a_ratio_of_nothing_makes_the_run_diverged(tmp_path: Path) -> None:
    found = read(tmp_path, "Accuracy: 0/0", accuracy={"stdout": r"(\d+)/(\d+)"})
    assert found.diverged == "accuracy is not a finite number"


# Files


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("metrics.csv", "epoch,val/acc\n1,0.5\n2,0.75\n3,\n", "val/acc"),
        ("metrics.csv", "epoch;val_acc\n1;0,5\n2;0,75\n", "val/acc"),
        ("log.tsv", "epoch\tacc\n1\t50%\n2\t75%\n", "acc"),
        ("results.json", json.dumps({"eval": {"acc": 0.75}}), "eval.acc"),
        ("results.json", json.dumps([{"acc": 0.5}, {"acc": 0.75}, {"loss": 1}]), "acc"),
        ("history.json", json.dumps({"acc": [0.5, 0.75], "name": "net"}), "acc"),
        ("log.jsonl", '{"acc": 0.5}\n{"acc": 0.75}\n', "acc"),
        (
            "checkpoint-9/trainer_state.json",
            json.dumps({"log_history": [{"eval_acc": 0.75}, {"train_loss": 1}], "epoch": 3}),
            "eval_acc",
        ),
    ],
)
def test_a_column_of_a_file_gives_its_last_number(
    tmp_path: Path, name: str, text: str, column: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    rule = {"from": Path(name).name, "column": column}
    assert accuracy(tmp_path, **rule) == pytest.approx(0.75)


def test_of_several_files_the_newest_counts(tmp_path: Path) -> None:
    for version, value in ((0, 0.75), (1, 0.5)):
        path = tmp_path / f"version_{version}" / "metrics.csv"
        path.parent.mkdir()
        path.write_text(f"acc\n{value}\n", encoding="utf-8")
        os.utime(path, (100 - version, 100 - version))
    assert accuracy(tmp_path, **{"from": "version_*/metrics.csv", "column": "acc"}) == 0.75


def test_a_pattern_may_be_for_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("INFO acc=0.25\nINFO acc=0.5\n", encoding="utf-8")
    assert accuracy(tmp_path, **{"from": "train.log", "stdout": r"acc=([\d.]+)"}) == 0.5


def test_a_scalar_of_event_files_is_read_whether_it_is_a_number_or_a_tensor(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    import torch
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(3):
            writer.add_scalar("val/acc", 0.5 + 0.1 * step, step)
            writer.add_tensor("tensor/acc", torch.tensor(0.25 + 0.25 * step), step)
    rule = {"from": "tensorboard"}
    assert accuracy(tmp_path, **rule, column="val/acc") == pytest.approx(0.7)
    assert accuracy(tmp_path, **rule, column="tensor/acc") == pytest.approx(0.75)
    with pytest.raises(TrialError, match=r"did you mean 'val/acc'"):
        accuracy(tmp_path, **rule, column="val_acc")


@pytest.mark.parametrize("take", ["last", "mean", "best"])
def test_a_column_that_ends_in_nan_makes_the_run_diverged(tmp_path: Path, take: str) -> None:
    (tmp_path / "log.csv").write_text("epoch,acc\n0,0.5\n1,0.6\n2,nan\n")
    found = read(tmp_path, accuracy={"from": "log.csv", "column": "acc", "take": take})
    assert found.diverged


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"from": "m.csv", "column": "accuracy"}, "wrote no m.csv into its folder"),
        ({"from": "m.csv", "column": "accuracy"}, "it left other.csv"),
        ({"from": "other.csv", "column": "acuracy"}, "did you mean 'accuracy'"),
        ({"from": "other.csv", "column": "note"}, "'good' is no number"),
        ({"from": "rows.json", "column": "acc"}, "[0.5] is no number"),
    ],
)
def test_what_is_not_in_a_file_is_an_error_that_says_what_is(
    tmp_path: Path, rule: dict[str, Any], words: str
) -> None:
    (tmp_path / "other.csv").write_text("accuracy,note\n0.5,good\n", encoding="utf-8")
    (tmp_path / "rows.json").write_text('[{"acc": [0.5]}]', encoding="utf-8")
    with pytest.raises(TrialError) as caught:
        accuracy(tmp_path, **rule)
    assert words in caught.value.message


# Units


def written(folder: Path, **numbers: float) -> Results:
    (folder / "metrics.json").write_text(json.dumps(numbers), encoding="utf-8")
    return read(folder)


def test_a_percent_accuracy_is_kept_and_the_study_is_asked_to_declare_it(tmp_path: Path) -> None:
    found = written(tmp_path, accuracy=91.0, train_accuracy=97.0, nll=1.5)
    assert found.metrics == pytest.approx(
        {"accuracy": 0.91, "train_accuracy": 0.97, "nll": 1.5, "gap": 0.06}
    )
    assert found.guessed == "percent"
    assert "`unit = 'percent'`" in found.notes[0]


def test_one_accuracy_above_1_says_that_the_others_of_the_run_are_percent_too(
    tmp_path: Path,
) -> None:
    found = written(tmp_path, accuracy=0.9, train_accuracy=1.2)
    assert found.metrics["accuracy"] == pytest.approx(0.009)


def test_a_declared_unit_is_not_overridden_by_size(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"a share between 0 and 1; .* unit = 'share'"):
        accuracy(tmp_path, "acc 91", stdout=r"acc (\d+)", unit="share")


def test_a_metric_of_the_scripts_own_in_percent_is_stored_as_a_share(tmp_path: Path) -> None:
    rule = {"stdout": r"f1 ([\d.]+)", "unit": "percent", "higher_is_better": True}
    assert read(tmp_path, "f1 80", metric="f1", f1=rule).metrics["f1"] == pytest.approx(0.8)
    assert metric_of(study_of("f1", f1=rule)).unit == "pp"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"accuracy": {"stdout": "acc"}}, "has 0 groups"),
        ({"accuracy": {"stdout": "(a)(b)(c)"}}, "has 3 groups"),
        ({"accuracy": {"stdout": "(a"}}, "is no regular expression"),
        ({"accuracy": {"from": "m.csv"}}, "`from` needs `column`"),
        ({"accuracy": {"column": "a"}}, "names a column of the file in `from`"),
        ({"accuracy": {"take": "mean"}}, "there is only one number in metrics.json"),
        ({"accuracy": {}}, "leave the table out"),
        ({"accuracy": {"unit": "number"}}, "its unit is percent or share"),
        ({"accuracy": {"unit": "percent", "higher_is_better": False}}, "leave this out"),
        ({"f1": {"stdout": "(a)"}}, "metrics.f1.higher_is_better: is missing"),
    ],
)
def test_a_rule_that_contradicts_itself_is_a_fault_of_the_study(
    rules: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError) as caught:
        study_of(**rules)
    assert words in caught.value.message


# Logs


def test_a_progress_bar_is_shown_as_a_terminal_leaves_it() -> None:
    assert as_shown("10%\r50%\r100%\nab\b\bxy\n\x1b[1mend\x1b[0m") == "100%\nxy\nend"
    assert as_printed("10%\r100%\r\nab\b\b\n") == "10%\n100%\nab\n"


TRACEBACK = """epoch 1
Traceback (most recent call last):
  File "{here}/train.py", line 9, in <module>
    main()
  File "{here}/train.py", line 6, in main
    step(x)
  File "{here}/lib/step.py", line 3, in step
    return torch.cat(x)
  File "/usr/lib/python3/dist-packages/torch/functional.py", line 77, in cat
    raise ValueError("sizes\\n  differ")
ValueError: sizes
differ
"""


def failure_of(folder: Path, text: str) -> str:
    log = folder / "a.log"
    log.write_text(text.replace("{here}", str(Path.cwd())), encoding="utf-8")
    return str(failure(log))


def test_a_failure_names_the_exception_and_the_last_frames(tmp_path: Path) -> None:
    told = failure_of(tmp_path, TRACEBACK)
    assert (
        told
        == ": ValueError: sizes, at train.py:6 in main, lib/step.py:3 in step, functional.py:77 in cat"
    )
    ranked = "".join(f"[rank0]: {line}\n" for line in TRACEBACK.splitlines())
    assert failure_of(tmp_path, ranked) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ", without a word"),
        ("train.py: error: no --lr\n", ": train.py: error: no --lr"),
        (
            '  File "train.py", line 3\n    if\n      ^\nSyntaxError: bad\n',
            ": SyntaxError: bad, at train.py:3",
        ),
        (TRACEBACK + "epoch\n" * 30 + "killed\n", ": killed"),
    ],
)
def test_a_log_without_a_closing_traceback_gives_its_last_words(
    tmp_path: Path, text: str, told: str
) -> None:
    assert failure_of(tmp_path, text) == told


# Suggestions


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (
            "Test set: loss: 0.1, Accuracy: 9100/10000 (91%)\n",
            ["[metrics.accuracy]", r"stdout = 'Accuracy: (\d+)/(\d+)'"],
        ),
        (
            "val_acc=0.91 train_acc=0.99\n",
            ["[metrics.accuracy]", r"stdout = 'val_acc=([\d.]+)'", 'unit = "share"'],
        ),
        ("top1 acc 91.2%\n", ["[metrics.accuracy]", r"stdout = 'acc ([\d.]+)'"]),
        ("nothing here\n", []),
    ],
)
def test_a_rule_is_suggested_from_what_was_printed_and_reads_it(
    tmp_path: Path, printed: str, lines: list[str]
) -> None:
    log = tmp_path / "a.log"
    log.write_text(printed, encoding="utf-8")
    assert suggested_rule("accuracy", tmp_path, log) == lines


def test_a_number_beyond_percent_is_suggested_under_another_name_which_reads_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "run.log"
    log.write_text("accuracy: 850\n")
    lines = suggested_rule("accuracy", tmp_path, log)
    assert lines[0].startswith("# 850 is neither a share nor percent")
    raw = tomllib.loads("\n".join(lines))
    command = ["python", "train.py", "{lr}"]
    raw |= {"question": "Does it?", "command": command, "seeds": 2, "base": {"lr": 1}}
    study = parse_study(raw, name="mine").under("")
    assert read_results(tmp_path, study, log=log).metrics == {"accuracy_number": 850.0}


def test_the_files_of_a_run_are_listed_with_the_columns_of_its_tables(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val/acc\n1,0.5\n", encoding="utf-8")
    (tmp_path / "net.pth").write_bytes(b"\0")
    assert left_files(tmp_path) == ["metrics.csv with epoch, val/acc", "net.pth"]
