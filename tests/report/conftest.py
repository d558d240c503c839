"""One whole report, written once for all the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import Material, Written, write_material
from tests.report import planted


@pytest.fixture(scope="session")
def material() -> Material:
    return planted.augmentations()


@pytest.fixture(scope="session")
def written(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_material(tmp_path_factory.mktemp("reports") / "augmentations-quick", material)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A whole report that takes less long, with names that need escaping."""
    return write_material(tmp_path_factory.mktemp("small") / "html", planted.html_names())


@pytest.fixture(scope="session")
def page(written: Written) -> str:
    return Path(written.index).read_text(encoding="utf-8")
