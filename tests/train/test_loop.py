from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from harness.errors import DivergedError, RecipeError, UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train import evaluate, fit_one_cycle
from harness.train.loop import epoch_line
from tests.train.tiny import CLASSES, SIDE, Batch, Stream, batches, net, weights

TRAIN = batches(4)
VAL = batches(2, seed=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield


def fit(model: nn.Module | None = None, **changes: Any) -> list[dict[str, Any]]:
    given_: dict[str, Any] = {
        "epochs": 2,
        "max_lr": 0.01,
        "train_loader": TRAIN,
        "val_loader": VAL,
        "seed": 0,
        **changes,
    }
    return fit_one_cycle(model=net() if model is None else model, **given_)


# --- the schedule
# -----------------------------------------------------------------------------------------------------


def torchs(shape: ScheduleRecipe, steps: int) -> list[tuple[float, float]]:
    """Return what OneCycleLR sets at every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = OneCycleLR(
        optimizer,
        shape.max_lr,
        total_steps=steps,
        pct_start=shape.pct_start,
        div_factor=shape.div,
        final_div_factor=shape.final_div,
    )
    table = []
    for step in range(steps):
        (group,) = optimizer.param_groups
        table.append((group["lr"], group["momentum"]))
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
    return table


shapes = st.builds(
    ScheduleRecipe,
    max_lr=st.floats(1e-5, 10),
    pct_start=st.floats(0.01, 0.99),
    div=st.floats(1, 1000),
    final_div=st.floats(1, 1e6),
)


@given(shapes, st.integers(1, 60))
@example(ScheduleRecipe(), 100)
@example(ScheduleRecipe(pct_start=0.3), 2)
def test_learning_rate_and_momentum_equal_torchs_one_cycle_at_every_step(
    shape: ScheduleRecipe, steps: int
) -> None:
    assume(shape.pct_start * steps != 1)  # torch divides by zero there
    for (rate, momentum), (their_rate, their_momentum) in zip(
        schedule_table(shape, steps), torchs(shape, steps), strict=True
    ):
        assert rate == pytest.approx(their_rate, rel=1e-12, abs=1e-15 * shape.max_lr)
        assert momentum == pytest.approx(their_momentum, rel=1e-12)


@given(shapes, st.integers(1, 200))
@example(ScheduleRecipe(pct_start=0.5), 2)
@example(ScheduleRecipe(pct_start=0.25), 4)
@example(ScheduleRecipe(pct_start=0.1), 10)
def test_one_cycle_stays_within_its_bounds_whatever_its_shape(
    shape: ScheduleRecipe, steps: int
) -> None:
    low = shape.max_lr / shape.div / shape.final_div
    for rate, momentum in schedule_table(shape, steps):
        assert low * (1 - 1e-9) <= rate <= shape.max_lr * (1 + 1e-9)
        assert 0.85 - 1e-12 <= momentum <= 0.95 + 1e-12


def test_a_rise_of_a_single_step_starts_at_the_peak() -> None:
    table = schedule_table(ScheduleRecipe(max_lr=0.1, pct_start=0.5), 2)
    assert table[0] == pytest.approx((0.1, 0.85))
    assert table[1] == pytest.approx((0.1 / 25 / 1e4, 0.95))


@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_cosine_and_constant_start_at_the_highest_rate_with_momentum_at_nine_tenths(
    name: Any,
) -> None:
    table = schedule_table(ScheduleRecipe(name=name, max_lr=0.2), 10)
    rates = [rate for rate, _ in table]
    assert rates[0] == 0.2
    assert rates == sorted(rates, reverse=True)
    assert {momentum for _, momentum in table} == {0.9}
    assert (rates[-1] < 0.01) == (name == "cosine")


def test_momentum_stays_at_nine_tenths_when_it_is_not_cycled() -> None:
    assert {
        momentum for _, momentum in schedule_table(ScheduleRecipe(cycle_momentum=False), 20)
    } == {0.9}


def test_a_schedule_that_has_a_name_and_no_rates_is_an_error() -> None:
    nameless = ScheduleRecipe.model_construct(name="triangle", max_lr=0.1)
    with pytest.raises(RecipeError, match="'triangle', for which there is no table of rates"):
        schedule_table(nameless, 10)


# --- what it returns and tells
# ----------------------------------------------------------------------------------------


def test_the_history_has_exactly_the_documented_keys() -> None:
    documented = {
        "epoch",
        "train_loss",
        "train_accuracy",
        "online_loss",
        "online_accuracy",
        "val_loss",
        "val_accuracy",
        "lrs",
        "learning_rate",
        "grad_norm",
        "clipped_share",
        "seconds",
        "cpu_seconds",
        "eval_seconds",
        "warm_seconds",
    }
    assert [set(entry) for entry in fit(clean_loader=VAL)] == [documented] * 2


def test_the_history_holds_the_learning_rate_of_every_step() -> None:
    history = fit()
    expected = [rate for rate, _ in schedule_table(ScheduleRecipe(max_lr=0.01), 8)]
    assert [rate for entry in history for rate in entry["lrs"]] == expected
    assert [entry["learning_rate"] for entry in history] == [expected[3], expected[7]]


def test_the_clean_train_figures_are_those_of_evaluate() -> None:
    model = net()
    history = fit(model, clean_loader=TRAIN)
    found = evaluate(model, TRAIN)
    assert history[-1]["train_loss"] == found["loss"]
    assert history[-1]["train_accuracy"] == found["accuracy"]


def test_without_a_clean_loader_the_train_loss_is_that_of_training() -> None:
    for entry in fit():
        assert entry["train_loss"] == entry["online_loss"]
        assert entry["train_accuracy"] is None


def test_the_validation_figures_are_those_of_evaluate() -> None:
    model = net()
    last = fit(model)[-1]
    found = evaluate(model, VAL)
    assert (last["val_loss"], last["val_accuracy"]) == (found["loss"], found["accuracy"])


def test_on_epoch_is_given_every_entry() -> None:
    seen: list[dict[str, Any]] = []
    assert fit(epochs=3, on_epoch=seen.append) == seen
    assert [entry["epoch"] for entry in seen] == [0, 1, 2]


def test_a_true_return_of_on_epoch_ends_training_after_that_epoch() -> None:
    history = fit(epochs=5, on_epoch=lambda entry: entry["epoch"] == 1)
    assert [entry["epoch"] for entry in history] == [0, 1]


def test_log_is_given_one_line_an_epoch_with_losses_accuracies_and_the_last_learning_rate() -> None:
    lines: list[str] = []
    history = fit(log=lines.append, clean_loader=TRAIN)
    assert lines == [epoch_line(entry, 2) for entry in history]
    for number, (line, entry) in enumerate(zip(lines, history, strict=True), start=1):
        assert "\n" not in line
        assert line.startswith(f"epoch {number}/2 lr {entry['learning_rate']:.2e} ")
        for name in ("train_loss", "val_loss"):
            assert f"{name} {entry[name]:.4f}" in line
        assert f"train_acc {entry['train_accuracy']:.4f}" in line
        assert f"val_acc {entry['val_accuracy']:.4f}" in line


def test_a_net_learns_what_can_be_learnt() -> None:
    history = fit(net(dropout=0), epochs=15, max_lr=0.02)
    assert history[-1]["val_accuracy"] > 0.8 > history[0]["val_accuracy"]


def test_a_bare_number_clips_by_value() -> None:
    bare, value, norm = (net() for _ in range(3))
    fit(bare, grad_clip=0.01)
    fit(value, grad_clip=0.01, grad_clip_by="value")
    fit(norm, grad_clip=0.01, grad_clip_by="norm")
    assert all(torch.equal(a, b) for a, b in zip(weights(bare), weights(value), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(bare), weights(norm), strict=True))


def test_the_share_of_clipped_steps_is_one_for_a_tiny_bound_and_zero_without() -> None:
    assert [entry["clipped_share"] for entry in fit(grad_clip=1e-9)] == [1.0, 1.0]
    assert [entry["clipped_share"] for entry in fit(grad_clip=1e9)] == [0.0, 0.0]
    assert [entry["clipped_share"] for entry in fit()] == [0.0, 0.0]


# --- loaders
# ----------------------------------------------------------------------------------------------------------


def dataset() -> TensorDataset:
    return TensorDataset(torch.cat([x for x, _ in TRAIN]), torch.cat([y for _, y in TRAIN]))


def test_a_torch_data_loader_trains_as_its_batches_in_a_list_do() -> None:
    # a DataLoader draws from the generator that dropout uses
    listed, loaded = net(dropout=0), net(dropout=0)
    fit(listed)
    fit(loaded, train_loader=DataLoader(dataset(), batch_size=16))
    assert all(torch.equal(a, b) for a, b in zip(weights(listed), weights(loaded), strict=True))


def test_a_data_loader_with_an_odd_last_batch_trains_on_all_of_it() -> None:
    sizes: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training:
            sizes.append(len(inputs[0]))

    model = net()
    model.register_forward_pre_hook(count)
    fit(model, epochs=1, train_loader=DataLoader(dataset(), batch_size=24))
    assert sizes == [24, 24, 16]


def test_a_loader_without_a_length_needs_steps_per_epoch() -> None:
    with pytest.raises(UsageError, match="no len") as caught:
        fit(train_loader=Stream(TRAIN))
    assert "steps_per_epoch" in caught.value.hint


def test_a_data_loader_over_an_iterable_dataset_needs_steps_per_epoch() -> None:
    class Endless(IterableDataset[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            yield from TRAIN

    with pytest.raises(UsageError, match="no len"):
        fit(train_loader=DataLoader(Endless(), batch_size=None))
    assert len(fit(train_loader=DataLoader(Endless(), batch_size=None), steps_per_epoch=4)) == 2


def test_a_stream_with_steps_per_epoch_trains_as_a_list_does() -> None:
    listed, streamed = net(), net()
    fit(listed)
    fit(streamed, train_loader=Stream(TRAIN), steps_per_epoch=4)
    assert all(torch.equal(a, b) for a, b in zip(weights(listed), weights(streamed), strict=True))


def test_one_endless_generator_loses_no_batch_between_epochs() -> None:
    listed, streamed = net(), net()
    fit(listed, train_loader=TRAIN[:2], epochs=2)
    fit(
        streamed,
        train_loader=(batch for _ in range(2) for batch in TRAIN[:2]),
        epochs=2,
        steps_per_epoch=2,
    )
    assert all(torch.equal(a, b) for a, b in zip(weights(listed), weights(streamed), strict=True))


def test_a_loader_that_runs_dry_is_a_usage_error_with_both_numbers() -> None:
    with pytest.raises(UsageError, match="gave 4 batches where 5 were planned"):
        fit(train_loader=Stream(TRAIN), steps_per_epoch=5)


def test_a_loader_is_told_its_epoch() -> None:
    told: list[int] = []

    class Told(list[Batch]):
        def set_epoch(self, epoch: int) -> None:
            told.append(epoch)

    fit(train_loader=Told(TRAIN), epochs=3)
    assert told == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"train_loader": []},
        {"steps_per_epoch": 0},
        {"max_lr": 0.0},
        {"max_lr": math.nan},
        {"max_lr": -1.0},
    ],
    ids=str,
)
def test_nothing_to_train_is_a_usage_error(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fit(**change)


# --- other optimisers
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [torch.optim.RMSprop, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adagrad]
)
def test_a_foreign_optimiser_runs_on_the_same_learning_rates(
    kind: type[torch.optim.Optimizer],
) -> None:
    made: list[torch.optim.Optimizer] = []
    used: list[float] = []

    def build(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        optimizer = kind(*arguments, **options)
        optimizer.register_step_pre_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
        made.append(optimizer)
        return optimizer

    history = fit(opt_func=build)
    assert len(made) == 1
    assert used == [rate for entry in history for rate in entry["lrs"]]
    assert all(math.isfinite(entry["val_loss"]) for entry in history)


def test_a_foreign_optimisers_beta1_follows_the_cycle() -> None:
    used: list[float] = []

    def build(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.NAdam(*arguments, **options)
        optimizer.register_step_pre_hook(
            lambda *_: used.append(optimizer.param_groups[0]["betas"][0])
        )
        return optimizer

    fit(opt_func=build)
    assert used == [momentum for _, momentum in schedule_table(ScheduleRecipe(max_lr=0.01), 8)]


def test_a_partial_of_an_optimiser_is_a_foreign_one() -> None:
    bound = functools.partial(torch.optim.Adam, eps=1e-3)
    plain, changed = net(), net()
    fit(plain)
    fit(changed, opt_func=bound)
    assert not all(torch.equal(a, b) for a, b in zip(weights(plain), weights(changed), strict=True))


# --- validation
# -------------------------------------------------------------------------------------------------------


class Watching(nn.Module):
    """Remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3 * SIDE * SIDE, CLASSES)
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, x_NCHW: Tensor) -> Tensor:
        self.calls.append((self.training, torch.is_grad_enabled()))
        out_NK: Tensor = self.inner(x_NCHW.flatten(1))
        return out_NK


