"""A report's folder on disk: the data files that it can be rebuilt from, written and read back without loss.

trials.parquet   one row a trial; recipe, environment and tuned settings as JSON; earlier attempts have ``final`` false
curves.parquet   one row a trial and epoch
images.npz       validation labels, class names, and every trial's packed correctness and float16 loss
samples.png      augmented images of every arm; the layout is in the PNG's own text
study.toml       the study as it was run
tuning.json      the search, for a tune
bench.json       saved throughput, when there was any

Legend: E epochs, N images, K samples, T trials.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.analysis import Analysis
from harness.errors import HarnessError, ReportError
from harness.recipe import Recipe
from harness.report.tuning import TuningFacts
from harness.study import Study, parse_study
from harness.trial import METRICS, Curve, Environment, Metric, Outcomes, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

SCHEMA = 1  # of the folder; written into trials.parquet
_PLAIN = (
    "train_seconds", "eval_seconds", "images_per_second", "peak_mib", "params", "mflop_per_image", "epochs",
    "data_fingerprint", "error", "cause", "started", "worker", "attempt",
)  # fmt: skip
_LEADING = ("accuracy", "train_accuracy", "online_accuracy", "test_accuracy", "gap", "nll")  # always there, in this order
_SAMPLE_SIDE = 64  # pixels; larger images are shown smaller


class Provenance(BaseModel):
    """Where a report comes from.

    Attributes:
        commands: what to type, in order, to get these trials again.
        data: the images in words: source, split sizes.
        data_fingerprint: of the images.
        hardware: the machine in words.
        harness: version of this package.
        commit: of the working tree, when it ran from one.
        bench: path of a saved throughput measurement, read when the report is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commands: tuple[str, ...] = ()
    data: str = ""
    data_fingerprint: str = ""
    hardware: str = ""
    harness: str = ""
    commit: str = ""
    bench: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report is made of.

    Attributes:
        trials: the final record of every cell that has one.
        attempts: earlier records of cells that were tried again.
        curves, outcomes: by cell key.
        labels_N: validation labels.
        samples: augmented images by arm, uint8 (K, H, W, C).
        bench: a saved throughput measurement, or empty.
        incomplete: cells of the plan are still missing.
        metrics: metrics beyond the built-in ones, by name.
        seeds: the planned seeds, where they are not 0, 1, 2, ...
        screening: arms could be stopped by epoch.
        changed: what of the plan changed after the first trial was claimed.
    """

    study: Study
    trials: tuple[Trial, ...]
    attempts: tuple[Trial, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)
    labels_N: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    samples: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    provenance: Provenance = Provenance()
    tuning: TuningFacts | None = None
    bench: Mapping[str, Any] = field(default_factory=dict)
    incomplete: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    screening: bool = False
    changed: tuple[str, ...] = ()


def in_order(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return trials in the order of the files: by seed, cell and attempt."""
    return tuple(sorted(trials, key=lambda trial: (trial.seed, trial.cell, trial.attempt)))


def recipe_ids(trials: Iterable[Trial]) -> list[str]:
    """Return the recipe id of every trial; each distinct recipe is hashed once."""
    known: dict[int, str] = {}
    found = []
    for trial in trials:
        key = id(trial.recipe)  # alive as long as its trial
        if key not in known:
            known[key] = trial.recipe_id
        found.append(known[key])
    return found


# Writing


