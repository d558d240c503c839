"""``fit_one_cycle`` and ``evaluate``: the loop, for any loader of (images, labels). It owns the epochs and the history."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.errors import DivergedError, UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.train.capture import wait
from harness.train.devices import overlaps, wide_float
from harness.train.engine import Driver, Eager, Program, choose, room_for
from harness.train.first_batch import batch_fault, explain_dtype, output_fault, target_fault
from harness.train.loaders import EvalLoader, TrainLoader
from harness.train.modes import modes_kept
from harness.train.own import table_of
from harness.train.step import AUTOCAST, LossFunc, OptFunc, Step, StepSettings
from harness.train.streams import stream_seed

Entry = dict[str, Any]


class Loader(Protocol):
    """What the loop trains on: iterated anew every epoch, yielding (x_NCHW float, target) with target_N or target_NK.

    A loader with ``set_epoch(epoch)`` is told the epoch before it is iterated, as torch's DistributedSampler is.
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
    on_epoch: Callable[[Entry], object] | None = None,
    log: Callable[[str], object] | None = None,
) -> list[Entry]:
    """Train a net with the one-cycle policy (Smith & Topin, arXiv 1708.07120) and return its history.

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
    before = engine.warm_seconds if isinstance(engine, Program) else 0.0
    driver = _driver(engine, model, table, settings, train_loader)
    step = driver.step
    history: list[Entry] = []
    trained = processor = 0.0
    with _on_loan(model, driver, kept=driver is engine):
        for epoch in range(epochs):
            set_epoch = getattr(train_loader, "set_epoch", None) or getattr(
                getattr(train_loader, "sampler", None), "set_epoch", None
            )
            if set_epoch is not None:
                set_epoch(epoch)
            if seed is not None:
                torch.manual_seed(stream_seed(seed, "dropout", epoch))
            wait(step.device)
            started, busy, warm = time.perf_counter(), time.process_time(), driver.warm_seconds
            seen = driver.epoch(train_loader, steps)
            logged = step.read(epoch * steps)  # waits for the device
            trained += time.perf_counter() - started - (driver.warm_seconds - warm)
            processor += time.process_time() - busy
            # an infinite gradient can still be clipped by value; one that is not a number spoils
            # the weights at once
            values = zip(logged.losses, logged.grad_norms, strict=True)
            bad = next(
                (
                    i
                    for i, (loss, norm) in enumerate(values)
                    if not math.isfinite(loss) or math.isnan(norm)
                ),
                None,
            )
            if bad is not None:
                raise DivergedError(epoch, epoch * steps + bad)
            started = time.perf_counter()
            val = evaluate(model, val_loader, precision=precision)
            # the last update broke the net, and no training step came after it
            if not math.isfinite(val["loss"]):
                raise DivergedError(epoch, (epoch + 1) * steps - 1)
            clean = (
                evaluate(model, clean_loader, precision=precision)
                if clean_loader is not None
                else None
            )
            online = sum(logged.losses) / len(logged.losses)
            entry: Entry = {
                "epoch": epoch,
                "train_loss": clean["loss"] if clean else online,
                "train_accuracy": clean["accuracy"] if clean else None,
                "online_loss": online,
                "online_accuracy": logged.correct / seen,
                "val_loss": val["loss"],
                "val_accuracy": val["accuracy"],
                "lrs": [rate for rate, _ in table[epoch * steps : (epoch + 1) * steps]],
                "learning_rate": table[(epoch + 1) * steps - 1][0],
                "grad_norm": sum(logged.grad_norms) / len(logged.grad_norms),
                "clipped_share": sum(logged.clipped) / len(logged.clipped),
                "seconds": trained,
                "cpu_seconds": processor,
                "eval_seconds": time.perf_counter() - started,
                "warm_seconds": driver.warm_seconds - before,
            }
            history.append(entry)
            if log is not None:
                log(epoch_line(entry, epochs))
            if on_epoch is not None and on_epoch(entry) is True:
                break
    return history


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
            driver = Eager(Step(model, table, settings))
            if isinstance(loader, TrainLoader) and driver.step.device.type == "cuda":
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
    """Give weights and modes back after training; weights that a recorded step goes on using are ``kept``."""
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


def epoch_line(entry: Entry, epochs: int) -> str:
    """Return an epoch's entry as one line: losses, accuracies in [0, 1], last learning rate."""
    train = (
        f" train_acc {entry['train_accuracy']:.4f}" if entry["train_accuracy"] is not None else ""
    )
    return (
        f"epoch {entry['epoch'] + 1}/{epochs} lr {entry['learning_rate']:.2e} train_loss {entry['train_loss']:.4f}{train} "
        f"online_acc {entry['online_accuracy']:.4f} val_loss {entry['val_loss']:.4f} val_acc {entry['val_accuracy']:.4f}"
    )


