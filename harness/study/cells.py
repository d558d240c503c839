"""What has to be run: arms by seeds, seed by seed, for every arm or for those that are still in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.errors import UsageError
from harness.study.arms import arms
from harness.study.recipe import Recipe
from harness.study.study import Study
from harness.study.trial import Cell

CONTROL_OFFSET = 1_000_000  # the A/A arm runs the baseline at seed + this


def seeds(study: Study) -> tuple[int, ...]:
    """Return the seeds of a study: 0, 1, 2, ..., or those from its ``first_seed`` on."""
    return tuple(range(study.first_seed, study.first_seed + study.seeds))


def cells(
    study: Study,
    data_fingerprint: str,
    codes: Mapping[str, str] | str = "",
    *,
    arms_in: Collection[str] | None = None,
    upto_seed: int | None = None,
) -> tuple[Cell, ...]:
    """Return the cells of a study, seed by seed, so that a run cut short leaves whole seed blocks behind.

    With looks, plan the first with ``upto_seed=study.looks[0]``; at each barrier add the cells of
    ``look_decisions(...)`` up to the next look. What was planned before comes up again, under the
    same keys.

    Args:
        study: a study under a profile.
        data_fingerprint: of the images, as ``harness.train.data`` gives it.
        codes: ``{recipe id: fingerprint of its plug-ins}``, as ``cell_code`` gives it; one left out
            has none. A text is the fingerprint of every recipe.
        arms_in: names of the arms to plan; None plans all. The A/A arm goes with the baseline.
        upto_seed: how many of the study's seeds, from the first; None plans all.

    Raises:
        UsageError: an arm that the study does not have, or a study whose runs are finished ones
            from a table.
    """
    study.check_runnable()
    planned = arms(study)
    if arms_in is not None:
        unknown = sorted(set(arms_in) - {arm.name for arm in planned})
        if unknown:
            raise UsageError(
                f"study {study.name!r} has no arm {unknown[0]!r}",
                f"`harness show {study.name}` lists its arms",
            )
    wanted = [arm for arm in planned if arms_in is None or arm.name in arms_in]
    planned_cells: dict[str, Cell] = {}
    for seed in seeds(study)[:upto_seed]:
        for arm in wanted:
            cell = Cell.of(arm.recipe, seed, data_fingerprint, _code(codes, arm.recipe))
            planned_cells.setdefault(cell.key, cell)
        # the A/A arm is the baseline again at seeds of its own: what it differs by is what chance
        # makes
        if study.control and planned[0] in wanted:
            own = _code(codes, planned[0].recipe)
            cell = Cell.of(planned[0].recipe, seed + CONTROL_OFFSET, data_fingerprint, own)
            planned_cells.setdefault(cell.key, cell)
    return tuple(planned_cells.values())


def _code(codes: Mapping[str, str] | str, recipe: Recipe) -> str:
    return codes if isinstance(codes, str) else codes.get(recipe.id, "")
