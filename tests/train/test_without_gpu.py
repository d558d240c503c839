"""What a GPU demands of training, checked without one: nothing reads from the device, no operand lies elsewhere.

Tensors here have a device, a shape and a dtype, but no numbers and no memory; see
``tests/train/fakes.py``. Every check is shown to catch the faults that it is there for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.study.recipe_fields import AugmentRecipe
from harness.train import augment
from harness.train.augment import Op
from harness.train.augment_ops import Epoch, Stage, uniform
from harness.train.dry_run import DeviceWatch
from harness.train.loaders import EvalLoader
from harness.train.loop import evaluate
from harness.train.parts import Loaders, arena, place
from harness.train.run import fit
from harness.train.step import StepSettings
from tests.train.fakes import (
    BATCH,
    IMAGES,
    LEFT,
    OTHER,
    STATISTICS,
    DoubleError,
    NoDouble,
    model_on,
    pretended,
    train_an_epoch,
    train_loader,
)
from tests.train.tiny import SIDE, recipe

pytestmark = pytest.mark.skipif(
    not torch.backends.cuda.is_built(),  # type: ignore[no-untyped-call]
    reason="this torch was built without CUDA",
)
GPU = "cuda:0"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    # small steps wait for each other's threads longer than they compute
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


BATCHES = [(BATCH, 3, SIDE, SIDE), (BATCH, 3, SIDE, SIDE), (IMAGES - 2 * BATCH, 3, SIDE, SIDE)]

OPERATIONS: list[dict[str, Any]] = [
    {"crop": 1},
    {"crop": 1, "crop_mode": "zero"},
    {"flip": "random"},
    {"flip": "alternating"},
    {"crop": 1, "flip": "random"},
    {"brightness": 0.2},
    {"contrast": 0.2},
    {"saturation": 0.2},
    {"hue": 0.1},
    {"cutout": 2},
    {"erasing": 0.5},
    {"mixup": 0.4},
    {"cutmix": 1.0},
    {"mixup": 0.4, "cutmix": 1.0},
]


def built(strengths: dict[str, Any]) -> tuple[Op, ...]:
    off = dict.fromkeys(("crop", "brightness", "contrast", "saturation", "hue"), 0)
    return augment.build(AugmentRecipe(**{**off, "flip": "none", **strengths}), 3)


# --- an epoch stays on the device
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [GPU, "cpu"])
@pytest.mark.parametrize("strengths", OPERATIONS, ids=str)
def test_an_augmentation_stays_on_the_device(
    strengths: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_an_epoch(device, monkeypatch, ops=built(strengths)) == BATCHES


@pytest.mark.parametrize("device", [GPU, "cpu"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("optimizer", "nesterov"), [("Adam", True), ("AdamW", True), ("SGD", True), ("SGD", False)]
)
def test_a_step_stays_on_the_device(
    optimizer: str, nesterov: bool, precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for clip, by, mixing in (
        (None, "value", {"mixup": 0.4}),
        (0.1, "value", {}),
        (1.0, "norm", {}),
    ):
        settings = StepSettings(
            0.01,
            clip,
            by,
            precision=precision,
            opt_func=getattr(torch.optim, optimizer),
            nesterov=nesterov,
        )
        assert train_an_epoch(device, monkeypatch, ops=built(mixing), settings=settings) == BATCHES


@pytest.mark.parametrize("device", [GPU, OTHER])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_that_leaves_some_weights_alone_stays_on_the_device(
    optimizer: Any, precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StepSettings(0.01, 0.1, precision=precision, opt_func=optimizer)
    assert train_an_epoch(device, monkeypatch, settings=settings, without=2) == BATCHES


@pytest.mark.parametrize("device", [GPU, "cpu"])
@pytest.mark.parametrize(
    "settings",
    [StepSettings(label_smoothing=0.1), StepSettings(loss_func=F.cross_entropy)],
    ids=["smoothing", "own loss"],
)
def test_a_loss_stays_on_the_device(
    settings: StepSettings, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_an_epoch(device, monkeypatch, settings=settings) == BATCHES


def test_the_casts_of_a_pretended_gpu_are_those_of_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pretended(GPU, monkeypatch), torch.autocast("cuda", torch.bfloat16, enabled=True):
        assert model_on(GPU)(torch.zeros(2, 3, SIDE, SIDE, device=GPU)).dtype == torch.bfloat16


# --- loaders
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strengths", [{}, {"crop": 1, "hue": 0.1, "mixup": 0.4}], ids=str)
def test_streamed_images_cross_without_a_wait_after_the_order(
    strengths: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended(GPU, monkeypatch):
        batches = iter(train_loader(GPU, built(strengths), images_on="cpu"))
        shapes = [next(batches)[0].shape]  # the host learns the order before the first batch
        with DeviceWatch(streams=True):
            for x_BCHW, target in batches:
                assert (x_BCHW.device, target.device) == (torch.device(GPU), torch.device(GPU))
                shapes.append(x_BCHW.shape)
    assert [tuple(shape) for shape in shapes] == BATCHES


class AllSeenError(Exception):
    """The last batch was taken, and nothing was read before."""


class UntilTheEnd(EvalLoader):
    """Images whose end is an error, so that the sums are not read."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().__iter__()
        raise AllSeenError


