from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from pydantic import ValidationError

from harness.errors import ReportError
from harness.study.recipe import ENGINE, Recipe
from harness.study.trial import (
    METRICS,
    Cell,
    Curve,
    Environment,
    Outcomes,
    Trial,
    complete,
    pack_artifact,
    unpack_artifact,
)

CURVE = Curve(**dict.fromkeys(Curve.model_fields, (0.5, 0.25, 1 / 3)))


def outcomes(val: int = 13, test: int = 9, seed: int = 0) -> Outcomes:
    source = np.random.default_rng(seed)
    return Outcomes(source.random(val) < 0.5, source.random(test) < 0.5)


def equal(first: Outcomes, second: Outcomes) -> bool:
    return all(
        getattr(first, name).dtype == getattr(second, name).dtype
        and np.array_equal(getattr(first, name), getattr(second, name))
        for name in Outcomes.__slots__
    )


def trial(**changes: Any) -> Trial:
    given_ = {
        "cell": "c",
        "seed": 1,
        "recipe": Recipe(),
        "state": "complete",
        "curve": CURVE,
        "metrics": {"accuracy": 0.5},
    }
    return Trial(**{**given_, **changes})


# --- artifacts
# --------------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False)
columns = st.fixed_dictionaries(
    {name: st.lists(finite, max_size=6).map(tuple) for name in Curve.model_fields}
)
answers = nps.arrays(np.bool_, st.integers(0, 40))


@given(columns)
def test_a_curve_survives_its_artifact_bit_for_bit(content: dict[str, tuple[float, ...]]) -> None:
    curve, found = unpack_artifact(pack_artifact(Curve(**content), None))
    for name, column in curve:
        assert [x.hex() for x in column] == [x.hex() for x in content[name]]
    assert found is None


def test_a_curve_with_losses_that_are_not_finite_survives_its_artifact() -> None:
    curve, _ = unpack_artifact(pack_artifact(Curve(val_loss=(math.inf, math.nan)), None))
    assert curve.val_loss[0] == math.inf
    assert math.isnan(curve.val_loss[1])


@given(answers, answers)
def test_outcomes_survive_their_artifact_bit_for_bit(val_N: Any, test_N: Any) -> None:
    written = Outcomes(val_N, test_N)
    _, read = unpack_artifact(pack_artifact(CURVE, written))
    assert read is not None
    assert equal(read, written)


def test_an_artifact_is_read_from_a_file_as_from_bytes(tmp_path: Path) -> None:
    payload = pack_artifact(CURVE, outcomes())
    (tmp_path / "a.npz").write_bytes(payload)
    curve, found = unpack_artifact(tmp_path / "a.npz")
    assert curve == CURVE
    assert found is not None
    assert equal(found, outcomes())


def test_correctness_takes_a_bit_an_image() -> None:
    with np.load(io.BytesIO(pack_artifact(CURVE, outcomes(val=800)))) as stored:
        assert stored["val_correct"].nbytes == 100


def test_an_artifact_cut_off_anywhere_is_a_report_error() -> None:
    payload = pack_artifact(CURVE, outcomes())
    for length in range(0, len(payload), 41):
        with pytest.raises(ReportError):
            unpack_artifact(payload[:length])


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_a_damaged_artifact_is_a_report_error_or_says_what_was_written(
    place: int, noise: bytes
) -> None:
    payload = bytearray(pack_artifact(CURVE, outcomes()))
    at = place % len(payload)
    payload[at : at + len(noise)] = noise
    try:
        curve, found = unpack_artifact(bytes(payload))
    except ReportError:
        return
    # what a check sum does not cover: names and times in the archive's directory
    assert set(curve.model_dump().values()) <= {(0.5, 0.25, 1 / 3), ()}
    assert found is None or equal(found, outcomes())


@given(st.binary(max_size=200))
def test_any_other_bytes_are_a_report_error(payload: bytes) -> None:
    with pytest.raises(ReportError):
        unpack_artifact(payload)


def test_a_missing_file_is_a_report_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"gone\.npz") as caught:
        unpack_artifact(tmp_path / "gone.npz")
    assert caught.value.hint


