"""Scripts in the manner of well-known ones, not a line of them changed, each with a study of at most 8 lines."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.commands.ablate import ablate
from harness.commands.try_one import OneTrial, try_study
from harness.errors import UsageError
from harness.study.cells import cells
from harness.study.script_code import check_script, script_code, work_key
from harness.study.study import Study, parse_study
from harness.study.trial import Trial
from harness.workers.local import worker_environment
from harness.workers.script import ScriptRunner, finished_attempts

# After pytorch/examples: argparse, a train log, a closing line with a ratio and a percentage.
MNIST = """
import argparse, random

def test(rng, lr):
    correct = 9000 + int(1000 * lr) + rng.randrange(20)
    print('\\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.0f}%)\\n'.format(
        0.05, correct, 10000, 100. * correct / 10000))

parser = argparse.ArgumentParser(description='MNIST Example')
parser.add_argument('--lr', type=float, default=1.0)
parser.add_argument('--seed', type=int, default=1)
args = parser.parse_args()
rng = random.Random(args.seed)
for epoch in range(1, 3):
    print('Train Epoch: {} [{}/{} ({:.0f}%)]\\tLoss: {:.6f}'.format(epoch, 640, 60000, 1., 0.3))
    test(rng, args.lr)
"""
MNIST_STUDY = """
question = "Does a lower rate help?"
command = ["python", "main.py", "--lr", "{lr}", "--seed", "{seed}"]
seeds = 2
margin_pp = 1.0
base.lr = 0.1
arms = [{ name = "slow", set.lr = 0.05 }]
metrics.accuracy.stdout = 'Accuracy: (\\d+)/(\\d+)'
"""

# After pytorch-cifar: a bar that asks the terminal for its width and moves with \b and \r, percent
# accuracy in it, ./checkpoint, a package of nets and a helper beside the script.
CIFAR = """
import argparse, os, random
from models import *
from utils import progress_bar

parser = argparse.ArgumentParser()
parser.add_argument('--lr', default=0.1, type=float)
args = parser.parse_args()
print('==> Building model..')
net = Net()
best_acc = 0
for epoch in range(2):
    for i in range(4):
        acc = 80 + 10 * args.lr + i + random.random()
        progress_bar(i, 4, 'Loss: %.3f | Acc: %.3f%% (%d/%d)' % (0.3, acc, acc * 10, 1000))
    assert not os.path.isdir('checkpoint') or epoch, 'of another run'
    if acc > best_acc:
        if not os.path.isdir('checkpoint'):
            os.mkdir('checkpoint')
        with open('./checkpoint/ckpt.pth', 'w') as f:
            f.write(str(acc))
        best_acc = acc
"""
UTILS = r"""
import os, sys
_, term_width = os.popen('stty size', 'r').read().split()
term_width = int(term_width)

def progress_bar(current, total, msg):
    sys.stdout.write(' [' + '=' * 20 + '>' + '.' * 44 + ']')
    sys.stdout.write(msg + ' ' * (term_width - 65 - len(msg) - 3) + '\b' * (term_width - 32 + 2))
    sys.stdout.write(' %d/%d ' % (current + 1, total))
    sys.stdout.write('\r' if current < total - 1 else '\n')
    sys.stdout.flush()
"""
CIFAR_STUDY = """
question = "Does a higher rate help?"
command = ["python", "main.py", "--lr", "{lr}"]
isolate = true
seeds = 2
margin_pp = 1.0
base.lr = 0.1
arms = [{ name = "fast", set.lr = 1.0 }]
metrics.accuracy.stdout = 'Acc: ([\\d.]+)%'
"""

# After airbench: it reads itself, trains several times, prints a table and a mean, writes ./logs.
AIRBENCH = """
import os, random, sys, uuid
with open(sys.argv[0]) as f:
    code = f.read()
LR = float(os.environ.get('LR', 1.0))
print('-' * 40)
print('|  run  |  epoch  |  val_acc  |  tta_val_acc  |')
accs = []
for run in range(3):
    acc = 0.9 + LR / 100 + random.random() / 100
    print('|  %d  |  eval  |  %.4f  |  %.4f  |' % (run, acc - 0.01, acc))
    accs.append(acc)
