"""Code that a study names: ``path/to/file.py:function`` or ``package.module:function``.

It is run only because somebody named it on the command line or in a study file of their own. Its source is hashed into the cell
key, so that editing it makes new cells.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UsageError


def is_plugin(name: str) -> bool:
    """Return whether a name is of the form ``place:attribute``."""
    place, colon, attribute = name.rpartition(":")
    return bool(place and colon and attribute.isidentifier())


def load_plugin(name: str, *, what: str) -> Any:
    """Return what a name stands for.

    Args:
        name: ``path/to/file.py:attribute``, relative to the working folder, or ``package.module:attribute``.
        what: what it is to be, for errors: "metric", "runner".

    Raises:
        UsageError: it cannot be imported, or has no such attribute.
    """
    place, _, attribute = name.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as error:
        raise UsageError(f"{what} {name!r} cannot be imported: {error}", "check its path and what it imports") from error
    found = getattr(module, attribute, None)
    if found is None:
        there = ", ".join(key for key in vars(module) if not key.startswith("_"))
        raise UsageError(f"{place} has no {attribute!r}, which is named as the {what}", f"it has: {there or 'nothing'}")
    return found


def code_fingerprint(names: Iterable[str]) -> str:
    """Return 16 hexadecimal digits over the source files of plug-ins, in the order of their names; empty without any.

    Raises:
        UsageError: one of them cannot be imported or has no source.
    """
    sources = []
    for name in sorted(set(names)):
        found = load_plugin(name, what="plug-in")
        file = inspect.getsourcefile(inspect.unwrap(found)) if callable(found) else None
        if file is None:
            raise UsageError(f"plug-in {name!r} has no source file to be fingerprinted", "name a function of a Python file")
        sources.append(Path(file).read_bytes())
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16] if sources else ""


def _from_file(path: Path) -> ModuleType:
    resolved = path.resolve()
    name = f"_harness_plugin_{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as the import system does, so that its classes can be found by name
    spec.loader.exec_module(module)
    return module
