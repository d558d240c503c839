"""Images and augmentations of the user's. Legend: N images, C channels, H height, W width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import DataError, HarnessError, RecipeError
from harness.train import augment, data, run
from harness.train.check import check
from harness.train.parts import arena
from harness.train.samples import augmented
from harness.train.streams import generator
from tests.train.tiny import cell, recipe

SOURCE = """
import numpy as np

def load(count=40, channels="last"):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    images = (40 * labels[:, None, None, None] + rng.integers(0, 30, (count, 8, 8, 3))).astype(np.uint8)
    if channels == "first":
        images = images.transpose(0, 3, 1, 2)
    if channels == "grey":
        images = images[..., 0]
    return {"train_images": images, "train_labels": labels, "test_images": images[:8], "test_labels": labels[:8],
            "classes": list("abcd")}

def changed(**change):
    table = load()
    for key, value in change.items():
        table.pop(key) if value == "gone" else table.update({key: value})
    return table

def whole():
    table = load()
    return {key: table[key] for key in ("train_images", "train_labels", "classes")}

def floats():
    return {**load(), "train_images": load()["train_images"] / 255}

def tensors():
    import torch
    return {key: torch.as_tensor(value) if key != "classes" else value for key, value in load().items()}

def nothing():
    return None
"""

AUGMENT = """
import torch

def posterize(x, generator, bits=4):
    kept = torch.randint(bits, 9, (len(x), 1, 1, 1), generator=generator, device=x.device)
    levels = 2.0**kept - 1
    return (x * levels).round() / levels

def black(x, generator): return x.zero_()
def smaller(x, generator): return x[:, :, 1:]
def half(x, generator): return x.half()
def nothing(x, generator): ...
def no_generator(x): return x
def breaks(x, generator): return x.nope
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images.py").write_text(SOURCE)
    (tmp_path / "aug.py").write_text(AUGMENT)
    return tmp_path


# --- images
# -----------------------------------------------------------------------------------------------------------


def test_channels_come_last_first_or_not_at_all() -> None:
    last, first, grey = (
        data.load("images.py:load", kwargs={"channels": place})
        for place in ("last", "first", "grey")
    )
    assert torch.equal(last.train_images_NCHW, first.train_images_NCHW)
    assert torch.equal(last.train_images_NCHW[:, :1], grey.train_images_NCHW)
    assert last.classes == ("a", "b", "c", "d")


def test_tensors_are_arrays_and_the_fingerprint_is_of_the_content() -> None:
    prints = [data.load(f"images.py:{name}").fingerprint for name in ("load", "tensors", "whole")]
    assert prints[0] == prints[1] != prints[2]
    assert data.load("images.py:load", kwargs={"count": 48}).fingerprint != prints[0]


def test_images_of_ones_own_are_resized_as_any_others() -> None:
    assert data.load("images.py:load", size=4).train_images_NCHW.shape == (40, 3, 4, 4)


def test_without_a_test_part_a_fixed_fifth_is_held_out() -> None:
    found = data.load("images.py:whole")
    assert (len(found.train_labels_N), len(found.test_labels_N)) == (32, 8)


def test_a_trial_runs_on_them() -> None:
    asked = recipe().with_overrides(
        {"data.name": "images.py:load", "data.kwargs.count": 60, "data.train": 30, "data.val": 20}
    )
    trial, _ = run(cell().model_copy(update={"recipe": asked}))
    assert trial.state == "complete"
    assert trial.data_fingerprint == data.load("images.py:load", kwargs={"count": 60}).fingerprint


def test_a_source_is_known_to_be_there_without_being_run(files: Path) -> None:
    (files / "images.py").write_text("raise RuntimeError\n")
    assert data.available("images.py:load")


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "message"),
    [
        (
            "load",
            {"cuont": 3},
            RecipeError,
            "data.kwargs.cuont: .* takes no 'cuont' .did you mean 'count'",
        ),
        ("load", {"count": "many"}, RecipeError, "raised TypeError"),
        ("nothing", {}, DataError, "returns a NoneType and no table"),
        ("floats", {}, DataError, "train_images are float64 and should be uint8"),
        ("changed", {"classes": "gone"}, DataError, "returns no 'classes'"),
        ("changed", {"test_labels": "gone"}, DataError, "returns no 'test_labels'"),
        ("changed", {"train_image": 1}, DataError, "did you mean 'train_images'"),
        ("changed", {"train_labels": [0.5] * 40}, DataError, "train_labels are float64"),
        ("changed", {"train_labels": [7] * 40}, DataError, "7"),
        ("changed", {"train_labels": [0, 1]}, DataError, "40 images and 2 labels"),
        ("changed", {"classes": [1, 2, 3, 4]}, DataError, "classes are"),
    ],
)
def test_a_source_that_does_not_fit_gets_an_error_that_says_why(
    name: str, kwargs: dict[str, Any], error: type[HarnessError], message: str
) -> None:
    with pytest.raises(error, match=message):
        data.load(f"images.py:{name}", kwargs=kwargs)


