from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from harness.errors import RecipeError
from harness.train import augment
from harness.train.augment_colour import Brightness, Colour, Contrast, Hue, Saturation
from harness.train.augment_mix import CutMix, MixChoice, MixUp
from harness.train.augment_ops import Crop, Cutout, Erasing, Flip, ImageOp, MixOp, Op
from tests.train.tiny import augmentation

ULP = 2**-23  # spacing of float32 in [1, 2); values in [0, 1] are rounded to half of it at most
ALL: dict[str, float | int | str] = {
    "crop": 4,
    "flip": "random",
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.3,
    "cutout": 7,
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}
IMAGE_OPS: list[ImageOp] = [
    Crop(3),
    Crop(3, "zero"),
    Flip(),
    Brightness(0.5),
    Contrast(0.5),
    Saturation(0.5),
    Hue(0.5),
    Cutout(5),
    Erasing(0.7),
]
COLOUR_OPS: list[type[Colour]] = [Brightness, Contrast, Saturation, Hue]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def byte_images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng(seed))


def float_images(*shape: int, seed: int = 1) -> Tensor:
    """Return pixels as they come from bytes, with greys, black, white and equal channels among them."""
    x_NCHW = byte_images(*shape, seed=seed).float() / 255
    x_NCHW[0, :, 0] = 0
    x_NCHW[0, :, 1] = 1
    x_NCHW[1] = x_NCHW[1, :1]
    x_NCHW[2, 0] = x_NCHW[2, -1]
    return x_NCHW


def epoch(size: int, *shape: int, number: int = 0, index_N: Tensor | None = None) -> augment.Epoch:
    channels, height, width = shape
    return augment.Epoch(
        size,
        (channels, height, width),
        number,
        torch.arange(size) if index_N is None else index_N,
        size,
    )


def draws_of(ops: tuple[Op, ...], size: int, *shape: int) -> dict[str, tuple[Tensor, ...]]:
    names = [*ALL, "mix_choice"]
    return augment.draw_epoch(
        ops, epoch(size, *shape), {name: rng(seed) for seed, name in enumerate(names)}
    )


def run(
    x_NCHW: Tensor, strengths: Mapping[str, float | int | str], dtype: torch.dtype = torch.float32
) -> Tensor:
    N, C, H, W = x_NCHW.shape
    ops = augment.build(augmentation(strengths), C)
    mean_C, std_C = torch.linspace(0.4, 0.5, C), torch.linspace(0.2, 0.3, C)
    return augment.augment_batch(
        x_NCHW, ops, draws_of(ops, N, C, H, W), mean_C=mean_C, std_C=std_C, dtype=dtype
    )


# --- against torchvision, image by image
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "padding_mode"), [("reflect", "reflect"), ("zero", "constant")])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 14)])
def test_crop_equals_pad_then_crop_bit_by_bit(
    mode: str, padding_mode: str, shape: tuple[int, int, int]
) -> None:
    x_NCHW = byte_images(64, *shape)
    (shift_N2,) = Crop(4, mode).draw(epoch(64, *shape), rng())
    out_NCHW = Crop(4, mode).apply(x_NCHW, shift_N2)
    for image_CHW, (dy, dx), ours_CHW in zip(x_NCHW, shift_N2.tolist(), out_NCHW, strict=True):
        padded = tv.pad(image_CHW, [4], padding_mode=padding_mode)
        assert torch.equal(ours_CHW, tv.crop(padded, 4 + dy, 4 + dx, *shape[1:]))


def test_the_largest_reflection_is_exact() -> None:
    x_NCHW = byte_images(2, 3, 6, 6)
    out_NCHW = Crop(5).apply(x_NCHW, torch.tensor([[-5, 5], [5, -5]]))
    for image_CHW, (dy, dx), ours_CHW in zip(x_NCHW, [(-5, 5), (5, -5)], out_NCHW, strict=True):
        assert torch.equal(
            ours_CHW, tv.crop(tv.pad(image_CHW, [5], padding_mode="reflect"), 5 + dy, 5 + dx, 6, 6)
        )


