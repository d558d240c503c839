"""A report's folder on disk: the data files that it can be rebuilt from, read back without loss.

trials.parquet   one row a trial; recipe, environment, settings and readings as JSON; earlier attempts have ``final`` false
curves.parquet   one row a trial and epoch
images.npz       validation labels, class names, every trial's packed correctness and, on validation images, float16 loss
samples.png      augmented images of every arm; the layout is in the PNG's own text
study.toml       the study as it was run
tuning.json      the search, for a tune
retuning.json    the settings of every arm and the results of the retuned arms, for a study that retunes
bench.json       saved throughput, when there was any

``export`` writes them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.analysis import Analysis, Retuning
from harness.analysis.tuning_facts import TuningFacts
from harness.errors import HarnessError, ReportError
from harness.report.export import PLAIN
from harness.report.material import Material, Provenance
from harness.study.recipe import Recipe
from harness.study.study import Study, parse_study
from harness.study.trial import METRICS, Curve, Environment, Metric, Outcomes, Trial
from harness.text import unread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

Facts = TypeVar("Facts", bound=BaseModel)


def read_folder(folder: Path) -> Material:
    """Read the data files of a report's folder.

    Raises:
        ReportError: the folder lacks a file that is needed, or one is unreadable.
    """
    missing = [name for name in ("study.toml", "trials.parquet") if not (folder / name).is_file()]
    if missing:
        raise ReportError(
            f"{folder} has no {' and no '.join(missing)}",
            "name a folder that `harness report` has written",
        )
    study = _read_study(folder / "study.toml")
    trials, attempts, facts = _read_trials(folder / "trials.parquet")
    outcomes, labels_N, classes = _read_images(folder / "images.npz")
    # reports from before have no plan in their metadata
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
        tuning=read_tuning(folder / "tuning.json"),
        retuning=_read_facts(folder / "retuning.json", Retuning),
        bench=read_bench(folder / "bench.json"),
        incomplete=json.loads(facts.get("harness.incomplete", "false")),
        metrics={metric["name"]: Metric(**metric) for metric in plan.get("metrics", ())},
        seeds=tuple(plan.get("seeds", ())),
        screening=plan.get("screening", False),
        changed=tuple(plan.get("changed", ())),
    )


def read_origin(folder: Path) -> tuple[Study, Provenance]:
    """Read what a report's folder is of, and what it was made with; its trials are left where they are.

    Raises:
        ReportError: the folder lacks a file that is needed, or one is unreadable.
    """
    facts = read_parquet(folder / "trials.parquet", columns=[]).schema.metadata or {}
    made = Provenance.model_validate_json(facts.get(b"harness.provenance", b"{}"))
    return _read_study(folder / "study.toml"), made


def read_analysis(folder: Path | str) -> Analysis:
    """Read a folder's analysis.json, and from its trials which images they saw.

    Raises:
        ReportError: it is missing or of another schema.
    """
    path = Path(folder) / "analysis.json"
    try:
        analysis = Analysis.model_validate_json(path.read_bytes())
    except OSError:
        raise ReportError(
            f"{folder} has no analysis.json", "rebuild it with `harness report --from FOLDER`"
        ) from None
    except ValidationError as error:
        raise ReportError(
            f"{path} does not fit this version: {error.errors()[0]['msg']}",
            "rebuild it with `harness report --from FOLDER`",
        ) from None
    return analysis.model_copy(update={"data_fingerprint": _fingerprint(Path(folder))})


def _fingerprint(folder: Path) -> str:
    """Return the fingerprint of a folder's images: the plan's, else that of most trials; empty where it has no trials."""
    if not (folder / "trials.parquet").is_file():
        return ""
    content = read_parquet(folder / "trials.parquet", columns=["data_fingerprint"])
    facts = json.loads((content.schema.metadata or {}).get(b"harness.provenance", b"{}"))
    if facts.get("data_fingerprint") or "data_fingerprint" not in content.column_names:
        return str(facts.get("data_fingerprint", ""))
    prints = Counter(content["data_fingerprint"].to_pylist())
    return min(prints, key=lambda text: (-prints[text], text), default="") or ""


def _read_study(path: Path) -> Study:
    import tomllib

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReportError(unread(path, error), "copy it again from where it was written") from None
    return parse_study(raw, name=raw.get("name", path.parent.name), source=str(path))


def read_parquet(
    path: Path,
    *,
    columns: list[str] | None = None,
    hint: str = "copy it again from where it was written",
) -> pa.Table:
    """Read a table of a report's folder.

    Args:
        path: of the file.
        columns: those of these that it has; None for all.
        hint: what to do where it is unreadable.

    Raises:
        ReportError: it is missing or unreadable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as stored:
            return stored.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"could not read {path}: {error}", hint) from None