def data_files(material: Material, arms: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """Return the data files of a folder as ``{name: bytes}``.

    Args:
        material: what the report is made of.
        arms: (name, recipe id) of every arm.
    """
    files = {
        "study.toml": material.study.to_toml().encode(),
        "trials.parquet": _parquet(_trials_table(material)),
        "trials.csv": _trials_csv(material).encode(),
        "arms.csv": _arms_csv(arms).encode(),
        "curves.parquet": _parquet(_curves_table(material)),
        "images.npz": _images(material),
    }
    if material.samples:
        files["samples.png"] = _samples_png(material.samples)
    if material.tuning is not None:
        files["tuning.json"] = (material.tuning.model_dump_json(indent=1) + "\n").encode()
    if material.bench:
        files["bench.json"] = (json.dumps(material.bench, indent=1, ensure_ascii=False) + "\n").encode()
    return files


def metric_columns(trials: Iterable[Trial]) -> list[str]:
    """Return the names of the metrics that trials carry, those of the fixed columns first."""
    found = {name for trial in trials for name in trial.metrics}
    known = [name for name in METRICS if name in found and name not in _LEADING]
    return [*_LEADING, *known, *sorted(found - set(METRICS))]


def _trial_columns(material: Material) -> dict[str, list[Any]]:
    trials = in_order((*material.trials, *material.attempts))
    final = {id(trial) for trial in material.trials}
    ids = recipe_ids(trials)
    recipes = {key: trial.recipe for key, trial in zip(ids, trials, strict=True)}
    texts = {key: recipe.model_dump_json() for key, recipe in recipes.items()}
    environments = {environment: environment.model_dump_json() for environment in {trial.environment for trial in trials}}
    columns: dict[str, list[Any]] = {
        "cell": [trial.cell for trial in trials],
        "seed": [trial.seed for trial in trials],
        "state": [trial.state for trial in trials],
    }
    for name in metric_columns(trials):
        columns[name if name in METRICS else f"metric:{name}"] = [_finite(trial.metrics.get(name)) for trial in trials]
    for name in _PLAIN:
        columns[name] = [getattr(trial, name) for trial in trials]
    columns["recipe_id"] = ids
    columns["recipe"] = [texts[key] for key in ids]
    columns["environment"] = [environments[trial.environment] for trial in trials]
    columns["tuned"] = [json.dumps(trial.tuned, sort_keys=True) if trial.tuned else "" for trial in trials]
    columns["final"] = [id(trial) in final for trial in trials]
    return columns


def _trials_table(material: Material) -> pa.Table:
    import pyarrow as pa

    columns = _trial_columns(material)
    whole = {"seed", "params", "epochs", "attempt"}
    text = {"cell", "state", "data_fingerprint", "error", "cause", "started", "worker"}
    text |= {"recipe_id", "recipe", "environment", "tuned"}
    kinds = {name: pa.int64() for name in whole} | {name: pa.string() for name in text} | {"final": pa.bool_()}
    arrays = {name: pa.array(values, type=kinds.get(name, pa.float64())) for name, values in columns.items()}
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


def _trials_csv(material: Material) -> str:
    """The trials as a spreadsheet shows them: without the two JSON columns, 6 significant digits."""
    import pandas as pd

    columns = {name: values for name, values in _trial_columns(material).items() if name not in ("recipe", "environment")}
    return pd.DataFrame(columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _arms_csv(arms: Iterable[tuple[str, str]]) -> str:
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([("arm", "recipe_id"), *arms])
    return buffer.getvalue()


def _curves_table(material: Material) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    keys = [trial for trial in in_order(material.trials) if len(material.curves.get(trial.cell, ())) > 0]
    lengths = [len(material.curves[trial.cell]) for trial in keys]
    columns: dict[str, Any] = {
        "cell": pa.array([trial.cell for trial in keys], type=pa.string()).take(
            pa.array(np.repeat(np.arange(len(keys)), lengths), type=pa.int64())
        ),
        "seed": np.repeat(np.asarray([trial.seed for trial in keys], dtype=np.int64), lengths),
        "epoch": np.concatenate([np.arange(1, length + 1) for length in lengths] or [np.zeros(0, np.int64)]),
    }
    for name in Curve.model_fields:
        parts = []
        for trial, length in zip(keys, lengths, strict=True):
            values = getattr(material.curves[trial.cell], name)
            parts.append(np.asarray(values, dtype=np.float64) if len(values) == length else np.full(length, np.nan))
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
        sizes = [getattr(material.outcomes[key], f"{part}_loss_N").size for key in keys]
        arrays[f"{part}_size"] = np.asarray(sizes, dtype=np.int64)
        correct = [np.packbits(getattr(material.outcomes[key], f"{part}_correct_N")) for key in keys]
        losses = [np.asarray(getattr(material.outcomes[key], f"{part}_loss_N"), dtype=np.float16) for key in keys]
        arrays[f"{part}_correct"] = np.concatenate(correct or [np.zeros(0, np.uint8)])
        arrays[f"{part}_loss"] = np.concatenate(losses or [np.zeros(0, np.float16)])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _samples_png(samples: Mapping[str, npt.NDArray[np.uint8]]) -> bytes:
    import numpy as np
    from PIL import Image, PngImagePlugin

    rows = [(name, [thumbnail(image) for image in images_KHWC]) for name, images_KHWC in samples.items()]
    side = max(max(image.shape[:2]) for _, row in rows for image in row)
    sheet = np.full((side * len(rows), side * max(len(row) for _, row in rows), 3), 255, dtype=np.uint8)
    for i, (_, row) in enumerate(rows):
        for j, image in enumerate(row):
            sheet[i * side : i * side + image.shape[0], j * side : j * side + image.shape[1]] = image
    layout = [{"arm": name, "sizes": [list(image.shape[:2]) for image in row]} for name, row in rows]
    facts = PngImagePlugin.PngInfo()
    facts.add_itxt("harness", json.dumps({"side": side, "rows": layout}, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True, pnginfo=facts)
    return buffer.getvalue()


def thumbnail(image_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an RGB image of at most ``_SAMPLE_SIDE`` pixels a side."""
    import numpy as np
    from PIL import Image

    image = image_HWC if image_HWC.ndim == 3 else image_HWC[..., None]
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    if max(image.shape[:2]) > _SAMPLE_SIDE:
        drawn = Image.fromarray(np.ascontiguousarray(image))
        drawn.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE))
        image = np.asarray(drawn)
    return np.asarray(image, dtype=np.uint8)


def _parquet(content: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(content, buffer, compression="zstd")
    return buffer.getvalue()


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


# Reading


def read_folder(folder: Path) -> Material:
    """Read the data files of a report's folder.

    Raises:
        ReportError: the folder lacks a file that is needed, or one cannot be read.
    """
    missing = [name for name in ("study.toml", "trials.parquet") if not (folder / name).is_file()]
    if missing:
        raise ReportError(f"{folder} has no {' and no '.join(missing)}", "name a folder that `harness report` has written")
    study = _read_study(folder / "study.toml")
    trials, attempts, facts = _read_trials(folder / "trials.parquet")
    outcomes, labels_N, classes = _read_images(folder / "images.npz")
    plan = json.loads(facts.get("harness.plan", "{}"))
    return Material(
        study=study,
        trials=trials,
        attempts=attempts,
        curves=_read_curves(folder / "curves.parquet"),
        outcomes=outcomes,
        labels_N=labels_N,
        classes=classes,
        samples=_read_samples(folder / "samples.png"),
        provenance=Provenance.model_validate_json(facts.get("harness.provenance", "{}")),
        tuning=_read_tuning(folder / "tuning.json"),
        bench=read_bench(folder / "bench.json"),
        incomplete=json.loads(facts.get("harness.incomplete", "false")),
        metrics={metric["name"]: Metric(**metric) for metric in plan.get("metrics", ())},
        seeds=tuple(plan.get("seeds", ())),
        screening=plan.get("screening", False),
        changed=tuple(plan.get("changed", ())),
    )


def read_trials(path: Path) -> tuple[Trial, ...]:
    """Read the final trials of a trials.parquet, without their curves.

    Raises:
        ReportError: the file cannot be read, or lacks a column.
    """
    return _read_trials(path)[0]


def read_analysis(folder: Path) -> Analysis:
    """Read a folder's analysis.json.

    Raises:
        ReportError: it is missing or of another schema.
    """
    path = folder / "analysis.json"
    try:
        return Analysis.model_validate_json(path.read_bytes())
    except OSError:
        raise ReportError(f"{folder} has no analysis.json", "rebuild it with `harness report --from FOLDER`") from None
    except ValidationError as error:
        raise ReportError(
            f"{path} does not fit this version: {error.errors()[0]['msg']}", "rebuild it with `harness report --from FOLDER`"
        ) from None


def _read_study(path: Path) -> Study:
    import tomllib

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReportError(f"{path} cannot be read: {error}", "copy it again from where it was written") from None
    return parse_study(raw, name=raw.get("name", path.parent.name), source=str(path))


def _read_trials(path: Path) -> tuple[tuple[Trial, ...], tuple[Trial, ...], dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"{path} cannot be read: {error}", "copy it again from where it was written") from None
    facts = {key.decode(): value.decode() for key, value in (content.schema.metadata or {}).items()}
    columns = content.to_pydict()
    lacking = [name for name in ("cell", "seed", "state", "recipe") if name not in columns]
    if lacking:
        raise ReportError(f"{path} has no column {lacking[0]!r}", "this is not a table of trials that `harness report` wrote")
    metrics = {name: name for name in METRICS if name in columns}
    metrics |= {name: name.removeprefix("metric:") for name in columns if name.startswith("metric:")}
    plain = [name for name in _PLAIN if name in columns]
    recipes: dict[str, Recipe] = {}
    environments: dict[str, Environment] = {"": Environment()}
    trials: list[Trial] = []
    attempts: list[Trial] = []
    try:
        for i, text in enumerate(columns["recipe"]):
            environment = columns.get("environment", {i: ""})[i] or ""
            tuned = columns.get("tuned", {i: ""})[i]
            trial = Trial(
                cell=columns["cell"][i],
                seed=columns["seed"][i],
                state=columns["state"][i],
                recipe=recipes.get(text) or recipes.setdefault(text, Recipe.model_validate_json(text)),
                environment=environments.get(environment)
                or environments.setdefault(environment, Environment.model_validate_json(environment)),
                metrics={name: columns[column][i] for column, name in metrics.items() if columns[column][i] is not None},
                tuned=json.loads(tuned) if tuned else {},
                **{name: columns[name][i] for name in plain if columns[name][i] is not None},
            )
            (trials if columns.get("final", {i: True})[i] else attempts).append(trial)
    except (HarnessError, ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ReportError(
            f"{path}, row {len(trials) + len(attempts) + 1}: {reason}", "was it written by another version?"
        ) from None
    return tuple(trials), tuple(attempts), facts


def _read_curves(path: Path) -> dict[str, Curve]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    try:
        content = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"{path} cannot be read: {error}", "copy it again, or delete it to do without curves") from None
    keys = np.asarray(content["cell"].to_pylist(), dtype=np.str_)
    if keys.size == 0:
        return {}
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])  # a trial's epochs stand together, in order
    ends = [*starts[1:].tolist(), keys.size]
    columns = {name: content[name].to_numpy() for name in Curve.model_fields if name in content.column_names}
    there = {name: ~np.isnan(values) for name, values in columns.items()}
    curves = {}
    for start, end in zip(starts.tolist(), ends, strict=True):
        # A column that is empty in every epoch was never recorded; a single missing number is one that was not finite.
        parts = {name: tuple(v[start:end].tolist()) for name, v in columns.items() if there[name][start:end].any()}
        curves[str(keys[start])] = Curve.model_construct(**parts)
    return curves


def _read_images(path: Path) -> tuple[dict[str, Outcomes], Any, tuple[str, ...]]:
    import zipfile

    import numpy as np

    if not path.is_file():
        return {}, None, ()
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels_N = stored["labels"] if "labels" in stored else None
            classes = tuple(stored["classes"].tolist())
            parts: list[dict[str, Any]] = [{} for _ in stored["cells"]]
            for part in ("val", "test"):
                sizes, packed, losses = (stored[f"{part}_{name}"] for name in ("size", "correct", "loss"))
                ends, packed_ends = np.cumsum(sizes), np.cumsum((sizes + 7) // 8)
                for i, size in enumerate(sizes.tolist()):
                    bits = packed[packed_ends[i] - (size + 7) // 8 : packed_ends[i]]
                    parts[i][f"{part}_correct_N"] = np.unpackbits(bits, count=size).astype(bool)
                    parts[i][f"{part}_loss_N"] = losses[ends[i] - size : ends[i]]
            cells = stored["cells"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReportError(f"{path} cannot be read: {error}", "copy it again, or delete it to do without images") from None
    return {cell: Outcomes(**part) for cell, part in zip(cells, parts, strict=True)}, labels_N, classes


def _read_samples(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    import numpy as np
    from PIL import Image

    if not path.is_file():
        return {}
    try:
        with Image.open(path) as opened:
            layout = json.loads(opened.info["harness"])
            sheet = np.asarray(opened.convert("RGB"))
    except (OSError, KeyError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}", "copy it again, or delete it to do without samples") from None
    side = layout["side"]
    samples = {}
    for i, row in enumerate(layout["rows"]):
        images = [sheet[i * side : i * side + h, j * side : j * side + w] for j, (h, w) in enumerate(row["sizes"])]
        samples[row["arm"]] = np.stack(images)
    return samples


def _read_tuning(path: Path) -> TuningFacts | None:
    if not path.is_file():
        return None
    try:
        return TuningFacts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ReportError(f"{path}: {error.errors()[0]['msg']}", "delete it to do without the tuning section") from None


def read_bench(path: Path | None) -> dict[str, Any]:
    """Read a saved throughput measurement; without a file there is none.

    Raises:
        ReportError: the file is not JSON of the expected form.
    """
    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        results: Sequence[Any] = content["results"]
        ok = all(isinstance(result, dict) and "name" in result and "images_per_second" in result for result in results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is not a saved benchmark: {error}", "write one with `harness bench --save`") from None
    if not ok:
        raise ReportError(f"{path} is not a saved benchmark", "write one with `harness bench --save`")
    return dict(content)
