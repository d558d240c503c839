"""Tables as tools leave them: known, proposed, and judged as scipy judges them, without a cell changed by hand.

The files lie in ``tests/data/tables``; ``make.py`` there says how they were drawn.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis import Analysis, analyze
from harness.analysis.cells import numbers
from harness.analysis.comparison import compare
from harness.analysis.runs_table import Runs, read_runs, runs_of
from harness.analysis.sources import TableSource, read_source
from harness.analysis.table_rows import given_faults
from harness.commands.analyze import look_at
from harness.errors import HarnessError, ReportError, UsageError
from harness.study.trial import Trial

TABLES = Path(__file__).parent.parent / "data" / "tables"

# file: (words that say what it is, arm that is better or worse than its baseline, its verdict)
LOOK_ALIKES = {
    "wandb.csv": ("a W&B export of runs", "mixup", "better"),
    "wandb-pairs.csv": ("a W&B export of runs", "mixup", "better"),
    "six-data-sets.csv": ("text separated by commas", "pfa", "worse"),
    "with-means.csv": ("text separated by commas", "mixup", "better"),
    "domainbed": ("{folder}/results.jsonl", "IRM", "worse"),
    "algoperf": ("trial_{trial}/measurements.csv", "shampoo", "better"),
    "dopamine.json": ("records under their keys", "C51", "better"),
    "curves.csv": ("text separated by commas", "ppo-no-gae", "worse"),
    "mlflow.csv": ("an MLflow table of runs", "mixup", "better"),
    "optuna.log": ("Optuna trials", "lion", "better"),
    "cv-results.csv": ("288 candidates x 5 splits", "0.1, 0.001, sigmoid, none, True", "worse"),
    "runs.csv.gz": ("text separated by commas", "mixup", "better"),
    "lightning_logs": ("a Lightning log", "mixup", "better"),
    "hf": ("a Hugging Face trainer_state.json", "frozen", "worse"),
    # of the same kinds
    "keras": ("{file}_seed{seed}.csv", "mixup", "better"),
    "mlruns": ("an MLflow folder", "mixup", "better"),
    "runs.tsv.xz": ("text separated by tabs", "mixup", "better"),
    "runs.parquet": ("Parquet", "mixup", "better"),
    "semicolons.csv": ("semicolons, Windows-1252", "mixup", "better"),
    "excel-utf16.txt": ("tabs, UTF-16", "mixup", "better"),
    "means.csv": ("text separated by commas", "mixup", "better"),
    "wide.csv": ("text separated by commas", "mixup", "better"),
}


def analysed(runs: Runs) -> Analysis:
    return analyze(runs.study, runs.trials, metrics=runs.metrics, seeds=runs.seeds)


def effect(analysis: Analysis, term: str) -> Any:
    (found,) = [e for e in analysis.effects if e.term == term and e.metric == analysis.primary]
    return found


def read(path: Path | str, **columns: Any) -> Runs:
    return read_runs(path, **columns)


def source(*names: str) -> TableSource:
    return read_source([TABLES / name for name in names])


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def columns(**changes: Any) -> dict[str, Any]:
    usual = {"arm": "model", "seed": "seed", "metric": "acc", "baseline": "a", "margin": 0.5}
    return {**usual, **changes}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_table_is_named_and_the_proposed_command_judges_it(name: str) -> None:
    told, arm, verdict = LOOK_ALIKES[name]
    look = look_at(TABLES / name)
    assert told in look.source.sentence
    assert look.options.missing == ()
    assert {choice.option for choice in look.choices} >= {"arm", "metric", "baseline", "margin"}
    assert all(choice.why for choice in look.choices)
    assert effect(analysed(runs_of(look.source, look.options)), arm).verdict == verdict


def test_a_workbook_is_read(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    del tmp_path
    look = look_at(TABLES / "runs.xlsx")
    assert "an Excel workbook, sheet 'Results'" in look.source.sentence
    assert effect(analysed(runs_of(look.source, look.options)), "mixup").verdict == "better"


# Runs that diverged, whichever way the rows of a run become one


def histories(lost: tuple[int, ...]) -> str:
    """Two rows a run, arms a and b over six seeds; the runs of b at some seeds are nan throughout."""
    rng = np.random.default_rng(5)
    rows = ["model,seed,epoch,acc"]
    for arm, level in (("a", 90.0), ("b", 93.0)):
        for seed in range(6):
            for epoch in (1, 2):
                score = level + epoch + rng.normal(0, 0.2)
                gone = arm == "b" and seed in lost
                rows.append(f"{arm},{seed},{epoch},{'nan' if gone else f'{score:.3f}'}")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("way", [{"last": "epoch"}, {"best": "acc"}])
def test_a_run_of_nan_alone_diverged_in_its_last_row_and_in_its_best(
    tmp_path: Path, way: dict[str, str]
) -> None:
    path = write(tmp_path, histories((1, 4)))
    found = effect(analysed(read(path, **columns(**way))), "b")
    assert (found.verdict, "unstable (2 of 6)" in found.note) == ("", True)


@pytest.mark.parametrize("policy", ["mean", "first"])
def test_a_repeated_run_of_which_one_diverged_is_not_its_finite_mean(
    tmp_path: Path, policy: str
) -> None:
    text = histories(()).replace("b,2,1,", "b,2,1,nan ").replace("nan 9", "nan#")
    rows = [line.split("#")[0] for line in text.splitlines()]
    path = write(tmp_path, "\n".join(rows) + "\n")
    found = effect(analysed(read(path, **columns(duplicates=policy))), "b")
    assert (found.verdict, "unstable (1 of 6)" in found.note) == ("", True)


def test_a_nan_of_a_file_stays_one_where_another_file_lacks_the_column(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for arm in "abc":
        for seed in range(5):
            folder = tmp_path / "runs" / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            shown: dict[str, float] = {"acc": 90.0 + rng.normal(0, 0.2), "loss": 0.1}
            if (arm, seed) == ("b", 4):
                shown["acc"] = float("nan")
            if (arm, seed) == ("c", 4):
                del shown["acc"]
            (folder / "metrics.json").write_text(json.dumps(shown), encoding="utf-8")
    pattern = str(tmp_path / "runs" / "{arm}" / "seed-{seed}" / "metrics.json")
    found = effect(analysed(read(pattern, **columns(arm="arm", seed="", unpaired=True))), "b")
    assert (found.verdict, "unstable (1 of 5)" in found.note) == ("", True)


# Two tables


def two_arms(folder: Path, name: str, first: str, scores: list[float]) -> Analysis:
    rows = [f"a,{first}{i},{90 + 0.01 * i}" for i in range(len(scores))]
    rows += [f"x,{first}{i},{score}" for i, score in enumerate(scores)]
    return analysed(read(write(folder, "model,seed,acc\n" + "\n".join(rows), name), **columns()))


@pytest.mark.parametrize("cell", ["{} %", "{}% ± 0.4", "{}% ± 0.4%"])
def test_a_percent_sign_is_seen_wherever_it_stands(cell: str) -> None:
    frame = pd.DataFrame({"acc": [cell.format(93.1 + k) for k in range(3)]})
    found = numbers(frame, "acc", "runs.csv")
    assert found.percent
    assert found.floats.tolist() == [93.1, 94.1, 95.1]


def test_arms_of_any_length_and_order_are_named_by_their_baseline(tmp_path: Path) -> None:
    long = "resnet50d with random erasing, mixup and a cosine schedule of 300 epochs, "
    rows = [
        f'"{arm}",{seed},{90 + seed / 10 + k}'
        for k, arm in enumerate((long + "a", long + "b", "z"))
        for seed in range(3)
    ]
    path = write(tmp_path, "model,seed,acc\n" + "\n".join(rows))
    look = look_at(path)
    assert given_faults(look.source, replace(look.options, metric="", margin=0.0)) == []


def test_seeds_of_other_names_are_no_pairs(tmp_path: Path) -> None:
    """Both tables count theirs from 0; sorted by score, rows would pair the best with the best."""
    one, other = sorted([91.0, 92.5, 90.2, 93.1, 91.8]), sorted([90.4, 91.9, 90.0, 92.6, 91.1])
    a = two_arms(tmp_path, "a.csv", "cifar-", one)
    b = two_arms(tmp_path, "b.csv", "birds-", other)
    found = next(d for d in compare(a, b).differences if d.arm == "x")
    expected = stats.ttest_ind(other, one, equal_var=False)
    assert (found.test, found.verdict) == ("welch", "unresolved")
    assert found.p == pytest.approx(expected.pvalue, abs=1e-6)
    same = two_arms(tmp_path, "c.csv", "cifar-", other)
    assert next(d for d in compare(a, same).differences if d.arm == "x").test == "paired"


def in_parts(folder: Path, scores: list[float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for part, more in (("train", 0.05), ("validation", 0.0)):
        with SummaryWriter(str(folder / part)) as writer:
            for step, score in enumerate(scores):
                writer.add_scalar("acc", score + more, step)


def in_one_place(folder: Path, scores: list[float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    # a run that was resumed has two files
    for steps in (range(2), range(2, len(scores))):
        with SummaryWriter(str(folder)) as writer:
            for step in steps:
                writer.add_scalar("val/acc", scores[step], step)


def by_add_scalars(folder: Path, scores: list[float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, score in enumerate(scores):
            writer.add_scalar("loss", 1 - score, step)
            writer.add_scalars("acc", {"train": score + 0.05, "val": score}, step)


def with_hyperparameters(folder: Path, scores: list[float]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, score in enumerate(scores):
            writer.add_scalar("val/acc", score, step)
        settings = {"net": folder.parent.name, "seed": int(folder.name[-1])}
        writer.add_hparams(settings, {"hparam/last": scores[-1]})


@pytest.mark.parametrize(
    ("log", "metric", "train"),
    [
        (in_one_place, "val/acc", ""),
        (in_parts, "validation_acc", "train_acc"),
        (by_add_scalars, "acc_val", "acc_train"),
        (with_hyperparameters, "val/acc", ""),
    ],
)
def test_event_files_are_read(
    tmp_path: Path, log: Callable[[Path, list[float]], None], metric: str, train: str
) -> None:
    pytest.importorskip("tensorboard")
    draw = np.random.default_rng(2)
    for arm in ("base", "wide"):
        for seed in range(4):
            scores = 0.8 + 0.02 * np.arange(3) + 0.03 * (arm == "wide") + draw.normal(0, 0.002, 3)
            log(tmp_path / "logs" / arm / f"seed_{seed}", scores.tolist())
    look = look_at(tmp_path / "logs")
    assert "8 runs as {folder}/seed_{seed}" in look.source.sentence
    assert (look.options.metric, look.options.train) == (metric, train)
    assert (look.options.seed, look.obstacle) == (("seed",), None)
    assert effect(analysed(runs_of(look.source, look.options)), "wide").verdict == "better"


# --- verdicts against scipy


def test_pairs_of_a_wandb_export_are_the_paired_t_of_scipy() -> None:
    frame = pd.read_csv(TABLES / "wandb.csv")
    wide = frame[frame["State"] == "finished"].pivot_table(
        index="seed", columns="method", values="val/acc"
    )
    expected = stats.ttest_rel(wide["mixup"], wide["baseline"])
    look = look_at(TABLES / "wandb.csv")
    found = effect(analysed(runs_of(look.source, look.options)), "mixup")
    interval = expected.confidence_interval(0.95)
    assert (found.p, found.low, found.high, found.n) == pytest.approx(
        (expected.pvalue, interval.low, interval.high, 6)
    )


def test_groups_without_seeds_are_welch_of_scipy_with_holm() -> None:
    frame = pd.read_csv(TABLES / "runs.csv.gz")
    groups = {name: own["test_acc"] for name, own in frame.groupby("model")}
    p = {
        arm: stats.ttest_ind(groups[arm], groups["baseline"], equal_var=False).pvalue
        for arm in ("mixup", "ema")
    }
    runs = read(
        TABLES / "runs.csv.gz", arm="model", metric="test_acc", baseline="baseline", margin=0.5
    )
    found = analysed(runs)
    smaller = min(p, key=lambda arm: p[arm])
    assert runs.study.pairing == "none"
    assert {arm: effect(found, arm).p for arm in p} == pytest.approx(p)
    assert effect(found, smaller).p_holm == pytest.approx(min(1.0, 2 * p[smaller]))
    assert any(check.name == "pairing" for check in found.checks)


def test_means_give_the_groups_of_their_runs() -> None:
    from_means = read(
        TABLES / "means.csv",
        arm="model",
        metric="mean",
        sd="std",
        n="count",
        baseline="baseline",
        margin=0.5,
    )
    from_runs = read(
        TABLES / "runs.csv.gz", arm="model", metric="test_acc", baseline="baseline", margin=0.5
    )
    one, other = effect(analysed(from_means), "mixup"), effect(analysed(from_runs), "mixup")
    # the table of means is rounded to three decimals
    assert (one.estimate, one.low, one.high) == pytest.approx(
        (other.estimate, other.low, other.high), abs=2e-3
    )
    assert (one.verdict, one.n) == (other.verdict, other.n) == ("better", 6)


def test_a_number_of_runs_or_an_sd_is_no_score(tmp_path: Path) -> None:
    table = write(tmp_path, "model,mean,std,n\nbase,0.8,0.01,5\nmixup,0.82,0.012,6\n")
    options = look_at(table).options
    assert (options.metric, options.sd, options.n) == ("mean", "std", "n")


def test_a_seed_by_its_name_may_lack_runs(tmp_path: Path) -> None:
    rows = [f"{arm},{seed},0.8{seed}" for arm in ("base", "mixup") for seed in range(4)]
    table = write(tmp_path, "\n".join(["params_model,params_seed,value", *rows[:-1]]))
    assert look_at(table).options.seed == ("params_seed",)


def test_means_in_cells_need_the_number_of_runs() -> None:
    asked = {"arm": "model", "metric": "top-1 acc", "baseline": "baseline", "margin": 0.5}
    with pytest.raises(UsageError, match="without the number of runs"):
        read(TABLES / "means-in-cells.csv", **asked)
    assert effect(analysed(read(TABLES / "means-in-cells.csv", **asked, n="6")), "mixup").n == 6


def test_a_seed_counts_once_over_data_sets_by_its_mean_and_in_each_by_itself() -> None:
    frame = pd.read_csv(TABLES / "six-data-sets.csv")
    wide = frame.pivot_table(index=["dataset", "seed"], columns="method", values="accuracy")
    runs = read(
        TABLES / "six-data-sets.csv",
        arm="method",
        seed="seed",
        dataset="dataset",
        metric="accuracy",
        baseline="lasso",
        margin=0.5,
    )
    found = analysed(runs)
    means, coil = wide.groupby("seed").mean(), wide.loc["coil"]
    over = stats.ttest_rel(means["cae"], means["lasso"])
    within = stats.ttest_rel(coil["cae"], coil["lasso"])
    interval = over.confidence_interval(0.95)
    cae = effect(found, "cae")
    assert (cae.n, cae.p, cae.low, cae.high) == pytest.approx(
        (20, over.pvalue, 100 * interval.low, 100 * interval.high)
    )
    assert effect(found, "cae on coil").p == pytest.approx(within.pvalue)
    assert any("it counts once, by its mean over them (20 seeds" in note for note in runs.notes)
    assert len([e for e in found.effects if e.kind == "dataset"]) == 12


def many_sets(
    folder: Path, sets: int, *, seed: Callable[[int, int], str] = lambda _, s: str(s)
) -> Path:
    """A table in which a seed scores the same on every data set, give or take a step that the data set has for all."""
    noise = np.random.default_rng(5).normal(90, 1, (2, 6))
    rows = [
        f"{'ab'[k]},{seed(d, s)},set{d},{noise[k, s] + 0.4 * k - d}\n"
        for d in range(sets)
        for k in range(2)
        for s in range(6)
    ]
    return write(folder, "model,seed,data,acc\n" + "".join(rows))


def test_copies_of_a_data_set_buy_no_certainty(tmp_path: Path) -> None:
    one, three = (
        effect(analysed(read(many_sets(tmp_path, sets), **columns(dataset="data"))), "b")
        for sets in (1, 3)
    )
    assert three.n == one.n == 6
    assert (three.p, three.low, three.high) == pytest.approx((one.p, one.low, one.high))


def test_seeds_that_data_sets_do_not_share_are_counted_within_each(tmp_path: Path) -> None:
    path = many_sets(tmp_path, 2, seed=lambda d, s: str(100 * d + s))
    runs = read(path, **columns(dataset="data"))
    assert len(runs.seeds) == 6
    assert any("data sets share no seed" in note for note in runs.notes)


def test_a_seed_that_lacks_a_data_set_is_left_out_where_asked_for(tmp_path: Path) -> None:
    path = many_sets(tmp_path, 2)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ReportError, match=r"no row for b \(seed 5 on set1\)") as caught:
        read(path, **columns(dataset="data"))
    assert "the 5 seeds that every arm has on every data set" in caught.value.hint
    assert read(path, **columns(dataset="data", common_seeds=True)).seeds == (0, 1, 2, 3, 4)


def test_disjoint_seeds_are_not_paired_and_it_is_said(tmp_path: Path) -> None:
    rows = "".join(
        f"{arm},{10 * k + s},{90 + k + 0.1 * s}\n" for k, arm in enumerate("ab") for s in range(5)
    )
    runs = read(write(tmp_path, "model,seed,acc\n" + rows), **columns())
    assert runs.study.pairing == "none"
    assert "no arm shares a seed with a" in runs.notes[-1]


# --- runs as people have them


def test_several_columns_name_an_arm_and_a_seed(tmp_path: Path) -> None:
    rows = "".join(
        f"{lr},{wd},{fold},{s},{0.9 + 0.001 * s + (lr > 0.1) * 0.01 + fold * 0.002 + wd * s * 0.001}\n"
        for lr in (0.1, 0.2)
        for wd in (0, 1)
        for fold in (0, 1)
        for s in range(3)
    )
    path = write(tmp_path, "lr,wd,fold,seed,acc\n" + rows)
    runs = read(path, **columns(arm=["lr", "wd"], seed=["fold", "seed"], baseline="lr=0.1,wd=0"))
    assert [arm.name for arm in runs.study.arms] == ["lr=0.1, wd=1", "lr=0.2, wd=0", "lr=0.2, wd=1"]
    assert len(runs.seeds) == 6
    assert runs.study.seed_names[0] == "0 / 0"


@pytest.mark.parametrize("form", ["s{}", "seed_{}", "run-{}"])
def test_seeds_with_a_word_before_them_keep_their_numbers(tmp_path: Path, form: str) -> None:
    rows = "".join(f"{arm},{form.format(s)},{90 + s}\n" for arm in "ab" for s in (3, 7, 42))
    assert read(write(tmp_path, "model,seed,acc\n" + rows), **columns()).seeds == (3, 7, 42)


def test_conditions_choose_rows(tmp_path: Path) -> None:
    rows = "".join(
        f"{arm},{s},{90 + s},{state},{e}\n"
        for arm in "ab"
        for s in range(3)
        for e in (1, 2)
        for state in (["done"] if s else ["done", "crashed"])
    )
    path = write(tmp_path, "model,seed,acc,state,epoch\n" + rows)
    assert len(read(path, **columns(where=["state=done", "epoch>=2"])).trials) == 6
    with pytest.raises(ReportError, match="no row has state = dun") as caught:
        read(path, **columns(where=["state=dun"]))
    assert "done" in caught.value.hint
    with pytest.raises(UsageError, match="compares nothing"):
        read(path, **columns(where=["state"]))


def test_the_last_row_of_a_run_or_its_best_counts_and_the_best_is_called_optimistic(
    tmp_path: Path,
) -> None:
    rows = "".join(
        f"{arm},{s},{e},{90 + s + (2 if e == 1 else 0)}\n"
        for arm in "ab"
        for s in range(3)
        for e in range(3)
    )
    path = write(tmp_path, "model,seed,epoch,acc\n" + rows)
    last, best = read(path, **columns(last="epoch")), read(path, **columns(best="acc"))
    assert last.trials[0].metrics["acc"] == pytest.approx(0.90)
    assert best.study.metric == "acc (best of a run, optimistic)"
    assert best.trials[0].metrics[best.study.metric] == pytest.approx(0.92)
    with pytest.raises(ReportError) as caught:
        read(path, **columns())
    assert "--last epoch" in caught.value.hint


@pytest.mark.parametrize(("policy", "score"), [("first", 0.90), ("last", 0.94), ("mean", 0.92)])
def test_duplicates_are_settled_by_the_declared_policy(
    tmp_path: Path, policy: Any, score: float
) -> None:
    rows = "".join(f"{arm},{s},90\n{arm},{s},94\n" for arm in "ab" for s in range(3))
    runs = read(write(tmp_path, "model,seed,acc\n" + rows), **columns(duplicates=policy))
    assert [trial.metrics["acc"] for trial in runs.trials] == pytest.approx([score] * 6)


def test_the_newest_of_two_runs_counts_whatever_their_order() -> None:
    look = look_at(TABLES / "mlflow.csv")
    runs = runs_of(look.source, look.options)
    (rerun,) = [t for t in runs.trials if (t.label, t.seed) == ("ema", 1)]
    frame = pd.read_csv(TABLES / "mlflow.csv")
    both = frame[(frame["params.method"] == "ema") & (frame["params.seed"] == 1)]
    assert (
        rerun.metrics["metrics.val_acc"]
        == both.sort_values("start_time")["metrics.val_acc"].iloc[-1]
    )


@pytest.mark.parametrize("cell", ["", "N/A", "null", "-"])
def test_a_cell_without_a_score_is_a_run_that_is_not_there(tmp_path: Path, cell: str) -> None:
    rows = "".join(
        f"{arm},{s},{cell if (arm, s) == ('b', 2) else 90 + s}\n" for arm in "ab" for s in range(4)
    )
    path = write(tmp_path, "model,seed,acc\n" + rows)
    with pytest.raises(ReportError, match=r"no row for b \(seed 2\)"):
        read(path, **columns())
    assert read(path, **columns(common_seeds=True)).seeds == (0, 1, 3)


def test_common_seeds_say_which_diverged_runs_they_leave_out(tmp_path: Path) -> None:
    scores = {("a", 4): "nan", ("b", 2): "nan"}  # and b has no seed 4
    rows = "".join(
        f"{arm},{s},{scores.get((arm, s), 90 + s)}\n"
        for arm in "ab"
        for s in range(5)
        if (arm, s) != ("b", 4)
    )
    runs = read(write(tmp_path, "model,seed,acc\n" + rows), **columns(common_seeds=True))
    (said,) = (note for note in runs.notes if "left out for every arm" in note)
    assert said.startswith("1 seed (1 row) left out")
    assert "1 run without a finite score among them (" in said
    assert sum(trial.state == "diverged" for trial in runs.trials) == 1


def test_percent_signs_and_points_are_numbers_together(tmp_path: Path) -> None:
    rows = "".join(f"{arm},{s},{90 + s}{'.50%' if s else '.5'}\n" for arm in "ab" for s in range(3))
    runs = read(write(tmp_path, "model,seed,acc\n" + rows), **columns())
    assert sorted({trial.metrics["acc"] for trial in runs.trials}) == pytest.approx(
        [0.905, 0.915, 0.925]
    )


def test_a_comma_that_may_be_two_things_is_asked_about(tmp_path: Path) -> None:
    rows = "".join(f"{arm};{s};9,{100 + s}\n" for arm in "ab" for s in range(3))
    path = write(tmp_path, "model;seed;reward\n" + rows)
    with pytest.raises(ReportError, match="may be a decimal or a thousand"):
        read(path, **columns(metric="reward"))
    runs = read(path, **columns(metric="reward", decimal="comma"))
    assert runs.trials[0].metrics["reward"] == pytest.approx(9.1)


# --- units


def test_losses_are_never_percent_by_themselves_and_any_margin_goes(tmp_path: Path) -> None:
    rows = "".join(
        f"{arm},{s},{40 + 3 * (arm == 'b') + s + 0.3 * (s * (arm == 'b'))}\n"
        for arm in "ab"
        for s in range(5)
    )
    path = write(tmp_path, "model,seed,perplexity\n" + rows)
    runs = read(path, **columns(metric="perplexity", margin=2.0, lower_is_better=True))
    found = analysed(runs)
    assert (found.margin, effect(found, "b").unit, effect(found, "b").verdict) == (
        2.0,
        "own",
        "worse",
    )
    wide = read(path, **columns(metric="perplexity", margin=250.0, lower_is_better=True))
    assert analysed(wide).margin == 250.0


def test_a_margin_that_looks_like_a_share_is_asked_about(tmp_path: Path) -> None:
    rows = "".join(f"{arm},{s},{90 + s}\n" for arm in "ab" for s in range(3))
    path = write(tmp_path, "model,seed,acc\n" + rows)
    with pytest.raises(UsageError, match=r"is --margin 0.003 a share") as caught:
        read(path, **columns(margin=0.003))
    assert "--margin 0.3" in caught.value.hint
    assert read(path, **columns(margin=0.003, unit="percent")).study.margin_pp == 0.003


# --- sources


def test_a_pattern_names_the_parts_of_paths(tmp_path: Path) -> None:
    for arm in ("a", "b"):
        for seed in range(3):
            folder = tmp_path / "out" / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps({"test": {"acc": 0.9 + seed / 100}}))
    runs = read(
        f"{tmp_path}/out/{{variant}}/seed-{{s}}/metrics.json",
        **columns(arm="variant", seed="s", metric="test.acc"),
    )
    assert (runs.seeds, len(runs.trials)) == ((0, 1, 2), 6)
    with pytest.raises(UsageError, match="no file matches"):
        read(f"{tmp_path}/out/{{variant}}/run-{{s}}/metrics.json", **columns())


def test_several_files_and_globs_are_one_table() -> None:
    several = read_source([f"{TABLES}/keras/*.csv"])
    assert len(several.frame) == 36
    assert {"file", "seed"} <= set(several.columns)
    assert len(source("keras/ema_seed0.csv", "keras/mixup_seed0.csv").frame) == 6


def test_a_zip_of_a_folder_is_read_as_the_folder(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "runs"), "zip", TABLES / "hf")
    look = look_at(archive)
    assert "15 files" in look.source.sentence
    assert effect(analysed(runs_of(look.source, look.options)), "frozen").verdict == "worse"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no rows"),
        (b"\x80\x04\x95", "is a pickle"),
        (b"\x1f\x8b\x08broken", "could not read"),
        (b"PK\x03\x04broken", "could not read"),
        (b"PAR1broken", "could not read"),
        (b'{"a": [1, 2', "not valid JSON"),
        (b'{"a": 1}\n{"a": ', "line 2 is not valid JSON"),
        (b"SQLite format 3\x00broken", "could not read"),
        (bytes(range(256)) * 9, "is not text"),
    ],
)
def test_a_file_that_is_no_table_is_one_error_with_a_hint(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "runs.any"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=words) as caught:
        look_at(path)
    assert caught.value.hint


def test_a_folder_with_several_tables_a_run_asks_which(tmp_path: Path) -> None:
    for seed in range(3):
        for name in ("one.csv", "two.csv"):
            (tmp_path / f"seed{seed}").mkdir(exist_ok=True)
            write(tmp_path / f"seed{seed}", "model,acc\na,90\nb,91\n", name)
    with pytest.raises(ReportError, match=r"one\.csv, two\.csv") as caught:
        look_at(tmp_path)
    assert "/**/one.csv" in caught.value.hint


# --- size


def test_ten_thousand_arms_are_told_what_is_sensible_and_top_keeps_the_correction(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(4)
    arms = np.repeat(np.arange(10_000), 3)
    frame = pd.DataFrame(
        {
            "model": arms,
            "seed": np.tile(np.arange(3), 10_000),
            "acc": draw.normal(90, 0.5, 30_000).round(3),
        }
    )
    frame.to_csv(tmp_path / "many.csv", index=False)
    with pytest.raises(ReportError, match="9,999 arms against 0") as caught:
        read(tmp_path / "many.csv", **columns(baseline="0"))
    assert "--top 20" in caught.value.hint
    runs = read(tmp_path / "many.csv", **columns(baseline="0", top=5))
    found = analysed(runs)
    best = max((e for e in found.effects if e.metric == "acc"), key=lambda e: -(e.p or 1.0))
    assert (len(runs.study.arms), runs.study.family) == (5, 9_999)
    assert best.p_holm == pytest.approx(min(1.0, 9_999 * (best.p or 1.0)))


# --- proposals run as they are printed


def scored(arm: str, seed: int) -> float:
    """A share that depends on the arm and a little on the seed, in no straight line."""
    return 0.9 + 0.02 * (arm == "mixup") + 0.003 * ((7 * seed + len(arm)) % 5) + 0.0007 * seed


def long_table(folder: Path, header: str, *rows: str) -> Path:
    """A table of two arms and six seeds; a row's ``{arm}``, ``{seed}``, ``{score}`` and ``{loss}`` are filled in."""
    cells = [
        row.format(arm=arm, seed=seed, score=scored(arm, seed), loss=1 - scored(arm, seed))
        for arm in ("base", "mixup")
        for seed in range(6)
        for row in rows
    ]
    return write(folder, "\n".join([header, *cells]) + "\n")


