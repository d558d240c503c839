"""Our net, and how any net is built and counted.

Legend: N batch, C channels, H height, W width, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.plugins import is_plugin
from harness.study.recipe_fields import ModelRecipe
from harness.train import fine_tuning, nets
from harness.train.devices import wide_float
from harness.train.dispatch import OperationWatch


class Dropout(nn.Module):
    """Dropout whose rate is a tensor, so that one captured step serves every rate.

    Draws from torch's default generator, as ``nn.Dropout`` does, and on the CPU gives the same bits
    for the same state.

    Args:
        p: share of entries that are zeroed, in (0, 1).
    """

    p: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p, dtype=torch.float64), persistent=False)

    def _apply(
        self,
        fn: Callable[[Tensor], Tensor],
        recurse: bool = True,  # noqa: FBT001, FBT002 - the signature is torch's own
    ) -> Dropout:
        """Move the layer, the rate as a number that its new device can hold."""
        where = fn(torch.empty(0, device=self.p.device)).device
        if self.p.dtype == torch.float64 and wide_float(where) != torch.float64:
            self.p = self.p.float()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x_NF: Tensor) -> Tensor:
        """Return x_NF with a share ``p`` of its entries zeroed and the rest scaled up.

        In eval mode, x_NF itself.
        """
        if not self.training:
            return x_NF
        keep = 1 - self.p
        # where a device has it double precision, as in the CPU's nn.Dropout: both keep the same
        # entries and scale alike
        kept_NF = torch.rand(x_NF.shape, dtype=wide_float(x_NF.device), device=x_NF.device) < keep
        return x_NF * (kept_NF.to(x_NF.dtype) / keep.to(x_NF.dtype))


class BlockNet(nn.Module):
    """Blocks of 3 x (conv3x3, BatchNorm, ReLU), a global mean, a hidden layer, the classes.

    A 2x2 max-pool follows some blocks.

    Args:
        recipe: blocks, channels, pools, hidden units, dropout, head, features.
        in_channels: of the images.
        side: of the images, in pixels.
        classes: number of classes.

    ``forward`` maps float images x_NCHW to logits_NK, or to probabilities with ``head =
    "softmax"``: feeding those to a cross-entropy is a known flaw that a study can measure.
    """

    def __init__(self, recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> None:
        super().__init__()
        channels, pools = recipe.layout(side)
        self.concat = recipe.features == "concat"
        self.softmax = recipe.head == "softmax"
        self.blocks = nn.ModuleList()
        before = in_channels
        for number, after in enumerate(channels, start=1):
            layers: list[nn.Module] = []
            for _ in range(3):
                # no bias: the normalisation that follows subtracts it again
                layers += [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                ]
                before = after
            if number in pools:
                layers.append(nn.MaxPool2d(2))
            self.blocks.append(nn.Sequential(*layers))
        self.hidden = nn.Linear(sum(channels) if self.concat else before, recipe.hidden)
        self.dropout = Dropout(recipe.dropout) if recipe.dropout > 0 else nn.Identity()
        self.classes = nn.Linear(recipe.hidden, classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return logits_NK, or probabilities with a softmax head."""
        means = []
        for number, block in enumerate(self.blocks, start=1):
            x_NCHW = block(x_NCHW)
            # the mean over the image makes the head independent of the images' size
            if self.concat or number == len(self.blocks):
                means.append(x_NCHW.mean(dim=(2, 3)))
        x_NF = torch.cat(means, dim=1)
        out_NK: Tensor = self.classes(self.dropout(torch.relu(self.hidden(x_NF))))
        return out_NK.softmax(dim=1) if self.softmax else out_NK


def build(
    recipe: ModelRecipe, *, in_channels: int, side: int, classes: int, seed: int
) -> nn.Module:
    """Return a freshly initialised net on the CPU; the caller's random state is left as it was.

    Raises:
        RecipeError: the recipe pools more than the images have pixels, or names a net that does
            not fit them.
        UsageError: the import of a file that the recipe names fails.
    """
    with torch.random.fork_rng(devices=[]):  # initialisers take no generator
        torch.manual_seed(seed)
        if is_plugin(recipe.name):
            net = nets.make(recipe, in_channels=in_channels, side=side, classes=classes)
        else:
            net = BlockNet(recipe, in_channels=in_channels, side=side, classes=classes)
        return fine_tuning.settle(net, recipe, classes=classes)


def cost(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, float]:
    """Return (number of parameters, MFLOP of one image forward and backward), counted by torch.

    A multiply-add is two.
    """
    device = next(model.parameters()).device
    # in eval mode a BatchNorm leaves its statistics alone, and the count is the same
    was_training = model.training
    model.eval()
    with _FlopCounter() as counter:
        model(torch.zeros(1, *shape, device=device)).sum().backward()
    model.train(was_training)
    model.zero_grad(set_to_none=True)
    return sum(p.numel() for p in model.parameters()), counter.flop / 1e6


class _FlopCounter(OperationWatch):  # type: ignore[no-untyped-call]  # torch left it untyped
    """Count floating-point operations by torch's own formulas.

    As ``torch.utils.flop_counter.FlopCounterMode`` does, but without the compiler that it, and
    torch's meta device, import: a second and a half of every process's start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, and count it."""
        from torch.utils.flop_counter import flop_registry

        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=out)
        return out


@lru_cache(maxsize=256)
def cost_of(recipe: ModelRecipe, *, in_channels: int, side: int, classes: int) -> tuple[int, float]:
    """Return what ``cost`` does for a recipe's net, counted on one blank image."""
    return cost(
        build(recipe, in_channels=in_channels, side=side, classes=classes, seed=0),
        (in_channels, side, side),
    )
