"""One training step: forward, loss, backward, clip, update, bookkeeping.

Nothing in it asks the device for a number.

Every hyper-parameter is a tensor on the device, at an address that stays, so that a step can be
captured once and get the numbers of the next trial afterwards (see ``harness.train.engine``).

Legend: N batch, C channels, H height, W width, K classes, P all weights, S steps that the log has
room for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.errors import UsageError
from harness.train.first_batch import (
    explain_dtype,
    loss_fault,
    optimizer_fault,
    output_fault,
    target_fault,
)
from harness.train.optim import COLUMNS, FlatParameters, LossScale, Update, schedule_rows

OptFunc = Callable[..., torch.optim.Optimizer]
LossFunc = Callable[[Tensor, Tensor], Tensor]
FLAT_OPTIMIZERS: dict[object, str] = {
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adamw",
    torch.optim.SGD: "sgd",
}
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What one step does besides the net.

    Attributes:
        grad_clip: largest gradient, None for off.
        grad_clip_by: ``value`` clips each entry to [-grad_clip, grad_clip], ``norm`` scales the
            whole gradient.
        label_smoothing: in [0, 1).
        precision: fp32, or bf16 or fp16 for autocast with fp32 master weights; fp16 scales the
            loss.
        opt_func: an optimiser class; Adam, AdamW and SGD of torch run as flat updates, any other as
            it is.
        nesterov: form of SGD's momentum.
        loss_func: (out_NK, target) to a scalar, in place of the cross-entropy; it takes no label
            smoothing.

    Raises:
        UsageError: a setting without meaning, which torch would take in silence.
    """

    weight_decay: float = 0.0
    grad_clip: float | None = None
    grad_clip_by: str = "value"
    label_smoothing: float = 0.0
    precision: str = "fp32"
    opt_func: OptFunc = torch.optim.Adam
    nesterov: bool = True
    loss_func: LossFunc | None = None

    def __post_init__(self) -> None:
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise UsageError(
                f"grad_clip is {self.grad_clip} and must be above 0", "use None for no clipping"
            )
        if self.grad_clip_by not in ("value", "norm"):
            raise UsageError(f"grad_clip_by is {self.grad_clip_by!r}", "use 'value' or 'norm'")
        if self.precision not in AUTOCAST:
            raise UsageError(f"precision is {self.precision!r}", "use 'fp32', 'bf16' or 'fp16'")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"weight_decay is {self.weight_decay} and must be 0 or more", "0 is off"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"label_smoothing is {self.label_smoothing} and must be in [0, 1)", "0 is off"
            )
        opt_func: object = self.opt_func
        if not callable(opt_func):
            word = type(opt_func).__name__
            hint = (
                "give the class, such as torch.optim.Adam, "
                "or a function of (parameters, lr, weight_decay)"
            )
            raise UsageError(f"opt_func is a {word} and should make an optimiser", hint)
        if self.label_smoothing and self.loss_func is not None:
            raise UsageError(
                "label_smoothing is the cross-entropy's and would not reach your loss",
                "smooth labels in it",
            )

    @property
    def structure(self) -> tuple[object, ...]:
        """What of the settings decides which operations a step consists of.

        The rest are numbers.
        """
        clipping = self.grad_clip_by if self.grad_clip is not None else "off"
        return (
            clipping,
            self.label_smoothing > 0,
            self.precision,
            self.opt_func,
            self.nesterov,
            self.loss_func,
        )


@dataclass(frozen=True, slots=True)
class StepLog:
    """What the steps of an epoch left behind, read once.

    Lists, one entry a step, and the epoch's counts.
    """

    losses: list[float]
    grad_norms: list[float]
    clipped: list[float]
    correct: float


