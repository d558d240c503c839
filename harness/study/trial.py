"""What crosses files: a cell (what to run), a trial (what came of it), its environment and its epoch curve.

Accuracies are in [0, 1]; times are seconds; memory is MiB. Legend: E epochs, N images, S seeds.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import ReportError
from harness.study.recipe import ENGINE, Recipe, digest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

State = Literal["complete", "failed", "pruned", "diverged"]
CURVE_IMAGES = 2_000  # held-out images that draw curves and feed pruners, at most


class Stored(BaseModel):
    """What is written to a file and read back: frozen, closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number a trial is judged by.

    Attributes:
        name: key in ``Trial.metrics``.
        unit: ``pp`` (stored in [0, 1], shown times 100), ``1`` (shown as stored), or ``own`` (the unit of a table's column,
            shown as stored with significant digits, whatever its size).
        higher_is_better: direction; None where neither end is good by itself, as for the overfitting gap.
        label: words for tables and axes.
    """

    name: str
    unit: Literal["pp", "1", "own"]
    higher_is_better: bool | None
    label: str

    @property
    def scale(self) -> float:
        """Factor from the stored number to the shown one."""
        return 100.0 if self.unit == "pp" else 1.0


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "pp", True, "validation accuracy"),
        Metric("gap", "pp", None, "overfitting gap"),
        Metric("train_accuracy", "pp", None, "clean train accuracy"),
        Metric("test_accuracy", "pp", True, "test accuracy"),
        Metric("online_accuracy", "pp", None, "accuracy during training"),
        Metric("balanced_accuracy", "pp", True, "balanced validation accuracy"),
        Metric("macro_f1", "pp", True, "macro F1 on validation"),
        Metric("top5", "pp", True, "top-5 validation accuracy"),
        Metric("nll", "1", False, "validation cross-entropy"),
        Metric("train_nll", "1", None, "clean train cross-entropy"),
        Metric("loss_gap", "1", None, "cross-entropy gap"),
        Metric("ece", "pp", False, "validation calibration error"),
        Metric("best_accuracy", "pp", True, "best epoch's validation accuracy (optimistic)"),
        Metric("best_gap", "pp", None, "gap at the best epoch (optimistic)"),
    )
}


class Cell(Stored):
    """One recipe at one seed on one set of images: the unit of work.

    ``key`` identifies the result that it must give: recipe, seed, image fingerprint, plug-in code and engine version.
    """

    recipe: Recipe
    seed: int = Field(ge=0)
    key: str

    @classmethod
    def of(
        cls, recipe: Recipe, seed: int, data_fingerprint: str, code_fingerprint: str = ""
    ) -> Cell:
        """Return the cell with its key worked out."""
        return cls(
            recipe=recipe,
            seed=seed,
            key=digest([recipe.id, seed, data_fingerprint, code_fingerprint, ENGINE]),
        )


class Environment(Stored):
    """Where and with what a trial ran."""

    harness: str = ""
    commit: str = ""
    python: str = ""
    torch: str = ""
    optuna: str = ""
    platform: str = ""
    host: str = ""
    device: str = ""
    cpu: str = ""
    threads: int = 0
    precision: str = ""
    engine: str = ""


class Curve(Stored):
    """Epoch history of a trial, one number an epoch in every column; not a number where an epoch has none.

    ``train_*`` is clean: eval mode, no augmentation, on a fixed training subset. ``online_*`` is what the training loop saw.
    ``learning_rate`` is the epoch's last; ``seconds`` runs from the start of training, evaluation left out.
    """

    train_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    online_loss: tuple[float, ...] = ()
    online_accuracy: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_accuracy: tuple[float, ...] = ()
    learning_rate: tuple[float, ...] = ()
    grad_norm: tuple[float, ...] = ()
    clipped_share: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return max(map(len, self.__dict__.values()))


def curve_images(*, train: int, val: int, test: int) -> int:
    """Return how many held-out images draw a trial's curves and feed its pruner; after the last epoch all of them count.

    The curves of a large validation set cost as much as the training of a small net and say no
    more: 2,000 images put a percentage within 1.1 pp (one sd), and the verdicts never read them.

    Args:
        train: training images.
        val: validation images; where there are none the test set takes their place, whole.
        test: test images.
    """
    return min(CURVE_IMAGES, 2 * train, val) if val else test


def split_words(name: str, *, train: int, val: int, test: int) -> str:
    """Return a data set and the sizes of its parts in words, as a report names them."""
    held_out = f"{val:,} validation, {test:,} test" if val else f"{test:,} test"
    drawn = f"{curve_images(train=train, val=val, test=test):,} {'validation' if val else 'test'}"
    return f"{name}: {train:,} train, {held_out}; curves from {drawn} images"


def deciding_images(*, train: int, val: int, test: int) -> str:
    """Return in words how many validation images decide, and how many of them draw the curves; of as many as given."""
    count = curve_images(train=train, val=val, test=test)
    return f"{val:,} validation (decide; {'all' if count == val else f'{count:,} of them'} draw the curves)"


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What a finished net did with every image, in the split's order.

    Attributes:
        val_correct_N, test_correct_N: whether the net's first guess was right, bool.
    """

    val_correct_N: npt.NDArray[np.bool_]
    test_correct_N: npt.NDArray[np.bool_]


