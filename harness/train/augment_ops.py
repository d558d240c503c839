"""What an augmentation is, and those that move, erase or mix pixels.

Every operation is split in two. ``draw`` turns random numbers into small tensors with one row an
image, and is the only place that knows the strength; ``apply`` is a pure function of the images and
those rows, free of random numbers and of any wait for the device. So a captured CUDA graph outlives
a change of strength, and the draws of a whole epoch are made at once and sliced by batch. A draw of
another strength uses the same random numbers wherever it can, so that the levels of a sweep are
compared on the same draws.

Legend: N images, C channels, H height, W width, K classes, P pixels, T tries; 2 = (dy, dx) or (y,
x); 4 = (top, left, bottom, right), the last two exclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from harness.errors import RecipeError

Stage = Literal["pixel", "colour", "late", "mix", "choice"]
"""Where an operation runs: ``pixel`` on any dtype, before everything else; ``colour`` on floats in
[0, 1]; ``late`` after the normalisation, where 0 is the mean; ``mix`` on images and labels;
``choice`` between two mixes."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a draw may look at.

    Args:
        size: number of images to draw for, the rows of every tensor returned.
        shape: C, H, W of one image.
        number: zero-based epoch.
        index_N: int64, the image at each position of the epoch's order, on the generator's device.
        total: number of images in the training set.
    """

    size: int
    shape: tuple[int, int, int]
    number: int
    index_N: Tensor
    total: int


class Op(Protocol):
    """An augmentation, ours or a plug-in's."""

    @property
    def name(self) -> str:
        """The recipe's field, and the name of its random stream."""
        ...

    @property
    def stage(self) -> Stage:
        """Where it runs."""
        ...

    @property
    def fixed_stream(self) -> bool:
        """Whether the caller seeds the generator as for epoch 0 in every epoch."""
        ...

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return tensors with ``epoch.size`` rows on the generator's device; do not wait for it."""
        ...


