"""``harness data``: list, fetch and verify images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import complete, console
from harness.cli.options import SETUP, Json, app, examples

if TYPE_CHECKING:
    from harness.train.data import Dataset

data_app = typer.Typer(
    help="List, fetch and verify images.",
    no_args_is_help=True,
    epilog=examples("harness data list", "harness data fetch cifar10"),
)
app.add_typer(data_app, name="data", rich_help_panel=SETUP)


@data_app.command("list", epilog=examples("harness data list", "harness data list --json"))
def data_list(*, json: Json = False) -> None:
    """List the data sets, and which of them are here."""
    from harness.train import data

    found = data.describe()
    if json:
        console.data_json([{key: getattr(info, key) for key in info.__slots__} for info in found])
        return
    rows = [
        (
            info.name,
            f"{info.images:,}",
            "x".join(map(str, info.shape_CHW)),
            "here" if info.present else "not here",
            info.how,
        )
        for info in found
    ]
    console.table(("name", "images", "shape", "state", "how to get it"), rows, right=("images",))
    console.say(f"\ndata root: {data.data_root()} (set HARNESS_DATA to change it)")


@data_app.command("fetch", epilog=examples("harness data fetch cifar10", "harness data fetch svhn"))
def data_fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="cifar10, cifar100, svhn or fashion-mnist.",
            autocompletion=complete.datasets,
        ),
    ],
    *,
    json: Json = False,
) -> None:
    """Download a data set, check it and decode it once."""
    from harness.train import data

    _show_data(data.fetch(name, on_event=console.say), json=json)


@data_app.command(
    "verify",
    epilog=examples("harness data verify cifar10", "harness data verify ./images --size 32"),
)
def data_verify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A data set's name, or a folder of images or parquet shards.",
            autocompletion=complete.datasets,
        ),
    ],
    *,
    size: Annotated[
        int,
        typer.Option(min=0, help="Side in pixels that images are resized to; 0 keeps their own."),
    ] = 0,
    json: Json = False,
) -> None:
    """Read every image again and compare with the cache."""
    from harness.train import data

    _show_data(data.verify(name, size=size, on_event=console.say), json=json)


def _show_data(found: Dataset, *, json: bool) -> None:
    facts: dict[str, Any] = {
        "name": found.name,
        "train": len(found.train_labels_N),
        **({} if found.val_labels_N is None else {"validation": len(found.val_labels_N)}),
        "test": len(found.test_labels_N),
        "shape": list(found.train_images_NCHW.shape[1:]),
        "classes": list(found.classes),
        "fingerprint": found.fingerprint,
    }
    if json:
        console.data_json(facts)
        return
    written = {
        **{name: f"{fact:,}" if isinstance(fact, int) else fact for name, fact in facts.items()},
        "shape": "x".join(map(str, facts["shape"])),
        "classes": ", ".join(found.classes),
    }
    console.table(("what", "value"), list(written.items()))
