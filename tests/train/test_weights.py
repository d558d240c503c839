"""Weights of every layout that torch allows, weights that get no gradient, and modes that their user chose."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from harness.errors import UsageError
from harness.study.recipe_fields import ScheduleRecipe
from harness.study.schedules import schedule_table
from harness.train import evaluate, fit_one_cycle
from harness.train.capture import EagerReplay, Lane
from harness.train.engine import Program
from harness.train.step import StepSettings
from tests.train.tiny import CLASSES, SIDE, batches

PIXELS = 3 * SIDE * SIDE
TRAIN = batches(4)
VAL = batches(2, seed=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def fit(model: nn.Module, **changes: Any) -> list[dict[str, Any]]:
    given = {
        "epochs": 1,
        "max_lr": 0.01,
        "train_loader": TRAIN,
        "val_loader": VAL,
        "seed": 0,
        **changes,
    }
    return fit_one_cycle(model=model, **given)


class Linear(nn.Module):
    """A linear classifier on weights of any layout."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.linear(x_NCHW.flatten(1), self.weight, self.bias)


# --- layouts
# ----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "columns of a larger tensor": lambda: torch.randn(CLASSES, 800)[:, :PIXELS],
    "rows of a larger tensor": lambda: torch.randn(99, PIXELS)[7 : 7 + CLASSES],
    "every second column": lambda: torch.randn(CLASSES, 2 * PIXELS)[:, ::2],
    "one row for all": lambda: torch.randn(1, PIXELS).expand(CLASSES, PIXELS),
    "one number for all": lambda: torch.randn(()).expand(CLASSES, PIXELS),
    "transposed": lambda: torch.randn(PIXELS, CLASSES).t(),
    "transposed slice": lambda: torch.randn(PIXELS, 9).t()[2 : 2 + CLASSES],
    "as_strided with a gap": lambda: torch.randn(4000).as_strided((CLASSES, PIXELS), (3, 12), 5),
    "windows that overlap": lambda: torch.randn(500).as_strided((CLASSES, PIXELS), (1, 1)),
    "flipped and sliced": lambda: torch.randn(CLASSES, PIXELS + 3).flip(1)[:, 3:],
    "permuted": lambda: (
        torch.randn(PIXELS, 2, CLASSES // 2).permute(1, 2, 0).reshape(CLASSES, PIXELS)
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "opt_func",
    [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop],
    ids=lambda kind: kind.__name__,
)
def test_a_fit_at_next_to_no_rate_leaves_the_evaluation_as_it_was(name: str, opt_func: Any) -> None:
    model = Linear(LAYOUTS[name]())
    before = evaluate(model, VAL)
    fit(model, max_lr=1e-12, opt_func=opt_func)
    assert evaluate(model, VAL) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_of_any_layout_train_as_a_contiguous_copy_does(name: str) -> None:
    content = LAYOUTS[name]()
    view, copy = Linear(content), Linear(content.contiguous().clone())
    assert [e["online_loss"] for e in fit(view, epochs=3)] == pytest.approx(
        [e["online_loss"] for e in fit(copy, epochs=3)], rel=1e-5
    )
    torch.testing.assert_close(view.weight, copy.weight)


@pytest.mark.parametrize("name", LAYOUTS)
def test_after_a_fit_a_weight_owns_memory_of_its_own_size(name: str) -> None:
    model = Linear(LAYOUTS[name]())
    fit(model)
    assert model.weight.untyped_storage().nbytes() == 4 * CLASSES * PIXELS


def test_after_a_fit_a_part_of_a_net_saves_what_it_holds() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 4000), nn.ReLU(), nn.Linear(4000, CLASSES)
    )
    fit(model)
    file = io.BytesIO()
    torch.save(model[3].state_dict(), file)
    assert file.tell() < 2 * 4 * (4000 * CLASSES + CLASSES)


def test_weights_are_given_back_when_training_breaks() -> None:
    model = Linear(torch.randn(CLASSES, PIXELS))
    with pytest.raises(ZeroDivisionError):
        fit(model, on_epoch=lambda _: 1 / 0)
    assert model.weight.untyped_storage().nbytes() == 4 * CLASSES * PIXELS


def test_slices_of_one_tensor_that_share_no_entry_train_on_their_own() -> None:
    large = torch.randn(CLASSES, 2 * PIXELS)
    model = nn.ModuleList([Linear(large[:, :PIXELS]), Linear(large[:, PIXELS:])])
    model.forward = lambda x_NCHW: model[0](x_NCHW) + model[1](x_NCHW)
    before = evaluate(model, VAL)
    fit(model, max_lr=1e-12)
    assert evaluate(model, VAL) == pytest.approx(before, rel=1e-6)


