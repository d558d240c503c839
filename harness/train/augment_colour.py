"""Colour augmentations on floats in [0, 1].

Brightness, contrast, saturation, hue, in this fixed order.

They equal torchvision's float path (``adjust_*``) image by image; torchvision shuffles the four for
each call, ours never do. Each has ``apply_``, which changes its input, for a buffer that is ours to
change.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.train.augment_ops import Epoch, Stage, uniform

_LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


def _column(draw_N: Tensor) -> Tensor:
    return draw_N.view(-1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Colour:
    """What the four share: a strength, one draw an image, and ``apply`` as ``apply_`` on a copy."""

    strength: float

    name: ClassVar[str] = "colour"
    stage: ClassVar[Stage] = "colour"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(factor_N,)``, float32 uniform in [max(0, 1 - strength), 1 + strength]."""
        low, high = max(0.0, 1 - self.strength), 1 + self.strength
        return (low + (high - low) * uniform(generator, epoch.size),)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the adjusted images in [0, 1]."""
        return self.apply_(x_NCHW.clone(), *draws)

    def apply_(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Adjust the images in place and return them."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Brightness(Colour):
    """Scale every pixel by the factor."""

    name: ClassVar[str] = "brightness"

    def apply_(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Adjust the images in place and return them."""
        return x_NCHW.mul_(_column(draws[0])).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Contrast(Colour):
    """Blend with the mean grey of the image; needs 1 or 3 channels."""

    name: ClassVar[str] = "contrast"

    def apply_(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Adjust the images in place and return them."""
        factor_N = draws[0]
        grey_NHW = x_NCHW[:, 0] if x_NCHW.shape[1] == 1 else sum_luma(*x_NCHW.unbind(1))
        mean_N = grey_NHW.mean((1, 2))
        return x_NCHW.mul_(_column(factor_N)).add_(_column((1 - factor_N) * mean_N)).clamp_(0, 1)


def sum_luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """Return the grey of three channels."""
    return red.mul(_LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


@dataclass(frozen=True, slots=True)
class Saturation(Colour):
    """Blend with the grey image; leaves one-channel images as they are."""

    name: ClassVar[str] = "saturation"

    def apply_(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Adjust the images in place and return them."""
        if x_NCHW.shape[1] == 1:
            return x_NCHW
        factor = _column(draws[0])
        grey_N1HW = sum_luma(*x_NCHW[:, :, None].unbind(1)).mul_(1 - factor)
        return x_NCHW.mul_(factor).add_(grey_N1HW).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Hue(Colour):
    """Turn the hue by a fraction of the circle; leaves one-channel images as they are."""

    name: ClassVar[str] = "hue"

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(turn_N,)``, float32 uniform in [-strength, strength]."""
        return ((2 * uniform(generator, epoch.size) - 1) * self.strength,)

    def apply_(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Adjust the images in place and return them.

        HSV in closed form, without its six cases. With channels scaled to r, g, b in [0, 1] by
        minimum and range, the hue in sixths of the circle lies ``1 + g + b - r`` away from red,
        towards green where g > b (each sector gives the same expression). Back, a channel is the
        range times a trapezium over the hue: 1 up to one sixth from its own, 0 from two. Masks and
        remainders, which the usual form needs, cost ten times an addition on a CPU.
        """
        if x_NCHW.shape[1] == 1:
            return x_NCHW
        red, green, blue = x_NCHW.unbind(1)
        low_NHW = torch.minimum(torch.minimum(red, green), blue)
        range_NHW = torch.maximum(torch.maximum(red, green), blue).sub_(low_NHW)
        hue_NHW = green.add(blue).sub_(red).sub_(low_NHW)
        # a grey pixel has no hue: any finite one, times range 0, will do
        hue_NHW.div_(range_NHW.clamp_min(1e-30)).add_(1)
        hue_NHW.copysign_(green.sub(blue)).add_(6 * draws[0].view(-1, 1, 1))
        hue_NHW.sub_(hue_NHW.div(6).floor_(), alpha=6)  # to [0, 6]
        torch.sub(hue_NHW, 3, out=red).abs_().sub_(1)
        for channel, centre in ((green, 2), (blue, 4)):
            torch.sub(hue_NHW, centre, out=channel).abs_().neg_().add_(2)
        return x_NCHW.clamp_(0, 1).mul_(range_NHW[:, None]).add_(low_NHW[:, None])