def as_printed(path: Path) -> Analysis:
    """What the command that is printed for a table says of it."""
    look = look_at(path)
    assert look.obstacle is None
    assert look.blanks == ()
    words = shlex.split(look.command)
    repeated: dict[str, list[str]] = {}
    for flag, value in zip(words[3:], [*words[4:], "--"], strict=True):
        if flag.startswith("--"):
            repeated.setdefault(flag[2:].replace("-", "_"), []).append(value)
    given: dict[str, Any] = {
        name: values if name in ("arm", "seed", "dataset", "where") else values[0]
        for name, values in repeated.items()
    }
    for switch in ("unpaired", "common_seeds", "lower_is_better"):
        if switch in given:
            given[switch] = True
    return analysed(read(path, **{**given, "margin": float(given["margin"])}))


@pytest.mark.parametrize(
    "name",
    [
        *("seed", "Rand Seed", "RandomSeed", "random_state", "rng", "trial_seed", "run seed"),
        *("cfg.torchSeed", "Seed #", "seed_value", "Fold", "rep"),
    ],
)
def test_a_seed_is_known_by_its_name_however_it_is_written(tmp_path: Path, name: str) -> None:
    path = long_table(tmp_path, f"model,{name},acc", "{arm},{seed},{score}")
    assert look_at(path).options.seed == (name,)
    assert effect(as_printed(path), "mixup").n == 6


