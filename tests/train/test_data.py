from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from harness.errors import DataError
from harness.train import cache, data, pixels, sources
from harness.train.arrays import Arrays, digest, stratified_order

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# read before the fixture below hides it
REAL_ROOT = Path(os.environ.get("HARNESS_DATA", "/nonexistent"))

needs_cifar10 = pytest.mark.skipif(
    not list((REAL_ROOT / "cifar10").glob("train-*.parquet")),
    reason="HARNESS_DATA holds no cifar10/train-*.parquet",
)
needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the data root and the user's cache folder at empty places of this test's own."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return folder


def picture(
    seed: int, *, side: int = 8, colour: bool = True, width: int | None = None
) -> np.ndarray:
    shape = (side, width or side, 3) if colour else (side, width or side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels_HWC: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(
    path: Path,
    images: Sequence[np.ndarray | bytes | None],
    labels: Sequence[object],
    *,
    names: Sequence[str] = (),
    **columns: str,
) -> None:
    image_column, label_column = columns.get("image", "image"), columns.get("label", "label")
    structs = [
        {"bytes": png(i) if isinstance(i, np.ndarray) else i, "path": f"{k}.png"}
        for k, i in enumerate(images)
    ]
    table = pa.table(
        {
            image_column: pa.array(
                structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            label_column: pa.array(labels),
        }
    )
    if names:
        features = {
            image_column: {"_type": "Image"},
            label_column: {"_type": "ClassLabel", "names": list(names)},
        }
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def shards(folder: Path, *, train: int = 20, test: int = 6, names: Sequence[str] = ()) -> Path:
    half = train // 2
    write_shard(
        folder / "train-00000-of-00002.parquet",
        [picture(i) for i in range(half)],
        [i % 2 for i in range(half)],
        names=names,
    )
    rest = range(half, train)
    write_shard(
        folder / "train-00001-of-00002.parquet",
        [picture(i) for i in rest],
        [i % 2 for i in rest],
        names=names,
    )
    more = range(train, train + test)
    write_shard(
        folder / "test-00000-of-00001.parquet",
        [picture(i) for i in more],
        [i % 2 for i in more],
        names=names,
    )
    return folder


def tree(
    folder: Path,
    classes: Sequence[str] = ("cat", "dog"),
    *,
    each: int = 5,
    side: int = 8,
    seed: int = 0,
) -> Path:
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(picture(seed + 100 * c + i, side=side)).save(folder / name / f"{i}.png")
    return folder


def write_idx(
    folder: Path, *, train: int = 40, test: int = 20, gz: bool = False
) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("t10k", test)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        content = (
            struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        )
        (folder / (name + (".gz" if gz else ""))).write_bytes(
            gzip.compress(content, mtime=0) if gz else content
        )
    return arrays


def failure(call: Callable[[], object]) -> DataError:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.hint
    return caught.value


# --- the embedded data sets


def test_fashion_has_3000_training_and_1000_test_images_in_equal_classes() -> None:
    fashion = data.load("fashion")
    assert fashion.train_images_NCHW.shape == (3000, 1, 28, 28)
    assert fashion.train_labels_N.bincount().tolist() == [300] * 10
    assert fashion.test_labels_N.bincount().tolist() == [100] * 10


def test_tensors_are_uint8_contiguous_images_and_int64_labels() -> None:
    fashion = data.load("fashion", size=14)
    assert fashion.train_images_NCHW.dtype == torch.uint8
    assert fashion.train_images_NCHW.is_contiguous()
    assert fashion.train_labels_N.dtype == torch.int64


def test_the_embedded_images_never_change() -> None:
    assert data.load("fashion").fingerprint == "4df3352c00f471d0"


@needs_debian
def test_each_embedded_image_is_the_original_at_its_stated_position() -> None:
    path = Path(data.__file__).parent / "_data" / "fashion.npz"
    original = data.load(str(DEBIAN))
    with np.load(path, allow_pickle=False) as stored:
        assert np.array_equal(
            original.train_images_NCHW[stored["train_positions_N"], 0], stored["train_images_NHW"]
        )
        assert np.array_equal(
            original.test_images_NCHW[stored["test_positions_N"], 0], stored["test_images_NHW"]
        )
        assert np.array_equal(
            original.train_labels_N[stored["train_positions_N"]], stored["train_labels_N"]
        )


def test_the_embedded_file_is_small_and_its_licence_is_beside_it() -> None:
    folder = Path(data.__file__).parent / "_data"
    assert (folder / "fashion.npz").stat().st_size <= 2_000_000
    assert "Zalando SE" in (folder / "fashion-LICENSE.txt").read_text(encoding="utf-8")
    assert hashlib.sha256((folder / "fashion.npz").read_bytes()).hexdigest() in (
        folder / "fashion-ORIGIN.md"
    ).read_text(encoding="utf-8")


def test_digits_fill_the_range_of_a_byte() -> None:
    digits = data.load("digits")
    assert digits.train_images_NCHW.shape[1:] == (1, 8, 8)
    assert int(digits.train_images_NCHW.max()) == 255
    assert len(digits.train_labels_N) + len(digits.test_labels_N) == 1797


# --- parquet shards


def test_shards_are_read_in_order_and_losslessly(tmp_path: Path) -> None:
    loaded = data.load(str(shards(tmp_path / "set")))
    assert loaded.train_images_NCHW.shape == (20, 3, 8, 8)
    assert np.array_equal(loaded.train_images_NCHW[13].permute(1, 2, 0), picture(13))
    assert np.array_equal(loaded.test_images_NCHW[2].permute(1, 2, 0), picture(22))
    assert loaded.train_labels_N.tolist() == [i % 2 for i in range(20)]


def test_class_names_come_from_the_hugging_face_metadata(tmp_path: Path) -> None:
    assert data.load(str(shards(tmp_path / "set", names=["naïve/cat", "dög, 2"]))).classes == (
        "naïve/cat",
        "dög, 2",
    )


def test_columns_are_found_by_type_when_their_names_say_nothing(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}-0.parquet",
            [picture(i) for i in range(4)],
            [0, 1, 0, 1],
            image="a",
            label="b",
        )
    assert len(data.load(str(tmp_path)).train_labels_N) == 4


def test_labels_may_be_words(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}-0.parquet",
            [picture(i) for i in range(4)],
            ["dog", "cat", "dog", "cat"],
        )
    loaded = data.load(str(tmp_path))
    assert loaded.classes == ("cat", "dog")
    assert loaded.train_labels_N.tolist() == [1, 0, 1, 0]


