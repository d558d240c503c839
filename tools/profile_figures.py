"""Write into harness/study/profiles.toml what the committed reports of each profile found of the spread between seeds.

python tools/profile_figures.py         # rewrite the tables [observed.PROFILE]

`harness plan` takes its sd from there where a study has no runs of its own. A profile without a
committed report has no table.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.report import read_folder
from harness.report.material import Material
from harness.stats import image_variance
from harness.study.arms import arms
from harness.study.profiles import PROFILES, Observed, builtin_profiles
from harness.study.recipe import flatten

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
FILE = ROOT / "harness" / "study" / "profiles.toml"
BEGIN = "# What the committed reports of a profile found, written by tools/profile_figures.py. Spreads in pp.\n"
FEWEST = 3  # seeds of an arm or of a pair

Outcomes_SI = npt.NDArray[np.float64]


def figures(profile: str, reports: Path = REPORTS) -> Observed | None:
    """Return what the reports of a profile found; None without one.

    Where reports differ in their number of validation images, those with the profile's number
    count, else the commonest.
    """
    by_images: dict[int, dict[str, list[dict[int, Outcomes_SI]]]] = defaultdict(dict)
    references: dict[str, list[tuple[int, int]]] = {}
    for folder in sorted(path.parent for path in reports.glob(f"*-{profile}/trials.parquet")):
        material = read_folder(folder)
        if (
            material.study.profile == profile
            and not material.study.without_validation
            and material.tuning is None
        ):
            runs = _by_arm(material)
            sizes = {row.size for arm in runs for row in arm.values()}
            if len(sizes) == 1:
                by_images[sizes.pop()][folder.name] = runs
                names = [arm.name for arm in arms(material.study)]
                pairs = [
                    (i, names.index(arm.reference))
                    for i, arm in enumerate(arms(material.study))
                    if arm.reference
                ]
                references[folder.name] = pairs
    if not by_images:
        return None

    wanted = flatten(builtin_profiles()[profile]).get("data.val")
    images: int = (
        wanted
        if wanted in by_images
        else max(by_images, key=lambda count: (len(by_images[count]), count))
    )
    chosen = by_images[images]
    single = [
        np.stack(list(arm.values()))
        for runs in chosen.values()
        for arm in runs
        if len(arm) >= FEWEST
    ]
    paired = []
    for name, runs in chosen.items():
        for i, j in references[name]:
            shared = sorted(runs[i].keys() & runs[j].keys())
            if len(shared) >= FEWEST:
                paired.append(np.stack([runs[i][seed] - runs[j][seed] for seed in shared]))
    if not single or not paired:  # too few seeds for any spread
        return None

    sd, sd_images = _pooled(single)
    paired_sd, paired_sd_images = _pooled(paired)
    return Observed(
        reports=tuple(chosen),
        trials=sum(len(outcomes_SI) for outcomes_SI in single),
        contrasts=len(paired),
        images=images,
        accuracy=round(100.0 * float(np.mean([outcomes_SI.mean() for outcomes_SI in single])), 2),
        sd=sd,
        sd_images=sd_images,
        paired_sd=paired_sd,
        paired_sd_images=paired_sd_images,
    )


def _by_arm(material: Material) -> list[dict[int, Outcomes_SI]]:
    """Return, for each arm, ``{seed: correctness of every validation image}`` of its complete trials."""
    trials = {
        (trial.recipe_id, trial.seed): trial
        for trial in material.trials
        if trial.state == "complete"
    }
    runs = []
    for arm in arms(material.study):
        seeds = [
            seed for recipe_id, seed in trials if recipe_id == arm.recipe_id and seed < 1_000_000
        ]
        cells = {seed: trials[arm.recipe_id, seed].cell for seed in sorted(seeds)}
        known = {
            seed: material.outcomes[cell]
            for seed, cell in cells.items()
            if cell in material.outcomes
        }
        runs.append(
            {seed: outcomes.val_correct_N.astype(np.float64) for seed, outcomes in known.items()}
        )
    return runs


def _pooled(several: list[Outcomes_SI]) -> tuple[float, float]:
    """Return the sd between seeds and the part that the images make, in pp, pooled by degrees of freedom."""
    df = np.array([len(outcomes_SI) - 1 for outcomes_SI in several], dtype=np.float64)
    variances = np.array([outcomes_SI.mean(axis=1).var(ddof=1) for outcomes_SI in several])
    of_images = np.array([image_variance(outcomes_SI) for outcomes_SI in several])
    total, part = (float(df @ values / df.sum()) for values in (variances, of_images))
    return round(100.0 * total**0.5, 3), round(100.0 * min(part, total) ** 0.5, 3)


def text(reports: Path = REPORTS) -> str:
    """Return the tables, one a profile with reports."""
    tables = []
    for profile in PROFILES:
        found = figures(profile, reports)
        if found is not None:
            values = {**asdict(found), "reports": list(found.reports)}
            lines = [
                f"{key} = {str(value).replace(chr(39), chr(34))}" for key, value in values.items()
            ]
            tables.append("\n".join([f"[observed.{profile}]", *lines]) + "\n")
    return BEGIN + "\n".join(tables)


if __name__ == "__main__":
    before = FILE.read_text(encoding="utf-8").partition(BEGIN)[0].rstrip("\n")
    FILE.write_text(f"{before}\n\n{text()}", encoding="utf-8")
