"""What we compare with: the pipeline and the loop as they are usually written.

PIL images, torchvision's transforms image by image, a DataLoader, ``torch.optim``, ``OneCycleLR``,
``clip_grad_value_``.

Legend: N images, C channels, H height, W width, B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from harness.study.recipe import Recipe
from harness.study.recipe_fields import AugmentRecipe
from harness.train.arithmetic import precision_on
from harness.train.model import Dropout
from harness.train.step import AUTOCAST


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images kept as an array and made a PIL image one at a time, as torchvision's CIFAR10 does it."""

    def __init__(
        self, images_NCHW: Tensor, labels_N: Tensor, transform: Callable[[Any], Tensor]
    ) -> None:
        self.images_NHWC = images_NCHW.cpu().permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels_N.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image_HWC = self.images_NHWC[index]
        picture = Image.fromarray(image_HWC[:, :, 0] if image_HWC.shape[2] == 1 else image_HWC)
        return self.transform(picture), self.labels[index]


def pil_transform(
    augment: AugmentRecipe, side: int, mean: Sequence[float], std: Sequence[float]
) -> Callable[[Any], Tensor]:
    """Return torchvision's transforms of a recipe's crop, flip and colour jitter, then tensor and normalisation."""
    from torchvision import transforms as tv

    finish = [tv.ToTensor(), tv.Normalize(list(mean), list(std))]
    transform: Callable[[Any], Tensor] = tv.Compose([*_steps(tv, augment, side), *finish])
    return transform


def v2_transform(
    augment: AugmentRecipe, side: int, mean: Sequence[float], std: Sequence[float]
) -> Callable[[Any], Tensor]:
    """Return the same in torchvision's v2 transforms, on uint8 tensors image by image."""
    from torchvision.transforms import v2

    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    transform: Callable[[Any], Tensor] = v2.Compose(
        [v2.PILToTensor(), *_steps(v2, augment, side), *finish]
    )
    return transform


def _steps(of: Any, augment: AugmentRecipe, side: int) -> list[Any]:
    """Return crop, flip and colour jitter from one of torchvision's two modules of transforms."""
    crop_mode = "constant" if augment.crop_mode == "zero" else augment.crop_mode
    steps: list[Any] = []
    if augment.crop:
        steps.append(of.RandomCrop(side, padding=augment.crop, padding_mode=crop_mode))
    if augment.flip != "none":
        steps.append(of.RandomHorizontalFlip())
    jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    if any(jitter):
        steps.append(of.ColorJitter(*jitter))
    return steps


def plain_loader(
    pictures: Pictures, *, batch_size: int, workers: int, shuffle: bool = True, pin: bool = False
) -> DataLoader[Any]:
    """Return a DataLoader whose workers stay from epoch to epoch."""
    return DataLoader(
        pictures,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=workers,
        # starting processes every epoch would be what is timed
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(0),
    )


def shut(loader: DataLoader[Any]) -> None:
    """End a loader's workers."""
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None:
        iterator._shutdown_workers()  # noqa: SLF001 - torch's only other way is to wait for the garbage collector
        loader._iterator = None  # noqa: SLF001 - as above


def with_plain_dropout(model: nn.Module, rate: float) -> nn.Module:
    """Return the net with torch's dropout in the place of ours."""
    for name, child in model.named_children():
        if isinstance(child, Dropout):
            setattr(model, name, nn.Dropout(rate))
    return model


class PlainTraining:
    """Training as the usual script does it: one optimiser step a batch, the learning rate by ``OneCycleLR``.

    Args:
        recipe: optimiser, clipping, smoothing, precision.
        model: on its device.
        steps: of the whole run.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, steps: int) -> None:
        self.recipe, self.model = recipe, model
        self.device = next(model.parameters()).device
        rules = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        self.optimizer = rules[recipe.optimizer.name](
            model.parameters(),
            lr=recipe.schedule.max_lr,
            weight_decay=recipe.optimizer.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.schedule.max_lr,
            # torch counts the step before the first batch too
            total_steps=steps + 1,
            cycle_momentum=recipe.optimizer.name != "sgd",
        )

    def epoch(self, loader: DataLoader[Any]) -> int:
        """Train on every batch; return the number of images."""
        self.model.train()
        seen = 0
        losses = []
        for images, labels in loader:
            x_BCHW, labels_B = (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, *self._autocast()):
                out_BK = self.model(x_BCHW)
                loss = F.cross_entropy(
                    out_BK, labels_B, label_smoothing=self.recipe.loss.label_smoothing
                )
            loss.backward()  # type: ignore[no-untyped-call]
            if self.recipe.optimizer.grad_clip:
                nn.utils.clip_grad_value_(self.model.parameters(), self.recipe.optimizer.grad_clip)
            self.optimizer.step()
            self.schedule.step()
            # kept on the device: reading it every step would be a straw man
            losses.append(loss.detach())
            seen += len(labels)
        if losses:
            torch.stack(losses).mean().item()
        return seen

    @torch.no_grad()
    def evaluate(self, loader: DataLoader[Any]) -> float:
        """Return the accuracy over a loader."""
        self.model.eval()
        right = seen = 0
        for images, labels in loader:
            with torch.autocast(self.device.type, *self._autocast()):
                out_BK = self.model(images.to(self.device, non_blocking=True))
            right += int((out_BK.argmax(dim=1) == labels.to(self.device)).sum())
            seen += len(labels)
        return right / max(seen, 1)

    def _autocast(self) -> tuple[torch.dtype | None, bool]:
        dtype = AUTOCAST[precision_on(self.device, self.recipe.train.precision)]
        return dtype, dtype is not None
