"""Studies with planted results: real studies, recipes, trials and curves, made up without training anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.report import Material, Provenance
from harness.study.arms import arms
from harness.study.cells import CONTROL_OFFSET, cells
from harness.study.recipe import Recipe
from harness.study.schedules import schedule_table
from harness.study.study import Study, load_study, parse_study
from harness.study.trial import Cell, Curve, Environment, Outcomes, Trial

FINGERPRINT = "fa5410c0ffee0001"
CLASSES = (
    "top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
ENVIRONMENT = Environment(
    harness="0.1.0",
    commit="0123abc",
    python="3.11.7",
    torch="2.15.0",
    optuna="5.0.0",
    platform="Linux",
    device="cpu",
    cpu="Example CPU @ 2.1 GHz",
    threads=1,
    precision="fp32",
    engine="eager",
)


@dataclass(frozen=True)
class Planted:
    """What is planted in an arm: shifts of accuracy and gap in pp, a factor on the seconds."""

    accuracy: float = 0.0
    gap: float = 0.0
    slower: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Everything that differs between planted studies."""

    effects: Mapping[str, Planted] = field(default_factory=dict)
    accuracy: float = 78.0
    gap: float = 14.0
    sd: float = 0.55
    seed_sd: float = 0.5
    val: int = 1000
    states: Mapping[tuple[str, int], str] = field(default_factory=dict)  # (arm, seed) -> state
    drop: frozenset[tuple[str, int]] = frozenset()  # never finished
    images: bool = True
    curves: bool = True


AUGMENTATIONS = Plan(
    effects={
        "no-crop": Planted(-2.4, 5.9, 0.93),
        "no-flip": Planted(-1.5, 2.1, 0.98),
        "no-jitter": Planted(0.1, 0.7, 0.86),
        "none": Planted(-3.1, 7.6, 0.80),
        "only-crop": Planted(-0.9, 3.0, 0.85),
        "only-flip": Planted(-2.2, 5.2, 0.82),
        "only-jitter": Planted(-3.0, 6.7, 0.94),
        "cutout": Planted(1.2, -4.6, 1.06),
    }
)


def material(study: Study, plan: Plan | None = None) -> Material:
    """Return what a report is made of for a study under a profile, with results planted."""
    plan = plan or Plan()
    planned = arms(study)
    recipe_arm = {arm.recipe.id: arm.name for arm in reversed(planned)}
    trials, curves, outcomes = [], {}, {}
    labels_N = np.arange(plan.val) % len(CLASSES)
    for cell in cells(study, FINGERPRINT):
        arm = recipe_arm[cell.recipe.id]
        control = cell.seed >= CONTROL_OFFSET
        if (arm, cell.seed) in plan.drop:
            continue
        rng = np.random.default_rng(
            [cell.seed, planned.index(next(a for a in planned if a.name == arm)) * (not control)]
        )
        state = plan.states.get((arm, cell.seed), "complete")
        trial, curve, outcome = _trial(
            cell, plan.effects.get(arm, Planted()), plan=plan, rng=rng, state=state
        )
        trials.append(trial)
        if plan.curves:
            curves[cell.key] = curve
        if outcome is not None and plan.images:
            outcomes[cell.key] = outcome
    return Material(
        study=study,
        trials=tuple(trials),
        curves=curves,
        outcomes=outcomes,
        labels_N=labels_N if plan.images else None,
        classes=CLASSES,
        samples=_samples([arm.name for arm in planned]) if plan.images else {},
        provenance=Provenance(
            commands=(
                "pip install harness",
                f"harness ablate --study {study.name} --profile {study.profile}",
            ),
            data="Fashion-MNIST subset, 14 x 14: 300 training, 1,000 validation, 1,000 test images",
            data_fingerprint=FINGERPRINT,
            hardware="Example CPU @ 2.1 GHz, 2 cores",
            harness="0.1.0",
            commit="0123abc",
        ),
        incomplete=bool(plan.drop),
    )


