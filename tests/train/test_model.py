from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import RecipeError
from harness.study.recipe_fields import ModelRecipe
from harness.train.model import BlockNet, Dropout, build, cost, cost_of
from tests.train.tiny import CLASSES, SIDE, batches, net, weights


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    return build(ModelRecipe(), in_channels=3, side=32, classes=10, seed=0)


def test_the_reference_net_has_15_million_parameters_and_costs_853_mflop_an_image(
    reference: nn.Module,
) -> None:
    params, mflop = cost(reference, (3, 32, 32))
    assert params == 15_006_762
    assert mflop == pytest.approx(853.2864)


def test_counting_the_cost_leaves_mode_and_gradients_as_they_were() -> None:
    model = net()
    before = weights(model)
    cost(model, (3, SIDE, SIDE))
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize(
    ("blocks", "side", "channels", "pool"),
    [
        (6, 32, (32, 64, 128, 256, 512, 512), (1, 2, 3, 4)),
        (2, 32, (32, 64), (1, 2)),
        (8, 32, (32, 64, 128, 256, 512, 512, 512, 512), (1, 2, 3, 4)),
        (3, 14, (32, 64, 128), (1, 2)),
        (4, 8, (32, 64, 128, 256), (1, 2)),
        (1, 3, (32,), ()),
    ],
)
def test_the_layout_follows_its_stated_rule(
    blocks: int, side: int, channels: tuple[int, ...], pool: tuple[int, ...]
) -> None:
    assert ModelRecipe(blocks=blocks).layout(side) == (channels, pool)


def test_the_width_scales_every_block_and_leaves_at_least_one_channel() -> None:
    assert ModelRecipe(blocks=3, width=0.5).layout(32)[0] == (16, 32, 64)
    assert ModelRecipe(blocks=2, channels=(2, 4), width=0.01).layout(32)[0] == (1, 1)


def test_more_pooling_than_pixels_is_a_recipe_error_that_says_how_many_fit() -> None:
    with pytest.raises(RecipeError, match=r"asks for 4 poolings and images of 8 pixels allow 3"):
        ModelRecipe(blocks=4, pool=(1, 2, 3, 4)).layout(8)


def test_pools_named_twice_or_out_of_order_pool_once_each() -> None:
    assert ModelRecipe(blocks=3, pool=(3, 1, 3)).layout(16)[1] == (1, 3)


def test_the_net_has_three_convolutions_a_block() -> None:
    kinds = [type(module) for module in net(blocks=2).modules()]
    assert kinds.count(nn.Conv2d) == kinds.count(nn.BatchNorm2d) == 6
    assert kinds.count(nn.MaxPool2d) == 1


def test_a_softmax_head_returns_the_softmax_of_the_logits() -> None:
    ((x_NCHW, _),) = batches(1)
    logits_NK, p_NK = net(dropout=0)(x_NCHW), net(dropout=0, head="softmax")(x_NCHW)
    torch.testing.assert_close(p_NK, logits_NK.softmax(dim=1))


def test_concatenated_features_are_the_mean_of_every_block() -> None:
    model = net(features="concat", dropout=0).eval()
    assert isinstance(model, BlockNet)
    ((x_NCHW, _),) = batches(1)
    first_NCHW = model.blocks[0](x_NCHW)
    features_NF = torch.cat(
        [first_NCHW.mean((2, 3)), model.blocks[1](first_NCHW).mean((2, 3))], dim=1
    )
    expected_NK = model.classes(torch.relu(model.hidden(features_NF)))
    assert model.hidden.in_features == 4 + 6
    torch.testing.assert_close(model(x_NCHW), expected_NK)


def test_channels_last_and_nchw_give_the_same_answers() -> None:
    ((x_NCHW, _),) = batches(1)
    plain_NK = net(dropout=0)(x_NCHW)
    last_NK = net(dropout=0).to(memory_format=torch.channels_last)(
        x_NCHW.to(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last_NK, plain_NK, rtol=1e-4, atol=1e-5)  # sums of another order


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_dropout_equals_torchs_bit_for_bit(p: float) -> None:
    x_NF = torch.randn(64, 33, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        ours_NF = Dropout(p)(x_NF)
        torch.manual_seed(5)
        theirs_NF = nn.Dropout(p)(x_NF)
    assert torch.equal(ours_NF, theirs_NF)


def test_dropout_is_the_identity_in_eval_mode() -> None:
    x_NF = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Dropout(0.5).eval()(x_NF), x_NF)


def dropouts(model: nn.Module) -> list[Dropout]:
    return [module for module in model.modules() if isinstance(module, Dropout)]


def test_a_dropout_rate_of_zero_is_absent_from_the_net() -> None:
    assert not dropouts(net(dropout=0))
    assert len(dropouts(net(dropout=0.1))) == 1


def test_the_dropout_rate_can_be_set_between_trials_and_is_no_part_of_the_weights() -> None:
    model = net(dropout=0.1)
    (layer,) = dropouts(model)
    layer.p.fill_(0.999)
    assert bool((layer(torch.ones(20, 20)) == 0).any())
    assert "dropout.p" not in model.state_dict()


def test_building_a_net_leaves_the_callers_random_state_as_it_was() -> None:
    before = torch.random.get_rng_state()
    net(seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    first, same, other = (weights(net(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_arms_that_share_the_architecture_share_the_initial_weights() -> None:
    variants = [
        weights(net(**change))
        for change in ({}, {"dropout": 0.0}, {"dropout": 0.5}, {"head": "softmax"})
    ]
    for variant in variants[1:]:
        assert all(torch.equal(a, b) for a, b in zip(variants[0], variant, strict=True))


def test_the_net_answers_with_a_number_for_every_class() -> None:
    assert net()(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, CLASSES)


@pytest.mark.parametrize(
    "change", [{}, {"features": "concat", "dropout": 0.0}, {"width": 0.25}], ids=str
)
def test_a_cost_told_from_shapes_is_that_of_the_net(change: dict[str, Any]) -> None:
    wanted = ModelRecipe(blocks=3, hidden=16, **change)
    state = torch.random.get_rng_state()
    found = cost_of(wanted, in_channels=3, side=16, classes=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found == cost(build(wanted, in_channels=3, side=16, classes=7, seed=0), (3, 16, 16))
