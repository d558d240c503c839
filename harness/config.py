"""Defaults of a folder: where trials and images are kept and what runs them, so that no command has to say it again.

They stand in ``harness.toml``, or under ``[tool.harness]`` in ``pyproject.toml``, in the working
folder or the nearest one above it that has such a file. A key of the first wins over the same key
of the second; an option of a command, and ``HARNESS_DATA``, win over both. What verdicts rest on
(seeds, looks, margin and the like) is refused here: two people who run one study would otherwise
answer different questions, and the study would not show it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from harness.errors import UsageError, did_you_mean
from harness.text import unread

Launcher = Literal["local", "slurm", "ray"]
LAUNCHERS: tuple[Launcher, ...] = ("local", "slurm", "ray")

DEVICE = r"auto|cpu|mps|(cuda|xpu)(:\d+)?"
DEVICE_NAMES = "auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"

FILE = "harness.toml"
PROJECT = "pyproject.toml"

_DECIDES = (
    "alpha",
    "arms",
    "baseline",
    "base",
    "decide_on",
    "design",
    "factors",
    "first_seed",
    "looks",
    "margin",
    "margin_pp",
    "metric",
    "profile",
    "profiles",
    "recipe",
    "seeds",
    "set",
    "study",
    "trials",
)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the files say; None and empty where they say nothing.

    Attributes:
        storage: path of a journal, or ``postgresql+psycopg://...``.
        artifacts: folder for curves and per-image outcomes.
        data: folder of images.
        workers: processes, or tasks of a cluster; ``auto`` or a number.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        launcher: what starts the workers.
        partition, account: SLURM's.
        minutes: time limit of a task.
        gpus: GPUs a task; on Ray also a part of one.
        cpus: CPU cores a task.
        address: Ray's.
        sources: the file that each of them is from.
    """

    storage: str | None = None
    artifacts: str | None = None
    data: str | None = None
    workers: str | None = None
    device: str | None = None
    launcher: Launcher | None = None
    partition: str = ""
    account: str = ""
    minutes: int | None = None
    gpus: float | None = None
    cpus: int | None = None
    address: str = ""
    sources: tuple[tuple[str, str], ...] = ()

    def lines(self, *, without: frozenset[str] = frozenset()) -> list[str]:
        """Return what the files say, a line a file, without passwords and without the keys of ``without``."""
        by_file: dict[str, list[str]] = {}
        for name, source in self.sources:
            if name not in without:
                value = hide_password(str(getattr(self, name)))
                by_file.setdefault(source, []).append(f"{name} {value}")
        return [f"{source}: {', '.join(words)}" for source, words in by_file.items()]


def find_defaults(start: Path | None = None) -> Defaults:
    """Read the defaults that hold in a folder, by default the working folder.

    Raises:
        UsageError: a file is not TOML, or says what it cannot; all faults of all files at once.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    faults: list[str] = []
    for path, table in _tables(start or Path.cwd(), faults):
        for name, value in table.items():
            fault, read = _read(name, value, path.parent)
            if fault:
                faults.append(f"{_label(path)}: {name}: {fault}")
            elif name not in values:
                values[name], sources[name] = read, str(path)
    if faults:
        count = f"{len(faults)} faults in the defaults:\n  " if len(faults) > 1 else ""
        raise UsageError(count + "\n  ".join(faults), f"the defaults are: {', '.join(_KEYS)}")
    return Defaults(**values, sources=tuple(sources.items()))


def _tables(start: Path, faults: list[str]) -> list[tuple[Path, Mapping[str, Any]]]:
    """Return the tables that hold, the one that wins first."""
    found: list[tuple[Path, Mapping[str, Any]]] = []
    folders = [start.absolute(), *start.absolute().parents]
    own = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if own is not None:
        found.append((own, _parse(own, faults)))
    for folder in folders:
        project = folder / PROJECT
        if project.is_file():
            tools = _parse(project, faults, only="tool.harness").get("tool", {})
            if isinstance(tools, dict) and "harness" in tools:
                if isinstance(tools["harness"], dict):
                    found.append((project, tools["harness"]))
                else:
                    faults.append(f"{_label(project)}: should be a table")
                break
    return found


def _parse(path: Path, faults: list[str], *, only: str = "") -> Mapping[str, Any]:
    """Return a file's content; one that does not read is a fault, unless it does not even mention ``only``."""
    try:
        content = path.read_bytes()
        if only.encode() in content:
            return tomllib.loads(content.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(unread(path, error))
    return {}


def _label(path: Path) -> str:
    return f"{path} [tool.harness]" if path.name == PROJECT else str(path)


def _read(name: str, value: Any, folder: Path) -> tuple[str, Any]:
    """Return (fault, value)."""
    if name not in _KEYS:
        if name in _DECIDES:
            return "decides what a study finds: write it in the study file", None
        return f"is not a default{did_you_mean(name, _KEYS)}", None
    expected, read = _KEYS[name]
    try:
        return "", read(value, folder)
    except ValueError:
        return f"{hide_password(repr(value))} is not {expected}", None


def _text(value: Any, _: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _path(value: Any, folder: Path) -> str:
    return str(folder / Path(_text(value, folder)).expanduser())


def _storage(value: Any, folder: Path) -> str:
    text = _text(value, folder)
    return text if "://" in text else _path(text, folder)


def _workers(value: Any, _: Path) -> str:
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError
    return str(value)


def is_device(text: str) -> bool:
    """Return whether a text names a device, as ``DEVICE_NAMES`` lists them."""
    return re.fullmatch(DEVICE, text) is not None


def _device(value: Any, folder: Path) -> str:
    text = _text(value, folder)
    if not is_device(text):
        raise ValueError
    return text


def _launcher(value: Any, _: Path) -> Launcher:
    if value not in LAUNCHERS:
        raise ValueError
    return cast("Launcher", value)


def _whole(value: Any, _: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _share(value: Any, _: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise ValueError
    return float(value)


_KEYS: Mapping[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "storage": ("a path or postgresql+psycopg://...", _storage),
    "artifacts": ("a folder", _path),
    "data": ("a folder", _path),
    "workers": ("'auto' or a whole number from 1", _workers),
    "device": (DEVICE_NAMES, _device),
    "launcher": ("local, slurm or ray", _launcher),
    "partition": ("a name", _text),
    "account": ("a name", _text),
    "minutes": ("a whole number from 1", _whole),
    "gpus": ("a number from 0", _share),
    "cpus": ("a whole number from 1", _whole),
    "address": ("an address", _text),
}


def hide_password(where: str) -> str:
    """Return a storage's address with ``***`` in place of a password."""
    scheme, separator, rest = where.partition("://")
    credentials, at, server = rest.rpartition("@")
    if not separator:
        return where
    # a query may hold a password as well
    server, question, _ = (server if at else rest).partition("?")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user + ':***@' if ':' in credentials else user + at}{server}{'?...' if question else ''}"
