"""The parts of a recipe: groups of fields, typed and bounded, each with what it means."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.errors import RecipeError
from harness.study.plugin_fields import Keywords, OwnName, own_augmentations, owner_fault


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Counts = Annotated[
    Literal["auto"] | tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_tuple)
]


class Part(BaseModel):
    """A group of fields of a recipe or a study file: frozen, strict about types, closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Pluggable(Part):
    """A group of fields whose ``name`` may be your code, which takes ``kwargs``."""

    part: ClassVar[str]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        changed = [
            field
            for field, info in type(self).model_fields.items()
            if getattr(self, field) != info.default
        ]
        fault = owner_fault(
            self.part, getattr(self, "name", ""), getattr(self, "kwargs", ()), changed
        )
        if fault:
            raise ValueError(fault)
        return self


class DataRecipe(Pluggable):
    """Which images, and how they are split."""

    part = "data"
    name: str = Field(
        "cifar10",
        min_length=1,
        description="a data set's name, a folder of images or shards, file.py:function",
    )
    size: int = Field(
        0, ge=0, le=1024, description="side in pixels that images are resized to; 0 keeps their own"
    )
    train: int = Field(0, ge=0, description="training images; 0 takes all that are left")
    val: int = Field(
        10_000,
        ge=0,
        description="images that decide; 0 draws the curves on the test set and allows no verdict",
    )
    split_seed: int = Field(
        0, ge=0, description="fixes which images are training and which validation"
    )
    kwargs: Keywords = ()


class AugmentRecipe(Part):
    """What happens to a training image before the net sees it; 0 and none are off."""

    crop: int = Field(4, ge=0, le=64, description="random crop after padding by this many pixels")
    crop_mode: Literal["reflect", "zero"] = Field("reflect", description="what the padding holds")
    flip: Literal["none", "random", "alternating"] = Field(
        "random", description="horizontal flip: a coin, or every other epoch"
    )
    brightness: float = Field(0.1, ge=0, le=1, description="factor drawn from 1 - x to 1 + x")
    contrast: float = Field(0.1, ge=0, le=1, description="factor drawn from 1 - x to 1 + x")
    saturation: float = Field(
        0.1, ge=0, le=1, description="factor drawn from 1 - x to 1 + x; no effect on grey images"
    )
    hue: float = Field(
        0.1, ge=0, le=0.5, description="turn drawn from -x to x; no effect on grey images"
    )
    cutout: int = Field(0, ge=0, le=512, description="side in pixels of the square that is blanked")
    erasing: float = Field(0.0, ge=0, le=1, description="probability of random erasing")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of mixup's Beta distribution")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha of cutmix's Beta distribution")
    own: Keywords = ()
    kwargs: Keywords = ()

    @model_validator(mode="before")
    @classmethod
    def _off_is_absent(cls, tree: object) -> object:
        return own_augmentations(tree)


SIZE_FIELDS = ("model.blocks", "model.channels", "model.width", "model.hidden")
"""What makes our net larger or smaller, and says nothing of how it is trained."""


