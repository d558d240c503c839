"""Time of one training step and of one evaluation: `nox -s bench` saves the figures and compares them with the last.

The quick profile's net and batch, synthetic grey images of 14 x 14 pixels, one CPU thread; N batch,
C, H, W.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.study.recipe_fields import ModelRecipe, ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train import evaluate
from harness.train.model import build
from harness.train.step import Step, StepSettings

BATCH, SIDE, CLASSES = 100, 14, 10
STEPS = 100_000  # more than pytest-benchmark will ever take
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def net(memory_format: torch.memory_format) -> torch.nn.Module:
    recipe = ModelRecipe(blocks=3, width=0.25, hidden=32)
    return build(recipe, in_channels=1, side=SIDE, classes=CLASSES, seed=0).to(
        memory_format=memory_format
    )


def batch(memory_format: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(BATCH, 1, SIDE, SIDE, generator=source).to(memory_format=memory_format)
    return x_NCHW, torch.randint(CLASSES, (BATCH,), generator=source)


@pytest.mark.parametrize(
    "opt_func",
    [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.NAdam],
    ids=lambda o: o.__name__,
)
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
def test_a_training_step(benchmark: Any, memory_format: torch.memory_format, opt_func: Any) -> None:
    model = net(memory_format)
    step = Step(
        model, schedule_table(ScheduleRecipe(), STEPS), StepSettings(1e-4, 0.1, opt_func=opt_func)
    )
    x_NCHW, labels_N = batch(memory_format)
    model.train()
    benchmark(step, x_NCHW, labels_N)
    benchmark.extra_info["images"] = BATCH


@pytest.mark.parametrize("clip", [None, "value", "norm"])
def test_a_training_step_with_each_kind_of_clipping(benchmark: Any, clip: str | None) -> None:
    model = net(torch.channels_last)
    settings = StepSettings(1e-4, 0.1 if clip else None, clip or "value")
    step = Step(model, schedule_table(ScheduleRecipe(), STEPS), settings)
    x_NCHW, labels_N = batch(torch.channels_last)
    model.train()
    benchmark(step, x_NCHW, labels_N)
    benchmark.extra_info["images"] = BATCH


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
def test_an_evaluation_of_ten_batches(benchmark: Any, memory_format: torch.memory_format) -> None:
    content = [batch(memory_format)] * 10
    found = benchmark(evaluate, net(memory_format), content)
    assert found["images"] == 10 * BATCH
    benchmark.extra_info["images"] = 10 * BATCH


def test_the_schedule_of_a_whole_run(benchmark: Any) -> None:
    assert len(benchmark(schedule_table, ScheduleRecipe(), 30 * 98)) == 30 * 98
