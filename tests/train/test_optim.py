from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.train.optim import FlatParameters, Update, schedule_rows
from tests.train.tiny import net


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)
def test_moving_weights_into_one_vector_changes_neither_values_nor_memory_order(
    memory_format: torch.memory_format,
) -> None:
    model = net().to(memory_format=memory_format)
    before = copy.deepcopy(list(model.parameters()))
    FlatParameters(model)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
        assert old.stride() == new.stride()


def test_a_change_of_the_vector_is_a_change_of_the_net() -> None:
    model = net()
    flat = FlatParameters(model)
    flat.flat_P.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in model.parameters())


def test_gradients_are_gathered_in_the_order_of_the_weights_and_dropped() -> None:
    model = net().to(memory_format=torch.channels_last)
    flat = FlatParameters(model)
    for p in model.parameters():
        p.grad = (p.detach() * 2).contiguous()  # another memory order than the weight's
    assert torch.equal(flat.gather_gradients(), flat.flat_P * 2)
    assert all(p.grad is None for p in model.parameters())


def test_a_weight_without_a_gradient_counts_as_zero() -> None:
    flat = FlatParameters(net())
    assert not flat.gather_gradients().any()


def test_a_net_can_be_trained_twice() -> None:
    model = net()
    FlatParameters(model)
    again = FlatParameters(model)
    again.flat_P.zero_()
    assert not any(bool(p.any()) for p in model.parameters())


def test_the_rows_of_the_schedule_hold_the_bias_corrections_of_adam() -> None:
    rows_SC = schedule_rows([(0.1, 0.9), (0.2, 0.8)], torch.device("cpu"))
    expected = [
        [0.1, 0.9, 1 - 0.9, (1 - 0.999) ** 0.5],
        [0.2, 0.8, 1 - 0.8**2, (1 - 0.999**2) ** 0.5],
    ]
    torch.testing.assert_close(rows_SC, torch.tensor(expected))


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", CASES)
def test_one_update_equals_torchs_to_the_last_digits(name: str, weight_decay: float) -> None:
    kind, options = CASES[name]
    source = torch.Generator().manual_seed(3)
    ours_P = torch.randn(100, generator=source)
    theirs = nn.Parameter(ours_P.clone())
    optimizer = kind([theirs], lr=0.01, weight_decay=weight_decay, **options)
    update = Update(name, torch.tensor(weight_decay))
    rows_SC = schedule_rows([(0.01, 0.9)] * 5, torch.device("cpu"))
    for row_C in rows_SC:
        grad_P = torch.randn(100, generator=source)
        theirs.grad = grad_P.clone()
        optimizer.step()
        update(ours_P, grad_P, row_C)
    # a few last digits of float32
    torch.testing.assert_close(ours_P, theirs.detach(), rtol=2e-6, atol=1e-7)


def test_a_net_without_weights_to_train_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no weights"):
        FlatParameters(nn.Sequential(nn.ReLU()))


def test_weights_of_two_dtypes_are_a_usage_error_that_names_both() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(UsageError, match=r"float32.*float64"):
        FlatParameters(model)


def test_aligned_weights_train_as_close_ones_do_and_the_gaps_stay_zero() -> None:
    source = torch.Generator().manual_seed(0)
    x_NF = torch.randn(8, 3, generator=source)
    first = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    ends = []
    for alignment in (1, 32):
        model = copy.deepcopy(first)
        flat = FlatParameters(model, alignment)
        update = Update("adam", torch.tensor(0.1))
        for row_C in schedule_rows([(0.01, 0.9)] * 3, torch.device("cpu")):
            model(x_NF).square().mean().backward()
            update(flat.flat_P, flat.gather_gradients(), row_C)
        assert all(start % alignment == 0 for start in flat.starts)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert len(flat.flat_P) == 4 * 32
    assert int((flat.flat_P == 0).sum()) == 4 * 32 - 26
    assert torch.equal(*ends)
