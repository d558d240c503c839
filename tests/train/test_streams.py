from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.train.streams import PURPOSES, generator, stream_seed

seeds = st.integers(0, 2**31)
purposes = st.sampled_from([*PURPOSES, "crop", "flip", "brightness", "cutout", "mixup"])
epochs = st.integers(0, 10_000)


@given(seeds, purposes, epochs)
def test_a_stream_has_a_seed_of_63_bits(seed: int, purpose: str, epoch: int) -> None:
    assert 0 <= stream_seed(seed, purpose, epoch) < 2**63


@given(st.lists(st.tuples(seeds, purposes, epochs), min_size=2, max_size=2, unique=True))
def test_no_two_streams_share_a_seed(keys: list[tuple[int, str, int]]) -> None:
    first, second = keys
    assert stream_seed(*first) != stream_seed(*second)


def test_neighbouring_seeds_purposes_and_epochs_are_all_distinct() -> None:
    found = [
        stream_seed(s, p, e)
        for s in range(20)
        for p in (*PURPOSES, "crop", "flip", "hue")
        for e in range(20)
    ]
    assert len(set(found)) == len(found)


def test_a_stream_starts_anew_each_time_it_is_asked_for() -> None:
    first, second = (torch.rand(5, generator=generator(3, "crop", 2)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_stream_leaves_the_default_generator_alone() -> None:
    before = torch.random.get_rng_state()
    torch.rand(5, generator=generator(0, "order"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("purpose", "expected"),
    # what the first release gave: a change moves every result, so ENGINE in recipe.py has to be
    # bumped with these numbers
    [
        ("init", 8930776925617410980),
        ("order", 6454563574245261914),
        ("dropout", 8302690602372259040),
        ("crop", 158183758924988201),
    ],
)
def test_the_seed_of_a_stream_never_changes(purpose: str, expected: int) -> None:
    assert stream_seed(1, purpose, 2) == expected
