"""``fit_one_cycle`` and ``evaluate``: the loop, for any loader of (images, labels).

It owns the epochs and the history.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.errors import DivergedError, UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.train.capture import wait
from harness.train.devices import overlaps
from harness.train.engine import Driver, Eager, Program, choose, room_for
from harness.train.first_batch import batch_fault, target_fault
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.modes import modes_kept
from harness.train.own import table_of
from harness.train.scores import Scores
from harness.train.step import LossFunc, OptFunc, Step, StepLog, StepSettings
from harness.train.streams import stream_seed

EpochEntry = dict[str, Any]


class Loader(Protocol):
    """What the loop trains on.

    Iterated again every epoch, yielding (x_NCHW float, target) with target_N or target_NK.

    A loader with ``set_epoch(epoch)`` gets the epoch before each pass, as torch's
    DistributedSampler is.
    """

    def __iter__(self) -> Any: ...


def fit_one_cycle(  # noqa: PLR0917 - the documented order of the arguments
    epochs: int,
    max_lr: float,
    model: nn.Module,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any],
    weight_decay: float = 0,
    grad_clip: float | None = None,
    opt_func: OptFunc = torch.optim.Adam,
    *,
    schedule: ScheduleRecipe | None = None,
    grad_clip_by: str = "value",
    label_smoothing: float = 0.0,
    precision: str = "fp32",
    nesterov: bool = True,
    loss_func: LossFunc | None = None,
    clean_loader: Iterable[Any] | None = None,
    steps_per_epoch: int | None = None,
    seed: int | None = None,
    engine: str | Program = "eager",
    on_epoch: Callable[[EpochEntry], object] | None = None,
    log: Callable[[str], object] | None = None,
) -> list[EpochEntry]:
    """Train a net with the one-cycle policy and return its history.

    The policy is that of Smith & Topin (arXiv 1708.07120).

    Args:
        epochs: passes over ``train_loader``.
        max_lr: the highest learning rate; parameter groups that ``opt_func`` makes with rates of
            their own keep the ratio.
        model: trained in place, on the device its parameters are on. Modules that are in eval mode
            stay in it (a frozen BatchNorm), unless the whole net is.
        train_loader: re-iterable, yielding (x_NCHW, labels_N) or soft targets (x_NCHW, target_NK);
            a torch DataLoader is one.
        val_loader: the same, with class numbers.
        weight_decay: L2 penalty (Adam, SGD) or decoupled decay (AdamW).
        grad_clip: largest gradient, above 0; None is off.
        opt_func: optimiser class. Adam, AdamW and SGD of torch.optim run as tensor-valued updates
            of the same arithmetic (SGD with momentum, Nesterov unless ``nesterov=False``); any
            other is built as ``opt_func(parameters, lr, weight_decay=...)`` and stepped as it is.
        schedule: shape of the schedule; its ``max_lr`` is replaced by the argument.
        grad_clip_by: ``value`` clips each entry, ``norm`` scales the whole gradient.
        label_smoothing: share of each target spread over all classes.
        precision: fp32, or bf16 or fp16 for autocast with fp32 master weights; fp16 scales the
            loss.
        nesterov: form of SGD's momentum.
        loss_func: (out_NK, target) to the mean loss of a batch, in place of cross-entropy;
            validation loss stays cross-entropy.
        clean_loader: training images without augmentation, evaluated every epoch; without it the
            history's ``train_loss`` is the loss during training and ``train_accuracy`` is None.
        steps_per_epoch: needed when ``train_loader`` has no ``len()``.
        seed: fixes dropout's draws, epoch by epoch; torch's default generator is the one they come
            from.
        engine: ``eager``, ``graph`` (a CUDA device, and Adam, AdamW or SGD of torch.optim),
            ``auto``, or a ``Program`` that was recorded before, whose net ``model`` must then be.
        on_epoch: called with each epoch's entry; return ``True`` to end training after it.
        log: given one line of text an epoch (losses, accuracies, last learning rate); ``log=print``
            shows them.

    Returns:
        One dict an epoch: epoch (zero-based), train_loss, train_accuracy (clean), online_loss,
            online_accuracy (during
        training), val_loss, val_accuracy, lrs (of every step), learning_rate (the last), grad_norm
        (mean before clipping), clipped_share (of steps), seconds (training, from the start),
        cpu_seconds (of them, what this process had of the processor), eval_seconds (this epoch's),
        warm_seconds (first calls and recordings so far, which are not in seconds).

    Raises:
        DivergedError: the loss, the gradient or the finished epoch's net stopped being finite; it
            names the first bad step.
        UsageError: a loader without length or without batches; a batch, an output or a setting that
            does not fit.
    """
    _check_arguments(epochs, max_lr, model)
    steps = steps_per_epoch if steps_per_epoch is not None else _length(train_loader)
    if epochs < 1 or steps < 1:
        raise UsageError(
            f"cannot train for {epochs} epochs of {steps} steps", "both must be at least 1"
        )

    # every rate of the run is worked out before it: no step has to ask the host
    shape = (schedule or ScheduleRecipe()).model_copy(update={"max_lr": float(max_lr)})
    table = table_of(shape, epochs * steps)
    settings = StepSettings(
        float(weight_decay),
        grad_clip,
        grad_clip_by,
        label_smoothing,
        precision,
        opt_func,
        nesterov,
        loss_func,
    )

    loaders = _FitLoaders(train_loader, val_loader, clean_loader)
    training = _Training(engine, model, table, settings, loaders, steps=steps, seed=seed)
    history: list[EpochEntry] = []
    with _on_loan(model, training.driver, kept=training.driver is engine):
        for epoch in range(epochs):
            history.append(training.epoch(epoch))
            if log is not None:
                log(epoch_line(history[-1], epochs))
            # only True: what a callback returns by chance ends nothing
            if on_epoch is not None and on_epoch(history[-1]) is True:
                break
    return history


@dataclass(frozen=True, slots=True)
class _FitLoaders:
    """The loaders of a training.

    Images to train on, to validate on, and clean training images or None.
    """

    train: Iterable[Any]
    val: Iterable[Any]
    clean: Iterable[Any] | None

    def announce(self, epoch: int) -> None:
        """Give the epoch to a training loader, or to its sampler, that draws by it."""
        set_epoch = getattr(self.train, "set_epoch", None) or getattr(
            getattr(self.train, "sampler", None), "set_epoch", None
        )
        if set_epoch is not None:
            set_epoch(epoch)


class _Training:
    """A run of `fit_one_cycle`, one epoch after the other; it adds up what training took."""

    def __init__(
        self,
        engine: str | Program,
        model: nn.Module,
        table: list[tuple[float, float]],
        settings: StepSettings,
        loaders: _FitLoaders,
        *,
        steps: int,
        seed: int | None,
    ) -> None:
        self.model, self.table, self.loaders = model, table, loaders
        self.steps, self.seed = steps, seed
        # a program may have been made by an earlier trial, which paid for its recording
        self.warm_before = engine.warm_seconds if isinstance(engine, Program) else 0.0
        self.driver = _driver(engine, model, table, settings, loaders.train)
        self.trained = self.processor = 0.0  # seconds

        # where a first call is slow, and a recording takes several
        if self.driver.step.device.type == "cuda":
            for loader in (loaders.val, loaders.clean or ()):
                self.driver.warm_scores(loader)

    def epoch(self, epoch: int) -> EpochEntry:
        """Train one epoch, evaluate, and return its entry of the history.

        Raises:
            DivergedError: something stopped being finite.
        """
        self.loaders.announce(epoch)
        # epoch by epoch, so that what another arm draws in one epoch moves nothing in the next
        if self.seed is not None:
            torch.manual_seed(stream_seed(self.seed, "dropout", epoch))
        seen, logged = self._train(epoch)
        _check_finite(logged, epoch, first=epoch * self.steps)

        started = time.perf_counter()
        val = evaluate(self.model, self.loaders.val, scores=self.driver.scores)
        # the last update broke the net, and no training step came after it
        if not math.isfinite(val["loss"]):
            raise DivergedError(epoch, (epoch + 1) * self.steps - 1)
        clean = (
            evaluate(self.model, self.loaders.clean, scores=self.driver.scores)
            if self.loaders.clean is not None
            else None
        )

        online = sum(logged.losses) / len(logged.losses)
        rates = [rate for rate, _ in self.table[epoch * self.steps : (epoch + 1) * self.steps]]
        return {
            "epoch": epoch,
            "train_loss": clean["loss"] if clean else online,
            "train_accuracy": clean["accuracy"] if clean else None,
            "online_loss": online,
            "online_accuracy": logged.correct / seen,
            "val_loss": val["loss"],
            "val_accuracy": val["accuracy"],
            "lrs": rates,
            "learning_rate": rates[-1],
            "grad_norm": sum(logged.grad_norms) / len(logged.grad_norms),
            "clipped_share": sum(logged.clipped) / len(logged.clipped),
            "seconds": self.trained,
            "cpu_seconds": self.processor,
            "eval_seconds": time.perf_counter() - started,
            "warm_seconds": self.driver.warm_seconds - self.warm_before,
        }

    def _train(self, epoch: int) -> tuple[int, StepLog]:
        """Take the steps of an epoch.

        Return the number of images seen, and the log of its steps.
        """
        driver = self.driver
        # nothing of what came before may still run when the clock starts
        wait(driver.step.device)
        started, busy, warm = time.perf_counter(), time.process_time(), driver.warm_seconds
        seen = driver.epoch(self.loaders.train, self.steps)
        # reading the log waits for the device, so that the clock stops when the work is done
        logged = driver.step.read(epoch * self.steps)
        self.trained += time.perf_counter() - started - (driver.warm_seconds - warm)
        self.processor += time.process_time() - busy
        return seen, logged


def _check_finite(logged: StepLog, epoch: int, *, first: int) -> None:
    """Raise a DivergedError that names the first bad step of an epoch.

    ``first`` is the number of its first step.
    """
    for number, (loss, norm) in enumerate(zip(logged.losses, logged.grad_norms, strict=True)):
        # an infinite gradient can still be clipped by value; one that is not a number spoils the
        # weights at once
        if not math.isfinite(loss) or math.isnan(norm):
            raise DivergedError(epoch, first + number)


def _driver(
    engine: str | Program,
    model: nn.Module,
    table: list[tuple[float, float]],
    settings: StepSettings,
    loader: Iterable[Any],
) -> Driver:
    """Return what runs the epochs."""
    if isinstance(engine, str):
        choice = choose(_device_of(model), engine, settings.opt_func)
        if choice.name == "eager":
            step = Step(model, table, settings, trusted=isinstance(loader, TrainLoader))
            driver = Eager(step)
            # a CPU's first calls cost nothing that is worth a second pass
            if isinstance(loader, TrainLoader) and step.device.type == "cuda":
                driver.warm_up(loader)
            return driver
        engine = Program(model, settings, loader, room=room_for(len(table)))
    elif engine.model is not model:
        raise UsageError(
            "this program was recorded with another net",
            "train program.model, after program.load(your net)",
        )
    engine.begin(table, settings, loader)
    return engine


@contextmanager
def _on_loan(model: nn.Module, driver: Driver, *, kept: bool) -> Iterator[None]:
    """Give weights and modes back after training.

    Weights that a recorded step goes on using are ``kept``.
    """
    resting = not any(module.training for module in model.modules())
    try:
        yield
    finally:
        if not kept:
            driver.step.weights.release()
        if resting:
            for module in model.modules():
                module.training = False


def _check_arguments(epochs: object, max_lr: object, model: object) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}", "give a torch.nn.Module")
    if isinstance(epochs, bool) or not isinstance(epochs, Integral):
        raise UsageError(f"epochs is {epochs!r}", "give a whole number")
    if isinstance(max_lr, bool) or not isinstance(max_lr, Real):
        raise UsageError(
            f"max_lr is {max_lr!r} and should be one number",
            "rates of parameter groups go into opt_func, which may give each group its own",
        )
    if not 0 < float(max_lr) < math.inf:
        raise UsageError(
            f"max_lr is {max_lr} and must be above 0", "0.001 is a good first try for Adam"
        )


def _device_of(model: nn.Module) -> torch.device:
    """Return where a net is; one that holds nothing is on the CPU."""
    tensor = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _length(loader: Iterable[Any]) -> int:
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError("the training loader has no len()", "pass steps_per_epoch=") from None


def epoch_line(entry: EpochEntry, epochs: int) -> str:
    """Return an epoch's entry as one line: losses, accuracies in [0, 1], last learning rate."""
    train = (
        f" train_acc {entry['train_accuracy']:.4f}" if entry["train_accuracy"] is not None else ""
    )
    return (
        f"epoch {entry['epoch'] + 1}/{epochs} lr {entry['learning_rate']:.2e} train_loss "
        f"{entry['train_loss']:.4f}{train} "
        f"online_acc {entry['online_accuracy']:.4f} val_loss {entry['val_loss']:.4f} val_acc "
        f"{entry['val_accuracy']:.4f}"
    )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    precision: str = "fp32",
    scores: Scores | None = None,
) -> dict[str, float]:
    """Return the mean cross-entropy of the probabilities and the accuracy of a net over a loader.

    Eval mode, no gradients; every module is left in the mode it was in. Works with logits and with
    softmax heads.

    Args:
        model: the net.
        loader: of (images, class numbers).
        precision: of the arithmetic.
        scores: of the same net and precision, to add the batches up with; new ones by default.

    Returns:
        ``{"loss": nats, "accuracy": in [0, 1], "images": count}``.

    Raises:
        UsageError: the loader is empty, or gives what is no pair of images and class numbers; or
            the net returns no logits_NK.
    """
    device = _device_of(model)
    scores = scores or Scores(model, precision)
    scores.start()
    images = 0
    with modes_kept(model):
        model.eval()
        for batch in loader:
            ours = isinstance(loader, EvalLoader)
            x_NCHW, labels_N = batch if ours else _checked_pair(batch, scores.classes)
            x_NCHW = x_NCHW.to(device, non_blocking=overlaps(device))
            labels_N = labels_N.to(device, non_blocking=overlaps(device))
            scores.add(x_NCHW, labels_N, trusted=ours or scores.classes > 0)
            images += len(x_NCHW)
    if images == 0:
        raise UsageError("there is nothing to evaluate: the loader is empty")
    return {
        "loss": float(scores.loss) / images,
        "accuracy": float(scores.correct) / images,
        "images": float(images),
    }


def _checked_pair(batch: Any, classes: int) -> tuple[Tensor, Tensor]:
    if fault := batch_fault(batch):
        raise UsageError(f"a batch of the validation loader {fault.problem}", fault.hint)
    images, labels = batch
    if fault := target_fault(labels, len(images), classes=classes, soft=False):
        raise UsageError(f"the labels of the validation loader {fault.problem}", fault.hint)
    return images, labels
