"""Look at a GPU for the first time: is everything right, how fast is it, what is worth building next.

python tools/first_gpu.py --out first-gpu                      # all of it, in half an hour
python tools/first_gpu.py --out first-gpu --stage B --minutes 8
python tools/first_gpu.py --out first-gpu --device cpu --tiny  # whether the tool itself works

A: tests/gpu, the ceilings, one cell in two processes, two plans in one process. B: the benchmark by
group, the kernels that take longest, the first trial against the second. C: real CIFAR-10: one seed
of the reference, a study of one program, graph against eager, a run that is killed and resumed. D:
precision, determinism, the compiled update, several workers a GPU.

Every check has a process of its own, so that one that breaks the GPU's context or hangs fails
alone. Each writes ``OUT/CHECK.json`` (what it measured, or why it failed); ``OUT/summary.json`` is
the table that is printed last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

Result = dict[str, Any]
STUDY = "schedule"  # its arms differ in numbers only: one recorded program serves them all
_LEAST_SECONDS = 5.0  # left of the whole time: with less, no check is started


class SkippedError(Exception):
    """What a check needs is not here."""


@dataclass(frozen=True, slots=True)
class Look:
    """What every check is told: the device, the folder for what it leaves, sizes, seconds for one measurement."""

    device: str
    out: Path
    tiny: bool
    seconds: float

    @property
    def cuda(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.startswith("cuda")

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that the device has."""
        return ("eager", "graph") if self.cuda else ("eager",)

    @property
    def profile(self) -> str:
        """The profile that stage C runs."""
        return "quick" if self.tiny else "full"


# --- shared by checks
# -------------------------------------------------------------------------------------------------


def baseline(look: Look, **changes: Any) -> Any:
    """Return the baseline recipe of stage C with some fields changed; ``part__field`` stands for ``part.field``."""
    from harness.study.arms import arms
    from harness.study.study import load_study
    from harness.train import data

    recipe = arms(load_study("reference").under(look.profile))[0].recipe
    if not data.available(recipe.data.name):
        raise SkippedError(f"{recipe.data.name} is not here: set HARNESS_DATA")
    sizes: dict[str, Any] = {"train__epochs": 1, "data__train": 200} if look.tiny else {}
    return recipe.with_overrides(
        {name.replace("__", "."): value for name, value in {**sizes, **changes}.items()}
    )


def bundled(look: Look, **changes: Any) -> Any:
    """Return a recipe of some seconds on bundled images, so that stage A needs no data."""
    from harness.study.profiles import builtin_profiles
    from harness.study.recipe import Recipe, flatten

    fields = flatten(
        {name: value for name, value in builtin_profiles()["quick"].items() if name != "seeds"}
    )
    small: dict[str, Any] = {"train__epochs": 3}
    if look.tiny:
        small = {"train__epochs": 2, "data__train": 200, "data__val": 100}
    given = {name.replace("__", "."): value for name, value in {**small, **changes}.items()}
    return Recipe().with_overrides({**fields, **given})


def trial_of(look: Look, recipe: Any, seed: int, engine: str) -> Any:
    """Train one cell and return its trial."""
    from harness.study.trial import Cell
    from harness.train import run

    trial, _ = run(Cell.of(recipe, seed, ""), device=look.device, engine=engine)
    return trial


def figures(trial: Any) -> Result:
    """Return what is compared of a trial."""
    return {
        "state": trial.state,
        "engine": trial.environment.engine,
        "precision": trial.environment.precision,
        "online_loss": list(trial.curve.online_loss),
        "val_loss": list(trial.curve.val_loss),
        "metrics": dict(trial.metrics),
        "train_seconds": trial.train_seconds,
        "eval_seconds": trial.eval_seconds,
        "images_per_second": trial.images_per_second,
        "peak_mib": trial.peak_mib,
        "readings": dict(trial.readings),
    }


