"""Where a run's workers are: processes of this machine, or tasks of a SLURM or Ray cluster."""

from __future__ import annotations

import importlib.util
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import LAUNCHERS, Launcher
from harness.errors import UsageError, did_you_mean
from harness.study.study import Study

if TYPE_CHECKING:
    from harness.study.recipe import Recipe
    from harness.train.timing import Layout
    from harness.workers.cluster import Ask
    from harness.workers.join import LaunchResult

RUNS = Path("runs")
_LAUNCHERS = "launchers: local, slurm or ray"
_MODULES = {"slurm": "submitit", "ray": "ray"}


@dataclass(frozen=True, slots=True)
class Place:
    """What starts the workers.

    Attributes:
        launcher: local, slurm or ray.
        ask: what a task asks a cluster for; None for the launcher's defaults.
    """

    launcher: Launcher = "local"
    ask: Ask | None = None

    @property
    def here(self) -> bool:
        """Whether workers are processes of this machine."""
        return self.launcher == "local"

    def device(self, asked: str) -> str:
        """Return the device of the trials: on a cluster, what the tasks ask for decides, and not what this machine has."""
        if self.here:
            return asked
        return (
            "cuda"
            if asked == "cuda" or (asked == "auto" and self.ask is not None and self.ask.gpus > 0)
            else "cpu"
        )

    def timed_on(self, asked: str) -> str:
        """Return the device that steps are timed on: of a cluster, nothing is known but this machine's CPU."""
        return asked if self.here else "cpu"

    def check(self, *, device: str, workers: int | None, timeout: float | None) -> None:
        """Check what can be checked before anything is timed.

        Raises:
            UsageError: there is no such launcher, or a cluster is asked for what only this machine
                has.
        """
        from harness.commands.choose_profile import check_device

        if self.launcher not in LAUNCHERS:
            raise UsageError(
                f"there is no launcher {self.launcher!r}{did_you_mean(self.launcher, LAUNCHERS)}",
                _LAUNCHERS,
            )
        if self.here:
            check_device(device)
            return
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"device {device!r} is one of this machine", "on a cluster: --device cpu or cuda"
            )
        if self.launcher == "slurm" and shutil.which("sbatch") is None:
            raise UsageError(
                "there is no SLURM here: no `sbatch` is found",
                "run it on a login node of the cluster",
            )
        module = _MODULES[self.launcher]
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"the {self.launcher} launcher needs {module}",
                f"pip install 'harness[{self.launcher}]'",
            )
        if workers is None and timeout != 0:
            raise UsageError(
                f"the {self.launcher} launcher needs the number of tasks to send",
                "`--workers 20`, or `workers = 20` in harness.toml",
            )

    def check_script(self) -> None:
        """Refuse to send a study that runs a script to a cluster.

        Raises:
            UsageError: it would be sent to one.
        """
        if not self.here:
            raise UsageError(
                f"a study that runs a script is not sent to {self.launcher}",
                "`--launcher local`, or `harness worker` in a job of your own",
            )

    def layout(self, recipe: Recipe, *, device: str, workers: int | None) -> Layout:
        """Time some steps here and decide how trials are run; on a cluster, the number of tasks is the user's."""
        from harness.train.timing import choose_layout

        if self.here:
            return choose_layout(recipe, device=device, workers=workers)
        # timed all the same: the plan names a cost, and a recipe that cannot run fails here
        layout = choose_layout(recipe, device=self.timed_on(device), workers=workers or 1)
        if self.device(device) == "cpu":
            return replace(layout, why=f"tasks of {self.launcher}")
        return replace(
            layout,
            devices=("cuda",),
            why=f"tasks of {self.launcher}; timed on this machine's CPU, a GPU takes less",
            engine="auto",
            why_engine="each task chooses on its GPU",
        )

    def start(
        self,
        layout: Layout | Places,
        *,
        name: str,
        storage: str | None,
        artifacts: str | None,
        runs: Path,
        workers: int,
        deadline: float | None,
        on_event: Any,
    ) -> LaunchResult:
        """Start the workers on a planned study, and follow them until they leave."""
        from harness.workers.cluster import Ask, run_ray, run_slurm
        from harness.workers.local import run_local

        named: dict[str, Any] = {
            "name": name,
            "storage": storage,
            "artifacts": artifacts,
            "runs": runs,
            "on_event": on_event,
        }
        if self.here:
            return run_local(
                **named,
                workers=workers,
                devices=layout.devices,
                threads=layout.threads,
                deadline=deadline,
            )
        ask = self.ask or Ask()
        gpus = (ask.gpus or 1.0) if layout.devices == ("cuda",) else 0.0
        # fewer cores than threads would share them
        ask = replace(ask, cpus=max(ask.cpus, layout.threads), gpus=gpus)
        # clocks differ between machines: what crosses is how long, not until when
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        run = run_slurm if self.launcher == "slurm" else run_ray
        return run(**named, workers=workers, ask=ask, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Places:
    """``workers`` processes dealt out to ``devices``, ``threads`` CPU threads for each, and why."""

    workers: int
    threads: int
    devices: tuple[str, ...]
    why: str


def choose_places(study: Study, *, device: str, workers: int | None) -> Places:
    """Decide devices, processes and threads for a script.

    Args:
        study: with a command or a runner.
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        workers: number of processes, or None for one a GPU, or one in all on a CPU.
    """
    from harness.train.timing import count_gpus, usable_cores

    gpus = count_gpus() if device in ("auto", "cuda") else 0
    devices = tuple(f"cuda:{index}" for index in range(gpus)) or (
        "cpu" if device == "auto" else device,
    )
    count = workers or len(devices)
    what = "script" if study.command else "function"
    why = f"one {what} at a time{' on each GPU' if len(devices) > 1 else ''}; --workers runs more side by side"
    return Places(count, max(1, usable_cores() // count), devices, "as asked" if workers else why)