@pytest.mark.parametrize(
    ("val", "train"),
    [
        ("val/acc", "train/acc"),
        ("test_accuracy", "train_accuracy"),
        ("acc", "acc_train"),
        ("Val Loss", "Training Loss"),
        ("eval.top1", "train.top1"),
    ],
)
def test_the_training_score_is_proposed_beside_the_deciding_one(
    tmp_path: Path, val: str, train: str
) -> None:
    path = long_table(
        tmp_path,
        f"model,seed,{train},{val}",
        "{arm},{seed},{score},{loss}".replace("loss", "score"),
    )
    options = look_at(path).options
    assert (options.metric, options.train) == (val, train)


def test_a_train_column_of_something_else_is_not_proposed(tmp_path: Path) -> None:
    path = long_table(tmp_path, "model,seed,train_loss,val_acc", "{arm},{seed},{loss},{score}")
    assert look_at(path).options.train == ""


# name: (header, rows of every arm and seed, options proposed, runs an arm)
ODD_TABLES: dict[str, tuple[str, tuple[str, ...], dict[str, Any], int]] = {
    "twice": (
        "model,seed,acc",
        ("{arm},{seed},{score}", "{arm},{seed},{score}1"),
        {"duplicates": "mean"},
        6,
    ),
    "epochs start again": (
        "model,epoch,acc",
        ("{arm},0,0.1", "{arm},1,0.5", "{arm},2,{score}"),
        {"last": "epoch", "seed": ()},
        6,
    ),
    "runs by their ids": (
        "id,model,step,acc",
        ("{arm}x{seed}z,{arm},10,0.1", "{arm}x{seed}z,{arm},20,{score}"),
        {"last": "step", "seed": ("id",)},
        6,
    ),
    "a setting without seeds": (
        "model,lr,acc",
        ("{arm},0.1,{score}", "{arm},0.2,{score}"),
        {"arm": ("model", "lr")},
        6,
    ),
    "two settings": (
        "lr,wd,seed,acc",
        ("0.1,0,{seed}{arm},{score}", "0.2,0.01,{seed}{arm},{score}"),
        {"arm": ("lr",)},
        12,
    ),
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_the_printed_command_gets_past_rows_as_people_have_them(tmp_path: Path, name: str) -> None:
    header, rows, proposed, count = ODD_TABLES[name]
    path = long_table(tmp_path, header, *rows)
    options = look_at(path).options
    assert {key: getattr(options, key) for key in proposed} == proposed
    found = as_printed(path)
    assert {e.n for e in found.effects if e.kind == "arm"} == {count}


def test_switches_that_were_crossed_are_arms_and_no_data_sets(tmp_path: Path) -> None:
    path = long_table(
        tmp_path,
        "use_ema,use_mixup,seed,acc",
        *(f"{ema},{mixup},{{seed}}{{arm}},{{score}}" for ema in (0, 1) for mixup in (0, 1)),
    )
    options = look_at(path).options
    assert (set(options.arm), options.dataset) == ({"use_ema", "use_mixup"}, ())


def test_rows_of_training_are_left_out_where_splits_lie_under_each_other(tmp_path: Path) -> None:
    rows = [f"{{arm}},{{seed}},{split},{{score}}" for split in ("train", "val", "test")]
    path = long_table(tmp_path, "model,seed,split,acc", *rows)
    assert look_at(path).options.where == ("split=val",)
    assert effect(as_printed(path), "mixup").n == 6


def test_a_missing_row_and_an_empty_cell_are_left_out_and_said(tmp_path: Path) -> None:
    path = long_table(tmp_path, "model,seed,acc", "{arm},{seed},{score}")
    path.write_text(path.read_text().replace("mixup,4,", "mixup,,"))
    look = look_at(path)
    assert (look.options.where, look.options.common_seeds) == (("seed!=",), True)
    assert any("line 12 is empty" in choice.why for choice in look.choices)
    assert effect(as_printed(path), "mixup").n == 5


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "diverged", "Crashed"])
def test_a_run_that_came_to_nothing_is_counted_and_its_line_named(
    tmp_path: Path, word: str
) -> None:
    path = long_table(tmp_path, "model,seed,acc", "{arm},{seed},{score}")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], f"mixup,2,{word}", *lines[10:]]))
    assert any("1 run without a finite score (line 10)" in note for note in look_at(path).notes)
    assert effect(as_printed(path), "mixup").note == "unstable (1 of 6)"


