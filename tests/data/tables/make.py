"""Writes the tables of this folder again: small look-alikes of what widely used tools leave behind.

    python tests/data/tables/make.py

Every number is drawn here from one generator with a fixed seed. Nothing was downloaded. The Excel
file needs openpyxl.
"""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
ARMS = {"baseline": 0.0, "mixup": 1.6, "ema": 0.1}


def scores(draw, seeds, *, level=90.0, sd=0.3, shifts=ARMS):
    """Accuracies in percent by arm and seed, with a part that all arms of a seed share."""
    shared = draw.normal(0, sd, seeds)
    return {
        (arm, seed): level + shift + shared[seed] + draw.normal(0, sd)
        for arm, shift in shifts.items()
        for seed in range(seeds)
    }


def wandb(draw):
    rows, start = [], datetime(2025, 3, 1, 9, tzinfo=UTC)
    for i, ((arm, seed), score) in enumerate(scores(draw, 6).items()):
        crashed = (arm, seed) in (("mixup", 2), ("ema", 4))
        for again in range(1 + crashed):
            ended = not (crashed and not again)
            created = start + timedelta(hours=3 * i + 60 * again)
            rows.append(
                {
                    "Name": f"{('fresh', 'wild', 'calm')[i % 3]}-{('sun', 'lake')[i % 2]}-{len(rows) + 1}",
                    "State": "finished" if ended else "crashed",
                    "Notes": "",
                    "User": "someone",
                    "Tags": "",
                    "Created": created.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                    "Runtime": 3600 + 10 * i if ended else 214,
                    "Sweep": "",
                    "method": arm,
                    "seed": seed,
                    "lr": 0.1,
                    "epoch": 30 if ended else 3,
                    "train/loss": round(float(draw.uniform(0.05, 0.1)), 5),
                    "val/acc": round(score, 3) if ended else "",
                }
            )
    # the page lists the newest first
    frame = pd.DataFrame(rows[::-1])
    frame.to_csv(HERE / "wandb.csv", index=False, quoting=1)


def wandb_pairs(draw):
    rows = [
        {
            "Name": f"{arm}-s{seed + 1}",
            "State": "finished",
            "Group": arm,
            "pair": f"pair_{'abcdefgh'[seed]}",
            "Created": f"2025-04-0{seed + 1}T10:00:00.000Z",
            "Runtime": 100 + seed,
            "test_accuracy": f"{score:.2f}%",
        }
        for (arm, seed), score in scores(draw, 8).items()
    ]
    pd.DataFrame(rows).to_csv(HERE / "wandb-pairs.csv", index=False, quoting=1)


def six_data_sets(draw):
    rows = []
    for level, data in zip(
        (97, 88, 85, 62, 91, 78),
        ("mnist", "fashion", "coil", "isolet", "activity", "mice"),
        strict=True,
    ):
        for (arm, seed), score in scores(
            draw, 20, level=level, sd=0.8, shifts={"lasso": 0.0, "cae": 0.9, "pfa": -1.4}
        ).items():
            rows.append(
                {
                    "dataset": data,
                    "seed": seed,
                    "method": arm,
                    "accuracy": round(min(score, 100) / 100, 5),
                }
            )
    pd.DataFrame(rows).to_csv(HERE / "six-data-sets.csv", index=False)


