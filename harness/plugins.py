"""Code that a study names: ``path/to/file.py:function`` or ``package.module:function``.

It is run only because somebody named it on the command line or in a study file of their own. Its
source is hashed into the cell key, so that editing it makes new cells.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import HarnessError, UsageError, did_you_mean

# torchvision:resnet18 is no module's attribute but a net that torchvision lists
LIBRARY = "torchvision:"


def is_plugin(name: str) -> bool:
    """Return whether a name is of the form ``place:attribute``."""
    place, colon, attribute = name.rpartition(":")
    return bool(place and colon and attribute.isidentifier())


def load_plugin(name: str, *, what: str) -> Any:
    """Return what a name names.

    Args:
        name: ``path/to/file.py:attribute``, relative to the working folder, or
            ``package.module:attribute``.
        what: what it is to be, for errors: "metric", "runner".

    Raises:
        UsageError: it does not import, or has no such attribute.
    """
    place, _, attribute = name.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
    except HarnessError:
        raise
    except Exception as error:  # whatever a user's file raises when it is run
        raise UsageError(
            f"could not import the {what} {name!r}: {_told(error)}",
            "check its path and its imports",
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        there = [key for key in vars(module) if not key.startswith("_")]
        raise UsageError(
            f"{place} has no {attribute!r}, which is to be the {what}{did_you_mean(attribute, there)}",
            f"it has: {', '.join(there) or 'nothing'}",
        )
    return found


def code_fingerprint(names: Iterable[str]) -> str:
    """Return 16 hexadecimal digits over the source files of plug-ins, in the order of their names; empty without any.

    Files that are named are read and not run. What they import is not looked at.

    Raises:
        UsageError: one of them is missing or has no source.
    """
    sources = [_source(name) for name in sorted(set(names)) if not name.startswith(LIBRARY)]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16] if sources else ""


def _source(name: str) -> bytes:
    place = name.rpartition(":")[0]
    try:
        if place.endswith(".py"):
            return Path(place).read_bytes()
        with _working_folder_importable():
            spec = importlib.util.find_spec(place)
        if spec is not None and spec.origin and spec.has_location and spec.origin.endswith(".py"):
            return Path(spec.origin).read_bytes()
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(
            f"could not import the plug-in {name!r}: {_told(error)}", "check its path"
        ) from error
    raise UsageError(
        f"plug-in {name!r} has no source file to fingerprint",
        "name a function of a Python file",
    )


def _told(error: BaseException) -> str:
    return (
        str(error)
        if isinstance(error, (ImportError, OSError, SyntaxError))
        else f"{type(error).__name__}: {error}"
    )


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """Let modules of the working folder be found, as ``python -m`` does; an installed program has its own folder there."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _from_module(name: str) -> ModuleType:
    with _working_folder_importable():
        return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module of its own; the same text at the same place is run once in a process."""
    resolved = path.resolve()
    source = resolved.read_bytes()
    name = f"_harness_plugin_{hashlib.sha256(str(resolved).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # before it runs, as the import system does, so that its classes can be found by name
    sys.modules[name] = module
    # its neighbours can be imported, as when Python is given the file
    folder = str(resolved.parent)
    sys.path.append(folder)
    try:
        # compiled from what was read: an import by file name would take the bytecode of an edit
        # within the same second
        exec(compile(source, str(resolved), "exec"), module.__dict__)  # noqa: S102 - the file that the user named
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
    return module
