"""Where the trials of a user's script run: nothing of it can be timed, so one runs at a time on each device."""

from __future__ import annotations

from dataclasses import dataclass

from harness.study.study import Study


@dataclass(frozen=True, slots=True)
class Places:
    """``workers`` processes dealt out to ``devices``, each told to use ``threads`` CPU threads, and why."""

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