def test_one_colour_image_makes_the_whole_set_colour(tmp_path: Path) -> None:
    grey = [picture(i, colour=False) for i in range(3)]
    write_shard(tmp_path / "train.parquet", [*grey, picture(9)], [0, 1, 0, 1])
    write_shard(tmp_path / "test.parquet", grey[:2], [0, 1])
    loaded = data.load(str(tmp_path))
    assert loaded.test_images_NCHW.shape == (2, 3, 8, 8)
    assert np.array_equal(loaded.train_images_NCHW[0, 1], grey[0])


def test_grey_shards_keep_one_channel(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}.parquet", [picture(i, colour=False) for i in range(4)], [0, 1, 0, 1]
        )
    assert data.load(str(tmp_path)).train_images_NCHW.shape == (4, 1, 8, 8)


def test_a_known_name_means_the_shards_in_its_folder_below_the_root(root: Path) -> None:
    assert not data.available("cifar10")
    shards(root / "cifar10", names=["a", "b"])
    assert data.available("cifar10")
    assert data.load("cifar10").classes == ("a", "b")


def test_shards_in_the_one_folder_below_are_found(tmp_path: Path) -> None:
    shards(tmp_path / "set" / "plain_text")
    assert len(data.load(str(tmp_path / "set")).train_labels_N) == 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps({"data": [1, 2, 3]}), "pickle"),
        (b"<html>404 Not Found</html>", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PAR1" + b"\x00" * 40, "damaged"),
        (b"", "replace"),
    ],
)
def test_a_file_that_is_not_parquet_is_named_with_what_it_looks_like(
    tmp_path: Path, content: bytes, says: str
) -> None:
    shards(tmp_path / "set")
    broken = tmp_path / "set" / "train-00001-of-00002.parquet"
    broken.write_bytes(content)
    error = failure(lambda: data.load(str(tmp_path / "set")))
    assert str(broken) in error.message
    assert says in error.hint


