"""A stranger's training script as a study: killed in the middle, taken up again, reported."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs" / "use-your-script.md"
SCRIPT = '''"""Classify handwritten digits with a small neural network."""
import argparse
import json
import os

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--hidden", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x / 16, y, train_size=300, random_state=0)
rng = np.random.default_rng(args.seed)
model = MLPClassifier((args.hidden,), batch_size=32, random_state=args.seed, learning_rate_init=1e-3)
rows = []
for epoch in range(args.epochs):
    kept = rng.random(x_train.shape) >= args.dropout
    model.partial_fit(x_train * kept, y_train, classes=range(10))
    rows.append((epoch, model.score(x_val, y_val), model.score(x_train, y_train)))
    print(f"epoch {epoch + 1}: val accuracy: {rows[-1][1]:.4f}")

out = os.environ.get("HARNESS_OUT", ".")
with open(out + "/history.csv", "w") as f:
    f.write("epoch,val_accuracy,train_accuracy\\n" + "".join(f"{e},{v},{t}\\n" for e, v, t in rows))
with open(out + "/metrics.json", "w") as f:
    json.dump({"accuracy": rows[-1][1], "train_accuracy": rows[-1][2]}, f)
'''


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_the_study_of_the_documentation_survives_an_interruption_and_ends_in_a_report(
    tmp_path: Path,
) -> None:
    study = next(
        re.finditer(r"```toml[^\n]*\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    )[1]
    assert len(study.splitlines()) <= 14
    (tmp_path / "digits.toml").write_text(study, encoding="utf-8")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        "digits.toml",
        "--workers",
        "2",
    ]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while (
        time.monotonic() < end
        and len(list(tmp_path.glob("runs/digits/scripts/*/metrics.json"))) < 3
    ):
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, told = first.communicate(timeout=300)
    assert first.returncode == 130, told
    assert "stopped by hand" in told
    second = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert second.returncode == 0, second.stderr
    assert re.search(r"18 trials, [1-9]\d* of them done already", second.stderr)
    page = (tmp_path / "reports" / "digits" / "report.md").read_text(encoding="utf-8")
    assert "wider (hidden = 256)" in page
    assert "Overfitting gap by epoch" in page or "gap" in page
    assert "cifar10" not in page
