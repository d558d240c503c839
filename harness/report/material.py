"""What a report is made of: trials, curves, images and where they come from.

Legend: K images, H height, W width, C channels, N images of the validation split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from harness.analysis import Retuning
from harness.analysis.tuning_facts import TuningFacts
from harness.study.study import Study
from harness.study.trial import Curve, Metric, Outcomes, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SAMPLE_SIDE = 64  # pixels; larger images are shown smaller


class Provenance(BaseModel):
    """Where a report comes from.

    Attributes:
        commands: what to type, in order, to get these trials again.
        data: the images in words: source, split sizes.
        data_fingerprint: of the images.
        hardware: the machine in words.
        harness: version of this package.
        commit: of the working tree, when it ran from one.
        bench: path of a saved throughput measurement, read when the report is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commands: tuple[str, ...] = ()
    data: str = ""
    data_fingerprint: str = ""
    hardware: str = ""
    harness: str = ""
    commit: str = ""
    bench: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report is made of.

    Attributes:
        trials: the final record of every cell that has one.
        attempts: earlier records of cells that were tried again.
        curves, outcomes: by cell key.
        labels_N: validation labels.
        samples: augmented images by arm, uint8 (K, H, W, C).
        bench: a saved throughput measurement, or empty.
        incomplete: cells of the plan are still missing.
        metrics: metrics beyond the built-in ones, by name.
        seeds: the planned seeds, where they are not 0, 1, 2, ...
        screening: arms could be stopped by epoch.
        changed: what of the plan changed after the first trial was claimed.
        retuning: what retuning found, where the study asks for it.
    """

    study: Study
    trials: tuple[Trial, ...]
    attempts: tuple[Trial, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)
    labels_N: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    samples: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    tuning: TuningFacts | None = None
    bench: Mapping[str, Any] = field(default_factory=dict)
    incomplete: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    screening: bool = False
    changed: tuple[str, ...] = ()
    retuning: Retuning | None = None


def in_order(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return trials in the order of the files: by seed, cell and attempt."""
    return tuple(sorted(trials, key=lambda trial: (trial.seed, trial.cell, trial.attempt)))


def recipe_ids(trials: Iterable[Trial]) -> list[str]:
    """Return the recipe id of every trial, or its label; each distinct recipe is hashed once."""
    known: dict[int, str] = {}
    found = []
    for trial in trials:
        key = id(trial.recipe)  # alive as long as its trial
        if trial.label:
            found.append(trial.label)
            continue
        if key not in known:
            known[key] = trial.recipe_id
        found.append(known[key])
    return found


def thumbnail(image_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an RGB image of at most ``_SAMPLE_SIDE`` pixels a side."""
    import numpy as np
    from PIL import Image

    image = image_HWC if image_HWC.ndim == 3 else image_HWC[..., None]
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if max(image.shape[:2]) > _SAMPLE_SIDE:
        drawn = Image.fromarray(np.ascontiguousarray(image))
        drawn.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE))
        image = np.asarray(drawn)
    return np.asarray(image, dtype=np.uint8)
