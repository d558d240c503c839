"""Studies and trials with known effects, for tests of everything that reads results. Accuracies and effects in pp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.study.arms import arms
from harness.study.cells import CONTROL_OFFSET, seeds
from harness.study.study import Study, parse_study
from harness.study.trial import Cell, Environment, Trial

HOME = Environment(
    torch="2.15", device="cpu", cpu="a box", threads=1, precision="fp32", engine="eager"
)
IMAGES = "images-a"


def study_of(*names: str, **settings: Any) -> Study:
    """A study with hand-made arms of these names, each with a recipe of its own; settings override its defaults."""
    made = [
        {"name": name, "set": {"augment.cutout": index + 1}} for index, name in enumerate(names)
    ]
    raw = {
        "question": "Which?",
        "design": "arms",
        "seeds": 10,
        "margin_pp": 0.3,
        "arms": made,
        **settings,
    }
    return parse_study(raw, name="planted")


def switched(design: str, *names: str, **settings: Any) -> Study:
    """A study that switches up to five real components by a design."""
    fields = [
        "augment.crop",
        "augment.brightness",
        "augment.cutout",
        "optimizer.weight_decay",
        "loss.label_smoothing",
        "model.dropout",
    ]
    made = [
        {
            "name": name,
            "field": field,
            "off": 0,
            "on": 1 if "aug" in field and "bright" not in field else 0.1,
        }
        for name, field in zip(names, fields, strict=False)
    ]
    raw = {
        "question": "Which?",
        "design": design,
        "seeds": 8,
        "margin_pp": 0.3,
        "factors": made,
        **settings,
    }
    return parse_study(raw, name="planted")


def trial(study: Study, arm: str, seed: int, *, images: str = IMAGES, **fields: Any) -> Trial:
    """One complete trial of an arm unless its fields say otherwise; give ``metrics`` in stored units."""
    recipe = next(one.recipe for one in arms(study) if one.name == arm)
    fields = {
        "state": "complete",
        "epochs": recipe.train.epochs,
        "params": 1000,
        "environment": HOME,
        **fields,
    }
    if fields["state"] != "complete":
        fields["metrics"] = {}
    key = Cell.of(recipe, seed, images).key
    return Trial(cell=key, seed=seed, recipe=recipe, data_fingerprint=images, **fields)


def planted(
    study: Study,
    effects: Mapping[str, float] | None = None,
    *,
    gaps: Mapping[str, float] | None = None,
    sd: float = 0.2,
    level: float = 80.0,
    rng: int | np.random.Generator = 0,
    among: Iterable[int] | None = None,
) -> list[Trial]:
    """Every trial of a study, each arm's mean ``level`` plus its effect, independent Gaussian between arms and seeds."""
    noise = np.random.default_rng(rng)
    found = []
    for arm in arms(study):
        for seed in seeds(study) if among is None else among:
            accuracy = level + (effects or {}).get(arm.name, 0.0) + sd * noise.standard_normal()
            gap = 10.0 + (gaps or {}).get(arm.name, 0.0) + sd * noise.standard_normal()
            scores = {
                "accuracy": accuracy / 100,
                "gap": gap / 100,
                "nll": 0.6 + 0.01 * noise.standard_normal(),
                "test_accuracy": accuracy / 100,
            }
            found.append(
                trial(
                    study,
                    arm.name,
                    seed,
                    metrics=scores,
                    train_seconds=2.0,
                    images_per_second=1000.0 + seed,
                )
            )
    return found


def control(
    study: Study, *, shift: float = 0.0, sd: float = 0.2, level: float = 80.0, rng: int = 1
) -> list[Trial]:
    """The trials of the A/A arm, shifted."""
    noise = np.random.default_rng(rng)
    made = []
    for seed in seeds(study):
        accuracy = level + shift + sd * noise.standard_normal()
        made.append(
            trial(
                study,
                study.baseline,
                seed + CONTROL_OFFSET,
                metrics={"accuracy": accuracy / 100, "nll": 0.6},
            )
        )
    return made


def replaced(
    trials: Sequence[Trial], study: Study, arm: str, seed: int, **fields: Any
) -> list[Trial]:
    """The same trials with one of them changed; ``state`` other than complete takes its metrics away."""
    recipe = next(one.recipe for one in arms(study) if one.name == arm)
    if fields.get("state", "complete") != "complete":
        fields["metrics"] = {}
    place = (recipe.id, seed)
    return [
        one.model_copy(update=fields) if (one.recipe_id, one.seed) == place else one
        for one in trials
    ]


def without(trials: Sequence[Trial], study: Study, arm: str, *gone: int) -> list[Trial]:
    """The same trials without some seeds of an arm."""
    recipe = next(one.recipe for one in arms(study) if one.name == arm)
    return [one for one in trials if not (one.recipe_id == recipe.id and one.seed in gone)]
