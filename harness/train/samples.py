"""What training images look like after an arm's augmentation.

Legend: K images, H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from harness.study.recipe import Recipe
from harness.train.loaders import TrainLoader
from harness.train.parts import Arena, Loaders

_COUNT = 8  # images a strip
_SEED = 0


def augmented(recipe: Recipe, ground: Arena) -> npt.NDArray[np.uint8]:
    """Return eight training images as the net sees them in the first epoch.

    Normalisation is undone.

    The same images in the same order for every recipe, so that arms can be compared column by
    column; with mixup or cutmix their partners are those within the strip.

    Returns:
        images_KHWC, uint8.
    """
    split = ground.split
    # of as many classes as there are, so that a reader knows what to look for
    index_K = _one_of_each(split.train_labels_N, _COUNT)
    loaders = Loaders.of(recipe, ground, _SEED, torch.contiguous_format)
    loader = TrainLoader(
        split.train_images_NCHW[index_K],
        split.train_labels_N[index_K],
        batch_size=_COUNT,
        ops=loaders.train.ops,
        mean=split.mean,
        std=split.std,
        seed=_SEED,
        classes=len(split.classes),
        shuffle=False,
    )
    x_KCHW, _ = next(iter(loader))
    mean_C = loader.mean_C.view(1, -1, 1, 1)
    std_C = loader.std_C.view(1, -1, 1, 1)
    # colours may leave [0, 1]; a picture cannot show that
    pixels_KCHW = ((x_KCHW * std_C + mean_C) * 255).round().clamp(0, 255).to(torch.uint8)
    images_KHWC: npt.NDArray[np.uint8] = pixels_KCHW.permute(0, 2, 3, 1).cpu().numpy()
    return images_KHWC


def _one_of_each(labels_N: torch.Tensor, count: int) -> torch.Tensor:
    """Return positions of ``count`` images, of as many classes as there are, in class order."""
    order_N = torch.argsort(labels_N.cpu(), stable=True)
    sorted_N = labels_N.cpu()[order_N]
    firsts = torch.searchsorted(sorted_N, torch.unique(sorted_N))
    chosen = [
        int(order_N[first + turn])
        for turn in range(count)
        for first in firsts.tolist()
        if first + turn < len(order_N)
    ]
    return torch.tensor(chosen[:count], device=labels_N.device)
