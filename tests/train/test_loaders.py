"""The device loaders. The images number themselves: their first two channels hold the low and the high byte of their index."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.train import augment
from harness.train.loaders import EvalLoader, TrainLoader
from tests.train.tiny import augmentation

CLASSES = 5
SIDE = 8
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def numbered(count: int) -> tuple[Tensor, Tensor]:
    index_N = torch.arange(count)
    images_NCHW = torch.zeros(count, 3, SIDE, SIDE, dtype=torch.uint8)
    images_NCHW[:, 0] = (index_N % 256)[:, None, None].to(torch.uint8)
    images_NCHW[:, 1] = (index_N // 256)[:, None, None].to(torch.uint8)
    images_NCHW[:, 2, :, :3] = 200  # a bright left side, to see flips by
    return images_NCHW, index_N % CLASSES


def train_loader(
    count: int = 40, *, batch_size: int = 16, seed: int = 0, epoch: int = 0, **ops: Any
) -> TrainLoader:
    images_NCHW, labels_N = numbered(count)
    loader = TrainLoader(
        images_NCHW,
        labels_N,
        batch_size=batch_size,
        ops=augment.build(augmentation(ops), 3),
        seed=seed,
        classes=CLASSES,
        **PLAIN,
    )
    loader.set_epoch(epoch)
    return loader


def indices(x_BCHW: Tensor) -> list[int]:
    """Return which images these are."""
    pixels_BC = (x_BCHW[:, :2, SIDE // 2, SIDE // 2] * 255).round().long()
    found: list[int] = (pixels_BC[:, 0] + 256 * pixels_BC[:, 1]).tolist()
    return found


def order(loader: TrainLoader) -> list[int]:
    return [index for x_BCHW, _ in loader for index in indices(x_BCHW)]


def flipped(loader: TrainLoader) -> dict[int, bool]:
    """Return, for each image, whether its bright side is the right one."""
    half = SIDE // 2
    return {
        index: bool(right)
        for x_BCHW, _ in loader
        for index, right in zip(
            indices(x_BCHW),
            x_BCHW[:, 2, half, half:].sum(1) > x_BCHW[:, 2, half, :half].sum(1),
            strict=True,
        )
    }


@given(st.integers(2, 300), st.integers(2, 64), st.integers(0, 3))
def test_every_image_is_seen_once_an_epoch_but_a_last_one_alone(
    count: int, batch_size: int, epoch: int
) -> None:
    found = order(train_loader(count, batch_size=batch_size, epoch=epoch))
    alone = count % min(batch_size, count) == 1
    assert len(found) == count - alone
    assert len(set(found)) == len(found)
    assert set(found) <= set(range(count))


@given(st.integers(2, 300), st.integers(2, 64))
def test_the_length_is_the_number_of_batches(count: int, batch_size: int) -> None:
    loader = train_loader(count, batch_size=batch_size)
    assert len(list(loader)) == len(loader)


def test_the_odd_last_batch_is_smaller() -> None:
    assert [len(x_BCHW) for x_BCHW, _ in train_loader(40, batch_size=16)] == [16, 16, 8]


def test_a_last_batch_of_one_image_is_left_out() -> None:
    assert [len(x_BCHW) for x_BCHW, _ in train_loader(33, batch_size=16)] == [16, 16]


def test_a_batch_larger_than_the_data_set_is_the_whole_of_it() -> None:
    assert [len(x_BCHW) for x_BCHW, _ in train_loader(10, batch_size=512)] == [10]


def test_images_keep_their_labels() -> None:
    for x_BCHW, labels_B in train_loader(100, crop=2, flip="random"):
        assert labels_B.tolist() == [index % CLASSES for index in indices(x_BCHW)]


def test_the_order_depends_on_seed_and_epoch_and_repeats() -> None:
    assert order(train_loader(seed=1, epoch=2)) == order(train_loader(seed=1, epoch=2))
    assert order(train_loader(seed=1, epoch=2)) != order(train_loader(seed=1, epoch=3))
    assert order(train_loader(seed=1, epoch=2)) != order(train_loader(seed=2, epoch=2))


def test_the_order_does_not_depend_on_the_augmentations() -> None:
    assert (
        order(train_loader(crop=2)) == order(train_loader(flip="random")) == order(train_loader())
    )


def test_taking_crop_away_leaves_the_flips_as_they_were() -> None:
    both = flipped(train_loader(200, crop=1, flip="random", epoch=3))
    assert both == flipped(train_loader(200, flip="random", epoch=3))
    assert 50 < sum(both.values()) < 150


def test_the_flips_of_an_image_do_not_depend_on_the_batch_size() -> None:
    assert flipped(train_loader(96, flip="random", batch_size=96)) == flipped(
        train_loader(96, flip="random", batch_size=16)
    )


def test_the_pixels_of_an_epoch_do_not_depend_on_the_batch_size() -> None:
    every: dict[str, Any] = {
        "crop": 2,
        "flip": "random",
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.1,
        "cutout": 3,
    }
    whole = torch.cat([x_BCHW for x_BCHW, _ in train_loader(96, batch_size=96, **every)])
    parts = torch.cat([x_BCHW for x_BCHW, _ in train_loader(96, batch_size=12, **every)])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)


def test_alternating_flips_turn_every_image_over_from_one_epoch_to_the_next() -> None:
    first, second, third = (
        flipped(train_loader(100, flip="alternating", epoch=epoch)) for epoch in range(3)
    )
    assert second == {index: not right for index, right in first.items()}
    assert third == first
    assert len(set(first.values())) == 2


@pytest.mark.parametrize(
    "mix", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}], ids=str
)
def test_mixes_give_probabilities_as_targets(mix: dict[str, Any]) -> None:
    soft = 0
    for x_BCHW, target_BK in train_loader(40, **mix):
        assert target_BK.shape == (len(x_BCHW), CLASSES)
        torch.testing.assert_close(target_BK.sum(dim=1), torch.ones(len(x_BCHW)))
        assert bool((target_BK >= 0).all())
        soft += int(((target_BK > 0).sum(dim=1) > 1).sum())
    assert soft > 0


def test_without_mixes_targets_are_class_numbers() -> None:
    for _, labels_B in train_loader():
        assert labels_B.dtype == torch.int64
        assert labels_B.dim() == 1


def test_batches_come_in_the_dtype_and_memory_format_asked_for() -> None:
    images_NCHW, labels_N = numbered(8)
    options: dict[str, Any] = {
        "dtype": torch.bfloat16,
        "memory_format": torch.channels_last,
        "batch_size": 4,
        **PLAIN,
    }
    train = TrainLoader(
        images_NCHW,
        labels_N,
        ops=augment.build(augmentation({"crop": 1}), 3),
        seed=0,
        classes=CLASSES,
        **options,
    )
    for loader in (train, EvalLoader(images_NCHW, labels_N, **options)):
        for x_BCHW, _ in loader:
            assert x_BCHW.dtype == torch.bfloat16
            assert x_BCHW.is_contiguous(memory_format=torch.channels_last)


def test_the_loaders_leave_the_images_and_the_default_generator_as_they_were() -> None:
    before = torch.random.get_rng_state()
    loader = train_loader(
        50, crop=2, flip="random", brightness=0.4, cutout=4, erasing=0.5, mixup=1.0, cutmix=1.0
    )
    list(loader)
    assert torch.equal(loader.images_NCHW, numbered(50)[0])
    assert torch.equal(torch.random.get_rng_state(), before)


@given(st.integers(1, 60), st.integers(1, 64))
def test_evaluation_gives_every_image_in_order_normalised(count: int, batch_size: int) -> None:
    images_NCHW, labels_N = numbered(count)
    loader = EvalLoader(
        images_NCHW, labels_N, batch_size=batch_size, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)
    )
    for _ in range(2):  # the second time from what was kept
        content = list(loader)
        assert len(content) == len(loader)
        x_NCHW = torch.cat([x_BCHW for x_BCHW, _ in content])
        mean_C, std_C = torch.tensor((0.1, 0.2, 0.3)), torch.tensor((0.5, 1.0, 2.0))
        expected_NCHW = (images_NCHW / 255 - mean_C[:, None, None]) / std_C[:, None, None]
        torch.testing.assert_close(x_NCHW, expected_NCHW, rtol=1e-5, atol=1e-6)
        assert torch.equal(torch.cat([labels_B for _, labels_B in content]), labels_N)
