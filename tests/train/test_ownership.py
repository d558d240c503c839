"""What a recording reads stays in memory: a CUDA graph goes on reading an address, whoever frees it.

On a CPU the recorded body is watched while it runs, and what it read is looked for when a second trial is bound.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from harness.study.recipe import Recipe
from harness.study.schedules import schedule_table
from harness.train.capture import Accesses, EagerReplay, Handed, Lane, Resident, record
from harness.train.check import engine_for
from harness.train.engine import Eager, Program
from harness.train.loop import evaluate
from harness.train.parts import Loaders, arena, place, step_settings
from harness.train.run import program_for
from harness.train.step import Step, StepSettings
from tests.train.tiny import recipe, weights

CPU = torch.device("cpu")
STRUCTURES: list[dict[str, Any]] = [
    {},
    {"augment__cutout": 2, "augment__erasing": 0.3, "augment__mixup": 0.4, "augment__cutmix": 0.5},
    {"augment__flip": "alternating", "augment__brightness": 0.3, "model__dropout": 0.5},
    {"optimizer__name": "sgd", "optimizer__grad_clip_by": "norm", "loss__label_smoothing": 0.1},
    {"train__precision": "bf16", "train__batch_size": 50},
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield


class Watched:
    """A recorder that notes what a body reads and, as a CUDA graph, keeps nothing of it."""

    def __init__(self) -> None:
        self.read: list[StorageWeakRef] = []

    def __call__(
        self,
        body: Callable[[], None],
        device: torch.device,
        *,
        rewind: Callable[[], None],
        lane: Lane,
    ) -> EagerReplay:
        assert (device, lane.__class__) == (CPU, Lane)
        rewind()
        with Accesses() as accesses:
            body()
        self.read += [StorageWeakRef(storage) for storage in accesses.outside.values()]  # type: ignore[no-untyped-call]
        return EagerReplay(body)

    @property
    def freed(self) -> int:
        """How much of what was read is gone."""
        gc.collect()
        return sum(reference.expired() for reference in self.read)  # type: ignore[no-untyped-call]


def recorded(recorder: Watched, **changes: Any) -> Program:
    """Return a program whose first trial is over and gone, with evaluation recorded, and whose second trial is bound."""
    program = first_trial(recorder, **changes)
    loaders = loaders_of(1, **changes)
    program.begin(
        schedule_table(recipe(**changes).schedule, 10),
        step_settings(recipe(**changes), "cpu"),
        loaders.train,
    )
    return program


def first_trial(recorder: Watched, **changes: Any) -> Program:
    wanted = recipe(**changes)
    model, _ = place(wanted, arena(wanted.data, "cpu"), "cpu", 0)
    loaders = loaders_of(0, **changes)
    program = Program(
        model, step_settings(wanted, "cpu"), loaders.train, room=64, recorder=recorder
    )
    evaluate(model, loaders.curve, scores=program.scores)
    return program


def loaders_of(seed: int, **changes: Any) -> Loaders:
    wanted = recipe(**changes)
    return Loaders.of(wanted, arena(wanted.data, "cpu"), seed, torch.channels_last)


@pytest.mark.parametrize("changes", STRUCTURES, ids=str)
def test_nothing_that_a_recording_reads_is_freed_when_a_second_trial_is_bound(
    changes: dict[str, Any],
) -> None:
    recorder = Watched()
    program = recorded(recorder, **changes)
    assert len(recorder.read) > 10
    assert recorder.freed == 0
    assert program.recordings == 1


def test_a_feed_that_lets_the_recorded_loader_go_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Resident.bind

    def forgetful(self: Resident, loader: Iterable[Any]) -> None:
        honest(self, loader)
        self.recorded = self.loader

    monkeypatch.setattr(Resident, "bind", forgetful)
    recorder = Watched()
    program = recorded(recorder, augment__mixup=0.4)
    assert recorder.freed == 3  # mean, deviation and class numbers
    assert program.recordings == 1


def planted() -> tuple[Callable[[], None], Callable[[], None], StorageWeakRef]:
    """Return a body that reads a constant, what frees it, and a weak reference to it."""
    constants = [torch.ones(3)]
    total = torch.zeros(3)

    def body() -> None:
        total.add_(constants[-1] if constants else 0.0)

    return body, constants.clear, StorageWeakRef(constants[0].untyped_storage())  # type: ignore[no-untyped-call]


def test_a_freed_constant_is_caught() -> None:
    body, free, constant = planted()
    recorder = Watched()
    recorder(body, CPU, rewind=lambda: None, lane=Lane())
    assert (recorder.freed, constant.expired()) == (0, False)  # type: ignore[no-untyped-call]
    free()
    assert (recorder.freed, constant.expired()) == (1, True)  # type: ignore[no-untyped-call]


def test_a_recording_holds_what_its_body_reads_even_when_its_owner_lets_it_go() -> None:
    body, free, constant = planted()
    replay = record(body, CPU, rewind=lambda: None, lane=Lane())
    free()
    gc.collect()
    assert not constant.expired()  # type: ignore[no-untyped-call]
    assert len(replay.held) == 2


def test_what_a_body_makes_itself_is_not_counted_as_read() -> None:
    weight = torch.ones(3, requires_grad=True)
    with Accesses() as accesses:
        (weight * 2).relu().sum().backward()  # type: ignore[no-untyped-call]
    assert list(accesses.outside) == [weight.untyped_storage()._cdata]


def test_recorded_evaluation_gives_the_numbers_of_the_eager_one() -> None:
    program, loaders = first_trial(Watched()), loaders_of(0)
    for loader in (loaders.curve, loaders.probe, loaders.val):
        assert evaluate(program.model, loader, scores=program.scores) == evaluate(
            program.model, loader
        )


def test_evaluation_is_recorded_once_for_each_shape_and_serves_the_next_net() -> None:
    program, loaders = first_trial(Watched()), loaders_of(0)
    before = len(program.scores.replays)
    other, _ = place(recipe(), arena(recipe().data, "cpu"), "cpu", 7)
    program.load(other)
    assert evaluate(program.model, loaders.curve, scores=program.scores) == evaluate(
        other, loaders.curve
    )
    assert len(program.scores.replays) == before


def test_a_loader_with_other_labels_or_constants_is_not_the_recorded_one() -> None:
    from harness.errors import UsageError

    loaders = loaders_of(0)
    for change in ("labels_N", "constants"):
        other = loaders_of(1).train
        setattr(
            other, change, other.labels_N.clone() if change == "labels_N" else ((0.0,), (1.0,), 10)
        )
        with pytest.raises(UsageError, match="loader"):
            Resident(loaders.train).bind(other)


@pytest.mark.parametrize("optimizer", [torch.optim.RAdam, torch.optim.NAdam, torch.optim.Adagrad])
def test_warming_up_leaves_a_foreign_optimiser_without_a_past(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    ends = []
    for warm in (False, True):
        model, memory_format = place(recipe(), arena(recipe().data, "cpu"), "cpu", 0)
        loader = Loaders.of(recipe(), arena(recipe().data, "cpu"), 0, memory_format).train
        engine = Eager(Step(model, [(0.01, 0.9)] * 8, StepSettings(opt_func=optimizer)))
        if warm:
            engine.warm_up(loader)
        torch.manual_seed(0)
        engine.epoch(loader, len(loader))
        ends.append(weights(model))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, side, in_channels, classes):
        super().__init__()
        self.layer = nn.Linear(in_channels * side * side, classes)

    def forward(self, x):
        out = self.layer(x.flatten(1))
        return {line}
"""