def test_a_shard_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    shards(tmp_path / "set")
    broken = tmp_path / "set" / "test-00000-of-00001.parquet"
    content = bytearray(broken.read_bytes())
    content[40:400] = bytes(360)  # the footer still reads, the pages do not
    broken.write_bytes(content)
    assert str(broken) in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_an_image_that_cannot_be_decoded_is_named_by_row(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}.parquet", [picture(0), b"not an image", picture(1)], [0, 1, 1]
        )
    assert (
        f"row 1 of {tmp_path / 'train.parquet'}"
        in failure(lambda: data.load(str(tmp_path))).message
    )


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.parquet", [picture(0), None, picture(1)], [0, 1, 1])
    assert "row 1" in failure(lambda: data.load(str(tmp_path))).message


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.parquet", [picture(0), picture(1)], [0, None])
    assert "label" in failure(lambda: data.load(str(tmp_path))).message


def test_a_table_without_images_is_refused_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1, 2], "label": [0, 1]}), tmp_path / "train.parquet")
    error = failure(lambda: data.load(str(tmp_path)))
    assert "image" in error.message
    assert "age, label" in error.message


def test_parquet_files_without_a_training_shard_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "stuff.parquet", [picture(0)], [0])
    assert "train-*.parquet" in failure(lambda: data.load(str(tmp_path))).hint


def test_a_label_beyond_the_named_classes_is_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}.parquet",
            [picture(i) for i in range(4)],
            [0, 1, 2, 1],
            names=["a", "b"],
        )
    assert "label 2" in failure(lambda: data.load(str(tmp_path))).message


def test_a_negative_label_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.parquet", [picture(i) for i in range(4)], [0, 1, 0, 1])
    write_shard(tmp_path / "test.parquet", [picture(i) for i in range(2)], [-1, -1])
    error = failure(lambda: data.load(str(tmp_path)))
    assert "test image has label -1" in error.message


def test_a_hole_in_the_numbering_of_labels_names_the_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_shard(
            tmp_path / f"{part}.parquet",
            [picture(i) for i in range(4)],
            [0, 2, 0, 2],
            names=["a", "hole", "c"],
        )
    assert "'hole' (label 1)" in failure(lambda: data.load(str(tmp_path))).message


# --- folders of images


def test_a_tree_has_its_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    tree(tmp_path / "train", ["ünder score", "a-b", "Z"])
    tree(tmp_path / "test", ["a-b", "Z", "ünder score"], each=2, seed=7)
    loaded = data.load(str(tmp_path))
    assert loaded.classes == ("Z", "a-b", "ünder score")
    assert loaded.train_labels_N.bincount().tolist() == [5, 5, 5]
    assert len(loaded.test_labels_N) == 6


def test_val_stands_in_for_a_missing_test_folder(tmp_path: Path) -> None:
    tree(tmp_path / "train")
    tree(tmp_path / "val", each=3, seed=7)
    assert len(data.load(str(tmp_path)).test_labels_N) == 6


def test_a_tree_without_a_test_part_holds_out_a_fixed_fifth_and_says_so(tmp_path: Path) -> None:
    tree(tmp_path / "set", each=10)
    said: list[str] = []
    loaded = data.load(str(tmp_path / "set"), on_event=said.append)
    assert loaded.train_labels_N.bincount().tolist() == [8, 8]
    assert loaded.test_labels_N.bincount().tolist() == [2, 2]
    assert any("no test part" in line for line in said)


def test_images_of_any_size_are_resized_when_a_size_is_given(tmp_path: Path) -> None:
    tree(tmp_path / "train" / "..", ["train/a"], side=40)
    tree(tmp_path, ["train/b", "test/a", "test/b"], side=17)
    assert data.load(str(tmp_path), size=10).train_images_NCHW.shape == (10, 3, 10, 10)