def log_probabilities(out_NK: Tensor, *, softmax: bool) -> Tensor:
    """Return log p_NK of what a net returned: logits, or with ``softmax`` probabilities already."""
    return (
        out_NK.float().clamp_min(1e-12).log() if softmax else F.log_softmax(out_NK.float(), dim=1)
    )


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: Iterable[Any], *, precision: str = "fp32"
) -> dict[str, float]:
    """Return the mean cross-entropy of the probabilities and the accuracy of a net over a loader.

    Eval mode, no gradients; every module is left in the mode it was in. Works with logits and with
    softmax heads.

    Returns:
        ``{"loss": nats, "accuracy": in [0, 1], "images": count}``.

    Raises:
        UsageError: the loader is empty, or gives what is no pair of images and class numbers; or
            the net returns no logits_NK.
    """
    if precision not in AUTOCAST:
        raise UsageError(f"precision is {precision!r}", "use 'fp32', 'bf16' or 'fp16'")
    device = _device_of(model)
    # a net may have a layer of this name, which says nothing
    softmax = getattr(model, "softmax", False) is True
    loss = torch.zeros((), dtype=wide_float(device), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    images, behind = 0, overlaps(device)
    with modes_kept(model):
        model.eval()
        for batch in loader:
            x_NCHW, labels_N = batch if isinstance(loader, EvalLoader) else _checked_pair(batch)
            x_NCHW, labels_N = (
                x_NCHW.to(device, non_blocking=behind),
                labels_N.to(device, non_blocking=behind),
            )
            with torch.autocast(
                device.type, AUTOCAST[precision], enabled=AUTOCAST[precision] is not None
            ):
                out_NK = _checked_output(model, x_NCHW)
            if not isinstance(loader, EvalLoader):
                _check_labels(labels_N, out_NK)
            log_NK = log_probabilities(out_NK, softmax=softmax)
            loss += F.nll_loss(log_NK, labels_N, reduction="sum")
            correct += (log_NK.argmax(dim=1) == labels_N).sum()
            images += len(x_NCHW)
    if images == 0:
        raise UsageError("there is nothing to evaluate: the loader is empty")
    return {
        "loss": float(loss) / images,
        "accuracy": float(correct) / images,
        "images": float(images),
    }


def _checked_pair(batch: Any) -> tuple[Tensor, Tensor]:
    if fault := batch_fault(batch):
        raise UsageError(f"a batch of the validation loader {fault.problem}", fault.hint)
    images, labels = batch
    return images, labels


def _checked_output(model: nn.Module, x_NCHW: Tensor) -> Tensor:
    try:
        out_NK: Tensor = model(x_NCHW)
    except RuntimeError as error:
        explain_dtype(model.parameters(), x_NCHW, error)
        raise
    if fault := output_fault(out_NK, len(x_NCHW)):
        raise UsageError(f"the model {fault.problem}", fault.hint)
    return out_NK


def _check_labels(labels_N: Tensor, out_NK: Tensor) -> None:
    if fault := target_fault(labels_N, len(out_NK), classes=out_NK.shape[1], soft=False):
        raise UsageError(f"the labels of the validation loader {fault.problem}", fault.hint)
