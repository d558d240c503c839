"""The rules of the package as a whole: who imports what, who prints, who exits."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "harness").rglob("*.py"))
HEAVY = [
    "matplotlib",
    "numpy",
    "optuna",
    "pandas",
    "scipy",
    "seaborn",
    "sklearn",
    "torch",
    "torchvision",
]
LONGEST_FUNCTION = 60  # lines, without its docstring
USERS_EXTRAS = ["postgres", "slurm", "ray", "energy", "tensorboard", "excel", "timm", "dashboard"]
# A distribution that has another name than its module, for those that need not be installed where
# the tests run.
DISTRIBUTIONS = {"pynvml": "nvidia-ml-py", "optuna_dashboard": "optuna-dashboard"}
MACHINE_PATH = re.compile(r"(?<![\w./-])(/(?:home|Users|root)/|[A-Z]:\\Users\\)")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def module_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a module calls by name, ``sys.exit`` for example, and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def imports(path: Path) -> set[str]:
    """Return the top-level names that a module imports, wherever in it, without the standard library's and its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"harness"}


def declared() -> set[str]:
    """Return the distributions that the project or one of its extras for users depends on, in normal form."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in USERS_EXTRAS for line in extras[name])]
    return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}


def distributions_of(name: str) -> set[str]:
    """Return the distributions, in normal form, that provide a top-level module."""
    return {
        normal(found) for found in installed_modules().get(name, [DISTRIBUTIONS.get(name, name)])
    }


@functools.cache
def installed_modules() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def text_files() -> list[Path]:
    """Return the tracked files; in an unpacked source distribution, which has no history, all that is there."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file()]


@pytest.mark.parametrize("module", ["harness", "harness.cli"])
def test_importing_the_command_line_loads_no_heavy_library(module: str) -> None:
    done = run_python(
        f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def test_modules_import_only_what_the_contracts_allow() -> None:
    done = run_python(
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_every_library_that_a_module_imports_is_a_declared_dependency(path: Path) -> None:
    known = declared()
    assert {name for name in imports(path) if not distributions_of(name) & known} == set()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "console.py"], ids=module_id
)
def test_only_the_console_prints(path: Path) -> None:
    printing = {
        "print",
        "sys.stdout.write",
        "sys.stderr.write",
        "typer.echo",
        "typer.secho",
        "rich.print",
    }
    assert [(name, line) for name, line in calls(path) if name in printing] == []


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name != "cli"], ids=module_id
)
def test_only_the_command_line_exits(path: Path) -> None:
    leaving = {"sys.exit", "exit", "quit", "SystemExit", "typer.Exit", "typer.Abort"}
    assert [(name, line) for name, line in calls(path) if name in leaving] == []


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of every function of a module, with its classes', and its lines without its docstring."""

    def inside(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                here = (*names, child.name)
                if not isinstance(child, ast.ClassDef):
                    yield ".".join(here), code_lines(child)
                yield from inside(child, here)
            else:
                yield from inside(child, names)

    yield from inside(ast.parse(path.read_text(encoding="utf-8")), ())


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines from ``def`` to its end, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def class_names() -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name


def test_a_function_can_be_read_in_one_sitting() -> None:
    long = {
        f"{module_id(path)}: {name}"
        for path in MODULES
        for name, lines in functions(path)
        if lines > LONGEST_FUNCTION
    }
    assert long == set()


def test_a_class_name_is_used_once() -> None:
    assert {name for name, uses in Counter(class_names()).items() if uses > 1} == set()


def test_no_tracked_file_names_a_folder_of_somebodys_machine() -> None:
    found = []
    for path in text_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # an image, a table
            continue
        found += [f"{module_id(path)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    done = run_python("import harness; harness.nothing_of_this_name")
    assert "AttributeError: module 'harness' has no attribute 'nothing_of_this_name'" in done.stderr