class ModelRecipe(Pluggable):
    """The net."""

    part = "model"
    name: Literal["blocknet"] | OwnName = Field(
        "blocknet",
        description="blocknet: blocks of three 3x3 convolutions; torchvision:NAME; timm:NAME; file.py:function",
    )
    blocks: int = Field(6, ge=1, le=16, description="blocks of 3 x (conv3x3, BatchNorm, ReLU)")
    channels: Counts = Field(
        "auto", description="channels of each block; auto: 32 doubling up to 512"
    )
    pool: Counts = Field(
        "auto",
        description="blocks (from 1) followed by a max-pool; auto: 1-4 while 2 pixels remain",
    )
    width: float = Field(1.0, gt=0, le=8, description="factor on every channel count")
    hidden: int = Field(128, ge=1, le=65_536, description="units of the hidden linear layer")
    dropout: float = Field(0.25, ge=0, lt=1, description="dropout before the last layer")
    head: Literal["logits", "softmax"] = Field(
        "logits", description="what the net returns to the cross-entropy"
    )
    features: Literal["last", "concat"] = Field(
        "last", description="the last block's output, or every block's, averaged"
    )
    freeze: str = Field(
        "none",
        min_length=1,
        description="parts that are not trained: none, backbone (all but the last layer), or names as conv1,layer1",
    )
    backbone_lr: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate of all but the last layer"
    )
    kwargs: Keywords = ()

    @model_validator(mode="after")
    def _agree(self) -> ModelRecipe:
        if self.channels != "auto" and len(self.channels) != self.blocks:
            raise ValueError(
                f"channels names {len(self.channels)} blocks and blocks is {self.blocks}"
            )
        if self.pool != "auto" and any(block > self.blocks for block in self.pool):
            raise ValueError(f"pool names block {max(self.pool)} and there are {self.blocks}")
        if self.freeze == "backbone" and self.backbone_lr != 1.0:
            raise ValueError("backbone_lr would reach nothing where freeze is 'backbone'")
        return self

    def layout(self, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (channels of each block, blocks from 1 that a 2x2 max-pool follows) for images of ``side`` pixels.

        The rule behind ``auto``: channels start at 32 and double up to 512; a pool follows each of
        the first four blocks for as long as the map it leaves is at least 2 pixels wide.

        Raises:
            RecipeError: the pools asked for leave less than one pixel.
        """
        plain = (
            [min(32 * 2**i, 512) for i in range(self.blocks)]
            if self.channels == "auto"
            else list(self.channels)
        )
        channels = tuple(max(1, round(count * self.width)) for count in plain)
        if self.pool == "auto":
            pool = tuple(
                block for block in range(1, min(self.blocks, 4) + 1) if side // 2**block >= 2
            )
        else:
            pool = tuple(sorted(set(self.pool)))
        if side // 2 ** len(pool) < 1:
            raise RecipeError(
                f"model.pool asks for {len(pool)} poolings and images of {side} pixels allow {int(math.log2(side))}",
                "name fewer blocks in model.pool, or leave it 'auto'",
            )
        return channels, pool


class OptimizerRecipe(Pluggable):
    """How gradients become weights."""

    part = "optimizer"
    name: Literal["adam", "adamw", "sgd"] | OwnName = Field(
        "adam", description="adam (L2), adamw (decoupled), sgd (Nesterov), file.py:CLASS"
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=10, description="L2 penalty, or decoupled decay with adamw"
    )
    grad_clip: float = Field(0.1, ge=0, description="largest gradient; 0 is off")
    grad_clip_by: Literal["value", "norm"] = Field(
        "value", description="clip each entry, or the norm of all"
    )
    kwargs: Keywords = ()


class ScheduleRecipe(Pluggable):
    """The learning rate and the momentum of every step."""

    part = "schedule"
    name: Literal["one-cycle", "cosine", "constant"] | OwnName = Field(
        "one-cycle", description="shape over the run; file.py:function for one of yours"
    )
    max_lr: float = Field(0.001, gt=0, le=100, description="the highest learning rate")
    pct_start: float = Field(
        0.3, gt=0, lt=1, description="share of steps that one-cycle spends rising"
    )
    div: float = Field(25.0, ge=1, description="one-cycle starts at max_lr / div")
    final_div: float = Field(1e4, ge=1, description="one-cycle ends at max_lr / div / final_div")
    cycle_momentum: bool = Field(
        True, description="one-cycle moves momentum or beta1 0.95 - 0.85 - 0.95; else 0.9"
    )
    kwargs: Keywords = ()


class LossRecipe(Pluggable):
    """What is minimised."""

    part = "loss"
    name: Literal["cross-entropy"] | OwnName = Field(
        "cross-entropy", description="cross-entropy, or file.py:function"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over all classes"
    )
    kwargs: Keywords = ()


class TrainRecipe(Part):
    """How long, in what portions and with what arithmetic."""

    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training images")
    batch_size: int = Field(512, ge=2, le=65_536, description="images a step")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32",
        description="arithmetic of forward and backward; auto is bf16 or fp16 on a GPU, fp32 elsewhere",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads a trial; 0 lets the plan choose"
    )
