"""Every check of the project, by name: ``nox`` runs lint, types and tests, ``nox -s tests -- -k stats`` passes the rest on.

Where the dependencies come from: torch with its CUDA packages is several gigabytes, so an
environment a session is out of the question. A session runs in the present environment when that
has everything it needs; else, and always when CI is set, in one environment that all sessions
share, ``.nox/shared``, made once with the versions of constraints.txt and brought up to date when
that file or pyproject.toml changes. ``lowest`` and ``newest`` have environments of their own, which
take torch from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
SHARED = ROOT / ".nox" / "shared"
SHARED_EXTRAS = "dev"
CONSTRAINTS = ROOT / "constraints.txt"
# several gigabytes with their CUDA packages: taken from another environment where possible
HEAVY = ("torch", "torchvision")
KNOWN = ("--constraint", str(CONSTRAINTS))
# the lowest matplotlib calls what 3.3 warns of, and warnings are errors in tests
LATER = ["pyparsing<3.3"]
# its linter: 14.2
NEEDS_LATER_RICH = "tests/test_architecture.py::test_modules_import_only_what_the_contracts_allow"
MOST_PROCESSES = 4  # of the unit tests: each imports torch

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"
nox.needs_version = ">=2024.4"


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests: warnings are errors; no network, no GPU, no database."""
    unit_tests(session, environment(session, "test"))


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff's rules and format, the spelling, and who may import whom."""
    python = environment(session, "lint")
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(python, "-m", "codespell_lib", *listed_files())
    session.run(
        python,
        "-c",
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))",
    )


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy --strict over the package, its tests and this file."""
    python = environment(session, "types", "test")
    session.run(python, "-m", "mypy", *session.posargs)


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the program as a user does, and every command of README and docs, in a fresh clone: many minutes."""
    run_suite(session, "e2e", "dev")  # it installs the project into an environment


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a static site under build/docs; a broken link is an error."""
    python = environment(session, "docs")
    site = ROOT / "build" / "docs"
    shutil.rmtree(site, ignore_errors=True)
    session.run(python, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(site))
    session.log(f"open {site / 'index.html'}")


@nox.session
def evidence(session: nox.Session) -> None:
    """Simulate studies whose truth is known and print how often the program errs: minutes."""
    run_suite(session, "evidence", "test", options=["-s", "-q", "-p", "no:benchmark"])


@nox.session
def browser(session: nox.Session) -> None:
    """Read report pages in a real browser; needs Debian's chromium."""
    run_suite(session, "browser", "test", "browser")


@nox.session
def gpu(session: nox.Session) -> None:
    """Compare the engines on a CUDA device."""
    run_suite(session, "gpu", "test")


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, cut and fill whatever can be: PostgreSQL, Ray, full disks; many minutes."""
    run_suite(session, "faults", "test", "postgres", "slurm", "ray")


@nox.session
def bench(session: nox.Session) -> None:
    """Time the hot functions, save the figures and compare them with the run saved last."""
    saved = any((ROOT / ".benchmarks").rglob("*.json"))
    run_suite(
        session,
        "benchmarks",
        "test",
        "benchmark",
        options=["--benchmark-autosave", *(["--benchmark-compare"] if saved else [])],
    )


@nox.session
def lowest(session: nox.Session) -> None:
    """Unit tests with the lowest versions that pyproject.toml allows, torch's left out: many minutes, half a gigabyte."""
    python = environment_beside(session, "lowest")
    lightest = [f"{one.name}=={lower_bound(one)}" for one in light_requirements()]
    session.run(python, "-m", "pip", "install", "--quiet", *lightest, *LATER)
    unit_tests(session, python, "--deselect", NEEDS_LATER_RICH)


@nox.session
def newest(session: nox.Session) -> None:
    """Unit tests with the newest versions that there are, torch's left out: many minutes, up to half a gigabyte."""
    python = environment_beside(session, "newest")
    names = [one.name for one in light_requirements()]
    session.run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--upgrade-strategy",
        "eager",
        *names,
    )
    unit_tests(session, python)