print('Mean: %.4f    Std: %.4f' % (sum(accs) / 3, 0.001))
os.makedirs(os.path.join('logs', str(uuid.uuid4())))
"""
AIRBENCH_STUDY = """
question = "Does a higher rate help?"
command = ["python", "airbench.py"]
env.LR = "{lr}"
seeds = 2
margin_pp = 1.0
base.lr = 1.0
arms = [{ name = "fast", set.lr = 3.0 }]
metrics.accuracy.stdout = 'Mean: ([\\d.]+)'
"""
FILES = {
    "mnist": {"main.py": MNIST, "study.toml": MNIST_STUDY},
    "cifar": {
        "main.py": CIFAR,
        "utils.py": UTILS,
        "models/__init__.py": "from .net import *\n",
        "models/net.py": "class Net: pass\n",
        "study.toml": CIFAR_STUDY,
    },
    "airbench": {"airbench.py": AIRBENCH, "study.toml": AIRBENCH_STUDY},
}


@pytest.fixture(params=FILES)
def manner(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A working folder with one of the scripts; its name."""
    return put(str(request.param), tmp_path, monkeypatch)


def put(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for path, text in FILES[name].items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    return name


def study_here(**changes: Any) -> Study:
    raw = tomllib.loads(Path("study.toml").read_text(encoding="utf-8"))
    return parse_study({**raw, **changes}, name="study").under("")


def run(study: Study, arm: int = 0, *, device: str = "cpu") -> Trial:
    cell = cells(study, "", script_code(study, study.base_recipe))[arm]
    runner = ScriptRunner(study, Path("runs") / "study")
    return runner(cell, device=device, threads=1, on_epoch=lambda *_: False)[0]


def tried(**options: Any) -> tuple[OneTrial, str]:
    lines: list[str] = []
    outcome = try_study("study.toml", on_event=lines.append, **options)
    return outcome, "\n".join(lines)


def test_a_script_is_tried_with_nothing_changed_and_nothing_recorded(manner: str) -> None:
    assert len(FILES[manner]["study.toml"].strip().splitlines()) <= 8
    before = sorted(Path().rglob("*"))
    found, printed = tried()
    assert (found.trial.state, found.exit_code) == ("complete", 0), found.trial.error
    assert 0.8 < found.trial.metrics["accuracy"] < 1.0
    assert found.rows()[0][1].endswith("%")
    assert (found.trials, found.whole_seconds > found.seconds) == (4, True)
    assert "\b" not in printed
    assert "\r" not in printed
    left = [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
    logs = [path for path in left if path.parts[0] == "logs"]  # which it writes where it runs
    assert [path for path in left if path not in logs] == before


def test_a_script_is_ablated_as_it_is(manner: str) -> None:
    outcome = ablate("study.toml", workers=1)
    assert outcome.counts["complete"] == 4, outcome.failures
    assert outcome.report is not None
    assert manner != "cifar" or not Path("checkpoint").exists()


def test_the_arm_that_is_asked_for_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    found, _ = tried(arm="slow")
    assert found.arm == "slow"
    assert 0.905 <= found.trial.metrics["accuracy"] < 0.907
    with pytest.raises(UsageError, match=r"no arm .slo. \(did you mean .slow."):
        tried(arm="slo")


def test_trying_without_a_rule_suggests_one_that_reads_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    text = MNIST_STUDY.rpartition("metrics.accuracy")[0]
    Path("study.toml").write_text(text, encoding="utf-8")
    found, _ = tried()
    assert found.exit_code == 1
    assert "no rule [metrics.accuracy]" in found.trial.error
    Path("study.toml").write_text("\n".join([text, *found.rule]), encoding="utf-8")
    assert tried()[0].exit_code == 0


# Reading again


def test_mending_the_rule_reads_the_runs_again_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("airbench", tmp_path, monkeypatch)
    wrong = study_here(metrics={"accuracy": {"stdout": r"Maen: ([\d.]+)"}})
    trial = run(wrong)
    assert trial.state == "failed"
    assert "ended well, but [metrics.accuracy]: its output has no match" in trial.error
    assert len(list(Path("logs").iterdir())) == 1

    mended = study_here()
    assert script_code(mended, mended.base_recipe) != script_code(wrong, wrong.base_recipe)
    again = run(mended)
    assert again.state == "complete"
    assert 0.9 < again.metrics["accuracy"] < 1.0
    assert again.train_seconds > 0
    assert len(list(Path("logs").iterdir())) == 1  # it was not started a second time


def test_a_run_that_still_cannot_be_read_is_trained_again_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("airbench", tmp_path, monkeypatch)
    wrong = study_here(metrics={"accuracy": {"stdout": r"Maen: ([\d.]+)"}})
    assert [run(wrong).state for _ in range(2)] == ["failed", "failed"]
    assert len(list(Path("logs").iterdir())) == 2


def test_ablate_reads_percent_without_a_declaration_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    code = (
        "import json, os, sys\n"
        "score = {'accuracy': 91.0 + int(sys.argv[4]) + float(sys.argv[2])}\n"
        "json.dump(score, open(os.environ['HARNESS_OUT'] + '/metrics.json', 'w'))\n"
    )
    Path("main.py").write_text(code, encoding="utf-8")
    Path("study.toml").write_text(MNIST_STUDY.rpartition("metrics.")[0], encoding="utf-8")
    outcome = ablate("study.toml", workers=1)
    assert outcome.counts["complete"] == 4
    (note,) = (line for line in outcome.closing() if "percent" in line)
    assert "was read as percent" in note
    assert "(and 3 more like it)" in note


# Working folder, environment, GPU


def test_isolation_gives_every_run_a_folder_and_links_what_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("0.5", encoding="utf-8")
    Path("main.py").write_text(
        "print('Accuracy: %s/1' % int(float(open('./data/x').read()) * 2)); open('made', 'x')\n",
        encoding="utf-8",
    )
    alone = run(study_here(isolate=True))
    assert "FileNotFoundError" in alone.error
    assert "`isolate = ['data']` gives every run a link to it" in alone.error
    study = study_here(isolate=["data"])
    assert [run(study, arm).state for arm in range(3)] == ["complete"] * 3
    assert not Path("made").exists()
    with pytest.raises(UsageError, match="no 'dta' to link"):
        check_script(study_here(isolate=["dta"]))


@pytest.mark.parametrize(("device", "seen"), [("cpu", ""), ("cuda:1", "7")])
def test_a_script_sees_the_gpu_that_its_worker_was_given_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, seen: str
) -> None:
    put("mnist", tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    names = ["CUDA_VISIBLE_DEVICES", "HARNESS_SEED", "HARNESS_OUT", "MODE", "OMP_NUM_THREADS"]
    code = f"import json, os\nprint(json.dumps([os.environ[n] for n in {names}]))\nprint('Accuracy: 1/2')"
    Path("main.py").write_text(code, encoding="utf-8")
    study = study_here(env={"MODE": "lr {lr}"})
    inside, environment = worker_environment(device, 3, "")
    runner = ScriptRunner(study, Path("runs") / "study", environment)
    cell = cells(study, "")[2]
    assert runner(cell, device=inside, threads=3, on_epoch=lambda *_: False)[0].state == "complete"
    (attempt,) = finished_attempts(Path("runs") / "study", work_key(study, cell))
    given = json.loads(attempt.log.read_text(encoding="utf-8").splitlines()[0])
    assert given == [seen, "1", str(attempt.out), "lr 0.1", "3"]


# Code


def test_editing_a_module_that_the_script_imports_makes_new_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("cifar", tmp_path, monkeypatch)
    first = check_script(study_here())
    ignored = check_script(study_here(hash_imports=False))
    for name in ("utils.py", "models/net.py"):
        (tmp_path / name).write_text("class Net: ...\n", encoding="utf-8")
        assert check_script(study_here()) != first
        first = check_script(study_here())
    assert check_script(study_here(hash_imports=False)) == ignored


def test_a_script_without_local_imports_keeps_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    Path("main.py").write_text("import os\n", encoding="utf-8")
    study = study_here(metrics={})
    assert check_script(study) == check_script(study_here(metrics={}, hash_imports=False))
    assert check_script(study) == "d1fd3d0ce07d153e"


def test_a_script_that_an_arm_names_is_part_of_that_arm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", tmp_path, monkeypatch)
    Path("other.py").write_text(MNIST, encoding="utf-8")
    study = study_here(
        command=["python", "{script}", "--seed", "{seed}"],
        base={"script": "main.py"},
        arms=[{"name": "other", "set": {"script": "other.py"}}],
    )
    base, other = study.base_recipe, cells(study, "")[1].recipe
    codes = [script_code(study, recipe) for recipe in (base, other)]
    Path("other.py").write_text(MNIST + "# edited\n", encoding="utf-8")
    assert script_code(study, base) == codes[0]
    assert script_code(study, other) != codes[1]
