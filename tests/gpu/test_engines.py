"""The engines on a CUDA device: the graph against the eager engine, recordings, memory, waits. `nox -s gpu` runs them.

Written on a machine without a GPU: until somebody runs them on one, what they claim is unmeasured.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.errors import out_of_memory
from harness.study.schedules import schedule_table
from harness.study.trial import Trial
from harness.train import run
from harness.train.arithmetic import precision_on, prepare
from harness.train.engine import Program, choose
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.loop import fit_one_cycle
from harness.train.parts import Loaders, arena, place, step_settings
from harness.train.run import program_for
from harness.workers.runner import failed
from tests.train.tiny import batches, cell, net, recipe, weights

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    pytest.mark.filterwarnings(
        "default"
    ),  # what a library says of a GPU that nobody tried is no fault of ours
]
GPU = "cuda:0"
run_module = importlib.import_module(
    "harness.train.run"
)  # by its full name: the package has a function of that name, too

# Both engines launch the same kernels in the same order; a graph keeps the kernels that its warm-up
# chose.
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(autouse=True)
def arithmetic() -> Iterator[None]:
    prepare(GPU)
    with torch.random.fork_rng(devices=[GPU]):
        yield


def trained(engine: str, **changes: Any) -> Trial:
    trial, _ = run(cell(**changes), device=GPU, engine=engine)
    return trial


def prepared(**changes: Any) -> tuple[Program, Loaders]:
    wanted = recipe(**changes)
    ground = arena(wanted.data, GPU)
    model, memory_format = place(wanted, ground, GPU, 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    program = program_for(wanted, ground, loaders.train, model)
    program.load(model)
    program.begin(schedule_table(wanted.schedule, 100), step_settings(wanted, GPU), loaders.train)
    return program, loaders


# --- agreement
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {
            "augment__cutout": 2,
            "augment__erasing": 0.3,
            "augment__mixup": 0.4,
            "augment__cutmix": 0.5,
        },
        {"optimizer__name": "sgd", "optimizer__grad_clip_by": "norm", "schedule__max_lr": 0.05},
        {"optimizer__name": "adamw", "loss__label_smoothing": 0.1},
        {"model__dropout": 0.5},
        {"train__batch_size": 50},
    ],
    ids=str,
)
def test_the_graph_engine_gives_the_losses_of_the_eager_engine(change: dict[str, Any]) -> None:
    eager, graph = trained("eager", **change), trained("graph", **change)
    assert (eager.environment.engine, graph.environment.engine) == ("eager", "graph")
    for name in ("online_loss", "val_loss", "grad_norm"):
        columns = [torch.tensor(getattr(trial.curve, name)) for trial in (graph, eager)]
        torch.testing.assert_close(*columns, **CLOSE)


def test_batches_of_any_loader_can_be_handed_to_a_graph() -> None:
    content = [
        (x_NCHW.to(GPU), labels_N.to(GPU))
        for x_NCHW, labels_N in [*batches(4), *batches(1, size=5, seed=3)]
    ]
    losses = []
    for engine in ("eager", "graph"):
        history = fit_one_cycle(2, 0.01, net().to(GPU), content, content, seed=0, engine=engine)
        losses.append(
            torch.tensor([(entry["online_loss"], entry["val_loss"]) for entry in history])
        )
    torch.testing.assert_close(*losses, **CLOSE)


@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_a_repeated_trial_gives_the_same_curve(engine: str) -> None:
    first, second = trained(engine), trained(engine)
    assert first.curve.online_loss == second.curve.online_loss
    assert first.curve.val_loss == second.curve.val_loss


@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_another_process_gives_the_same_curve(engine: str) -> None:
    told = (
        "from harness.train import run; from tests.train.tiny import cell; "
        f"trial, _ = run(cell(), device={GPU!r}, engine={engine!r}); print(trial.curve.model_dump_json())"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(
        trained(engine).curve.model_dump_json()
    )


def test_nothing_that_a_graph_reads_is_freed_by_later_trials() -> None:
    changes = {"augment__mixup": 0.4}
    first = trained("graph", **changes)
    trained("graph", augment__mixup=0.2)
    gc.collect()
    rubbish = [
        torch.full((1024,), float("nan"), device=GPU) for _ in range(2000)
    ]  # takes what was freed
    assert trained("graph", **changes).curve.online_loss == first.curve.online_loss
    assert len(rubbish) == 2000


def test_a_recording_s_peak_memory_is_the_same_for_every_trial() -> None:
    first, second = trained("graph"), trained("graph", optimizer__weight_decay=0.1)
    assert first.peak_mib == second.peak_mib > 0


def test_a_program_can_be_recorded_after_the_last_one_died() -> None:
    prepared()
    run_module._PROGRAMS.clear()
    gc.collect()
    assert prepared()[0].recordings == 1


def test_fp32_is_not_tf32() -> None:
    source = torch.Generator(GPU).manual_seed(0)
    left, right = (torch.randn(256, 256, device=GPU, generator=source) for _ in range(2))
    exact = (left.double() @ right.double()).float()
    torch.testing.assert_close(left @ right, exact, rtol=1e-5, atol=1e-4)


def test_half_precision_trains_to_the_end() -> None:
    trial = trained("graph", train__precision="bf16")
    assert trial.state == "complete"
    assert trial.environment.precision == precision_on(GPU, "bf16")


# --- recordings
# -------------------------------------------------------------------------------------------------------


def test_auto_is_the_graph_engine() -> None:
    assert trained("auto").environment.engine == choose(GPU).name == "graph"


def test_changed_numbers_record_nothing_anew() -> None:
    first, _ = prepared()
    second, _ = prepared(
        optimizer__weight_decay=0.1,
        model__dropout=0.5,
        augment__brightness=0.3,
        schedule__max_lr=0.1,
    )
    assert first is second
    assert first.recordings == 1


def test_changed_numbers_change_what_a_recording_does() -> None:
    program, loaders = prepared(schedule__max_lr=0.01)
    program.epoch(loaders.train, 2)
    before = weights(program.model)
    program, loaders = prepared(schedule__max_lr=0.0001)
    program.epoch(loaders.train, 2)
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(program.model), strict=True))


def test_recording_leaves_the_net_as_it_was() -> None:
    wanted = recipe()
    ground = arena(wanted.data, GPU)
    model, memory_format = place(wanted, ground, GPU, 0)
    before = weights(model)
    Program(
        model,
        step_settings(wanted, GPU),
        Loaders.of(wanted, ground, 0, memory_format).train,
        room=16,
    )
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_an_epoch_of_replays_never_waits_for_the_device() -> None:
    program, loaders = prepared()
    program.epoch(loaders.train, len(loaders.train))
    torch.cuda.set_sync_debug_mode("error")
    try:
        program.epoch(loaders.train, len(loaders.train))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- memory
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_memory_does_not_grow_over_fifty_trials(engine: str) -> None:
    trained(engine, train__epochs=1)
    gc.collect()
    before = torch.cuda.memory_allocated(GPU)
    for seed in range(50):
        run(cell(seed, train__epochs=1), device=GPU, engine=engine)
    gc.collect()
    assert torch.cuda.memory_allocated(GPU) <= before + 2**20


def test_memory_that_runs_out_is_one_failed_trial_and_the_next_one_runs() -> None:
    wanted = cell(train__epochs=1, model__width=4.0, model__channels=[64, 64])
    free, total = torch.cuda.mem_get_info(GPU)
    assert free > 0
    torch.cuda.set_per_process_memory_fraction(16 * 2**20 / total, GPU)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            run(wanted, device=GPU, engine="graph")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert out_of_memory(caught.value)
    assert failed(wanted, caught.value).cause == "infrastructure"
    assert trained("graph").state == "complete"


# --- images in the host's memory
# --------------------------------------------------------------------------------------


def test_streamed_images_give_the_batches_of_resident_ones() -> None:
    ground = arena(recipe().data, GPU)
    resident = Loaders.of(recipe(), ground, 3, torch.channels_last).train
    options: dict[str, Any] = {
        "batch_size": resident.batch_size,
        "ops": resident.ops,
        "mean": ground.split.mean,
        "std": ground.split.std,
        "seed": 3,
        "classes": len(ground.split.classes),
        "memory_format": torch.channels_last,
    }
    streamed = TrainLoader(
        ground.split.train_images_NCHW.cpu(), ground.split.train_labels_N, **options
    )
    assert not streamed.resident
    for (x_BCHW, target), (expected_BCHW, expected) in zip(streamed, resident, strict=True):
        assert x_BCHW.device == expected_BCHW.device
        assert torch.equal(x_BCHW, expected_BCHW)
        assert torch.equal(target, expected)


def test_streamed_evaluation_images_arrive_on_the_device() -> None:
    split = arena(recipe().data, GPU).split
    loader = EvalLoader(
        split.val_images_NCHW.cpu(),
        split.val_labels_N,
        batch_size=40,
        mean=split.mean,
        std=split.std,
    )
    assert {x_BCHW.device for x_BCHW, _ in loader} == {split.val_labels_N.device}


# --- timing
# -----------------------------------------------------------------------------------------------------------


def test_a_trial_is_timed_apart_from_its_start() -> None:
    pytest.importorskip("pynvml")
    trial = trained("graph", train__epochs=4)
    assert trial.train_seconds > 0
    assert trial.readings["start_seconds"] > 0
    assert all(
        math.isfinite(trial.readings[name]) for name in ("joules", "watts", "sm_mhz", "celsius")
    )
