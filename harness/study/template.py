"""``new-study``: a commented study file that validates, to be changed into one's own."""

from __future__ import annotations

import tomllib
from pathlib import Path

from harness.errors import StudyError, UsageError
from harness.study.files import available_studies
from harness.study.recipe import shown
from harness.study.study import parse_study

_TEMPLATE = """\
# {name}: `harness show {name}` lists its arms, `harness plan --study {name}` says what it can find,
# `harness ablate --study {name}` runs it. `harness show fields` lists every recipe field.

schema = 1
question = "Does dropout earn its place, and does cutout add to it?"   # the report's heading: ask what you want to know
design = "leave-one-out"   # or add-one-in, both, factorial, fraction, sweep, arms
seeds = 8                  # pairs of runs for every comparison; left out, the profile decides. `harness plan` advises
margin_pp = 1.0            # percentage points: smaller differences are not worth acting on
# metric = "accuracy"      # what decides, on validation images
# looks = [4, 8]           # stop what is settled early; must end at seeds
# control = true           # an arm that differs from the baseline by its seeds alone: it should come out null

# Fields of the recipe that every arm shares, whatever the profile says. Left out, the profile and the reference decide.
[base]
model.dropout = 0.25

# A component: the baseline has it on, leave-one-out takes it off.
[[factors]]
name = "dropout"
field = "model.dropout"    # or several that move together: ["augment.brightness", "augment.contrast"]
off = 0.0
on = 0.25
why = "one sentence that the report shows with the arm"

# An arm by hand: the baseline with some fields set otherwise.
[[arms]]
name = "cutout"
set = {{ "augment.cutout" = 8 }}
why = "the strongest single regulariser in fast CIFAR-10 training"

# What is different at one size. quick: bundled images, any laptop; small: CIFAR-10 on a CPU; full: a GPU.
[profiles.quick]
margin_pp = 2.0            # few validation images cannot resolve less
arms.cutout.set = {{ "augment.cutout" = 4 }}

[profiles.full]
seeds = 10
margin_pp = 0.3
"""


def new_study(name: str, *, folder: Path = Path("studies")) -> Path:
    """Write a commented study file and return its path.

    Args:
        name: of the study and of its file: letters, digits, '.', '_' and '-'.
        folder: that the file goes to; made when needed.

    Raises:
        StudyError: the name does not name a file.
        UsageError: the file is there already, a built-in study has the name, or it could not be
            written.
    """
    text = study_template(name)
    path = folder / f"{name}.toml"
    if path.exists():
        raise UsageError(f"{path} is there already", "choose another name; nothing was written")
    if name in available_studies():
        raise UsageError(
            f"there is a study {name!r} already ({available_studies()[name]})",
            "choose another name; yours would hide it",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(
            f"could not write {path}: {error.strerror or error}",
            "choose a folder that you may write to",
        ) from None
    return path


def study_template(name: str) -> str:
    """Return the text of a new study file, which has been checked to be a valid study.

    Raises:
        StudyError: the name does not name a file.
    """
    text = _TEMPLATE.format(name=name)
    try:
        parse_study(tomllib.loads(text), name=name, source="new study")
    except (
        StudyError,
        tomllib.TOMLDecodeError,
    ) as error:  # a line feed in the name ends the comment it is in
        message = (
            error.message
            if isinstance(error, StudyError)
            else f"new study: {shown(name)} cannot name a file"
        )
        raise StudyError(message, "for example `harness new-study batch-size`") from None
    return text
