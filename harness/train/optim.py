"""Adam, AdamW and SGD as a handful of operations on one flat vector of all weights.

Every hyper-parameter is a tensor on the device, so that a captured step never freezes one, and a net of a hundred small
tensors costs a dozen operations instead of a thousand. Legend: P all weights of the net in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness.errors import UsageError

BETA2 = 0.999
EPSILON = 1e-8
FIRST_SCALE = 2.0**16  # of the loss, in float16
PATIENCE = 2000  # good steps before it doubles
ALIGNMENT = 32  # floats, 128 bytes: a weight of an odd size would put all that follow it off what kernels load at once
COLUMNS = 4  # of a schedule row: learning rate, momentum or beta1, 1 - beta1^t, sqrt(1 - beta2^t)


class FlatParameters:
    """All trainable weights of a net, moved into one vector that they are views of.

    Args:
        model: its parameters must be float32 and share one device.
        alignment: every weight starts at a multiple of so many floats, zeros between; by default 1 on a CPU, where zeros would
            change the order in which a norm is summed, and 32 on a GPU.

    Attributes:
        starts: of each weight in the vector.

    Raises:
        UsageError: the net has nothing to train, or weights of another dtype or on several devices.
    """

    def __init__(self, model: nn.Module, alignment: int = 0) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise UsageError("the model has no weights to train", "set requires_grad on some of its parameters")
        kinds = {(p.dtype, p.device) for p in self.parameters}
        if len(kinds) > 1 or self.parameters[0].dtype != torch.float32:
            raise UsageError(
                f"the model's weights are {', '.join(sorted(f'{dtype} on {device}' for dtype, device in kinds))}",
                "train float32 weights on one device; precision='bf16' computes in bfloat16 with float32 weights",
            )
        device = self.parameters[0].device
        alignment = alignment or (ALIGNMENT if device.type == "cuda" else 1)
        self.starts, end = [], 0
        for p in self.parameters:
            self.starts.append(end)
            end += -(-p.numel() // alignment) * alignment
        self.flat_P = torch.zeros(end, dtype=self.parameters[0].dtype, device=device)

        for p, start in zip(self.parameters, self.starts, strict=True):
            # as_strided keeps each weight's own memory order, channels_last included
            view = self.flat_P.as_strided(p.shape, p.stride(), start)
            view.copy_(p.detach())
            p.data = view
        self._gap = torch.zeros(alignment, dtype=self.flat_P.dtype, device=device)  # the gradient between two weights

    def gather_gradients(self) -> Tensor:
        """Return the gradients as one new vector grad_P and drop the separate ones; a weight without one counts as 0."""
        rows = []
        for p, start, end in zip(self.parameters, self.starts, [*self.starts[1:], len(self.flat_P)], strict=True):
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            if grad.stride() != p.stride():
                grad = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device=p.device).copy_(grad)
            rows.append(grad.as_strided((p.numel(),), (1,)))
            if (gap := end - start - p.numel()) > 0:
                rows.append(self._gap[:gap])
            p.grad = None
        return torch.cat(rows)


def schedule_rows(table: Sequence[tuple[float, float]], device: torch.device) -> Tensor:
    """Return the schedule as float32 rows_SC on the device; see ``COLUMNS``. Bias corrections are worked out in double."""
    rows = [
        (rate, momentum, 1 - momentum**step, (1 - BETA2**step) ** 0.5) for step, (rate, momentum) in enumerate(table, start=1)
    ]
    return torch.tensor(rows, dtype=torch.float64).to(torch.float32).to(device)


@dataclass(slots=True)
class Update:
    """The update rule of one optimiser and its state.

    Attributes:
        name: adam, adamw or sgd (Nesterov when ``nesterov``).
        weight_decay: 0-dim tensor.
        first_P, second_P: moments, made at the first step.
    """

    name: str
    weight_decay: Tensor
    nesterov: bool = True
    first_P: Tensor | None = field(default=None)
    second_P: Tensor | None = field(default=None)

    def forget(self) -> None:
        """Start from no moments, in the memory they have."""
        for moment_P in (self.first_P, self.second_P):
            if moment_P is not None:
                moment_P.zero_()

    def where(self, finite: Tensor, weights_P: Tensor, grad_P: Tensor, row_C: Tensor) -> None:
        """Take the step if ``finite`` (a 0-dim bool) holds and leave weights and moments as they are if not, without asking."""
        first_P = self.prepare(weights_P) if self.first_P is None else self.first_P
        kept = [(state_P, state_P.clone()) for state_P in (weights_P, first_P, self.second_P) if state_P is not None]
        self(weights_P, grad_P, row_C)
        for state_P, before_P in kept:
            torch.where(finite, state_P, before_P, out=state_P)

    def prepare(self, weights_P: Tensor) -> Tensor:
        """Make the moments, which otherwise happens at the first step, and return the first of them."""
        self.first_P = torch.zeros_like(weights_P)
        self.second_P = torch.zeros_like(weights_P) if self.name != "sgd" else None
        return self.first_P

    def __call__(self, weights_P: Tensor, grad_P: Tensor, row_C: Tensor) -> None:
        """Change ``weights_P`` in place by one step; ``grad_P`` is used up.

        The arithmetic is that of torch.optim.Adam (Kingma & Ba, arXiv 1412.6980; L2 penalty), AdamW (Loshchilov & Hutter,
        arXiv 1711.05101; decoupled) and SGD with Nesterov momentum (Sutskever et al., ICML 2013, in torch's form).
        """
        rate, momentum, correction1, correction2 = row_C.unbind()
        first_P = self.prepare(weights_P) if self.first_P is None else self.first_P
        if self.name == "adamw":
            weights_P.mul_(1 - rate * self.weight_decay)
        else:
            grad_P.addcmul_(weights_P, self.weight_decay)
        if self.second_P is None:
            first_P.mul_(momentum).add_(grad_P)
            step_P = grad_P.addcmul_(first_P, momentum) if self.nesterov else first_P
            weights_P.sub_(step_P * rate)
            return
        first_P.lerp_(grad_P, 1 - momentum)
        self.second_P.mul_(BETA2).addcmul_(grad_P, grad_P, value=1 - BETA2)
        denominator_P = torch.sqrt(self.second_P, out=grad_P).div_(correction2).add_(EPSILON)
        weights_P.sub_(torch.div(first_P, denominator_P, out=denominator_P).mul_(rate / correction1))


class LossScale:
    """Dynamic loss scaling for float16 gradients, kept on the device (Micikevicius et al., arXiv 1710.03740).

    As torch.amp.GradScaler with its defaults, but without asking the device whether a gradient overflowed: such a step leaves
    weights and moments as they were and halves the scale; 2000 good ones in a row double it.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.zeros((), device=device)
        self.good = torch.zeros((), device=device)
        self.forget()

    def forget(self) -> None:
        """Start from the first scale."""
        self.scale.fill_(FIRST_SCALE)
        self.good.zero_()

    def unscale(self, grad_P: Tensor) -> Tensor:
        """Divide ``grad_P`` by the scale in place, blanking it when it overflowed; return whether it did not, a 0-dim bool."""
        finite = torch.isfinite(torch.linalg.vector_norm(grad_P, float("inf")))
        grad_P.div_(self.scale)
        grad_P.copy_(torch.where(finite, grad_P, 0.0))
        self.good.add_(1).mul_(finite)
        grown = self.good >= PATIENCE
        self.scale.mul_(torch.where(finite, 1.0 + grown, 0.5))
        self.good.mul_(~grown)
        return finite
