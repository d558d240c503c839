"""One trial from a cell: images, net, one-cycle training, evaluation. This is the runner that workers are handed.

Legend: N images, K classes, E epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.errors import DataError, DivergedError, UsageError
from harness.recipe import DataRecipe, Recipe
from harness.train import augment, data
from harness.train.environment import environment
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.loop import Entry, fit_one_cycle, log_probabilities
from harness.train.model import build, cost
from harness.train.streams import generator, stream_seed
from harness.trial import Cell, Curve, Outcomes, Trial

OnEpoch = Callable[[int, Mapping[str, float]], bool]
CLEAN_IMAGES = 10_000  # training images on which the final clean train accuracy is measured, or all when there are fewer
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_CURVE = tuple(name for name in Curve.model_fields)


@dataclass(frozen=True, slots=True)
class Arena:
    """What the trials of a study share on a device: the split, resident, and the clean training subsets.

    ``clean_index_N`` are the training images of the final clean accuracy, ``probe_index_N`` the validation-sized part of
    them that is measured every epoch; both are fixed by the split seed.
    """

    split: data.Split
    clean_index_N: Tensor
    probe_index_N: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.split.train_images_NCHW.shape[1:]
        return channels, height, width


@lru_cache(maxsize=2)
def arena(recipe: DataRecipe, device: str) -> Arena:
    """Load, split and place a recipe's images; the last two are kept.

    Raises:
        DataError: the images are missing, unreadable or too few.
    """
    dataset = data.load(recipe.name, size=recipe.size)
    split = data.split(dataset, train=recipe.train, val=recipe.val, split_seed=recipe.split_seed)
    height, width = split.train_images_NCHW.shape[2:]
    if height != width:
        raise DataError(f"{recipe.name}: images are {height} x {width} pixels and must be square", "set data.size to a side")
    moved = {
        name: getattr(split, name).to(device)
        for part in ("train", "val", "test")
        for name in (f"{part}_images_NCHW", f"{part}_labels_N")
    }
    placed = data.Split(**moved, classes=split.classes, mean=split.mean, std=split.std, fingerprint=split.fingerprint)
    total = len(placed.train_labels_N)
    order_N = torch.randperm(total, generator=generator(recipe.split_seed, "clean")).to(device)
    probe = max(len(placed.val_labels_N), 1)
    return Arena(placed, order_N[:CLEAN_IMAGES].sort().values, order_N[: min(probe, CLEAN_IMAGES)].sort().values)


def check(recipe: Recipe, device: str = "cpu") -> Arena:
    """Load a recipe's images and make sure that its net can be built for them, before anything is planned.

    Raises:
        DataError: the images are missing, unreadable or too few.
        RecipeError: the net does not fit them.
    """
    found = arena(recipe.data, device)
    recipe.model.layout(found.shape[1])
    augment.build(recipe.augment.model_dump(), found.shape[0])
    return found


def run(cell: Cell, *, device: str = "cpu", threads: int = 1, on_epoch: OnEpoch | None = None) -> tuple[Trial, Outcomes | None]:
    """Run one cell.

    Args:
        cell: recipe and seed.
        device: cpu, cuda or cuda:N.
        threads: CPU threads; results are bit-equal only at the same number.
        on_epoch: called after each epoch with (epoch, {val_accuracy, val_loss, ...}); a true return ends the trial as pruned.

    Returns:
        The trial, complete, pruned or diverged, and for a complete one what the net did with each image.
    """
    recipe = cell.recipe
    torch.set_num_threads(recipe.train.threads or threads)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    ground = arena(recipe.data, device)
    model, memory_format = place(recipe, ground, device, cell.seed)
    history: list[Entry] = []
    stopped = False

    def keep(entry: Entry) -> bool:
        nonlocal stopped
        history.append(entry)
        values = {name: entry[name] for name in ("val_accuracy", "val_loss", "train_accuracy", "online_loss")}
        stopped = bool(on_epoch(entry["epoch"], values)) if on_epoch is not None else False
        return stopped

    error = ""
    loaders = Loaders.of(recipe, ground, cell.seed, memory_format)
    try:
        fit(recipe, model, loaders, cell.seed, keep)
    except DivergedError as diverged:
        error = diverged.message
    curve = Curve(**{name: tuple(float(entry[name]) for entry in history) for name in _CURVE})
    params, mflop = cost(model, ground.shape)
    trained = history[-1]["seconds"] if history else 0.0
    common = {
        "cell": cell.key,
        "seed": cell.seed,
        "recipe": recipe,
        "epochs": len(history),
        "train_seconds": trained,
        "images_per_second": len(history) * len(ground.split.train_labels_N) / trained if trained else 0.0,
        "peak_mib": peak_mib(device),
        "params": params,
        "mflop_per_image": mflop,
        "data_fingerprint": ground.split.fingerprint,
        "environment": environment(device, recipe.train.precision),
        "started": started,
        "curve": curve,
    }
    evaluating = sum(entry["eval_seconds"] for entry in history)
    if error or (stopped and len(history) < recipe.train.epochs):
        return Trial(**common, state="diverged" if error else "pruned", eval_seconds=evaluating, error=error), None
    began = time.perf_counter()
    metrics, outcomes = judge(model, loaders, history, recipe.train.precision)
    return Trial(**common, state="complete", metrics=metrics, eval_seconds=evaluating + time.perf_counter() - began), outcomes


def place(recipe: Recipe, ground: Arena, device: str, seed: int) -> tuple[nn.Module, torch.memory_format]:
    """Return a fresh net on the device and the memory format of its convolutions."""
    channels, side, _ = ground.shape
    if recipe.train.precision == "bf16" and device.startswith("cuda") and not torch.cuda.is_bf16_supported(False):
        raise UsageError("train.precision = 'bf16' and this GPU has no native bf16", "use --set train.precision=fp32")
    # channels_last measured 1.3 to 1.6 times as fast as NCHW for these nets, on the CPU (see tests/benchmarks) and on GPUs
    memory_format = torch.channels_last
    seeded = stream_seed(seed, "init")
    model = build(recipe.model, in_channels=channels, side=side, classes=len(ground.split.classes), seed=seeded)
    return model.to(device).to(memory_format=memory_format), memory_format


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one trial."""

    train: TrainLoader
    val: EvalLoader
    test: EvalLoader
    probe: EvalLoader  # clean training images, every epoch
    clean: EvalLoader  # clean training images, at the end

    @classmethod
    def of(cls, recipe: Recipe, ground: Arena, seed: int, memory_format: torch.memory_format) -> Loaders:
        """Return the loaders of a recipe at a seed."""
        split = ground.split

        def still(images_NCHW: Tensor, labels_N: Tensor) -> EvalLoader:
            # 250 small images at a time stay in a CPU's cache; a GPU wants whole thousands
            size = 250 if images_NCHW.device.type == "cpu" else 2000
            return EvalLoader(
                images_NCHW, labels_N, batch_size=size, mean=split.mean, std=split.std, memory_format=memory_format
            )

        train = TrainLoader(
            split.train_images_NCHW,
            split.train_labels_N,
            batch_size=recipe.train.batch_size,
            ops=augment.build(recipe.augment.model_dump(), ground.shape[0]),
            mean=split.mean,
            std=split.std,
            seed=seed,
            classes=len(split.classes),
            memory_format=memory_format,
        )
        val = (split.val_images_NCHW, split.val_labels_N)
        test = (split.test_images_NCHW, split.test_labels_N)
        probe, clean = (
            still(split.train_images_NCHW[index_N], split.train_labels_N[index_N])
            for index_N in (ground.probe_index_N, ground.clean_index_N)
        )
        return cls(train, still(*(val if len(val[1]) else test)), still(*test), probe, clean)


