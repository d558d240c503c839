"""Nets and losses that leave the device are found without one, and those that stay on it pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.train.dry_run import reads_device
from tests.train.tiny import CLASSES, batches, net, weights

pytestmark = pytest.mark.skipif(
    not torch.backends.cuda.is_built(),  # type: ignore[no-untyped-call]
    reason="this torch was built without CUDA",
)
Between = Callable[[nn.Module, Tensor], Tensor]


class Halves(nn.Module):
    """A net in two halves with something of the user's between them."""

    def __init__(self, between: Between = lambda _, h_NCHW: h_NCHW) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
        )
        self.last = nn.LazyLinear(CLASSES)
        self.last(torch.zeros(1, 4))
        self.register_buffer("scale", torch.tensor(2.0))
        self.on_host = torch.ones(4, 1, 1)
        self.between = between

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h_NCHW: Tensor = self.between(self, self.first(x_NCHW))
        out_NK: Tensor = self.last(h_NCHW.mean(dim=(2, 3)))
        return out_NK


class ReadsBackward(torch.autograd.Function):
    """The identity, with a backward pass that reads a number."""

    @staticmethod
    def forward(_: Any, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.clone()

    @staticmethod
    def backward(_: Any, grad_NCHW: Tensor) -> Tensor:
        return grad_NCHW / max(1.0, float(grad_NCHW.norm()))


FAULTS: dict[str, tuple[Between, str]] = {
    "if on a tensor": (lambda _, h: h * 2 if h.sum() > 0 else h, "reads a number"),
    "item": (lambda _, h: h * h.sum().item(), "reads a number"),
    "a boolean mask that is read": (lambda _, h: h + h[h > 0].mean(), "reads a number"),
    "a host operand": (lambda net, h: h * net.on_host, "mixes tensors of cuda:0 and cpu"),  # type: ignore[operator]
    "a host number": (lambda _, h: h * torch.tensor(2.0), "mixes tensors of cuda:0 and cpu"),
    "torch.tensor on the device": (
        lambda _, h: h * torch.tensor(2.0, device=h.device),
        "copies between cpu and cuda:0",
    ),
    "a copy to the host": (
        lambda _, h: h * h.detach().cpu().to(h.device),
        "copies between cuda:0 and cpu",
    ),
    "a matrix that is inverted": (
        lambda _, h: h * torch.linalg.inv(h[..., :4]).sum(),
        "could be decomposed",
    ),
    "a backward pass that reads": (lambda _, h: ReadsBackward.apply(h), "reads a number"),
    "an error of another kind": (lambda _, h: h[:, :3], "fails in a dry run"),
}


def reason(model: nn.Module, loss: Any = None) -> str:
    ((x_NCHW, labels_N),) = batches(1, size=5)
    return reads_device(model, x_NCHW, labels_N, loss)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_with_its_line(fault: str) -> None:
    between, expected = FAULTS[fault]
    found = reason(Halves(between))
    assert expected in found
    assert found.startswith("test_dry_run.py line ")


@pytest.mark.parametrize(
    "model",
    [
        Halves(),
        Halves(lambda net, h: h * net.scale),  # type: ignore[operator]
        Halves(lambda _, h: h.masked_fill(h < 0, 0.0)),
        net(),
        net(head="softmax"),
    ],
    ids=["plain", "its own buffer", "a mask that is filled", "ours", "softmax"],
)
def test_a_net_that_stays_on_the_device_passes(model: nn.Module) -> None:
    assert reason(model) == ""


def test_a_loss_with_weights_on_the_host_is_found() -> None:
    assert "mixes tensors" in reason(Halves(), nn.CrossEntropyLoss(weight=torch.ones(CLASSES)))


def test_a_loss_that_stays_on_the_device_passes() -> None:
    def focal(out_NK: Tensor, labels_N: Tensor) -> Tensor:
        right_N = out_NK.softmax(dim=1).gather(1, labels_N[:, None])[:, 0]
        return ((1 - right_N) ** 2 * F.cross_entropy(out_NK, labels_N, reduction="none")).mean()

    assert reason(Halves(), focal) == ""


def test_soft_targets_are_taken() -> None:
    ((x_NCHW, labels_N),) = batches(1)
    assert reads_device(net(), x_NCHW, F.one_hot(labels_N, CLASSES).float()) == ""


def test_net_and_random_numbers_stay_as_they_are() -> None:
    model = net()
    before, state = weights(model), torch.get_rng_state()
    model.eval()
    reason(model)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
