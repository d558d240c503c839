"""From material to the data files of a report's folder, without loss; ``folder`` reads them back.

Legend: K images, H height, W width, C channels, T trials.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from harness.report.material import Material, in_order, recipe_ids, thumbnail
from harness.study.arms import arms
from harness.study.trial import METRICS, Curve, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from harness.study.study import Study

SCHEMA = 1  # of the folder; written into trials.parquet
PLAIN = (  # fields of a trial that are columns as they are
    "train_seconds",
    "eval_seconds",
    "images_per_second",
    "peak_mib",
    "params",
    "mflop_per_image",
    "epochs",
    "data_fingerprint",
    "error",
    "cause",
    "started",
    "worker",
    "attempt",
    "label",
    "adopted",
)
# always there, in this order
_LEADING = ("accuracy", "train_accuracy", "online_accuracy", "test_accuracy", "gap", "nll")


def data_files(material: Material) -> dict[str, bytes]:
    """Return the data files of a folder as ``{name: bytes}``."""
    import pyarrow as pa

    trials = _trials_table(material)
    files = {
        "study.toml": material.study.to_toml().encode(),
        "trials.parquet": _parquet(trials),
        "trials.csv": _trials_csv(trials),
        "arms.csv": _arms_csv(material.study).encode(),
        "curves.parquet": _parquet(_curves_table(material)),
        "images.npz": _images(material),
    }
    if material.samples:
        files["samples.png"] = _samples_png(material.samples)
    if material.retuning is not None:
        files["retuning.json"] = (material.retuning.model_dump_json(indent=1) + "\n").encode()
    if material.bench:
        files["bench.json"] = (
            json.dumps(material.bench, indent=1, ensure_ascii=False) + "\n"
        ).encode()
    pa.default_memory_pool().release_unused()
    return files


def metric_columns(trials: Iterable[Trial]) -> list[str]:
    """Return the names of the metrics that trials carry, those of the fixed columns first."""
    found = {name for trial in trials for name in trial.metrics}
    known = [name for name in METRICS if name in found and name not in _LEADING]
    return [*_LEADING, *known, *sorted(found - set(METRICS))]


def _trial_columns(material: Material) -> Iterator[tuple[str, list[Any]]]:
    """Yield the columns of the table of trials, one at a time: of many trials a list takes megabytes."""
    trials = in_order((*material.trials, *material.attempts))
    # by identity: an attempt may equal its retry
    final = {id(trial) for trial in material.trials}
    # a recipe is as long as a page: it is stored as text once
    ids = recipe_ids(trials)
    recipes = {key: trial.recipe for key, trial in zip(ids, trials, strict=True)}
    texts = {key: recipe.model_dump_json() for key, recipe in recipes.items()}
    texts |= {trial.label: "" for trial in trials if trial.label}  # nobody knows its recipe
    environments = {id(trial.environment): trial.environment for trial in trials}
    settings = {key: environment.model_dump_json() for key, environment in environments.items()}
    yield from _fields(trials, ("cell", "seed", "state"))
    found = [trial.metrics for trial in trials]
    for name in metric_columns(trials):
        yield (
            name if name in METRICS else f"metric:{name}",
            [_finite(scores[name]) if name in scores else None for scores in found],
        )
    yield from _fields(trials, PLAIN)
    yield "recipe_id", ids
    yield "recipe", [texts[key] for key in ids]
    yield "environment", [settings[id(trial.environment)] for trial in trials]
    for name in ("tuned", "readings"):
        values = [getattr(trial, name) for trial in trials]
        yield name, [json.dumps(value, sort_keys=True) if value else "" for value in values]
    yield "final", [id(trial) in final for trial in trials]


def _fields(trials: Iterable[Trial], names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield fields with their values, going through the trials once."""
    rows = list(map(attrgetter(*names), trials))
    for i, name in enumerate(names):
        yield name, [row[i] for row in rows]