def test_text_among_numbers_is_named_with_its_line_and_left_out(tmp_path: Path) -> None:
    path = long_table(tmp_path, "model,seed,acc", "{arm},{seed},{score}")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], "mixup,2,oops", *lines[10:]]))
    look = look_at(path)
    assert look.options.where == ("acc!=oops",)
    assert any("line 10: 'oops'" in choice.why for choice in look.choices)
    assert effect(as_printed(path), "mixup").n == 5


def test_a_score_that_never_changes_is_said_to_and_is_a_tie(tmp_path: Path) -> None:
    path = long_table(tmp_path, "model,seed,acc", "{arm},{seed},0.9")
    assert any("acc is 0.9 in every run" in note for note in look_at(path).notes)
    assert "tie" in effect(as_printed(path), "mixup").note


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,seed,acc\n" + "".join(f"base,{s},0.9{s}\n" for s in range(5)), "model is 'base'"),
        ("seed,acc\n" + "".join(f"{s},0.9{s}\n" for s in range(5)), "no column names arms"),
        ("model,seed,acc\n" + "a,0,nan\nb,0,nan\na,1,nan\nb,1,nan\n", "holds no finite number"),
        (
            "model,epoch,acc\n" + "".join(f"{a},{e},0.{e}\n" for e in range(3) for a in "aabb"),
            "which rows are one run",
        ),
    ],
)
def test_a_table_that_gives_no_report_says_why_in_the_look(
    tmp_path: Path, text: str, words: str
) -> None:
    obstacle = look_at(write(tmp_path, text)).obstacle
    assert obstacle is not None
    assert words in obstacle.message
    assert obstacle.hint