def test_flip_equals_torchvision_bit_by_bit() -> None:
    x_NCHW = byte_images(64, 3, 8, 11)
    (flip_N,) = Flip().draw(epoch(64, 3, 8, 11), rng())
    out_NCHW = Flip().apply(x_NCHW, flip_N)
    for image_CHW, mirrored, ours_CHW in zip(x_NCHW, flip_N.tolist(), out_NCHW, strict=True):
        assert torch.equal(ours_CHW, tv.horizontal_flip(image_CHW) if mirrored else image_CHW)


# One to three roundings of values up to 1.5 separate two orders of the same float32 arithmetic
# (contrast adds that of a mean over the image). Hue divides by the range of the channels and
# multiplies by it again, with numbers up to 6 in between.
TOLERANCE = {"brightness": ULP / 2, "contrast": ULP, "saturation": ULP, "hue": 1.4e-6}


@pytest.mark.parametrize("kind", COLOUR_OPS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("channels", [3, 1])
def test_colour_equals_torchvision_image_by_image(kind: type[Colour], channels: int) -> None:
    adjust = cast("Callable[[Tensor, float], Tensor]", getattr(tv, f"adjust_{kind.name}"))
    x_NCHW = float_images(64, channels, 32, 32)
    draws = kind(0.5).draw(epoch(64, channels, 32, 32), rng())
    out_NCHW = kind(0.5).apply(x_NCHW, *draws)
    for image_CHW, factor, ours_CHW in zip(x_NCHW, draws[0].tolist(), out_NCHW, strict=True):
        assert (ours_CHW - adjust(image_CHW, factor)).abs().max() <= TOLERANCE[kind.name]


def test_jitter_equals_torchvision_in_the_order_brightness_contrast_saturation_hue() -> None:
    x_NCHW = byte_images(32, 3, 16, 16)
    ops = augment.build(
        augmentation({key: ALL[key] for key in ("brightness", "contrast", "saturation", "hue")}), 3
    )
    draws = draws_of(ops, 32, 3, 16, 16)
    none, unit = torch.zeros(3), torch.ones(3)
    out_NCHW = augment.augment_batch(x_NCHW, ops, draws, mean_C=none, std_C=unit)
    for n in range(32):
        image_CHW = tv.to_dtype(x_NCHW[n], torch.float32, scale=True)
        for name in ("brightness", "contrast", "saturation", "hue"):
            image_CHW = getattr(tv, f"adjust_{name}")(image_CHW, float(draws[name][0][n]))
        # later factors enlarge earlier errors
        assert (out_NCHW[n] - image_CHW).abs().max() <= sum(TOLERANCE.values()) * 1.4**2


def test_erasing_equals_torchvision_with_the_same_box() -> None:
    x_NCHW = torch.randn(64, 3, 16, 20, generator=rng())
    (box_N4,) = Erasing(0.5).draw(epoch(64, 3, 16, 20), rng())
    out_NCHW = Erasing(0.5).apply(x_NCHW, box_N4)
    for image_CHW, (top, left, bottom, right), ours_CHW in zip(
        x_NCHW, box_N4.tolist(), out_NCHW, strict=True
    ):
        assert torch.equal(
            ours_CHW,
            tv.erase(image_CHW, top, left, bottom - top, right - left, torch.zeros(3, 1, 1)),
        )


def test_mixup_equals_torchvision_for_every_images_own_weight() -> None:
    x_NCHW, target_NK = torch.randn(8, 3, 6, 6, generator=rng()), torch.eye(8)
    (lam_N,) = MixUp(0.4).draw(epoch(8, 3, 6, 6), rng())
    out_NCHW, mixed_NK = MixUp(0.4).apply(x_NCHW, target_NK, lam_N)
    reference = v2.MixUp(num_classes=8)
    for n, lam in enumerate(lam_N.tolist()):
        params = {"labels": target_NK, "batch_size": 8, "lam": lam}
        # two roundings of values below 4
        assert (out_NCHW[n] - reference.transform(x_NCHW, params)[n]).abs().max() <= 2 * ULP
        assert (mixed_NK[n] - reference.transform(target_NK, params)[n]).abs().max() <= ULP / 2


def test_cutmix_equals_torchvision_for_every_images_own_box() -> None:
    x_NCHW, target_NK = torch.randn(8, 3, 6, 9, generator=rng()), torch.eye(8)
    (box_N4,) = CutMix(1.0).draw(epoch(8, 3, 6, 9), rng())
    out_NCHW, mixed_NK = CutMix(1.0).apply(x_NCHW, target_NK, box_N4)
    reference = v2.CutMix(num_classes=8)
    for n, (top, left, bottom, right) in enumerate(box_N4.tolist()):
        lam = 1 - (bottom - top) * (right - left) / 54
        params = {
            "labels": target_NK,
            "batch_size": 8,
            "box": (left, top, right, bottom),
            "lam_adjusted": lam,
        }
        assert torch.equal(out_NCHW[n], reference.transform(x_NCHW, params)[n])
        assert (mixed_NK[n] - reference.transform(target_NK, params)[n]).abs().max() <= ULP


def test_normalisation_equals_torchvision() -> None:
    x_NCHW = byte_images(8, 3, 8, 8)
    expected = tv.normalize(
        tv.to_dtype(x_NCHW, torch.float32, scale=True), [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]
    )
    # terms up to 5, where a rounding is two ULP
    assert (run(x_NCHW, {}) - expected).abs().max() <= 4 * ULP


# --- the device
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [*IMAGE_OPS, MixUp(0.4), CutMix(1.0)], ids=lambda op: op.name)
def test_applying_an_operation_asks_for_no_value(op: ImageOp | MixOp) -> None:
    # tensors without values: to wait for one raises
    draws = [draw.to("meta") for draw in op.draw(epoch(4, 3, 8, 8), rng())]
    images = torch.empty(4, 3, 8, 8, device="meta")
    if op.stage == "mix":
        cast("MixOp", op).apply(images, torch.empty(4, 10, device="meta"), *draws)
    else:
        cast("ImageOp", op).apply(images, *draws)


