"""Nets as people have them: sizes under any usual name, trained weights, frozen parts, a lower rate for the backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import HarnessError, RecipeError, UsageError
from harness.plugins import is_plugin
from harness.study.fingerprints import cell_code
from harness.study.recipe import Recipe
from harness.study.study import parse_study
from harness.train import nets
from harness.train.model import build
from harness.train.modes import begin_training
from harness.train.step import Step, StepSettings

NETS = """
from torch import nn

def net(channels, classes):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

def build(num_classes): return net(3, num_classes)
def usual(n_classes, in_chans=1, img_size=0): return net(in_chans, n_classes)
def other(*, nclass, in_ch, image_size): return net(in_ch, nclass)
def any_(**sizes): return net(sizes["in_channels"], sizes["classes"] + 0 * sizes["side"])
def mixed(num_classes, **rest):
    assert not rest
    return net(3, num_classes)
def own_meaning(classes, in_channels, side, input_size=7):
    assert input_size == 7
    return net(in_channels, classes)

class Fixed(nn.Module):
    def __init__(self, channels=1, side=8, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.fc = nn.Linear(4 * side * side, classes)
    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))

def lenet(): return Fixed()
"""
RESNET = "torchvision:resnet18"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    return tmp_path


def made(
    fields: dict[str, Any], *, channels: int = 3, side: int = 8, classes: int = 10
) -> nn.Module:
    recipe = Recipe().with_overrides(fields).model
    if is_plugin(recipe.name):
        nets.check(recipe, in_channels=channels, side=side, classes=classes)
    return build(recipe, in_channels=channels, side=side, classes=classes, seed=0)


def trained(net: nn.Module) -> set[str]:
    return {name for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ["build", "usual", "other", "any_", "mixed", "own_meaning"])
def test_a_factory_gets_the_sizes_under_the_names_that_its_signature_has(name: str) -> None:
    net = made({"model.name": f"nets.py:{name}"}, classes=7)
    last, first = net.get_submodule("4"), net.get_submodule("0")
    assert isinstance(last, nn.Linear)
    assert isinstance(first, nn.Conv2d)
    assert (last.out_features, first.in_channels) == (7, 3)


def test_a_size_that_the_study_sets_itself_under_another_name_is_left_to_it() -> None:
    fields = {"model.name": "nets.py:own_meaning", "model.kwargs.input_size": 7}
    assert made(fields) is not None


def test_a_net_of_fixed_sizes_is_trained_on_images_that_fit() -> None:
    assert made({"model.name": "nets.py:lenet"}, channels=1) is not None


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"channels": 3}, "its first convolution takes 1 channel and the images have 3"),
        ({"channels": 1, "classes": 7}, "its last layer gives 10 classes and the images have 7"),
        ({"channels": 1, "side": 16}, "images of another size than 16 x 16"),
    ],
)
def test_a_net_of_fixed_sizes_that_do_not_fit_is_refused_by_what_does_not(
    sizes: dict[str, int], words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        made({"model.name": "nets.py:lenet"}, **sizes)
    assert words in caught.value.message
    assert "num_classes, in_channels, img_size" in caught.value.hint


# Trained weights


def weights_file(path: Path, *, classes: int = 3, wrapped: bool = False) -> dict[str, torch.Tensor]:
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        state: dict[str, torch.Tensor] = models.resnet18(num_classes=classes).state_dict()
    content = {"state_dict": {f"module.{k}": v for k, v in state.items()}} if wrapped else state
    torch.save(content, path)
    return state


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_a_file_fill_all_but_a_head_of_other_classes(
    files: Path, *, wrapped: bool
) -> None:
    state = weights_file(files / "w.pth", wrapped=wrapped)
    net = made({"model.name": RESNET, "model.kwargs.pretrained": "w.pth"}, side=32, classes=10)
    here = net.state_dict()
    assert all(torch.equal(here[key], value) for key, value in state.items() if "fc." not in key)
    assert here["fc.weight"].shape == (10, 512)


def test_a_head_of_the_same_classes_is_taken_too_and_grey_images_get_the_sum_of_the_colours(
    files: Path,
) -> None:
    state = weights_file(files / "w.pth", classes=10)
    fields = {"model.name": RESNET, "model.kwargs.pretrained": "w.pth"}
    here = made(fields, channels=1, side=32).state_dict()
    assert torch.equal(here["fc.weight"], state["fc.weight"])
    assert torch.equal(here["conv1.weight"], state["conv1.weight"].sum(dim=1, keepdim=True))


def test_editing_the_weights_file_makes_new_cells_and_a_recipe_without_one_keeps_its_code(
    files: Path,
) -> None:
    study = parse_study({"question": "?", "margin_pp": 1.0, "seeds": 2}, name="a").under("quick")
    recipe = Recipe().with_overrides({"model.name": RESNET, "model.kwargs.pretrained": "w.pth"})
    codes = set()
    for classes in (3, 4):
        weights_file(files / "w.pth", classes=classes)
        codes.add(cell_code(study, recipe))
    assert len(codes) == 2
    assert cell_code(study, Recipe()) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model.kwargs.pretrained": "no.pth"}, "the weights file 'no.pth' does not exist"),
        ({"model.kwargs.pretrained": "nets.py"}, "the weights file 'nets.py' is unreadable"),
        ({"model.kwargs.pretrained": 3}, "model.kwargs.pretrained is 3"),
        ({"model.kwargs.pretrained": "w.pth", "model.name": "torchvision:resnet34"}, "not of"),
        ({"model.kwargs.pretrained": "w.pth", "model.kwargs.cifar_stem": True}, "another stem"),
        ({"model.kwargs.weights": "DEFAULT"}, "model.kwargs.weights is not allowed"),
        ({"model.freeze": "layr1"}, "no part 'layr1' (did you mean 'layer1'?)"),
    ],
)
def test_weights_and_parts_that_do_not_fit_are_an_error_that_names_them(
    files: Path, fields: dict[str, Any], words: str
) -> None:
    weights_file(files / "w.pth")
    with pytest.raises(HarnessError) as caught:
        made({"model.name": RESNET, **fields}, side=32)
    assert words in caught.value.message


def test_weights_that_cannot_be_fetched_are_named_with_their_address(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(files / "cache"))
    # nothing listens there: what a machine without a network meets
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(RecipeError, match=r"the weights file resnet18-[0-9a-f]+\.pth of") as caught:
        made({"model.name": RESNET, "model.kwargs.pretrained": True}, side=32)
    assert "https://download.pytorch.org/models/resnet18" in caught.value.hint


def test_timm_without_its_package_says_what_to_install() -> None:
    from importlib.util import find_spec

    if find_spec("timm") is not None:
        net = made({"model.name": "timm:resnet18", "model.freeze": "backbone"}, side=32)
        assert trained(net) == {"fc.weight", "fc.bias"}
        return
    with pytest.raises(UsageError, match="needs timm") as caught:
        made({"model.name": "timm:resnet18.a1_in1k"})
    assert caught.value.hint == "pip install 'harness[timm]'"


# Frozen parts, a lower rate


def test_a_frozen_backbone_leaves_only_the_head_to_train_and_stays_in_evaluation_mode() -> None:
    net = made({"model.freeze": "backbone"}, side=16)
    assert trained(net) == {"classes.weight", "classes.bias"}
    begin_training(net)
    assert net.training
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_named_parts_are_frozen_and_no_others() -> None:
    net = made({"model.freeze": "blocks.0, blocks.1"}, side=16)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith(("blocks.0.", "blocks.1.")) for name in frozen)
    assert not any(name.startswith(("blocks.0.", "blocks.1.")) for name in trained(net))


def one_step(share: float, opt_func: Any, decay: float) -> dict[str, torch.Tensor]:
    """Take two steps and return how far every weight went."""
    fields = {"model.name": "nets.py:build", "model.backbone_lr": share}
    net = made(fields)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    settings = StepSettings(weight_decay=decay, opt_func=opt_func)
    step = Step(net, [(0.01, 0.9)] * 2, settings)
    source = torch.Generator().manual_seed(0)
    net.eval()  # the same statistics, however far the backbone went
    x_NCHW = torch.randn(4, 3, 8, 8, generator=source)
    step(x_NCHW, torch.arange(4))
    return {name: p.detach() - before[name] for name, p in net.named_parameters()}


class Plain(torch.optim.SGD):
    """An optimiser that is none of ours."""


@pytest.mark.parametrize(
    ("opt_func", "decay"),
    [
        (torch.optim.Adam, 0.0),
        (torch.optim.AdamW, 0.1),
        (torch.optim.SGD, 0.01),
        (Plain, 0.01),
    ],
)
def test_the_backbone_moves_by_its_share_of_the_rate_and_the_head_by_all_of_it(
    opt_func: Any, decay: float
) -> None:
    whole, less = one_step(1.0, opt_func, decay), one_step(0.1, opt_func, decay)
    for name, moved in whole.items():
        share = 1.0 if name.startswith("4.") else 0.1
        # float32 weights of about 1 round differences of 1e-3 at 1e-7
        torch.testing.assert_close(less[name], share * moved, rtol=1e-3, atol=2e-7)


def test_a_rate_of_a_backbone_that_is_frozen_is_refused() -> None:
    with pytest.raises(RecipeError, match="backbone_lr would reach nothing"):
        Recipe().with_overrides({"model.freeze": "backbone", "model.backbone_lr": 0.1})


def test_recipes_without_these_fields_keep_their_ids() -> None:
    explicit = {"model.freeze": "none", "model.backbone_lr": 1.0}
    assert Recipe().with_overrides(explicit).id == Recipe().id == "35db209b118ab7ce"
