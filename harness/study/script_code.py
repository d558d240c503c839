"""Which command a cell of a script study runs, and the fingerprint of the code that it runs.

Two fingerprints differ: that of the training says which runs on disk are the same piece of work,
that of a cell also holds the rules by which the result is read. After a rule is mended every cell
is a new one, and its run is read again from disk.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.plugins import code_fingerprint, load_plugin, local_imports
from harness.study.arms import arms
from harness.study.recipe import Recipe, digest
from harness.study.script_metrics import TENSORBOARD
from harness.study.script_settings import expand, placeholders
from harness.study.study import Study
from harness.study.trial import Cell

_PYTHON = ("python", "python3")


def command_line(study: Study, values: Mapping[str, Any]) -> list[str]:
    """Return the words of a study's command with its placeholders filled in; ``python`` is the one that runs this."""
    words = expand(study.command, values)
    return [sys.executable if words[0] in _PYTHON else words[0], *words[1:]]


def isolated_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command for another working folder: those that are paths of something here become absolute.

    A plain name is left alone: ``train`` may be a folder here and an action of the script.
    """
    return [words[0] if words[0] == sys.executable else _absolute(words[0])] + [
        _absolute(word) for word in words[1:]
    ]


def _absolute(word: str) -> str:
    option, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
    is_path = ("/" in value or "." in value) and not Path(value).is_absolute()
    if is_path and Path(value).exists():
        return f"{option}{equals}{Path(value).resolve()}"
    return word


def check_script(study: Study) -> str:
    """Make sure that a study's script is there, before anything is planned.

    Returns:
        the fingerprint of its code, over all arms: of the command's words, of every file among
            them and of the local modules that those import, or of the function's file.

    Raises:
        UsageError: the program, a file or the function is not there, or the function does not take
            what it is given.
    """
    if any(rule.from_ == TENSORBOARD for rule in study.metrics.values()) and (
        importlib.util.find_spec("tensorboard") is None
    ):
        raise UsageError(
            "reading TensorBoard's events needs tensorboard", "pip install 'harness[tensorboard]'"
        )
    if study.runner:
        _check_function(study.runner)
    else:
        _check_program(study.command[0])
        for name in study.isolate if isinstance(study.isolate, tuple) else ():
            if not Path(name).exists():
                raise UsageError(
                    f"isolate: there is no {name!r} to link", f"the working folder is {Path.cwd()}"
                )
    return _with_rules(study, _training(study, [arm.recipe for arm in arms(study)]))


def script_code(study: Study, recipe: Recipe) -> str:
    """Return the fingerprint of the code and the rules of one arm, which is part of its cells' keys."""
    return _with_rules(study, _training(study, [recipe]))


def work_key(study: Study, cell: Cell) -> str:
    """Return the key of a cell's training: that of a cell whose result is read by no rule."""
    return Cell.of(cell.recipe, cell.seed, "", _training(study, [cell.recipe])).key


def _with_rules(study: Study, training: str) -> str:
    rules = {name: rule.reading() for name, rule in study.metrics.items() if rule.reading()}
    return digest([training, rules]) if rules else training


def _training(study: Study, recipes: Iterable[Recipe]) -> str:
    """Return the fingerprint of what is run for some recipes."""
    if study.runner:
        return code_fingerprint([study.runner], follow=study.hash_imports)
    digest_ = hashlib.sha256(repr(study.command).encode())
    if study.env:
        digest_.update(repr(sorted(study.env.items())).encode())
    files = _files(study.command)
    for index, file in files:
        digest_.update(_digest_of(file, f"command[{index}]"))

    # an arm may name its script: {script} is another file for every one of them
    own = _files_of_arms(study, recipes)
    for file in own:
        digest_.update(str(file).encode() + _digest_of(file, "command"))
    sources = [file for _, file in files] + own
    for name, file in local_imports(sources) if study.hash_imports else ():
        digest_.update(name.encode() + _digest_of(file, name))
    return digest_.hexdigest()[:16]


def _digest_of(file: Path, place: str) -> bytes:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise UsageError(
            f"{place}: {str(file)!r} is unreadable: {error.strerror or error}",
            f"paths start from the working folder, {Path.cwd()}",
        ) from None


def _files(command: Sequence[str]) -> list[tuple[int, Path]]:
    """The words of a command that are files, or should be: a path of an existing file, a .py, the module after ``-m``."""
    found = []
    for index, word in enumerate(command):
        if "{" in word or (index == 0 and "/" not in word):
            continue
        path = Path(word)
        if index and command[index - 1] == "-m":
            path = Path(*word.split("."))
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            if not path.is_file():  # an installed package's, whose version is its own business
                continue
        if path.suffix == ".py" or path.is_file():
            found.append((index, path))
    return found


def _files_of_arms(study: Study, recipes: Iterable[Recipe]) -> list[Path]:
    """The Python files that settings put into the command, in order."""
    files = set()
    for recipe in recipes:
        for word in study.command:
            if placeholders(word):
                words = expand([word], {**recipe.flat(), "seed": 0, "out": ""})
                files |= {Path(filled) for filled in words if filled.endswith(".py")}
    return sorted(files)


def _check_program(program: str) -> None:
    if placeholders(program) or program in _PYTHON or shutil.which(program) is not None:
        return
    raise UsageError(
        f"command[0]: there is no program {program!r}",
        f"paths start from the working folder, {Path.cwd()}",
    )


def _check_function(name: str) -> None:
    function = load_plugin(name, what="runner")
    if not callable(function):
        raise UsageError(f"runner {name!r} is a {type(function).__name__}, not a function", _TAKES)
    try:
        inspect.signature(function).bind(seed=0, settings={}, out=Path())
    except TypeError as error:
        raise UsageError(
            f"runner {name!r} does not take what it is called with: {error}", _TAKES
        ) from None
    except ValueError:  # built in, without a signature: its first call will show
        return


_TAKES = "it takes (*, seed, settings, out) and returns its metrics, or writes metrics.json into the folder out"
