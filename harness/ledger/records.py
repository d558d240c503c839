"""Recording: the artifact first, then what came of the trial, then its state, so that a finished trial is always whole."""

from __future__ import annotations

import io
import json
import math
import time
from contextlib import suppress
from typing import Any

from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from harness.ledger.artifacts import ArtifactFolder
from harness.ledger.book import Book
from harness.ledger.owner import current_owner
from harness.ledger.rows import attrs_of, stored, value_of
from harness.study.trial import Outcomes, Trial, pack_artifact


class TrialRecorder:
    """Writes finished trials into a study."""

    def __init__(self, book: Book, artifacts: ArtifactFolder) -> None:
        self._book = book
        self.artifacts = artifacts

    def record(self, number: int, trial: Trial, outcomes: Outcomes | None) -> Trial | None:
        """Record what came of a running trial; return it as recorded, or None if it was finished before.

        Raises:
            OSError: the artifact or the record could not be written; nothing of it counts.
        """
        trial, payload, attrs = self._packed(trial, outcomes, self._metric())
        artifact = ""

        try:
            artifact = attrs["artifact"] = self._upload(f"{number:06d}", payload)
            recorded = self._finish(number, trial, attrs)
        except BaseException:
            self._discard(artifact)
            raise
        if not recorded:
            self._discard(artifact)
            return None
        return trial

    def add(self, trial: Trial, outcomes: Outcomes | None, metric: str) -> bool:
        """Add a trial that was finished elsewhere; False for one that failed or that the ledger refuses.

        ``metric`` is that of the plan which asks for it: it may not be written yet.
        """
        trial, payload, attrs = self._packed(trial, outcomes, metric)
        if trial.state == "failed":
            return False
        attrs["artifact"] = self._upload("adopted", payload)
        kept = {**attrs_of(trial), "state": trial.state, "adopted": True, "trial": attrs}
        done = trial.state == "complete"
        value = value_of(trial, metric) if done else None
        self._book.study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if done else TrialState.PRUNED,
                value=value,
                user_attrs=kept,
            )
        )
        return True

    def _metric(self) -> str:
        document = self._book.document()
        return document.plan.study.metric if document else "accuracy"

    def _packed(
        self, trial: Trial, outcomes: Outcomes | None, metric: str
    ) -> tuple[Trial, bytes, dict[str, Any]]:
        """Return the trial, its artifact and its stored form; a trial that the ledger refuses has failed by its code."""
        error = ""
        if trial.state == "complete" and not math.isfinite(value_of(trial, metric)):
            error = f"the runner returned no number as {metric}"
        try:
            keep = (
                not error and trial.state != "failed" and (len(trial.curve) or outcomes is not None)
            )
            payload = pack_artifact(trial.curve, outcomes) if keep else b""
            attrs = stored(trial, "")
            # the storage would raise this much later, in the middle of recording
            json.dumps(attrs)
        except (ValueError, TypeError, AttributeError) as fault:
            error = f"could not store the runner's result: {type(fault).__name__}: {fault}"
        if not error:
            return trial, payload, attrs
        failed = trial.model_copy(
            update={"state": "failed", "cause": "code", "error": error, "metrics": {}, "tuned": {}}
        )
        return failed, b"", stored(failed, "")

    def _upload(self, label: str, payload: bytes) -> str:
        """Write an artifact; return its name, which holds the trial's number, and is of no other trial of any study."""
        if not payload:
            return ""
        name = f"{self._book.name}-{label}-{time.time_ns():x}-{current_owner().pid:x}.npz"
        self.artifacts.write(name, io.BytesIO(payload))
        return name

    def _finish(self, number: int, trial: Trial, attrs: dict[str, Any]) -> bool:
        name = attrs["artifact"]
        if not self._book.note(number, trial=attrs, state=trial.state):
            return False
        if name:
            meta = {
                "artifact_id": name,
                "filename": name,
                "mimetype": "application/zip",
                "encoding": None,
            }
            with suppress(UpdateFinishedTrialError):  # then finishing it fails as well
                self._book.attach(number, name, json.dumps(meta))
        if trial.state == "complete":
            return self._book.finish(number, TrialState.COMPLETE, value_of(trial, self._metric()))
        return self._book.finish(
            number, TrialState.FAIL if trial.state == "failed" else TrialState.PRUNED
        )

    def _discard(self, artifact: str) -> None:
        if artifact:
            with suppress(OSError, ArtifactNotFound):
                self.artifacts.remove(artifact)