def test_a_word_in_capitals_is_explained(tmp_path: Path) -> None:
    look = look_at(write(tmp_path, "model,acc\nbase,93.1 ± 0.4\nmixup,94.0 ± 0.3\n"))
    assert "--n N" in look.command
    assert [word for word, _ in look.blanks] == ["N"]


def test_every_wrong_column_is_named_at_once_with_what_was_meant(tmp_path: Path) -> None:
    path = long_table(tmp_path, "model,seed,acc", "{arm},{seed},{score}")
    with pytest.raises(ReportError) as caught:
        look_at(path, arm="modle", metric="ac", baseline="base")
    for words in ("did you mean 'model'", "did you mean 'acc'", "--margin is not given"):
        assert words in caught.value.message
    with pytest.raises(ReportError, match=r"no row's arm is 'bsae' \(did you mean 'base'\?\)"):
        look_at(path, arm="model", baseline="bsae")


# --- forms of headers


@pytest.mark.parametrize(
    "text",
    [
        ",acc,acc,acc\n,mean,std,count\nmodel,,,\nbase,0.90,0.01,5\nmixup,0.93,0.01,5\n",
        "model,acc,acc,acc\n,mean,std,count\nbase,0.90,0.01,5\nmixup,0.93,0.01,5\n",
        ",acc,acc,acc\n,mean,std,count\nbase,0.90,0.01,5\nmixup,0.93,0.01,5\n",
        "of,acc,acc,acc\nwhat,mean,std,count\nmodel,,,\nbase,0.90,0.01,5\nmixup,0.93,0.01,5\n",
        "model,acc,runs\nbase,0.90 (0.01),5\nmixup,0.93 (0.01),5\n",
        "| model | acc | n |\n|---|---|---|\n| base | 0.90 ± 0.01 | 5 |\n| mixup | **0.93** ± 0.01 | 5 |\n",
    ],
)
def test_means_are_read_under_every_header_that_pandas_writes(tmp_path: Path, text: str) -> None:
    expected = stats.ttest_ind_from_stats(93, 1, 5, 90, 1, 5, equal_var=False)
    found = effect(as_printed(write(tmp_path, text)), "mixup")
    assert (found.estimate, found.p) == pytest.approx((3.0, expected.pvalue))


