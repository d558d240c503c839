"""The benchmark: on which recipe, in how much time, and whether the machine was fit to be timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness.bench.cases import USUAL, CaseGroup, groups_of, threads_on
from harness.bench.ours import Ground
from harness.bench.result import BenchResult, Sample, summarised
from harness.bench.rounds import FEWEST_ROUNDS, SAMPLE_SECONDS, Case, measure
from harness.errors import UsageError
from harness.ledger.provenance import completed
from harness.study.profiles import builtin_profiles
from harness.study.recipe import Recipe
from harness.study.recipe_fields import DataRecipe
from harness.study.trial import curve_images
from harness.text import plural
from harness.train import data
from harness.train.arithmetic import precision_on, prepare
from harness.train.devices import auto, number_of
from harness.train.engine import choose
from harness.train.environment import environment
from harness.train.meter import Meter
from harness.train.model import cost_of
from harness.train.parts import Arena, arena
from harness.train.timing import usable_cores

BUDGET_SECONDS = 150.0
_SHARES = {"pipeline": 0.25, "loop": 0.15, "step": 0.3, "epoch": 0.1, "trial": 0.2}
_BUSY = 0.5  # cores that others keep busy, above which timing is doubtful
_STARVED = 0.9  # of the clock's time that a thread which never waits should have had its core
_SWAYED = 1.25  # largest over smallest rate of the matmul, which nothing but the machine can change


@dataclass(frozen=True, slots=True)
class Stretch:
    """How far a benchmark is.

    Attributes:
        done, total: stretches that were timed, warming up included, and all that there should be.
        what: is timed now, or has been.
        over: whether a group has just ended.
    """

    done: int
    total: int
    what: str
    over: bool = False


def bench(
    *,
    device: str = "auto",
    save: bool = False,
    rounds: int | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    groups: Sequence[str] = tuple(_SHARES),
    sample_seconds: float = SAMPLE_SECONDS,
    folder: Path | None = None,
    on_event: Callable[[Stretch], object] = lambda _: None,
) -> BenchResult:
    """Time pipelines, steps, epochs, trials and ceilings on this machine.

    On a CPU the recipe is that of profile ``quick``, on its images; on a GPU the reference recipe
    in bf16, on made-up images of CIFAR-10's number and size (what they show does not change the
    speed). The pipelines always run on images of 32 x 32 x 3.

    Args:
        device: auto, cpu, cuda, cuda:N, mps, xpu or xpu:N.
        save: whether to write JSON and parquet under ``reports/bench``.
        rounds: of each group; None for as many as the time allows, at least three.
        budget_seconds: of the whole run, roughly.
        groups: some of pipeline, loop, step, epoch, trial.
        sample_seconds: length of a timed stretch, at least.
        folder: to save in, in the place of ``reports/bench``.
        on_event: called before each stretch that is timed, and after each group.

    Raises:
        UsageError: an unknown group, or a device that is not there.
    """
    device = _checked(device, groups)
    prepare(device)
    before, busy = torch.get_num_threads(), _busy_cores()
    started = time.perf_counter()

    try:
        # what the benchmark draws leaves the caller's random numbers where they were
        with torch.random.fork_rng(devices=_gpus(device)):
            torch.manual_seed(0)
            ground = ground_on(device)
            channels, side, _ = ground.arena.shape
            classes = len(ground.arena.split.classes)
            _, mflop = cost_of(
                ground.recipe.model, in_channels=channels, side=side, classes=classes
            )
            total = sum(_SHARES[name] for name in groups)
            samples, cases, held = _timed(
                {group.name: group for group in groups_of(ground, mflop)},
                {name: budget_seconds * _SHARES[name] / total for name in groups},
                device=device,
                rounds=rounds,
                sample_seconds=sample_seconds,
                on_event=on_event,
            )
    finally:
        torch.set_num_threads(before)

    samples, cases = _with_best_usual(samples, cases)
    facts = _machine(device, ground) | {
        "recipe": ground.recipe.changed(),
        "mflop_per_image": mflop,
        "seconds": time.perf_counter() - started,
        "interval": "distribution-free 95 % interval of the median; the range below six rounds",
        "ceilings": {case.name: case.ceiling for case in cases if case.ceiling},
        "warnings": _warnings(samples, cases, busy, held, device),
    }
    result = BenchResult(
        facts,
        summarised(
            samples,
            names=[case.name for case in cases],
            references={case.name: case.reference for case in cases if case.reference},
            ceilings={case.name: case.ceiling for case in cases if case.ceiling},
        ),
        tuple(samples),
    )
    if save:
        result.save(*([folder] if folder is not None else []))
    return result


def _checked(device: str, groups: Sequence[str]) -> str:
    """Return the device by name, after checking that it and the groups are there."""
    if unknown := set(groups) - set(_SHARES):
        raise UsageError(
            f"there is no group {', '.join(sorted(unknown))}", f"groups: {', '.join(_SHARES)}"
        )
    if device == "auto":
        device = auto()
    kind, _, index = device.partition(":")
    if int(index or 0) >= number_of(kind):
        raise UsageError(f"the device {device} is not there", "use --device cpu")
    return device


def _gpus(device: str) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []


def _timed(
    groups: Mapping[str, CaseGroup],
    seconds: Mapping[str, float],
    *,
    device: str,
    rounds: int | None,
    sample_seconds: float,
    on_event: Callable[[Stretch], object],
) -> tuple[list[Sample], list[Case], set[str]]:
    """Time groups one after the other; return samples, cases, and what held the GPU's clocks down meanwhile.

    ``seconds`` has those that are timed, in this order; all else is as ``bench`` takes it.
    """
    samples: list[Sample] = []
    held: set[str] = set()
    meter = Meter(device)
    built = {name: groups[name].build() for name in seconds}
    expected = dict.fromkeys(seconds, rounds or FEWEST_ROUNDS)
    done = 0

    for name, budget in seconds.items():

        def total() -> int:
            return sum(len(cases) * (1 + expected[group]) for group, cases in built.items())

        def before_case(case: str, turn: int, rounds_due: int, name: str = name) -> None:
            nonlocal done
            expected[name] = rounds_due
            when = "warming up" if turn < 0 else f"round {turn + 1} of {rounds_due}"
            on_event(Stretch(done, total(), f"{case}, {when}"))
            done += 1
            held.add(meter.throttled())

        try:
            samples += measure(
                built[name],
                device=device,
                rounds=rounds,
                seconds=budget,
                on_case=before_case,
                sample_seconds=sample_seconds,
            )
        finally:
            for case in built[name]:
                case.close()
        on_event(Stretch(done, total(), f"{name}: {plural(expected[name], 'round')}", over=True))
    return samples, [case for cases in built.values() for case in cases], held - {""}


def _machine(device: str, ground: Ground) -> dict[str, Any]:
    """Return with what was timed, as trials record it."""
    precision = precision_on(device, ground.recipe.train.precision)
    place = environment(device, precision, choose(device).name)
    facts = completed(place, device=device, threads=usable_cores()).model_dump()
    return facts | {"threads": threads_on(device), "cores": usable_cores()}


def ground_on(device: str) -> Ground:
    """Return what a benchmark trains with on a device; see `bench`."""
    if not _gpus(device):
        fields = {
            name: value for name, value in builtin_profiles()["quick"].items() if name != "seeds"
        }
        recipe = Recipe().with_overrides(fields)
        return Ground(recipe, arena(recipe.data, device), device)
    recipe = Recipe().with_overrides({"train.precision": "bf16"})
    return Ground(recipe, _made_up(recipe.data, device), device)


def _made_up(recipe: DataRecipe, device: str) -> Arena:
    """Return images of CIFAR-10's number and size, noise in content."""
    source = torch.Generator(device).manual_seed(0)
    parts: dict[str, Any] = {}
    for part, count in (("train", 50_000 - recipe.val), ("val", recipe.val), ("test", 10_000)):
        shape = (count, 3, 32, 32)
        parts[f"{part}_images_NCHW"] = torch.randint(
            256, shape, generator=source, device=device, dtype=torch.uint8
        )
        parts[f"{part}_labels_N"] = torch.randint(10, (count,), generator=source, device=device)
    classes = tuple("0123456789")
    split = data.Split(
        **parts, classes=classes, mean=(0.5,) * 3, std=(0.25,) * 3, fingerprint="made up"
    )
    some_N = torch.arange(10_000, device=device)
    curve_N = some_N[: curve_images(train=50_000 - recipe.val, val=recipe.val, test=10_000)]
    return Arena(split, clean_index_N=some_N, probe_index_N=curve_N, curve_index_N=curve_N)


