"""A finished study of every design that a report can be of, with planted results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis import Retuning, Setting, analyze
from harness.analysis.runs_table import read_runs
from harness.analysis.tuning_facts import Confirmed, Finalist, SearchTrial, TuningFacts
from harness.report import Material, Provenance
from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.study import parse_study
from harness.study.trial import Trial
from tests.report import planted

FACTORS = [
    {"name": "crop", "field": "augment.crop", "off": 0, "on": 1},
    {"name": "flip", "field": "augment.flip", "off": "none", "on": "random"},
    {"name": "decay", "field": "optimizer.weight_decay", "off": 0.0, "on": 1e-4},
    {"name": "dropout", "field": "model.dropout", "off": 0.0, "on": 0.25},
]
WORTH = {"crop": 3.0, "flip": 2.0, "decay": 0.0, "dropout": 0.2}
HAND = [{"name": "wide", "set": {"model.hidden": 256}}]


def switched(design: str, *, factors: int = 3, **more: Any) -> Material:
    """Return a study whose components are worth what ``WORTH`` says, each point of accuracy with two of the gap."""
    study = planted.study_of({"design": design, "factors": FACTORS[:factors], **more})
    effects = {}
    for arm in arms(study):
        off = sum(WORTH[f.name] for f in study.factors if arm.components.get(f.name) == f.off)
        effects[arm.name] = planted.Planted(-off, 2 * off)
    return planted.material(study, planted.Plan(effects=effects, sd=0.2, images=False))


def variants() -> Material:
    """Return a study of arms written by hand, one of them better."""
    hand = [*HAND, {"name": "low", "set": {"model.dropout": 0.1}}]
    study = planted.study_of({"design": "arms", "arms": hand})
    effects = {"wide": planted.Planted(4.0, 3.0)}
    return planted.material(study, planted.Plan(effects=effects, sd=0.2, images=False))


def searched() -> Material:
    """Return a search with a winner, of which one finalist was run again, on three seeds."""
    found = planted.material(
        planted.study_of(
            {
                "design": "arms",
                "seeds": 3,
                "arms": [
                    {"name": "trial 1", "set": {"model.dropout": 0.4, "model.width": 0.5}},
                    {"name": "width=0.5 alone", "set": {"model.width": 0.5}},
                ],
            }
        ),
        planted.Plan(effects={"trial 1": planted.Planted(5.0)}, sd=0.1, images=False),
    )
    states = ("complete", "complete", "pruned", "complete", "failed")
    history = tuple(
        SearchTrial(
            number=i,
            state=state,
            value=0.7 + 0.01 * i if state == "complete" else None,
            epoch=40 if state == "complete" else 20,
            epochs=40,
            seconds=1.2,
            params={"model.dropout": 0.1 * i, "model.width": 0.5},
        )
        for i, state in enumerate(states)
    )
    facts = TuningFacts(
        sampler="tpe",
        pruner="median, one look after 65 % of the epochs",
        budget=5,
        history=history,
        best={"model.dropout": 0.4, "model.width": 0.5},
        best_value=0.73,
        reference_value=0.7,
        space={"model.dropout": "0 to 0.5", "model.width": "0.25, 0.5"},
        finalists=(
            Finalist(name="reference", search=0.7, fresh=0.7, n=3, test=0.7),
            Finalist(
                name="trial 1", overrides={"model.dropout": 0.4, "model.width": 0.5}, search=0.73,
                fresh=0.72, n=3, chosen=True, test=0.71,
            ),
            Finalist(
                name="width=0.5 alone", overrides={"model.width": 0.5}, fresh=0.70, n=3, test=0.70
            ),
        ),
        at_size=("width=0.5 alone",),
        confirmed=Confirmed(
            name="trial 1", n=3, fresh=0.05, fresh_low=0.04, fresh_high=0.06, verdict="better",
            test=0.05, test_low=0.03, test_high=0.07, test_reads=9, improved=True,
        ),
        recipe="recipe.toml",
    )  # fmt: off
    return dataclasses.replace(found, tuning=facts)


def retuned() -> Material:
    """Return a sweep whose arms were retuned, after which its effects are smaller."""
    found = planted.sweep()
    study = found.study
    after = analyze(study, found.trials)
    settings = tuple(
        Setting(arm=arm.name, chosen={"schedule.max_lr": 0.004}, score=61.0, as_is=60.0, complete=2)
        for arm in arms(study)
    )
    retuning = Retuning(
        entries={"schedule.max_lr": "0.001 to 0.1, log"},
        tries=2,
        settings=settings,
        effects=tuple(e for e in after.effects if e.metric == "accuracy"),
        summaries=tuple(s for s in after.summaries if s.metric == "accuracy"),
    )
    return dataclasses.replace(found, retuning=retuning)


def scripted() -> Material:
    """Return a study that ran a training script."""
    raw: Mapping[str, Any] = {
        "question": "Does a higher rate help?",
        "command": ["python", "train.py", "--seed", "{seed}", "--lr={lr}"],
        "seeds": 4,
        "margin_pp": 1.0,
        "base": {"lr": 0.1},
        "arms": [{"name": "fast", "set": {"lr": 0.3}}],
    }
    study = parse_study(raw, name="mine").under("")
    rng = np.random.default_rng(3)
    trials = tuple(
        Trial(
            cell=cell.key,
            seed=cell.seed,
            recipe=cell.recipe,
            state="complete",
            metrics={
                "accuracy": 0.8 + 0.05 * (cell.recipe != study.base_recipe) + rng.normal(0, 0.002)
            },
            train_seconds=2.0,
        )
        for cell in cells(study, "")
    )
    commands = ("harness ablate --study mine",)
    return Material(study=study, trials=trials, provenance=Provenance(commands=commands))


def table(
    folder: Path, *, places: Sequence[str] = ("cifar",), by: Sequence[str] = ("seed",)
) -> Material:
    """Return a table of finished runs on some data sets, compared by its seeds, by both, or as two groups."""
    rows = [
        (place, arm, seed, 90.0 + shift + 0.1 * ((7 * seed + 3 * i + len(place)) % 5), 97.0)
        for place in places
        for seed in range(5)
        for i, (arm, shift) in enumerate((("plain", 0.0), ("mixup", 1.5)))
    ]
    path = folder / "runs.csv"
    lines = [("data", "model", "seed", "acc", "train"), *rows]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    columns: dict[str, Any] = {"arm": "model", "metric": "acc", "baseline": "plain"}
    columns |= {"seed": "seed"} if "seed" in by else {}
    columns |= {"dataset": "data"} if "data" in by else {}
    runs = read_runs(path, margin=0.5, train="train", unpaired=not by, **columns)
    words = [f"--{name} {value}" for name, value in columns.items()]
    words += [] if by else ["--unpaired"]
    command = f"harness analyze runs.csv {' '.join(words)} --margin 0.5 --train train"
    return Material(
        study=runs.study,
        trials=tuple(runs.trials),
        metrics=dict(runs.metrics),
        seeds=tuple(runs.seeds),
        provenance=Provenance(commands=(command,)),
    )


def single(folder: Path) -> Material:
    """Return a table of one run an arm, without a seed."""
    path = folder / "runs.csv"
    path.write_text("model,acc\nplain,90.1\nmixup,91.5\n", encoding="utf-8")
    runs = read_runs(path, arm="model", metric="acc", baseline="plain", margin=0.5)
    options = "--arm model --metric acc --baseline plain --margin 0.5 --unpaired"
    return Material(
        study=runs.study,
        trials=tuple(runs.trials),
        metrics=dict(runs.metrics),
        seeds=tuple(runs.seeds),
        provenance=Provenance(commands=(f"harness analyze runs.csv {options}",)),
    )


def reproduced() -> Material:
    """Return one arm without validation images, of whose recipe a write-up reports figures."""
    raw = {
        "design": "arms",
        "base": {"data.val": 0},
        "profiles": {"quick": {"data.val": 0}},
        "reported": {
            "metrics": {"train_accuracy": 0.98, "accuracy": 0.92},
            "onset_epoch": 30,
            "settings": {"data.train": 50_000, "train.batch_size": 50},
        },
    }
    return planted.material(planted.study_of(raw))


DESIGNS: dict[str, Callable[[Path], Material]] = {
    "leave-one-out": lambda _: switched("leave-one-out", arms=HAND),
    "both": lambda _: switched("both"),
    "add-one-in": lambda _: switched("add-one-in"),
    "factorial": lambda _: switched("factorial"),
    "fraction": lambda _: switched("fraction", factors=4),
    "sweep": lambda _: planted.sweep(),
    "arms": lambda _: variants(),
    "one arm": lambda _: planted.one_arm(),
    "one seed": lambda _: planted.one_arm(1),
    "tune": lambda _: searched(),
    "retuned": lambda _: retuned(),
    "script": lambda _: scripted(),
    "table": table,
    "data sets": lambda folder: table(folder, places=("cifar", "svhn"), by=("seed", "data")),
    "unpaired": lambda folder: table(folder, by=()),
    "one run an arm": single,
    "reproduction": lambda _: reproduced(),
}