class Tied(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(PIXELS, CLASSES), nn.Linear(PIXELS, CLASSES)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NK: Tensor = self.first(x_NCHW.flatten(1)) + self.second(x_NCHW.flatten(1))
        return out_NK


def tied_by_data(model: Tied) -> None:
    model.second.weight.data = model.first.weight.data


def tied_by_a_part(model: Tied) -> None:
    model.second.weight.data = model.first.weight.data.as_strided((CLASSES, PIXELS), (0, 1))


def tied_to_a_frozen_weight(model: Tied) -> None:
    model.second.weight = nn.Parameter(model.first.weight.data, requires_grad=False)


def tied_to_a_buffer(model: Tied) -> None:
    model.second.register_buffer("weight_copy", model.first.weight.data[1])


@pytest.mark.parametrize(
    "tie", [tied_by_data, tied_by_a_part, tied_to_a_frozen_weight, tied_to_a_buffer]
)
def test_different_parameters_that_share_memory_are_refused_by_name(
    tie: Callable[[Tied], None],
) -> None:
    model = Tied()
    tie(model)
    with pytest.raises(UsageError, match=r"first\.weight and second\.weight\w* share memory"):
        fit(model)


def test_layers_tied_as_one_parameter_stay_tied() -> None:
    model = Tied()
    model.second.weight = model.first.weight
    fit(model)
    assert model.second.weight is model.first.weight


def test_a_layer_without_sizes_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"1\.weight has no shape yet"):
        fit(nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)))


# --- gradients that are not there
# -------------------------------------------------------------------------------------


class Branches(nn.Module):
    """A stem and two branches, of which the given steps of training use each; the last layer is never used."""

    def __init__(self, uses: Callable[[int], tuple[bool, bool]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Linear(PIXELS, CLASSES) for _ in range(3)])
        self.stem = nn.Linear(PIXELS, PIXELS)
        self.uses, self.step = uses, 0

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NF = self.stem(x_NCHW.flatten(1))
        use = self.uses(self.step) if self.training else (True, True)
        self.step += self.training
        out_NK: Tensor = x_NF[:, :CLASSES]
        for branch, used in zip(self.branches, use, strict=False):
            out_NK = out_NK + branch(x_NF) if used else out_NK
        return out_NK


PATTERNS: dict[str, Callable[[int], tuple[bool, bool]]] = {
    "always": lambda _: (True, True),
    "never": lambda _: (True, False),
    "in turn": lambda step: (step % 2 == 0, step % 2 == 1),
    "late": lambda step: (True, step >= 5),
    "early": lambda step: (step < 3, True),
    "at random": lambda step: (bool(step * 7919 % 3), bool(step * 104729 % 5)),
}
OPTIMISERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
}


