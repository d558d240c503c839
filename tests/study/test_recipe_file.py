"""Recipe files: what is written is read back, and every fault is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.study.recipe_file import read_recipe, write_recipe

FIELDS = {
    "schedule.max_lr": 0.003,
    "model.channels": (8, 16),
    "model.blocks": 2,
    "optimizer.name": "adamw",
    "train.epochs": 3,
}


def test_a_recipe_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "made" / "winner.toml"
    write_recipe(path, FIELDS, name="winner", why="of a search")
    assert read_recipe(path) == FIELDS


def test_a_winner_that_is_the_reference_changes_nothing(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", {}, name="reference")
    assert read_recipe(tmp_path / "r.toml") == {}


def test_fields_may_be_tables_in_a_recipe_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("schema = 1\n[recipe]\nmodel.dropout = 0.1\n")
    assert read_recipe(tmp_path / "r.toml") == {"model.dropout": 0.1}


def test_all_faults_of_a_recipe_file_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        'schema = 2\nrecip = 1\n[recipe]\nmodel.dropout = 2\nmodel.drop = "x"\n'
    )
    with pytest.raises(RecipeError) as raised:
        read_recipe(tmp_path / "r.toml")
    told = raised.value.message
    assert all(
        part in told
        for part in (
            "recip: no such key",
            "schema: should be 1",
            "model.dropout",
            "did you mean 'model.dropout'",
        )
    )


@pytest.mark.parametrize("text", ["not toml at all [", "schema = 1\n", "schema = 1\nrecipe = 3\n"])
def test_what_is_no_recipe_file_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError) as raised:
        read_recipe(tmp_path / "r.toml")
    assert "[recipe]" in raised.value.hint


def test_a_missing_recipe_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="could not read"):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_that_cannot_be_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        write_recipe(tmp_path / "r.toml", {"model.dropout": 2.0}, name="wrong")
    assert not (tmp_path / "r.toml").exists()