def test_training_runs_in_train_mode_and_validation_in_eval_mode_without_gradients() -> None:
    model = Watching()
    fit(model, epochs=1)
    assert model.calls == [(True, True)] * len(TRAIN) + [(False, False)] * len(VAL)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_the_mode_and_the_weights_as_they_were(training: bool) -> None:
    model = net().train(training)
    before = weights(model)
    evaluate(model, VAL)
    assert model.training is training
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def test_evaluate_restores_the_mode_when_the_loader_fails() -> None:
    def broken() -> Iterator[Batch]:
        yield VAL[0]
        raise OSError("gone")

    model = net()
    with pytest.raises(OSError, match="gone"):
        evaluate(model, broken())
    assert model.training


def test_evaluate_is_the_mean_over_images_and_not_over_batches() -> None:
    model = net().eval()
    x_NCHW, labels_N = (torch.cat(parts) for parts in zip(*VAL, strict=True))
    uneven = [(x_NCHW[:5], labels_N[:5]), (x_NCHW[5:], labels_N[5:])]
    with torch.no_grad():
        out_NK = model(x_NCHW)
    found = evaluate(model, uneven)
    assert found["loss"] == pytest.approx(F.cross_entropy(out_NK, labels_N).item(), rel=1e-5)
    assert found["accuracy"] == float((out_NK.argmax(dim=1) == labels_N).double().mean())
    assert found["images"] == len(labels_N)