@pytest.mark.parametrize(
    "header",
    [
        "model,0,1,2,3",
        "model,seed0,seed1,seed2,seed3",
        ",acc_s0,acc_s1,acc_s2,acc_s3",
        "seed,0,1,2,3\nmodel,,,,",
        "model,run 1,run 2,run 3,run 4",
        "model,seed_0_acc,seed_1_acc,seed_2_acc,seed_3_acc",
    ],
)
def test_a_column_a_seed_is_read_under_every_name(tmp_path: Path, header: str) -> None:
    rows = "base,0.90,0.91,0.92,0.93\nmixup,0.93,0.94,0.95,0.965\n"
    found = effect(as_printed(write(tmp_path, f"{header}\n{rows}")), "mixup")
    assert (found.n, found.estimate) == (4, pytest.approx(3.125))


def test_rows_or_columns_of_data_sets_are_pairs_and_it_is_said(tmp_path: Path) -> None:
    rows = "dataset,ERM,MixUp\nPACS,80.0,81.0\nVLCS,81.0,82.3\nTerraInc,60.0,61.2\n"
    columns_of = "model,cifar10,svhn,mnist\nERM,80.0,81.0,60.0\nMixUp,81.0,82.3,61.2\n"
    p = stats.ttest_rel([81.0, 82.3, 61.2], [80.0, 81.0, 60.0]).pvalue
    for text in (rows, columns_of):
        path = write(tmp_path, text)
        assert any("a pair is one dataset" in note for note in look_at(path).notes)
        assert effect(as_printed(path), "MixUp").p == pytest.approx(p)


