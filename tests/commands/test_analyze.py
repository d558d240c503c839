"""Tables of finished runs: read, refused with a reason, and reported on."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.analysis.runs_table import Runs, read_runs
from harness.commands.analyze import analyze_table
from harness.errors import HarnessError, ReportError, UsageError
from harness.report import read_analysis, read_folder, rebuild
from harness.study.study import load_study

Harness = Callable[..., subprocess.CompletedProcess[str]]
COLUMNS: dict[str, Any] = {
    "arm": "model",
    "seed": "seed",
    "metric": "val_acc",
    "baseline": "plain",
    "margin": 0.5,
}
OPTIONS = [
    "--arm",
    "model",
    "--seed",
    "seed",
    "--metric",
    "val_acc",
    "--baseline",
    "plain",
    "--margin",
    "0.5",
]
ROWS = [
    (arm, seed, 90.0 + shift + 0.1 * ((7 * seed + 3 * place) % 5), 97.0 + 0.1 * seed)
    for seed in range(5)
    for place, (arm, shift) in enumerate((("plain", 0.0), ("mixup", 1.5), ("ema", 0.05)))
]


def write(
    folder: Path,
    rows: list[tuple[Any, ...]] = ROWS,
    *,
    separator: str = ",",
    name: str = "runs.csv",
) -> Path:
    lines = [("model", "seed", "val_acc", "train_acc"), *rows]
    path = folder / name
    path.write_text(
        "".join(separator.join(map(str, line)) + "\n" for line in lines), encoding="utf-8"
    )
    return path


def read(path: Path, **changes: Any) -> Runs:
    return read_runs(path, **{**COLUMNS, **changes})


def refused(path: Path, **changes: Any) -> HarnessError:
    with pytest.raises((ReportError, UsageError)) as caught:
        read(path, **changes)
    assert caught.value.hint
    return caught.value


def test_effects_are_the_paired_t_of_scipy_on_the_columns(tmp_path: Path) -> None:
    written, _ = analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "reports")
    scores = {
        arm: np.array([row[2] for row in ROWS if row[0] == arm]) for arm in ("plain", "mixup")
    }
    expected = stats.ttest_rel(scores["mixup"], scores["plain"])
    interval = expected.confidence_interval(0.95)
    (effect,) = [e for e in written.analysis.effects if e.term == "mixup" and e.metric == "val_acc"]
    found = (effect.estimate, effect.low, effect.high, effect.p)
    wanted = (
        (scores["mixup"] - scores["plain"]).mean(),
        interval.low,
        interval.high,
        expected.pvalue,
    )
    assert found == pytest.approx(wanted, rel=1e-5)  # analyses are kept to 6 significant digits


def test_a_training_column_gives_the_overfitting_gap(tmp_path: Path) -> None:
    written, _ = analyze_table(
        write(tmp_path), **COLUMNS, train="train_acc", reports=tmp_path / "reports"
    )
    (level,) = [
        s
        for s in written.analysis.summaries
        if (s.arm, s.metric) == ("plain", written.analysis.gap)
    ]
    assert level.mean == pytest.approx(
        np.mean([row[3] - row[2] for row in ROWS if row[0] == "plain"]), rel=1e-5
    )


def test_a_gap_column_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = [(*row[:3], row[3] - row[2]) for row in ROWS]
    one = read(write(tmp_path, rows), gap="train_acc").trials
    other = read(write(tmp_path), train="train_acc").trials
    assert [t.metrics["val_acc_gap"] for t in one] == pytest.approx(
        [t.metrics["train_val_acc"] - t.metrics["val_acc"] for t in other]
    )


def test_training_scores_and_a_gap_together_are_refused(tmp_path: Path) -> None:
    assert "not both" in refused(write(tmp_path), train="train_acc", gap="train_acc").message


def test_the_largest_value_tells_percent_from_shares_and_the_choice_is_said(tmp_path: Path) -> None:
    percent = read(write(tmp_path))
    shares = read(write(tmp_path, [(*row[:2], row[2] / 100, 1) for row in ROWS]))
    assert [t.metrics["val_acc"] for t in percent.trials] == pytest.approx(
        [t.metrics["val_acc"] for t in shares.trials]
    )
    assert "taken as percent" in percent.notes[1]
    assert "taken as shares" in shares.notes[1]


def test_a_unit_that_is_asked_for_overrides_the_guess(tmp_path: Path) -> None:
    rows = [(*row[:2], 0.5 + row[1] / 100, 1) for row in ROWS]
    assert read(write(tmp_path, rows), unit="percent").trials[0].metrics[
        "val_acc"
    ] == pytest.approx(0.005)


def test_plain_numbers_keep_their_unit_and_their_margin(tmp_path: Path) -> None:
    runs = read(write(tmp_path), unit="number", margin=0.02, lower_is_better=True)
    metric = runs.metrics["val_acc"]
    assert (metric.unit, metric.higher_is_better) == ("own", False)
    assert runs.study.margin_pp == pytest.approx(2.0)


def test_lower_is_better_turns_the_verdict_round(tmp_path: Path) -> None:
    written, _ = analyze_table(
        write(tmp_path), **COLUMNS, lower_is_better=True, reports=tmp_path / "reports"
    )
    verdicts = {e.term: e.verdict for e in written.analysis.effects if e.metric == "val_acc"}
    assert verdicts["mixup"] == "worse"


def test_a_column_called_like_a_metric_of_ours_keeps_its_own_meaning(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("val_acc", "accuracy"))
    assert read(path, metric="accuracy").study.metric == "accuracy"
    lower = read(path, metric="accuracy", lower_is_better=True)
    assert lower.study.metric == "accuracy"
    assert lower.metrics["accuracy"].higher_is_better is False


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate(tmp_path: Path, separator: str) -> None:
    assert len(read(write(tmp_path, separator=separator)).trials) == len(ROWS)


def test_seeds_written_as_decimals_by_pandas_are_whole_numbers(tmp_path: Path) -> None:
    assert read(write(tmp_path, [(row[0], f"{row[1]}.0", *row[2:]) for row in ROWS])).seeds == (
        0,
        1,
        2,
        3,
        4,
    )


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    one, _ = analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "a")
    other, _ = analyze_table(
        write(tmp_path, [*ROWS[3:], *ROWS[:3]]), **COLUMNS, reports=tmp_path / "b"
    )
    assert one.analysis.effects == other.analysis.effects


def test_an_unknown_column_is_named_with_a_guess(tmp_path: Path) -> None:
    error = refused(write(tmp_path), metric="val_ac")
    assert "no column 'val_ac' (did you mean 'val_acc'?)" in error.message
    assert "train_acc" in error.hint


def test_a_baseline_that_no_row_has_is_named_with_a_guess(tmp_path: Path) -> None:
    assert "'plein' (did you mean 'plain'?)" in refused(write(tmp_path), baseline="plein").message


def test_two_rows_of_one_arm_and_seed_are_refused_with_their_lines(tmp_path: Path) -> None:
    assert "plain at seed 0 (lines 2, 17)" in refused(write(tmp_path, [*ROWS, ROWS[0]])).message


def test_a_missing_seed_is_refused_with_the_arm_it_is_missing_in(tmp_path: Path) -> None:
    error = refused(write(tmp_path, [row for row in ROWS if row[:2] != ("ema", 3)]))
    assert "no row for ema (seed 3)" in error.message
    assert "--common-seeds" in error.hint


def test_common_seeds_leaves_a_hole_out_for_every_arm_and_says_so(tmp_path: Path) -> None:
    runs = read(write(tmp_path, [row for row in ROWS if row[:2] != ("ema", 3)]), common_seeds=True)
    assert runs.seeds == (0, 1, 2, 4)
    assert any("1 seed (2 rows) left out" in note for note in runs.notes)


def test_arms_without_a_common_seed_cannot_be_compared(tmp_path: Path) -> None:
    rows = [(arm, seed + 10 * (arm == "ema"), *rest) for arm, seed, *rest in ROWS]
    assert "give every arm the same seeds" in refused(write(tmp_path, rows), common_seeds=True).hint


def test_a_cell_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [*ROWS[:-1], (*ROWS[-1][:2], "ninety", 1)]
    assert (
        "column 'val_acc' should hold numbers: line 16: 'ninety'"
        in refused(write(tmp_path, rows)).message
    )


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    rows = [(*row[:2], str(row[2]).replace(".", ","), 1) for row in ROWS]
    with_commas = read(write(tmp_path, rows, separator=";")).trials
    with_points = read(write(tmp_path, name="points.csv")).trials
    assert [t.metrics for t in with_commas] == [t.metrics for t in with_points]


def test_a_run_without_a_finite_score_leaves_its_arm_unjudged(tmp_path: Path) -> None:
    rows = [row if row[:2] != ("mixup", 2) else (*row[:2], "nan", 1) for row in ROWS]
    written, runs = analyze_table(write(tmp_path, rows), **COLUMNS, reports=tmp_path / "reports")
    (effect,) = [e for e in written.analysis.effects if e.term == "mixup" and e.metric == "val_acc"]
    assert (effect.verdict, effect.note.partition(",")[0]) == ("", "unstable (1 of 5)")
    assert "counted as diverged" in runs.notes[-1]


def test_a_row_without_a_seed_is_refused_with_its_line(tmp_path: Path) -> None:
    assert "line 2 is empty" in refused(write(tmp_path, [("plain", "", 90, 1), *ROWS])).message


def test_fractions_are_no_seeds(tmp_path: Path) -> None:
    rows = [(row[0], row[1] + 0.5, *row[2:]) for row in ROWS]
    assert "fractions, which are no seeds" in refused(write(tmp_path, rows)).message


def test_scores_beyond_100_are_numbers_and_no_percent_even_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path, [(*row[:2], row[2] + 100, 1) for row in ROWS])
    assert read(path).metrics["val_acc"].unit == "own"
    assert "--unit number" in refused(path, unit="percent").hint


def test_a_mix_of_shares_and_percent_is_refused(tmp_path: Path) -> None:
    assert (
        "some rows may be shares"
        in refused(write(tmp_path, [(*ROWS[0][:2], 0.9, 1), *ROWS[1:]])).message
    )


@pytest.mark.parametrize("margin", [0.0, -1.0, 101.0, float("nan")])
def test_a_margin_that_cannot_be_is_refused(tmp_path: Path, margin: float) -> None:
    assert "margin" in refused(write(tmp_path), margin=margin).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no rows"),
        (b"model,seed,val_acc\n", "no rows"),
        (b"model,seed,val_acc\nplain,0,90,7\n", "line 2 does not have 3 cells"),
        (b"model,seed,val_acc,val_acc\nplain,0,90,7\n", "two columns 'val_acc'"),
        (b"model,seed,val_acc\nplain,0,90\nplain,1,91\n", "nothing is compared"),
    ],
)
def test_a_file_that_holds_no_comparison_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    assert words in refused(path).message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no file or folder" in refused(tmp_path / "runs.csv").message


def test_the_report_makes_no_claim_about_a_recipe_that_nobody_knows(tmp_path: Path) -> None:
    written, _ = analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "reports")
    texts = "".join(
        (written.folder / name).read_text(encoding="utf-8") for name in ("report.md", "methods.tex")
    )
    claims = [
        "one-cycle",
        "cifar10",
        "30 epochs",
        "Optuna",
        "base recipe",
        "initialisation",
        "test set was",
        "optimizer",
    ]
    assert [claim for claim in claims if claim in texts] == []


def test_the_report_is_rebuilt_from_its_folder_byte_by_byte(tmp_path: Path) -> None:
    written, _ = analyze_table(
        write(tmp_path), **COLUMNS, train="train_acc", reports=tmp_path / "reports"
    )
    before = {
        name: (written.folder / name).read_bytes()
        for name in ("analysis.json", "effects.csv", "report.md")
    }
    again = rebuild(written.folder, into=tmp_path / "again")
    assert {name: (again.folder / name).read_bytes() for name in before} == before


def test_latex_tables_come_with_the_report(tmp_path: Path) -> None:
    written, _ = analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "reports")
    assert "mixup" in (written.folder / "effects.tex").read_text(encoding="utf-8")


def test_the_report_of_a_trained_study_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "runs"
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(load_study("dropout").to_toml(), encoding="utf-8")
    with pytest.raises(ReportError, match="which this one would replace"):
        analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "reports")


def test_the_study_of_a_table_cannot_be_run(tmp_path: Path, harness: Harness) -> None:
    written, _ = analyze_table(write(tmp_path), **COLUMNS, reports=tmp_path / "reports")
    done = harness(
        "ablate", "--study", str(written.folder / "study.toml"), "--profile", "quick", "--dry-run"
    )
    assert (done.returncode, "there is nothing to run" in done.stderr) == (2, True)


def test_the_command_prints_verdicts_and_the_seeds_that_would_settle_them(
    tmp_path: Path, harness: Harness
) -> None:
    rows = [(*row[:2], row[2] + (row[1] % 2) * (row[0] == "ema") * 2, 1) for row in ROWS]
    done = harness("analyze", str(write(tmp_path, rows)), *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{Path('reports/runs/index.html')}\n"
    assert "would settle it" in done.stderr
    assert read_analysis(tmp_path / "reports" / "runs").seeds_needed.keys() == {"ema"}


def test_an_error_is_a_sentence_and_a_hint_with_status_2(tmp_path: Path, harness: Harness) -> None:
    done = harness(
        "analyze", str(write(tmp_path)), *OPTIONS[:-4], "--baseline", "none", "--margin", "1"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "\n\nhint: arms there are: plain, mixup, ema" in done.stderr


def test_no_torch_and_no_optuna_are_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.commands.analyze import analyze_table;"
        f"analyze_table({str(write(tmp_path))!r}, **{COLUMNS!r}, reports=Path({str(tmp_path / 'reports')!r}));"
        "print(*[name for name in ('torch', 'torchvision', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


# --- direction
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "val_loss",
        "error",
        "test_err",
        "top1err",
        "ValLoss",
        "cross-entropy",
        "RMSE",
        "perplexity",
        "logloss",
        "TestError",
        "WER",
    ],
)
def test_a_column_named_like_a_loss_has_to_say_its_direction(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    head, _, rest = path.read_text().partition("\n")
    path.write_text(head.replace(COLUMNS["metric"], name) + "\n" + rest)
    with pytest.raises(ReportError, match="named like something that should be small") as caught:
        read(path, metric=name)
    assert "--lower-is-better" in caught.value.hint
    assert "--higher-is-better" in caught.value.hint
    for lower, words in ((True, "lower is better"), (False, "higher is better")):
        runs = read(path, metric=name, lower_is_better=lower)
        assert runs.metrics[name].higher_is_better is not lower
        assert any(words in note for note in runs.notes)


@pytest.mark.parametrize("name", ["acc", "score", "f1", "transfer", "glossy", "timely"])
def test_a_column_of_another_name_is_taken_as_a_score_and_that_is_said(
    tmp_path: Path, name: str
) -> None:
    path = write(tmp_path)
    head, _, rest = path.read_text().partition("\n")
    path.write_text(head.replace(COLUMNS["metric"], name) + "\n" + rest)
    assert any(
        "higher is better; --lower-is-better says otherwise" in note
        for note in read(path, metric=name).notes
    )


@pytest.mark.parametrize("lower", [True, False])
def test_every_table_of_verdicts_says_which_end_is_better(tmp_path: Path, lower: bool) -> None:
    written, _ = analyze_table(
        write(tmp_path), **COLUMNS, lower_is_better=lower, reports=tmp_path / "reports"
    )
    words = "lower is better" if lower else "higher is better"
    for name in ("report.md", "index.html", "effects.tex"):
        pages = list(written.folder.rglob(name))
        assert pages
        assert all(words in page.read_text(encoding="utf-8") for page in pages)


def test_the_command_in_a_report_run_as_printed_makes_that_report(
    tmp_path: Path, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    file = write(tmp_path / "a folder")
    odd = {
        "margin": 0.123456789,
        "alpha": 0.01,
        "train": "train_acc",
        "unit": "percent",
        "lower_is_better": True,
    }
    written, _ = analyze_table(file, **{**COLUMNS, **odd, "common_seeds": True})
    (command,) = read_folder(written.folder).provenance.commands
    before = {path.name: path.read_bytes() for path in written.folder.glob("*.*")}

    words = shlex.split(command)
    assert words[0] == "harness"
    shutil.rmtree(tmp_path / "reports")
    done = harness(*words[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in written.folder.glob("*.*")} == before
