"""The step against a loop as the textbooks write it: torch's own optimisers, schedule, clipping and dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from harness.errors import UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train.step import Step, StepSettings, cross_entropy
from tests.train.tiny import CLASSES, Batch, batches, net

STEPS = 50
DECAY = 0.01

# float32 on one thread: the same terms are multiplied in another order. Measured in a weight: 5e-7 on
# an AMD EPYC, 4e-5 on an Intel Xeon with AVX-512, which adds them in yet another order.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-4}
# SGD at a rate of 0.3 makes rounding grow: in a weight 1e-7 after 15 steps, and after 50 of them
# 4e-5 with torch 2.15 and 2e-4 with 2.11. With Nesterov's momentum in place of the plain one it
# would be 6e-2 after 5 steps.
LOOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}

RATES: dict[object, float] = {
    torch.optim.Adam: 0.01,
    torch.optim.AdamW: 0.01,
    torch.optim.SGD: 0.3,
    torch.optim.NAdam: 0.01,
}
Optimizer = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Any, Optimizer]] = {
    "adam": (torch.optim.Adam, lambda weights: torch.optim.Adam(weights, weight_decay=DECAY)),
    "adamw": (torch.optim.AdamW, lambda weights: torch.optim.AdamW(weights, weight_decay=DECAY)),
    "sgd": (
        torch.optim.SGD,
        lambda weights: torch.optim.SGD(weights, 0.1, 0.9, weight_decay=DECAY, nesterov=True),
    ),
}
CLIPS: dict[str, tuple[float | None, str]] = {
    "unclipped": (None, "value"),
    "value": (0.02, "value"),
    "norm": (0.1, "norm"),
}
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def textbook(
    model: nn.Module,
    content: list[Batch],
    *,
    make: Optimizer,
    clip: float | None = None,
    clip_by: str = "value",
    smoothing: float = 0.0,
) -> list[float]:
    """Train as a textbook would; return the loss of every step."""
    optimizer = make(model.parameters())
    schedule = OneCycleLR(optimizer, RATES[type(optimizer)], total_steps=len(content))
    losses = []
    model.train()
    for x_NCHW, labels_N in content:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x_NCHW), labels_N, label_smoothing=smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None and clip_by == "value":
            nn.utils.clip_grad_value_(model.parameters(), clip)
        elif clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) < len(content):
            schedule.step()
    return losses


def ours(model: nn.Module, content: list[Batch], settings: StepSettings) -> list[float]:
    step = Step(
        model,
        schedule_table(ScheduleRecipe(max_lr=RATES[settings.opt_func]), len(content)),
        settings,
    )
    model.train()
    for x_NCHW, labels_N in content:
        step(x_NCHW, labels_N)
    return step.read(0).losses


def pair(
    memory_format: torch.memory_format = torch.contiguous_format,
) -> tuple[nn.Module, nn.Module]:
    """Return a net of ours and the same with torch's dropout."""
    mine = net(dropout=0.25).to(memory_format=memory_format)
    plain = copy.deepcopy(mine)
    plain.dropout = nn.Dropout(0.25)
    return mine, plain


def assert_agree(
    settings: StepSettings,
    memory_format: torch.memory_format = torch.contiguous_format,
    *,
    close: dict[str, Any] = CLOSE,
    **book: Any,
) -> None:
    mine, plain = pair(memory_format)
    content = [
        (x_NCHW.to(memory_format=memory_format), labels_N) for x_NCHW, labels_N in batches(STEPS)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = textbook(plain, content, **book)
        torch.manual_seed(7)
        losses = ours(mine, content, settings)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), **close)
    torch.testing.assert_close(
        list(mine.state_dict().values()), list(plain.state_dict().values()), **close
    )


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fifty_steps_equal_a_textbook_loop(
    optimizer: tuple[Any, Optimizer],
    clip: tuple[float | None, str],
    memory_format: torch.memory_format,
) -> None:
    settings = StepSettings(DECAY, *clip, opt_func=optimizer[0])
    assert_agree(settings, memory_format, make=optimizer[1], clip=clip[0], clip_by=clip[1])


def test_label_smoothing_equals_torchs_over_fifty_steps() -> None:
    settings = StepSettings(DECAY, label_smoothing=0.2)
    assert_agree(settings, make=OPTIMIZERS["adam"][1], smoothing=0.2)


