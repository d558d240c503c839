"""What the names of folders and shards say.

Which part of a data set they hold, or that they are no data at all.
"""

from __future__ import annotations

import re

_WORDS = {
    "train": "train",
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
    **dict.fromkeys(
        (
            "val",
            "valid",
            "validate",
            "validation",
            "eval",
            "evaluation",
            "dev",
            "devel",
            "development",
        ),
        "val",
    ),
}
_ALONG = frozenset(
    {
        "seg",
        "set",
        "data",
        "dataset",
        "images",
        "image",
        "imgs",
        "img",
        "split",
        "part",
        "folder",
        "dir",
    }
)
_ENDS = ("dataset", "set", "data", "images")  # trainset, testdata

_HIDDEN = (".", "__")  # .ipynb_checkpoints, .thumbnails, __MACOSX, __pycache__
_OF_SYSTEMS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
)
_THUMBNAILS = frozenset({"thumbnails", "thumbs"})


def part_of(name: str) -> str:
    """Return train, test or val where a name means that part of a set, else nothing.

    ``seg_train`` means train, for example.
    """
    words = [word for word in re.split(r"[^a-z]+", name.casefold()) if word and word not in _ALONG]
    # two words may be a class called so: a part is named by its word alone
    if len(words) != 1:
        return ""
    (word,) = words
    for end in _ENDS:
        word = word.removesuffix(end) or word
    return _WORDS.get(word, "")


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is no part of the data.

    Hidden, or left there by a system, whatever it holds.
    """
    return (
        name.startswith(_HIDDEN)
        or name.casefold() in _OF_SYSTEMS
        or name.casefold().startswith("@recycle")
    )


def holds_thumbnails(name: str) -> bool:
    """Say whether a folder below a class holds small copies of its images."""
    return name.casefold() in _THUMBNAILS
