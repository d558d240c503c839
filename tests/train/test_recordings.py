"""How many recordings a study takes at profile full, counted without a GPU and without images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.study.arms import arms
from harness.study.cells import cells
from harness.study.study import load_study
from harness.train.data import Split
from harness.train.engine import KEEP, Program, Programs
from harness.train.parts import Arena, Loaders
from harness.train.run import program_key
from harness.train.step import StepSettings
from tests.train.tiny import batches, net


def ground() -> Arena:
    """Return images of CIFAR-10's number and shape that take no memory."""

    def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(count, -1, -1, -1), torch.zeros(
            count, dtype=torch.int64
        )

    parts = dict(
        zip(("train", "val", "test"), (images(40_000), images(10_000), images(10_000)), strict=True)
    )
    fields: dict[str, Any] = {
        f"{name}_{kind}": part[at]
        for name, part in parts.items()
        for at, kind in enumerate(("images_NCHW", "labels_N"))
    }
    split = Split(
        **fields, classes=tuple("abcdefghij"), mean=(0.5,) * 3, std=(0.2,) * 3, fingerprint=""
    )
    every = torch.arange(0)
    return Arena(split, clean_index_N=every, probe_index_N=every, curve_index_N=every)


def recordings(name: str, keep: int) -> tuple[int, int]:
    """Return (recordings, trials) of a study at profile full, its cells in the order of the plan."""
    study, shelf, place = load_study(name).under("full"), Programs(keep=keep), ground()
    model, made = net(), 0

    def make() -> Program:
        nonlocal made
        made += 1
        return Program(model, StepSettings(), batches(1), room=1)

    planned = cells(study, "")
    for cell in planned:
        loader = Loaders.of(cell.recipe, place, cell.seed, torch.channels_last).train
        shelf.get(program_key(cell.recipe, loader, resident=True), make)
    return made, len(planned)


@pytest.mark.parametrize(("name", "structures"), [("augmentations", 9), ("blocks", 7)])
def test_a_study_at_profile_full_records_each_structure_once(name: str, structures: int) -> None:
    assert recordings(name, KEEP)[0] == structures
    assert len(arms(load_study(name).under("full"))) >= structures


def test_a_shelf_that_is_too_small_records_at_every_trial() -> None:
    made, trials = recordings("augmentations", 4)
    assert made == trials


def test_a_device_with_room_keeps_more_than_the_least() -> None:
    shelf = Programs(keep=1, room=lambda _: True)
    for key in range(3):
        shelf.get(key, lambda: Program(net(), StepSettings(), batches(1), room=1))
    assert len(shelf) == 3


def test_the_oldest_programs_go_one_by_one_when_memory_runs_out() -> None:
    shelf, left = Programs(), 2

    def make() -> Program:
        nonlocal left
        if len(shelf) > left:
            raise torch.OutOfMemoryError("out of memory")
        return Program(net(), StepSettings(), batches(1), room=1)

    for key in range(5):
        shelf.get(key, make)
    assert len(shelf) == left + 1
    assert shelf.get(4, lambda: pytest.fail("the newest one was dropped")) is not None


def test_memory_that_runs_out_with_nothing_to_give_up_is_an_error() -> None:
    def make() -> Program:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Programs().get("a", make)