@pytest.mark.parametrize("name", ["wandb.csv", "means.csv", "six-data-sets.csv"])
def test_the_trials_of_a_table_are_what_checking_them_would_give(name: str) -> None:
    look = look_at(TABLES / name)
    for trial in runs_of(look.source, look.options).trials:
        assert Trial.model_validate(dict(trial), strict=True) == trial


# --- what other tools leave, beside Python's trackers


def paired_t(path: Path, term: str) -> Any:
    """n, difference and p of an arm by the command that the look prints."""
    found = effect(as_printed(path), term)
    return found.n, found.estimate, found.p


def drawn(shift: float) -> list[float]:
    return [float(80 + shift + 3 * np.sin(7.0 * s + shift)) for s in range(6)]


BASE, OTHER = drawn(0.0), drawn(4.0)
SCIPY = (
    len(BASE),
    pytest.approx(np.mean(OTHER) - np.mean(BASE)),
    pytest.approx(stats.ttest_rel(OTHER, BASE).pvalue),
)
RUNS = [(arm, s, x) for arm, xs in (("base", BASE), ("svm", OTHER)) for s, x in enumerate(xs)]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ('"model" "fold" "acc"\n', '"{i}" "{arm}" {s} {x!r}\n'),  # R's write.table
        ('"model"\t"fold"\t"acc"\n', '"{i}"\t"{arm}"\t{s}\t{x!r}\n'),
        ("'Key_Run','Key_Scheme','Percent_correct'\n", "{s},'{arm}',{x!r}\n"),  # Weka
        ("model,seed,acc\n", "{arm},{s},\\textbf{{{x!r}}}\n"),
        ("model,seed,acc\n", "{arm},{s},${x!r}$\n"),
        ("flow_name,task_id,acc\n", "{arm},{s},{x!r}\n"),  # each a pair, though no seed
        ("model,example_id,acc\n", "{arm},{s},{x!r}\n"),
    ],
)
def test_tables_of_other_languages_are_paired(tmp_path: Path, header: str, row: str) -> None:
    rows = "".join(row.format(i=i, arm=arm, s=s, x=x) for i, (arm, s, x) in enumerate(RUNS, 1))
    assert paired_t(write(tmp_path, header + rows), "svm") == SCIPY


