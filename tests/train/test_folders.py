"""Folders of images as people have them: other names of parts, files that are no images of theirs, deep and turned pixels."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from harness.errors import DataError
from harness.train import data
from harness.train.folder_parts import part_of


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the data root and the user's cache folder at empty places of this test's own."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def write(
    folder: Path, *, count: int = 4, seed: int = 0, classes: Sequence[str] = ("cat", "dog")
) -> None:
    """Write ``count`` PNGs of noise a class."""
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
                folder / name / f"{i}.png"
            )


def failure(call: Callable[[], object]) -> DataError:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def load(folder: Path) -> tuple[data.Dataset, list[str]]:
    told: list[str] = []
    return data.load(str(folder), on_event=told.append), told


# --- names of parts
# ---------------------------------------------------------------------------------------------------

PAIRS = [
    ("Training", "Testing"),
    ("Train", "Test"),
    ("TRAIN", "TEST"),
    ("seg_train", "seg_test"),
    ("train", "validation"),
    ("train", "eval"),
    ("train", "dev"),
    ("training_set", "test_set"),
    ("trainset", "testset"),
    ("train-data", "Valid"),
    ("train_images", "test_images"),
    ("Training Data", "Testing Data"),
    ("train2017", "val2017"),
]


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_parts_are_known_by_their_names_in_any_case(tmp_path: Path, train: str, test: str) -> None:
    write(tmp_path / "set" / train, count=5)
    write(tmp_path / "set" / test, count=3)
    dataset, _ = load(tmp_path / "set")
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train_labels_N), len(dataset.test_labels_N)) == (10, 6)
    assert dataset.val_labels_N is None


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_what_parts_are_called_changes_no_fingerprint(
    tmp_path: Path, train: str, test: str
) -> None:
    write(tmp_path / "set" / "train")
    write(tmp_path / "set" / "test")
    before = load(tmp_path / "set")[0].fingerprint
    (tmp_path / "set" / "train").rename(tmp_path / "set" / train)
    (tmp_path / "set" / "test").rename(tmp_path / "set" / test)
    assert load(tmp_path / "set")[0].fingerprint == before


@pytest.mark.parametrize(
    "name",
    ["cat", "trainer", "training wheels", "contest", "valley", "device", "evil", "set", "data", ""],
)
def test_other_names_are_no_parts(name: str) -> None:
    assert part_of(name) == ""


def test_a_part_that_is_packed_in_a_folder_of_its_name_is_found(tmp_path: Path) -> None:
    write(tmp_path / "set" / "seg_train" / "seg_train", count=5)
    write(tmp_path / "set" / "seg_test" / "seg_test", count=3)
    (tmp_path / "set" / "seg_pred" / "seg_pred").mkdir(parents=True)
    dataset, _ = load(tmp_path / "set")
    assert (dataset.classes, len(dataset.train_labels_N), len(dataset.test_labels_N)) == (
        ("cat", "dog"),
        10,
        6,
    )


@pytest.mark.parametrize(
    "names",
    [("a", "b"), ("fold1", "fold2"), ("images",), ("chest_xray",), ("left", "right", "extra")],
)
def test_folders_that_hold_only_folders_are_never_classes(
    tmp_path: Path, names: Sequence[str]
) -> None:
    for name in names:
        write(tmp_path / "set" / name)
    assert "holds only folders" in failure(lambda: load(tmp_path / "set")).message


def test_a_folder_of_the_other_classes_is_no_class(tmp_path: Path) -> None:
    write(tmp_path / "set")
    write(tmp_path / "set" / "backup")
    assert "backup is no class: it holds folders with the names of classes" in (
        failure(lambda: load(tmp_path / "set")).message
    )


def test_a_class_may_keep_its_images_in_folders(tmp_path: Path) -> None:
    write(tmp_path / "set")
    write(tmp_path / "set" / "owl", classes=("first", "second"))
    assert load(tmp_path / "set")[0].classes == ("cat", "dog", "owl")


@pytest.mark.parametrize("left", ["holdout", "unlabelled", "test"])
def test_a_folder_that_is_no_part_is_left_out_and_told(tmp_path: Path, left: str) -> None:
    write(tmp_path / "set" / "train")
    if left == "test":  # as some archives keep what is to be predicted
        (tmp_path / "set" / "test").mkdir()
        shutil.copy(tmp_path / "set/train/cat/0.png", tmp_path / "set/test/0.png")
    else:
        write(tmp_path / "set" / left)
    assert any(f"folder {left!r} left out" in line for line in load(tmp_path / "set")[1])


def test_a_wrapped_set_is_told_where_to_look(tmp_path: Path) -> None:
    write(tmp_path / "set" / "chest_xray" / "train")
    write(tmp_path / "set" / "chest_xray" / "test")
    assert "chest_xray" in failure(lambda: load(tmp_path / "set")).hint


@pytest.mark.parametrize(
    "names", [("train", "Training"), ("train", "train_set"), ("Train", "trainset")]
)
def test_two_folders_of_one_part_are_refused(tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        write(tmp_path / "set" / name)
    assert "holds two train parts" in failure(lambda: load(tmp_path / "set")).message


@pytest.mark.parametrize("name", ["test", "Testing", "validation"])
def test_a_test_folder_among_classes_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "set", classes=("cat", "dog", name))
    assert f"holds {name!r} among folders" in failure(lambda: load(tmp_path / "set")).message


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path / "set", classes=("bus", "train"))
    assert load(tmp_path / "set")[0].classes == ("bus", "train")


# --- a validation part of its own
# -------------------------------------------------------------------------------------


@pytest.fixture(params=["val", "validation", "Dev"])
def three(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write(tmp_path / "set" / "train", count=6)
    write(tmp_path / "set" / request.param, count=3)
    write(tmp_path / "set" / "test", count=2)
    return tmp_path / "set"


@pytest.mark.parametrize("val", [1, 4, 10_000])
def test_a_validation_part_beside_a_test_part_is_used_whole(three: Path, val: int) -> None:
    dataset, told = load(three)
    split = data.split(dataset, val=val)
    assert [
        len(part) for part in (split.train_labels_N, split.val_labels_N, split.test_labels_N)
    ] == [12, 6, 4]
    assert torch.equal(split.val_images_NCHW, dataset.val_images_NCHW)  # type: ignore[arg-type]
    assert any(
        "its own validation part of 6 images is used whole: data.val is ignored" in line
        for line in told
    )
    assert "12 train, 6 validation, 4 test; 2 classes: cat, dog" in str(split)


def test_without_validation_images_the_validation_part_is_left_alone(three: Path) -> None:
    split = data.split(load(three)[0], val=0)
    assert (len(split.train_labels_N), len(split.val_labels_N)) == (12, 0)


def test_a_smaller_training_part_leaves_the_validation_part_whole(three: Path) -> None:
    split = data.split(load(three)[0], train=8, val=100)
    assert (len(split.train_labels_N), len(split.val_labels_N)) == (8, 6)


def test_the_cache_gives_the_validation_part_back_and_says_the_same(three: Path) -> None:
    first, told = load(three)
    again, told_again = load(three)
    assert first.val_labels_N is not None
    assert again.val_labels_N is not None
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.val_images_NCHW, first.val_images_NCHW)  # type: ignore[arg-type]
    assert told_again == [line for line in told if "decoding" not in line]


def test_a_validation_part_counts_in_the_fingerprint(three: Path) -> None:
    before = load(three)[0].fingerprint
    folder = next(path for path in three.iterdir() if part_of(path.name) == "val")
    Image.fromarray(np.full((8, 8), 77, dtype=np.uint8)).save(folder / "cat" / "0.png")
    assert load(three)[0].fingerprint != before


def test_an_old_decoding_is_not_used_again(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.train.cache.FORMAT", 1)
    load(three)
    monkeypatch.undo()
    monkeypatch.setenv("HARNESS_DATA", str(three.parent / "root"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(three.parent / "cache"))
    assert any("decoding" in line for line in load(three)[1])


def shard(path: Path, *, count: int = 6, seed: int = 0, labels: object = None) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(exist_ok=True)
    images = []
    for _ in range(count):
        file = path.parent / "one.png"
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
        images.append({"bytes": file.read_bytes()})
        file.unlink()
    columns = {"image": pa.array(images)}
    if labels is not False:
        columns["label"] = pa.array([i % 2 for i in range(count)]) if labels is None else labels
    pq.write_table(pa.table(columns), path)


def test_validation_shards_beside_test_shards_are_used_whole(tmp_path: Path) -> None:
    for seed, (word, count) in enumerate([("train", 10), ("validation", 6), ("test", 4)]):
        shard(tmp_path / "set" / f"{word}-00000.parquet", count=count, seed=seed)
    split = data.split(load(tmp_path / "set")[0], val=1000)
    assert [
        len(part) for part in (split.train_labels_N, split.val_labels_N, split.test_labels_N)
    ] == [10, 6, 4]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (False, "has no column 'label'"),
        (pa.nulls(4), "column 'label' is of type null"),
        (pa.array([0, None, 1, 0]), "column 'label' holds no label"),
        (pa.array([0.0, float("nan"), 1.0, 0.0]), "column 'label' is of type double"),
        (pa.array([None] * 4, pa.int64()), "column 'label' holds no label"),
    ],
    ids=["no column", "nulls", "a hole", "floats", "holes alone"],
)
@pytest.mark.parametrize("part", ["train-00001", "test-00000"])
def test_a_shard_without_labels_names_the_column(
    tmp_path: Path, part: str, labels: object, message: str
) -> None:
    shard(tmp_path / "set" / "train-00000.parquet")
    shard(tmp_path / "set" / f"{part}.parquet", count=4, seed=1, labels=labels)
    error = failure(lambda: load(tmp_path / "set"))
    assert message in error.message
    assert part in error.message


# --- what is no image of theirs
# ---------------------------------------------------------------------------------------

LITTER = [
    ".ipynb_checkpoints",
    "@eaDir",
    "__MACOSX",
    ".thumbnails",
    "#recycle",
    "$RECYCLE.BIN",
    "lost+found",
    "@Recycle",
    ".git",
]


@pytest.mark.parametrize("name", LITTER)
@pytest.mark.parametrize("where", ["", "train", "train/cat", "train/cat/deeper"])
def test_folders_that_a_system_left_count_nowhere(tmp_path: Path, name: str, where: str) -> None:
    write(tmp_path / "set" / "train")
    write(tmp_path / "set" / "test")
    write(tmp_path / "set" / "train" / "cat", classes=("deeper",), count=1, seed=5)
    before = load(tmp_path / "set")[0]
    write(tmp_path / "set" / where / name, seed=9)
    write(tmp_path / "set" / where, classes=(name,), seed=9)
    after = load(tmp_path / "set")[0]
    assert after.classes == ("cat", "dog")
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize("name", ["thumbs", "Thumbnails", "THUMBS"])
def test_thumbnails_below_a_class_count_nowhere(tmp_path: Path, name: str) -> None:
    write(tmp_path / "set")
    before = load(tmp_path / "set")[0].fingerprint
    write(tmp_path / "set" / "cat", classes=(name,), seed=3)
    assert load(tmp_path / "set")[0].fingerprint == before


@pytest.mark.parametrize(
    "names", [[str(i) for i in range(12)], [f"{i:03}" for i in range(12)], ["7", "08", "9", "10"]]
)
def test_classes_of_digits_are_in_the_order_of_their_numbers(
    tmp_path: Path, names: list[str]
) -> None:
    write(tmp_path / "set", classes=names[::-1], count=2)
    assert list(load(tmp_path / "set")[0].classes) == names


@pytest.mark.parametrize("label", [10**7, 10**12])
def test_numbers_in_a_label_column_that_are_no_classes_are_refused(
    tmp_path: Path, label: int
) -> None:
    shard(tmp_path / "set" / "train-0.parquet", labels=pa.array([label, 0] * 3))
    assert f"holds {label:,}, and there are 6 images" in (
        failure(lambda: load(tmp_path / "set")).message
    )


def test_labels_of_digits_in_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    words = [str(i) for i in range(12)]
    shard(tmp_path / "set" / "train-0.parquet", count=24, labels=pa.array(words * 2))
    assert list(load(tmp_path / "set")[0].classes) == words


# --- duplicates
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"), [("train", "test"), ("train", "val"), ("val", "test")]
)
def test_images_that_two_parts_share_are_told(tmp_path: Path, source: str, target: str) -> None:
    for part in ("train", "val", "test"):
        write(tmp_path / "set" / part)
    assert not any("pixel by pixel" in line for line in load(tmp_path / "set")[1])
    for i in range(3):
        (tmp_path / "set" / target / "cat" / f"{i}.png").write_bytes(
            (tmp_path / "set" / source / "dog" / f"{i}.png").read_bytes()
        )
    for _ in range(2):  # the second time from the cache
        assert (
            sum("3 of 8" in line and "pixel by pixel" in line for line in load(tmp_path / "set")[1])
            == 1
        )


def test_images_that_shards_share_are_told(tmp_path: Path) -> None:
    shard(tmp_path / "set" / "train-0.parquet", count=6)
    shard(tmp_path / "set" / "test-0.parquet", count=4)
    assert any(
        "4 of 4 test images are training images too" in line for line in load(tmp_path / "set")[1]
    )


def test_an_image_that_was_copied_ends_up_in_both_parts_and_is_told(tmp_path: Path) -> None:
    write(tmp_path / "set", count=1)
    for name in ("cat", "dog"):
        for i in range(1, 6):
            (tmp_path / "set" / name / f"{i}.png").write_bytes(
                (tmp_path / "set" / name / "0.png").read_bytes()
            )
    assert any(
        "2 of 2 test images are training images too" in line for line in load(tmp_path / "set")[1]
    )


# --- depth, direction and contrast
# ------------------------------------------------------------------------------------


def deep(folder: Path, *, bits: int, ending: str = "png") -> np.ndarray:
    """Write images of 16 bits that use ``bits`` of them; return the first."""
    rng = np.random.default_rng(bits)
    content = rng.integers(0, 2**bits, (2, 4, 8, 8), dtype=np.uint16)
    content[0, 0, 0, 0] = 2**bits - 1
    for name, images in zip(("cat", "dog"), content, strict=True):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{i}.{ending}")
    return content[0, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_images_are_scaled_by_the_bits_that_the_set_uses(
    tmp_path: Path, bits: int, ending: str
) -> None:
    first = deep(tmp_path / "set", bits=bits, ending=ending)
    dataset, told = load(tmp_path / "set")
    expected = (first >> max(bits - 8, 0)).astype(np.uint8)
    everything = torch.cat([dataset.train_images_NCHW, dataset.test_images_NCHW]).numpy()
    assert any(np.array_equal(image[0], expected) for image in everything)
    assert int(everything.max()) == 255
    assert any(f"use {bits} of them" in line for line in told)


def test_one_deep_image_decides_for_all(tmp_path: Path) -> None:
    deep(tmp_path / "set", bits=8)
    Image.fromarray(np.full((8, 8), 4095, dtype=np.uint16)).save(tmp_path / "set" / "dog" / "9.png")
    _, told = load(tmp_path / "set")
    assert any("use 12 of them: their values are divided by 16" in line for line in told)


def deep_colour(folder: Path, *, bits: int, channels: int) -> None:
    """Write PNG files of 16 bits a channel with several channels, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    rng = np.random.default_rng(bits)
    head = struct.pack(">IIBBBBB", 8, 8, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            rows = rng.integers(0, 2**bits, (8, 8 * channels)).astype(">u2")
            raw = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
            parts = (chunk(b"IHDR", head), chunk(b"IDAT", raw), chunk(b"IEND", b""))
            (folder / name / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("bits", [8, 12, 14])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_images_of_several_channels_that_would_be_dark_are_refused_by_name(
    tmp_path: Path, bits: int, channels: int
) -> None:
    deep_colour(tmp_path / "set", bits=bits, channels=channels)
    message = failure(lambda: load(tmp_path / "set")).message
    assert "cat/0.png has 16 bits a channel" in message
    assert f"uses {bits} of them at most" in message


def test_deep_images_of_several_channels_that_use_all_bits_are_read_and_told(
    tmp_path: Path,
) -> None:
    deep_colour(tmp_path / "set", bits=16, channels=3)
    dataset, told = load(tmp_path / "set")
    assert int(dataset.train_images_NCHW.max()) > 200
    assert any("16 bits with several channels are divided by 256" in line for line in told)


def test_a_palette_with_an_alpha_a_colour_is_read_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.png"):
        Image.open(path).convert("P").save(path, transparency=b"\x00\x10")
    assert load(tmp_path / "set")[0].train_images_NCHW.shape[1] == 3


def test_negative_values_name_the_file(tmp_path: Path) -> None:
    write(tmp_path / "set")
    Image.fromarray(np.full((8, 8), -1000, dtype=np.int32)).save(
        tmp_path / "set" / "cat" / "ct.tif"
    )
    assert "ct.tif holds negative values" in failure(lambda: load(tmp_path / "set")).message


VALUES: list[Sequence[int]] = [(0,), (255,), (0, 1), (0, 1, 2, 3), (100, 101, 110), (240, 255)]


@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("part", ["train", "test", "val"])
def test_a_part_of_hardly_any_contrast_names_a_file(
    tmp_path: Path, part: str, values: Sequence[int]
) -> None:
    for name in ("train", "test", "val"):
        write(tmp_path / "set" / name)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "set" / part).rglob("*.png"):
        Image.fromarray(rng.choice(np.array(values, dtype=np.uint8), (8, 8))).save(path)
    message = failure(lambda: load(tmp_path / "set")).message
    assert str(tmp_path / "set" / part / "cat" / "0.png") in message


def test_drawings_in_black_and_white_are_images(tmp_path: Path) -> None:
    write(tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.png"):
        Image.open(path).convert("1").save(path)
    assert set(load(tmp_path / "set")[0].train_images_NCHW.flatten().tolist()) == {0, 255}


def test_an_image_of_one_colour_is_told_by_name(tmp_path: Path) -> None:
    write(tmp_path / "set")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "set" / "dog" / "2.png")
    assert any(
        "1 image is of a single colour" in line and "2.png" in line
        for line in load(tmp_path / "set")[1]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_the_exif_orientation_is_heeded(tmp_path: Path, orientation: int, ending: str) -> None:
    write(tmp_path / "set", count=5)
    corner = np.zeros((8, 8), dtype=np.uint8)
    corner[:4, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if ending in ("jpg", "webp") else {}
    for path in list((tmp_path / "set").rglob("*.png")):
        path.unlink()
        Image.fromarray(corner).convert("RGB").save(
            path.with_suffix(f".{ending}"),
            exif=exif,
            **options,  # type: ignore[arg-type]
        )
    dataset, told = load(tmp_path / "set")
    # where EXIF says that the first row and column of the file belong
    bottom, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    shown = (
        dataset.train_images_NCHW[0, 0, 4 * bottom : 4 * bottom + 4, 4 * right : 4 * right + 4]
        .float()
        .mean()
    )
    assert shown > 230
    told_of = any("turned as the EXIF" in line for line in told)
    assert told_of == (orientation > 1 and ending != "tif")  # Pillow has always turned those itself


# --- as users see it
# --------------------------------------------------------------------------------------------------


def test_data_verify_shows_classes_and_images_of_every_part(
    three: Path, harness: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = harness("data", "verify", str(three))
    assert done.returncode == 0
    for words in (
        ("train", "12"),
        ("validation", "6"),
        ("test", "4"),
        ("classes", "cat, dog"),
    ):
        assert any(words[0] in line and words[1] in line for line in done.stdout.splitlines())
    assert "data.val is ignored" in done.stderr
