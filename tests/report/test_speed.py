"""What the report says of the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import analyze
from harness.bench.result import saved_benchmark, slug
from harness.report import Material, speed, tables
from harness.report.build import build, time_spent
from harness.report.document import TableBlock
from harness.report.figures import tradeoffs
from harness.study.trial import Environment
from tests.report import planted


def measured(**readings: float) -> Material:
    """Return a planted study whose trials have read something of the machine."""
    whole = planted.augmentations(images=False)
    return replace(
        whole,
        trials=tuple(trial.model_copy(update={"readings": readings}) for trial in whole.trials),
    )


def took(material: Material) -> TableBlock:
    """Return the table of what a trial took."""
    found = speed.readings(material, analyze(material.study, material.trials))
    assert found is not None
    (table,) = found.blocks
    assert isinstance(table, TableBlock)
    return table


def test_energy_has_a_column_where_it_was_measured() -> None:
    table = took(measured(joules=1234.0))
    column = [head.head for head in table.columns].index("Energy, J")
    assert {row[column].text for row in table.rows} == {"1,234"}


def test_what_was_not_measured_has_no_column() -> None:
    assert not [
        head.head
        for head in took(measured(start_seconds=0.5)).columns
        if head.head.endswith(("J", "W", "MHz", "°C"))
    ]


def test_an_arm_shows_the_median_of_its_own_trials() -> None:
    material = measured()
    table = took(material)
    column = [head.head for head in table.columns].index("Training, s")
    own = sorted(
        trial.train_seconds
        for trial in material.trials
        if trial.recipe == material.study.base_recipe
    )
    assert table.rows[0][column].value == (own[(len(own) - 1) // 2] + own[len(own) // 2]) / 2


def test_a_saved_benchmark_is_found_by_the_machine(tmp_path: Path) -> None:
    here = Environment(device="cpu", cpu="Example CPU @ 2.1 GHz")
    (tmp_path / f"{slug('cpu', 'Example CPU @ 2.1 GHz')}.json").write_text("{}")
    assert saved_benchmark(here, tmp_path) == str(tmp_path / "cpu-example-cpu-2-1-ghz.json")


def test_a_benchmark_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cpu-another.json").write_text("{}")
    assert saved_benchmark(Environment(device="cpu", cpu="Example CPU"), tmp_path) == ""


def test_the_ratio_names_what_it_is_to() -> None:
    result = {
        "name": "loop/harness",
        "images_per_second": 10.0,
        "low": 9.0,
        "high": 11.0,
        "n": 3,
        "ratio": 0.99,
        "reference": "loop/bare",
    }
    found = speed.benchmark({"results": [result]})
    assert found is not None
    assert "0.99 × loop/bare" in [
        cell.text
        for block in found.blocks
        if isinstance(block, TableBlock)
        for cell in block.rows[0]
    ]


def test_processor_time_is_explained_where_it_was_measured() -> None:
    assert "Processor:" in took(measured(cpu_seconds=3.0)).caption
    assert "Processor:" not in took(measured()).caption


@pytest.mark.parametrize(("share", "shown"), [(0.95, True), (0.5, False)])
def test_times_that_other_work_stretched_are_left_out(share: float, shown: bool) -> None:
    """Training time, extra time and throughput; the processor's time stays."""
    whole = planted.augmentations(images=False)
    trials = tuple(
        trial.model_copy(
            update={
                "readings": {"cpu_seconds": share * trial.train_seconds},
                "environment": trial.environment.model_copy(update={"threads": 1}),
            }
        )
        for trial in whole.trials
    )
    material = replace(whole, trials=trials)
    analysis = analyze(material.study, trials)

    heads = [head.head for head in took(material).columns]
    assert "Processor, s" in heads
    assert ("Training, s" in heads) is shown
    main = tables.verdicts(analysis)
    assert ("Extra time" in [column.head for column in main.columns]) is shown
    assert ("Times are left out: other work shared the machine" in main.caption) is not shown
    arms = tables.compared(analysis)
    assert ("Training" in [column.head for column in arms.columns]) is shown
    assert {len(row) for row in arms.rows} == {len(arms.columns)}
    assert (tradeoffs.against_seconds(analysis, ()) is not None) is shown
    assert (tradeoffs.throughput(material, analysis, ()) is not None) is shown
    assert ("other work" in time_spent(material, analysis)) is not shown


def test_a_study_that_was_finished_on_another_machine_names_both() -> None:
    whole = planted.augmentations(images=False)
    half = len(whole.trials) // 2
    trials = tuple(
        trial.model_copy(
            update={
                "environment": trial.environment.model_copy(
                    update={"device": "cpu", "cpu": "one" if at < half else "other"}
                )
            }
        )
        for at, trial in enumerate(whole.trials)
    )
    material = replace(whole, trials=trials)
    facts = dict(build(material, analyze(material.study, trials), formats=(), brief=True).facts)
    assert facts["Ran on"] == "one; other"