class Trial(Stored):
    """The result of a cell.

    ``metrics`` are of the last epoch, under the names of ``METRICS``; empty unless the state is complete.
    ``epochs`` counts finished epochs. ``curve`` and ``outcomes`` live in the trial's artifact. ``label`` is the name of the arm
    in a table of runs whose recipes nobody knows; ``recipe`` is then the reference and says nothing. ``readings`` are
    of the machine: start_seconds (before training: data, net, warm-up); on a CPU cpu_seconds (what training had of the
    processor: less than train_seconds where other work ran at the same time); on an NVIDIA GPU with the extra ``energy`` joules,
    watts, sm_mhz (a mean) and celsius (the highest). ``adopted`` names the folder that a trial finished elsewhere was
    taken over from, such as ``reports/dropout-small``.
    """

    cell: str
    seed: int
    recipe: Recipe
    state: State
    metrics: dict[str, float] = {}
    epochs: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    images_per_second: float = 0.0
    peak_mib: float = 0.0
    params: int = 0
    mflop_per_image: float = 0.0
    data_fingerprint: str = ""
    environment: Environment = Environment()
    error: str = ""
    cause: Literal["", "code", "infrastructure"] = ""
    started: str = ""
    worker: str = ""
    attempt: int = 1
    tuned: dict[str, Any] = {}
    readings: dict[str, float] = {}
    label: str = ""
    adopted: str = ""
    curve: Curve = Field(Curve(), exclude=True)

    @property
    def recipe_id(self) -> str:
        """Identity of what was trained: the recipe's, or the label of a run whose recipe is not known."""
        return self.label or self.recipe.id


def pack_artifact(curve: Curve, outcomes: Outcomes | None) -> bytes:
    """Return a trial's curve and per-image outcomes as one compressed .npz (no pickle), booleans packed eight to a byte."""
    import numpy as np

    arrays: dict[str, Any] = {
        f"curve.{name}": np.asarray(column, dtype=np.float64) for name, column in curve if column
    }
    if outcomes is not None:
        for part in ("val", "test"):
            correct_N = getattr(outcomes, f"{part}_correct_N")
            arrays[f"{part}_correct"] = np.packbits(correct_N)
            arrays[f"{part}_size"] = np.asarray(correct_N.size)

    buffer = io.BytesIO()
    # none is of objects; allow_pickle=False would be an array's name to numpy 1.26
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_artifact(payload: bytes | Path) -> tuple[Curve, Outcomes | None]:
    """Read back what ``pack_artifact`` wrote.

    Raises:
        ReportError: it is not such a file.
    """
    import numpy as np

    try:
        with np.load(
            io.BytesIO(payload) if isinstance(payload, bytes) else payload, allow_pickle=False
        ) as stored:
            columns = {
                name.removeprefix("curve."): tuple(stored[name].tolist())
                for name in stored
                if name.startswith("curve.")
            }
            curve = Curve.model_validate(columns)
            if "val_correct" not in stored and "val_loss" not in stored:
                return curve, None
            parts = {}
            for part in ("val", "test"):
                packed = stored[f"{part}_correct"]
                # Artifacts of an earlier version carry the losses of the images instead of their
                # number.
                size = (
                    int(stored[f"{part}_size"])
                    if f"{part}_size" in stored
                    else stored[f"{part}_loss"].size
                )
                # bits are packed eight to a byte: a wrong count would shift every image
                if packed.size != -(-size // 8):
                    raise ValueError(f"{part}_correct does not hold {size} images")  # noqa: TRY301
                parts[f"{part}_correct_N"] = np.unpackbits(packed, count=size).astype(bool)
            return curve, Outcomes(**parts)
    except Exception as error:  # noqa: BLE001 - on damaged bytes numpy, zipfile and zlib raise a dozen kinds of error
        where = "a trial's artifact" if isinstance(payload, bytes) else str(payload)
        raise ReportError(
            f"could not read {where}: {error}", "delete it, and the trial runs again"
        ) from None


def complete(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that ran to the end."""
    return [trial for trial in trials if trial.state == "complete"]