@pytest.mark.parametrize(
    ("line", "engine"),
    [
        ("out", "graph"),
        ("out if out.sum() > 0 else -out", "eager"),
        ("out if self.training or out.sum() > 0 else -out", "eager"),
        ("out * __import__('torch').ones(10)", "eager"),
    ],
)
def test_a_net_that_reads_from_the_device_runs_eagerly_and_the_line_is_named(
    line: str, engine: str, tmp_path: Path
) -> None:
    file = tmp_path / "nets.py"
    file.write_text(NETS.replace("{line}", line))
    wanted = Recipe().with_overrides(
        {"data.name": "digits", "data.train": 150, "data.val": 100, "model.name": f"{file}:Net"}
    )
    choice = engine_for(wanted, "cuda")
    assert choice.name == engine
    assert ("nets.py line 11" in choice.why) == (engine == "eager")


class Measured(EagerReplay):
    """A replay that took some memory while it ran."""

    def __init__(self, taken: int, *held: torch.Tensor) -> None:
        super().__init__(lambda: None, [tensor.untyped_storage() for tensor in held])
        self.peak_bytes = taken


def test_a_programs_peak_is_what_its_recordings_hold_once_and_the_most_that_one_takes() -> None:
    program = first_trial(Watched())
    shared, mine = torch.zeros(100), torch.zeros(10)
    program._replay = Measured(5000, shared, mine)
    program.scores._recorded = [
        (Handed(shared, mine), Measured(7000, shared)),
        (Handed(shared, mine), Measured(10)),
    ]
    assert program.peak_bytes == 4 * 110 + 7000


