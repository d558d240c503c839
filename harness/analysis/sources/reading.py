"""From what was named on the command line to one frame: files are found, known by their content, and read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.analysis.sources import (
    delimited,
    event_files,
    known,
    mlflow_folder,
    optuna_studies,
    paths,
    records,
    trainer_state,
    typed,
)
from harness.analysis.sources.frame import (
    FILE,
    LINE,
    TableSource,
    flat,
    frame_of,
    placed,
    unreadable,
)
from harness.errors import ReportError
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd

_TABLES = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".feather", ".xlsx")
_PACKED = (".gz", ".xz", ".bz2")
# Where a run leaves several tables: those that hold its results, the likeliest first.
_RESULTS = (
    trainer_state.NAME,
    *("metrics.csv", "results.jsonl", "results.csv", "results.json", "progress.csv"),
    *("measurements.csv", "metrics.json", "metrics.jsonl", "history.csv", "scalars.json"),
    *("log.csv", "result.json", "summary.json", "eval_results.json", "all_results.json"),
)
# What a run was asked to do, next to its results.
_SETTINGS = (
    *("config.json", "params.json", "args.json", "hparams.json", "flags.json", "flags_0.json"),
    *(
        "hparams.yaml",
        "config.yaml",
        "params.yaml",
        "args.yaml",
        ".hydra/config.yaml",
        "settings.json",
    ),
)
_OTHERS = ("meta_data_0.json", "meta.json", "wandb-metadata.json", "package.json", "done.json")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or a member of an archive.

    Attributes:
        path: relative to what was named.
        read: gives its bytes.
        disk: where it lies, None for a member of an archive.
    """

    path: PurePosixPath
    read: Callable[[], bytes]
    disk: Path | None = None


@dataclass(frozen=True, slots=True)
class FileTable:
    """What one file held.

    Attributes:
        frame: its rows.
        form: its format, in words.
        last: column that orders the rows of one run, where the file is one run.
        twice: names that more than one column has.
        notes: what was assumed.
    """

    frame: pd.DataFrame
    form: str
    last: str = ""
    twice: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_source(sources: Sequence[Path | str]) -> TableSource:
    """Read what other programs left behind: files, globs, folders, patterns of paths, or an Optuna storage.

    Args:
        sources: paths, globs, ``{arm}/seed-{seed}/metrics.csv`` patterns, or the URL of a database.

    Raises:
        ReportError: a file is unreadable or holds no table.
        UsageError: a pattern matches nothing.
    """
    texts = [str(source) for source in sources]
    if len(texts) == 1 and optuna_studies.is_database_url(texts[0]):
        frame, form = optuna_studies.read_database(texts[0])
        return _single(FileTable(frame, form), texts[0].rpartition("/")[2] or "optuna")
    if len(texts) == 1 and paths.is_pattern(texts[0]) and not Path(texts[0]).exists():
        files, columns = paths.matching(texts[0])
        found = [_on_disk(file, PurePosixPath(file.as_posix())) for file in files]
        return _tree(found, _pattern_name(texts[0]), columns)
    named = [path for text in texts for path in _expanded(text)]
    if len(named) == 1 and named[0].is_file():
        return _file(named[0])
    if len(named) == 1:
        return _folder(named[0])
    files = [f for path in named for f in ([path] if path.is_file() else _walked(path))]
    return _tree([_on_disk(f, PurePosixPath(f.as_posix())) for f in files], _common_name(named))


def _expanded(text: str) -> list[Path]:
    path = Path(text)
    try:
        if path.exists():
            return [path]
        # a glob below the root of the file system, or below the working folder
        root, below = Path(path.anchor), path.relative_to(path.anchor).as_posix()
        matches = sorted(root.glob(below)) if any(mark in text for mark in "*?[") else []
    except (OSError, ValueError) as error:
        raise unreadable(text[:200], error, "name a file or a folder") from None
    if not matches:
        raise ReportError(
            f"there is no file or folder {text}",
            "name a file, a folder, a glob in quotes, or the URL of an Optuna storage",
        )
    return matches