# --- how draws are distributed
# ----------------------------------------------------------------------------------------

# Seeds are fixed; each p-value bound is one that a right sampler misses once in a thousand seeds.


def test_crop_shifts_are_uniform_over_the_whole_range() -> None:
    (shift_N2,) = Crop(4).draw(epoch(9000, 3, 32, 32), rng())
    for axis in (0, 1):
        counts = torch.bincount(shift_N2[:, axis] + 4, minlength=9)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
        assert len(counts) == 9


@pytest.mark.parametrize(("strength", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
@pytest.mark.parametrize("kind", [Brightness, Contrast, Saturation])
def test_colour_factors_are_uniform_around_one_and_never_negative(
    kind: type[Colour], strength: float, low: float, high: float
) -> None:
    (factor_N,) = kind(strength).draw(epoch(5000, 3, 8, 8), rng())
    assert stats.kstest(factor_N.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_hue_turns_are_uniform_around_zero() -> None:
    (turn_N,) = Hue(0.2).draw(epoch(5000, 3, 8, 8), rng())
    assert stats.kstest(turn_N.numpy(), stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_weights_follow_the_beta_distribution(alpha: float) -> None:
    (lam_N,) = MixUp(alpha).draw(epoch(5000, 3, 8, 8), rng(3))
    assert stats.kstest(lam_N.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_weights_of_a_tiny_alpha_are_finite_and_split_evenly_between_the_ends() -> None:
    (lam_N,) = MixUp(1e-3).draw(epoch(4000, 3, 8, 8), rng())
    assert torch.isfinite(lam_N).all()
    assert stats.binomtest(int((lam_N > 0.5).sum()), 4000).pvalue > 1e-3


def test_random_flip_mirrors_half_of_the_images() -> None:
    (flip_N,) = Flip().draw(epoch(4000, 3, 8, 8), rng())
    assert stats.binomtest(int(flip_N.sum()), 4000).pvalue > 1e-3


def test_erasing_erases_with_its_probability() -> None:
    (box_N4,) = Erasing(0.3).draw(epoch(4000, 3, 32, 32), rng())
    assert stats.binomtest(int((box_N4[:, 2] > box_N4[:, 0]).sum()), 4000, 0.3).pvalue > 1e-3


def test_erasing_draws_the_boxes_that_torchvision_draws() -> None:
    # a small image, where rounding and the last row matter
    (box_N4,) = Erasing(1.0).draw(epoch(20_000, 3, 8, 9), rng())
    reference, image_CHW = v2.RandomErasing(p=1.0, value=0), torch.zeros(3, 8, 9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        boxes = [reference.make_params([image_CHW]) for _ in range(4000)]
    height_N, width_N = box_N4[:, 2] - box_N4[:, 0], box_N4[:, 3] - box_N4[:, 1]
    for ours_N, key in ((height_N, "h"), (width_N, "w"), (box_N4[:, 0], "i"), (box_N4[:, 1], "j")):
        table = [
            torch.bincount(ours_N, minlength=9),
            torch.bincount(torch.tensor([box[key] for box in boxes]), minlength=9),
        ]
        counts = torch.stack(table)[:, torch.stack(table).sum(0) > 0]
        assert stats.chi2_contingency(counts.numpy()).pvalue > 1e-3


def test_each_of_two_mixes_takes_half_of_the_images() -> None:
    (first_N,) = MixChoice().draw(epoch(4000, 3, 8, 8), rng())
    assert stats.binomtest(int(first_N.sum()), 4000).pvalue > 1e-3


# --- streams
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op", [*IMAGE_OPS, MixUp(0.4), CutMix(1.0), MixChoice()], ids=lambda op: op.name
)
def test_images_of_a_batch_get_draws_of_their_own(op: Op) -> None:
    for draw in op.draw(epoch(64, 3, 32, 32), rng()):
        assert len(draw) == 64
        assert len(torch.unique(draw, dim=0)) > 1


@pytest.mark.parametrize(
    "op", [*IMAGE_OPS, MixUp(0.4), CutMix(1.0), MixChoice()], ids=lambda op: op.name
)
def test_the_same_seed_gives_the_same_draws_bit_by_bit(op: Op) -> None:
    first, again = (op.draw(epoch(64, 3, 32, 32), rng(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "op", [*IMAGE_OPS, MixUp(0.4), CutMix(1.0), MixChoice()], ids=lambda op: op.name
)
def test_a_draw_leaves_the_global_generator_alone(op: Op) -> None:
    before = torch.get_rng_state()
    op.draw(epoch(64, 3, 32, 32), rng())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "removed",
    ["crop", "flip", "brightness", "contrast", "saturation", "hue", "cutout", "erasing", "mixup"],
)
def test_removing_an_operation_leaves_the_draws_of_the_others(removed: str) -> None:
    whole = draws_of(augment.build(augmentation(ALL), 3), 16, 3, 16, 16)
    rest = draws_of(
        augment.build(
            augmentation({key: value for key, value in ALL.items() if key != removed}), 3
        ),
        16,
        3,
        16,
        16,
    )
    assert set(whole) - set(rest) == ({removed, "mix_choice"} if removed == "mixup" else {removed})
    assert all(
        torch.equal(a, b) for name in rest for a, b in zip(whole[name], rest[name], strict=True)
    )


def test_another_colour_strength_scales_the_same_draws() -> None:
    (weak_N,), (strong_N,) = (
        Brightness(strength).draw(epoch(64, 3, 8, 8), rng()) for strength in (0.1, 0.2)
    )
    torch.testing.assert_close(strong_N - 1, 2 * (weak_N - 1), rtol=0, atol=2 * ULP)


def test_another_erasing_probability_keeps_the_boxes_of_images_erased_under_both() -> None:
    (few_N4,), (many_N4,) = (Erasing(p).draw(epoch(200, 3, 32, 32), rng()) for p in (0.3, 0.6))
    erased_N = few_N4[:, 2] > few_N4[:, 0]
    assert torch.equal(few_N4[erased_N], many_N4[erased_N])


def test_alternating_flip_mirrors_every_image_in_exactly_every_other_epoch() -> None:
    flips = []
    for number in range(4):
        order_N = torch.randperm(100, generator=rng(100 + number))
        (flip_N,) = Flip("alternating").draw(
            epoch(100, 3, 8, 8, number=number, index_N=order_N), rng(7)
        )
        by_image_N = torch.empty(100, dtype=torch.bool)
        by_image_N[order_N] = flip_N
        flips.append(by_image_N)
    assert torch.equal(flips[1], ~flips[0])
    assert torch.equal(flips[2], flips[0])
    assert torch.equal(flips[3], flips[1])


def test_alternating_flip_starts_at_random() -> None:
    (flip_N,) = Flip("alternating").draw(epoch(4000, 3, 8, 8), rng())
    assert stats.binomtest(int(flip_N.sum()), 4000).pvalue > 1e-3


def test_only_alternating_flip_asks_for_a_fixed_stream() -> None:
    fixed = [
        op.name
        for op in augment.build(augmentation({**ALL, "flip": "alternating"}), 3)
        if op.fixed_stream
    ]
    assert fixed == ["flip"]
    assert not Flip("random").fixed_stream


# --- properties
# -------------------------------------------------------------------------------------------------------

sizes = st.tuples(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(5, 12), st.integers(5, 12)
)
seeds = st.integers(0, 2**32)


@given(shape=sizes, seed=seeds, op=st.sampled_from(IMAGE_OPS))
def test_an_operation_keeps_shape_and_dtype_and_leaves_its_input(
    shape: tuple[int, int, int, int], seed: int, op: ImageOp
) -> None:
    dtypes = (
        [torch.uint8, torch.float32, torch.bfloat16] if op.stage == "pixel" else [torch.float32]
    )
    for dtype in dtypes:
        x_NCHW = byte_images(*shape, seed=seed).to(dtype)
        x_NCHW = x_NCHW / 255 if dtype.is_floating_point else x_NCHW
        before_NCHW = x_NCHW.clone()
        out_NCHW = op.apply(x_NCHW, *op.draw(epoch(*shape), rng(seed)))
        assert out_NCHW.shape == x_NCHW.shape
        assert out_NCHW.dtype == dtype
        assert torch.equal(x_NCHW, before_NCHW)


@given(shape=sizes, seed=seeds, strength=st.floats(0, 3), kind=st.sampled_from(COLOUR_OPS))
def test_colour_keeps_pixels_between_0_and_1(
    shape: tuple[int, int, int, int], seed: int, strength: float, kind: type[Colour]
) -> None:
    op = kind(min(strength, 0.5) if kind is Hue else strength)
    out_NCHW = op.apply(torch.rand(shape, generator=rng(seed)), *op.draw(epoch(*shape), rng(seed)))
    assert out_NCHW.min() >= 0
    assert out_NCHW.max() <= 1


@given(shape=sizes, seed=seeds)
def test_strength_0_changes_nothing(shape: tuple[int, int, int, int], seed: int) -> None:
    x_NCHW = torch.rand(shape, generator=rng(seed))
    for op in (
        Crop(0),
        Crop(0, "zero"),
        Brightness(0),
        Contrast(0),
        Saturation(0),
        Cutout(0),
        Erasing(0),
    ):
        assert torch.equal(
            cast("ImageOp", op).apply(x_NCHW, *op.draw(epoch(*shape), rng(seed))), x_NCHW
        )


@given(shape=sizes, seed=seeds)
def test_hue_strength_0_changes_pixels_by_rounding_alone(
    shape: tuple[int, int, int, int], seed: int
) -> None:
    x_NCHW = torch.rand(shape, generator=rng(seed))
    out_NCHW = Hue(0).apply(x_NCHW, *Hue(0).draw(epoch(*shape), rng(seed)))
    assert (out_NCHW - x_NCHW).abs().max() <= TOLERANCE["hue"]


@given(shape=sizes, seed=seeds)
def test_mixing_with_alpha_0_changes_nothing(shape: tuple[int, int, int, int], seed: int) -> None:
    x_NCHW, target_NK = torch.rand(shape, generator=rng(seed)), torch.eye(shape[0])
    for op in (MixUp(0), CutMix(0)):
        out_NCHW, mixed_NK = cast("MixOp", op).apply(
            x_NCHW, target_NK, *op.draw(epoch(*shape), rng(seed))
        )
        assert torch.equal(out_NCHW, x_NCHW)
        assert torch.equal(mixed_NK, target_NK)


@given(shape=sizes, seed=seeds)
def test_flipping_twice_gives_the_image_back(shape: tuple[int, int, int, int], seed: int) -> None:
    x_NCHW = byte_images(*shape, seed=seed)
    draws = Flip().draw(epoch(*shape), rng(seed))
    assert torch.equal(Flip().apply(Flip().apply(x_NCHW, *draws), *draws), x_NCHW)


@given(seed=seeds, turn=st.floats(-0.5, 0.5, width=32))
def test_turning_the_hue_back_gives_the_image_back(seed: int, turn: float) -> None:
    x_NCHW = torch.rand(2, 3, 8, 8, generator=rng(seed))
    turn_N = torch.full((2,), turn)
    back_NCHW = Hue(0.5).apply(Hue(0.5).apply(x_NCHW, turn_N), -turn_N)
    assert (back_NCHW - x_NCHW).abs().max() <= 2 * TOLERANCE["hue"]


@given(height=st.integers(1, 12), width=st.integers(1, 12), data=st.data(), seed=seeds)
def test_cutout_blanks_exactly_the_pixels_of_its_clipped_square(
    height: int, width: int, data: st.DataObject, seed: int
) -> None:
    side = data.draw(st.integers(1, min(height, width)))
    x_NCHW = torch.ones(16, 2, height, width)
    (box_N4,) = Cutout(side).draw(epoch(16, 2, height, width), rng(seed))
    out_NCHW = Cutout(side).apply(x_NCHW, box_N4)
    for (top, left, bottom, right), image_CHW in zip(box_N4.tolist(), out_NCHW, strict=True):
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        assert bottom - top == side or top == 0 or bottom == height
        assert right - left == side or left == 0 or right == width
        expected_CHW = torch.ones(2, height, width)
        expected_CHW[:, top:bottom, left:right] = 0
        assert torch.equal(image_CHW, expected_CHW)


def test_cutout_centres_reach_every_pixel_and_its_square_is_cut_at_the_borders() -> None:
    (box_N4,) = Cutout(4).draw(epoch(4000, 3, 6, 6), rng())
    expected = {
        (max(0, y - 2), max(0, x - 2), min(6, y + 2), min(6, x + 2))
        for y in range(6)
        for x in range(6)
    }
    boxes, counts = torch.unique(box_N4, dim=0, return_counts=True)
    assert set(map(tuple, boxes.tolist())) == expected
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=seeds)
def test_erasing_boxes_lie_inside_the_image(height: int, width: int, seed: int) -> None:
    (box_N4,) = Erasing(1.0).draw(epoch(16, 3, height, width), rng(seed))
    assert (box_N4 >= 0).all()
    assert (box_N4 <= torch.tensor([height, width, height, width])).all()


@given(shape=sizes, seed=seeds, alpha=st.floats(0.01, 10))
def test_mixed_labels_sum_to_1_and_follow_the_share_of_pixels(
    shape: tuple[int, int, int, int], seed: int, alpha: float
) -> None:
    N = shape[0]
    # image n holds nothing but n + 1
    marks_NCHW = torch.arange(1.0, N + 1).view(N, 1, 1, 1).expand(shape)
    target_NK = torch.eye(N)
    op = CutMix(alpha)
    out_NCHW, mixed_NK = op.apply(marks_NCHW, target_NK, *op.draw(epoch(*shape), rng(seed)))
    share_NK = torch.stack([(out_NCHW == n + 1).float().mean((1, 2, 3)) for n in range(N)], 1)
    torch.testing.assert_close(mixed_NK, share_NK, rtol=0, atol=ULP)
    mixup = MixUp(alpha)
    _, blended_NK = mixup.apply(marks_NCHW, target_NK, *mixup.draw(epoch(*shape), rng(seed)))
    torch.testing.assert_close(blended_NK.sum(1), torch.ones(N), rtol=0, atol=ULP)


# --- the batch
# --------------------------------------------------------------------------------------------------------


def test_fused_crop_and_flip_equal_one_after_the_other() -> None:
    x_NCHW = byte_images(64, 3, 10, 12)
    for mode in ("reflect", "zero"):
        ops = cast(
            "tuple[ImageOp, ...]",
            augment.build(augmentation({"crop": 4, "crop_mode": mode, "flip": "random"}), 3),
        )
        draws = draws_of(ops, 64, 3, 10, 12)
        one_by_one_NCHW = x_NCHW
        for op in ops:
            one_by_one_NCHW = op.apply(one_by_one_NCHW, *draws[op.name])
        fused_NCHW = augment.augment_batch(
            x_NCHW, ops, draws, mean_C=torch.zeros(3), std_C=torch.full((3,), 1 / 255)
        )
        assert torch.equal(fused_NCHW, one_by_one_NCHW.float())


def test_a_batch_equals_its_operations_one_by_one() -> None:
    x_NCHW = byte_images(16, 3, 12, 12)
    ops = augment.build(augmentation(ALL), 3)
    draws = draws_of(ops, 16, 3, 12, 12)
    mean_C, std_C = torch.full((3,), 0.45), torch.full((3,), 0.25)
    expected = x_NCHW
    for stage in ("pixel", "colour", "late"):
        if stage == "colour":
            expected = expected.float() / 255
        if stage == "late":
            expected = (expected - mean_C.view(1, 3, 1, 1)) / std_C.view(1, 3, 1, 1)
        for op in ops:
            if op.stage == stage:
                expected = cast("ImageOp", op).apply(expected, *draws[op.name])
    out_NCHW = augment.augment_batch(x_NCHW, ops, draws, mean_C=mean_C, std_C=std_C)
    # the one scaling rounds terms up to 4 differently
    torch.testing.assert_close(out_NCHW, expected, rtol=0, atol=4 * ULP)


def test_a_batch_leaves_its_input_as_it_was() -> None:
    for x_NCHW in (byte_images(4, 3, 8, 8), float_images(4, 3, 8, 8)):
        for strengths in ({}, {"hue": 0.2}, {"crop": 2, "cutout": 3}):
            before_NCHW = x_NCHW.clone()
            run(x_NCHW, strengths)
            assert torch.equal(x_NCHW, before_NCHW)


def test_a_batch_cut_into_pieces_equals_the_batch_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x_NCHW = byte_images(50, 3, 16, 16)
    whole_NCHW = run(x_NCHW, ALL)
    monkeypatch.setattr(augment, "_PIECE", 7 * 3 * 16 * 16)
    # a mean may be summed in another order
    torch.testing.assert_close(run(x_NCHW, ALL), whole_NCHW, rtol=0, atol=4 * ULP)


def test_float_images_in_0_to_1_give_what_their_bytes_give() -> None:
    x_NCHW = byte_images(8, 3, 8, 8)
    for strengths in ({}, {"contrast": 0.3}):
        torch.testing.assert_close(
            run(x_NCHW.float() / 255, strengths), run(x_NCHW, strengths), rtol=0, atol=4 * ULP
        )


def test_the_dtype_returned_is_the_one_asked_for() -> None:
    x_NCHW = byte_images(4, 3, 8, 8)
    assert torch.equal(run(x_NCHW, ALL, torch.bfloat16), run(x_NCHW, ALL).to(torch.bfloat16))


def test_a_batch_in_channels_last_order_equals_one_in_the_usual_order() -> None:
    x_NCHW = byte_images(8, 3, 12, 12)
    last_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    # means summed in another order
    torch.testing.assert_close(run(last_NCHW, ALL), run(x_NCHW, ALL), rtol=0, atol=4 * ULP)


@pytest.mark.parametrize("images", [0, 1])
def test_batches_of_none_and_of_one_pass(images: int) -> None:
    x_NCHW = byte_images(images, 3, 8, 8)
    ops = augment.build(augmentation(ALL), 3)
    out_NCHW, target_NK = augment.mix_batch(
        run(x_NCHW, ALL), torch.ones(images, 2) / 2, ops, draws_of(ops, images, 3, 8, 8)
    )
    assert out_NCHW.shape == (images, 3, 8, 8)
    assert target_NK.shape == (images, 2)


def test_blanked_pixels_hold_the_mean() -> None:
    out_NCHW = run(byte_images(8, 3, 8, 8), {"cutout": 8})
    assert torch.equal(
        out_NCHW[:, :, 3, 3], torch.zeros(8, 3)
    )  # a square as large as the image reaches its middle from anywhere


def test_without_a_mix_images_and_labels_pass_through() -> None:
    x_NCHW, target_NK = torch.rand(4, 3, 8, 8, generator=rng()), torch.eye(4)
    ops = augment.build(augmentation({"crop": 2}), 3)
    assert augment.mix_batch(x_NCHW, target_NK, ops, draws_of(ops, 4, 3, 8, 8)) == (
        x_NCHW,
        target_NK,
    )


def test_with_both_mixes_each_image_and_label_comes_from_one_of_them() -> None:
    x_NCHW, target_NK = torch.rand(32, 3, 8, 8, generator=rng()), torch.eye(32)
    ops = augment.build(augmentation({"mixup": 0.5, "cutmix": 1.0}), 3)
    draws = draws_of(ops, 32, 3, 8, 8)
    out_NCHW, mixed_NK = augment.mix_batch(x_NCHW, target_NK, ops, draws)
    alone = [cast("MixOp", op).apply(x_NCHW, target_NK, *draws[op.name]) for op in ops[:2]]
    for n, first in enumerate(draws["mix_choice"][0].tolist()):
        images, labels = alone[0 if first else 1]
        assert torch.equal(out_NCHW[n], images[n])
        assert torch.equal(mixed_NK[n], labels[n])


def test_rows_of_an_epochs_draws_are_those_of_the_positions() -> None:
    ops = augment.build(augmentation(ALL), 3)
    draws = draws_of(ops, 20, 3, 16, 16)
    rows = augment.take_rows(draws, 5, 9)
    assert all(
        torch.equal(row, whole[5:9])
        for name in draws
        for row, whole in zip(rows[name], draws[name], strict=True)
    )


# --- build
# ------------------------------------------------------------------------------------------------------------


def test_nothing_is_on_by_default() -> None:
    assert augment.build(augmentation({}), 3) == ()


def test_operations_come_in_a_fixed_order_whatever_the_order_of_the_strengths() -> None:
    ops = augment.build(augmentation(dict(reversed(ALL.items()))), 3)
    assert [op.name for op in ops] == [*ALL, "mix_choice"]


def test_one_channel_images_get_neither_saturation_nor_hue() -> None:
    names = [op.name for op in augment.build(augmentation(ALL), 1)]
    assert "saturation" not in names
    assert "hue" not in names
    assert "contrast" in names


def test_contrast_of_images_with_two_channels_is_refused() -> None:
    with pytest.raises(RecipeError, match="1 or 3 channels, not 2"):
        augment.build(augmentation({"contrast": 0.1}), 2)


def test_a_reflection_wider_than_the_image_is_refused() -> None:
    with pytest.raises(RecipeError, match="too much to reflect in images of 4x6"):
        Crop(4).draw(epoch(2, 3, 4, 6), rng())