# --- augmentations
# ----------------------------------------------------------------------------------------------------

ON = {"augment.own.posterize": "aug.py:posterize"}


def drawn(fields: dict[str, Any], *, epoch: int = 0) -> dict[str, tuple[torch.Tensor, ...]]:
    ops = augment.build(recipe().with_overrides(fields).augment, 1)
    about = augment.Epoch(10, (1, 8, 8), epoch, torch.arange(10), 10)
    return augment.draw_epoch(ops, about, {op.name: generator(0, op.name, epoch) for op in ops})


def test_switching_one_on_moves_no_other_draw() -> None:
    without, with_it = drawn({}), drawn(ON)
    assert set(with_it) - set(without) == {"own.posterize"}
    assert all(
        torch.equal(a, b)
        for name in without
        for a, b in zip(without[name], with_it[name], strict=True)
    )


def test_its_draws_follow_the_seed_and_the_epoch() -> None:
    first, again, later = (
        drawn(ON)["own.posterize"][0],
        drawn(ON)["own.posterize"][0],
        drawn(ON, epoch=1)["own.posterize"][0],
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_it_changes_training_images_by_its_arguments_and_leaves_evaluation_alone() -> None:
    one_bit = {**ON, "augment.kwargs.posterize.bits": 1}
    bare = {
        "augment.crop": 0,
        "augment.flip": "none",
        "augment.brightness": 0,
        "augment.contrast": 0,
    }
    ground = arena(recipe().data, "cpu")
    pictures = [
        augmented(recipe().with_overrides({**bare, **fields}), ground)
        for fields in ({}, ON, one_bit)
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3
    trials = [
        run(cell().model_copy(update={"recipe": recipe().with_overrides(fields)}))[0]
        for fields in (ON, ON)
    ]
    assert trials[0].metrics == trials[1].metrics


def test_it_is_given_pixels_between_0_and_1_in_float32(files: Path) -> None:
    (files / "aug.py").write_text(
        "import torch\ndef look(x, generator):\n"
        "    if x.dtype != torch.float32 or x.min() < 0 or x.max() > 1:\n        raise ValueError(f'{x.dtype} {x.max()}')\n"
        "    return x\n"
    )
    asked = recipe().with_overrides(
        {"augment.own.look": "aug.py:look", "augment.brightness": 0, "augment.contrast": 0}
    )
    assert run(cell().model_copy(update={"recipe": asked}))[0].state == "complete"


def test_those_of_ones_own_are_applied_in_the_order_of_their_names_before_cutout() -> None:
    fields = {
        "augment.own.b": "aug.py:black",
        "augment.own.a": "aug.py:posterize",
        "augment.cutout": 2,
    }
    ops = augment.build(recipe().with_overrides(fields).augment, 1)
    assert [op.name for op in ops][-3:] == ["own.a", "own.b", "cutout"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smaller", r"returns \(4, 1, 7, 8\) torch.float32 for \(4, 1, 8, 8\)"),
        ("half", "torch.float16"),
        ("nothing", "returns a NoneType"),
        ("no_generator", "takes 1 of x_NCHW, generator by position"),
        ("breaks", "raised AttributeError"),
    ],
)
def test_an_augmentation_that_does_not_fit_gets_an_error_that_names_its_field(
    name: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        check(recipe().with_overrides({"augment.own.mine": f"aug.py:{name}"}))
    assert caught.value.message.startswith("augment.own.mine")


def test_the_array_that_a_source_returns_is_not_changed_by_training() -> None:
    before = data.load("images.py:load").train_images_NCHW.clone()
    asked = recipe().with_overrides(
        {
            "data.name": "images.py:load",
            "data.train": 20,
            "data.val": 12,
            "augment.own.black": "aug.py:black",
        }
    )
    run(cell().model_copy(update={"recipe": asked}))
    assert np.array_equal(
        arena(asked.data, "cpu").split.test_images_NCHW.numpy(), before[:8].numpy()
    )