def test_mixed_sizes_without_a_size_name_two_files_and_the_option(tmp_path: Path) -> None:
    tree(tmp_path / "set", ["a"], side=40)
    tree(tmp_path / "set", ["b"], side=17)
    error = failure(lambda: data.load(str(tmp_path / "set")))
    assert "40 x 40" in error.message
    assert "17 x 17" in error.message
    assert "data.size" in error.hint


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    (tmp_path / "set" / "emu").mkdir()
    assert "'emu'" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_an_emptied_class_folder_is_noticed_although_a_cache_exists(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    data.load(str(tmp_path / "set"))
    for path in (tmp_path / "set" / "dog").iterdir():
        path.unlink()
    assert "'dog'" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_a_test_class_that_is_not_trained_is_named(tmp_path: Path) -> None:
    tree(tmp_path / "train")
    tree(tmp_path / "test", ["cat", "emu"])
    assert "'emu'" in failure(lambda: data.load(str(tmp_path))).message


def test_train_and_test_folders_are_never_taken_for_classes(tmp_path: Path) -> None:
    tree(tmp_path / "set", ["train", "test"])
    assert "holds no class folder" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    tree(tmp_path / "set", ["cat"])
    assert "it has 1 class and" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_a_class_of_one_image_cannot_be_held_out(tmp_path: Path) -> None:
    tree(tmp_path / "set", ["cat"])
    tree(tmp_path / "set", ["dog"], each=1)
    assert "'dog'" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_images_below_four_pixels_are_refused(tmp_path: Path) -> None:
    tree(tmp_path / "set", side=3)
    assert "smaller than 4 pixels" in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_a_size_below_four_pixels_is_refused() -> None:
    assert "data.size=3" in failure(lambda: data.load("fashion", size=3)).message


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    broken = tree(tmp_path / "set") / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert str(broken) in failure(lambda: data.load(str(tmp_path / "set"))).message


def test_a_folder_without_images_says_what_it_may_hold(tmp_path: Path) -> None:
    assert "train/CLASS" in failure(lambda: data.load(str(tmp_path / "root"))).hint


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "gone") in failure(lambda: data.load(str(tmp_path / "gone"))).message
    assert not data.available(str(tmp_path / "gone"))


def test_sixteen_bit_images_keep_their_high_byte(tmp_path: Path) -> None:
    tree(tmp_path / "set", each=4)
    deep_HW = np.tile(np.array([0x7F80, 0xFFFF], dtype=np.uint16), (8, 4))
    for path in (tmp_path / "set").rglob("*.png"):
        Image.fromarray(deep_HW).save(path)
    assert set(data.load(str(tmp_path / "set")).train_images_NCHW.flatten().tolist()) == {
        0x7F,
        0xFF,
    }


# --- names and missing data


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert "'cifar10'" in failure(lambda: data.load("cifar1O")).message


def test_missing_data_name_the_folder_and_the_embedded_alternative(root: Path) -> None:
    error = failure(lambda: data.load("cifar10"))
    assert str(root / "cifar-10-batches-py") in error.message
    assert str(root / "cifar10") in error.hint
    assert "data.name=fashion" in error.hint


def test_a_download_to_a_read_only_root_says_so(root: Path) -> None:
    root.chmod(0o555)
    assert "is not writable" in failure(lambda: data.fetch("cifar10")).message


def test_damaged_files_of_torchvision_are_refused_by_checksum(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"half a download")
    assert data.available("cifar10")
    assert "checksums" in failure(lambda: data.load("cifar10")).message


@pytest.mark.parametrize(
    ("below", "gz"),
    [("FashionMNIST/raw", False), ("FashionMNIST/raw", True), ("fashion-mnist", True)],
)
def test_fashion_mnist_is_read_where_torchvision_or_a_user_puts_it(
    root: Path, below: str, gz: bool
) -> None:
    written = write_idx(root / below, gz=gz)
    loaded = data.load("fashion-mnist")
    assert np.array_equal(loaded.train_images_NCHW[:, 0], written["train-images-idx3-ubyte"])
    assert loaded.test_labels_N.tolist() == written["t10k-labels-idx1-ubyte"].tolist()
    assert loaded.classes[9] == "Ankle boot"