def by_torch(
    model: nn.Module, kind: Any, options: dict[str, Any], *, decay: float, epochs: int
) -> None:
    """Train as a user's own loop does: zero_grad, backward, step."""
    table = schedule_table(ScheduleRecipe(max_lr=0.01), epochs * len(TRAIN))
    optimizer = kind(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=decay, **options
    )
    model.train()
    for step, (rate, momentum) in enumerate(table):
        (group,) = optimizer.param_groups
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
        optimizer.zero_grad()
        x_NCHW, labels_N = TRAIN[step % len(TRAIN)]
        F.cross_entropy(model(x_NCHW), labels_N).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_weights_without_a_gradient_move_as_torch_moves_them(name: str, pattern: str) -> None:
    kind, options = OPTIMISERS[name]
    ours, theirs = (Branches(PATTERNS[pattern]) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    fit(ours, epochs=3, weight_decay=0.1, opt_func=kind)
    by_torch(theirs, kind, options, decay=0.1, epochs=3)
    for (label, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-4, atol=2e-6, msg=label)


@pytest.mark.parametrize(
    "opt_func", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.NAdam]
)
def test_an_unused_and_a_frozen_weight_do_not_move_at_all(opt_func: Any) -> None:
    model = Branches(lambda _: (True, False))
    model.branches[0].weight.requires_grad_(False)
    before = [
        p.detach().clone()
        for p in (*model.branches[1].parameters(), *model.branches[2].parameters())
    ]
    frozen = model.branches[0].weight.detach().clone()  # type: ignore[operator]
    fit(model, epochs=3, weight_decay=0.1, opt_func=opt_func)
    after = [*model.branches[1].parameters(), *model.branches[2].parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(model.branches[0].weight, frozen)  # type: ignore[arg-type]


def test_a_weight_frozen_between_epochs_stops_moving() -> None:
    model = Branches(lambda _: (True, True))
    kept: list[Tensor] = []

    def freeze(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 0:
            model.stem.weight.requires_grad_(False)
            kept.append(model.stem.weight.detach().clone())

    fit(model, epochs=3, weight_decay=0.1, on_epoch=freeze)
    assert torch.equal(model.stem.weight, kept[0])


def test_half_precision_too_leaves_a_weight_without_a_gradient_alone() -> None:
    model = Branches(lambda _: (True, False))
    before = model.branches[1].weight.detach().clone()  # type: ignore[operator]
    fit(model, epochs=2, weight_decay=0.1, precision="fp16")
    assert torch.equal(model.branches[1].weight, before)  # type: ignore[arg-type]


def test_a_recorded_step_leaves_a_weight_without_a_gradient_alone() -> None:
    def recorder(
        body: Callable[[], None], _: torch.device, *, rewind: Callable[[], None], **__: Lane
    ) -> EagerReplay:
        rewind()
        body()
        return EagerReplay(body)

    replayed, eager = (Branches(lambda _: (True, False)) for _ in range(2))
    eager.load_state_dict(replayed.state_dict())
    program = Program(replayed, StepSettings(0.1), TRAIN, room=64, recorder=recorder)  # type: ignore[arg-type]
    fit(replayed, epochs=2, weight_decay=0.1, engine=program)
    fit(eager, epochs=2, weight_decay=0.1)
    for mine, other in zip(replayed.parameters(), eager.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_gradient_left_over_from_before_counts_for_nothing() -> None:
    fresh, used = (Branches(lambda _: (True, True)) for _ in range(2))
    used.load_state_dict(fresh.state_dict())
    for p in used.parameters():
        p.grad = torch.ones_like(p)
    fit(fresh)
    fit(used)
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.parameters(), used.parameters(), strict=True)
    )


def test_a_sparse_gradient_trains_as_a_dense_one_does() -> None:
    class Bright(nn.Module):
        def __init__(self, *, sparse: bool) -> None:
            super().__init__()
            self.table = nn.Embedding(3 * SIDE * SIDE, CLASSES, sparse=sparse)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            out_NK: Tensor = self.table(x_NCHW.flatten(1).argmax(dim=1))
            return out_NK

    sparse, dense = Bright(sparse=True), Bright(sparse=False)
    dense.load_state_dict(sparse.state_dict())
    fit(sparse)
    fit(dense)
    assert torch.equal(sparse.table.weight, dense.table.weight)


# --- modes
# ------------------------------------------------------------------------------------------------------------


class Frozen(nn.Module):
    """A BatchNorm and a dropout that may be frozen, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(PIXELS, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        out_NK: Tensor = self.head(self.body(self.dropout(self.norm(x_NCHW))))
        return out_NK


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


PARTS = ["norm", "dropout", "body", "body.2", "body.3", "head"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("run", [evaluate, None], ids=["evaluate", "fit_one_cycle"])
def test_a_module_put_into_eval_mode_stays_in_it(part: str, run: Any) -> None:
    model = Frozen()
    model.get_submodule(part).eval()
    before = modes(model)
    evaluate(model, VAL) if run else fit(model, epochs=2)
    assert modes(model) == before


def test_a_frozen_batch_norm_keeps_its_statistics_through_a_fit() -> None:
    model = Frozen()
    model.norm.eval()
    fit(model, epochs=2)
    assert torch.equal(model.norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]
    assert not torch.equal(model.body[2].running_mean, torch.zeros(8))  # type: ignore[arg-type]


def test_a_head_alone_in_training_mode_trains_alone_in_it() -> None:
    model = Frozen().eval()
    model.head.train()
    fit(model, epochs=2)
    assert torch.equal(model.body[2].running_mean, torch.zeros(8))  # type: ignore[arg-type]
    assert [name for name, module in model.named_modules() if module.training] == ["head"]


def test_a_net_wholly_in_eval_mode_is_trained_in_training_mode_and_given_back_in_eval_mode() -> (
    None
):
    model = Frozen().eval()
    fit(model, epochs=2)
    assert not torch.equal(model.norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]
    assert not any(modes(model))


def test_a_train_method_that_holds_a_part_back_is_heeded() -> None:
    class Held(Frozen):
        def train(self, mode: bool = True) -> Held:
            super().train(mode)
            self.norm.eval()
            return self

    model = Held()
    fit(model, epochs=2)
    assert torch.equal(model.norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]


def test_a_module_frozen_between_epochs_stays_frozen() -> None:
    model = Frozen()
    kept: list[Tensor] = []

    def freeze(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 0:
            model.norm.eval()
            kept.append(model.norm.running_mean.clone())  # type: ignore[union-attr]

    fit(model, epochs=3, on_epoch=freeze)
    assert torch.equal(model.norm.running_mean, kept[0])  # type: ignore[arg-type]
