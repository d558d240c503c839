"""The user's nets, optimisers, schedules and losses: what is made of them, and the error that each misfit gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import HarnessError, RecipeError, UsageError
from harness.study.recipe import Recipe
from harness.study.recipe_fields import LossRecipe, OptimizerRecipe, ScheduleRecipe
from harness.train import nets, own, run
from harness.train.check import check, engine_for
from harness.train.model import build, cost_of
from harness.train.parts import arena, place
from tests.train.tiny import cell, recipe, weights

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, side, classes, depth=1):
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(in_channels if i == 0 else 4, 4, 3, padding=1) for i in range(depth)], nn.ReLU())
        self.softmax = nn.Softmax(dim=1)  # a layer of this name says nothing about what the net returns
        self.head = nn.Linear(4 * side * side, classes)
    def forward(self, x):
        return self.head(self.body(x).view(len(x), -1))

def pooled(*, in_channels, side, classes):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

number = 3
def no_side(in_channels, classes): ...
def needs(in_channels, side, classes, depth): ...
def nothing(in_channels, side, classes): ...
def frozen(in_channels, side, classes): return nn.Flatten()
def lazy(in_channels, side, classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
def double(in_channels, side, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).double()
def too_few(in_channels, side, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes - 1))
def wrong_size(in_channels, side, classes): return nn.Sequential(nn.Flatten(), nn.Linear(7, classes))
class Pair(nn.Module):
    def __init__(self, in_channels, side, classes):
        super().__init__()
        self.head = nn.Linear(64, classes)
    def forward(self, x):
        return self.head(x.flatten(1)), 0
def breaks(in_channels, side, classes): raise KeyError("stem")
"""

