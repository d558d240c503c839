"""Every command of README and docs, run in a fresh clone by a shell, with the files that the pages name.

What a page says runs as it is written, with three exceptions, each of which a test keeps small: a
study of our engine gets ``--dry-run`` (``test_quick`` trains the first one), and what needs a
network, a server or a developer's environment is left out by name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pages import PAGES, ROOT, blocks, page_id, titled

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(sys.platform == "win32", reason="runs lines of a POSIX shell"),
]

FIRST = "harness ablate --study augmentations"
# in place of the first command, whose whole run test_quick looks at
FIRST_HERE = f"{FIRST} --profile quick --seeds 3"
LEFT_OUT = {
    r"--index-url": "needs a network",
    r"^pip install nox$|^nox|^python -m venv|^\. \.venv|'\.\[dev\]'": "makes and uses a developer's environment",
    r"^harness data fetch": "needs a network",
    r"^harness (ablate|tune)\b.*--profile (small|medium|full)": "needs CIFAR-10, which tests do not see",
    r"postgresql\+psycopg|--launcher slurm": "needs a server; tests/faults has one",
    r"^optuna-dashboard": "serves until it is stopped",
}
STATUS = {"--timeout 0": 130}  # the plan is there and the time is up
OURS = re.compile(r"^harness (ablate|tune)\b(?!.*(--dry-run|--timeout 0|digits\.toml|my\.toml))")
SCRIPT = '''"""Classify 300 handwritten digits, and print the accuracy as scripts do."""
import argparse

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--hidden", type=int, default=16)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
model = MLPClassifier((args.hidden,), alpha=1e-4 + args.dropout, max_iter=1000, random_state=args.seed)
model.fit(x[:300] / 16, y[:300])
print(f"accuracy: {model.score(x[300:] / 16, y[300:]):.4f}")
'''


def lines(page: Path) -> list[str]:
    """Return the commands of a page, in order, one each."""
    return [
        part.strip()
        for block in blocks(page, "console")
        for line in block.splitlines()
        for part in line.partition("  #")[0].split(" && ")
        if part.strip() and not part.startswith("cd ")
    ]


def as_run(line: str) -> str:
    """Return a line as it runs here; empty when it is left out."""
    if any(re.search(pattern, line) for pattern in LEFT_OUT):
        return ""
    if line == FIRST:
        return FIRST_HERE
    return f"{line} --dry-run" if OURS.search(line) else line


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with what its readers bring: a table, a script, images."""
    folder = tmp_path_factory.mktemp("fresh") / "harness"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    rows = [
        f"{arm},{seed},{90 + shift + seed % 3},{97 + seed % 2}"
        for seed in range(5)
        for arm, shift in (("plain", 0), ("ema", 1))
    ]
    text = "\n".join(["model,seed,val_acc,train_acc", *rows, ""])
    (folder / "runs.csv").write_text(text, encoding="utf-8")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    draw = np.random.default_rng(0)
    for part, count in (("train", 400), ("test", 50)):
        for label in range(10):
            place = folder / "my-images" / part / str(label)
            place.mkdir(parents=True)
            for number in range(count // 10):
                pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    for arm, shift in (("plain", 0.0), ("ema", 0.01)):
        for seed in range(5):
            place = folder / "results" / arm / f"seed-{seed}"
            place.mkdir(parents=True)
            score = 0.9 + shift + 0.002 * (seed * 3 % 5)
            (place / "metrics.csv").write_text(f"epoch,acc\n1,{score}\n", encoding="utf-8")
    for page in PAGES:
        for name, saved in titled(page):
            (folder / name).write_text(saved, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shell(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell in which ``pip install -e .`` put the clone, and no other copy, on the path."""
    venv = tmp_path_factory.mktemp("shell") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run(
        [venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    )
    # torch and the rest from here; an editable install in those folders stays out of sight
    libraries = [
        place for place in sys.path if Path(place).name in {"site-packages", "dist-packages"}
    ]
    listed = Path(own.stdout.strip()) / "libraries.pth"
    listed.write_text("\n".join([*libraries, ""]), encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {
        "PATH": f"{venv / 'bin'}{os.pathsep}{env['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",  # they are there: torch takes gigabytes
        "PIP_NO_BUILD_ISOLATION": "false",  # pip's spelling of yes
        "BROWSER": "true",  # a browser that opens nothing
    }
    run("pip install -e .", clone, env)
    yield env
    shutil.rmtree(venv)


def run(line: str, clone: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=clone,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    expected = next((status for words, status in STATUS.items() if words in line), 0)
    assert done.returncode == expected, f"$ {line}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def first(clone: Path, shell: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What the first command of the README prints; later pages open and compare its report."""
    return run(FIRST_HERE, clone, shell)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("page", [page for page in PAGES if lines(page)], ids=page_id)
def test_every_command_of_a_page_runs_in_a_fresh_clone(
    page: Path, clone: Path, shell: dict[str, str]
) -> None:
    for line in lines(page):
        command = as_run(line)
        if command:
            run(command, clone, shell)


def test_few_commands_are_left_out() -> None:
    every = [line for page in PAGES for line in lines(page)]
    out = [line for line in every if not as_run(line)]
    assert len(out) < len(every) / 4, out
    for pattern in LEFT_OUT:
        assert any(re.search(pattern, line) for line in out), f"nothing needs {pattern}"


def test_the_example_in_one_file_prints_a_paired_interval(
    clone: Path, shell: dict[str, str]
) -> None:
    assert len((clone / "examples" / "one_file.py").read_text().splitlines()) <= 120
    printed = run("python examples/one_file.py", clone, shell).stdout
    assert re.search(r"no-crop - reference, accuracy: \S+ pp \[.+\], 95 % t, n = 5 pairs", printed)
    assert run("python examples/one_file.py", clone, shell).stdout == printed


def test_the_notebook_runs_from_top_to_bottom(clone: Path, shell: dict[str, str]) -> None:
    code = (
        "import nbformat, nbclient; book = nbformat.read('first_study.ipynb', as_version=4);"
        "nbclient.NotebookClient(book, timeout=1200, kernel_name='python3').execute();"
        "print(nbformat.writes(book))"
    )
    # the tests' own backend draws nothing that a notebook shows
    text = run(f'unset MPLBACKEND && cd examples && python -c "{code}"', clone, shell).stdout
    assert "image/png" in text
    assert "verdict" in text