def with_means(draw):
    lines = ["arm,seed,acc"]
    found = scores(draw, 5)
    for arm in ARMS:
        own = [found[arm, seed] for seed in range(5)]
        lines += [f"{arm},{seed},{score:.3f}" for seed, score in enumerate(own)]
        lines.append(f"# mean {arm}: {np.mean(own):.3f} +- {np.std(own, ddof=1):.3f}")
    (HERE / "with-means.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def domainbed(draw):
    for i, ((arm, seed), score) in enumerate(
        scores(draw, 4, level=82, shifts={"ERM": 0.0, "IRM": -2.5, "Mixup": 0.4}).items()
    ):
        folder = HERE / "domainbed" / f"{i:08x}{seed * 977:08x}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for step in (0, 100, 200):
            share = (
                round((score - 60 + 0.3 * step) / 100, 4) if step < 200 else round(score / 100, 4)
            )
            lines.append(
                json.dumps(
                    {
                        "args": {
                            "algorithm": arm,
                            "dataset": "PACS",
                            "hparams_seed": 0,
                            "seed": 1000 + i,
                            "test_envs": [0],
                            "trial_seed": seed,
                        },
                        "env0_in_acc": round(share + 0.01, 4),
                        "env0_out_acc": share,
                        "env1_out_acc": round(share + 0.02, 4),
                        "epoch": step / 50,
                        "hparams": {"lr": 5e-05, "batch_size": 32},
                        "loss": 1.0 / (1 + step),
                        "step": step,
                    }
                )
            )
        (folder / "results.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "done").write_text("done", encoding="utf-8")


def algoperf(draw):
    for workload, level in (("mnist", 0.4), ("wmt", 2.1)):
        for arm, shift in {"nadamw": 0.0, "shampoo": -0.06}.items():
            for trial in range(1, 6):
                folder = HERE / "algoperf" / arm / f"{workload}_jax" / f"trial_{trial}"
                folder.mkdir(parents=True, exist_ok=True)
                steps = [0, 50, 100]
                losses = level + shift + draw.normal(0, 0.01) + np.array([0.9, 0.3, 0.0])
                pd.DataFrame(
                    {
                        "global_step": steps,
                        "train/loss": (losses - 0.05).round(5),
                        "validation/loss": losses.round(5),
                        "total_duration": [1.0, 61.0, 119.0],
                    }
                ).to_csv(folder / "measurements.csv", index=False)
                (folder / "meta_data_0.json").write_text(
                    json.dumps({"workload": workload, "host": "x"}), encoding="utf-8"
                )


def dopamine(draw):
    found = {}
    for game, level in (("Asterix", 3000.0), ("Pong", 15.0)):
        found[game] = [
            {
                "Agent": arm,
                "Run": run,
                "Iteration": step,
                "Value": round(
                    float(level * (1 + shift) * (0.3 + 0.35 * step) + draw.normal(0, 0.04 * level)),
                    2,
                ),
            }
            for arm, shift in {"DQN": 0.0, "C51": 0.25, "Rainbow": 0.4}.items()
            for run in range(5)
            for step in range(3)
        ]
    (HERE / "dopamine.json").write_text(json.dumps(found), encoding="utf-8")


def curves(draw):
    rows = [
        {
            "algo": algo,
            "env_id": env,
            "seed": seed,
            "global_step": step,
            "episodic_return": round(
                float(
                    level * step / 3000 + shift * level * step / 3000 + draw.normal(0, 0.05 * level)
                ),
                2,
            ),
        }
        for env, level in (("CartPole-v1", 480.0), ("Acrobot-v1", 90.0))
        for algo, shift in {"ppo": 0.0, "ppo-no-gae": -0.2, "ppo-lstm": 0.02}.items()
        for seed in (1, 2, 3, 4, 5)
        for step in (1000, 2000, 3000)
    ]
    pd.DataFrame(rows).to_csv(HERE / "curves.csv", index=False)


def mlflow(draw):
    rows, start = [], datetime(2025, 5, 2, tzinfo=UTC)
    for i, ((arm, seed), score) in enumerate(scores(draw, 5).items()):
        for again in range(1 + ((arm, seed) == ("ema", 1))):
            rows.append(
                {
                    "run_id": f"{draw.integers(16**8):08x}",
                    "experiment_id": "1",
                    "status": "FINISHED",
                    "start_time": (start + timedelta(hours=i + 40 * again)).isoformat(sep=" "),
                    "metrics.val_acc": round(
                        (score - 3 * (again == 0 and (arm, seed) == ("ema", 1))) / 100, 5
                    ),
                    "metrics.train_loss": 0.01,
                    "params.method": arm,
                    "params.seed": seed,
                    "params.lr": 0.1,
                    "tags.mlflow.user": "someone",
                }
            )
    rows.append({**rows[3], "run_id": "dead0000", "status": "FAILED", "metrics.val_acc": ""})
    pd.DataFrame(rows[::-1]).to_csv(HERE / "mlflow.csv", index=False)


def mlruns(draw):
    for i, ((arm, seed), score) in enumerate(scores(draw, 4).items()):
        run = HERE / "mlruns" / "1" / f"{i:032x}"
        for kind in ("params", "tags", "metrics"):
            (run / kind).mkdir(parents=True, exist_ok=True)
        (run / "meta.yaml").write_text(
            f"run_id: {i:032x}\nrun_name: run-{i}\nstatus: 3\nstart_time: {1_746_000_000_000 + 1000 * i}\n",
            encoding="utf-8",
        )
        (run / "params" / "method").write_text(arm, encoding="utf-8")
        (run / "params" / "seed").write_text(str(seed), encoding="utf-8")
        (run / "tags" / "mlflow.user").write_text("someone", encoding="utf-8")
        (run / "metrics" / "val_acc").write_text(
            "".join(
                f"{1_746_000_000_000 + e} {(score - 4 + 2 * e) / 100:.5f} {e}\n" for e in range(3)
            ),
            encoding="utf-8",
        )


def optuna_journal(draw):
    import optuna

    path = HERE / "optuna.log"
    path.unlink(missing_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    space = {"optimizer": ["sgd", "adam", "lion"], "seed": [0, 1, 2, 3, 4]}
    found = scores(draw, 5, shifts={"sgd": 0.0, "adam": -0.2, "lion": 1.4})
    study = optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.GridSampler(space, seed=0),
        direction="maximize",
        study_name="optimizers",
    )
    study.optimize(
        lambda t: round(
            found[
                t.suggest_categorical("optimizer", space["optimizer"]),
                t.suggest_categorical("seed", space["seed"]),
            ]
            / 100,
            5,
        ),
        n_trials=15,
    )


def cv_results(draw):
    rows = []
    folds = draw.normal(0, 0.01, 5)
    grid = itertools.product(
        (0.01, 0.1, 1, 10),
        ("rbf", "poly", "linear", "sigmoid"),
        (0.001, 0.01, 0.1, 1, "auto", "scale"),
        (True, False),
        (None, 1.0, 2.0)[:1] + ("balanced", "c")[:2],
    )
    for c, kernel, gamma, shrinking, weight in itertools.islice(grid, 288):
        params = {
            "C": c,
            "class_weight": weight,
            "gamma": gamma,
            "kernel": kernel,
            "shrinking": shrinking,
        }
        level = 0.85 + 0.03 * (kernel == "rbf") - 0.1 * (kernel == "sigmoid") + 0.01 * np.log10(c)
        splits = np.round(level + folds + draw.normal(0, 0.008, 5), 6)
        rows.append(
            {
                "mean_fit_time": 0.01,
                "std_fit_time": 0.001,
                **{f"param_{k}": v for k, v in params.items()},
                "params": str(params),
                **{f"split{k}_test_score": v for k, v in enumerate(splits)},
                "mean_test_score": splits.mean(),
                "std_test_score": splits.std(),
            }
        )
    frame = pd.DataFrame(rows)
    frame["rank_test_score"] = frame["mean_test_score"].rank(ascending=False).astype(int)
    frame.to_csv(HERE / "cv-results.csv", float_format="%.6g")


def plain(draw):
    rows = [
        {"model": arm, "seed": seed, "test_acc": round(score, 3)}
        for (arm, seed), score in scores(draw, 6).items()
    ]
    return pd.DataFrame(rows)


def lightning(draw):
    for i, ((arm, seed), score) in enumerate(scores(draw, 4).items()):
        folder = HERE / "lightning_logs" / f"version_{i}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["epoch,step,train_loss_epoch,val_acc,val_loss"]
        for epoch in range(3):
            acc = (score - 6 + 3 * epoch) / 100
            lines.append(f"{epoch},{20 * epoch + 19},,{acc:.5f},{1 - acc:.5f}")
            lines.append(f"{epoch},{20 * epoch + 19},{0.5 / (epoch + 1):.5f},,")
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "hparams.yaml").write_text(
            f"arm: {arm}\nlr: 0.1\nseed: {seed}\n", encoding="utf-8"
        )


def hugging_face(draw):
    for (arm, seed), score in scores(
        draw, 5, level=86, shifts={"full": 0.0, "lora": -0.3, "frozen": -4.0}
    ).items():
        for step in (100, 200):
            folder = HERE / "hf" / arm / f"seed-{seed}" / f"checkpoint-{step}"
            folder.mkdir(parents=True, exist_ok=True)
            history = []
            for at in range(100, step + 1, 100):
                history.append(
                    {
                        "epoch": at / 100,
                        "grad_norm": 1.0,
                        "learning_rate": 1e-5,
                        "loss": 0.5 - at / 500,
                        "step": at,
                    }
                )
                history.append(
                    {
                        "epoch": at / 100,
                        "eval_accuracy": round((score - (200 - at) / 50) / 100, 5),
                        "eval_loss": 0.4,
                        "eval_runtime": 1.2,
                        "step": at,
                    }
                )
            if step == 200:
                history.append(
                    {
                        "epoch": 2.0,
                        "step": 200,
                        "total_flos": 1.0e15,
                        "train_loss": 0.2,
                        "train_runtime": 100.0,
                    }
                )
            state = {
                "best_metric": None,
                "epoch": step / 100,
                "global_step": step,
                "log_history": history,
                "max_steps": 200,
            }
            (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")


def keras(draw):
    for (arm, seed), score in scores(draw, 4).items():
        folder = HERE / "keras"
        folder.mkdir(exist_ok=True)
        lines = ["epoch,accuracy,loss,val_accuracy,val_loss"]
        lines += [
            f"{e},{(score + 1 - 2 * (2 - e)) / 100:.5f},{0.3 / (e + 1):.5f},{(score - 3 * (2 - e)) / 100:.5f},{0.5:.5f}"
            for e in range(3)
        ]
        (folder / f"{arm}_seed{seed}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    draw = np.random.default_rng(19)
    for make in (
        wandb,
        wandb_pairs,
        six_data_sets,
        with_means,
        domainbed,
        algoperf,
        dopamine,
        curves,
        mlflow,
        mlruns,
        optuna_journal,
        cv_results,
        lightning,
        hugging_face,
        keras,
    ):
        make(draw)
    runs = plain(draw)
    runs.to_excel(HERE / "runs.xlsx", index=False, sheet_name="Results")
    text = runs.to_csv(index=False)
    (HERE / "runs.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (HERE / "runs.tsv.xz").write_bytes(lzma.compress(runs.to_csv(index=False, sep="\t").encode()))
    runs.to_parquet(HERE / "runs.parquet", index=False)
    german = runs.rename(columns={"model": "Modell", "seed": "Lauf", "test_acc": "Genauigkeit acc"})
    (HERE / "semicolons.csv").write_bytes(
        (
            "Ergebnisse;;\r\n"
            + german.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
        )
        .replace("ema", "größer")
        .encode("cp1252")
    )
    (HERE / "excel-utf16.txt").write_bytes(
        runs.to_csv(index=False, sep="\t", lineterminator="\r\n").encode("utf-16")
    )
    means = (
        runs.groupby("model", sort=False)["test_acc"]
        .agg(["mean", "std", "count"])
        .round(3)
        .reset_index()
    )
    means.to_csv(HERE / "means.csv", index=False)
    written = [
        f"{row['model']},{row['mean']:.2f} ± {row['std']:.2f}" for _, row in means.iterrows()
    ]
    (HERE / "means-in-cells.csv").write_text(
        "model,top-1 acc\n" + "\n".join(written) + "\n", encoding="utf-8"
    )
    wide = runs.pivot_table(index="model", columns="seed", values="test_acc").reset_index()
    wide.columns = ["model", *(f"seed{k}" for k in range(6))]
    wide.to_csv(HERE / "wide.csv", index=False)


if __name__ == "__main__":
    main()