@nox.session
def build(session: nox.Session) -> None:
    """Make the wheel, install it where the checkout cannot be seen, and run a study from another folder."""
    python = environment(session, "dev")
    scratch = Path(session.create_tmp()).resolve()
    shutil.rmtree(scratch)
    scratch.mkdir()
    session.run(
        python,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(scratch),
        str(ROOT),
        silent=True,
    )
    (wheel,) = scratch.glob("*.whl")
    session.log(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    clean = make_environment_beside(session, python, scratch / "env")
    session.run(clean, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    with session.chdir(elsewhere):
        env = {"PYTHONPATH": "", "HARNESS_DATA": str(elsewhere)}
        session.run(
            clean, "-I", "-c", WHEEL_CHECK.format(prefix=str(scratch), root=str(ROOT)), env=env
        )
        harness = str(Path(clean).with_name("harness"))
        session.run(harness, "--help", silent=True, env=env)
        session.run(
            harness,
            "ablate",
            "--study",
            "augmentations",
            "--profile",
            "quick",
            *session.posargs,
            env=env,
        )


WHEEL_CHECK = """
import importlib.metadata, pathlib, harness
home = pathlib.Path(harness.__file__).resolve()
if not home.is_relative_to({prefix!r}): raise SystemExit(f"harness was imported from {{home}}, not from the wheel")
studies = sorted(path.name for path in (home.parent / "_studies").glob("*.toml"))
shipped = sorted(path.name for path in pathlib.Path({root!r}, "studies").glob("*.toml"))
if studies != shipped: raise SystemExit(f"the wheel holds the studies {{studies}}, the checkout {{shipped}}")
tops = sorted({{path.parts[0] for path in importlib.metadata.files("harness") if ".dist-info" not in path.parts[0]}} - {{".."}})
if tops != ["harness"]: raise SystemExit(f"the wheel installs {{tops}}")
if not (home.parent / "py.typed").is_file(): raise SystemExit("the wheel does not say that it is typed")
"""


def unit_tests(session: nox.Session, python: str, *options: str) -> None:
    """Run the unit tests in an environment, a process a core."""
    cores = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        MOST_PROCESSES,
    )
    session.run(
        python,
        "-m",
        "pytest",
        "--numprocesses",
        str(cores),
        "-p",
        "no:benchmark",
        *options,
        *session.posargs,
    )


def run_suite(
    session: nox.Session, folder: str, *extras: str, options: list[str] | None = None
) -> None:
    """Run the tests of a folder that `nox -s tests` leaves out."""
    if not any((ROOT / "tests" / folder).rglob("test_*.py")):
        session.skip(f"tests/{folder} holds no test yet")
    python = environment(session, *extras)
    session.run(python, "-m", "pytest", f"tests/{folder}", *(options or []), *session.posargs)


def environment(session: nox.Session, *extras: str) -> str:
    """Return the Python to use, and say which: the present one if it has the extras' dependencies, else the shared one.

    Nothing is ever installed into the present environment.
    """
    # tests start subprocesses in other folders; harness may not be installed here
    session.env["PYTHONPATH"] = str(ROOT)
    if not os.environ.get("CI"):
        for python in dict.fromkeys(filter(None, [sys.executable, shutil.which("python3")])):
            missing = missing_requirements(python, extras)
            if not missing:
                session.log(f"running in the present environment: {python}")
                return python
            session.log(
                f"{python} lacks {', '.join(missing[:4])}{' and more' if len(missing) > 4 else ''}"
            )
    return shared_environment(session, extras)


def shared_environment(session: nox.Session, extras: tuple[str, ...]) -> str:
    """Return the Python of the environment that all sessions share, made or brought up to date first if that is due."""
    python = python_of(SHARED)
    stamp = SHARED / "stamp"
    declared = (ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    wanted = hashlib.sha256(declared + sys.version.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        session.log(f"installing the project and its dependencies into {SHARED.relative_to(ROOT)}")
        session.run(sys.executable, "-m", "venv", "--clear", str(SHARED))
        session.run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            *KNOWN,
            "--editable",
            f"{ROOT}[{SHARED_EXTRAS}]",
        )
        stamp.write_text(wanted)
    missing = missing_requirements(python, extras)
    if missing:  # what only one session needs: a browser's driver, a database's client
        session.run(python, "-m", "pip", "install", "--quiet", *KNOWN, *missing)
    session.log(f"running in the shared environment: {SHARED.relative_to(ROOT)}")
    return python


def python_of(folder: Path) -> str:
    """Return the Python of a virtual environment."""
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def requirements(extras: tuple[str, ...]) -> list[Requirement]:
    """Return what the project needs, with some of its extras, extras that name extras followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [*project["dependencies"], *(f"{project['name']}[{extra}]" for extra in extras)]
    found: dict[str, Requirement] = {}
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == project["name"]:
            waiting += [
                line
                for extra in requirement.extras
                for line in project["optional-dependencies"][extra]
            ]
        else:
            found[str(requirement)] = requirement
    return [found[line] for line in sorted(found)]


def missing_requirements(python: str, extras: tuple[str, ...]) -> list[str]:
    """Return the requirements that an environment does not fulfil, as pip takes them."""
    wanted = requirements(extras)
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def version(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run(  # noqa: S603 - a Python and names from pyproject.toml
        [python, "-c", code, *(requirement.name for requirement in wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return [str(requirement) for requirement in wanted]
    versions: dict[str, str | None] = json.loads(done.stdout)
    return [
        str(requirement)
        for requirement in wanted
        if (version := versions[requirement.name]) is None
        or not requirement.specifier.contains(version, prereleases=True)
    ]


def make_environment_beside(session: nox.Session, python: str, folder: Path) -> str:
    """Make an environment that sees the libraries of another, but not the project: no `.pth` file there is read.

    A second copy of torch would take gigabytes and minutes; a folder on sys.path by itself is no
    site folder, so that an editable install in it stays invisible.
    """
    session.run(python, "-m", "venv", str(folder))
    clean = python_of(folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    libraries = str(session.run(python, "-c", where, silent=True)).strip()
    own = Path(str(session.run(clean, "-c", where, silent=True)).strip())
    (own / "libraries.pth").write_text(libraries + "\n", encoding="utf-8")
    return clean


def environment_beside(session: nox.Session, name: str) -> str:
    """Return the Python of ``.nox/<name>``, made again: it has torch, pytest and all else from the environment of the tests."""
    folder = SHARED.with_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    return make_environment_beside(session, environment(session, "test"), folder)


def light_requirements() -> list[Requirement]:
    """Return what the package itself needs, but torch."""
    return [one for one in requirements(()) if one.name not in HEAVY]


def lower_bound(requirement: Requirement) -> str:
    """Return the lowest version that a requirement allows: every one states it."""
    (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
    return bound


def listed_files() -> list[str]:
    """Return the tracked files that people wrote; generated ones in reports are spelled by the templates."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return [
        name
        for name in listed.split("\0")
        if name and (ROOT / name).is_file() and not name.startswith("reports/")
    ] or ["."]
