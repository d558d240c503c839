"""Adam, AdamW and SGD as a handful of operations on one flat vector of all weights.

Every hyper-parameter is a tensor on the device, so that a captured step never freezes one, and a
net of a hundred small tensors costs a dozen operations instead of a thousand. Legend: P all weights
of the net in one row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.train.devices import wide_float

BETA2 = 0.999
EPSILON = 1e-8
FIRST_SCALE = 2.0**16  # of the loss, in float16
PATIENCE = 2000  # good steps before it doubles
Row = Tensor | tuple[Tensor, Tensor, Tensor, Tensor]  # of a schedule, see COLUMNS
# floats, 128 bytes: a weight of an odd size would put all that follow it off what kernels load at
# once
ALIGNMENT = 32
RATE_SHARES = (
    "harness_rate_shares"  # attribute of a net: {name of a weight: its factor on the rate}
)
COLUMNS = 4  # of a schedule row: learning rate, momentum or beta1, 1 - beta1^t, sqrt(1 - beta2^t)


class FlatParameters:
    """All trainable weights of a net, moved into one vector that they are views of until `release`.

    A weight of any layout comes in: what is no dense block of memory of its own (an expanded
    tensor, a slice of a larger one) is copied, each entry once.

    Args:
        model: its parameters must be float32 and share one device.
        alignment: every weight starts at a multiple of so many floats, zeros between; by default 32
            on a GPU, and 1 on a CPU, where zeros would change the order in which a norm is summed.

    Attributes:
        starts: of each weight in the vector.
        present: whether each weight had a gradient when they were last gathered.
        uneven: whether a weight ever had none, so that not all of them took the same number of
            steps.
        skipped_W: steps that each of W weights had no gradient in, on the device.

    Raises:
        UsageError: the net has nothing to train, weights of another dtype or on several devices, or
            weights that share memory.
    """

    def __init__(self, model: nn.Module, alignment: int = 0) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        _check_weights(model, self.parameters)
        self.shares = _rate_shares(model)
        device = self.parameters[0].device
        alignment = alignment or (ALIGNMENT if device.type == "cuda" else 1)
        # with the zeros that follow each weight
        self.sizes = [-(-p.numel() // alignment) * alignment for p in self.parameters]
        self.starts = [0, *itertools.accumulate(self.sizes[:-1])]
        self.flat_P = torch.zeros(sum(self.sizes), dtype=self.parameters[0].dtype, device=device)
        self.sizes_W = torch.tensor(self.sizes, device=device)
        self.skipped_W = torch.zeros(len(self.sizes), dtype=torch.int64, device=device)
        self.present = [True] * len(self.sizes)
        self.uneven = False
        # the gradient of what lies between two weights
        self._gap = torch.zeros(alignment, dtype=self.flat_P.dtype, device=device)
        for p, start in zip(self.parameters, self.starts, strict=True):
            # as_strided keeps each weight's own memory order, channels_last included; what is not
            # dense gets a dense order
            strides = torch.empty_like(p, device="meta").stride()
            view = self.flat_P.as_strided(p.shape, strides, start)
            view.copy_(p.detach())
            p.data = view
            p.grad = None  # of a backward pass before ours

    def rate_shares(self) -> Tensor | None:
        """Return the factor on the learning rate of every entry; None where all have the same."""
        if all(share == 1.0 for share in self.shares):
            return None
        device = self.flat_P.device
        pairs = zip(self.sizes, self.shares, strict=True)
        return torch.cat([torch.full((size,), share, device=device) for size, share in pairs])

    def release(self) -> None:
        """Give every weight memory of its own again.

        A part of the net then stores and saves what it holds, and no more.
        """
        for p in self.parameters:
            p.data = p.detach().clone()

    def gather_gradients(self) -> Tensor:
        """Return the gradients as one new vector grad_P and drop the separate ones.

        A weight without one counts as 0.
        """
        self.present = [p.grad is not None for p in self.parameters]
        self.uneven = self.uneven or not all(self.present)
        rows = []
        for p, size in zip(self.parameters, self.sizes, strict=True):
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            if grad.layout is not torch.strided:  # an embedding with sparse=True
                grad = grad.to_dense()
            if grad.stride() != p.stride():
                grad = torch.empty_strided(
                    p.shape, p.stride(), dtype=p.dtype, device=p.device
                ).copy_(grad)
            rows.append(grad.as_strided((p.numel(),), (1,)))
            if size > p.numel():
                rows.append(self._gap[: size - p.numel()])
            p.grad = None
        return torch.cat(rows)

    def moving(self) -> Tensor:
        """Return which entries had a gradient when they were last gathered, and count who had none.

        A bool for each entry of the vector.
        """
        for number, present in enumerate(self.present):
            if not present:
                self.skipped_W[number] += 1
        pairs = zip(self.sizes, self.present, strict=True)
        device = self.flat_P.device
        return torch.cat([torch.full((size,), there, device=device) for size, there in pairs])

    def corrections(self, step: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """Return Adam's two bias corrections of every entry, by the steps of its own weight.

        Args:
            step: number of the step, from 0.
            momentum: beta1 of the step.
        """
        wide = wide_float(self.flat_P.device)
        taken_W = (step + 1 - self.skipped_W).to(wide)
        first_W = 1 - torch.pow(momentum.to(wide), taken_W)
        second_W = (1 - torch.pow(BETA2, taken_W)).sqrt()
        total = self.flat_P.numel()
        first_P, second_P = (
            each_W.float().repeat_interleave(self.sizes_W, output_size=total)
            for each_W in (first_W, second_W)
        )
        return first_P, second_P


def _rate_shares(model: nn.Module) -> list[float]:
    """Return the factor on the learning rate of each trainable weight, as ``nets.settle`` has noted it on the net."""
    noted: dict[str, float] = getattr(model, RATE_SHARES, {})
    return [noted.get(name, 1.0) for name, p in model.named_parameters() if p.requires_grad]


def _check_weights(model: nn.Module, trained: list[nn.Parameter]) -> None:
    """Refuse weights that have no place in one vector, by name where it is about some of them."""
    if not trained:
        raise UsageError(
            "the model has no weights to train", "set requires_grad on some of its parameters"
        )
    for name, p in model.named_parameters():
        if isinstance(p, nn.UninitializedParameter):
            raise UsageError(
                f"{name} has no shape yet",
                "send one batch through the model first, or give its layer all sizes",
            )
        if p.requires_grad and p.layout is not torch.strided:
            raise UsageError(f"{name} is stored as {p.layout}", "train dense weights: .to_dense()")
    kinds = {(p.dtype, p.device) for p in trained}
    if len(kinds) > 1 or trained[0].dtype != torch.float32:
        raise UsageError(
            "the model's weights are "
            f"{', '.join(sorted(f'{dtype} on {device}' for dtype, device in kinds))}",
            "train float32 weights on one device; "
            "precision='bf16' computes in bfloat16 with float32 weights",
        )
    _check_shared(model)


def _check_shared(model: nn.Module) -> None:
    """Refuse weights that share entries in memory though they are different parameters.

    A copy would part them in silence.
    """
    stored: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        lazy = isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))
        if not lazy and tensor.layout is torch.strided and tensor.numel():
            # by the storage itself, which has no public name: a tensor of a dry run has no address
            where = tensor.untyped_storage()._cdata  # noqa: SLF001
            stored.setdefault(where, []).append((name, tensor))
    for tensors in stored.values():
        for (name, first), (next_name, second) in itertools.combinations(
            sorted(tensors, key=_start), 2
        ):
            if (first.requires_grad or second.requires_grad) and _overlap(first, second):
                raise UsageError(
                    f"{name} and {next_name} share memory and are different tensors",
                    f"tie them as one parameter ({next_name} = {name}), "
                    "or give one of them a copy with .clone()",
                )


def _start(named: tuple[str, Tensor]) -> int:
    return int(named[1].storage_offset()) * named[1].element_size()


def _overlap(first: Tensor, second: Tensor) -> bool:
    """Say whether two tensors of one storage share an entry.

    ``first`` starts no later than ``second``.
    """
    reach = (
        sum((size - 1) * stride for size, stride in zip(first.shape, first.stride(), strict=True))
        + 1
    )
    start, end = (tensor.storage_offset() * tensor.element_size() for tensor in (second, first))
    if end + reach * first.element_size() <= start:
        return False
    # slices of one tensor lie between each other without sharing anything: only the places of all
    # entries tell
    places = [torch.unique(_places(tensor)) for tensor in (first, second)]
    return len(torch.unique(torch.cat(places))) < sum(map(len, places))


def _places(tensor: Tensor) -> Tensor:
    """Return the place of every entry in its storage, in bytes."""
    places = torch.full((1,), tensor.storage_offset() * tensor.element_size())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = (places[:, None] + torch.arange(size) * stride * tensor.element_size()).flatten()
    return places


def schedule_rows(table: Sequence[tuple[float, float]], device: torch.device) -> Tensor:
    """Return the schedule as float32 rows_SC on the device; see ``COLUMNS``.

    Bias corrections are worked out in double.
    """
    rows = [
        (rate, momentum, 1 - momentum**step, (1 - BETA2**step) ** 0.5)
        for step, (rate, momentum) in enumerate(table, start=1)
    ]
    return torch.tensor(rows, dtype=torch.float32).to(device)


@dataclass(slots=True)
class Update:
    """The update rule of one optimiser and its state.

    Attributes:
        name: adam, adamw or sgd (Nesterov when ``nesterov``).
        weight_decay: 0-dim tensor.
        shares_P: factor on the learning rate of every entry; None for one rate.
        first_P, second_P: moments, made at the first step.
    """

    name: str
    weight_decay: Tensor
    nesterov: bool = True
    shares_P: Tensor | None = None
    first_P: Tensor | None = field(default=None)
    second_P: Tensor | None = field(default=None)

    def forget(self) -> None:
        """Start from no moments, in the memory they have."""
        for moment_P in (self.first_P, self.second_P):
            if moment_P is not None:
                moment_P.zero_()

    def where(self, moves: Tensor, weights_P: Tensor, grad_P: Tensor, row_C: Row) -> None:
        """Take the step where ``moves`` holds and leave weights and moments as they are elsewhere.

        ``moves`` is a bool, one for all or one an entry.
        """
        first_P = self.prepare(weights_P) if self.first_P is None else self.first_P
        kept = [
            (state_P, state_P.clone())
            for state_P in (weights_P, first_P, self.second_P)
            if state_P is not None
        ]
        self(weights_P, grad_P, row_C)
        for state_P, before_P in kept:
            torch.where(moves, state_P, before_P, out=state_P)

    def prepare(self, weights_P: Tensor) -> Tensor:
        """Make the moments, as the first step does otherwise, and return the first of them."""
        self.first_P = torch.zeros_like(weights_P)
        self.second_P = torch.zeros_like(weights_P) if self.name != "sgd" else None
        return self.first_P

    def __call__(self, weights_P: Tensor, grad_P: Tensor, row_C: Row) -> None:
        """Change ``weights_P`` in place by one step; ``grad_P`` is used up.

        The corrections may be one number an entry.

        The arithmetic is that of torch.optim.Adam (Kingma & Ba, arXiv 1412.6980; L2 penalty), AdamW
        (Loshchilov & Hutter, arXiv 1711.05101; decoupled) and SGD with Nesterov momentum (Sutskever
        et al., ICML 2013, in torch's form).
        """
        rate, momentum, correction1, correction2 = (
            row_C.unbind() if isinstance(row_C, Tensor) else row_C
        )
        if self.shares_P is not None:
            rate = rate * self.shares_P
        first_P = self.prepare(weights_P) if self.first_P is None else self.first_P
        # decoupled decay shrinks the weights themselves; the others add it to the gradient
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
        weights_P.sub_(
            torch.div(first_P, denominator_P, out=denominator_P).mul_(rate / correction1)
        )


class LossScale:
    """Dynamic loss scaling for float16 gradients, kept on the device.

    As in Micikevicius et al. (arXiv 1710.03740).

    As torch.amp.GradScaler with its defaults, but without asking the device whether a gradient
    overflowed: such a step leaves weights and moments as they were and halves the scale; 2000 good
    ones in a row double it.
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
        """Divide ``grad_P`` by the scale in place, blanking it when it overflowed.

        Return whether it did not, a 0-dim bool.
        """
        finite = torch.isfinite(torch.linalg.vector_norm(grad_P, float("inf")))
        grad_P.div_(self.scale)
        grad_P.copy_(torch.where(finite, grad_P, 0.0))
        self.good.add_(1).mul_(finite)
        grown = self.good >= PATIENCE
        self.scale.mul_(torch.where(finite, 1.0 + grown, 0.5))
        self.good.mul_(~grown)
        return finite