def test_a_repetition_and_its_fold_are_one_seed_together(tmp_path: Path) -> None:
    rows = "".join(f"{arm},{s // 3},{s % 3},{x!r}\n" for arm, s, x in RUNS)
    assert paired_t(write(tmp_path, "model,rep,fold,acc\n" + rows), "svm") == SCIPY


def test_the_rows_of_a_file_without_a_clock_are_one_run_and_not_many(tmp_path: Path) -> None:
    for arm, s, x in RUNS:
        folder = tmp_path / "logs" / arm / f"CartPole-v1_{s}"
        folder.mkdir(parents=True)
        rows = "".join(f"{x + d},200,{i}.5\n" for i, d in enumerate((-1.0, 0.5, 0.5)))
        write(folder, '#{"env_id": "CartPole-v1"}\nr,l,t\n' + rows, "0.monitor.csv")
    assert paired_t(tmp_path / "logs", "svm") == SCIPY


def test_a_numbered_file_a_run_in_a_folder_an_arm_is_read(tmp_path: Path) -> None:
    for arm, s, x in RUNS:
        folder = tmp_path / "logs" / arm
        folder.mkdir(parents=True, exist_ok=True)
        rows = f"0,{x - 9}\n1,{x!r}\n"
        write(folder, "epoch,val_accuracy\n" + rows, f"run{s}.log")
    assert paired_t(tmp_path / "logs", "svm") == SCIPY


def test_settings_that_timm_leaves_beside_its_summary_are_columns(tmp_path: Path) -> None:
    for i, (arm, s, x) in enumerate(RUNS):
        folder = tmp_path / "train" / f"202403{10 + i}-105500-{arm}-224"
        folder.mkdir(parents=True)
        write(folder, f"model: {arm}\nseed: {s}\n", "args.yaml")
        write(folder, f"epoch,eval_loss,eval_top1\n0,1.1,{x - 9}\n1,1.0,{x!r}\n", "summary.csv")
    assert paired_t(tmp_path / "train", "svm") == SCIPY


def test_average_precision_is_taken_before_a_loss(tmp_path: Path) -> None:
    for arm, s, x in RUNS:
        folder = tmp_path / "runs" / f"{arm}_seed{s}"
        folder.mkdir(parents=True)
        lines = [{"iteration": 9, "total_loss": 1.0 + s}, {"iteration": 19, "bbox/AP": x / 2}]
        write(folder, "".join(json.dumps(line) + "\n" for line in lines), "metrics.json")
    options = look_at(tmp_path / "runs").options
    assert (options.metric, options.lower_is_better) == ("bbox/AP", None)


def test_a_sheet_of_notes_before_the_results_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"note": ["of March"], "who": ["me"]}).to_excel(book, sheet_name="README")
        frame = pd.DataFrame(RUNS, columns=["Method", "Run", "Test Acc (%)"])
        frame.to_excel(book, sheet_name="results", index=False)
    assert "left out: 'README'" in read_source([path]).sentence
    assert paired_t(path, "svm") == SCIPY


def test_keys_that_are_known_data_sets_are_no_arms(tmp_path: Path) -> None:
    scores = {"gcn": [80.0, 81.5, 80.7], "gat": [82.0, 83.1, 82.9]}
    tree = {name: {arm: {"acc": xs} for arm, xs in scores.items()} for name in ("cora", "pubmed")}
    options = look_at(write(tmp_path, json.dumps(tree), "results.json")).options
    assert (options.arm, options.dataset) == (("key 2",), ("key",))


def test_means_in_latex_are_scores_where_a_pair_is_a_data_set(tmp_path: Path) -> None:
    text = (
        "Method,Cora,Citeseer,Pubmed\nGCN,81.5 $\\pm$ 0.3,70.9 $\\pm$ 0.5,79.0 $\\pm$ 0.4\n"
        "GAT,\\textbf{83.0} $\\pm$ 0.7,\\textbf{72.5} $\\pm$ 0.7,79.0 $\\pm$ 0.3\n"
    )
    path = write(tmp_path, text)
    p = stats.ttest_rel([83.0, 72.5, 79.0], [81.5, 70.9, 79.0]).pvalue
    assert paired_t(path, "GAT") == (3, pytest.approx(3.1 / 3), pytest.approx(p))
    assert any("the sd given with each score is not used" in note for note in look_at(path).notes)
