"""The learning-rate schedules as pure functions."""

from __future__ import annotations

import math

from harness.errors import RecipeError
from harness.plugins import is_plugin
from harness.study.recipe_fields import ScheduleRecipe


def schedule_table(schedule: ScheduleRecipe, steps: int) -> list[tuple[float, float]]:
    """Return (learning rate, momentum or beta1) of each of ``steps`` steps.

    one-cycle is the two-phase cosine form of Smith & Topin (arXiv 1708.07120) with the phase
    lengths of ``torch.optim.lr_scheduler.OneCycleLR``: the peak falls on step ``pct_start * steps -
    1``, which need not be whole. cosine falls from max_lr towards 0 over the run; constant stays.
    Both keep the momentum at 0.9.

    Raises:
        RecipeError: the schedule is the user's (see ``harness.train.own.table_of``), or its name
            has no table here.
    """
    peak = schedule.max_lr
    if schedule.name == "constant":
        return [(peak, 0.9)] * steps
    if schedule.name == "cosine":
        return [(peak * (1 + math.cos(math.pi * step / steps)) / 2, 0.9) for step in range(steps)]
    if schedule.name == "one-cycle":
        return _one_cycle(schedule, steps)
    if is_plugin(schedule.name):
        raise RecipeError(f"schedule.name is {schedule.name!r}, whose rates only its code knows")
    raise RecipeError(
        f"schedule.name is {schedule.name!r}, for which there is no table of rates",
        "add it to schedule_table",
    )


def _one_cycle(schedule: ScheduleRecipe, steps: int) -> list[tuple[float, float]]:
    peak = schedule.max_lr
    first, last = peak / schedule.div, peak / schedule.div / schedule.final_div
    top = schedule.pct_start * steps - 1
    table = []
    for step in range(steps):
        if step <= top:
            share = step / top if top > 0 else 1.0
            rate, momentum = _cosine(first, peak, share), _cosine(0.95, 0.85, share)
        else:
            share = (step - top) / (steps - 1 - top)
            rate, momentum = _cosine(peak, last, share), _cosine(0.85, 0.95, share)
        table.append((rate, momentum if schedule.cycle_momentum else 0.9))
    return table


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (1 + math.cos(math.pi * share))