def eval_loader(images_on: str) -> EvalLoader:
    images_NCHW = torch.zeros(IMAGES, 3, SIDE, SIDE, dtype=torch.uint8, device=images_on)
    return UntilTheEnd(
        images_NCHW,
        torch.zeros(IMAGES, dtype=torch.int64, device=GPU),
        batch_size=BATCH,
        **STATISTICS,
    )


@pytest.mark.parametrize("images_on", [GPU, "cpu"])
def test_evaluation_reads_nothing_before_its_last_batch(
    images_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended(GPU, monkeypatch):
        model, loader = model_on(GPU), eval_loader(images_on)
        with DeviceWatch(streams=images_on == "cpu"), pytest.raises(AllSeenError):
            evaluate(model, loader)


# --- planted faults
# ---------------------------------------------------------------------------------------------------

FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "if on a tensor": lambda x: x * 1 if x.max() > 0 else x,
    "boolean mask that is read": lambda x: x + x[x > 0].sum(),
    "host operand": lambda x: x * torch.ones(x.shape[-1]),
    "host number": lambda x: x * torch.ones(()),
    "torch.tensor on the device": lambda x: x * torch.tensor(2.0, device=x.device),
    "copy to the host": lambda x: x + x.cpu().to(x.device),
}


class Planted:
    """An operation of stage late that leaves the device, in its draw or in its work."""

    name, fixed_stream = "planted", False
    stage: Stage = "late"

    def __init__(self, place: str, fault: Callable[[Tensor], Tensor]) -> None:
        self.place, self.fault = place, fault

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        factor_N = uniform(generator, epoch.size)
        return (self.fault(factor_N) if self.place == "draw" else factor_N,)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        x_NCHW = x_NCHW * draws[0][:, None, None, None]
        return self.fault(x_NCHW) if self.place == "augmentation" else x_NCHW


