"""The page over all reports."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.errors import ReportError
from harness.report import Provenance, Written, lookup, write_index, write_material
from harness.train.sources import KNOWN
from tests.report import planted


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_material(folder / "html", planted.html_names(), provisional=True)
    write_material(folder / "sweep", planted.sweep(), provisional=True)
    (folder / "broken").mkdir()
    (folder / "broken" / "analysis.json").write_text("{}")
    write_index(folder, landing=True)
    return folder


def test_the_index_leads_to_every_report(reports: Path) -> None:
    text = (reports / "index.html").read_text(encoding="utf-8")
    assert 'href="html/index.html"' in text
    assert 'href="sweep/index.html"' in text


def test_the_index_names_question_verdict_best_mean_and_cost(reports: Path) -> None:
    text = (reports / "README.md").read_text(encoding="utf-8")
    assert "What does it change?" in text
    assert "▼ worse" in text
    assert "best mean" not in text  # the largest of several means is overstated
    assert "of training" in text


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_shown(reports: Path) -> None:
    assert "does not fit this version" in (reports / "index.html").read_text(encoding="utf-8")


def test_names_with_html_stay_text_in_the_index(reports: Path) -> None:
    assert "<script" not in (reports / "index.html").read_text(encoding="utf-8")


def test_without_a_report_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no report") as caught:
        write_index(tmp_path)
    assert "harness ablate" in caught.value.hint


def test_the_index_is_the_same_when_written_again(written: Written) -> None:
    first = write_index(written.folder.parent).read_bytes()
    assert write_index(written.folder.parent).read_bytes() == first
    (written.folder.parent / "index.html").unlink()


def test_a_run_leaves_the_landing_page_as_it_is(tmp_path: Path) -> None:
    write_material(tmp_path / "mine", planted.one_arm(2), provisional=True)
    (tmp_path / "README.md").write_text("committed\n", encoding="utf-8")
    assert "mine/index.html" in write_index(tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "committed\n"
    write_index(tmp_path, landing=True)
    assert "(mine/report.md)" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_landing_page_leaves_out_what_is_not_committed(written: Written) -> None:
    page = write_index(written.folder.parent, landing=True)
    assert written.folder.name in page.read_text(encoding="utf-8")
    assert not (written.folder.parent / "README.md").exists()
    page.unlink()


def test_the_landing_page_says_command_machine_and_day_and_leads_to_the_data(reports: Path) -> None:
    material = planted.sweep()
    origin = Provenance(commands=("harness ablate --study sweep",), hardware="a box")
    trials = tuple(
        trial.model_copy(update={"started": "2026-11-23T10:00:00"}) for trial in material.trials
    )
    write_material(
        reports / "mine",
        dataclasses.replace(material, trials=trials, provenance=origin),
        provisional=True,
    )
    write_index(reports, landing=True)
    text = (reports / "README.md").read_text(encoding="utf-8")
    assert "- ran on: a box, 2026-11-23\n- command: `harness ablate --study sweep`\n" in text
    assert "(mine/effects.csv), [trials](mine/trials.parquet)" in text


def test_the_energy_of_the_trials_is_part_of_the_cost(tmp_path: Path) -> None:
    material = planted.one_arm(2)
    trials = tuple(
        trial.model_copy(update={"readings": {"joules": 1.8e6}}) for trial in material.trials
    )
    write_material(
        tmp_path / "mine", dataclasses.replace(material, trials=trials), provisional=True
    )
    write_index(tmp_path, landing=True)
    assert "of evaluation, 1 kWh" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_images_at_their_own_size_have_the_pixels_of_their_data_set() -> None:
    assert {name: known.shape_CHW[1] for name, known in KNOWN.items()} == lookup.SIDES