def rate(look: Look, call: Callable[[], float], seconds: float | None = None) -> Result:
    """Return the median, lowest and highest rate of a call that returns its number of images (or of anything else)."""
    from harness.train.capture import wait

    for _ in range(2):
        call()
    rates: list[float] = []
    until = time.perf_counter() + (look.seconds if seconds is None else seconds)
    while len(rates) < 3 or time.perf_counter() < until:
        wait(look.device)
        started = time.perf_counter()
        number = call()
        wait(look.device)
        rates.append(number / (time.perf_counter() - started))
    return {"per_second": median(rates), "low": min(rates), "high": max(rates), "n": len(rates)}


def ground(look: Look, **changes: Any) -> Any:
    """Return the benchmark's images and recipe, with some fields changed."""
    from dataclasses import replace

    from harness.bench.suite import ground_on

    made = ground_on(look.device)
    return replace(
        made,
        recipe=made.recipe.with_overrides({n.replace("__", "."): v for n, v in changes.items()}),
    )


def program(
    command: list[str], look: Look, *, seconds: float | None = None, folder: Path | None = None
) -> Result:
    """Run a command, keep its output in a file, and return its status, time and last lines."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder or ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    text = done.stdout + done.stderr
    ((folder or look.out) / "output.txt").write_text(text, encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    return {"status": done.returncode, "seconds": time.perf_counter() - started, "last": lines[-5:]}


def environment() -> dict[str, str]:
    """Return the environment of a subprocess, in which this checkout is found first."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }


def itself(look: Look, check: str, out: Path, *, wait: bool = True) -> Any:
    """Run a check of this script in a process of its own; return its result, or the process."""
    out.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        __file__,
        "--check",
        check,
        "--out",
        str(out),
        "--device",
        look.device,
    ]
    command += ["--seconds", str(look.seconds), *(["--tiny"] if look.tiny else [])]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if not wait:
        return process
    process.wait()
    return read(out / f"{check}.json")


def read(path: Path) -> Result:
    """Return what a check measured.

    Raises:
        RuntimeError: it failed.
    """
    kept: Result = json.loads(path.read_text(encoding="utf-8"))
    if kept["state"] != "ok":
        raise RuntimeError(f"{path.stem}: {kept['error']}")
    return dict(kept["result"])


# --- A: right
# ---------------------------------------------------------------------------------------------------------


