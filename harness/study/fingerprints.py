"""Which plug-in code a study runs, and the fingerprints that it gives cells and plans."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from harness.errors import UsageError
from harness.plugins import LIBRARIES, code_fingerprint, is_plugin
from harness.study.arms import arms
from harness.study.metrics import own_metrics
from harness.study.recipe import Recipe, digest
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
    code = code_fingerprint(plugins_of(study), follow=study.hash_imports)
    return _with_weights(code, [arm.recipe for arm in arms(study)])


def cell_code(study: Study, recipe: Recipe) -> str:
    """Return the fingerprint of the plug-ins that decide what a recipe's trial gives: its own and the study's metric.

    An arm without plug-ins keeps its key, and so its finished trials, when an augmentation of
    another arm is edited.

    Raises:
        UsageError: one of them is missing.
    """
    names = [*own_metrics(study), *recipe.plugins().values()]
    return _with_weights(code_fingerprint(names, follow=study.hash_imports), [recipe])


def weights_file(recipe: Recipe) -> Path | None:
    """Return the file that a library's net starts from, ``model.kwargs.pretrained``; None for none, or the library's own."""
    given = dict(recipe.model.kwargs).get("pretrained")
    named = recipe.model.name.startswith(LIBRARIES) and isinstance(given, str)
    return Path(str(given)) if named else None


def _with_weights(code: str, recipes: Iterable[Recipe]) -> str:
    """Return a fingerprint that the contents of weights files are part of; as it is where there are none."""
    files = sorted({file for file in map(weights_file, recipes) if file is not None})
    contents = []
    for file in files:
        try:
            with file.open("rb") as stream:
                contents.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as error:
            raise UsageError(
                f"model.kwargs.pretrained: could not read the weights file {str(file)!r}: {error.strerror}",
                f"harness looks for it from the working folder, {Path.cwd()}",
            ) from None
    return digest([code, contents]) if files else code