def _walked(folder: Path) -> list[Path]:
    """Files below a folder, hidden folders left out except Hydra's."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(
            p.startswith(".") and p != ".hydra" for p in path.relative_to(folder).parts[:-1]
        )
    )


def _on_disk(path: Path, shown: PurePosixPath) -> FoundFile:
    return FoundFile(shown, path.read_bytes, path)


def _bytes(file: FoundFile) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise unreadable(file.path, error.strerror or error, "check its permissions") from None


# One file


def _file(path: Path) -> TableSource:
    file = _on_disk(path, PurePosixPath(path.as_posix()))
    payload = _unpacked(_bytes(file), str(path))
    members = _members(payload, path)
    if members is not None:
        if len(members) == 1:
            return _single(_table(members[0], _bytes(members[0])), path.name)
        return _tree(members, path.name)
    return _single(_table(file, payload), path.name)


def _single(table: FileTable, name: str) -> TableSource:
    """One table as a source, after what is known of its tool has been applied."""
    tool = known.recognised(table.frame)
    frame, parted = known.with_name_parts(table.frame if tool is None else tool.frame)
    what = f"{tool.what}, {table.form}" if tool is not None else table.form
    own = [column for column in frame.columns if column not in (FILE, LINE)]
    size = f"{plural(len(frame), 'row')}, {plural(len(own), 'column')}"
    return TableSource(
        frame=frame,
        name=name,
        sentence=f"{name}: {what}; {size}",
        where=tool.where if tool is not None else (),
        last=(tool.last if tool is not None else "") or table.last,
        created=tool.created if tool is not None else "",
        notes=(*table.notes, *(tool.notes if tool is not None else ()), *parted),
        twice=table.twice,
    )


def _unpacked(payload: bytes, place: str) -> bytes:
    """Bytes without the packing of gzip, xz or bzip2."""
    try:
        if payload.startswith(b"\x1f\x8b"):
            return gzip.decompress(payload)
        if payload.startswith(b"\xfd7zXZ"):
            return lzma.decompress(payload)
        if payload.startswith(b"BZh"):
            return bz2.decompress(payload)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise unreadable(place, error, "the file is cut short or damaged: copy it again") from None
    return payload


def _members(payload: bytes, path: Path) -> list[FoundFile] | None:
    """Files of a zip or tar archive; None for what is none."""
    if payload.startswith(b"PK"):
        try:
            archive = zipfile.ZipFile(io.BytesIO(payload))
        except zipfile.BadZipFile as error:
            raise unreadable(path, error, "the archive is damaged: copy it again") from None
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if "[Content_Types].xml" in names:
            return None
        names = [name for name in names if not name.startswith("__MACOSX/")]
        return [
            FoundFile(PurePosixPath(name), lambda name=name: _unpacked(archive.read(name), name))  # type: ignore[misc]
            for name in names
        ]
    if payload[257:262] == b"ustar":
        contents = {}
        with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
            for member in tar.getmembers():
                opened = tar.extractfile(member) if member.isfile() else None
                if opened is not None:
                    contents[member.name] = opened.read()
        return [
            FoundFile(PurePosixPath(name), lambda data=data: data)  # type: ignore[misc]
            for name, data in contents.items()
        ]
    return None


def _table(file: FoundFile, payload: bytes) -> FileTable:
    """Read one file, by what it begins with."""
    return _binary_table(file, payload) or _text_table(file, payload)


def _binary_table(file: FoundFile, payload: bytes) -> FileTable | None:
    place = name = str(file.path)
    if payload.startswith((b"PAR1", b"ARROW1", b"FEA1")):
        kind = "Parquet" if payload.startswith(b"PAR1") else "Arrow"
        return FileTable(typed.read_parquet_table(payload, place, name), kind)
    if payload.startswith(b"PK"):
        return FileTable(*typed.read_workbook(payload, place, name))
    if payload.startswith(b"SQLite format 3") and file.disk is not None:
        return FileTable(*optuna_studies.read_database(str(file.disk)))
    if optuna_studies.is_journal(payload) and file.disk is not None:
        return FileTable(*optuna_studies.read_journal(file.disk))
    if payload.startswith((b"\x80\x04", b"\x80\x05", b"\x80\x03", b"\x93NUMPY")):
        raise ReportError(
            f"{place}: is a pickle or a numpy array, which is not opened here",
            "save the table as CSV, JSON or Parquet",
        )
    return None


def _text_table(file: FoundFile, payload: bytes) -> FileTable:
    place = name = str(file.path)
    text, encoding = delimited.decoded(payload, place)
    if text.lstrip()[:1] in ("{", "["):
        return _json_table(text, place, name)
    read = delimited.read_delimited(text, place, name)
    form = f"{read.form}{f', {encoding}' if encoding else ''}"
    epochs = known.by_epoch(read.frame)
    if epochs is not None:
        note = "rows of training and validation were put together by epoch"
        return FileTable(epochs, f"a Lightning log, {form}", "epoch", read.twice, (note,))
    return FileTable(read.frame, form, "", read.twice)


def _json_table(text: str, place: str, name: str) -> FileTable:
    if '"log_history"' in text:
        (document, *_), _ = records.parse_json(text, place)
        if trainer_state.is_trainer_state(document):
            rows = trainer_state.log_rows(document)
            return FileTable(frame_of(rows, name), "a Hugging Face trainer_state.json", "step")
    return FileTable(*records.read_json(text, place, name))


# Several files


def _folder(folder: Path) -> TableSource:
    runs = mlflow_folder.run_folders(folder)
    if runs:
        return _mlflow(folder, runs)
    files = _walked(folder)
    events = [file for file in files if event_files.is_event_file(file.name)]
    found = [_on_disk(file, PurePosixPath(file.relative_to(folder).as_posix())) for file in files]
    if events and not any(_is_table(file) for file in found):
        return _events(folder, events)
    return _tree(found, folder.resolve().name)


def _mlflow(folder: Path, runs: Sequence[Path]) -> TableSource:
    frames = [frame_of(mlflow_folder.run_rows(run), run.name) for run in runs]
    frame = _joined([frame for frame in frames if not frame.empty], folder)
    if frame["experiment"].nunique() < 2:
        frame = frame.drop(columns="experiment")
    tool = known.recognised(frame)
    several = "step" if frame.duplicated("run_id").any() else ""
    name = folder.resolve().name
    return TableSource(
        frame=frame,
        name=name,
        sentence=f"{name}: an MLflow folder, {plural(len(runs), 'run')}, {plural(len(frame), 'row')}",
        where=tool.where if tool is not None else (),
        last=several,
        created="start_time",
    )


def _events(folder: Path, files: Sequence[Path]) -> TableSource:
    runs = event_files.runs_of(files)
    shown = [PurePosixPath(run.relative_to(folder).as_posix()) for run in runs]
    columns = paths.guessed(shown) if len(runs) > 1 else paths.PathColumns(({},), ".")
    frames = []
    for (run, folders), said in zip(runs.items(), columns.columns, strict=True):
        rows = event_files.event_rows(run, folders)
        frames.append(_with_columns(frame_of(rows, run.name), said))
    frame = _joined(frames, folder)
    name = folder.resolve().name
    return TableSource(
        frame=frame,
        name=name,
        sentence=f"{name}: TensorBoard event files, {plural(len(runs), 'run')} as {columns.pattern}, "
        f"{plural(len(frame), 'row')}",
        last="step",
    )


def _is_table(file: FoundFile) -> bool:
    name = file.path.name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    ours = any(file.path.as_posix().endswith(settings) for settings in (*_SETTINGS, *_OTHERS))
    return name.endswith(_TABLES) and not ours


def _tree(
    files: Sequence[FoundFile], name: str, columns: paths.PathColumns | None = None
) -> TableSource:
    """Read the tables of many files into one frame, with what their paths and settings say."""
    if columns is None:
        chosen, left = _chosen(files, name)
        columns = (
            paths.guessed([file.path for file in chosen])
            if len(chosen) > 1
            else paths.PathColumns(({},), str(chosen[0].path))
        )
    else:
        chosen, left = list(files), ""
    if len(chosen) == 1:
        table = _table(chosen[0], _unpacked(_bytes(chosen[0]), str(chosen[0].path)))
        return _single(table, name)
    tables = [_table(file, _unpacked(_bytes(file), str(file.path))) for file in chosen]
    said = _with_settings(files, chosen, columns.columns)
    frames = [_with_columns(t.frame, cells) for t, cells in zip(tables, said, strict=True)]
    frame = _joined(frames, name)
    tool = known.recognised(frame)
    shown, parted = known.with_name_parts(frame if tool is None else tool.frame)
    formats = Counter(table.form for table in tables).most_common(1)[0][0]
    what = f"{tool.what}, {formats}" if tool is not None else formats
    sentence = f"{name}: {plural(len(chosen), 'file')} as {columns.pattern} ({what}); "
    return TableSource(
        frame=shown,
        name=name,
        sentence=f"{sentence}{plural(len(frame), 'row')}{left}",
        where=tool.where if tool is not None else (),
        last=(tool.last if tool is not None else "") or tables[0].last,
        created=tool.created if tool is not None else "",
        notes=(*dict.fromkeys(note for table in tables for note in table.notes), *parted),
        twice=frozenset().union(*(table.twice for table in tables)),
    )


def _chosen(files: Sequence[FoundFile], name: str) -> tuple[list[FoundFile], str]:
    """Return the files that hold results, and the words for those left out."""
    tables = [file for file in files if _is_table(file)]
    if not tables:
        # settings and nothing else may still be results, under an unlucky name
        tables = [file for file in files if file.path.suffix.lower() in (".json", ".txt", ".log")]
    if not tables:
        raise ReportError(f"{name}: holds no table", f"a table ends in one of {', '.join(_TABLES)}")
    counts = Counter(file.path.name for file in tables)
    most = max(counts.values())
    if most == 1:
        kinds = Counter(file.path.suffix.lower() for file in tables)
        named = [file for file in tables if file.path.name in _RESULTS]
        ending = kinds.most_common(1)[0][0]
        chosen = named or [file for file in tables if file.path.suffix.lower() == ending]
    else:
        often = [n for n in counts if counts[n] == most]
        best = [n for n in _RESULTS if counts[n] * 2 > most] or often
        numbered = paths.numbered(counts)
        if best[0] not in _RESULTS and set(best) <= numbered:
            best = sorted(numbered)  # a file a run, in a folder an arm
        elif len(best) > 1 and best[0] not in _RESULTS:
            listed = ", ".join(sorted(best)[:5])
            raise ReportError(
                f"{name}: several tables lie in every folder: {listed}",
                f"say which, for example '{name}/**/{min(best)}' in quotes",
            )
        kept_names = set(best) if set(best) <= numbered else {best[0]}
        chosen = [file for file in tables if file.path.name in kept_names]
    if chosen[0].path.name == trainer_state.NAME:
        kept = set(trainer_state.last_checkpoints([file.path for file in chosen]))
        chosen = [file for file in chosen if file.path in kept]
    others = Counter(file.path.name for file in tables if file not in chosen)
    if chosen[0].path.name == trainer_state.NAME:
        others.pop(trainer_state.NAME, None)
    shown = ", ".join(f"{n} ({count})" for n, count in others.most_common(3))
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return chosen, f"; not read: {shown}{more}" if others else ""


def _with_settings(
    files: Sequence[FoundFile], chosen: Sequence[FoundFile], said: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Add to what paths say the settings that lie next to each file, those that differ between runs."""
    there = {file.path.as_posix(): file for file in files}
    for file in chosen:
        if file.disk is not None:  # a glob names the results alone
            for name in _SETTINGS:
                near = file.disk.parent / name
                path = (file.path.parent / name).as_posix()
                if path not in there and near.is_file():
                    there[path] = _on_disk(near, PurePosixPath(path))
    settings = [_settings_near(file, there) for file in chosen]
    names = list(dict.fromkeys(name for cells in settings for name in cells))
    varied = [n for n in names if len({str(cells.get(n)) for cells in settings}) > 1]
    taken = {name for cells in said for name in cells}
    return [
        {
            **cells,
            **{f"config.{n}" if n in taken else n: own.get(n) for n in varied},
        }
        for cells, own in zip(said, settings, strict=True)
    ]


