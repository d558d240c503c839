"""What of ours is timed: loader, step, loop, epoch and trial, and the ceilings above them.

Legend: N images, B batch, C channels, H height, W width, K classes, P all weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.study.recipe import Recipe
from harness.study.schedules import schedule_table
from harness.train.engine import Driver, Eager, Program, room_for
from harness.train.judge import judge
from harness.train.loaders import TrainLoader
from harness.train.optim import FlatParameters, Update, schedule_rows
from harness.train.parts import Arena, Loaders, place, step_settings
from harness.train.run import fit
from harness.train.step import AUTOCAST, Step

ROOM = 1 << 17  # steps, more than a benchmark ever takes


@dataclass(frozen=True, slots=True)
class Ground:
    """The images, the recipe and the device that a benchmark trains with."""

    recipe: Recipe
    arena: Arena
    device: str

    def net(self, memory_format: torch.memory_format = torch.channels_last) -> nn.Module:
        """Return a fresh net in its place."""
        model, _ = place(self.recipe, self.arena, self.device, 0)
        return model.to(memory_format=memory_format)

    def loaders(self, memory_format: torch.memory_format = torch.channels_last) -> Loaders:
        """Return the loaders of a trial."""
        return Loaders.of(self.recipe, self.arena, 0, memory_format)

    def driver(self, model: nn.Module, loader: TrainLoader, engine: str) -> Driver:
        """Return an engine at the start of a run of ``ROOM`` steps at the schedule's highest rate's tenth."""
        settings = step_settings(self.recipe, self.device)
        # a rate that lets no net diverge, however long it is timed
        table = [(self.recipe.schedule.max_lr / 10, 0.9)] * ROOM
        if engine == "eager":
            return Eager(Step(model, table, settings, trusted=True))
        program = Program(model, settings, loader, room=ROOM)
        program.begin(table, settings, loader)
        return program


def epochs(
    ground: Ground, engine: str, memory_format: torch.memory_format = torch.channels_last
) -> Callable[[], float]:
    """Return what trains for one epoch, and reads its log."""
    model, loader = ground.net(memory_format), ground.loaders(memory_format).train
    driver = ground.driver(model, loader, engine)

    def call() -> float:
        before = driver.step.done
        loader.set_epoch(loader.epoch + 1)
        seen = driver.epoch(loader, len(loader))
        driver.step.read(before)

        # The schedule has an end: begun again between two samples, it never runs out.
        if driver.step.done + len(loader) > ROOM:
            driver.step.reset(driver.step.schedule, driver.step.settings)
        return float(seen)

    return call


def trials(ground: Ground, engine: str) -> Callable[[], float]:
    """Return what runs a whole trial: fresh net, training, evaluation of every epoch, final metrics."""
    kept: list[Program] = []

    def call() -> float:
        model, loaders = ground.net(), ground.loaders()
        if engine == "graph":
            # captured once and used again, as in a study
            if not kept:
                room = room_for(ground.recipe.train.epochs * len(loaders.train))
                kept.append(
                    Program(
                        model, step_settings(ground.recipe, ground.device), loaders.train, room=room
                    )
                )
            kept[0].load(model)
            model = kept[0].model
        history = fit(
            ground.recipe, model, loaders, 0, lambda _: False, engine=kept[0] if kept else "eager"
        )
        judge(model, loaders, history, step_settings(ground.recipe, ground.device).precision)
        return float(ground.recipe.train.epochs * len(ground.arena.split.train_labels_N))

    return call


def batches(loader: TrainLoader) -> Callable[[], float]:
    """Return what makes one epoch's batches and throws them away."""

    def call() -> float:
        loader.set_epoch(loader.epoch + 1)
        return float(sum(len(x_BCHW) for x_BCHW, _ in loader))

    return call


def static_step(ground: Ground, engine: str) -> Callable[[], float]:
    """Return what takes one step after the other on one batch that lies ready: no loader, no augmentation."""
    model, loader = ground.net(), ground.loaders().train
    x_BCHW, target = next(iter(loader))
    driver = ground.driver(model, loader, "eager") if engine == "eager" else _handed(ground, model)
    # so that asking for the log does not dominate
    content = [(x_BCHW, target)] * 8

    def call() -> float:
        before = driver.step.done
        seen = driver.epoch(content, len(content))
        driver.step.read(before)
        if driver.step.done + len(content) > ROOM:
            driver.step.reset(driver.step.schedule, driver.step.settings)
        return float(seen)

    return call


def _handed(ground: Ground, model: nn.Module) -> Program:
    settings = step_settings(ground.recipe, ground.device)
    program = Program(model, settings, (), room=ROOM)
    program.begin([(ground.recipe.schedule.max_lr / 10, 0.9)] * ROOM, settings, ())
    return program


def bare_loop(ground: Ground) -> Callable[[], float]:
    """Return an epoch of the operations of our step, written out in one loop without anything of ours around them."""
    recipe, model, loader = ground.recipe, ground.net(), ground.loaders().train
    device = next(model.parameters()).device
    settings = step_settings(recipe, device)
    dtype = AUTOCAST[settings.precision]
    weights = FlatParameters(model)
    update = Update(recipe.optimizer.name, torch.tensor(settings.weight_decay, device=device))
    # one row of the schedule: the rate does not change what a step costs
    row_C = schedule_rows(schedule_table(recipe.schedule, 10), device)[5]
    clip = torch.tensor(settings.grad_clip or float("inf"), device=device)

    def call() -> float:
        loader.set_epoch(loader.epoch + 1)
        model.train()
        seen = 0
        correct = torch.zeros((), device=device)
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        for x_BCHW, labels_B in loader:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                out_BK = model(x_BCHW)
            # the loss in full precision, as in our step
            out_BK = out_BK.float()
            loss = F.cross_entropy(out_BK, labels_B)
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                grad_P = weights.gather_gradients()
                norms.append(torch.linalg.vector_norm(grad_P))
                norms.append((torch.linalg.vector_norm(grad_P, float("inf")) > clip).float())
                torch.clamp(grad_P, -clip, clip, out=grad_P)
                update(weights.flat_P, grad_P, row_C)
                correct += (out_BK.argmax(dim=1) == labels_B).sum()
                losses.append(loss.detach())
            seen += len(x_BCHW)
        # read once an epoch, as ours: a read a step would wait for the device
        torch.stack(losses).tolist(), torch.stack(norms).tolist(), float(correct)
        return float(seen)

    return call


def matmul(device: str, precision: str, mflop_per_image: float) -> Callable[[], float]:
    """Return a large matrix product, worth the images whose counted operations it does."""
    # large enough to keep every unit of the device busy
    size = 8192 if torch.device(device).type == "cuda" else 1024
    dtype = AUTOCAST[precision] or torch.float32
    source = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, device=device, generator=source).to(dtype) for _ in range(2)
    )
    worth = 2 * size**3 / (mflop_per_image * 1e6)

    def call() -> float:
        torch.mm(left, right)
        return worth

    return call


def copy(device: str, shape: tuple[int, int, int]) -> Callable[[], float]:
    """Return a large copy, worth the images that could be read as uint8 and written as float32 with its bytes."""
    # far beyond the caches
    values = 2**28 if torch.device(device).type == "cuda" else 2**24
    source, target = (torch.zeros(values, device=device) for _ in range(2))
    channels, height, width = shape
    worth = 2 * source.nbytes / (5 * channels * height * width)

    def call() -> float:
        target.copy_(source)
        return worth

    return call