def fit(recipe: Recipe, model: nn.Module, loaders: Loaders, seed: int, on_epoch: Callable[[Entry], bool]) -> list[Entry]:
    """Train a net as the recipe says."""
    optimizer = recipe.optimizer
    return fit_one_cycle(
        recipe.train.epochs,
        recipe.schedule.max_lr,
        model,
        loaders.train,
        loaders.val,
        optimizer.weight_decay,
        optimizer.grad_clip or None,
        OPTIMIZERS[optimizer.name],
        schedule=recipe.schedule,
        grad_clip_by=optimizer.grad_clip_by,
        label_smoothing=recipe.loss.label_smoothing,
        precision=recipe.train.precision,
        clean_loader=loaders.probe,
        seed=seed,
        on_epoch=on_epoch,
    )


@torch.no_grad()
def predict(model: nn.Module, loader: EvalLoader, precision: str) -> tuple[Tensor, Tensor]:
    """Return (log p_NK float32, labels_N) of a net over a loader, on the CPU; the net is left in eval mode."""
    model.eval()
    softmax = bool(getattr(model, "softmax", False))
    rows, labels = [], []
    for x_BCHW, labels_B in loader:
        with torch.autocast(x_BCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
            out_BK = model(x_BCHW)
        rows.append(log_probabilities(out_BK, softmax=softmax))
        labels.append(labels_B)
    return torch.cat(rows).cpu(), torch.cat(labels).cpu()


def judge(model: nn.Module, loaders: Loaders, history: list[Entry], precision: str) -> tuple[dict[str, float], Outcomes]:
    """Return a finished net's metrics (see ``harness.trial.METRICS``) and per-image outcomes. Reads the test set once."""
    from harness.stats import calibration_error

    val_NK, val_N = predict(model, loaders.val, precision)
    clean_NK, clean_N = predict(model, loaders.clean, precision)
    test_NK, test_N = predict(model, loaders.test, precision)
    guess_N = val_NK.argmax(dim=1)
    correct_N, right_N = guess_N == val_N, test_NK.argmax(dim=1) == test_N
    accuracy, clean = _mean(correct_N), _mean(clean_NK.argmax(dim=1) == clean_N)
    nll, clean_nll = float(F.nll_loss(val_NK, val_N)), float(F.nll_loss(clean_NK, clean_N))
    recall_K, f1_K = _by_class(guess_N, val_N, val_NK.shape[1])
    best = max(history, key=lambda entry: entry["val_accuracy"])
    metrics = {
        "accuracy": accuracy,
        "train_accuracy": clean,
        "gap": clean - accuracy,
        "test_accuracy": _mean(right_N),
        "online_accuracy": history[-1]["online_accuracy"],
        "balanced_accuracy": float(recall_K.mean()),
        "macro_f1": float(f1_K.mean()),
        "nll": nll,
        "train_nll": clean_nll,
        "loss_gap": nll - clean_nll,
        "ece": calibration_error(val_NK.exp().max(dim=1).values.numpy(), correct_N.numpy()),
        "best_accuracy": best["val_accuracy"],
        "best_gap": best["train_accuracy"] - best["val_accuracy"],
    }
    if val_NK.shape[1] > 5:
        metrics["top5"] = _mean((val_NK.topk(5, dim=1).indices == val_N[:, None]).any(dim=1))
    outcomes = Outcomes(correct_N.numpy(), _losses(val_NK, val_N), right_N.numpy(), _losses(test_NK, test_N))
    return {name: value for name, value in metrics.items() if math.isfinite(value)}, outcomes


def _mean(correct_N: Tensor) -> float:
    return float(correct_N.double().mean())


def _losses(log_NK: Tensor, labels_N: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    return F.nll_loss(log_NK, labels_N, reduction="none").clamp(max=6e4).numpy().astype(np.float16)


def _by_class(guess_N: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return (recall_K, F1_K) of the classes that occur."""
    counts_KK = torch.bincount(labels_N * classes + guess_N, minlength=classes * classes).reshape(classes, classes).double()
    hit_K, true_K, said_K = counts_KK.diagonal(), counts_KK.sum(dim=1), counts_KK.sum(dim=0)
    there = true_K > 0
    return (hit_K / true_K)[there], (2 * hit_K / (true_K + said_K))[there]


def peak_mib(device: str) -> float:
    """Return the peak memory: of the GPU since it was last reset, or of the process, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