def _settings_near(file: FoundFile, there: Mapping[str, FoundFile]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name in _SETTINGS:
        near = there.get((file.path.parent / name).as_posix())
        if near is not None and near.path != file.path:
            cells |= _mapping_in(_bytes(near), near.path.suffix)
    return cells


def _mapping_in(payload: bytes, suffix: str) -> dict[str, Any]:
    """Settings of a JSON or YAML file; what is neither says nothing of a run."""
    import yaml

    try:
        text = payload.decode("utf-8")
        value = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    if not isinstance(value, Mapping):
        return {}
    cells = flat({str(key): inner for key, inner in value.items()})
    return {name: cell for name, cell in cells.items() if not isinstance(cell, list)}


def _with_columns(frame: pd.DataFrame, cells: Mapping[str, Any]) -> pd.DataFrame:
    """A frame with the same cell in every row of some new columns; its own columns keep their names."""
    taken = set(map(str, frame.columns))
    new = {f"{name} (path)" if name in taken else name: cell for name, cell in cells.items()}
    lines, files = frame[LINE], frame[FILE]
    wide = frame.drop(columns=[FILE, LINE]).assign(**new).astype(object)
    return placed(wide, "", lines).assign(**{FILE: files})


def _joined(frames: Sequence[pd.DataFrame], name: object) -> pd.DataFrame:
    import pandas as pd

    if not frames:
        raise ReportError(f"{name}: holds no rows", "name the folder of the results")
    # a column that a file lacks is filled before they are joined: a nan that a file wrote stays one
    names = list(dict.fromkeys(name for part in frames for name in part.columns))
    whole = [
        part.astype(object).assign(**{n: None for n in names if n not in part.columns})[names]
        for part in frames
    ]
    return pd.concat(whole, ignore_index=True).astype(object)


def _pattern_name(pattern: str) -> str:
    fixed = [part for part in PurePosixPath(pattern).parts if "{" not in part and "*" not in part]
    return fixed[0] if fixed and fixed[0] not in ("/", "..") else "runs"


def _common_name(named: Sequence[Path]) -> str:
    parents = {path.parent for path in named}
    name = next(iter(parents)).name if len(parents) == 1 else ""
    return name or f"{named[0].stem}-and-{len(named) - 1}-more"
