"""Where study files lie. Reads none of them and loads no library, so that a shell can ask for names at every Tab."""

from __future__ import annotations

from pathlib import Path


def available_studies() -> dict[str, Path]:
    """Return ``{name: file}`` of the studies under ``studies/`` in this folder and of the built-in ones, sorted by name."""
    return _studies_in(*builtin_folders(), Path("studies"))


def builtin_studies() -> dict[str, Path]:
    """Return ``{name: file}`` of the studies that come with the package, sorted by name."""
    return _studies_in(*builtin_folders())


def builtin_folders() -> tuple[Path, Path]:
    """Return the folders that built-in studies and their schema can lie in: a wheel's, a checkout's."""
    here = Path(__file__).resolve().parent.parent
    return here / "_studies", here.parent / "studies"


def _studies_in(*folders: Path) -> dict[str, Path]:
    files = {
        path.stem: path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.glob("*.toml"))
    }
    return dict(sorted(files.items()))