def a_tests(look: Look) -> Result:
    """Run tests/gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    result = program(command, look)
    if result["status"] != 0:
        raise RuntimeError(f"tests/gpu: {result['last'][-1:]}")
    return {**result, "says": result["last"][-1]}


def a_ceilings(look: Look) -> Result:
    """Time a large copy and large matrix products."""
    import torch

    source = torch.rand(2**28 if look.cuda else 2**20, device=look.device)
    target = torch.empty_like(source)
    moved = 2 * source.nbytes

    def copy() -> float:
        target.copy_(source)
        return moved / 1e9

    size = 8192 if look.cuda else 256
    result: Result = {"copy_gb": rate(look, copy)}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(size, size, device=look.device).to(dtype) for _ in range(2))

        def product(left: Any = left, right: Any = right) -> float:
            torch.mm(left, right)
            return 2 * size**3 / 1e12

        result[f"matmul_tflop_{str(dtype).removeprefix('torch.')}"] = rate(look, product)
    return {**result, "says": f"{result['copy_gb']['per_second']:.0f} GB/s"}


def a_one_cell(look: Look) -> Result:
    """Train one cell with each engine; a part of `a_two_processes`."""
    return {engine: figures(trial_of(look, bundled(look), 0, engine)) for engine in look.engines}


def a_two_processes(look: Look) -> Result:
    """Train the same cell in two processes: the curves must be the same to the last bit."""
    first, second = (
        itself(look, "a_one_cell", look.out / f"process-{number}") for number in (1, 2)
    )
    differ = [
        f"{engine} {curve}"
        for engine in look.engines
        for curve in ("online_loss", "val_loss")
        if first[engine][curve] != second[engine][curve]
    ]
    if differ:
        raise RuntimeError(f"two processes differ in {', '.join(differ)}")
    return {"first": first, "second": second, "says": "bit-equal"}


def a_two_plans(look: Look) -> Result:
    """Train cells of two studies in turn in one process: the first cell again must give what it gave."""
    other = bundled(look, augment__mixup=0.4, optimizer__name="sgd", schedule__max_lr=0.05)
    compared: Result = {}
    for engine in look.engines:
        before = trial_of(look, bundled(look), 0, engine)
        between = trial_of(look, other, 0, engine)
        trial_of(look, bundled(look), 1, engine)  # the same program with another loader
        after = trial_of(look, bundled(look), 0, engine)
        if before.curve.online_loss != after.curve.online_loss:
            raise RuntimeError(f"{engine}: the same cell gives another curve after other cells")
        compared[engine] = {
            "before": figures(before),
            "between": figures(between),
            "after": figures(after),
        }
    return {**compared, "says": "the same before and after"}


# --- B: fast
# ----------------------------------------------------------------------------------------------------------


def benchmark(group: str) -> Callable[[Look], Result]:
    """Return the check that runs one group of the benchmark."""

    def check(look: Look) -> Result:
        from harness.bench.suite import bench

        done = bench(
            device=look.device,
            groups=[group],
            rounds=1 if look.tiny else None,
            budget_seconds=6 * look.seconds,
            sample_seconds=0.01 if look.tiny else 0.4,
            save=True,
            folder=look.out / f"bench-{group}",
        )
        rows = {row.name: round(row.images_per_second) for row in done.results}
        best = max(rows, key=lambda name: rows[name])
        return {
            "images_per_second": rows,
            "warnings": list(done.warnings),
            "says": f"{best} {rows[best]:,} images/s",
        }

    return check


def b_kernels(look: Look) -> Result:
    """Profile 20 replays and 20 eager steps: the kernels that take longest, and how many run."""
    from torch.profiler import ProfilerActivity, profile

    from harness.train.capture import wait

    activity = ProfilerActivity.CUDA if look.cuda else ProfilerActivity.CPU
    result: Result = {}
    for engine in look.engines:
        made = ground(look)
        loader = made.loaders().train
        driver = made.driver(made.net(), loader, engine)
        steps = min(20, len(loader))
        driver.epoch(loader, steps)
        wait(look.device)
        with profile(activities=[activity]) as seen:
            driver.epoch(loader, steps)
            wait(look.device)

        name = "self_device_time_total" if look.cuda else "self_cpu_time_total"
        events = sorted(seen.key_averages(), key=lambda event: -getattr(event, name))
        total = sum(getattr(event, name) for event in events)
        top = [
            {"kernel": e.key[:120], "us": getattr(e, name), "calls": e.count} for e in events[:25]
        ]
        calls = sum(event.count for event in events)
        result[engine] = {
            "steps": steps,
            "us_a_step": total / steps,
            "calls_a_step": calls / steps,
            "top": top,
        }
    first = result[look.engines[-1]]
    return {
        **result,
        "says": f"{first['us_a_step'] / 1000:.2f} ms a step, {first['calls_a_step']:.0f} calls",
    }


def b_trials(look: Look) -> Result:
    """Time the first and the second trial of a process, and what a recording takes."""
    result: Result = {}
    for engine in look.engines:
        made = ground(look, train__epochs=1 if look.tiny else 3)
        result[engine] = _two_trials(look, made, engine)
    pair = result[look.engines[-1]]
    return {
        **result,
        "says": f"first {pair['seconds'][0]:.1f} s, second {pair['seconds'][1]:.1f} s",
    }


def _two_trials(look: Look, made: Any, engine: str) -> Result:
    from harness.bench import ours
    from harness.train.capture import wait
    from harness.train.engine import Program

    started = time.perf_counter()
    driver = made.driver(made.net(), made.loaders().train, engine)
    wait(look.device)
    recording = time.perf_counter() - started if isinstance(driver, Program) else 0.0

    call, seconds = ours.trials(made, engine), []
    for _ in range(2):
        wait(look.device)
        started = time.perf_counter()
        call()
        wait(look.device)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "recording_seconds": recording}


# --- C: real
# ----------------------------------------------------------------------------------------------------------


def c_reference(look: Look) -> Result:
    """Train one seed of the reference."""
    told = figures(trial_of(look, baseline(look), 0, "auto"))
    accuracy, train = told["metrics"]["accuracy"], told["metrics"]["train_accuracy"]
    return {
        **told,
        "says": f"val {accuracy:.1%}, train {train:.1%}, {told['images_per_second']:,.0f} images/s",
    }


def _ablate(look: Look, folder: Path) -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)  # cells of an earlier look would not be run again
    folder.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        "--study",
        STUDY,
        "--profile",
        look.profile,
    ]
    command += ["--seeds", "1" if look.tiny else "2", "--device", look.device]
    if look.tiny:
        small = ("train.epochs=1", "data.train=200", "data.val=100")
        command += ["--workers", "1", *(part for field in small for part in ("--set", field))]
    return command


def _trials(folder: Path) -> Result:
    import pandas as pd

    (path,) = folder.glob(f"reports/{STUDY}*/trials.parquet")
    table = pd.read_parquet(path)
    # a trial that was killed keeps its row, as an attempt that failed
    complete = table[table["state"] == "complete"]
    states = {str(state): int(number) for state, number in table["state"].value_counts().items()}
    return {
        "cells": int(table["cell"].nunique()),
        "complete": int(complete["cell"].nunique()),
        "rows": states,
    }


def c_study(look: Look) -> Result:
    """Run a study of two seeds, whose arms share one program."""
    baseline(look)  # says when there are no images
    folder = look.out / "study"
    result = program(_ablate(look, folder), look, folder=folder)
    if result["status"] != 0:
        raise RuntimeError(f"ablate ended with {result['status']}: {result['last'][-2:]}")
    counted = _trials(folder)
    return {
        **result,
        **counted,
        "says": f"{counted['complete']} trials in {result['seconds']:.0f} s",
    }


def c_engines(look: Look) -> Result:
    """Train the same seeds with each engine and compare the final accuracies."""
    recipe = baseline(look)
    seeds = (0,) if look.tiny else (0, 1)
    told = {
        engine: [figures(trial_of(look, recipe, seed, engine)) for seed in seeds]
        for engine in look.engines
    }
    pairs = list(
        zip(
            *([t["metrics"]["accuracy"] for t in told[engine]] for engine in look.engines),
            strict=True,
        )
    )
    apart = max(100 * (max(pair) - min(pair)) for pair in pairs)
    return {**told, "largest_difference_pp": apart, "says": f"at most {apart:.2f} pp apart"}


def c_resume(look: Look) -> Result:
    """Kill a running study with its workers, run the command again: every cell must be there once."""
    baseline(look)
    folder = look.out / "resume"
    command = _ablate(look, folder)
    with (folder / "killed-output.txt").open("w", encoding="utf-8") as log:
        running = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    text = ""
    while running.poll() is None and "[2/" not in text:
        time.sleep(0.2)
        text = (folder / "killed-output.txt").read_text(encoding="utf-8")
    finished_alone = running.poll() is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    if finished_alone:
        raise RuntimeError("the study ended before it could be killed")

    result = program(command, look, folder=folder)
    if result["status"] != 0:
        raise RuntimeError(f"the second run ended with {result['status']}: {result['last'][-2:]}")
    counted = _trials(folder)
    if not counted["cells"] == counted["complete"] == counted["rows"]["complete"]:
        raise RuntimeError(f"after a kill: {counted}")
    return {**result, **counted, "says": f"{counted['cells']} cells, each complete once"}


# --- D: faster
# --------------------------------------------------------------------------------------------------------


def _epochs(look: Look, made: Any, seconds: float | None = None) -> Result:
    from harness.bench import ours

    return rate(look, ours.epochs(made, look.engines[-1]), seconds)


def d_precision(look: Look) -> Result:
    """Time epochs in IEEE fp32, in TF32 and in bf16."""
    import torch

    from harness.train.arithmetic import prepare

    prepare(look.device)
    told = {"fp32": _epochs(look, ground(look, train__precision="fp32"))}
    if look.cuda:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
        told["tf32"] = _epochs(look, ground(look, train__precision="fp32"))
    prepare(look.device)
    told["bf16"] = _epochs(look, ground(look, train__precision="bf16"))
    return {
        **told,
        "says": ", ".join(f"{name} {row['per_second']:,.0f}" for name, row in told.items())
        + " images/s",
    }


def d_kernels(look: Look) -> Result:
    """Time epochs with kernels that are deterministic or not, chosen by timing or not."""
    import torch

    from harness.train.arithmetic import prepare

    told = {}
    for deterministic in (True, False):
        for timed in (False, True):
            prepare(look.device)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = (
                deterministic,
                timed,
            )
            name = f"{'deterministic' if deterministic else 'any'}, {'timed' if timed else 'not timed'}"
            told[name] = _epochs(look, ground(look))
    best = max(told, key=lambda name: told[name]["per_second"])
    return {**told, "says": f"best: {best}"}


def d_update(look: Look) -> Result:
    """Time norm, clip and Adam's update on the flat vector, as they are and compiled."""
    import torch

    from harness.train.optim import Update

    values = sum(p.numel() for p in ground(look).net().parameters())
    weights_P, source_P = (torch.randn(values, device=look.device) for _ in range(2))
    row_C = torch.tensor([1e-3, 0.9, 0.1, 0.03], device=look.device)
    clip, update = (
        torch.tensor(0.1, device=look.device),
        Update("adam", torch.zeros((), device=look.device)),
    )
    update.prepare(weights_P)

    # what a pass over the vector would fuse
    def step() -> float:
        grad_P = source_P.clone()
        torch.linalg.vector_norm(grad_P)
        torch.clamp(grad_P, -clip, clip, out=grad_P)
        update(weights_P, grad_P, row_C)
        return 1.0

    # the compiler proper needs a GPU's Triton; elsewhere only the tracing of it is tried
    compiled = torch.compile(step, backend="inductor" if look.cuda else "eager")
    told: Result = {"weights": values, "backend": "inductor" if look.cuda else "eager"}
    for name, call in (("as it is", step), ("compiled", compiled)):
        started = time.perf_counter()
        call()
        first = time.perf_counter() - started
        told[name] = {**rate(look, call), "first_call_seconds": first}
    gain = told["compiled"]["per_second"] / told["as it is"]["per_second"]
    return {**told, "says": f"compiled {gain:.2f} x"}


