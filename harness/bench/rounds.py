"""Interleaved timing: A B C, C B A, A B C, ... so that a machine that slows down slows them all.

Each case is warmed up by itself first, which also tells how often it has to be called to be worth a
look at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from harness.bench.result import Sample
from harness.train.capture import wait

# at least, of one timed stretch: far above the clock's and the scheduler's grain
SAMPLE_SECONDS = 0.15
FEWEST_ROUNDS = 3


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to be timed.

    Attributes:
        name: as in the results.
        call: does one unit of it and returns the images it got through; a ceiling returns what it is worth in images.
        reference: name of the case it is compared with.
        ceiling: name of the case that bounds it.
        threads: CPU threads of torch while it runs.
        alone: whether all its work is done by this process's own threads, so that their time can be compared with the clock's.
        close: gives back what it holds.
    """

    name: str
    call: Callable[[], float]
    reference: str | None = None
    ceiling: str | None = None
    threads: int = 1
    alone: bool = True
    close: Callable[[], None] = _nothing


def measure(
    cases: Sequence[Case],
    *,
    device: str,
    rounds: int | None,
    seconds: float,
    on_case: Callable[[str, int, int], object],
    sample_seconds: float = SAMPLE_SECONDS,
) -> list[Sample]:
    """Time cases against each other.

    Args:
        cases: in the order of the first round.
        device: waited for around each stretch.
        rounds: so many; None for as many as the time allows.
        seconds: after which no round is begun, once there are ``FEWEST_ROUNDS``; warm-up included.
        on_case: called before each stretch with the case's name, the round, -1 for warming up, and
            the rounds that there should be in all.
        sample_seconds: length of a timed stretch, at least.

    Returns:
        One sample a case and round.
    """
    started = time.perf_counter()
    calls: dict[str, int] = {}
    expected = rounds or FEWEST_ROUNDS
    longest = 0.0  # of a round; before the first what its stretches should take
    for case in cases:
        on_case(case.name, -1, expected)
        calls[case.name], case_seconds = _warm(case, device, sample_seconds)
        longest += calls[case.name] * case_seconds

    samples: list[Sample] = []
    turn = 0
    while True:
        began = time.perf_counter()
        if rounds is None:
            more = int((seconds - (began - started)) / max(longest, 1e-6))
            expected = max(FEWEST_ROUNDS, turn + max(more, 0))
        if turn >= expected:
            break
        # in turns forwards and backwards, so that nobody always follows the same neighbour
        for case in cases if turn % 2 == 0 else cases[::-1]:
            on_case(case.name, turn, expected)
            samples.append(_sample(case, turn, calls[case.name], device))
        took = time.perf_counter() - began
        # the longest round so far is what one more may take
        longest = took if turn == 0 else max(longest, took)
        turn += 1
    return samples


def _warm(case: Case, device: str, sample_seconds: float) -> tuple[int, float]:
    """Call a case until it is warm; return how many calls make a sample, and the seconds of one."""
    case_seconds = 0.0
    # the first call builds caches and compiles; the second is timed
    for _ in range(2):
        case_seconds = _sample(case, -1, 1, device).seconds
    return max(1, round(sample_seconds / max(case_seconds, 1e-6))), case_seconds


def _sample(case: Case, turn: int, calls: int, device: str) -> Sample:
    torch.set_num_threads(case.threads)
    wait(device)
    clock, cpu = time.perf_counter(), time.process_time()
    images = sum(case.call() for _ in range(calls))
    wait(device)
    return Sample(case.name, turn, images, time.perf_counter() - clock, time.process_time() - cpu)