PARTS = """
import math
import torch
import torch.nn.functional as F

class Signed(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0, scale=1.0):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))
        self.scale = scale
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.scale * group["lr"] * p.grad.sign())

def no_decay(params, lr): ...
def no_groups(params, lr, weight_decay): return object()
class Closure(Signed):
    def step(self, closure): closure()

def halves(step, steps, at=0.5): return 1.0 if step < at * steps else 0.5
def negative(step, steps): return -1.0
def silent(step, steps): return 0.0
def text(step, steps): return "high"
def one(step): return 1.0

def focal(logits, target, gamma=0.0):
    log_p = F.log_softmax(logits, dim=1)
    if target.dim() == 1:
        target = F.one_hot(target, logits.shape[1]).float()
    return -(target * (1 - log_p.exp()) ** gamma * log_p).sum(dim=1).mean()
def each(logits, target): return F.cross_entropy(logits, target, reduction="none")
def detached(logits, target): return F.cross_entropy(logits, target).detach()
def hard_only(logits, target): return F.nll_loss(F.log_softmax(logits, dim=1), target)
def infinite(logits, target): return logits.sum() / 0
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "parts.py").write_text(PARTS)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path


BLOCKNET = {"model.blocks", "model.channels", "model.hidden"}


def with_net(name: str, **fields: Any) -> Recipe:
    return recipe().with_overrides(
        {"model.name": name, **{key.replace("__", "."): value for key, value in fields.items()}}
    )


# --- nets
# -------------------------------------------------------------------------------------------------------------


def test_a_net_from_a_file_is_trained_judged_and_counted() -> None:
    asked = with_net("nets.py:Net", model__kwargs__depth=2)
    trial, outcomes = run(cell().model_copy(update={"recipe": asked}))
    assert (trial.state, trial.recipe) == ("complete", asked)
    assert outcomes is not None
    assert trial.params == (4 * 9 + 4) + (4 * 4 * 9 + 4) + (4 * 64 * 10 + 10)
    assert trial.mflop_per_image > 0


def test_one_seed_gives_a_net_one_set_of_weights_and_another_seed_another() -> None:
    asked = with_net("nets.py:Net").model
    one, same, other = (
        build(asked, in_channels=1, side=8, classes=10, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(same), strict=True))
    assert not torch.equal(weights(one)[0], weights(other)[0])


def test_building_and_checking_a_net_leaves_the_callers_random_state() -> None:
    before = torch.random.get_rng_state()
    check(with_net("nets.py:Net"))
    cost_of(with_net("nets.py:Net").model, in_channels=1, side=8, classes=10)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_net_that_views_its_features_as_rows_is_trained_contiguous_and_others_channels_last() -> (
    None
):
    formats = {
        name: nets.check(with_net(name).model, in_channels=1, side=8, classes=10)
        for name in ("nets.py:Net", "nets.py:pooled")
    }
    assert formats == {
        "nets.py:Net": torch.contiguous_format,
        "nets.py:pooled": torch.channels_last,
    }
    asked = with_net("nets.py:Net")
    assert place(asked, arena(asked.data, "cpu"), "cpu", 0)[1] is torch.contiguous_format


def test_a_layer_called_softmax_does_not_make_probabilities_of_logits() -> None:
    from harness.train import evaluate

    net = build(with_net("nets.py:Net").model, in_channels=1, side=8, classes=10, seed=0)
    x_NCHW, labels_N = torch.randn(20, 1, 8, 8), torch.arange(20) % 10
    expected = float(nn.functional.cross_entropy(net(x_NCHW), labels_N).detach())
    # float32 against float64 sums
    assert evaluate(net, [(x_NCHW, labels_N)])["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "error", "message"),
    [
        (
            "nets.py:Nett",
            {},
            UsageError,
            "has no 'Nett', which is to be the model.name .did you mean 'Net'",
        ),
        ("none.py:Net", {}, UsageError, "could not import"),
        ("nets.py:number", {}, RecipeError, "is of type int, not a function or class"),
        ("nets.py:no_side", {}, RecipeError, "returns a NoneType"),
        ("nets.py:needs", {}, RecipeError, "needs depth, which has no value"),
        (
            "nets.py:Net",
            {"model.kwargs.dpeth": 2},
            RecipeError,
            "takes no 'dpeth' .did you mean 'depth'",
        ),
        ("nets.py:Net", {"model.kwargs.side": 2}, RecipeError, "model.kwargs.side is not allowed"),
        ("nets.py:Net", {"model.kwargs.depth": "two"}, RecipeError, "raised TypeError"),
        ("nets.py:nothing", {}, RecipeError, "returns a NoneType"),
        ("nets.py:frozen", {}, RecipeError, "has no weights to train"),
        ("nets.py:lazy", {}, RecipeError, "has lazy layers"),
        ("nets.py:double", {}, UsageError, "torch.float64"),
        (
            "nets.py:too_few",
            {},
            RecipeError,
            r"returns shape \(2, 9\) .*be \(2, 10\), for 2 images of 1 x 8 x 8",
        ),
        ("nets.py:wrong_size", {}, RecipeError, "raised RuntimeError: .*mat1 and mat2"),
        ("nets.py:Pair", {}, RecipeError, "returns a tuple"),
        ("nets.py:breaks", {}, RecipeError, "raised KeyError: 'stem'"),
        ("torchvision:resnet19", {}, RecipeError, "no classifier 'resnet19' .did you mean"),
        (
            "torchvision:resnet18",
            {"model.kwargs.weights": "DEFAULT"},
            RecipeError,
            "trained from scratch|is not allowed",
        ),
        ("torchvision:resnet18", {"model.kwargs.cifar_stem": 1}, RecipeError, "cifar_stem is 1"),
        (
            "torchvision:resnet18",
            {"model.kwargs.depth": 1},
            RecipeError,
            "unexpected keyword argument 'depth'",
        ),
        (
            "torchvision:squeezenet1_0",
            {"model.kwargs.cifar_stem": True},
            RecipeError,
            "no such stem is known",
        ),
    ],
)
def test_a_net_that_does_not_fit_gets_an_error_that_says_why(
    name: str, fields: dict[str, Any], error: type[HarnessError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        check(with_net(name).with_overrides(fields))
    assert caught.value.hint or "raised" in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "densenet121",
        "shufflenet_v2_x0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mnasnet0_5",
        "regnet_y_400mf",
    ],
)
def test_the_cifar_stem_keeps_the_resolution_that_the_ordinary_stem_throws_away(name: str) -> None:
    side_in_first_block = []
    for cifar_stem in (False, True):
        asked = with_net(f"torchvision:{name}", model__kwargs__cifar_stem=cifar_stem).model
        net = build(asked, in_channels=3, side=32, classes=10, seed=0).eval()
        widths: list[int] = []
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
                module.register_forward_hook(
                    lambda _m, _i, out, seen=widths: seen.append(out.shape[-1])
                )
        with torch.no_grad():
            net(torch.zeros(1, 3, 32, 32))
        side_in_first_block.append(widths[:2])
    ordinary, small = side_in_first_block
    assert ordinary[0] == 16
    assert small[0] == 32


def test_a_torchvision_net_takes_the_channels_and_classes_of_the_images() -> None:
    net = build(
        with_net("torchvision:resnet18").model, in_channels=1, side=32, classes=7, seed=0
    ).eval()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


# --- optimisers
# -------------------------------------------------------------------------------------------------------


def test_an_optimiser_from_a_file_trains_with_its_arguments_at_the_schedules_rates() -> None:
    asked = recipe(
        optimizer__name="parts.py:Signed", optimizer__kwargs__scale=2.0, schedule__max_lr=0.002
    )
    trial, _ = run(cell().model_copy(update={"recipe": asked}))
    made = own.optimizer_of(asked.optimizer)([nn.Parameter(torch.ones(1))], 0.1, weight_decay=0.0)
    assert (trial.state, getattr(made, "scale", None)) == ("complete", 2.0)


def test_one_of_torchs_own_optimisers_is_named_by_its_module() -> None:
    assert own.optimizer_of(OptimizerRecipe(name="torch.optim:RMSprop")) is torch.optim.RMSprop
    check(recipe(optimizer__name="torch.optim:RMSprop"))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("parts.py:no_decay", {}, "does not accept weight_decay"),
        ("parts.py:no_groups", {}, "makes a object without param_groups"),
        ("parts.py:Closure", {}, "takes several looks at a batch a step"),
        (
            "parts.py:Signed",
            {"optimizer.kwargs.momentum": 0.5},
            "optimizer.kwargs.momentum would be overwritten",
        ),
        (
            "parts.py:Signed",
            {"optimizer.kwargs.lr": 0.5},
            "optimizer.kwargs.lr would be overwritten",
        ),
    ],
)
def test_an_optimiser_that_does_not_fit_gets_an_error_that_says_why(
    name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check(recipe().with_overrides({"optimizer.name": name, **fields}))


# --- schedules
# --------------------------------------------------------------------------------------------------------


def test_a_schedule_from_a_file_is_a_factor_on_the_highest_rate() -> None:
    table = own.table_of(
        ScheduleRecipe(name="parts.py:halves", max_lr=0.1, kwargs=(("at", 0.25),)), 4
    )
    assert table == [(0.1, 0.9), (0.05, 0.9), (0.05, 0.9), (0.05, 0.9)]


def test_a_trial_notes_the_rates_of_a_schedule_from_a_file() -> None:
    asked = recipe(schedule__name="parts.py:halves", schedule__max_lr=0.02)
    trial, _ = run(cell().model_copy(update={"recipe": asked}))
    assert trial.curve.learning_rate == pytest.approx((0.02, 0.01))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negative", "gives -1.0 at step 0"),
        ("silent", "is 0 at every one of"),
        ("text", "raised ValueError"),
        ("one", "takes 1 of step, steps by position"),
    ],
)
def test_a_schedule_that_does_not_fit_gets_an_error_that_says_why(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(recipe(schedule__name=f"parts.py:{name}"))


# --- losses
# -----------------------------------------------------------------------------------------------------------


def test_a_loss_from_a_file_that_is_cross_entropy_trains_as_ours_does() -> None:
    plain, _ = run(cell(augment__mixup=0.5))
    asked = recipe(augment__mixup=0.5, loss__name="parts.py:focal")
    trial, _ = run(cell().model_copy(update={"recipe": asked}))
    # the same sum in another order
    assert trial.curve.online_loss == pytest.approx(plain.curve.online_loss, rel=1e-4)


def test_the_arguments_of_a_loss_change_what_is_minimised() -> None:
    trials = [
        run(
            cell().model_copy(
                update={"recipe": recipe(loss__name="parts.py:focal", loss__kwargs__gamma=gamma)}
            )
        )[0]
        for gamma in (0.0, 2.0)
    ]
    first, second = (trial.curve.online_loss[0] for trial in trials)
    assert second < first


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("each", {}, r"returns a tensor of shape \(4,\)"),
        ("detached", {}, "without a gradient"),
        ("infinite", {}, "for random logits"),
        ("hard_only", {"augment.mixup": 0.5}, "raised"),
        ("focal", {"loss.kwargs.gama": 1.0}, "did you mean 'gamma'"),
    ],
)
def test_a_loss_that_does_not_fit_gets_an_error_that_says_why(
    name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check(recipe().with_overrides({"loss.name": f"parts.py:{name}", **fields}))


def test_a_loss_of_ones_own_and_label_smoothing_exclude_each_other_in_the_loop_too() -> None:
    from harness.train import fit_one_cycle

    loader = [(torch.randn(4, 1, 2, 2), torch.arange(4))]
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(UsageError, match="label_smoothing is the cross-entropy's"):
        fit_one_cycle(
            1,
            0.1,
            model,
            loader,
            loader,
            loss_func=nn.functional.cross_entropy,
            label_smoothing=0.1,
        )


# --- all of them
# ------------------------------------------------------------------------------------------------------


def test_the_same_loss_is_the_same_object_so_that_a_recorded_step_is_found_again() -> None:
    asked = LossRecipe(name="parts.py:focal", kwargs=(("gamma", 2.0),))
    assert own.loss_of(asked) is own.loss_of(asked)


def test_an_edited_file_is_run_anew_and_an_unchanged_one_is_not(files: Path) -> None:
    asked = LossRecipe(name="parts.py:focal")
    before = own.loss_of(asked)
    assert own.loss_of(asked) is before
    (files / "parts.py").write_text(PARTS + "# edited\n")
    assert own.loss_of(asked) is not before


def test_what_draws_on_the_host_runs_eagerly_and_is_refused_by_the_graph_engine(
    files: Path,
) -> None:
    (files / "aug.py").write_text("def same(x, generator):\n    return x\n")
    asked = recipe(augment__own__same="aug.py:same")
    assert engine_for(asked, "cuda").name == "eager"
    assert engine_for(recipe(), "cuda").name == "graph"
    assert engine_for(recipe(optimizer__name="parts.py:Signed"), "cuda").name == "eager"
    with pytest.raises(UsageError, match="an augmentation of yours draws on the host"):
        engine_for(asked, "cuda", "graph")


def test_a_file_may_import_its_neighbours(files: Path) -> None:
    (files / "sub").mkdir()
    (files / "sub" / "layers_of_mine.py").write_text("HIDDEN = 5\n")
    code = "from layers_of_mine import HIDDEN\nfrom torch import nn\ndef net(in_channels, side, classes):\n"
    code += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, classes))\n"
    (files / "sub" / "net.py").write_text(code)
    assert (
        nets.check(with_net("sub/net.py:net").model, in_channels=1, side=8, classes=10)
        is torch.channels_last
    )