def _with_best_usual(samples: list[Sample], cases: list[Case]) -> tuple[list[Sample], list[Case]]:
    """Add ``pipeline/pil-dataloader``: the samples of the number of workers that was fastest, so that we beat no straw man."""
    name = USUAL
    rates: dict[str, list[float]] = {}
    for sample in samples:
        if sample.name.startswith(f"{name}/"):
            rates.setdefault(sample.name, []).append(sample.rate)
    if not rates:
        return samples, cases
    best = max(rates, key=lambda case: median(rates[case]))
    first = next(index for index, case in enumerate(cases) if case.name == best)
    chosen = replace(cases[first], name=name, reference=None)
    return (
        [*samples, *(replace(sample, name=name) for sample in samples if sample.name == best)],
        [chosen, *cases],
    )


def _busy_cores() -> float:
    """Return the cores kept busy over the last minute, by whomever; 0 where the system does not tell."""
    with suppress(OSError, AttributeError):
        return os.getloadavg()[0]
    return 0.0


def _warnings(
    samples: list[Sample], cases: list[Case], busy: float, held: set[str], device: str
) -> list[str]:
    """Return what makes the figures doubtful, each with its remedy."""
    doubts = []
    if busy > _BUSY and not _gpus(device):
        doubts.append(
            f"before the start, other programs ran or waited for a core, {busy:.1f} at a time, "
            f"and there are {usable_cores()} cores: stop them and repeat; ratios, taken round by "
            "round, suffer less than rates"
        )
    alone = {case.name for case in cases if case.alone and case.threads == 1}
    shares = [s.cpu_seconds / s.seconds for s in samples if s.name in alone]
    if shares and not _gpus(device) and median(shares) < _STARVED:
        doubts.append(
            f"single threads had their core for {100 * median(shares):.0f} % of the time: others compete for it; "
            "repeat on an idle machine, or give more rounds"
        )
    rates = [s.rate for s in samples if s.name == "ceiling/matmul"]
    if rates and max(rates) > _SWAYED * min(rates):
        doubts.append(
            f"the same matrix product ran at rates up to {max(rates) / min(rates):.1f} times apart: clocks change or cores are "
            "shared; fix the clock (cpupower frequency-set -g performance, nvidia-smi -lgc) and repeat"
        )
    doubts += [
        f"the GPU's clocks were held down by {why}: let it cool, or raise its limit"
        for why in sorted(held)
    ]
    return doubts