def test_our_idx_reader_agrees_with_torchvision(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    write_idx(root / "FashionMNIST" / "raw")
    ours, theirs = data.load("fashion-mnist"), FashionMNIST(root, train=False)
    assert torch.equal(ours.test_images_NCHW[:, 0], theirs.data)
    assert torch.equal(ours.test_labels_N, theirs.targets)


def test_an_idx_file_that_is_cut_off_is_named(root: Path) -> None:
    write_idx(root / "fashion-mnist")
    path = root / "fashion-mnist" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    assert str(path) in failure(lambda: data.load("fashion-mnist")).message


def test_describe_lists_every_known_set_and_what_is_here(root: Path) -> None:
    shards(root / "svhn")
    found = {info.name: info for info in data.describe()}
    for name in ("fashion", "digits"):
        assert len(data.load(name).test_labels_N) == found[name].test_images
    assert list(found) == ["fashion", "digits", "cifar10", "cifar100", "svhn", "fashion-mnist"]
    assert {name for name, info in found.items() if info.present} == {"fashion", "digits", "svhn"}
    assert "harness data fetch cifar10" in found["cifar10"].how


def test_looking_for_data_imports_no_torchvision(root: Path) -> None:
    shards(root / "cifar10")
    code = (
        "import sys; from harness.train import data; data.load('cifar10'); data.describe();"
        "data.available('svhn'); sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_data_root_is_the_users_cache_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA")
    assert data.data_root() == tmp_path / "cache" / "harness"


# --- torchvision's own layouts, written here: only its checksums are replaced by those of the small
# files


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    from torchvision.datasets import CIFAR10

    folder.mkdir(parents=True)
    images_NCHW = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for k, name in enumerate(names):
        rows = images_NCHW[10 * k : 10 * k + 10].reshape(10, -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(
        pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    )
    sums = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(
        CIFAR10,
        "meta",
        {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")},
    )
    return images_NCHW


def test_cifar10_of_torchvision_keeps_its_pixels_and_comes_before_shards(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_NCHW = write_cifar10(root / "cifar-10-batches-py", monkeypatch)
    shards(root / "cifar10")
    loaded = data.load("cifar10")
    assert np.array_equal(loaded.train_images_NCHW, images_NCHW[:50])
    assert np.array_equal(loaded.test_images_NCHW, images_NCHW[50:])
    assert loaded.test_labels_N.tolist() == list(range(10))
    assert loaded.classes[3] == "class 3"


def test_cifar100_of_torchvision_has_its_fine_classes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR100

    folder = root / "cifar-100-python"
    folder.mkdir()
    images_NCHW = np.random.default_rng(0).integers(0, 256, (100, 3, 32, 32), dtype=np.uint8)
    for name in ("train", "test"):
        rows = {
            "data": images_NCHW.reshape(100, -1),
            "fine_labels": list(range(100)),
            "coarse_labels": [0] * 100,
        }
        (folder / name).write_bytes(pickle.dumps(rows))
    (folder / "meta").write_bytes(
        pickle.dumps({"fine_label_names": [f"fine {i}" for i in range(100)]})
    )
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(
        CIFAR100,
        "meta",
        {"filename": "meta", "key": "fine_label_names", "md5": md5(folder / "meta")},
    )
    loaded = data.load("cifar100")
    assert loaded.classes[42] == "fine 42"
    assert np.array_equal(loaded.train_images_NCHW, images_NCHW)


@pytest.mark.parametrize("below", ["", "svhn"])
def test_svhn_of_torchvision_numbers_the_digit_nought_0(
    root: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    (root / below).mkdir(exist_ok=True)
    images_HWCN = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    sums = {}
    for part in ("train", "test"):
        path = root / below / f"{part}_32x32.mat"
        savemat(path, {"X": images_HWCN, "y": np.tile(np.arange(1, 11), 2)[:, None]})
        sums[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", sums)
    loaded = data.load("svhn")
    assert loaded.train_labels_N.tolist() == [*range(1, 10), 0] * 2
    assert np.array_equal(loaded.train_images_NCHW[7].permute(1, 2, 0), images_HWCN[..., 7])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder over HTTP on this machine; gives (folder, address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the library gave it
        """Log nothing."""


def archive(served_folder: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> Path:
    from torchvision.datasets import CIFAR10

    write_cifar10(served_folder / "made" / "cifar-10-batches-py", monkeypatch)
    path = served_folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(served_folder / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{path.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(path))
    return path


def test_fetch_downloads_checks_and_decodes(
    root: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(served[0], monkeypatch, served[1])
    said: list[str] = []
    fetched = data.fetch("cifar10", on_event=said.append)
    assert len(fetched.train_labels_N) == 50
    assert (root / "cifar-10-batches-py" / "test_batch").is_file()
    assert any("downloading" in line for line in said)
    assert data.load("cifar10").fingerprint == fetched.fingerprint


def test_nothing_is_downloaded_unless_asked(
    root: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(served[0], monkeypatch, served[1])
    failure(lambda: data.load("cifar10"))
    assert not list(root.iterdir())


def test_a_download_that_fails_its_checksum_is_refused(
    served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(served[0], monkeypatch, served[1]).write_bytes(b"a login page of some hotel")
    error = failure(lambda: data.fetch("cifar10"))
    assert "could not download" in error.message
    assert "data.name=fashion" in error.hint


# --- fingerprints


def test_a_fingerprint_is_sixteen_hexadecimal_digits_and_repeats(tmp_path: Path) -> None:
    name = str(shards(tmp_path / "set"))
    first = data.load(name).fingerprint
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert data.load(name).fingerprint == data.verify(name).fingerprint == first


@pytest.mark.parametrize("change", ["pixel", "label", "class name", "part", "shape"])
def test_a_fingerprint_changes_with(change: str) -> None:
    images, labels = np.zeros((4, 1, 4, 6), dtype=np.uint8), np.array([0, 1, 0, 1])
    before = Arrays(images, labels, images[:2], labels[:2], ("a", "b"))
    other = images.copy()
    other[3, 0, 3, 5] = 1
    after = {
        "pixel": Arrays(other, labels, images[:2], labels[:2], ("a", "b")),
        "label": Arrays(images, labels[::-1], images[:2], labels[:2], ("a", "b")),
        "class name": Arrays(images, labels, images[:2], labels[:2], ("a", "c")),
        "part": Arrays(images[:2], labels[:2], images, labels, ("a", "b")),
        "shape": Arrays(images.reshape(4, 1, 6, 4), labels, images[:2], labels[:2], ("a", "b")),
    }[change]
    assert digest(before) != digest(after)


def test_a_fingerprint_changes_with_the_size() -> None:
    assert data.load("fashion", size=14).fingerprint != data.load("fashion").fingerprint


# --- the cache


def test_a_second_load_decodes_nothing_and_gives_the_same_bits(tmp_path: Path) -> None:
    name = str(shards(tmp_path / "set"))
    said: list[str] = []
    first = data.load(name, on_event=said.append)
    assert any("decoding" in line for line in said)
    said.clear()
    second = data.load(name, on_event=said.append)
    assert not said
    assert torch.equal(first.train_images_NCHW, second.train_images_NCHW)
    assert torch.equal(first.test_labels_N, second.test_labels_N)
    assert first.classes == second.classes


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    name = str(tree(tmp_path / "set"))
    first = data.load(name).fingerprint
    Image.fromarray(picture(999)).save(tmp_path / "set" / "cat" / "0.png")
    assert data.load(name).fingerprint != first


def test_another_size_is_another_cache_file(tmp_path: Path) -> None:
    name = str(shards(tmp_path / "set"))
    assert data.load(name).train_images_NCHW.shape[-1] == 8
    assert data.load(name, size=4).train_images_NCHW.shape[-1] == 4
    assert data.load(name).train_images_NCHW.shape[-1] == 8


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "text", "pickle"])
def test_a_damaged_cache_is_said_and_rebuilt(tmp_path: Path, root: Path, damage: str) -> None:
    name = str(shards(tmp_path / "set"))
    first = data.load(name)
    (path,) = (root / ".harness-cache").glob("*.npy")
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    header = io.BytesIO()
    np.save(header, np.array([{"state": 1}], dtype=object), allow_pickle=True)
    new = {
        "cut": content[:-50],
        "flipped": bytes(flipped),
        "emptied": b"",
        "text": b"hello",
        "pickle": header.getvalue(),
    }
    path.write_bytes(new[damage])
    said: list[str] = []
    again = data.load(name, on_event=said.append)
    assert torch.equal(again.train_images_NCHW, first.train_images_NCHW)
    assert any("damaged" in line for line in said)
    said.clear()
    data.load(name, on_event=said.append)
    assert not said


def test_a_read_only_root_is_left_alone_and_the_users_folder_used(
    tmp_path: Path, root: Path
) -> None:
    shards(root / "cifar10")
    root.chmod(0o555)
    data.load("cifar10")
    root.chmod(0o755)
    assert not (root / ".harness-cache").exists()
    assert len(list((tmp_path / "cache" / "harness" / ".harness-cache").glob("cifar10-*.npy"))) == 1


def test_without_any_folder_to_write_to_loading_still_works(tmp_path: Path, root: Path) -> None:
    name = str(shards(tmp_path / "set"))
    root.chmod(0o555)
    (tmp_path / "cache").mkdir(mode=0o555)
    said: list[str] = []
    assert len(data.load(name, on_event=said.append).train_labels_N) == 20
    assert any("no cache folder is writable" in line for line in said)


def test_what_a_killed_writer_left_behind_does_no_harm(tmp_path: Path, root: Path) -> None:
    name = str(shards(tmp_path / "set"))
    data.load(name)
    (path,) = (root / ".harness-cache").glob("*.npy")
    path.rename(path.with_name(f".writing-{path.name}"))
    data.load(name)
    assert [p.name for p in (root / ".harness-cache").glob("*.npy")] == [path.name]
    assert not list((root / ".harness-cache").glob(".writing-*"))


def test_two_processes_that_ask_at_once_decode_once(tmp_path: Path) -> None:
    name = str(shards(tmp_path / "set", train=600))
    code = (
        "import sys, time, pathlib; from harness.train import data\n"
        "ready, go = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]); ready.touch()\n"
        "while not go.exists(): time.sleep(0.01)\n"
        "said = []; loaded = data.load(sys.argv[1], on_event=said.append)\n"
        "sys.stdout.write(f'{sum(\"decoding the files\" in line for line in said)} {loaded.fingerprint}')\n"
    )
    go = tmp_path / "go"
    ready = [tmp_path / "ready0", tmp_path / "ready1"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, name, str(path), str(go)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for path in ready
    ]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in both)
    go.touch()
    answers = [process.communicate()[0].split() for process in both]
    assert sorted(answer[0] for answer in answers) == ["0", "1"]
    assert answers[0][1] == answers[1][1]


def test_verify_puts_a_wrong_cache_right(tmp_path: Path, root: Path) -> None:
    name = str(shards(tmp_path / "set"))
    loaded = data.load(name)
    (path,) = (root / ".harness-cache").glob("*.npy")
    images, labels = loaded.test_images_NCHW.numpy(), loaded.test_labels_N.numpy()
    wrong = Arrays(images, labels, images, labels, ("0", "1"))
    source = sources.find(name, root)
    assert source is not None
    state = cache.state_of(source.kind, source.files, size=0)
    entry = cache.CacheEntry(root, name=name, where=source.where, size=0, state=state)
    entry.write(wrong, digest(wrong), lambda _: None)
    assert path.exists()
    said: list[str] = []
    assert data.verify(name, on_event=said.append).fingerprint == loaded.fingerprint
    assert any("written again" in line for line in said)
    assert data.load(name).fingerprint == loaded.fingerprint


# --- resizing


def test_a_whole_number_reduction_is_the_mean_of_each_square_rounded_half_up() -> None:
    images_NCHW = np.random.default_rng(0).integers(0, 256, (5, 3, 12, 12), dtype=np.uint8)
    mean = images_NCHW.astype(float).reshape(5, 3, 4, 3, 4, 3).mean(axis=(3, 5))
    assert np.array_equal(pixels.resize(images_NCHW, 4), np.floor(mean + 0.5 + 1e-9))


@pytest.mark.parametrize("size", [4, 6, 7, 20])
def test_one_image_is_resized_like_a_batch(size: int) -> None:
    image_HWC = picture(0, side=12, width=17)
    batch_CHW = pixels.resize(np.ascontiguousarray(image_HWC.transpose(2, 0, 1))[None], size)[0]
    assert np.array_equal(pixels.resize_image(image_HWC, size).transpose(2, 0, 1), batch_CHW)


def test_other_reductions_are_pillows_antialiased_bilinear_filter() -> None:
    image_HWC = picture(0, side=12)
    expected = np.asarray(Image.fromarray(image_HWC).resize((7, 7), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels.resize_image(image_HWC, 7), expected)


def test_resizing_keeps_the_central_square() -> None:
    wide_HW = np.zeros((8, 24), dtype=np.uint8)
    wide_HW[:, 8:16] = 200
    assert (pixels.resize_image(wide_HW, 4) == 200).all()


# --- splits


def test_a_split_is_stratified() -> None:
    parts = data.split(data.load("fashion"), train=400, val=500)
    assert parts.train_labels_N.bincount().tolist() == [40] * 10
    assert parts.val_labels_N.bincount().tolist() == [50] * 10
    assert len(parts.test_labels_N) == 1000


def test_training_and_validation_share_no_image_and_lose_none() -> None:
    labels_N = data.load("fashion").train_labels_N.numpy()
    val, train = stratified_order(labels_N, [500, -1], seed=0)
    assert sorted([*val, *train]) == list(range(3000))


def test_a_split_depends_on_its_seed_alone() -> None:
    fashion = data.load("fashion")
    torch.manual_seed(1)
    first = data.split(fashion, val=500, split_seed=3)
    torch.manual_seed(2)
    assert torch.equal(
        data.split(fashion, val=500, split_seed=3).val_images_NCHW, first.val_images_NCHW
    )
    assert not torch.equal(
        data.split(fashion, val=500, split_seed=4).val_images_NCHW, first.val_images_NCHW
    )


def test_splitting_draws_nothing_from_torch() -> None:
    fashion = data.load("fashion")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    data.split(fashion, val=500)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_split_is_the_same_on_every_machine() -> None:
    val, train = stratified_order(np.arange(1000) % 10, [100, 200], seed=0)
    drawn = hashlib.sha256(val.astype("<i8").tobytes() + train.astype("<i8").tobytes()).hexdigest()[
        :16
    ]
    assert drawn == "9c9fc7bcbd7f2c26"


def test_validation_images_do_not_depend_on_how_many_are_trained() -> None:
    fashion = data.load("fashion")
    small, large = (data.split(fashion, train=train, val=500) for train in (100, 0))
    assert torch.equal(small.val_images_NCHW, large.val_images_NCHW)


def test_a_larger_training_part_holds_the_smaller_one() -> None:
    labels_N = np.repeat(np.arange(3), [500, 300, 200])
    small, large = (
        set(stratified_order(labels_N, [100, n], seed=0)[1].tolist()) for n in (200, 400)
    )
    assert small < large


def test_unequal_classes_keep_their_shares_and_the_rarest_keeps_one() -> None:
    labels_N = np.repeat(np.arange(3), [900, 98, 2])
    val, _ = stratified_order(labels_N, [100, -1], seed=0)
    assert np.bincount(labels_N[val]).tolist() == [89, 10, 1]


def test_no_validation_gives_empty_tensors_and_all_images_to_training() -> None:
    parts = data.split(data.load("fashion"), val=0)
    assert parts.val_images_NCHW.shape == (0, 1, 28, 28)
    assert len(parts.train_labels_N) == 3000


def test_mean_and_std_are_those_of_the_training_part() -> None:
    parts = data.split(data.load("fashion"), train=400, val=500)
    scaled = parts.train_images_NCHW.double() / 255
    assert parts.mean == pytest.approx([scaled.mean().item()], abs=1e-12)
    assert parts.std == pytest.approx([scaled.std(correction=0).item()], abs=1e-12)


@pytest.mark.parametrize(("train", "val"), [(0, 3000), (0, 10_000), (3000, 1), (5, 500), (400, 9)])
def test_too_few_images_are_refused_with_a_number_that_would_do(train: int, val: int) -> None:
    error = failure(lambda: data.split(data.load("fashion"), train=train, val=val))
    assert f"data.val={val:,}" in error.message
    assert "data.val=600" in error.hint


def test_a_negative_count_is_refused() -> None:
    assert "0 or more" in failure(lambda: data.split(data.load("fashion"), val=-1)).message


# --- the real CIFAR-10


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    # 60,000 images are decoded once for all tests that want them
    return str(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture
def cifar10(shared_cache: str, monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    monkeypatch.setenv("XDG_CACHE_HOME", shared_cache)
    monkeypatch.setenv("HARNESS_DATA", str(REAL_ROOT))
    return data.load("cifar10")


@needs_cifar10
def test_cifar10_has_its_published_mean_and_std(cifar10: data.Dataset) -> None:
    assert cifar10.published is not None
    parts = data.split(cifar10, val=0)
    for ours, published in zip((parts.mean, parts.std), cifar10.published, strict=True):
        assert ours == pytest.approx(published, abs=5.1e-5)  # published with four digits


@needs_cifar10
def test_cifar10_has_its_ten_classes_in_equal_numbers(cifar10: data.Dataset) -> None:
    assert cifar10.classes[:2] == ("airplane", "automobile")
    assert cifar10.train_labels_N.bincount().tolist() == [5000] * 10
    assert cifar10.test_labels_N.bincount().tolist() == [1000] * 10
