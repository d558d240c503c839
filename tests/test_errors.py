from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import errors
from harness.errors import DivergedError, HarnessError, TrialError, did_you_mean

TREE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, HarnessError)
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_drawn_in_the_docstring(kind: type[HarnessError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not DivergedError])
def test_an_error_is_its_message_and_carries_its_hint(kind: type[HarnessError]) -> None:
    error = kind("it is wrong", "put it right")
    assert str(error) == error.message == "it is wrong"
    assert error.hint == "put it right"
    assert kind("alone").hint == ""


@pytest.mark.parametrize(
    "error",
    [*(kind("what", "how") for kind in TREE if kind is not DivergedError), DivergedError(2, 31)],
    ids=repr,
)
def test_an_error_crosses_processes_whole(error: HarnessError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert (again.message, again.hint, vars(again)) == (error.message, error.hint, vars(error))


def test_divergence_is_a_trial_error_that_counts_epochs_from_one_in_words() -> None:
    error = DivergedError(2, 31)
    assert isinstance(error, TrialError)
    assert "step 31 (epoch 3)" in error.message
    assert "max_lr" in error.hint


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("augment.crp", "augment.crop"),
        ("crop", "augment.crop"),
        ("wrong.crop", "augment.crop"),
        ("augment.flop", "augment.flip"),
    ],
)
def test_a_near_miss_is_answered_with_the_word_that_was_meant(word: str, near: str) -> None:
    assert (
        did_you_mean(word, ["augment.crop", "augment.flip", "train.epochs"])
        == f" (did you mean {near!r}?)"
    )


def test_a_word_that_is_near_nothing_is_not_guessed_at() -> None:
    assert did_you_mean("xyzzy", ["augment.crop", "train.epochs"]) == ""


@given(st.text(), st.lists(st.text()))
def test_a_guess_is_always_a_known_word_or_nothing(word: str, known: list[str]) -> None:
    found = did_you_mean(word, iter(known))
    assert found == "" or any(found == f" (did you mean {name!r}?)" for name in known)
