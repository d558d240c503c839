"""MLflow's folder of runs (``mlruns``): parameters, tags and metrics of every run, one row a step.

A run is a folder with ``meta.yaml``, ``params``, ``metrics`` and ``tags``; a metric's file has a
line a value: time in milliseconds, value, step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.sources.frame import unreadable

_STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of runs below a folder, those in the trash left out."""
    metas = sorted(folder.rglob("meta.yaml"))
    return [m.parent for m in metas if (m.parent / "metrics").is_dir() and ".trash" not in m.parts]


def run_rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run, one for each step at which something was measured.

    Raises:
        ReportError: a metric's file is damaged.
    """
    import yaml

    try:
        meta = yaml.safe_load((run / "meta.yaml").read_text(encoding="utf-8")) or {}
        shared: dict[str, Any] = {
            "experiment": run.parent.name,
            "run_id": run.name,
            "name": meta.get("run_name", ""),
            "status": _STATUS.get(str(meta.get("status")), str(meta.get("status", ""))),
            "start_time": meta.get("start_time"),
        }
        for kind in ("params", "tags"):
            files = sorted(path for path in (run / kind).rglob("*") if path.is_file())
            for path in files:
                name = path.relative_to(run / kind).as_posix()
                if not name.startswith("mlflow."):
                    shared[f"{kind}.{name}"] = path.read_text(encoding="utf-8").strip()
        rows: dict[int, dict[str, Any]] = {}
        for path in sorted(p for p in (run / "metrics").rglob("*") if p.is_file()):
            name = f"metrics.{path.relative_to(run / 'metrics').as_posix()}"
            for line in path.read_text(encoding="utf-8").splitlines():
                _, value, *step = line.split()
                rows.setdefault(int(step[0]) if step else 0, {})[name] = float(value)
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise unreadable(run, error, "export the runs of MLflow as CSV instead") from None
    return [{**shared, "step": step, **rows[step]} for step in sorted(rows)]