def _trials_table(material: Material) -> pa.Table:
    import pyarrow as pa

    whole = {"seed", "params", "epochs", "attempt"}
    text = {
        "cell",
        "state",
        "data_fingerprint",
        "error",
        "cause",
        "started",
        "worker",
        "label",
        "adopted",
    }
    text |= {"recipe_id", "recipe", "environment", "tuned", "readings"}
    kinds = (
        {name: pa.int64() for name in whole}
        | {name: pa.string() for name in text}
        | {"final": pa.bool_()}
    )
    arrays = {
        name: pa.array(values, type=kinds.get(name, pa.float64()))
        for name, values in _trial_columns(material)
    }
    facts = {
        "harness.schema": str(SCHEMA),
        "harness.provenance": material.provenance.model_dump_json(exclude={"bench"}),
        "harness.incomplete": json.dumps(material.incomplete),
        "harness.plan": json.dumps(
            {
                "metrics": [asdict(metric) for metric in material.metrics.values()],
                "seeds": list(material.seeds),
                "screening": material.screening,
                "changed": list(material.changed),
            }
        ),
    }
    return pa.table(arrays).replace_schema_metadata(facts)


def _trials_csv(trials: pa.Table) -> bytes:
    """The trials as a spreadsheet shows them, without the JSON columns."""
    from pyarrow import csv

    buffer = io.BytesIO()
    csv.write_csv(
        trials.drop_columns(["recipe", "environment", "readings"]),
        buffer,
        csv.WriteOptions(quoting_style="needed"),
    )
    return buffer.getvalue()


def _arms_csv(study: Study) -> str:
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([("arm", "recipe_id"), *((arm.name, arm.recipe_id) for arm in arms(study))])
    return buffer.getvalue()


def _curves_table(material: Material) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    keys = [
        trial for trial in in_order(material.trials) if len(material.curves.get(trial.cell, ())) > 0
    ]
    lengths = [len(material.curves[trial.cell]) for trial in keys]
    columns: dict[str, Any] = {
        "cell": pa.array([trial.cell for trial in keys], type=pa.string()).take(
            pa.array(np.repeat(np.arange(len(keys)), lengths), type=pa.int64())
        ),
        "seed": np.repeat(np.asarray([trial.seed for trial in keys], dtype=np.int64), lengths),
        "epoch": np.concatenate(
            [np.arange(1, length + 1) for length in lengths] or [np.zeros(0, np.int64)]
        ),
    }
    for name in Curve.model_fields:
        parts = []
        for trial, length in zip(keys, lengths, strict=True):
            values = getattr(material.curves[trial.cell], name)
            parts.append(
                np.asarray(values, dtype=np.float64)
                if len(values) == length
                else np.full(length, np.nan)
            )
        columns[name] = pa.array(np.concatenate(parts or [np.zeros(0)]), from_pandas=True)
    return pa.table(columns)


def _images(material: Material) -> bytes:
    import numpy as np

    arrays: dict[str, Any] = {"classes": np.asarray(material.classes, dtype=np.str_)}
    if material.labels_N is not None:
        arrays["labels"] = np.asarray(material.labels_N)
    keys = sorted(material.outcomes)
    arrays["cells"] = np.asarray(keys, dtype=np.str_)
    for part in ("val", "test"):
        sizes = [getattr(material.outcomes[key], f"{part}_correct_N").size for key in keys]
        arrays[f"{part}_size"] = np.asarray(sizes, dtype=np.int64)
        correct = [
            np.packbits(getattr(material.outcomes[key], f"{part}_correct_N")) for key in keys
        ]
        arrays[f"{part}_correct"] = np.concatenate(correct or [np.zeros(0, np.uint8)])
    buffer = io.BytesIO()
    # none is of objects; allow_pickle=False would be an array's name to numpy 1.26
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _samples_png(samples: Mapping[str, npt.NDArray[np.uint8]]) -> bytes:
    import numpy as np
    from PIL import Image, PngImagePlugin

    rows = [
        (name, [thumbnail(image) for image in images_KHWC]) for name, images_KHWC in samples.items()
    ]
    side = max(max(image.shape[:2]) for _, row in rows for image in row)
    sheet = np.full(
        (side * len(rows), side * max(len(row) for _, row in rows), 3), 255, dtype=np.uint8
    )
    for i, (_, row) in enumerate(rows):
        for j, image in enumerate(row):
            sheet[i * side : i * side + image.shape[0], j * side : j * side + image.shape[1]] = (
                image
            )
    layout = [
        {"arm": name, "sizes": [list(image.shape[:2]) for image in row]} for name, row in rows
    ]
    facts = PngImagePlugin.PngInfo()
    facts.add_itxt("harness", json.dumps({"side": side, "rows": layout}, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True, pnginfo=facts)
    return buffer.getvalue()


def _parquet(content: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(content, buffer, compression="zstd")
    return buffer.getvalue()


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
