"""``doctor``: what this machine has for running studies, each finding with what to do about it. Changes nothing that stays."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.train.probe import Accelerator

Level = Literal["ok", "warn", "fail"]

_OLDEST_PYTHON = (3, 11)
# of disk: cached CIFAR-10 takes 0.2 GiB, a study of 90 trials about 0.02
_LITTLE_GIB, _TOO_LITTLE_GIB = 2.0, 0.1
_IN_USE = 0.5  # share of a GPU's memory that other processes may have before it is worth a word


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ok; warn when something will not work or will be slow; fail when nothing will run.
        name: what was looked at.
        what: what was found.
        hint: what to do about it; empty when all is well.
    """

    level: Level
    name: str
    what: str
    hint: str = ""


def examine(*, runs: Path = Path("runs"), reports: Path = Path("reports")) -> list[Finding]:
    """Look at Python, torch, GPUs, disk, defaults, images, storage and the right to write, in this order.

    Args:
        runs: folder that ledgers would be kept in.
        reports: folder that reports would be written to.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("libraries", _libraries),
        ("torch", _torch),
        ("disk", lambda: _disk(runs)),
        ("defaults", _defaults),
        ("images", _images),
        ("storage", lambda: _storage(runs)),
        ("write access", lambda: _writing(runs, reports)),
    ]
    found: list[Finding] = []
    for name, look in looks:
        try:
            found += look()
        except Exception as error:  # noqa: BLE001 - a doctor that falls ill says what of, and goes on
            hint = (
                error.hint
                if isinstance(error, HarnessError)
                else "report this with the whole output of `harness doctor`"
            )
            if any((one.level, one.name) == ("fail", "torch") for one in found):
                hint = "see torch, above: it reads the images"
            found.append(
                Finding("fail", name, f"{type(error).__name__}: {error}".splitlines()[0], hint)
            )
    return found


def _python() -> Iterator[Finding]:
    told = f"{platform.python_version()} in {sys.prefix}"
    old = sys.version_info[:2] < _OLDEST_PYTHON
    yield Finding(
        "fail" if old else "ok", "python", told, "harness needs Python 3.11 or newer" if old else ""
    )
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    yield Finding("ok", "cores", f"{cores} that this process may use")


def _libraries() -> Iterator[Finding]:
    """Whether what the package declares is installed; nothing is imported."""
    try:
        required = importlib.metadata.requires("harness") or []
        version = importlib.metadata.version("harness")
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "warn",
            "libraries",
            "harness runs from a checkout and is not installed",
            "pip install -e .",
        )
        return
    names = [_name_of(line) for line in required if "extra ==" not in line]
    missing = [name for name in names if not _installed(name)]
    if missing:
        hint = f"pip install {' '.join(missing)}"
        yield Finding("fail", "libraries", f"not installed: {', '.join(missing)}", hint)
    else:
        yield Finding("ok", "libraries", f"harness {version} and all {len(names)} that it needs")


def _name_of(requirement: str) -> str:
    """The name at the start of a requirement as metadata hold it: ``numpy>=1.26`` or ``psycopg[binary]>=3.1``."""
    end = next(
        (i for i, sign in enumerate(requirement) if not (sign.isalnum() or sign in "-_.")),
        len(requirement),
    )
    return requirement[:end]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _torch() -> Iterator[Finding]:
    try:
        from harness.train.probe import probe
    except Exception as error:  # noqa: BLE001 - a broken pair of torch and torchvision raises what it likes
        failure = f"its import fails: {error}".splitlines()[0]
        yield Finding(
            "fail",
            "torch",
            failure,
            "install torch and torchvision together, from one place, so that they match",
        )
        return
    found = probe()
    build = f"built for CUDA {found.cuda}" if found.cuda else "built without CUDA"
    yield Finding("ok", "torch", f"{found.torch}, {build}")
    yield from _others(found.others)
    if not found.gpus and not found.others:
        if shutil.which("nvidia-smi") is None:
            yield Finding(
                "ok", "gpu", "none: profiles quick and small fit, full is meant for a GPU"
            )
        else:
            hint = (
                "install the torch build for your driver's CUDA"
                if not found.cuda
                else "see what `nvidia-smi` says"
            )
            yield Finding(
                "warn", "gpu", "the machine has NVIDIA's driver, but torch sees no GPU", hint
            )
    for index, gpu in enumerate(found.gpus):
        name = f"gpu {index}"
        bf16 = "bf16" if gpu.bf16 else "no bf16 of its own"
        told = f"{gpu.name}, {gpu.memory_gib:.0f} GiB ({gpu.free_gib:.0f} free), capability {gpu.capability}, {bf16}"
        if gpu.fault:
            yield Finding(
                "fail",
                name,
                f"{gpu.name}: {gpu.fault}",
                "install a torch build for this GPU, or use --device cpu",
            )
        elif gpu.free_gib < (1.0 - _IN_USE) * gpu.memory_gib:
            yield Finding(
                "warn",
                name,
                told,
                "other processes hold much of its memory: times will not be comparable",
            )
        else:
            yield Finding("ok", name, told)
        yield from _clocks(f"{name} clocks", gpu.held_down)


def _others(others: Sequence[Accelerator]) -> Iterator[Finding]:
    """Accelerators that are no CUDA devices; what they can do is what the README's limits say."""
    for other in others:
        if other.fault:
            hint = "update torch and the system, or use --device cpu"
            yield Finding("fail", other.device, f"{other.name}: {other.fault}", hint)
        else:
            what = f"{other.name}, {other.free_gib:.0f} GiB free: the eager engine, fp32"
            yield Finding("ok", other.device, what)