def d_one_worker(look: Look) -> Result:
    """Time epochs beside others; a part of `d_workers`."""
    return _epochs(look, ground(look), 3 * look.seconds)


def d_workers(look: Look) -> Result:
    """Time epochs in 1, 2 and 4 processes at once on one GPU, with NVIDIA's MPS too where it starts."""
    told: Result = {"plain": _side_by_side(look, "plain")}
    with _mps(look) as started:
        if started:
            told["mps"] = _side_by_side(look, "mps")
    sums = {
        f"{kind} {count}": row for kind, counts in told.items() for count, row in counts.items()
    }
    told["mps_started"] = started
    return {
        **told,
        "says": ", ".join(f"{name}: {value:,.0f}" for name, value in sums.items()) + " images/s",
    }


def _side_by_side(look: Look, kind: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for count in (1, 2) if look.tiny else (1, 2, 4):
        folders = [look.out / f"workers-{kind}-{count}" / str(number) for number in range(count)]
        processes = [itself(look, "d_one_worker", folder, wait=False) for folder in folders]
        for process in processes:
            process.wait()
        sums[str(count)] = sum(
            read(folder / "d_one_worker.json")["per_second"] for folder in folders
        )
    return sums


@contextlib.contextmanager
def _mps(look: Look) -> Iterator[bool]:
    """Start NVIDIA's multi-process service for this process's children, where there is one, and stop it."""
    control = shutil.which("nvidia-cuda-mps-control")
    if not look.cuda or control is None:
        yield False
        return
    folder = look.out / "mps"
    folder.mkdir(exist_ok=True)
    os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    try:
        yield (
            subprocess.run([control, "-d"], check=False, capture_output=True, timeout=30).returncode
            == 0
        )
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([control], input=b"quit\n", check=False, capture_output=True, timeout=30)
        for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
            del os.environ[name]


# --- running them
# -----------------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[Look], Result]] = {
    "a_tests": a_tests,
    "a_ceilings": a_ceilings,
    "a_two_processes": a_two_processes,
    "a_two_plans": a_two_plans,
    "b_step": benchmark("step"),
    "b_epoch": benchmark("epoch"),
    "b_trial": benchmark("trial"),
    "b_pipeline": benchmark("pipeline"),
    "b_loop": benchmark("loop"),
    "b_kernels": b_kernels,
    "b_trials": b_trials,
    "c_reference": c_reference,
    "c_study": c_study,
    "c_engines": c_engines,
    "c_resume": c_resume,
    "d_precision": d_precision,
    "d_kernels": d_kernels,
    "d_update": d_update,
    "d_workers": d_workers,
}
PARTS: dict[str, Callable[[Look], Result]] = {
    "a_one_cell": a_one_cell,
    "d_one_worker": d_one_worker,
}


