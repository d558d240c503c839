"""Time of each augmentation on one batch, and of a loader's whole epoch: `nox -s bench` compares them with the last saved.

512 synthetic images of 3 x 32 x 32 pixels a batch, one CPU thread. Legend: N images, C channels, H,
W, K classes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.train import augment
from harness.train.loaders import EvalLoader, TrainLoader
from tests.train.tiny import augmentation

BATCH, IMAGES, CLASSES = 512, 2048, 10
MOMENTS: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
JITTER = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
OPS: dict[str, dict[str, Any]] = {
    "none": {},
    "crop": {"crop": 4},
    "flip": {"flip": "random"},
    "crop-flip": {"crop": 4, "flip": "random"},
    **{name: {name: strength} for name, strength in JITTER.items()},
    "jitter": JITTER,
    "cutout": {"cutout": 8},
    "erasing": {"erasing": 0.5},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "reference": {"crop": 4, "flip": "random", **JITTER},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(256, (IMAGES, 3, 32, 32), generator=source, dtype=torch.uint8)
    return images_NCHW, torch.randint(CLASSES, (IMAGES,), generator=source)


def loader(pictures: tuple[Tensor, Tensor], images: int, ops: dict[str, Any]) -> TrainLoader:
    images_NCHW, labels_N = pictures[0][:images], pictures[1][:images]
    built = augment.build(augmentation(ops), 3)
    return TrainLoader(
        images_NCHW, labels_N, batch_size=BATCH, ops=built, seed=0, classes=CLASSES, **MOMENTS
    )


@pytest.mark.parametrize("name", OPS)
def test_a_batch_with_one_augmentation(
    benchmark: Any, pictures: tuple[Tensor, Tensor], name: str
) -> None:
    batch = loader(pictures, BATCH, OPS[name])
    (found,) = benchmark(list, batch)
    assert len(found[0]) == BATCH
    benchmark.extra_info["images"] = BATCH


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)
def test_an_epoch_of_the_reference_augmentations(
    benchmark: Any, pictures: tuple[Tensor, Tensor], memory_format: torch.memory_format
) -> None:
    epoch = loader(pictures, IMAGES, OPS["reference"])
    epoch.memory_format = memory_format
    assert sum(len(x_NCHW) for x_NCHW, _ in benchmark(list, epoch)) == IMAGES
    benchmark.extra_info["images"] = IMAGES


def test_a_first_pass_over_images_to_evaluate(
    benchmark: Any, pictures: tuple[Tensor, Tensor]
) -> None:
    def epoch() -> int:
        return sum(len(x_NCHW) for x_NCHW, _ in EvalLoader(*pictures, batch_size=250, **MOMENTS))

    assert benchmark(epoch) == IMAGES
    benchmark.extra_info["images"] = IMAGES
