"""Which device is taken, and what each kind of device is given; accelerators that are not here are named only."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from harness.commands.choose_profile import check_device
from harness.commands.doctor import _others
from harness.errors import UsageError
from harness.train import devices
from harness.train.arithmetic import precision_on, prepare
from harness.train.engine import choose
from harness.train.environment import environment
from harness.train.model import Dropout
from harness.train.probe import Accelerator


def finds(monkeypatch: pytest.MonkeyPatch, kind: str, number: int = 1) -> None:
    found = SimpleNamespace(type=kind) if kind else None
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: found)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: number)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_auto_is_the_accelerator_that_torch_finds(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, kind)
    assert devices.auto() == kind


@pytest.mark.parametrize("kind", ["", "mtia"])
def test_auto_is_the_cpu_without_an_accelerator_that_we_know(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, kind)
    assert devices.auto() == "cpu"


@pytest.mark.parametrize("device", ["auto", "cpu", "xpu", "xpu:1"])
def test_a_device_that_is_here_can_be_asked_for(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, "xpu", 2)
    check_device(device)


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu:2", "xpu:-1", "tpu"])
def test_a_device_that_is_not_here_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, "xpu", 2)
    with pytest.raises(UsageError, match=device):
        check_device(device)


def test_only_cpu_and_cuda_compute_in_double_precision() -> None:
    wide = [
        device
        for device in ("cpu", "cuda:1", "mps", "xpu:0")
        if devices.wide_float(device) == torch.float64
    ]
    assert wide == ["cpu", "cuda:1"]


def test_other_accelerators_take_the_draws_of_a_cpu() -> None:
    assert {str(devices.draws_on(device)) for device in ("cpu", "mps", "xpu:1")} == {"cpu"}
    assert str(devices.draws_on("cuda:1")) == "cuda:1"


@pytest.mark.parametrize("device", ["mps", "xpu"])
@pytest.mark.parametrize("asked", ["fp32", "bf16", "fp16"])
def test_other_accelerators_train_in_single_precision(device: str, asked: str) -> None:
    assert precision_on(device, asked) == "fp32"


@pytest.mark.parametrize(
    ("native", "scales", "asked", "expected"),
    [
        (True, True, "auto", "bf16"),
        (True, False, "auto", "bf16"),
        (False, True, "auto", "fp16"),
        (False, False, "auto", "fp32"),
        (False, True, "bf16", "fp16"),
        (False, True, "fp32", "fp32"),
    ],
)
def test_a_gpu_trains_in_bf16_where_it_has_it_and_scales_where_it_can(
    native: bool, scales: bool, asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.train.arithmetic._has_bf16", lambda _: native)
    assert precision_on("cuda:1", asked, scales=scales) == expected


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu"])
def test_arithmetic_left_to_the_device_is_single_precision_without_cuda(device: str) -> None:
    assert precision_on(device, "auto") == "fp32"


SWITCHES = """
import torch
from harness.train.arithmetic import prepare

begun = []
torch.cuda.init = lambda: begun.append(True)
torch.backends.cudnn.benchmark = True
prepare("cuda:1")
assert begun == [True]
with torch.backends.cudnn.flags(enabled=True):
    pass
flags = torch.backends.cudnn
print(flags.allow_tf32, torch.backends.cuda.matmul.allow_tf32, flags.benchmark, flags.deterministic)
"""


def test_a_prepared_process_knows_its_gpus_has_no_tf32_and_old_readers_of_the_switch_work() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SWITCHES], capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["False", "False", "False", "True"], "")


def test_preparing_a_cpu_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.init", lambda: pytest.fail("there is no GPU to ask for"))
    prepare("cpu")


def test_the_peak_of_a_recorded_trial_is_that_of_its_recordings() -> None:
    assert devices.peak_mib("cpu", 3 * 2**20) == 3.0


def test_an_idle_gpu_is_not_woken_to_give_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, "cuda")
    monkeypatch.setattr("torch.accelerator.empty_cache", lambda: pytest.fail("it was woken"))
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    devices.empty_cache()


@pytest.mark.parametrize("device", ["mps", "xpu:0"])
def test_other_accelerators_run_the_eager_engine(device: str) -> None:
    assert choose(device).name == "eager"


def test_a_dropout_layer_keeps_its_double_rate_on_the_cpu() -> None:
    assert Dropout(0.3).to("cpu").p.dtype == torch.float64


def test_a_cpu_has_a_name_memory_and_a_peak() -> None:
    assert environment("cpu", "fp32").device == "cpu"
    assert devices.free_bytes("cpu") == math.inf
    assert devices.peak_mib("cpu") > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts afresh")
def test_the_peak_of_a_process_is_counted_afresh() -> None:
    code = (
        "from harness.train import devices; import numpy as np; np.ones(40_000_000); high = devices.peak_mib('cpu'); "
        "devices.reset_peak('cpu'); assert devices.peak_mib('cpu') < high - 200, (high, devices.peak_mib('cpu'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_doctor_says_what_another_accelerator_does() -> None:
    (found,) = _others([Accelerator("mps", "Apple M2 (mps)", 10.0, "")])
    assert (found.level, found.name, found.what) == (
        "ok",
        "mps",
        "Apple M2 (mps), 10 GiB free: the eager engine, fp32",
    )


def test_the_doctor_reports_an_accelerator_that_does_not_answer() -> None:
    (found,) = _others([Accelerator("xpu:0", "xpu:0", 0.0, "no driver")])
    assert (found.level, found.what) == ("fail", "xpu:0: no driver")
    assert found.hint
