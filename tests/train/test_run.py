"""Whole trials on scikit-learn's digits, with nets of some thousand weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)

from harness.errors import DataError, RecipeError
from harness.study.recipe_fields import ModelRecipe
from harness.study.trial import METRICS, Outcomes, Trial
from harness.train import run
from harness.train.check import check
from harness.train.judge import judge, predict
from harness.train.loaders import EvalLoader
from harness.train.model import build
from harness.train.parts import Loaders, arena, place
from harness.train.run import fit
from tests.train.tiny import cell, recipe, weights

# clean train minus validation, for studies that decide by those metrics
GAPS = {"balanced_accuracy_gap", "macro_f1_gap"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="module")
def finished() -> tuple[Trial, Outcomes]:
    trial, outcomes = run(cell(train__epochs=4))
    assert outcomes is not None
    return trial, outcomes


Finished = tuple[Trial, Outcomes]


def test_a_finished_trial_is_complete_with_every_metric(finished: Finished) -> None:
    trial, _ = finished
    assert trial.state == "complete"
    assert set(trial.metrics) == set(METRICS) | GAPS
    assert trial.error == ""


def test_a_trial_names_its_cell_seed_recipe_and_data(finished: Finished) -> None:
    trial, _ = finished
    wanted = cell(train__epochs=4)
    assert (trial.cell, trial.seed, trial.recipe) == (wanted.key, 0, wanted.recipe)
    assert trial.data_fingerprint == check(wanted.recipe).split.fingerprint


def test_a_trial_says_what_it_ran_on(finished: Finished) -> None:
    trial, _ = finished
    assert trial.environment.torch == torch.__version__
    assert trial.environment.threads == 1
    assert trial.environment.device == "cpu"
    assert trial.readings["start_seconds"] > 0
    assert (
        0 < trial.readings["cpu_seconds"] < 1.5 * trial.train_seconds
    )  # one thread: clocks may differ a little in what they count
    assert (
        min(
            trial.train_seconds,
            trial.eval_seconds,
            trial.images_per_second,
            trial.peak_mib,
            trial.mflop_per_image,
        )
        > 0
    )


def test_the_curve_has_a_number_for_every_epoch_in_every_column(finished: Finished) -> None:
    trial, _ = finished
    assert trial.epochs == 4
    assert {len(column) for _, column in trial.curve} == {4}


def test_the_gap_is_clean_train_accuracy_minus_validation_accuracy(finished: Finished) -> None:
    metrics = finished[0].metrics
    assert metrics["gap"] == metrics["train_accuracy"] - metrics["accuracy"]
    assert metrics["loss_gap"] == metrics["nll"] - metrics["train_nll"]


def test_the_last_epoch_of_the_curve_agrees_with_the_metrics(finished: Finished) -> None:
    trial, _ = finished
    assert trial.curve.val_accuracy[-1] == trial.metrics["accuracy"]
    # summed in another order
    assert trial.curve.val_loss[-1] == pytest.approx(trial.metrics["nll"], rel=1e-5)
    assert trial.curve.online_accuracy[-1] == trial.metrics["online_accuracy"]
    assert max(trial.curve.val_accuracy) == trial.metrics["best_accuracy"]


def test_the_outcomes_of_the_images_agree_with_the_metrics(finished: Finished) -> None:
    trial, outcomes = finished
    assert outcomes.val_correct_N.mean() == pytest.approx(trial.metrics["accuracy"])
    assert outcomes.test_correct_N.mean() == pytest.approx(trial.metrics["test_accuracy"])


@pytest.mark.parametrize("head", ["logits", "softmax"])
def test_metrics_equal_scikit_learns(head: str) -> None:
    wanted = recipe(model__head=head, data__val=200)
    ground = arena(wanted.data, "cpu")
    model, memory_format = place(wanted, ground, "cpu", 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    metrics, _ = judge(model, loaders, fit(wanted, model, loaders, 0, lambda _: False), "fp32")
    log_NK, labels_N = (part.numpy() for part in predict(model, loaders.val, "fp32"))
    guess_N, classes = log_NK.argmax(axis=1), np.arange(10)
    p_NK = np.exp(log_NK.astype(np.float64))
    # float32 rows miss 1 by some 1e-7, of which scikit-learn warns
    p_NK /= p_NK.sum(axis=1, keepdims=True)
    expected = {
        "accuracy": accuracy_score(labels_N, guess_N),
        "balanced_accuracy": balanced_accuracy_score(labels_N, guess_N),
        "macro_f1": f1_score(labels_N, guess_N, average="macro"),
        "top5": top_k_accuracy_score(labels_N, log_NK, k=5, labels=classes),
        "nll": log_loss(labels_N, p_NK, labels=classes),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_clean_train_accuracy_is_measured_in_eval_mode_without_augmentation() -> None:
    wanted = recipe(augment__cutout=8, augment__mixup=1.0, model__dropout=0.9)
    ground = arena(wanted.data, "cpu")
    model, memory_format = place(wanted, ground, "cpu", 0)
    loaders = Loaders.of(wanted, ground, 0, memory_format)
    metrics, _ = judge(model, loaders, fit(wanted, model, loaders, 0, lambda _: False), "fp32")
    split = ground.split
    mean_C, std_C = (torch.tensor(part).view(1, -1, 1, 1) for part in (split.mean, split.std))
    with torch.no_grad():
        out_NK = model.eval()((split.train_images_NCHW / 255 - mean_C) / std_C)
    assert metrics["train_accuracy"] == float(
        (out_NK.argmax(dim=1) == split.train_labels_N).double().mean()
    )
    assert metrics["train_nll"] == pytest.approx(
        float(F.cross_entropy(out_NK, split.train_labels_N)), rel=1e-4
    )


def test_the_test_images_are_read_once_after_the_last_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test_images = arena(recipe().data, "cpu").split.test_images_NCHW
    read: list[int] = []
    epochs: list[int] = []
    original = EvalLoader.__iter__

    def counting(loader: EvalLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if loader.images_NCHW is test_images:
            read.append(len(epochs))
        return original(loader)

    monkeypatch.setattr(EvalLoader, "__iter__", counting)
    run(cell(), on_epoch=lambda epoch, _: bool(epochs.append(epoch)))  # type: ignore[func-returns-value]
    assert read == [2]


def comparable(trial: Trial) -> str:
    """Return all of a trial that must repeat, as text."""
    columns = {name: column for name, column in trial.curve if name != "seconds"}
    return json.dumps(
        [trial.cell, trial.metrics, columns, trial.params, trial.mflop_per_image], sort_keys=True
    )


EVERYTHING: dict[str, Any] = {
    "augment__flip": "random",
    "augment__cutout": 2,
    "augment__erasing": 0.3,
    "augment__mixup": 0.4,
    "augment__cutmix": 0.5,
}


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = run(cell(**EVERYTHING)), run(cell(**EVERYTHING))
    assert comparable(first[0]) == comparable(second[0])
    assert first[1] is not None
    assert second[1] is not None
    assert np.array_equal(first[1].val_correct_N, second[1].val_correct_N)


def test_the_same_seed_gives_the_same_bits_in_another_process() -> None:
    code = (
        "from harness.train import run\n"
        "from tests.train.test_run import EVERYTHING, cell, comparable\n"
        "print(comparable(run(cell(**EVERYTHING))[0]), end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == comparable(run(cell(**EVERYTHING))[0])


def test_another_seed_gives_another_result() -> None:
    assert run(cell(0))[0].curve.val_loss != run(cell(1))[0].curve.val_loss


def test_what_ran_before_in_the_process_does_not_change_a_trial() -> None:
    fresh = comparable(run(cell())[0])
    run(cell(5, model__dropout=0.5))
    torch.manual_seed(99)
    assert comparable(run(cell())[0]) == fresh


def test_arms_that_share_an_architecture_start_from_the_same_weights() -> None:
    ground = arena(recipe().data, "cpu")
    first, _ = place(recipe(), ground, "cpu", 3)
    second, _ = place(
        recipe(augment__crop=0, optimizer__name="sgd", model__dropout=0.0), ground, "cpu", 3
    )
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_on_epoch_is_called_after_every_epoch_with_finite_numbers() -> None:
    seen: list[tuple[int, Mapping[str, float]]] = []

    def keep(epoch: int, values: Mapping[str, float]) -> bool:
        seen.append((epoch, values))
        return False

    trial, _ = run(cell(train__epochs=3), on_epoch=keep)
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert tuple(values["val_accuracy"] for _, values in seen) == trial.curve.val_accuracy


def test_a_trial_that_is_stopped_early_is_pruned_with_its_curve_so_far() -> None:
    trial, outcomes = run(cell(train__epochs=5), on_epoch=lambda epoch, _: epoch == 1)
    assert (trial.state, trial.epochs, len(trial.curve)) == ("pruned", 2, 2)
    assert trial.metrics == {}
    assert outcomes is None


def test_a_stop_after_the_last_epoch_is_a_complete_trial() -> None:
    trial, _ = run(cell(train__epochs=2), on_epoch=lambda epoch, _: epoch == 1)
    assert trial.state == "complete"


def test_a_diverged_trial_names_its_first_bad_step_and_keeps_its_curve_so_far() -> None:
    wanted = cell(
        schedule__max_lr=20.0,
        schedule__div=1e8,
        schedule__pct_start=0.9,
        optimizer__grad_clip=0.0,
        optimizer__name="sgd",
        optimizer__weight_decay=10.0,
        train__epochs=10,
    )
    trial, outcomes = run(wanted)
    assert trial.state == "diverged"
    assert "stopped being a finite number at step" in trial.error
    assert 0 < trial.epochs == len(trial.curve) < 10
    assert trial.metrics == {}
    assert outcomes is None


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer__name": "sgd", "schedule__max_lr": 0.1},
        {"optimizer__name": "adamw", "optimizer__grad_clip_by": "norm"},
        {"train__precision": "bf16"},
        {"loss__label_smoothing": 0.1, "augment__cutmix": 1.0},
        {"model__features": "concat", "model__head": "softmax"},
        {"schedule__name": "cosine", "augment__flip": "alternating"},
        {"train__batch_size": 4096},
        {"data__val": 0},
        {"data__size": 12, "model__pool": []},
    ],
    ids=str,
)
def test_every_kind_of_recipe_trains_to_the_end(change: dict[str, Any]) -> None:
    trial, _ = run(cell(train__epochs=1, **change))
    assert trial.state == "complete"
    assert 0 <= trial.metrics["accuracy"] <= 1


def test_top5_is_left_out_when_there_are_no_more_than_five_classes() -> None:
    images_NCHW, labels_N = torch.zeros(10, 1, 4, 4, dtype=torch.uint8), torch.arange(10) % 5
    still = EvalLoader(images_NCHW, labels_N, batch_size=5, mean=(0.0,), std=(1.0,))
    train = Loaders.of(recipe(), arena(recipe().data, "cpu"), 0, torch.contiguous_format).train
    model = build(
        ModelRecipe(blocks=1, channels=(2,), pool=()), in_channels=1, side=4, classes=5, seed=0
    )
    history = [{"val_accuracy": 0.2, "train_accuracy": 0.2, "online_accuracy": 0.2}]
    metrics, _ = judge(model, Loaders(train, still, still, still, still, still), history, "fp32")
    assert set(metrics) == (set(METRICS) | GAPS) - {"top5"}


def test_a_net_that_does_not_fit_the_images_is_refused_before_anything_is_planned() -> None:
    with pytest.raises(RecipeError, match="poolings"):
        check(recipe(model__blocks=4, model__channels="auto", model__pool=[1, 2, 3, 4]))


def test_more_images_than_there_are_is_a_data_error() -> None:
    with pytest.raises(DataError, match="training images do not allow"):
        check(recipe(data__train=5000))


def test_the_clean_images_are_fixed_by_the_split_seed_and_not_by_the_trials() -> None:
    first, second = (
        Loaders.of(recipe(), arena(recipe().data, "cpu"), seed, torch.contiguous_format)
        for seed in (0, 1)
    )
    assert torch.equal(first.clean.images_NCHW, second.clean.images_NCHW)
    assert torch.equal(first.probe.images_NCHW, second.probe.images_NCHW)
    assert len(first.probe.images_NCHW) == len(first.val.images_NCHW)


def test_curves_are_drawn_by_a_part_of_many_validation_images_and_all_of_them_decide() -> None:
    few = recipe(data__train=30, data__val=200, train__epochs=2)
    there = arena(few.data, "cpu")
    assert (len(there.curve_index_N), len(there.probe_index_N)) == (60, 30)
    first, second = (Loaders.of(few, there, seed, torch.contiguous_format) for seed in (0, 1))
    assert torch.equal(first.curve.labels_N, second.curve.labels_N)
    assert torch.equal(first.curve.images_NCHW, first.val.images_NCHW[there.curve_index_N])
    trial, outcomes = run(cell(data__train=30, data__val=200, train__epochs=2))
    assert outcomes is not None
    assert len(outcomes.val_correct_N) == 200
    drawn_N = outcomes.val_correct_N[there.curve_index_N.numpy()]
    assert trial.curve.val_accuracy[-1] == pytest.approx(drawn_N.mean())
    assert trial.metrics["accuracy"] == pytest.approx(outcomes.val_correct_N.mean())


def test_the_validation_images_of_small_sets_all_draw_the_curves() -> None:
    there = arena(recipe().data, "cpu")
    assert torch.equal(there.curve_index_N, torch.arange(len(there.split.val_labels_N)))


def test_without_validation_images_the_clean_training_curve_is_of_as_many_images_as_the_test_set_has() -> (
    None
):
    """A curve of one image, as it once was, says nothing, and neither does the gap drawn from it."""
    there = arena(recipe(data__val=0).data, "cpu")
    assert (
        len(there.probe_index_N)
        == min(len(there.split.test_labels_N), len(there.split.train_labels_N))
        > 1
    )


def test_a_cutout_larger_than_the_images_is_refused_before_anything_runs() -> None:
    with pytest.raises(RecipeError, match=r"augment\.cutout is 100, larger than images of 8x8"):
        check(recipe(augment__cutout=100))


def test_a_crop_that_cannot_be_reflected_is_refused_before_anything_runs() -> None:
    with pytest.raises(RecipeError, match=r"augment\.crop is 8, too much to reflect"):
        check(recipe(augment__crop=8))