def test_a_pool_of_memory_is_used_while_a_graph_lives_in_it_and_never_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handles = iter(range(10))
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: next(handles))
    lane, replay = Lane(), EagerReplay(lambda: None)
    assert lane.pool() == 0
    lane.add(replay)  # type: ignore[arg-type]
    assert (lane.pool(), lane.pool()) == (0, 0)
    del replay
    gc.collect()
    assert lane.pool() == 1


def test_programs_that_live_at_once_have_streams_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torch deals its streams out in turn, and comes round again
    class Stream:
        dealt = 0

        def __init__(self, _: torch.device) -> None:
            self.number = Stream.dealt % 4
            Stream.dealt += 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Stream) and other.number == self.number

        def __hash__(self) -> int:
            return self.number

    monkeypatch.setattr("torch.cuda.Stream", Stream)
    lanes = [Lane() for _ in range(2)]
    first, second = (lane.stream(CPU) for lane in lanes)
    for _ in range(2):
        Stream(CPU)  # what other libraries took: the next one would be the first again
    third_lane = Lane()
    assert third_lane.stream(CPU) not in (first, second)
    assert lanes[0].stream(CPU) is first


def test_warming_up_takes_a_step_of_every_size_and_leaves_the_net_as_it_was() -> None:
    model, memory_format = place(recipe(), arena(recipe().data, "cpu"), "cpu", 0)
    loader = Loaders.of(recipe(), arena(recipe().data, "cpu"), 0, memory_format).train
    engine = Eager(Step(model, [(0.01, 0.9)] * 8, StepSettings()))
    before, sizes = weights(model), set()
    model.register_forward_pre_hook(lambda _, args: sizes.add(len(args[0])))
    engine.warm_up(loader)
    assert sizes == {len(x_BCHW) for x_BCHW, _ in loader} == {32, 150 % 32}
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert (engine.step.done, int(engine.step.at)) == (0, 0)


def test_two_programs_of_a_process_own_their_memory_apart() -> None:
    programs = []
    for width in ([4, 8], [4, 6]):
        wanted = recipe(model__channels=width)
        ground = arena(wanted.data, "cpu")
        model, memory_format = place(wanted, ground, "cpu", 0)
        loaders = Loaders.of(wanted, ground, 0, memory_format)
        programs.append(program_for(wanted, ground, loaders.train, model))
    mine, theirs = ({tensor.data_ptr() for tensor in program.step.state()} for program in programs)
    assert not mine & theirs
