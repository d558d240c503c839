"""Figures of one trial that say how it overfits: calibration error and the epoch at which validation loss turns up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError
from harness.stats.paired import as_vector

_RISE = 0.02  # share of the lowest loss by which a later one is above it where a net overfits


def calibration_error(
    confidence_N: npt.ArrayLike, correct_N: npt.ArrayLike, *, bins: int = 15
) -> float:
    """Expected calibration error with bins of equal mass: how far confidence is from the share that is right.

    Definition: predictions sorted by confidence are cut into `bins` parts of equal size; the mean
    over parts, weighted by size, of |mean confidence - share correct|. Predictions of one
    confidence share their correctness before the cut, so the order they come in changes nothing.
    Equal mass and not equal width because nearly all confidences of an overfitted net lie in the
    last of equal-width bins. Biased upwards by chance when a bin holds few predictions. Sources:
    Guo et al. (2017), On calibration of modern neural networks; Roelofs et al. (2022), Mitigating
    bias in calibration error estimation (equal mass).

    Args:
        confidence_N: probability of the predicted class, shape (N,), or all class probabilities,
            shape (N, K), whose largest
        counts.
        correct_N: whether the prediction was right, shape (N,).
        bins: parts; fewer when there are fewer predictions.

    Returns:
        In [0, 1]; nan without predictions or with a confidence that is nan.

    Raises:
        UsageError: lengths differ, bins is below 1, or a confidence lies outside 0 to 1.
    """
    probabilities = np.asarray(confidence_N, dtype=np.float64)
    if bins < 1:
        raise UsageError(f"{bins} bins cannot hold predictions", "use 15")
    if probabilities.ndim == 2:
        probabilities = probabilities.max(axis=1, initial=0.0)
    confidence, correct = (
        as_vector(probabilities, "confidences"),
        as_vector(correct_N, "correctness"),
    )
    if confidence.size != correct.size:
        raise UsageError(
            f"{confidence.size} confidences for {correct.size} predictions",
            "pass one confidence a prediction",
        )
    if confidence.size == 0 or bool(np.isnan(confidence).any()):
        return float("nan")
    # float16 softmax may round a little above 1
    if bool((confidence < 0).any()) or bool((confidence > 1.0 + 1e-3).any()):
        raise UsageError("a confidence lies outside 0 to 1", "pass probabilities, not logits")
    distinct, group = np.unique(confidence, return_inverse=True)
    share = np.bincount(group, weights=correct, minlength=distinct.size) / np.bincount(
        group, minlength=distinct.size
    )
    gap = np.sort(confidence) - share[np.sort(group)]
    parts = np.array_split(gap, min(bins, gap.size))
    return float(sum(abs(float(part.sum())) for part in parts) / gap.size)


def onset_epoch(val_loss_E: npt.ArrayLike) -> int | None:
    """Epoch at which overfitting sets in by the validation loss, or None when it has not by the last epoch (censored).

    Definition: the minimum of the loss smoothed by a running median of 3 (of tied ones that with
    the lowest loss, then the first), when the highest smoothed loss after it is more than 2 % above
    it. The two ends take Tukey's rule, the median of the end, its smoothed neighbour
    and the line through the next two smoothed values, so that a single odd last epoch is no onset.
    Source of the smoother: Tukey (1977), Exploratory Data Analysis, chapter 7.

    Args:
        val_loss_E: one loss an epoch; nan before a later finite loss is an epoch without one.
            Epochs from the first infinite loss on are left out.

    Returns:
        Zero-based epoch, or None; None for fewer than three epochs.
    """
    loss_E = as_vector(val_loss_E, "losses")
    # validation every second epoch says nothing of the others
    epoch_E = np.flatnonzero(~np.isnan(loss_E))
    loss_E = loss_E[epoch_E]
    broken = np.flatnonzero(~np.isfinite(loss_E))
    if broken.size:
        loss_E = loss_E[: broken[0]]
    if loss_E.size < 3:
        return None
    inner = np.median(np.stack([loss_E[:-2], loss_E[1:-1], loss_E[2:]]), axis=0)
    first = np.median([loss_E[0], inner[0], 3 * inner[0] - 2 * inner[min(1, inner.size - 1)]])
    last = np.median([loss_E[-1], inner[-1], 3 * inner[-1] - 2 * inner[max(-2, -inner.size)]])
    smooth_E = np.concatenate([[first], inner, [last]])
    # a median of 3 levels the bottom of a V: its raw loss tells where it was
    tied = np.flatnonzero(smooth_E == smooth_E.min())
    lowest = int(tied[loss_E[tied].argmin()])
    risen = float(smooth_E[lowest:].max() - smooth_E[lowest])
    return int(epoch_E[lowest]) if risen > _RISE * abs(float(smooth_E[lowest])) else None