class Faulty(nn.Module):
    """Our net with a fault on its logits."""

    def __init__(self, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.fault = model_on(GPU), fault

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.fault(self.net(x_NCHW))


@pytest.mark.parametrize("place", ["draw", "augmentation", "net", "loss"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = FAULTS[fault]
    given: dict[str, Any] = {"ops": [Planted(place, planted)]}
    if place == "net":
        given["model"] = lambda: Faulty(planted)
    if place == "loss":
        given["settings"] = StepSettings(loss_func=lambda out_NK, _: planted(out_NK).mean())
    with pytest.raises(LEFT):
        train_an_epoch(GPU, monkeypatch, **given)


def test_the_same_without_a_fault_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = [Planted("draw", lambda x: x)]
    assert train_an_epoch(GPU, monkeypatch, ops=ops, model=lambda: Faulty(lambda x: x)) == BATCHES


def test_a_fault_in_the_smaller_last_batch_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads_the_rest(x_NCHW: Tensor) -> Tensor:
        return x_NCHW if len(x_NCHW) == BATCH else x_NCHW * x_NCHW.max().item()

    with pytest.raises(LEFT):
        train_an_epoch(GPU, monkeypatch, ops=[Planted("augmentation", reads_the_rest)])


@pytest.mark.parametrize("fault", [name for name in FAULTS if name.startswith(("if", "boolean"))])
def test_a_read_in_a_backward_pass_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x_NK: Tensor) -> Tensor:
            return x_NK.clone()

        @staticmethod
        def backward(_: Any, grad_NK: Tensor) -> Tensor:
            return FAULTS[fault](grad_NK)

    settings = StepSettings(
        loss_func=lambda out_NK, labels_N: F.cross_entropy(Reads.apply(out_NK), labels_N)
    )
    with pytest.raises(LEFT):
        train_an_epoch("cpu", monkeypatch, settings=settings)


def test_streamed_images_that_are_waited_for_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended(GPU, monkeypatch):
        monkeypatch.setattr("harness.train.loaders.overlaps", lambda _: False)
        batches = iter(train_loader(GPU, (), images_on="cpu"))
        next(batches)
        with DeviceWatch(streams=True), pytest.raises(LEFT):
            next(batches)


# --- other accelerators
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strengths", OPERATIONS, ids=str)
def test_another_accelerator_gets_no_double_and_reads_nothing(
    strengths: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_an_epoch(OTHER, monkeypatch, ops=built(strengths)) == BATCHES


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize(("clip", "by"), [(None, "value"), (0.1, "value"), (1.0, "norm")])
def test_an_optimiser_needs_no_double(
    optimizer: Any, clip: float | None, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StepSettings(0.01, clip, by, label_smoothing=0.1, opt_func=optimizer)
    assert train_an_epoch(OTHER, monkeypatch, settings=settings) == BATCHES


@pytest.mark.parametrize("place", ["draw", "augmentation"])
def test_double_precision_is_caught(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DoubleError):
        train_an_epoch(OTHER, monkeypatch, ops=[Planted(place, lambda x: x.double())])


def test_a_dropout_that_draws_in_double_precision_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.train.model.wide_float", lambda _: torch.float64)
    with pytest.raises(DoubleError):
        train_an_epoch(OTHER, monkeypatch)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_on_another_accelerator(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LEFT):
        train_an_epoch(OTHER, monkeypatch, ops=[Planted("augmentation", FAULTS[fault])])


def test_a_whole_training_on_the_cpu_needs_no_double_where_the_device_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("model", "optim", "scores"):
        monkeypatch.setattr(f"harness.train.{module}.wide_float", lambda _: torch.float32)
    wanted = recipe(
        model__dropout=0.3, augment__mixup=0.4, augment__cutmix=1.0, augment__erasing=0.3
    )
    ground = arena(wanted.data, "cpu")
    model, memory_format = place(wanted, ground, "cpu", 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)

    with NoDouble(everywhere=True), torch.random.fork_rng(devices=[]):
        history = fit(wanted, model, loaders, 0, lambda _: False)
    assert len(history) == wanted.train.epochs
    assert history[-1]["online_loss"] < history[0]["online_loss"]


def test_the_double_precision_of_the_cpu_is_caught_there() -> None:
    wanted = recipe(model__dropout=0.3)
    ground = arena(wanted.data, "cpu")
    model, memory_format = place(wanted, ground, "cpu", 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    with NoDouble(everywhere=True), torch.random.fork_rng(devices=[]), pytest.raises(DoubleError):
        fit(wanted, model, loaders, 0, lambda _: False)
