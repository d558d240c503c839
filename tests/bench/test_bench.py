"""The benchmark: how it takes its samples, what it makes of them, and one short run of all of it. No figure is judged here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from harness.bench import HEADS, BenchResult, Result, Sample, bench
from harness.bench.cases import USUAL
from harness.bench.ours import Ground, bare_loop
from harness.bench.result import interval, slug, summarised
from harness.bench.rounds import Case, measure
from harness.bench.suite import Stretch, _warnings, _with_best_usual
from harness.bench.usual import (
    Pictures,
    pil_transform,
    plain_loader,
    shut,
    v2_transform,
    with_plain_dropout,
)
from harness.errors import UsageError
from harness.report.folder import read_bench
from harness.study.recipe_fields import AugmentRecipe
from harness.train.parts import arena
from tests.train.tiny import net, recipe

KEYS = ["name", "images_per_second", "low", "high", "n", "ratio", "reference", "share_of_ceiling"]
GIVEN = {
    "pipeline": ["pil-dataloader", "pil-dataloader/0-workers", "torchvision-v2", "harness"],
    "loop": ["bare", "harness"],
    "step": ["eager", "eager/bf16", "eager/nchw", "eager/batch-300"],
    "epoch": ["pil-dataloader", "harness", "static-step"],
    "trial": ["pil-dataloader", "harness"],
    "ceiling": ["copy", "static-step", "matmul"],
}


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[BenchResult, Path, list[Stretch]]]:
    folder, told = tmp_path_factory.mktemp("bench"), list[Stretch]()
    torch.set_num_threads(1)
    yield (
        bench(
            device="cpu", rounds=1, sample_seconds=0, save=True, folder=folder, on_event=told.append
        ),
        folder,
        told,
    )
    torch.set_num_threads(1)


Found = tuple[BenchResult, Path, list[Stretch]]


def sample(name: str, turn: int, rate: float, cpu: float = 1.0) -> Sample:
    return Sample(name, turn, rate, 1.0, cpu)


# --- rounds
# -----------------------------------------------------------------------------------------------------------


def test_rounds_run_there_and_back() -> None:
    order: list[str] = []

    def case(name: str) -> Case:
        def call() -> float:
            order.append(name)
            return 1.0

        return Case(name, call)

    turns: list[tuple[str, int, int]] = []
    samples = measure(
        [case(name) for name in "ABC"],
        device="cpu",
        rounds=4,
        seconds=0.0,
        on_case=lambda *told: turns.append(told),
        sample_seconds=0.0,
    )
    assert "".join(one.name for one in samples) == "ABCCBAABCCBA"
    assert turns[:3] == [(name, -1, 4) for name in "ABC"]
    assert [(name, turn) for name, turn, _ in turns[3:]] == [(s.name, s.round) for s in samples]
    assert "".join(order) == "AABBCCABCCBAABCCBA"  # the warm-up leaves no sample


def test_without_a_number_of_rounds_there_are_three_however_little_time_there_is() -> None:
    samples = measure(
        [Case("A", lambda: 1.0)],
        device="cpu",
        rounds=None,
        seconds=0.0,
        sample_seconds=0.0,
        on_case=lambda *_: None,
    )
    assert [one.round for one in samples] == [0, 1, 2]


def test_a_sample_counts_the_images_of_all_its_calls() -> None:
    calls: list[int] = []

    def call() -> float:
        calls.append(1)
        return 7.0

    (one,) = measure(
        [Case("A", call)], device="cpu", rounds=1, seconds=0.0, on_case=lambda *_: None
    )
    assert one.images == 7.0 * (len(calls) - 2)  # two were the warm-up's


# --- summary
# ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1, 1e6), min_size=6, max_size=60, unique=True))
def test_the_interval_of_the_median_has_at_least_95_percent_and_no_more_than_it_must(
    rates: list[float],
) -> None:
    low, middle, high = interval(rates)
    ordered = sorted(rates)
    rank = ordered.index(low) + 1
    assert (middle, high) == (float(np.median(rates)), ordered[-rank])
    covered = [1 - 2 * stats.binom.cdf(r - 1, len(rates), 0.5) for r in (rank, rank + 1)]
    assert covered[0] >= 0.95
    assert covered[1] < 0.95


def test_below_six_rounds_the_interval_is_the_range() -> None:
    assert interval([3.0, 1.0, 2.0, 5.0]) == (1.0, 2.5, 5.0)


def test_a_ratio_is_the_median_over_rounds_and_not_the_ratio_of_medians() -> None:
    samples = [sample("a", turn, rate) for turn, rate in enumerate((10.0, 20.0, 90.0))]
    samples += [sample("b", turn, rate) for turn, rate in enumerate((5.0, 20.0, 30.0))]
    (result,) = summarised(samples, names=["a"], references={"a": "b"}, ceilings={"a": "b"})
    assert (result.ratio, result.share_of_ceiling, result.images_per_second) == (2.0, 2.0, 20.0)


def test_a_case_without_its_reference_has_no_ratio() -> None:
    (result,) = summarised(
        [sample("a", 0, 1.0)], names=["a", "gone"], references={"a": "b"}, ceilings={}
    )
    assert (result.ratio, result.reference, result.share_of_ceiling) == (None, None, None)


def test_the_usual_pipeline_is_that_of_the_number_of_workers_that_was_fastest() -> None:
    cases = [Case(f"{USUAL}/{workers}-workers", lambda: 1.0, USUAL) for workers in (0, 4)]
    samples = [
        sample(case.name, turn, rate)
        for case, rate in zip(cases, (100.0, 300.0), strict=True)
        for turn in range(3)
    ]
    more, listed = _with_best_usual(samples, cases)
    assert listed[0].name == USUAL
    assert [one.rate for one in more if one.name == USUAL] == [300.0] * 3


def test_a_result_that_was_not_measured_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="step/graph was not measured"):
        BenchResult({}, ()).of("step/graph")


# --- the machine
# ------------------------------------------------------------------------------------------------------


def test_a_quiet_machine_draws_no_warning() -> None:
    samples = [sample("ceiling/matmul", turn, 100.0 + turn) for turn in range(3)]
    assert _warnings(samples, [Case("ceiling/matmul", lambda: 1.0)], 0.1, set(), "cpu") == []


@pytest.mark.parametrize(
    ("samples", "busy", "held", "said"),
    [
        ([], 1.5, set(), "1.5 at a time"),
        ([sample("loop/bare", 0, 1.0, cpu=0.6)], 0.0, set(), "60 %"),
        (
            [sample("ceiling/matmul", turn, rate) for turn, rate in enumerate((100.0, 150.0))],
            0.0,
            set(),
            "1.5 times",
        ),
        ([], 0.0, {"the power cap"}, "the power cap"),
    ],
)
def test_a_doubtful_machine_draws_a_warning_with_a_remedy(
    samples: list[Sample], busy: float, held: set[str], said: str
) -> None:
    cases = [Case(name, lambda: 1.0) for name in ("loop/bare", "ceiling/matmul")]
    (warning,) = _warnings(samples, cases, busy, held, "cpu")
    assert said in warning
    assert any(word in warning for word in ("repeat", "let it cool"))


# --- the usual pipeline
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [pil_transform, v2_transform], ids=["pil", "v2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_usual_pipelines_give_normalised_batches(make: object, channels: int) -> None:
    images_NCHW = torch.full((8, channels, 12, 12), 255, dtype=torch.uint8)
    still = AugmentRecipe(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    transform = make(still, 12, (0.5,) * channels, (0.25,) * channels)  # type: ignore[operator]
    loader = plain_loader(
        Pictures(images_NCHW, torch.arange(8), transform), batch_size=4, workers=0
    )
    content = list(loader)
    assert [tuple(x_BCHW.shape) for x_BCHW, _ in content] == [(4, channels, 12, 12)] * 2
    assert all(torch.allclose(x_BCHW, torch.tensor(2.0)) for x_BCHW, _ in content)
    assert sorted(label for _, labels_B in content for label in labels_B.tolist()) == list(range(8))
    shut(loader)


def test_the_usual_net_differs_in_nothing_but_torchs_dropout() -> None:
    plain = with_plain_dropout(net(dropout=0.4), 0.4)
    assert [layer.p for layer in plain.modules() if isinstance(layer, nn.Dropout)] == [0.4]
    assert list(plain.state_dict()) == list(net().state_dict())


def test_the_bare_loop_sees_every_image_of_the_epoch() -> None:
    wanted = recipe()
    with torch.random.fork_rng(devices=[]):
        assert bare_loop(Ground(wanted, arena(wanted.data, "cpu"), "cpu"))() == 150


# --- a whole run
# ------------------------------------------------------------------------------------------------------


def test_a_run_measures_every_case(found: Found) -> None:
    names = {result.name for result in found[0].results}
    assert {f"{group}/{name}" for group, listed in GIVEN.items() for name in listed} <= names
    assert all(result.images_per_second > 0 and result.n == 1 for result in found[0].results)


def test_the_json_has_exactly_the_documented_keys(found: Found) -> None:
    content = found[0].as_json()
    assert list(content) == ["schema", "environment", "results"]
    assert all(list(result) == KEYS for result in content["results"])
    assert content["environment"]["torch"] == torch.__version__
    assert json.loads(json.dumps(content)) == content


def test_references_and_ceilings_are_cases_of_the_same_run(found: Found) -> None:
    names = {result.name for result in found[0].results}
    assert {result.reference for result in found[0].results} - {None} <= names
    assert set(found[0].environment["ceilings"].values()) <= names
    assert found[0].of("loop/harness").reference == "loop/bare"
    assert found[0].of("epoch/harness").reference == "epoch/pil-dataloader"
    assert found[0].of("step/eager").share_of_ceiling is not None


def test_what_was_saved_is_what_the_report_reads(found: Found) -> None:
    (path,) = found[1].glob("*.json")
    assert read_bench(path) == json.loads(json.dumps(found[0].as_json()))


def test_the_raw_samples_are_kept_beside(found: Found) -> None:
    (path,) = found[1].glob("*.parquet")
    table = pq.read_table(path)
    assert table.column_names == ["name", "round", "images", "seconds", "cpu_seconds"]
    assert len(table) == len(found[0].samples)


def test_the_table_has_a_row_a_result_and_a_cell_a_head(found: Found) -> None:
    rows = found[0].rows()
    assert len(rows) == len(found[0].results)
    assert {len(row) for row in rows} == {len(HEADS)}


def test_each_group_is_told_as_it_is_timed(found: Found) -> None:
    over = [stretch.what for stretch in found[2] if stretch.over]
    assert over == [f"{group}: 1 round" for group in ("pipeline", "loop", "step", "epoch", "trial")]
    # one by one, to the last
    stretches = [stretch for stretch in found[2] if not stretch.over]
    assert [stretch.done for stretch in stretches] == list(range(stretches[0].total))
    assert found[2][-1].done == found[2][-1].total


def test_a_run_leaves_threads_and_random_state_as_they_were() -> None:
    torch.set_num_threads(1)
    state = torch.random.get_rng_state()
    bench(device="cpu", rounds=1, sample_seconds=0, groups=("loop",))
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_unknown_group_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no group nets"):
        bench(groups=("nets",))


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="could not write"):
        BenchResult({"device": "cpu"}, (), (sample("a", 0, 1.0),)).save(
            tmp_path / "file" / "deeper"
        )


@pytest.mark.parametrize(
    ("device", "cpu", "name"),
    [
        ("cpu", "AMD EPYC 7B13", "cpu-amd-epyc-7b13"),
        ("NVIDIA H200", "any", "nvidia-h200"),
        ("", "", "cpu"),
    ],
)
def test_files_are_named_after_the_machine(device: str, cpu: str, name: str) -> None:
    assert slug(device, cpu) == name


def test_a_result_is_plain_data() -> None:
    assert Result("a", 1.0, 1.0, 1.0, 3, None, None, None).ratio is None
