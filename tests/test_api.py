"""The public API: its surface is frozen, loads nothing until used, survives its own submodules, and is typed."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SURFACE = {
    "Analysis",
    "HarnessError",
    "Outcome",
    "Recipe",
    "Study",
    "Trial",
    "TuneOutcome",
    "ablate",
    "analyze",
    "analyze_table",
    "compare",
    "diagnose",
    "effects_frame",
    "evaluate",
    "fit_one_cycle",
    "history_frame",
    "load_study",
    "read_analysis",
    "tune",
    "write_report",
}

# Every module of the package is imported first: a module of the same name as a public function
# would have taken its place.
CALLS = """
import importlib, pathlib, pkgutil, sys
import harness
for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import torch
torch.set_num_threads(1)
from harness import *
from harness.study.trial import Trial

loader = [(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)]
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
history = fit_one_cycle(3, 0.1, model, loader, loader)
assert set(evaluate(model, loader)) == {"loss", "accuracy", "images"}
assert diagnose(history).epochs == len(history_frame(history)) == 3
recipe = Recipe().with_overrides({"model.dropout": 0.1})
study = load_study("dropout").under("quick", seeds=3)
assert isinstance(study, Study)
found = analyze(study, [
    Trial(cell=f"{level}-{seed}", seed=seed, recipe=study.base_recipe.with_overrides({"model.dropout": level}),
          state="complete", metrics={"accuracy": 0.8 + level / 10 + 0.01 * ((3 * seed + int(10 * level)) % 4)})
    for level in (0.0, 0.1, 0.25, 0.5, 0.7) for seed in range(3)
])
assert isinstance(found, Analysis) and len(effects_frame(found)) >= 5
assert compare(found, found).differences
written = write_report(pathlib.Path("report"), study, [], provisional=True)
assert read_analysis(written.folder) == written.analysis
pathlib.Path("runs.csv").write_text("a,s,m\\n" + "".join(f"{a},{s},{90 + s}\\n" for a in "xy" for s in range(3)))
assert analyze_table("runs.csv", arm="a", seed="s", metric="m", baseline="x", margin=1)[1].seeds == (0, 1, 2)
assert isinstance(ablate(study, dry_run=True, device="cpu", workers=1), Outcome)
assert isinstance(tune(profile="quick", dry_run=True, device="cpu", workers=1), TuneOutcome)
try:
    load_study("nothing of this name")
except HarnessError as error:
    assert error.hint
"""

SCRIPT = """
from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset

import harness
from harness.train import protocols


def train(loader: DataLoader[tuple[torch.Tensor, ...]]) -> str:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    history = harness.fit_one_cycle(3, 0.01, model, loader, loader, grad_clip=0.1)
    accuracy: float = harness.evaluate(model, loader)["accuracy"]
    frame: pd.DataFrame = harness.history_frame(history)
    return f"{accuracy:.3f} after {len(frame)} epochs: {harness.diagnose(history).sentence}"


def study() -> pd.DataFrame:
    outcome = harness.ablate(harness.load_study("dropout"), profile="quick", seeds=3)
    if outcome.report is None:
        raise SystemExit(outcome.exit_code)
    before: harness.Analysis = harness.read_analysis(Path("reports/before"))
    after = harness.read_analysis(outcome.report.parent)
    worse: bool = harness.compare(before, after).worse
    return harness.effects_frame(after).assign(worse=worse)


def table(file: Path) -> str:
    written, _ = harness.analyze_table(file, arm="model", seed="seed", metric="acc", baseline="plain", margin=0.3)
    return written.answer


def recipe() -> harness.Recipe:
    try:
        return harness.Recipe().with_overrides({"model.dropout": 0.1})
    except harness.HarnessError as error:
        raise SystemExit(error.hint) from error


def net(*, in_channels: int, side: int, classes: int, hidden: int = 16) -> torch.nn.Module:
    pixels = in_channels * side * side
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, hidden), torch.nn.Linear(hidden, classes))


def images() -> dict[str, object]:
    return {"train_images": torch.zeros(8, 4, 4, dtype=torch.uint8), "train_labels": [0, 1] * 4, "classes": ["a", "b"]}


def darker(x: torch.Tensor, generator: torch.Generator, strength: float = 0.5) -> torch.Tensor:
    return x * (1 - strength * torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device))


def halves(step: int, steps: int) -> float:
    return 1.0 if 2 * step < steps else 0.5


def squared(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits.softmax(dim=1) - target).square().sum(dim=1).mean()


factory: protocols.NetFactory = net
source: protocols.ImageSource = images
augmentation: protocols.Augmentation = darker
optimizer: protocols.OptimizerFactory = torch.optim.RMSprop
schedule: protocols.Schedule = halves
loss: protocols.Loss = squared
print(train(DataLoader(TensorDataset(torch.rand(32, 1, 8, 8), torch.zeros(32, dtype=torch.int64)), batch_size=8)))
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_surface_is_frozen() -> None:
    import harness

    assert set(harness.__all__) == SURFACE | {"__version__"}
    assert set(harness._API) == SURFACE
    assert set(dir(harness)) >= SURFACE


def test_every_name_works_after_every_module_has_been_imported(tmp_path: Path) -> None:
    done = run(CALLS, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_name_is_documented(name: str) -> None:
    import harness

    assert inspect.getdoc(getattr(harness, name))


def test_using_a_study_loads_no_torch_and_using_nothing_loads_nothing(tmp_path: Path) -> None:
    code = (
        "import json, sys, harness; before = set(sys.modules); harness.load_study('dropout').under('quick');"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'pandas', 'numpy', 'optuna'})))"
    )
    done = run(code, tmp_path)
    assert json.loads(done.stdout) == [], done.stderr


def test_a_users_script_is_clean_under_strict_type_checking(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "script"),
        str(script),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_that_is_not_public_is_an_error_to_a_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text("import harness\n\nharness.ablat\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "script"),
        str(script),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 'has no attribute "ablat"' in done.stdout