def test_a_softmax_head_is_evaluated_by_the_likelihood_of_its_probabilities() -> None:
    logits, softmax = evaluate(net(), VAL), evaluate(net(head="softmax"), VAL)
    assert softmax["loss"] == pytest.approx(logits["loss"], rel=1e-5)
    assert softmax["accuracy"] == logits["accuracy"]


def test_an_empty_loader_cannot_be_evaluated() -> None:
    with pytest.raises(UsageError, match="empty"):
        evaluate(net(), [])


# --- divergence
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 2, 5])
def test_divergence_names_the_first_bad_step_and_its_epoch(step: int, value: float) -> None:
    spoilt = [(x_NCHW.clone(), labels_N) for x_NCHW, labels_N in TRAIN[:3]]
    spoilt[step % 3][0][0] = value

    class Later:
        """Good batches until the epoch of the bad step."""

        def __init__(self) -> None:
            self.epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[Batch]:
            yield from spoilt if self.epoch == step // 3 else TRAIN[:3]

    seen: list[dict[str, Any]] = []
    with pytest.raises(DivergedError) as caught:
        fit(train_loader=Later(), epochs=3, on_epoch=seen.append)
    assert (caught.value.epoch, caught.value.step) == (step // 3, step)
    assert len(seen) == step // 3


def test_an_absurd_learning_rate_diverges() -> None:
    with pytest.raises(DivergedError) as caught:
        fit(net(dropout=0), epochs=30, max_lr=1e30, opt_func=torch.optim.SGD)
    assert caught.value.step > 0


def test_a_last_update_that_breaks_the_net_is_divergence_too() -> None:
    constant = ScheduleRecipe(name="constant")
    with pytest.raises(DivergedError) as caught:
        fit(
            net(dropout=0),
            epochs=1,
            train_loader=TRAIN[:1],
            max_lr=1e38,
            schedule=constant,
            weight_decay=100.0,
        )
    assert (caught.value.epoch, caught.value.step) == (0, 0)


# --- random numbers
# ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = net(), net()
    histories = [fit(model, epochs=3) for model in (first, second)]
    for entries in zip(*histories, strict=True):
        assert (
            len(
                {
                    tuple((k, str(v)) for k, v in entry.items() if not k.endswith("seconds"))
                    for entry in entries
                }
            )
            == 1
        )
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_another_seed_gives_other_dropout_masks() -> None:
    first, second = net(dropout=0.5), net(dropout=0.5)
    fit(first, seed=0)
    fit(second, seed=1)
    assert not all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_dropout_of_an_epoch_depends_on_nothing_drawn_before_it() -> None:
    first, second = net(dropout=0.5), net(dropout=0.5)
    fit(first)
    fit(second, on_epoch=lambda _: bool(torch.rand(17).sum() < 0))  # draws, and never stops
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_without_dropout_and_without_a_seed_the_default_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    fit(net(dropout=0), seed=None)
    assert torch.equal(torch.random.get_rng_state(), before)


@settings(max_examples=15)
@given(st.integers(2, 9), st.integers(1, 3), st.sampled_from([0.0, 0.1]))
def test_the_log_of_an_epoch_covers_its_steps_whatever_their_number(
    steps: int, epochs: int, decay: float
) -> None:
    history = fit(
        epochs=epochs,
        train_loader=Stream(batches(steps, size=4)),
        steps_per_epoch=steps,
        weight_decay=decay,
    )
    assert [len(entry["lrs"]) for entry in history] == [steps] * epochs
    assert all(0 <= entry["online_accuracy"] <= 1 for entry in history)