def cross_entropy(out_NK: Tensor, target: Tensor, smoothing: Tensor | None) -> Tensor:
    """Return the mean cross-entropy, labels smoothed if asked.

    For class numbers target_N or soft targets target_NK.

    Label smoothing as in Szegedy et al. (arXiv 1512.00567): a share of each target is spread evenly
    over all classes.
    """
    if smoothing is None and target.dim() == 1:
        return F.cross_entropy(out_NK, target)
    log_NK = F.log_softmax(out_NK.float(), dim=1)
    plain = (
        F.nll_loss(log_NK, target) if target.dim() == 1 else -(target * log_NK).sum(dim=1).mean()
    )
    if smoothing is None:
        return plain
    return (1 - smoothing) * plain - smoothing * log_NK.mean()


class Step:
    """The training step of one run, its optimiser state and its device-side log.

    Args:
        model: in its final place, dtype and memory format.
        schedule: (learning rate, momentum) of every step of the run.
        settings: see ``StepSettings``.
        room: steps that the schedule and the log have room for, the schedule's own number by
            default.
        trusted: whether the batches are of a loader of ours, whose targets fit the net. Those of
            any other are looked at once, which waits for the device.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Sequence[tuple[float, float]],
        settings: StepSettings,
        *,
        room: int = 0,
        trusted: bool = False,
    ) -> None:
        self.model, self.trusted = model, trusted
        self.weights = FlatParameters(model)
        self.device = self.weights.flat_P.device
        self.room = max(room, len(schedule))
        self.clip, self.smoothing, self.decay = (
            torch.zeros((), device=self.device) for _ in range(3)
        )
        # a table on the device: a step looks its row up by `at`, and the host is not asked
        self.rows_SC = torch.zeros(self.room, COLUMNS, device=self.device)
        # one entry a step, read once an epoch: to read it in the step would wait for the device
        self.losses_S, self.norms_S, self.clipped_S = (
            torch.zeros(self.room, device=self.device) for _ in range(3)
        )
        self.correct = torch.zeros((), device=self.device)
        # number of the next step, on the device
        self.at = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.done = 0  # the same, on the host
        self.classes = 0  # K, known from the first batch on, which is looked at
        self.scaler = LossScale(self.device) if settings.precision == "fp16" else None
        self.update: Update | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        flat = FLAT_OPTIMIZERS.get(settings.opt_func)
        if flat is not None:
            self.update = Update(
                flat, self.decay, nesterov=settings.nesterov, shares_P=self.weights.rate_shares()
            )
        # a foreign optimiser cannot leave a step out without asking whether its gradient overflowed
        elif self.scaler is not None:
            raise UsageError(
                "fp16 needs Adam, AdamW or SGD of torch.optim",
                "use precision='bf16' or 'fp32' with another one",
            )
        else:
            self.optimizer = _make_optimizer(settings, self.weights, schedule[0][0])
            highest = max(self.weights.shares)
            self.shares = [highest * share for share in _shares(self.optimizer)]
        self.settings = settings
        self.reset(schedule, settings)

    def reset(self, schedule: Sequence[tuple[float, float]], settings: StepSettings) -> None:
        """Start a new run, on the weights as they now are.

        Set every hyper-parameter, forget moments and log.

        No tensor moves, so that what was captured stays good.

        Raises:
            UsageError: the schedule is longer than ``room``, or the settings switch other
                operations on than it has.
        """
        if len(schedule) > self.room:
            raise UsageError(
                f"a schedule of {len(schedule)} steps and room for {self.room}",
                "make a step with more room",
            )
        # what a recording left out is not in it: a number cannot switch it on
        if settings.structure != self.settings.structure:
            raise UsageError(
                "these settings ask for other operations than the step is made of",
                "make another step",
            )
        self.schedule, self.settings, self.done = schedule, settings, 0
        with torch.no_grad():
            self.clip.fill_(settings.grad_clip or 0.0)
            self.smoothing.fill_(settings.label_smoothing)
            self.decay.fill_(settings.weight_decay)
            self.rows_SC[: len(schedule)].copy_(schedule_rows(schedule, self.device))
            # in place: a recording knows these by their address
            for state in (*self._log, self.weights.skipped_W):
                state.zero_()
            if self.update is not None:
                self.update.forget()
            if self.scaler is not None:
                self.scaler.forget()

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes.

        Weights, what else the net keeps, moments, log and counters.
        """
        update, scaler = self.update, self.scaler
        moments = (
            []
            if update is None
            else [update.prepare(self.weights.flat_P) if update.first_P is None else update.first_P]
        )
        if update is not None and update.second_P is not None:
            moments.append(update.second_P)
        scaling = [] if scaler is None else [scaler.scale, scaler.good]
        return [
            self.weights.flat_P,
            self.weights.skipped_W,
            *self.model.buffers(),
            *moments,
            *scaling,
            *self._log,
        ]

    @property
    def _log(self) -> tuple[Tensor, ...]:
        return self.losses_S, self.norms_S, self.clipped_S, self.correct, self.at

    def __call__(self, x_NCHW: Tensor, target: Tensor) -> None:
        """Train on one batch; target_N holds class numbers, target_NK soft targets."""
        self.compute(x_NCHW, target)
        self.done += 1

    def compute(self, x_NCHW: Tensor, target: Tensor) -> None:
        """Do what a step does on the device.

        A replayed step does this; ``done`` is then left to whoever replays.
        """
        dtype = AUTOCAST[self.settings.precision]
        # only the first batch is looked at: every look takes a walk through the net's outputs
        first = not self.classes
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            out_NK = self._first_output(x_NCHW, target) if first else self.model(x_NCHW)
        # losses in half precision lose their small differences
        out_NK = out_NK.float()
        if self.settings.loss_func is not None:
            loss = self.settings.loss_func(out_NK, target)
            if first and (fault := loss_fault(loss)):
                raise UsageError(f"the loss {fault.problem}", fault.hint)
        else:
            loss = cross_entropy(
                out_NK, target, self.smoothing if self.settings.label_smoothing > 0 else None
            )
        # the log keeps the loss as it is; only its gradient is scaled
        scaled: Any = loss if self.scaler is None else loss * self.scaler.scale
        scaled.backward()
        with torch.no_grad():
            grad_P = self.weights.gather_gradients()
            # an overflow is known on the device only; what depends on it is chosen there
            finite = self.scaler.unscale(grad_P) if self.scaler is not None else None
            norm, clipped = self._clip(grad_P)
            if self.update is None:
                self._step_optimizer(grad_P)
            # rare, and slower: a net whose weights do not all take part in every batch
            elif self.weights.uneven:
                self._update_some(self.update, grad_P, finite)
            elif finite is None:
                self.update(self.weights.flat_P, grad_P, self.rows_SC.index_select(0, self.at)[0])
            else:
                self.update.where(
                    finite, self.weights.flat_P, grad_P, self.rows_SC.index_select(0, self.at)[0]
                )
            # of mixed labels, the larger share counts as the answer
            labels_N = target if target.dim() == 1 else target.argmax(dim=1)
            self.correct += (out_NK.argmax(dim=1) == labels_N).sum()
            for column_S, value in (
                (self.losses_S, loss.detach()),
                (self.norms_S, norm),
                (self.clipped_S, clipped),
            ):
                column_S.index_copy_(0, self.at, value.to(column_S.dtype).reshape(1))
            self.at += 1

    def _first_output(self, x_NCHW: Tensor, target: Tensor) -> Tensor:
        """Return what the net gives for the first batch, once it and the targets are looked at."""
        try:
            out_NK: Tensor = self.model(x_NCHW)
        except RuntimeError as error:
            explain_dtype(self.weights.parameters, x_NCHW, error)
            raise
        if fault := output_fault(out_NK, len(x_NCHW)):
            raise UsageError(f"the model {fault.problem}", fault.hint)
        if torch.is_grad_enabled() and not out_NK.requires_grad:
            raise UsageError(
                "the model returns an output without a gradient",
                "compute it without no_grad() and detach()",
            )
        if not self.trusted:
            own = self.settings.loss_func is not None
            if fault := target_fault(target, len(x_NCHW), classes=out_NK.shape[1], own=own):
                raise UsageError(f"the training labels {fault.problem}", fault.hint)
        self.classes = out_NK.shape[1]
        return out_NK

    def _update_some(self, update: Update, grad_P: Tensor, finite: Tensor | None) -> None:
        """Move the weights that have a gradient.

        Torch leaves the others, their moments and their step counts alone.
        """
        moves_P = self.weights.moving()
        if finite is not None:
            moves_P &= finite
        rate, momentum = self.rows_SC.index_select(0, self.at)[0, :2].unbind()
        row = (rate, momentum, *self.weights.corrections(self.at, momentum))
        update.where(moves_P, self.weights.flat_P, grad_P, row)

    def _clip(self, grad_P: Tensor) -> tuple[Tensor, Tensor]:
        """Clip in place; return (norm before clipping, 1 if anything was clipped)."""
        norm = torch.linalg.vector_norm(grad_P)
        # the norm is logged whether anything clips or not
        if self.settings.grad_clip is None:
            return norm, torch.zeros_like(norm)
        if self.settings.grad_clip_by == "value":
            clipped = torch.linalg.vector_norm(grad_P, float("inf")) > self.clip
            torch.clamp(grad_P, -self.clip, self.clip, out=grad_P)
        else:
            clipped = norm > self.clip
            # clip_grad_norm_'s own guard against a zero norm
            grad_P.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm, clipped

    def _step_optimizer(self, grad_P: Tensor) -> None:
        """Run a foreign optimiser on the clipped gradients at this step's rate and momentum."""
        optimizer = self.optimizer
        if optimizer is None:  # pragma: no cover - one of the two always exists
            return
        places = zip(
            self.weights.parameters, self.weights.starts, self.weights.present, strict=True
        )
        for p, start, present in places:
            p.grad = grad_P.as_strided(p.shape, p.stride(), start) if present else None
        # a foreign optimiser reads its numbers on the host, so it is never recorded
        rate, momentum = self.schedule[self.done]
        for group, share in zip(optimizer.param_groups, self.shares, strict=True):
            group["lr"] = rate * share
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = momentum
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def read(self, first: int) -> StepLog:
        """Return the log of the steps from ``first`` to the last. Waits for the device.

        Right answers are counted from zero after it.
        """
        span = slice(first, self.done)
        log = StepLog(
            self.losses_S[span].tolist(),
            self.norms_S[span].tolist(),
            self.clipped_S[span].tolist(),
            float(self.correct),
        )
        self.correct.zero_()
        return log


def _make_optimizer(
    settings: StepSettings, weights: FlatParameters, rate: float
) -> torch.optim.Optimizer:
    """Return an optimiser that is none of ours, made as its user's function makes it."""
    trained: list[nn.Parameter] | list[dict[str, object]] = weights.parameters
    shares = dict.fromkeys(weights.shares)
    if (
        len(shares) > 1
    ):  # a parameter group for each rate; their ratio counts, also where the schedule begins at 0
        pairs = list(zip(weights.parameters, weights.shares, strict=True))
        trained = [
            {"params": [p for p, own in pairs if own == share], "lr": (rate or 1.0) * share}
            for share in shares
        ]
    try:
        made = settings.opt_func(trained, rate, weight_decay=settings.weight_decay)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"opt_func could not make an optimiser: {error}",
            "it is called as opt_func(parameters, lr, weight_decay=...)",
        ) from error
    if fault := optimizer_fault(made):
        raise UsageError(f"opt_func {fault.problem}", fault.hint)
    return made


def _shares(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return each parameter group's rate as a share of the highest, which follows the schedule."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    highest = max(rates, default=0.0)
    return [rate / highest if highest > 0 else 1.0 for rate in rates]
