"""Which plug-in code a study runs, and the fingerprints that it gives cells and plans."""

from __future__ import annotations

from harness.plugins import code_fingerprint, is_plugin
from harness.study.arms import arms
from harness.study.metrics import own_metrics
from harness.study.recipe import Recipe
from harness.study.study import Study


def plugins_of(study: Study) -> dict[str, str]:
    """Return ``{file.py:attribute: what it is}`` for every plug-in of a study: its metric's, its arms', its search space's."""
    found = dict.fromkeys(own_metrics(study), "metric")
    for arm in arms(study):
        found |= {name: field for field, name in arm.recipe.plugins().items()}
    for name, entry in study.space.items():
        for field in entry.fields(name):
            if field.endswith(".name") or field.startswith("augment.own."):
                found |= {
                    value: field
                    for value in entry.choices
                    if isinstance(value, str) and is_plugin(value)
                }
    return found


def study_code(study: Study) -> str:
    """Return the fingerprint of every plug-in of a study, which its workers have to have too; empty without any.

    Raises:
        UsageError: one of them is missing.
    """
    return code_fingerprint(plugins_of(study))


def cell_code(study: Study, recipe: Recipe) -> str:
    """Return the fingerprint of the plug-ins that decide what a recipe's trial gives: its own and the study's metric.

    An arm without plug-ins keeps its key, and so its finished trials, when an augmentation of
    another arm is edited.

    Raises:
        UsageError: one of them is missing.
    """
    return code_fingerprint([*own_metrics(study), *recipe.plugins().values()])