def _trial(
    cell: Cell, planted: Planted, *, plan: Plan, rng: np.random.Generator, state: str
) -> tuple[Trial, Curve, Outcomes | None]:
    shared = np.random.default_rng([cell.seed, 77]).normal(0, plan.seed_sd)
    accuracy = (plan.accuracy + planted.accuracy + shared + rng.normal(0, plan.sd)) / 100
    correct_N = rng.permutation(plan.val) < round(accuracy * plan.val)
    accuracy = float(correct_N.mean())
    gap = (plan.gap + planted.gap + rng.normal(0, plan.sd)) / 100
    epochs = (
        cell.recipe.train.epochs if state == "complete" else max(1, cell.recipe.train.epochs // 3)
    )
    curve = _curve(
        cell.recipe,
        val=accuracy,
        train=min(accuracy + gap, 1.0),
        extra_gap=planted.gap,
        epochs=epochs,
        rng=rng,
    )
    seconds = 1.2 * planted.slower * (1 + 0.03 * rng.normal())
    outcome = Outcomes(val_correct_N=correct_N, test_correct_N=correct_N[::-1])
    metrics = {
        "accuracy": accuracy,
        "train_accuracy": accuracy + gap,
        "online_accuracy": accuracy + gap - 0.03,
        "test_accuracy": accuracy - 0.004,
        "gap": gap,
        "nll": curve.val_loss[-1],
        "train_nll": curve.train_loss[-1],
        "loss_gap": curve.val_loss[-1] - curve.train_loss[-1],
        "ece": 0.03 + gap / 4,
    }
    done = state == "complete"
    trial = Trial.model_validate(
        {
            "cell": cell.key,
            "seed": cell.seed,
            "recipe": cell.recipe,
            "state": state,
            "metrics": metrics if done else {},
            "epochs": epochs,
            "train_seconds": seconds,
            "eval_seconds": 0.2,
            "images_per_second": cell.recipe.train.epochs * 300 / seconds,
            "peak_mib": 310.0,
            "params": 61_706,
            "mflop_per_image": 4.2,
            "data_fingerprint": FINGERPRINT,
            "environment": ENVIRONMENT,
            "error": "" if done else f"the loss is not a finite number from step {epochs * 6} on",
            "cause": "" if done else "code",
            "started": f"2026-11-23T18:00:{cell.seed % 60:02d}Z",
            "worker": "1",
        }
    )
    return trial, curve, outcome if done else None


def _curve(
    recipe: Recipe,
    *,
    val: float,
    train: float,
    extra_gap: float,
    epochs: int,
    rng: np.random.Generator,
) -> Curve:
    whole = recipe.train.epochs
    t_E = (np.arange(epochs) + 1) / whole
    rise_E = (1 - np.exp(-5 * t_E)) / (1 - math.exp(-5))
    jitter_E = rng.normal(0, 0.004, epochs) * (1 - 0.8 * t_E)
    train_accuracy_E = 0.1 + (train - 0.1) * rise_E**1.1
    val_accuracy_E = 0.1 + (val - 0.1) * (1 - np.exp(-8 * t_E)) / (1 - math.exp(-8)) + jitter_E
    train_loss_E = 0.02 + 2.2 * np.exp(-5.2 * t_E)
    turn = 0.35 + 0.25 * math.exp(-max(extra_gap + 5, 0) / 6)
    val_loss_E = (
        0.62
        + 1.6 * np.exp(-9 * t_E)
        + (0.5 + extra_gap / 18) * np.clip(t_E - turn, 0, None)
        + jitter_E
    )
    rates = [rate for rate, _ in schedule_table(recipe.schedule, whole * 6)][5::6]

    def column(values_E: npt.NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(float(value) for value in values_E)

    return Curve(
        train_loss=column(train_loss_E),
        train_accuracy=column(train_accuracy_E),
        online_loss=column(train_loss_E + 0.1),
        online_accuracy=column(train_accuracy_E - 0.03),
        val_loss=column(val_loss_E),
        val_accuracy=column(val_accuracy_E),
        learning_rate=tuple(rates[:epochs]),
        grad_norm=column(1 / (1 + t_E)),
        clipped_share=column(0.5 * t_E),
        seconds=column(1.2 * t_E),
    )


def _samples(names: list[str]) -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:14, 0:14]
    found = {}
    for index, name in enumerate(names):
        images = []
        for k in range(8):
            shape = (
                (x - 6.5) ** 2 / (9 + 3 * (k % 3)) + (y - 6.5) ** 2 / (22 - 2 * k) < 1.2
            ).astype(float)
            shade = shape * (150 + 12 * k) + rng.normal(0, 6, shape.shape)
            moved = np.roll(shade, ((index + k) % 3 - 1, (index * k) % 3 - 1), axis=(0, 1))
            if name == "cutout":
                moved[3 + k % 4 : 7 + k % 4, 4:8] = 0
            images.append(np.clip(moved, 0, 255).astype(np.uint8)[..., None])
        found[name] = np.stack(images)
    return found


def augmentations(**changes: object) -> Material:
    """Return the built-in study `augmentations` under quick, finished, with effects like those of real runs."""
    study = load_study("augmentations").under("quick")
    return material(study, Plan(**{**AUGMENTATIONS.__dict__, **changes}))


def study_of(raw: Mapping[str, object], *, name: str = "planted") -> Study:
    """Return a small study from its parsed TOML, under the profile quick."""
    defaults = {"schema": 1, "question": "What does it change?", "margin_pp": 1.0, "seeds": 5}
    return parse_study({**defaults, **raw}, name=name).under(
        "quick", seeds=int(str(raw.get("seeds", 5)))
    )


def one_arm(seeds: int = 5) -> Material:
    """Return a study that is only a baseline."""
    return material(study_of({"design": "arms", "seeds": seeds}))


def many_arms(count: int = 40) -> Material:
    """Return a study of many arms."""
    hand = [
        {"name": f"dropout {i / 50:.2f}", "set": {"model.dropout": i / 50}}
        for i in range(1, count)
        if i != 13
    ]
    effects = {arm["name"]: Planted(math.sin(i) * 2, math.cos(i) * 3) for i, arm in enumerate(hand)}
    return material(study_of({"design": "arms", "arms": hand}), Plan(effects=effects, images=False))  # type: ignore[arg-type]


def html_names() -> Material:
    """Return a study whose names would break a page that does not escape them."""
    hand = [
        {
            "name": '<script>alert("x")</script>',
            "set": {"model.dropout": 0.1},
            "why": "<b>bold</b> & {{ jinja }}",
        },
        {"name": "a & b | `c` <i>", "set": {"model.dropout": 0.4}},
        {"name": "100 % _under_ $x$ \\n #1 ~ ^", "set": {"model.dropout": 0.5}},
    ]
    return material(
        study_of({"design": "arms", "arms": hand, "question": "Is <em>this</em> & that | safe?"})
    )


def factorial(factors: int = 5, seeds: int = 5) -> Material:
    """Return a full factorial of switches."""
    names = ["crop", "flip", "decay", "clip", "dropout"][:factors]
    fields = {
        "crop": ("augment.crop", 0, 1),
        "flip": ("augment.flip", "none", "random"),
        "decay": ("optimizer.weight_decay", 0.0, 1e-4),
        "clip": ("optimizer.grad_clip", 0.0, 0.1),
        "dropout": ("model.dropout", 0.0, 0.25),
    }
    raw = {
        "design": "factorial",
        "seeds": seeds,
        "factors": [
            {"name": n, "field": fields[n][0], "off": fields[n][1], "on": fields[n][2]}
            for n in names
        ],
    }
    study = study_of(raw)
    worth = {
        "crop": (1.8, -3.0),
        "flip": (1.1, -1.5),
        "decay": (0.0, 0.1),
        "clip": (0.2, 0.0),
        "dropout": (-0.2, -0.6),
    }
    effects = {}
    for arm in arms(study):
        off = [f.name for f in study.factors if arm.components.get(f.name) == f.off]
        effects[arm.name] = Planted(
            -sum(worth[n][0] for n in off), -sum(worth[n][1] for n in off), 1 - 0.03 * len(off)
        )
    return material(study, Plan(effects=effects, images=False))


def sweep() -> Material:
    """Return a sweep over a numeric factor."""
    levels = [0.0, 0.1, 0.25, 0.4, 0.55, 0.7]
    study = study_of(
        {
            "design": "sweep",
            "seeds": 6,
            "factors": [{"name": "dropout", "field": "model.dropout", "levels": levels}],
        }
    )
    effects = {
        f"dropout={level:g}": Planted(-18 * (level - 0.3) ** 2 + 0.2, -9 * (level - 0.25))
        for level in levels
    }
    return material(study, Plan(effects=effects))


def all_failed() -> Material:
    """Return a study of which every trial diverged."""
    study = study_of(
        {"design": "arms", "seeds": 3, "arms": [{"name": "hot", "set": {"schedule.max_lr": 10.0}}]}
    )
    states = {(arm.name, seed): "diverged" for arm in arms(study) for seed in range(3)}
    return material(study, Plan(states=states))


def with_looks(done: int = 5) -> Material:
    """Return a study with declared looks of which ``done`` seeds are complete and two arms left at the first look."""
    hand = [
        {"name": name, "set": {"model.dropout": value}}
        for name, value in (("low", 0.1), ("high", 0.6), ("middle", 0.3))
    ]
    raw = {
        "schema": 1,
        "question": "How much dropout?",
        "margin_pp": 1.0,
        "seeds": 10,
        "looks": [5, 10],
        "design": "arms",
    }
    raw |= {"arms": hand, "profiles": {"quick": {"seeds": 10, "looks": [5, 10]}}}
    study = parse_study(raw, name="looks").under("quick")
    drop = {(name, seed) for name in ("low", "high") for seed in range(5, 10)}
    drop |= {(name, seed) for name in ("reference", "middle") for seed in range(done, 10)}
    effects = {"low": Planted(-4.0, 3.0), "high": Planted(-5.0, -2.0), "middle": Planted(0.4, 0.2)}
    return material(study, Plan(effects=effects, drop=frozenset(drop)))
