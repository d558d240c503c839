"""What people's loaders, nets, losses and optimisers give: one clear sentence each, or the right value."""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from harness.errors import UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train import evaluate, fit_one_cycle
from tests.train.tiny import CLASSES, SIDE, batches, net

TRAIN = batches(4)
VAL = batches(2, seed=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def fit(model: Any = None, **changes: Any) -> list[dict[str, Any]]:
    given = {
        "epochs": 1,
        "max_lr": 0.01,
        "train_loader": TRAIN,
        "val_loader": VAL,
        "seed": 0,
        **changes,
    }
    return fit_one_cycle(model=net(dropout=0) if model is None else model, **given)


Change = Callable[[Tensor, Tensor], Any]
BATCHES: dict[str, tuple[Change, str]] = {
    "labels of shape (N, 1)": (lambda x, y: (x, y[:, None]), r"labels .* have shape \(16, 1\)"),
    "labels of shape (N, 1, 1)": (
        lambda x, y: (x, y[:, None, None]),
        r"labels .* have shape \(16, 1, 1\)",
    ),
    "a label that is ignored": (
        lambda x, y: (x, y.index_fill(0, torch.tensor(3), -100)),
        "hold -100, which marks what",
    ),
    "a label of -1": (
        lambda x, y: (x, y.index_fill(0, torch.tensor(3), -1)),
        "hold -1 and class numbers start at 0",
    ),
    "a label too high": (
        lambda x, y: (x, y.index_fill(0, torch.tensor(3), 9)),
        "hold 9 and the model has 4 outputs",
    ),
    "labels from 1": (
        lambda x, y: (x, y + 1),
        "hold 4 and the model has 4 outputs, for classes 0 to 3",
    ),
    "one-hot of whole numbers": (
        lambda x, y: (x, F.one_hot(y, CLASSES)),
        r"are int64 of shape \(16, 4\)",
    ),
    "one-hot of bools": (
        lambda x, y: (x, F.one_hot(y, CLASSES).bool()),
        r"are bool of shape \(16, 4\)",
    ),
    "int32 labels": (lambda x, y: (x, y.int()), "are int32"),
    "uint8 labels": (lambda x, y: (x, y.byte()), "are uint8"),
    "float labels": (lambda x, y: (x, y.float()), "are float32"),
    "bool labels": (lambda x, y: (x, y.bool()), "are bool"),
    "words": (lambda x, y: (x, [f"class {label}" for label in y]), "labels that are words"),
    "a tuple of words": (lambda x, y: (x, tuple("cat" for _ in y)), "labels that are words"),
    "a list of numbers": (lambda x, y: (x, y.tolist()), "labels that are a list"),
    "NumPy's labels": (lambda x, y: (x, y.numpy()), "labels that are a ndarray"),
    "too few labels": (lambda x, y: (x, y[:-1]), r"of shape \(15,\) go with 16 images"),
    "one label for all": (lambda x, y: (x, y[0]), r"of shape \(\) go with 16 images"),
    "images of uint8": (
        lambda x, y: (x.byte(), y),
        "the images are uint8 and the model's weights float32",
    ),
    "images of float64": (
        lambda x, y: (x.double(), y),
        "the images are float64 and the model's weights float32",
    ),
    "images of int64": (
        lambda x, y: (x.long(), y),
        "the images are int64 and the model's weights float32",
    ),
    "images of float16": (
        lambda x, y: (x.half(), y),
        "the images are float16 and the model's weights float32",
    ),
    "NumPy's images": (lambda x, y: (x.numpy(), y), "images that are a ndarray"),
    "a dict": (lambda x, y: {"image": x, "label": y}, "is a table with keys 'image', 'label'"),
    "three parts": (lambda x, y: (x, y, torch.arange(len(y))), "has 3 parts"),
    "one part": (lambda x, _: [x], "has 1 part"),
    "images alone": (lambda x, _: x, "is a Tensor"),
    "an image and a label of a data set": (lambda x, y: (x[0], int(y[0])), "labels that are a int"),
    "nothing": (lambda x, y: (x[:0], y[:0]), "holds no image"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_fit_one_cycle_says_what_is_wrong_with_a_batch(name: str) -> None:
    change, message = BATCHES[name]
    with pytest.raises(UsageError, match=message) as caught:
        fit(train_loader=[change(x, y) for x, y in TRAIN])
    assert caught.value.hint


@pytest.mark.parametrize("name", BATCHES)
def test_evaluate_says_what_is_wrong_with_a_batch(name: str) -> None:
    change, message = BATCHES[name]
    with pytest.raises(UsageError, match=message) as caught:
        evaluate(net(), [change(x, y) for x, y in VAL])
    assert caught.value.hint


@pytest.mark.parametrize("value", [-100, -1, CLASSES, 255])
@pytest.mark.parametrize("run", ["fit", "validation", "evaluate"])
def test_a_wrong_label_of_a_later_batch_is_told_too(run: str, value: int) -> None:
    wrong = [(x.clone(), y.clone()) for x, y in TRAIN]
    wrong[-1][1][5] = value
    loader = {"train_loader" if run == "fit" else "val_loader": wrong}
    with pytest.raises(UsageError, match=f"hold {value}"):
        evaluate(net(), wrong) if run == "evaluate" else fit(**loader)


def test_soft_targets_train_and_validation_asks_for_class_numbers() -> None:
    soft = [(x, F.one_hot(y, CLASSES).float()) for x, y in TRAIN]
    hard = fit(net(dropout=0, seed=3))
    assert [e["val_loss"] for e in fit(net(dropout=0, seed=3), train_loader=soft)] == pytest.approx(
        [e["val_loss"] for e in hard], rel=1e-4
    )
    with pytest.raises(UsageError, match="validation loader have shape") as caught:
        fit(val_loader=soft)
    assert "argmax" in caught.value.hint


@pytest.mark.parametrize("factor", [2.0, -1.0, float("nan")])
def test_rows_that_are_no_probabilities_are_told(factor: float) -> None:
    with pytest.raises(UsageError, match="rows that are no probabilities"):
        fit(train_loader=[(x, factor * F.one_hot(y, CLASSES).float()) for x, y in TRAIN])


def test_soft_targets_of_other_classes_are_told() -> None:
    with pytest.raises(UsageError, match="have 7 columns and the model 4 outputs"):
        fit(train_loader=[(x, F.one_hot(y, 7).float()) for x, y in TRAIN])


def test_a_data_loader_of_numpy_labels_says_what_to_do() -> None:
    x_NCHW, labels_N = TRAIN[0]
    pairs = [(image, np.int32(label)) for image, label in zip(x_NCHW, labels_N, strict=True)]
    with pytest.raises(UsageError, match="are int32") as caught:
        fit(train_loader=DataLoader(pairs, batch_size=8))  # type: ignore[arg-type]
    assert ".long()" in caught.value.hint


def test_a_data_set_that_nobody_wrapped_in_a_loader_is_told() -> None:
    with pytest.raises(UsageError, match=r"of shape \(\) go with 3 images"):
        fit(train_loader=TensorDataset(*TRAIN[0]))


# --- outputs
# ----------------------------------------------------------------------------------------------------------


class Giving(nn.Module):
    """A linear net whose output goes through a function."""

    def __init__(self, change: Callable[[Tensor], Any], outputs: int = CLASSES) -> None:
        super().__init__()
        self.head = nn.Linear(3 * SIDE * SIDE, outputs)
        self.change = change

    def forward(self, x_NCHW: Tensor) -> Any:
        return self.change(self.head(x_NCHW.flatten(1)))


OUTPUTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a tuple": (lambda: Giving(lambda out: (out, out)), "returns a tuple"),
    "a list": (lambda: Giving(lambda out: [out]), "returns a list"),
    "a dict": (lambda: Giving(lambda out: {"logits": out}), "returns a dict"),
    "an ordered dict": (lambda: Giving(lambda out: OrderedDict(out=out)), "returns a OrderedDict"),
    "nothing": (lambda: Giving(lambda _: None), "returns a NoneType"),
    "one logit": (lambda: Giving(lambda out: out, 1), "returns one number an image"),
    "one logit without its dimension": (
        lambda: Giving(lambda out: out.squeeze(1), 1),
        r"returns shape \(16,\)",
    ),
    "a map": (lambda: Giving(lambda out: out[:, :, None, None]), r"returns shape \(16, 4, 1, 1\)"),
    "a mean over the batch": (
        lambda: Giving(lambda out: out.mean(dim=0, keepdim=True)),
        r"returns shape \(1, 4\)",
    ),
    "classes first": (lambda: Giving(lambda out: out.t()), r"returns shape \(4, 16\)"),
    "guesses": (lambda: Giving(lambda out: F.one_hot(out.argmax(dim=1), CLASSES)), "returns int64"),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(
    "run", [fit, lambda model: evaluate(model, VAL)], ids=["fit_one_cycle", "evaluate"]
)
def test_an_output_that_is_no_logits_is_told(name: str, run: Callable[[nn.Module], Any]) -> None:
    make, message = OUTPUTS[name]
    with pytest.raises(UsageError, match=message) as caught:
        run(make())
    assert caught.value.hint


def test_an_output_that_only_validation_spoils_is_told() -> None:
    model = Giving(lambda out: out if model.training else (out,))
    with pytest.raises(UsageError, match="returns a tuple"):
        fit(model)


@pytest.mark.parametrize("change", [Tensor.detach, torch.zeros_like], ids=["detached", "constant"])
def test_an_output_without_a_gradient_is_told(change: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UsageError, match="without a gradient"):
        fit(Giving(change))


def test_a_net_without_weights_cannot_be_trained_and_can_be_evaluated() -> None:
    class First(nn.Module):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            return x_NCHW[:, 0, 0, :CLASSES]

    with pytest.raises(UsageError, match="no weights to train"):
        fit(First())
    out_NK, labels_N = (
        torch.cat(parts) for parts in zip(*((First()(x), y) for x, y in VAL), strict=True)
    )
    assert evaluate(First(), VAL)["accuracy"] == float(
        (out_NK.argmax(dim=1) == labels_N).double().mean()
    )


def test_what_is_no_net_is_told() -> None:
    with pytest.raises(UsageError, match="the model is a function"):
        fit(lambda x_NCHW: x_NCHW)


def test_an_error_of_the_nets_own_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(train_loader=[(x[:, :, :4, :4], y) for x, y in TRAIN], model=Giving(lambda out: out))


def test_images_of_half_precision_train_under_autocast() -> None:
    half = [(x.bfloat16(), y) for x, y in TRAIN]
    assert fit(train_loader=half, precision="bf16")[0]["val_loss"] > 0


# --- losses
# -----------------------------------------------------------------------------------------------------------

LOSSES: dict[str, tuple[Any, str]] = {
    "one a row": (
        functools.partial(F.cross_entropy, reduction="none"),
        r"returns a tensor of shape \(16,\)",
    ),
    "a number": (lambda out, target: F.cross_entropy(out, target).item(), "returns a float"),
    "without a gradient": (
        lambda out, target: F.cross_entropy(out.detach(), target),
        "without a gradient",
    ),
    "a tuple": (lambda out, target: (F.cross_entropy(out, target), 0), "returns a tuple"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_mean_is_told(name: str) -> None:
    loss, message = LOSSES[name]
    with pytest.raises(UsageError, match=message):
        fit(loss_func=loss)


# --- optimisers
# -------------------------------------------------------------------------------------------------------

WEIGHTS = [nn.Parameter(torch.zeros(2))]
MAKERS: dict[str, tuple[Any, str]] = {
    "an instance": (torch.optim.Adam(WEIGHTS), "opt_func is a Adam and should make an optimiser"),
    "another instance": (torch.optim.RMSprop(WEIGHTS), "opt_func is a RMSprop"),
    "a name": ("adam", "opt_func is a str"),
    "None": (None, "opt_func is a NoneType"),
    "LBFGS": (torch.optim.LBFGS, "could not make an optimiser: .*weight_decay"),
    "LBFGS without a decay": (
        lambda weights, lr, **_: torch.optim.LBFGS(weights, lr=lr),
        "several looks at a batch",
    ),
    "a list": (lambda *arguments, **_: [*arguments], "makes a list without param_groups"),
    "too few arguments": (lambda weights: [*weights], "could not make an optimiser"),
    "a bad number": (
        functools.partial(torch.optim.RMSprop, alpha=-1),
        "could not make an optimiser: .*-1",
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimiser_that_cannot_be_stepped_is_told(name: str) -> None:
    maker, message = MAKERS[name]
    with pytest.raises(UsageError, match=message) as caught:
        fit(opt_func=maker)
    assert caught.value.hint


RATES: dict[str, Callable[[float], list[float]]] = {
    "a share of the rate": lambda lr: [lr * 0.1, lr],
    "rates of their own": lambda _: [1e-4, 1e-3],
    "the head alone slower": lambda lr: [lr, lr * 0.1],
    "three groups": lambda lr: [lr / 9, lr / 3, lr],
    "one that rests": lambda lr: [0.0, lr],
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.NAdam, torch.optim.Adagrad])
def test_parameter_groups_keep_the_ratio_of_their_rates(kind: Any, name: str) -> None:
    used: list[list[float]] = []

    def make(weights: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        rates = RATES[name](lr)
        groups = [{"params": weights[i :: len(rates)], "lr": rate} for i, rate in enumerate(rates)]
        optimizer = kind(groups, lr=lr, weight_decay=weight_decay)
        optimizer.register_step_pre_hook(
            lambda *_: used.append([group["lr"] for group in optimizer.param_groups])
        )
        return optimizer  # type: ignore[no-any-return]

    fit(opt_func=make)
    table = schedule_table(ScheduleRecipe(max_lr=0.01), len(TRAIN))
    highest = max(RATES[name](1.0))
    shares = [rate / highest for rate in RATES[name](1.0)]
    assert used == [pytest.approx([share * rate for share in shares]) for rate, _ in table]


@pytest.mark.parametrize(
    "rate", [[0.01], [0.01, 0.1], (0.01,), "0.01", None, True, torch.tensor([0.1, 0.2])], ids=repr
)
def test_a_highest_rate_that_is_no_number_is_told(rate: Any) -> None:
    with pytest.raises(UsageError, match=re.escape("max_lr is ")):
        fit(max_lr=rate)


@pytest.mark.parametrize("epochs", [2.0, "2", None, True, [1]], ids=repr)
def test_epochs_that_are_no_whole_number_are_told(epochs: Any) -> None:
    with pytest.raises(UsageError, match=re.escape("epochs is ")):
        fit(epochs=epochs)


# --- on_epoch
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [None, False, 0, 1, 0.93, "stop", [1], {"val_loss": 1.0}, object()],
    ids=lambda answer: type(answer).__name__,
)
def test_only_true_ends_training(answer: object) -> None:
    assert len(fit(epochs=2, on_epoch=lambda _: answer)) == 2
