"""Augmentations that mix two images and their labels: mixup, cutmix, and the choice between them.

The share ``lam`` of an image in its own mix is drawn for each image. Legend: N images, C channels,
H, W, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.train.augment_ops import Epoch, Stage, clipped, inside, uniform


def _beta(alpha: float, generator: torch.Generator, size: int) -> Tensor:
    """Return ``size`` float32 draws of Beta(alpha, alpha); ones for alpha 0, no mixing.

    From two gammas of ``torch._standard_gamma``: ``torch.distributions`` would draw from the global
    generator. Gammas of a small alpha underflow to 0 / 0, so log Gamma(alpha) is drawn as log
    Gamma(alpha + 1) + log U / alpha (Marsaglia & Tsang 2000, section 6) and the ratio taken as a
    sigmoid.
    """
    if alpha == 0:
        return torch.ones(size, device=generator.device)
    shape_2N = torch.full((2, size), alpha + 1, device=generator.device)
    # the public ones take no generator
    log_2N = torch._standard_gamma(shape_2N, generator=generator).log_()  # noqa: SLF001
    log_2N += torch.log1p(-uniform(generator, 2, size)) / alpha
    return torch.sigmoid(log_2N[0] - log_2N[1])


def _blend(x: Tensor, lam_N: Tensor) -> Tensor:
    """Return ``lam`` of each row and ``1 - lam`` of the row before it."""
    lam = lam_N.view(-1, *[1] * (x.ndim - 1))
    return x.roll(1, 0) * (1 - lam) + x * lam


@dataclass(frozen=True, slots=True)
class MixUp:
    """The weighted mean of two images and of their labels, lam ~ Beta(alpha, alpha).

    Zhang et al. 2017, arXiv 1710.09412.
    """

    alpha: float

    name: ClassVar[str] = "mixup"
    stage: ClassVar[Stage] = "mix"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(lam_N,)``, float32 in [0, 1]."""
        return (_beta(self.alpha, generator, epoch.size),)

    def apply(self, x_NCHW: Tensor, target_NK: Tensor, *draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed images, dtype kept, and mixed labels."""
        return _blend(x_NCHW, draws[0]).to(x_NCHW.dtype), _blend(target_NK, draws[0])


@dataclass(frozen=True, slots=True)
class CutMix:
    """A box of the partner pasted in, labels shared by area.

    Yun et al. 2019, arXiv 1905.04899; sizes as in torchvision.

    The box covers 1 - lam of the image, lam ~ Beta(alpha, alpha), around a centre uniform over the
    pixels. What falls outside is cut off, and the labels follow the area that was really pasted.
    """

    alpha: float

    name: ClassVar[str] = "cutmix"
    stage: ClassVar[Stage] = "mix"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(box_N4,)``, int64 pixels."""
        half_N = 0.5 * (1 - _beta(self.alpha, generator, epoch.size)).sqrt()
        half_N2 = torch.stack([half_N * size for size in epoch.shape[1:]], 1).long()
        return (clipped(uniform(generator, epoch.size, 2), epoch.shape, half_N2, half_N2),)

    def apply(self, x_NCHW: Tensor, target_NK: Tensor, *draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return images with the partner's box, dtype kept, and labels weighted by area."""
        H, W = x_NCHW.shape[2:]
        top, left, bottom, right = draws[0].unbind(1)
        lam_N = 1 - (bottom - top) * (right - left) / (H * W)
        return torch.where(inside(draws[0], H, W), x_NCHW.roll(1, 0), x_NCHW), _blend(
            target_NK, lam_N
        )


@dataclass(frozen=True, slots=True)
class MixChoice:
    """Which of two mixes an image takes, each with probability 1/2.

    An operation of its own, not a case inside the two: they then draw from their streams as they do
    alone, so that an arm without one of them keeps the other's draws.
    """

    name: ClassVar[str] = "mix_choice"
    stage: ClassVar[Stage] = "choice"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(first_N,)``, bool, True for the first of the two."""
        return (uniform(generator, epoch.size) < 0.5,)
