"""What a finished net is worth: its metrics and what it did with every image.

Legend: N images, B batch, K classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.plugins import load_plugin
from harness.study.trial import Outcomes
from harness.train.loaders import EvalLoader
from harness.train.loop import EpochEntry
from harness.train.modes import modes_kept
from harness.train.scores import log_probabilities
from harness.train.step import AUTOCAST

if TYPE_CHECKING:
    from harness.train.parts import Loaders


@torch.no_grad()
def predict(model: nn.Module, loader: EvalLoader, precision: str) -> tuple[Tensor, Tensor]:
    """Return (log p_NK float32, labels_N) of a net over a loader, on the CPU."""
    # a net may have a layer of this name, which says nothing
    softmax = getattr(model, "softmax", False) is True
    rows, labels = [], []
    with modes_kept(model):
        model.eval()
        for x_BCHW, labels_B in loader:
            with torch.autocast(
                x_BCHW.device.type, AUTOCAST[precision], enabled=AUTOCAST[precision] is not None
            ):
                out_BK = model(x_BCHW)
            rows.append(log_probabilities(out_BK, softmax=softmax))
            labels.append(labels_B)
    return torch.cat(rows).cpu(), torch.cat(labels).cpu()


def judge(
    model: nn.Module,
    loaders: Loaders,
    history: list[EpochEntry],
    precision: str,
    own_metric: str = "",
) -> tuple[dict[str, float], Outcomes]:
    """Return a finished net's metrics (see ``harness.study.trial.METRICS``) and per-image outcomes.

    Reads the test set once.

    Args:
        model: trained.
        loaders: of the trial.
        history: of ``fit_one_cycle``.
        precision: of the recipe.
        own_metric: your metric as ``file.py:function`` (see ``harness.study.metrics``),
            or empty.
    """
    # scipy behind it takes its time: only a trial that ends well needs it
    from harness.stats import calibration_error

    val_NK, val_N = predict(model, loaders.val, precision)
    clean_NK, clean_N = predict(model, loaders.clean, precision)
    test_NK, test_N = predict(model, loaders.test, precision)
    guess_N = val_NK.argmax(dim=1)
    correct_N, right_N = guess_N == val_N, test_NK.argmax(dim=1) == test_N
    accuracy, clean = _mean(correct_N), _mean(clean_NK.argmax(dim=1) == clean_N)
    nll, clean_nll = float(F.nll_loss(val_NK, val_N)), float(F.nll_loss(clean_NK, clean_N))
    recall_K, f1_K = _by_class(guess_N, val_N, val_NK.shape[1])
    clean_recall_K, clean_f1_K = _by_class(clean_NK.argmax(dim=1), clean_N, clean_NK.shape[1])
    # shown next to the last epoch's, never decided by: a maximum over epochs flatters every arm
    best = max(history, key=lambda entry: entry["val_accuracy"])
    metrics = {
        "accuracy": accuracy,
        "train_accuracy": clean,
        "gap": clean - accuracy,
        "test_accuracy": _mean(right_N),
        "online_accuracy": history[-1]["online_accuracy"],
        "balanced_accuracy": float(recall_K.mean()),
        "balanced_accuracy_gap": float(clean_recall_K.mean() - recall_K.mean()),
        "macro_f1": float(f1_K.mean()),
        "macro_f1_gap": float(clean_f1_K.mean() - f1_K.mean()),
        "nll": nll,
        "train_nll": clean_nll,
        "loss_gap": nll - clean_nll,
        "ece": calibration_error(val_NK.exp().max(dim=1).values.numpy(), correct_N.numpy()),
        "best_accuracy": best["val_accuracy"],
        "best_gap": best["train_accuracy"] - best["val_accuracy"],
    }
    # of five classes every answer is among the first five
    if val_NK.shape[1] > 5:
        metrics["top5"] = _mean((val_NK.topk(5, dim=1).indices == val_N[:, None]).any(dim=1))
    if own_metric:
        metrics.update(_own(own_metric, (val_NK, val_N), (clean_NK, clean_N)))
    outcomes = Outcomes(correct_N.numpy(), right_N.numpy())
    return {name: value for name, value in metrics.items() if math.isfinite(value)}, outcomes


def _own(name: str, val: tuple[Tensor, Tensor], clean: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return a user's metric on the validation images and its gap.

    Train minus validation where higher is better.
    """
    function = load_plugin(name, what="metric")
    on_val, on_clean = (
        float(function(log_NK.double().exp().numpy(), labels_N.numpy()))
        for log_NK, labels_N in (val, clean)
    )
    # a gap above 0 always means: better on what was trained on
    sign = 1.0 if getattr(function, "higher_is_better", True) else -1.0
    return {name: on_val, f"{name}_gap": sign * (on_clean - on_val)}


def _mean(correct_N: Tensor) -> float:
    return float(correct_N.double().mean())


def _by_class(guess_N: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return (recall_K, F1_K) of the classes that occur."""
    counts_KK = (
        torch.bincount(labels_N * classes + guess_N, minlength=classes * classes)
        .reshape(classes, classes)
        .double()
    )
    hit_K, true_K, said_K = counts_KK.diagonal(), counts_KK.sum(dim=1), counts_KK.sum(dim=0)
    there = true_K > 0
    return (hit_K / true_K)[there], (2 * hit_K / (true_K + said_K))[there]
