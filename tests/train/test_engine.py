"""The engines on a CPU: what is recorded for a GPU is here run as it is, on the same buffers, by `EagerReplay`."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train import engine as engines
from harness.train import run
from harness.train.capture import EagerReplay, Handed, Lane, Resident, kept
from harness.train.engine import Choice, Program, Programs, choose, room_for
from harness.train.loop import fit_one_cycle
from harness.train.model import Dropout
from harness.train.parts import Loaders, arena, place, step_settings
from harness.train.run import program_for
from harness.train.step import Step, StepSettings
from tests.train.tiny import Batch, batches, cell, net, recipe, weights

CPU = torch.device("cpu")
# A recorded step gathers one batch where the eager loader augments several at once: sums may round
# differently.
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
VAL = batches(2, seed=9)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield


def trained(
    model: nn.Module, content: list[Batch], engine: Any = "eager", **options: Any
) -> list[dict[str, Any]]:
    settings = {"seed": 0, "weight_decay": 0.01, "grad_clip": 0.1, **options}
    return fit_one_cycle(2, 0.01, model, content, VAL, engine=engine, **settings)


def losses(history: list[dict[str, Any]]) -> Tensor:
    return torch.tensor(
        [(entry["online_loss"], entry["val_loss"], entry["grad_norm"]) for entry in history]
    )


def program(model: nn.Module, content: Any, **changes: Any) -> Program:
    return Program(model, StepSettings(0.01, 0.1, **changes), content, room=64)


# --- choosing
# ---------------------------------------------------------------------------------------------------------


def test_auto_on_a_cpu_is_the_eager_engine_and_says_why() -> None:
    assert choose("cpu") == Choice("eager", "CUDA graphs need a CUDA device")


def test_auto_on_a_gpu_is_the_graph_engine() -> None:
    assert choose("cuda:0").name == "graph"


def test_auto_on_a_gpu_with_a_foreign_optimiser_is_the_eager_engine() -> None:
    assert choose("cuda:0", opt_func=torch.optim.NAdam).name == "eager"


def test_an_engine_that_was_asked_for_is_taken() -> None:
    assert choose("cuda", "eager") == Choice("eager", "as asked")


def test_the_environment_variable_stands_in_for_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engines.VARIABLE, "eager")
    assert choose("cuda").name == "eager"
    assert choose("cuda", "graph").name == "graph"


def test_the_graph_engine_is_refused_on_a_cpu() -> None:
    with pytest.raises(UsageError, match="CUDA"):
        choose("cpu", "graph")


def test_an_unknown_engine_is_a_usage_error_with_the_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'graph'"):
        choose("cpu", "grahp")


def test_a_foreign_optimiser_cannot_be_recorded() -> None:
    with pytest.raises(UsageError, match="NAdam"):
        program(net(), batches(1), opt_func=torch.optim.NAdam)


# --- a recorded step equals a step
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"opt_func": torch.optim.SGD},
        {"opt_func": torch.optim.AdamW, "grad_clip_by": "norm"},
        {"label_smoothing": 0.1},
        {"precision": "bf16"},
        {"precision": "fp16"},
    ],
    ids=str,
)
def test_a_program_trains_as_the_eager_engine_does(change: dict[str, Any]) -> None:
    plain, recorded, content = net(), net(), batches(5)
    expected = trained(plain, content, **change)
    found = trained(recorded, content, program(recorded, content, **change), **change)
    assert torch.equal(losses(found), losses(expected))
    assert all(torch.equal(a, b) for a, b in zip(weights(recorded), weights(plain), strict=True))


def test_a_batch_of_another_size_runs_eagerly_in_its_turn() -> None:
    content = [*batches(3), *batches(1, size=5, seed=2), *batches(2, seed=3)]
    plain, recorded = net(), net()
    expected = trained(plain, content)
    assert torch.equal(
        losses(trained(recorded, content, program(recorded, content))), losses(expected)
    )
    assert all(torch.equal(a, b) for a, b in zip(weights(recorded), weights(plain), strict=True))


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
        {"augment__flip": "alternating", "augment__crop_mode": "zero"},
        {"train__batch_size": 50},
        {"train__batch_size": 149},
        {"train__batch_size": 4096},
        {"loss__label_smoothing": 0.1, "optimizer__name": "sgd"},
    ],
    ids=str,
)
def test_a_whole_trial_on_a_program_equals_the_eager_trial(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = cell(**change)
    expected, _ = run(wanted)
    # by its full name: the package has a function of that name, too
    module = importlib.import_module("harness.train.check")
    monkeypatch.setattr(module, "choose", lambda *_, **__: Choice("graph", "to be tried on a CPU"))
    found, _ = run(wanted)
    assert found.environment.engine == "graph"
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-3, abs=1e-4)
    for name in ("online_loss", "val_loss", "grad_norm", "clipped_share", "online_accuracy"):
        columns = [torch.tensor(getattr(trial.curve, name)) for trial in (found, expected)]
        torch.testing.assert_close(*columns, **CLOSE)


# --- one recording, many trials
# ---------------------------------------------------------------------------------------


def test_trials_that_differ_in_numbers_share_one_recording() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"optimizer__weight_decay": 0.01, "optimizer__grad_clip": 1.0, "model__dropout": 0.5},
        {
            "schedule__max_lr": 0.001,
            "augment__brightness": 0.4,
            "augment__crop": 2,
            "train__epochs": 3,
        },
    ]
    programs = [_program(**change) for change in changes]
    assert len({id(found) for found in programs}) == 1
    assert programs[0].recordings == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model__blocks": 1, "model__channels": [4]},
        {"train__batch_size": 16},
        {"augment__flip": "none"},
        {"optimizer__grad_clip": 0},
        {"model__dropout": 0.0},
        {"augment__crop_mode": "zero"},
    ],
    ids=str,
)
def test_trials_of_another_structure_architecture_or_batch_size_do_not(
    change: dict[str, Any],
) -> None:
    assert _program() is not _program(**change)


def _program(**change: Any) -> Program:
    wanted = recipe(**change)
    ground = arena(wanted.data, "cpu")
    model, memory_format = place(wanted, ground, "cpu", 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    found = program_for(wanted, ground, loaders.train, model)
    found.load(model)
    found.begin(schedule_table(wanted.schedule, 10), step_settings(wanted, "cpu"), loaders.train)
    return found


def test_the_second_trial_of_a_program_remembers_nothing_of_the_first() -> None:
    content = batches(4)
    expected = [
        trained(net(seed=seed), content, weight_decay=decay) for seed, decay in ((0, 0.0), (1, 0.1))
    ]
    model = net()
    recorded = program(model, content)
    for seed, decay in ((0, 0.0), (1, 0.1)):
        recorded.load(net(seed=seed))
        assert torch.equal(
            losses(trained(model, content, recorded, weight_decay=decay)), losses(expected[seed])
        )
    assert recorded.recordings == 1


def test_loading_a_net_takes_its_dropout_rate_along() -> None:
    model = net(dropout=0.25)
    program(model, batches(1)).load(net(dropout=0.6))
    assert [float(layer.p) for layer in model.modules() if isinstance(layer, Dropout)] == [0.6]


def test_loading_and_beginning_move_no_tensor() -> None:
    recorded = _program()
    places = [tensor.data_ptr() for tensor in recorded.step.state()]
    other = _program(optimizer__weight_decay=0.3)
    assert [tensor.data_ptr() for tensor in other.step.state()] == places


def test_recording_leaves_weights_log_and_random_state_as_they_were() -> None:
    model = net()
    before, state = weights(model), torch.random.get_rng_state()
    seen: list[int] = []

    def recorder(
        body: Callable[[], None], device: torch.device, *, rewind: Callable[[], None], lane: Lane
    ) -> EagerReplay:
        assert isinstance(lane, Lane)
        assert device == CPU
        for _ in range(3):
            rewind()
            body()
            seen.append(1)
        return EagerReplay(body)

    wanted = recipe()
    ground = arena(wanted.data, "cpu")
    mine, memory_format = place(wanted, ground, "cpu", 0)
    before, state = weights(mine), torch.random.get_rng_state()
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    recorded = Program(mine, step_settings(wanted, "cpu"), loaders.train, room=8, recorder=recorder)
    assert len(seen) == 3
    assert all(torch.equal(a, b) for a, b in zip(weights(mine), before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (int(recorded.step.at), recorded.step.done, float(recorded.step.correct)) == (0, 0, 0.0)


def test_what_steps_change_is_put_back() -> None:
    model = net()
    step = Step(model, schedule_table(ScheduleRecipe(), 4), StepSettings(precision="fp16"))
    before = [tensor.clone() for tensor in step.state()]
    with kept(step):
        model.train()
        step(*batches(1)[0])
        assert not torch.equal(step.weights.flat_P, before[0])
    assert all(torch.equal(a, b) for a, b in zip(step.state(), before, strict=True))
    assert step.done == 0


# --- faults
# -----------------------------------------------------------------------------------------------------------


def test_a_program_trains_its_own_net_only() -> None:
    with pytest.raises(UsageError, match="another net"):
        trained(net(), batches(2), program(net(), batches(2)))


def test_settings_that_switch_something_on_are_refused() -> None:
    model, content = net(), batches(2)
    with pytest.raises(UsageError, match="other operations"):
        trained(model, content, program(model, content), label_smoothing=0.1)


def test_a_run_longer_than_the_room_is_refused() -> None:
    model, content = net(), batches(2)
    with pytest.raises(UsageError, match="room"):
        trained(model, content, Program(model, StepSettings(0.01, 0.1), content, room=3))


def test_a_loader_of_other_images_is_refused() -> None:
    recorded = _program()
    wanted = recipe(data__train=100)
    loaders = Loaders.of(wanted, arena(wanted.data, "cpu"), 0, torch.channels_last)
    with pytest.raises(UsageError, match="loader"):
        recorded.begin([(0.01, 0.9)], step_settings(wanted, "cpu"), loaders.train)


def test_too_few_batches_are_a_usage_error_on_a_program_too() -> None:
    model, content = net(), batches(2)
    with pytest.raises(UsageError, match="gave 2 batches"):
        trained(model, content, program(model, content), steps_per_epoch=3)


# --- the shelf of programs
# --------------------------------------------------------------------------------------------


def test_only_the_programs_used_last_are_kept() -> None:
    shelf, made = Programs(keep=2), []  # a CPU has no room for more than are always kept

    def make() -> Program:
        made.append(1)
        return program(net(), batches(1))

    first = shelf.get("a", make)
    shelf.get("b", make)
    assert shelf.get("a", make) is first
    shelf.get("c", make)  # b goes
    assert (len(shelf), len(made)) == (2, 3)
    shelf.get("b", make)
    assert len(made) == 4
    shelf.clear()
    assert len(shelf) == 0


@pytest.mark.parametrize(("steps", "room"), [(1, 1024), (1024, 1024), (1025, 2048), (3000, 4096)])
def test_room_grows_in_powers_of_two(steps: int, room: int) -> None:
    assert room_for(steps) == room


# --- feeds
# ------------------------------------------------------------------------------------------------------------


def test_a_resident_feed_gives_the_batches_of_its_loader() -> None:
    wanted = recipe(augment__mixup=0.3, augment__cutout=2, train__batch_size=40)
    loader = Loaders.of(wanted, arena(wanted.data, "cpu"), 5, torch.channels_last).train
    feed = Resident(loader)
    for epoch in range(2):
        loader.set_epoch(epoch)
        feed.start()
        found = [tuple(part.clone() for part in feed.batch()) for _ in range(feed.whole)]
        found += list(feed.rest())
        for (x_BCHW, target), (expected_BCHW, expected) in zip(found, loader, strict=True):
            torch.testing.assert_close(x_BCHW, expected_BCHW, **CLOSE)
            assert torch.equal(target, expected)


def test_a_handed_batch_fits_only_a_buffer_of_its_shapes_and_dtypes() -> None:
    x_NCHW, labels_N = batches(1)[0]
    buffer = Handed(x_NCHW, labels_N)
    assert buffer.fits(x_NCHW, labels_N)
    assert not buffer.fits(x_NCHW[:3], labels_N[:3])
    assert not buffer.fits(x_NCHW.double(), labels_N)


def test_a_copy_of_a_program_s_net_is_independent_of_it() -> None:
    model = net()
    recorded = program(model, batches(1))
    twin = copy.deepcopy(model)
    recorded.load(net(seed=4))
    assert not all(torch.equal(a, b) for a, b in zip(weights(model), weights(twin), strict=True))
