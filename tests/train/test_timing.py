"""How trials are laid out and what is extrapolated from. That seconds come out is all that is asked of the clock."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator

import pytest
import torch

from harness.errors import DataError, UsageError
from harness.train.environment import environment
from harness.train.meter import Meter
from harness.train.timing import choose_layout, extrapolate, time_apart, time_trial, usable_cores
from tests.train.tiny import recipe


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(1)


def test_a_timed_trial_has_a_cost_and_says_how_many_steps_it_was_told_from() -> None:
    timing = time_trial(recipe())
    assert timing.seconds > 0
    assert timing.images_per_second > 0
    assert timing.mflops_per_second > 0
    assert timing.steps >= 3
    assert timing.threads == 1


def test_a_layout_that_was_asked_for_is_kept() -> None:
    layout = choose_layout(recipe(), device="cpu", workers=3)
    assert (layout.workers, layout.devices, layout.why) == (3, ("cpu",), "as asked")


def test_threads_that_the_recipe_fixes_are_kept() -> None:
    layout = choose_layout(recipe(train__threads=1), device="cpu", workers=1)
    assert (layout.workers, layout.threads) == (1, 1)


def test_a_layout_chosen_by_timing_uses_no_more_cores_than_there_are() -> None:
    layout = choose_layout(recipe(), device="cpu")
    assert 1 <= layout.workers * layout.threads <= usable_cores()
    assert layout.why


def cost(epochs: int, rate: float) -> float:
    return extrapolate(
        recipe(train__epochs=epochs), shape=(1, 8, 8), classes=10, images=1500, rate=rate
    )


def test_an_extrapolated_cost_grows_by_as_much_with_every_epoch_and_ends_with_one_evaluation_of_all_images() -> (
    None
):
    assert cost(30, 100.0) - cost(20, 100.0) == pytest.approx(cost(20, 100.0) - cost(10, 100.0))
    assert cost(10, 100.0) < 10 * cost(1, 100.0)


def test_an_extrapolated_cost_is_inversely_proportional_to_the_rate() -> None:
    assert cost(3, 50.0) == pytest.approx(2 * cost(3, 100.0))


def test_the_record_of_a_training_names_torch_threads_arithmetic_and_engine() -> None:
    record = environment("cpu", "fp32", "eager")
    assert record.torch == torch.__version__
    assert record.threads == torch.get_num_threads()
    assert (record.device, record.precision, record.engine) == ("cpu", "fp32", "eager")


def test_a_layout_says_which_engine_runs_and_why() -> None:
    layout = choose_layout(recipe(), device="cpu", workers=1)
    assert layout.engine == "eager"
    assert "CUDA" in layout.why_engine


def test_an_engine_that_cannot_run_is_refused_by_the_plan() -> None:
    with pytest.raises(UsageError, match="CUDA"):
        choose_layout(recipe(), device="cpu", workers=1, engine="graph")


def test_a_device_without_nvml_gives_no_readings() -> None:
    meter = Meter("cpu")
    meter.sample()
    assert meter.readings() == {}
    assert meter.throttled() == ""


def test_a_trial_can_be_timed_in_a_process_of_its_own() -> None:
    found = time_apart(recipe(train__precision="auto"), device="cpu")
    assert found.timing.seconds > 0
    assert found.timing.steps >= 3
    assert (found.resident, found.precision) == (True, "fp32")


def test_an_error_of_the_timing_process_comes_back_as_it_was() -> None:
    with pytest.raises(DataError, match="digits"):
        time_apart(recipe(data__train=100_000), device="cpu")


def test_a_layout_names_the_arithmetic_where_the_recipe_leaves_it_to_the_device() -> None:
    layout = choose_layout(recipe(train__precision="auto"), device="cpu", workers=1)
    assert layout.precision == "fp32"
    assert layout.why_engine.endswith("arithmetic: fp32")
    assert "arithmetic" not in choose_layout(recipe(), device="cpu", workers=1).why_engine


@pytest.mark.parametrize(("processes", "names"), [(1, {"joules", "watts"}), (2, set())])
def test_the_energy_of_a_shared_gpu_is_nobody_s(processes: int, names: set[str]) -> None:
    counter = iter((5000.0, 8000.0))
    nvml = types.SimpleNamespace(
        NVMLError=OSError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [object()] * processes,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: next(counter),
        nvmlDeviceGetClockInfo=lambda *_: 1500,
        nvmlDeviceGetTemperature=lambda *_: 50,
    )
    meter = Meter("cpu", _nvml=nvml, _handle=object())
    meter._millijoules = next(counter)
    meter.sample()
    readings = meter.readings()
    assert set(readings) == {"sm_mhz", "celsius", *names}
    assert all(math.isfinite(value) for value in readings.values())
