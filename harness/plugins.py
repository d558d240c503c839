"""Code that a study names: ``path/to/file.py:function`` or ``package.module:function``.

It is run only because somebody named it on the command line or in a study file of their own. Its
source, and that of the local modules that it imports, is hashed into the cell key, so that editing
them makes new cells.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import HarnessError, UsageError, did_you_mean

# torchvision:resnet18 is no module's attribute but a net that torchvision lists
LIBRARIES = ("torchvision:", "timm:")


def is_plugin(name: str) -> bool:
    """Return whether a name is of the form ``place:attribute``, or a net of a library (``timm:resnet18.a1_in1k``)."""
    place, colon, attribute = name.rpartition(":")
    if f"{place}:" in LIBRARIES:
        attribute = attribute.replace(".", "_")
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


def code_fingerprint(names: Iterable[str], *, follow: bool = True) -> str:
    """Return 16 hexadecimal digits over the source files of plug-ins, in the order of their names; empty without any.

    Files are read and not run.

    Args:
        names: ``place:attribute`` each.
        follow: whether the local modules that they import count, too.

    Raises:
        UsageError: one of them is missing or has no source.
    """
    named = [name for name in sorted(set(names)) if not name.startswith(LIBRARIES)]
    files = [_source_file(name) for name in named]
    sources = [_read(name, file) for name, file in zip(named, files, strict=True)]
    for module, file in local_imports(file for file in files if _is_local(file)) if follow else ():
        sources.append(module.encode() + b"\0" + _read(module, file))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16] if sources else ""


def _read(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"could not read plug-in {name!r}: {error}", "check its path") from error


def _source_file(name: str) -> Path:
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place)
    try:
        with _working_folder_importable():
            spec = importlib.util.find_spec(place)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(
            f"could not import the plug-in {name!r}: {_told(error)}", "check its path"
        ) from error
    if spec is not None and spec.origin and spec.has_location and spec.origin.endswith(".py"):
        return Path(spec.origin)
    raise UsageError(
        f"plug-in {name!r} has no source file to fingerprint",
        "name a function of a Python file",
    )


def _is_local(file: Path) -> bool:
    """Whether a file is code of this project and not of an installed package, whose version is its own business."""
    return not file.is_absolute() or (
        file.is_relative_to(Path.cwd()) and not {"site-packages", "dist-packages"} & {*file.parts}
    )


def local_imports(files: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return the local modules that Python files import, and those import in turn, without the files themselves.

    Local are the folder of the file, the working folder and ``src`` in it. Imports are read from
    the source, those inside of functions too; a module whose name is only put together at run time
    is not seen. Nothing is run.

    Returns:
        (path within its folder, file), in order.
    """
    entries = [file for file in files if file.suffix == ".py"]
    seen = {file.resolve() for file in entries}
    found: set[tuple[str, Path]] = set()
    for entry in entries:
        roots = list(dict.fromkeys((entry.resolve().parent, Path.cwd(), Path.cwd() / "src")))
        open_ = [entry.resolve()]
        while open_:
            importer = open_.pop()
            for root, module in _imported(importer, roots):
                if module not in seen:
                    seen.add(module)
                    open_.append(module)
                    found.add((Path(os.path.relpath(module, root)).as_posix(), module))
    return sorted(found)


def _imported(importer: Path, roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (root, file) of what one file imports from its own package or from some roots."""
    try:
        tree = ast.parse(importer.read_bytes())
    except (OSError, SyntaxError, ValueError):  # running it will say what is wrong
        return
    for level, parts in _names_of(tree):
        if level:  # of the package that the importer is in
            package = importer.parents[level - 1] if level <= len(importer.parents) else None
            places = [package] if package is not None else []
        else:
            # the folder of the file comes before the standard library, the others behind it
            places = list(roots[:1] if parts[0] in sys.stdlib_module_names else roots)
        for place in places:
            modules = _modules(place, parts)
            if modules:
                outer = next((root for root in roots if place.is_relative_to(root)), place)
                yield from ((outer, module.resolve()) for module in modules if _is_theirs(module))
                break


def _names_of(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield (dots before it, parts of its name) of every module that a file may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if base:
                yield node.level, base
            # what is imported may be a module itself
            yield from ((node.level, [*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            literal = isinstance(name, str) and name and not name.startswith(".")
            if called in ("import_module", "__import__") and literal:
                yield 0, str(name).split(".")


def _modules(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return the files that importing a dotted name from a folder runs: the packages on the way, and the module."""
    found, folder = [], root
    for part in parts:
        package, module = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            found.append(package)
        elif module.is_file():
            return [*found, module]
        elif not (folder / part).is_dir():
            break
        folder /= part
    return found


def _is_theirs(module: Path) -> bool:
    """Whether a module is not one of harness's own, for whose results ENGINE answers."""
    return not module.resolve().is_relative_to(Path(__file__).resolve().parent)


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
