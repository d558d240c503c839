"""A net, images and an augmentation that the project has never seen, and a net of torchvision's on CIFAR-10."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

# Debian's package dataset-fashion-mnist: the original files
FASHION = Path("/usr/share/datasets/fashion-mnist")
WORDS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, side, classes, depth=1):
        super().__init__()
        layers = []
        for _ in range(depth):
            layers += [nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            in_channels, side = 8, side // 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(8 * side * side, classes)

    def forward(self, x):
        x = self.features(x)
        return self.head(x.view(len(x), -1))
"""

AUGMENTATION = '''
import torch


def posterize(x, generator, bits=4):
    """Keep a random number of bits, from `bits` to 8, of every image."""
    kept = torch.randint(bits, 9, (len(x), 1, 1, 1), generator=generator, device=x.device)
    levels = 2.0**kept - 1
    return (x * levels).round() / levels
'''

CLOTHES = """
schema = 1
question = "What does my net need?"
design = "leave-one-out"
seeds = 3
margin_pp = 5.0

[base]
model.name = "net.py:Net"
model.kwargs.depth = 2
augment.own.posterize = "augmentation.py:posterize"
augment.kwargs.posterize.bits = 2

[[factors]]
name = "depth"
field = "model.kwargs.depth"
off = 1
on = 2

[[factors]]
name = "posterize"
field = "augment.own.posterize"
off = "none"
on = "augmentation.py:posterize"

[profiles.quick]
seeds = 3
data.name = "./clothes"
data.train = 150
data.val = 90
train.epochs = 3
train.batch_size = 50
"""

RESNET = """
schema = 1
question = "Does a ResNet-18 beat BlockNet?"
seeds = 1
margin_pp = 5.0
arms = [{ name = "resnet18", set = { "model.name" = "torchvision:resnet18", "model.kwargs.cifar_stem" = true } }]

[profiles.tiny]
data = { name = "cifar10", size = 8, train = 1000, val = 200 }
model = { blocks = 2, width = 0.25 }
augment.crop = 1
train = { epochs = 1, batch_size = 100 }
"""


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )


def idx(name: str) -> Any:
    raw = gzip.decompress((FASHION / name).read_bytes())
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """A study of a user's net and augmentation on a folder of real Fashion-MNIST images, one folder a class."""
    if not FASHION.is_dir():
        pytest.skip(
            "the original files of Fashion-MNIST are not here (Debian: dataset-fashion-mnist)"
        )
    images, labels = idx("train-images-idx3-ubyte.gz"), idx("train-labels-idx1-ubyte.gz")
    for number, word in enumerate(WORDS):
        (tmp_path / "clothes" / word).mkdir(parents=True)
        for index in np.flatnonzero(labels == number)[:32]:
            Image.fromarray(images[index]).save(tmp_path / "clothes" / word / f"{index}.png")
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    (tmp_path / "augmentation.py").write_text(AUGMENTATION, encoding="utf-8")
    (tmp_path / "clothes.toml").write_text(CLOTHES, encoding="utf-8")
    return tmp_path


def test_a_users_net_on_a_folder_of_images_gets_its_report_and_an_edit_runs_what_it_touches_again(
    clothes: Path,
) -> None:
    done = program(
        clothes, "ablate", "--study", "clothes.toml", "--profile", "quick", "--workers", "2"
    )
    assert done.returncode == 0, done.stderr
    report = clothes / "reports" / "clothes-quick"
    effects: Any = pd.read_csv(report / "effects.csv").set_index(["term", "metric"])
    assert {"no-depth", "no-posterize"} <= {term for term, _ in effects.index}
    assert effects.loc[("no-depth", "accuracy")]["n"] == 3
    assert (report / "samples.png").is_file()
    (clothes / "augmentation.py").write_text(AUGMENTATION + "# edited\n", encoding="utf-8")
    again = program(clothes, "ablate", "--study", "clothes.toml", "--profile", "quick", "--dry-run")
    # those of the arm that does without it
    assert "9 trials, 3 of them done already" in again.stderr


def test_a_worker_whose_copy_of_the_code_differs_is_refused(clothes: Path) -> None:
    study = (
        "ablate",
        "--study",
        "clothes.toml",
        "--profile",
        "quick",
        "--workers",
        "1",
        "--timeout",
        "0",
    )
    program(clothes, *study)
    (clothes / "net.py").write_text(NET + "# edited\n", encoding="utf-8")
    done = program(clothes, "worker", "--study", "clothes-quick")
    assert done.returncode == 2
    assert "plug-in code here" in done.stderr


def test_a_misfit_is_one_error_before_anything_is_written(clothes: Path) -> None:
    (clothes / "net.py").write_text(NET.replace("classes)", "classes + 1)"), encoding="utf-8")
    done = program(clothes, "ablate", "--study", "clothes.toml", "--profile", "quick")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "returns shape (2, 11)" in done.stderr
    assert not (clothes / "runs").exists()
    assert not (clothes / "reports").exists()


def test_a_resnet_18_with_the_cifar_stem_stands_beside_blocknet_on_real_cifar_10(
    tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(real_data))
    (tmp_path / "resnet.toml").write_text(RESNET, encoding="utf-8")
    done = program(
        tmp_path, "ablate", "--study", "resnet.toml", "--profile", "tiny", "--workers", "1"
    )
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(tmp_path / "reports" / "resnet-tiny" / "trials.parquet")
    assert max(trials["params"]) == 11_173_962  # the count of ResNet-18 in its form for CIFAR-10
    assert set(trials["state"]) == {"complete"}
