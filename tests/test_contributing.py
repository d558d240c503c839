"""CONTRIBUTING's map names what is there, and its recipe for an augmentation is complete: a test follows it to the letter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.study.recipe import Recipe

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:harness|tests|tools|studies)/[\w/.]+)`", PAGE)))

POSTERIZE = '''

@dataclass(frozen=True, slots=True)
class Posterize:
    """Keep the ``bits`` highest bits of every value."""

    bits: int

    name: ClassVar[str] = "posterize"
    stage: ClassVar[Stage] = "pixel"
    fixed_stream: ClassVar[bool] = False

    def draw(self, epoch: Epoch, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return ``(on_N,)``, bool: an image is posterized with probability 1/2."""
        return (uniform(generator, epoch.size) < 0.5,)

    def apply(self, x_NCHW: Tensor, *draws: Tensor) -> Tensor:
        """Return the images, posterized where the draw is True."""
        mask = 256 - (1 << (8 - self.bits))
        return torch.where(draws[0][:, None, None, None], x_NCHW & mask, x_NCHW)
'''

# {file: (text that is there, text that follows it)}: what the recipe says to write, and nothing else
STEPS = {
    "harness/train/augment_ops.py": ("", POSTERIZE),
    "harness/train/augment.py": (
        '    "flip": lambda recipe: Flip(recipe.flip),\n',
        '    "posterize": lambda recipe: augment_ops.Posterize(recipe.posterize),\n',
    ),
    "harness/study/recipe_fields.py": (
        "class AugmentRecipe(Part):\n",
        '    posterize: int = Field(0, ge=0, le=8, description="bits kept of a value")\n',
    ),
}

USED = """
import torch
from pathlib import Path
from harness.study.recipe import Recipe
from harness.study.schema import write_schema
from harness.study.study import parse_study
from harness.study.arms import arms
from harness.train.augment import Epoch, augment_batch, build

assert Recipe().id == {unchanged!r}, "the recipe's identity moved"
study = parse_study({{"schema": 1, "question": "?", "seeds": 3, "margin_pp": 1.0, "design": "arms",
                     "arms": [{{"name": "posterize", "set": {{"augment.posterize": 1}}}}]}}, name="own")
on = next(arm.recipe for arm in arms(study.under("quick")) if arm.name == "posterize")
ops = [op for op in build(on.augment, 3) if op.name == "posterize"]
images_NCHW = torch.randint(256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
epoch = Epoch(size=64, shape=(3, 8, 8), number=0, index_N=torch.arange(64), total=64)
draws = {{op.name: op.draw(epoch, torch.Generator().manual_seed(1)) for op in ops}}
made_NCHW = augment_batch(images_NCHW, ops, draws, mean_C=torch.zeros(3), std_C=torch.ones(3))
levels = {{len(image_CHW.unique()) == 2 for image_CHW in made_NCHW}}
assert levels == {{True, False}}, "the draw did not decide image by image"
write_schema(Path("schema.json"))
assert "augment.posterize" in Path("schema.json").read_text()
"""


def recipe_section() -> str:
    return PAGE.partition("## How to add an augmentation")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", NAMED)
def test_a_file_or_folder_that_the_page_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_drawing_has_every_room_and_no_other() -> None:
    drawing = PAGE.partition("```text\n")[2].partition("```")[0]
    drawn = {
        room
        for line in drawing.splitlines()
        for room in re.findall(r"\w+", re.split(r"\s{3,}", line)[0])
    }
    rooms = {
        path.name if path.is_dir() else path.stem
        for path in (ROOT / "harness").iterdir()
        if path.suffix in ("", ".py")
    }
    assert drawn == {room for room in rooms if not room.startswith(("_", "."))}


def test_the_recipe_for_an_augmentation_names_the_files_that_it_takes_to_add_one() -> None:
    assert set(re.findall(r"`(harness/[\w/]+\.py)`", recipe_section())) == set(STEPS)


def test_an_augmentation_added_by_the_recipe_works_from_field_to_tensor(tmp_path: Path) -> None:
    for folder in ("harness", "studies"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, (after, new) in STEPS.items():
        path = tmp_path / name
        text = path.read_text(encoding="utf-8")
        assert after in text, f"{name} has no line {after!r} to follow"
        if not after:
            path.write_text(text + new, encoding="utf-8")
        elif after.startswith("class"):  # behind the docstring of the class
            start = text.index(after)
            end = text.index('"""\n', start) + 4
            path.write_text(text[:end] + new + text[end:], encoding="utf-8")
        else:
            imported = "from harness.train import augment_ops\n"
            text = text.replace(
                "from harness.train.augment_colour",
                f"{imported}from harness.train.augment_colour",
                1,
            )
            path.write_text(text.replace(after, after + new), encoding="utf-8")

    code = USED.format(unchanged=Recipe().id)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