def _clocks(name: str, held_down: str) -> Iterator[Finding]:
    if not _installed("nvidia-ml-py"):
        yield Finding(
            "warn",
            name,
            "not read",
            "pip install 'harness[energy]' to have clocks, energy and temperature recorded",
        )
    elif held_down:
        yield Finding(
            "warn",
            name,
            f"held down by {held_down}",
            "let it cool, or raise its power limit, before timing anything",
        )
    else:
        yield Finding("ok", name, "not held down")


def _disk(runs: Path) -> Iterator[Finding]:
    from harness.train import data

    places = dict.fromkeys([_nearest(runs), _nearest(data.data_root())])
    for place in places:
        free = shutil.disk_usage(place).free / 2**30
        level: Level = "fail" if free < _TOO_LITTLE_GIB else "warn" if free < _LITTLE_GIB else "ok"
        hint = "" if level == "ok" else "make room: ledgers, curves and decoded images go there"
        yield Finding(level, "disk", f"{free:.1f} GiB free at {place}", hint)


def _defaults() -> Iterator[Finding]:
    from harness.config import find_defaults

    lines = find_defaults().lines()
    for line in lines:
        yield Finding("ok", "defaults", line)
    if not lines:
        yield Finding(
            "ok",
            "defaults",
            "none: no harness.toml here or above, no [tool.harness] in pyproject.toml",
        )


def _images() -> Iterator[Finding]:
    from harness.train import data

    known = data.describe()
    here = [info.name for info in known if info.present]
    yield Finding(
        "ok" if here else "fail",
        "images",
        f"here: {', '.join(here) or 'none'}; data root {data.data_root()}",
    )
    chosen = os.environ.get("HARNESS_DATA")
    if chosen and not Path(chosen).expanduser().is_dir():
        yield Finding(
            "warn", "HARNESS_DATA", f"{chosen} is no folder", "make it, or unset the variable"
        )
    cifar = next(info for info in known if info.name == "cifar10")
    if not cifar.present:
        yield Finding("warn", "cifar10", "not here: profiles small and full need it", cifar.how)


def _storage(runs: Path) -> Iterator[Finding]:
    """Write a journal where ledgers would go, and read it back through its lock."""
    import optuna

    from harness.ledger.storage import open_storage

    with tempfile.TemporaryDirectory(prefix=".harness-doctor-", dir=_nearest(runs)) as folder:
        opened = open_storage(Path(folder) / "journal.log")
        try:
            study = optuna.create_study(storage=opened.storage, study_name="doctor")
            study.tell(study.ask(), 0.5)
            kept = optuna.load_study(storage=opened.storage, study_name="doctor").best_value
        finally:
            opened.close()
    if kept == 0.5:
        yield Finding(
            "ok",
            "storage",
            f"an Optuna {optuna.__version__} journal can be locked, written and read at {_nearest(runs)}",
        )
    else:
        yield Finding(
            "fail",
            "storage",
            f"a journal at {_nearest(runs)} gave back {kept} for 0.5",
            "use --storage on a local disk",
        )


def _writing(runs: Path, reports: Path) -> Iterator[Finding]:
    for name, path in (("runs", runs), ("reports", reports)):
        place = _nearest(path)
        if path.exists() and not path.is_dir():
            problem = f"{path.absolute()} is a file, and a run needs a folder there"
            yield Finding("fail", f"write {name}", problem, "move it away")
        elif _can_write(place):
            yield Finding("ok", f"write {name}", str(path.absolute()))
        else:
            yield Finding(
                "fail",
                f"write {name}",
                f"you may not write to {place}",
                "run it in a folder of your own",
            )
    # after the folders of runs: where torch is broken, those are still told
    from harness.train import data

    root = data.data_root()
    if not _can_write(_nearest(root)):
        hint = "decoded images are kept in the user's cache folder instead"
        yield Finding("warn", "write data", f"you may not write to {root}", hint)


def _can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder; a folder whose mode forbids it counts as closed, even to root."""
    try:
        if not folder.stat().st_mode & 0o222:
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path