def run_check(name: str, look: Look) -> int:
    """Run one check in this process, write its file, and return its exit status."""
    import torch

    from harness.train.environment import environment as training_environment

    # the host only launches; on a CPU, small steps wait for each other's threads
    torch.set_num_threads(1)
    began = time.perf_counter()
    kept: Result = {
        "check": name,
        "device": look.device,
        "host": platform.machine(),
        "tiny": look.tiny,
    }
    try:
        kept |= {
            "on": training_environment(look.device, "").model_dump(),
            "torch": torch.__version__,
        }
        kept |= {"state": "ok", "result": ({**CHECKS, **PARTS})[name](look)}
    except SkippedError as error:
        kept |= {"state": "skipped", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever went wrong is what the check found
        said = f"{type(error).__name__}: {error}"
        kept |= {"state": "failed", "error": said, "traceback": traceback.format_exc()}
    kept["seconds"] = time.perf_counter() - began
    (look.out / f"{name}.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return int(kept["state"] == "failed")


def supervise(name: str, look: Look, seconds: float) -> Result:
    """Run one check in a process of its own for at most ``seconds``; return its row of the table."""
    path = look.out / f"{name}.json"
    path.unlink(missing_ok=True)
    command = [
        sys.executable,
        __file__,
        "--check",
        name,
        "--out",
        str(look.out),
        "--device",
        look.device,
    ]
    command += ["--seconds", str(look.seconds), *(["--tiny"] if look.tiny else [])]
    began = time.perf_counter()
    with (look.out / f"{name}.log").open("w", encoding="utf-8") as log:
        # a session of its own, so that a check that hangs is ended with all that it started
        process = subprocess.Popen(
            command, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            status: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = f"ended after {seconds:.0f} s"
            process.wait()
    row: Result = {
        "check": name,
        "state": "failed",
        "seconds": time.perf_counter() - began,
        "says": f"status {status}",
    }
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        row |= {"state": kept["state"], "says": kept.get("error") or kept["result"].get("says", "")}
    return row


def main() -> int:
    """Run the stages; return 0 when no check failed."""
    options = _options()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    look = Look(
        options.device, out, options.tiny, options.seconds or (0.2 if options.tiny else 4.0)
    )
    if options.check:
        return run_check(options.check, look)

    until = time.perf_counter() + 60 * options.minutes
    names = [name for name in CHECKS if name[0].upper() in options.stage.upper()]
    rows: list[Result] = []
    for name in names:
        left = until - time.perf_counter()
        if left < _LEAST_SECONDS:
            row = {"check": name, "state": "skipped", "seconds": 0.0, "says": "no time left"}
        else:
            row = supervise(name, look, left)
        rows.append(row)
        print(
            f"{name:<16} {row['state']:<8} {row['seconds']:6.1f} s  {' '.join(str(row['says']).split())[:100]}",
            flush=True,
        )
        (out / "summary.json").write_text(
            json.dumps({"device": look.device, "rows": rows}, indent=1), encoding="utf-8"
        )

    failed = [row["check"] for row in rows if row["state"] == "failed"]
    print(
        f"{len(rows)} checks, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}; details in {out}"
    )
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look at a GPU for the first time.")
    parser.add_argument(
        "--stage", default="ABCD", help="letters of the stages to run; default: ABCD"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        help="for all of it; a check that would go on longer is ended",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for JSON, logs and what the checks leave"
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--tiny", action="store_true", help="the smallest sizes, to try the tool itself"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="for one measurement; default: 4, and 0.2 with --tiny",
    )
    parser.add_argument(
        "--check", choices=[*CHECKS, *PARTS], help="one check alone, in this process"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