def test_sgd_without_nesterov_equals_torchs_over_fifty_steps() -> None:
    settings = StepSettings(DECAY, opt_func=torch.optim.SGD, nesterov=False)
    assert_agree(
        settings,
        close=LOOSE,
        make=lambda weights: torch.optim.SGD(weights, 0.1, 0.9, weight_decay=DECAY),
    )


def test_a_foreign_optimiser_equals_a_textbook_loop_with_it() -> None:
    settings = StepSettings(DECAY, 0.1, "norm", opt_func=torch.optim.NAdam)
    assert_agree(
        settings,
        make=lambda weights: torch.optim.NAdam(weights, weight_decay=DECAY),
        clip=0.1,
        clip_by="norm",
    )


def test_channels_last_and_nchw_give_the_same_losses() -> None:
    content = batches(STEPS)
    lasts = [
        (x_NCHW.to(memory_format=torch.channels_last), labels_N) for x_NCHW, labels_N in content
    ]
    settings = StepSettings(DECAY, 0.1)
    plain = ours(net(dropout=0), content, settings)
    last = ours(net(dropout=0).to(memory_format=torch.channels_last), lasts, settings)
    torch.testing.assert_close(torch.tensor(last), torch.tensor(plain), **CLOSE)


def test_the_log_holds_the_norm_before_clipping_and_which_steps_clipped() -> None:
    content = batches(6)
    model = net(dropout=0)
    step = Step(model, [(0.0, 0.9)] * 6, StepSettings(0, 0.5, "norm"))
    norms = []
    for x_NCHW, labels_N in content:
        loss = F.cross_entropy(model(x_NCHW), labels_N)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(torch.cat([grad.flatten() for grad in grads]).norm())
        step(x_NCHW, labels_N)
    log = step.read(0)
    torch.testing.assert_close(
        torch.tensor(log.grad_norms), torch.stack(norms), rtol=1e-4, atol=1e-6
    )
    assert log.clipped == [float(norm > 0.5) for norm in log.grad_norms]


def test_reading_the_log_starts_counting_right_answers_anew() -> None:
    step = Step(net(), [(0.01, 0.9)] * 2, StepSettings())
    for x_NCHW, labels_N in batches(1):
        step(x_NCHW, labels_N)
    assert step.read(0).correct > 0
    assert step.read(0).correct == 0


def test_a_weight_without_a_gradient_is_not_moved() -> None:
    model = net(dropout=0)
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    ours(model, batches(3), StepSettings(DECAY))
    assert torch.equal(frozen, before)


def test_bf16_keeps_float32_weights_and_a_loss_near_fp32s() -> None:
    content = batches(5)
    model = net(dropout=0)
    low = ours(model, content, StepSettings(precision="bf16"))
    full = ours(net(dropout=0), content, StepSettings())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert low == pytest.approx(full, abs=0.1)  # bfloat16 has 8 bits: 0.4 % an operation
    assert low != full


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3])
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "probabilities"])
def test_the_loss_equals_torchs_cross_entropy(smoothing: float | None, soft: bool) -> None:
    source = torch.Generator().manual_seed(1)
    out_NK = torch.randn(9, CLASSES, generator=source) * 5
    target: Tensor = torch.randint(CLASSES, (9,), generator=source)
    if soft:
        target = torch.rand(9, CLASSES, generator=source).softmax(dim=1)
    expected = F.cross_entropy(out_NK, target, label_smoothing=smoothing or 0.0)
    found = cross_entropy(out_NK, target, None if smoothing is None else torch.tensor(smoothing))
    torch.testing.assert_close(found, expected)


def test_soft_targets_count_as_right_where_their_largest_class_is_answered() -> None:
    model = net(dropout=0)
    ((x_NCHW, _),) = batches(1)
    target_NK = F.one_hot(model(x_NCHW).argmax(dim=1), CLASSES) * 0.7 + 0.3 / CLASSES
    step = Step(model, [(0.01, 0.9)], StepSettings())
    step(x_NCHW, target_NK)
    assert step.read(0).correct == len(x_NCHW)


@pytest.mark.parametrize(
    "setting",
    [
        {"grad_clip": 0.0},
        {"grad_clip": -1.0},
        {"grad_clip": float("nan")},
        {"grad_clip_by": "valeu"},
        {"precision": "fp8"},
        {"weight_decay": -0.1},
        {"weight_decay": float("nan")},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_a_usage_error(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StepSettings(**setting)
