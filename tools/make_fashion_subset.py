"""Make harness/train/_data/fashion.npz: 4,000 images of Fashion-MNIST, 400 a class.

    python tools/make_fashion_subset.py /usr/share/datasets/fashion-mnist
    harness/train/_data/fashion.npz

The folder holds the four gzipped IDX files of Fashion-MNIST (Debian: package
dataset-fashion-mnist). 300 images a class come from its training part and 100 from its test part,
by a fixed draw; the file keeps the position each had there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from harness.train.arrays import stratified_order
from harness.train.folders import find_idx, read_idx

SEED = 0
TRAIN, TEST = 3_000, 1_000


def main(folder: Path, target: Path) -> None:
    """Read the original files in ``folder`` and write the subset to ``target``."""
    files = find_idx(folder)
    if files is None:
        raise FileNotFoundError(f"{folder} does not hold the four IDX files of Fashion-MNIST")
    whole = read_idx(files, size=0)
    (train,) = stratified_order(whole.train_labels_N, [TRAIN], seed=SEED)
    (test,) = stratified_order(whole.test_labels_N, [TEST], seed=SEED)
    np.savez_compressed(
        target,
        train_images_NHW=whole.train_images_NCHW[train, 0],
        train_labels_N=whole.train_labels_N[train].astype(np.uint8),
        train_positions_N=train.astype(np.int32),
        test_images_NHW=whole.test_images_NCHW[test, 0],
        test_labels_N=whole.test_labels_N[test].astype(np.uint8),
        test_positions_N=test.astype(np.int32),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