def _read_trials(path: Path) -> tuple[tuple[Trial, ...], tuple[Trial, ...], dict[str, str]]:
    content = read_parquet(path)
    facts = {key.decode(): value.decode() for key, value in (content.schema.metadata or {}).items()}
    columns = content.to_pydict()
    lacking = [name for name in ("cell", "seed", "state", "recipe") if name not in columns]
    if lacking:
        raise ReportError(
            f"{path} has no column {lacking[0]!r}",
            "this is not a table of trials that `harness report` wrote",
        )
    metrics = {name: name for name in METRICS if name in columns}
    metrics |= {
        name: name.removeprefix("metric:") for name in columns if name.startswith("metric:")
    }
    plain = [name for name in PLAIN if name in columns]
    recipes: dict[str, Recipe] = {"": Recipe()}  # of a run that has a label in place of a recipe
    environments: dict[str, Environment] = {"": Environment()}
    trials: list[Trial] = []
    attempts: list[Trial] = []
    try:
        for i, text in enumerate(columns["recipe"]):
            environment = columns.get("environment", {i: ""})[i] or ""
            parts = {name: columns[name][i] for name in ("tuned", "readings") if name in columns}
            trial = Trial(
                cell=columns["cell"][i],
                seed=columns["seed"][i],
                state=columns["state"][i],
                recipe=recipes.get(text)
                or recipes.setdefault(text, Recipe.model_validate_json(text)),
                environment=environments.get(environment)
                or environments.setdefault(
                    environment, Environment.model_validate_json(environment)
                ),
                metrics={
                    name: columns[column][i]
                    for column, name in metrics.items()
                    if columns[column][i] is not None
                },
                **{name: json.loads(text) for name, text in parts.items() if text},
                **{name: columns[name][i] for name in plain if columns[name][i] is not None},
            )
            (trials if columns.get("final", {i: True})[i] else attempts).append(trial)
    except (HarnessError, ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ReportError(
            f"{path}, row {len(trials) + len(attempts) + 1}: {reason}",
            "was it written by another version?",
        ) from None
    return tuple(trials), tuple(attempts), facts


def _read_curves(path: Path) -> dict[str, Curve]:
    import numpy as np

    if not path.is_file():
        return {}
    content = read_parquet(path, hint="copy it again, or delete it to do without curves")
    keys = np.asarray(content["cell"].to_pylist(), dtype=np.str_)
    if keys.size == 0:
        return {}
    # a trial's epochs stand together, in order
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    ends = [*starts[1:].tolist(), keys.size]
    columns = {
        name: content[name].to_numpy()
        for name in Curve.model_fields
        if name in content.column_names
    }
    there = {name: ~np.isnan(values) for name, values in columns.items()}
    curves = {}
    for start, end in zip(starts.tolist(), ends, strict=True):
        # A column that is empty in every epoch was never recorded; a single missing number is one
        # that was not finite.
        parts = {
            name: tuple(v[start:end].tolist())
            for name, v in columns.items()
            if there[name][start:end].any()
        }
        curves[str(keys[start])] = Curve.model_construct(None, **parts)
    return curves


def _read_images(path: Path) -> tuple[dict[str, Outcomes], Any, tuple[str, ...]]:
    import zipfile

    import numpy as np

    if not path.is_file():
        return {}, None, ()
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels_N = stored.get("labels")
            classes = tuple(stored["classes"].tolist())
            parts: list[dict[str, Any]] = [{} for _ in stored["cells"]]
            for part in ("val", "test"):
                sizes, packed = stored[f"{part}_size"], stored[f"{part}_correct"]
                packed_ends = np.cumsum((sizes + 7) // 8)
                for i, size in enumerate(sizes.tolist()):
                    bits = packed[packed_ends[i] - (size + 7) // 8 : packed_ends[i]]
                    parts[i][f"{part}_correct_N"] = np.unpackbits(bits, count=size).astype(bool)
            cells = stored["cells"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReportError(
            f"could not read {path}: {error}", "copy it again, or delete it to do without images"
        ) from None
    return (
        {cell: Outcomes(**part) for cell, part in zip(cells, parts, strict=True)},
        labels_N,
        classes,
    )


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
        raise ReportError(
            f"could not read {path}: {error}", "copy it again, or delete it to do without samples"
        ) from None
    side = layout["side"]
    samples = {}
    for i, row in enumerate(layout["rows"]):
        images = [
            sheet[i * side : i * side + h, j * side : j * side + w]
            for j, (h, w) in enumerate(row["sizes"])
        ]
        samples[row["arm"]] = np.stack(images)
    return samples


def read_tuning(path: Path) -> TuningFacts | None:
    """Read a folder's tuning.json; without the file there was no search.

    Raises:
        ReportError: it is of another schema.
    """
    return _read_facts(path, TuningFacts)


def _read_facts(path: Path, kind: type[Facts]) -> Facts | None:
    if not path.is_file():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ReportError(
            f"{path}: {error.errors()[0]['msg']}", "delete it to do without its section"
        ) from None


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
        ok = all(
            isinstance(result, dict) and "name" in result and "images_per_second" in result
            for result in results
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path} is not a saved benchmark: {error}", "write one with `harness bench --save`"
        ) from None
    if not ok:
        raise ReportError(
            f"{path} is not a saved benchmark", "write one with `harness bench --save`"
        )
    return dict(content)