class Trap:
    """Calls `spring` when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return spring, ()


def spring() -> str:
    Trap.sprung = True
    return "caught"


def test_a_pickle_inside_an_artifact_is_refused_unopened() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{"curve.val_loss": np.array([Trap()], dtype=object)})  # type: ignore[arg-type]
    for payload in (buffer.getvalue(), pickle.dumps(Trap())):
        with pytest.raises(ReportError):
            unpack_artifact(payload)
    assert not Trap.sprung


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_an_artifact_with_the_losses_that_an_earlier_version_kept_comes_back_with_every_image() -> (
    None
):
    whole = outcomes()
    parts = {
        f"{part}_correct": np.packbits(getattr(whole, f"{part}_correct_N"))
        for part in ("val", "test")
    }
    losses = {
        "val_loss": np.zeros(whole.val_correct_N.size, np.float16),
        "test_loss": np.zeros(0, np.float16),
    }
    _, read = unpack_artifact(
        npz(**parts, **losses, test_size=np.asarray(whole.test_correct_N.size))
    )
    assert read is not None
    assert equal(read, whole)


PARTS = {
    "val_loss": np.zeros(9, np.float16),
    "test_loss": np.zeros(9, np.float16),
    "test_correct": np.zeros(2, np.uint8),
}


@pytest.mark.parametrize(
    "payload",
    [
        npz(**PARTS),
        npz(**PARTS, val_correct=np.zeros(1, np.uint8)),
        npz(**PARTS, val_correct=np.zeros(2, np.float64)),
        npz(**{"curve.nonsense": np.zeros(3)}),
        npz(**{"curve.val_loss": np.float64(3)}),
        npz(**{"curve.val_loss": np.array(["a"])}),
        npz(**{"curve.val_loss": np.zeros((2, 2))}),
    ],
    ids=[
        "a part missing",
        "too few bits",
        "bits that are none",
        "unknown column",
        "a number",
        "text",
        "a table",
    ],
)
def test_an_archive_of_something_else_is_a_report_error(payload: bytes) -> None:
    with pytest.raises(ReportError):
        unpack_artifact(payload)


def test_an_array_that_is_no_archive_is_a_report_error() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with pytest.raises(ReportError):
        unpack_artifact(buffer.getvalue())


def test_an_archive_without_a_curve_is_an_empty_curve() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    assert unpack_artifact(buffer.getvalue()) == (Curve(), None)


# --- cells, trials, metrics
# -------------------------------------------------------------------------------------------


def test_a_cell_is_identified_by_recipe_seed_data_code_and_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = Cell.of(Recipe(), 0, "data", "code")
    assert base == Cell.of(Recipe(), 0, "data", "code")
    others = [
        Cell.of(Recipe().with_overrides({"augment.crop": 0}), 0, "data", "code"),
        Cell.of(Recipe(), 1, "data", "code"),
        Cell.of(Recipe(), 0, "other", "code"),
        Cell.of(Recipe(), 0, "data", "other"),
    ]
    monkeypatch.setattr("harness.study.trial.ENGINE", ENGINE + 1)
    keys = {cell.key for cell in (base, *others, Cell.of(Recipe(), 0, "data", "code"))}
    assert len(keys) == 6


def test_a_negative_seed_is_no_cell() -> None:
    with pytest.raises(ValidationError):
        Cell.of(Recipe(), -1, "")


def test_a_trial_survives_json_without_its_curve() -> None:
    written = trial(
        environment=Environment(torch="2"), recipe=Recipe().with_overrides({"model.pool": [1, 2]})
    )
    read = Trial.model_validate_json(written.model_dump_json())
    assert read == written.model_copy(update={"curve": Curve()})
    assert read.recipe_id == written.recipe.id


def test_only_complete_trials_count_as_complete() -> None:
    states = ["complete", "failed", "pruned", "diverged", "complete"]
    assert [t.state for t in complete(trial(state=state) for state in states)] == ["complete"] * 2


def test_a_state_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError):
        trial(state="fine")


def test_every_metric_knows_its_unit_and_direction() -> None:
    assert all(name == metric.name and metric.label for name, metric in METRICS.items())
    assert {metric.scale for metric in METRICS.values() if metric.unit == "pp"} == {100.0}
    assert METRICS["gap"].higher_is_better is None
    assert METRICS["accuracy"].higher_is_better is True
    assert METRICS["nll"].higher_is_better is False


def test_a_curve_is_as_long_as_its_epochs() -> None:
    assert len(CURVE) == 3
    assert len(Curve()) == 0