class ImageOp(Op, Protocol):
    """An operation of stage ``pixel``, ``colour`` or ``late``.

    Image by image, shape and dtype kept, input left as it was.
    """

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the changed images; row n of every draw belongs to image n."""
        ...


class MixOp(Op, Protocol):
    """An operation of stage ``mix``.

    The partner of image n is image n - 1 of the batch, and of the first the last.
    """

    def apply(self, x_NCHW: Tensor, target_NK: Tensor, *draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed images and mixed labels.

        ``target_NK`` holds probabilities of the classes.
        """
        ...


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Return float32 uniform in [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def integers(u: Tensor, count: Tensor | int) -> Tensor:
    """Turn uniforms in [0, 1) into int64 uniform in [0, count); ``count`` may differ by element.

    Scaled uniforms rather than ``randint``: another count then moves the same draws instead of
    making new ones.
    """
    drawn = (u * count).long()  # the product may round up to count
    return drawn.clamp_max(count - 1)


# --- crop and flip


def resample(x_NCHW: Tensor, shift_N2: Tensor | None, flip_N: Tensor | None, border: str) -> Tensor:
    """Shift, then mirror, by one gather on flat pixel indices.

    Exact on any dtype, and both cost what one costs.

    Args:
        x_NCHW: images, any dtype.
        shift_N2: int64, pixels by which the window moves down and right, under ``reflect`` less
            than H and W; None for none.
        flip_N: bool, True where the window is mirrored left to right; None for none.
        border: what lies outside the image: ``reflect`` (without repeating the edge pixel) or
            ``zero``.
    """
    N, _, H, W = x_NCHW.shape
    row_NH = torch.arange(H, device=x_NCHW.device).expand(N, H)
    col_NW = torch.arange(W, device=x_NCHW.device).expand(N, W)
    if flip_N is not None:
        col_NW = (col_NW - (W - 1) * flip_N[:, None]).abs()
    if shift_N2 is None:
        return _gather(x_NCHW, row_NH, col_NW)
    row_NH, col_NW = row_NH + shift_N2[:, :1], col_NW + shift_N2[:, 1:]
    if border == "reflect":
        row_NH, col_NW = (
            size - 1 - (size - 1 - i.abs()).abs() for i, size in ((row_NH, H), (col_NW, W))
        )
        return _gather(x_NCHW, row_NH, col_NW)
    inside_NH, inside_NW = row_NH.clamp(0, H - 1), col_NW.clamp(0, W - 1)
    is_image_NHW = (row_NH == inside_NH)[:, :, None] & (col_NW == inside_NW)[:, None, :]
    return _gather(x_NCHW, inside_NH, inside_NW).mul_(is_image_NHW[:, None])


def _gather(x_NCHW: Tensor, row_NH: Tensor, col_NW: Tensor) -> Tensor:
    N, C, H, W = x_NCHW.shape
    index_N1P = (row_NH[:, :, None] * W + col_NW[:, None, :]).view(N, 1, H * W)
    return x_NCHW.reshape(N, C, H * W).gather(2, index_N1P.expand(N, C, H * W)).view(N, C, H, W)


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of the image's own size, moved by up to ``padding`` pixels each way.

    Pad, then crop at random.
    """

    padding: int
    border: str = "reflect"

    name: ClassVar[str] = "crop"
    stage: ClassVar[Stage] = "pixel"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(shift_N2,)``, int64 pixels.

        RecipeError when reflection would need more pixels than the image has.
        """
        _, H, W = epoch.shape
        if self.border == "reflect" and self.padding >= min(H, W):
            raise RecipeError(
                f"augment.crop is {self.padding}, too much to reflect in images of {H}x{W}",
                f"use at most {min(H, W) - 1}, or augment.crop_mode = 'zero'",
            )
        return (integers(uniform(generator, epoch.size, 2), 2 * self.padding + 1) - self.padding,)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the windows; see `resample`."""
        return resample(x_NCHW, draws[0], None, self.border)


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirror left to right: ``random`` with probability 1/2 an image and epoch, or ``alternating``.

    Alternating: an image is mirrored or not at random in the first epoch and changes over in each
    one after, so that two epochs in a row never show the same side (Jordan, "94% on CIFAR-10 in
    3.29 Seconds", arXiv 2404.00498, section 3.6).
    """

    mode: str = "random"

    name: ClassVar[str] = "flip"
    stage: ClassVar[Stage] = "pixel"

    @property
    def fixed_stream(self) -> bool:
        """True when alternating: its one random bit an image must be the same in every epoch."""
        return self.mode == "alternating"

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(flip_N,)``, bool."""
        if self.mode == "random":
            return (uniform(generator, epoch.size) < 0.5,)
        first_T = uniform(generator, epoch.total) < 0.5
        return (first_T[epoch.index_N] ^ (epoch.number % 2 == 1),)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the images, mirrored where the draw is True."""
        return resample(x_NCHW, None, draws[0], "reflect")


# --- boxes: cutout, random erasing


def inside(box_N4: Tensor, height: int, width: int) -> Tensor:
    """Return bool N1HW, True inside each image's box.

    A box with ``bottom <= top`` holds nothing.
    """
    top, left, bottom, right = box_N4[:, :, None].unbind(1)
    y, x = torch.arange(height, device=box_N4.device), torch.arange(width, device=box_N4.device)
    return (((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :])[
        :, None
    ]


@dataclass(frozen=True, slots=True)
class Cutout:
    """Blank a square of ``side`` pixels whose centre is uniform over the pixels.

    What falls outside is cut off.

    DeVries & Taylor 2017, arXiv 1708.04552. Their code blanks ``side - 1`` pixels when the side is
    odd; ours blanks ``side``.
    """

    side: int

    name: ClassVar[str] = "cutout"
    stage: ClassVar[Stage] = "late"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(box_N4,)``, int64 pixels.

        RecipeError when the square is larger than the image.
        """
        _, H, W = epoch.shape
        if self.side > min(H, W):
            raise RecipeError(
                f"augment.cutout is {self.side}, larger than images of {H}x{W}",
                f"use at most {min(H, W)}",
            )
        u_N2 = uniform(generator, epoch.size, 2)
        return (clipped(u_N2, epoch.shape, self.side // 2, self.side - self.side // 2),)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the images with their boxes set to 0, the mean after normalisation."""
        return x_NCHW.masked_fill(inside(draws[0], *x_NCHW.shape[2:]), 0)


def clipped(
    u_N2: Tensor, shape: tuple[int, int, int], before: Tensor | int, after: Tensor | int
) -> Tensor:
    """Return ``box_N4`` around a centre uniform over the pixels, cut at the border.

    From ``before`` ahead of the centre to ``after`` behind it.

    ``before`` and ``after`` are pixels, an int or int64 N2.
    """
    size_2 = torch.stack([torch.full((), size, device=u_N2.device) for size in shape[1:]])
    centre_N2 = integers(u_N2, size_2)
    low_N2 = (centre_N2 - before).clamp_min(0)
    return torch.cat([low_N2, torch.minimum(centre_N2 + after, size_2)], 1)


@dataclass(frozen=True, slots=True)
class Erasing:
    """Random erasing as torchvision's ``RandomErasing`` with value 0, the mean.

    Zhong et al. 2017, arXiv 1708.04896.

    With probability ``probability``, a box that covers 2 to 33 % of the image with an aspect ratio
    from 0.3 to 3.3; the first of ten tries that fits, none when none does.
    """

    probability: float

    name: ClassVar[str] = "erasing"
    stage: ClassVar[Stage] = "late"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(box_N4,)``, int64 pixels.

        An image that keeps all its pixels gets an empty box.
        """
        _, H, W = epoch.shape
        tries = 10
        # the whole consumption, whatever the probability
        u = uniform(generator, epoch.size, 2 * tries + 3)
        area_NT = H * W * (0.02 + (0.33 - 0.02) * u[:, :tries])
        aspect_NT = torch.exp(
            math.log(0.3) + (math.log(3.3) - math.log(0.3)) * u[:, tries : 2 * tries]
        )
        height_NT, width_NT = (
            (area_NT * aspect_NT).sqrt().round().long(),
            (area_NT / aspect_NT).sqrt().round().long(),
        )
        fits_NT = (height_NT < H) & (width_NT < W)
        first_N1 = fits_NT.int().argmax(1, keepdim=True)
        on_N1 = fits_NT.gather(1, first_N1) & (u[:, -3, None] < self.probability)
        height_N1, width_N1 = (
            height_NT.gather(1, first_N1) * on_N1,
            width_NT.gather(1, first_N1) * on_N1,
        )
        top_N1, left_N1 = (
            integers(u[:, -2, None], H - height_N1 + 1),
            integers(u[:, -1, None], W - width_N1 + 1),
        )
        return (torch.cat([top_N1, left_N1, top_N1 + height_N1, left_N1 + width_N1], 1),)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the images with their boxes set to 0, the mean after normalisation."""
        return x_NCHW.masked_fill(inside(draws[0], *x_NCHW.shape[2:]), 0)
