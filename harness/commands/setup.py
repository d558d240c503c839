"""What every run needs, whatever it is a run of: images, workers, storage, and what follows from them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.follow import Follower
from harness.commands.place import RUNS, Place
from harness.commands.script_places import Places
from harness.study.study import Study
from harness.study.trial import curve_images, split_words

if TYPE_CHECKING:
    from harness.ledger import Plan
    from harness.report import Provenance
    from harness.train.parts import Arena
    from harness.train.timing import Layout
    from harness.workers.join import LaunchResult

REPORTS = Path("reports")


@dataclass(slots=True, kw_only=True)
class Setup:
    """A study under one profile, with what it runs on.

    Attributes:
        ground: the images; None where a script of the user's reads its own.
        layout: devices, workers and threads.
        storage: where the ledger is kept.
        artifacts: folder for curves and per-image outcomes.
        place: what starts the workers.
        code: fingerprint of the plug-ins.
        screen: whether an arm may be stopped for being worse.
    """

    study: Study
    why_profile: str
    ground: Arena | None
    layout: Layout | Places
    storage: str | None
    artifacts: str | None
    place: Place = Place()  # noqa: RUF009 - frozen
    code: str = ""
    screen: bool = False

    @property
    def folder(self) -> Path:
        """Where the report lies."""
        return REPORTS / self.study.folder

    @property
    def fingerprint(self) -> str:
        """Of the images; empty where a script reads its own."""
        return self.ground.split.fingerprint if self.ground is not None else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, as far as they are known."""
        return self.ground.split.classes if self.ground is not None else ()

    def image_counts(self) -> dict[str, int]:
        """Images of each part; 0 where a script reads its own."""
        parts = ("train", "val", "test")
        if self.ground is None:
            return dict.fromkeys(parts, 0)
        return {part: len(getattr(self.ground.split, f"{part}_labels_N")) for part in parts}

    def data_root(self) -> str:
        """Return where the images lie; empty where a script reads its own."""
        if self.ground is None:
            return ""
        from harness.train import data

        return str(data.data_root())

    def plan(self, study: Study) -> Plan:
        """Return the plan of a study that runs on this: its own, or that of a part of the run."""
        from harness.ledger import Plan, chance_level

        return Plan(
            study=study,
            data_fingerprint=self.fingerprint,
            code_fingerprint=self.code,
            threads=self.layout.threads,
            device=self.layout.devices[0].partition(":")[0],
            workers=self.layout.workers,
            data_root=self.data_root(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            screen=self.screen,
            chance=chance_level(len(self.classes), curve_images(**self.image_counts())),
        )

    def drain(
        self, study: Study, new: int, deadline: float | None, follow: Follower
    ) -> LaunchResult | None:
        """Start the workers on a planned study and follow them until they leave; None where nothing is to be started.

        Args:
            study: planned in its ledger.
            new: trials to run; no more workers than these are started.
            deadline: on ``time.monotonic()``; after it, no worker would claim anything.
            follow: given the events of the workers.
        """
        if not new or (deadline is not None and time.monotonic() >= deadline):
            return None
        follow.on_event(follow.progress())
        return self.place.start(
            self.layout,
            name=study.folder,
            storage=self.storage,
            artifacts=self.artifacts,
            runs=RUNS,
            workers=min(self.layout.workers, new),
            deadline=deadline,
            on_event=follow,
        )

    def provenance(
        self, *commands: str, hardware: str, commit: str, harness: str = "", bench: str = ""
    ) -> Provenance:
        """Return where a report comes from."""
        from harness.report import Provenance

        images = (
            split_words(self.study.base_recipe.data.name, **self.image_counts())
            if self.ground is not None
            else ""
        )
        return Provenance(
            commands=commands,
            data=images,
            data_fingerprint=self.fingerprint,
            hardware=hardware,
            harness=harness,
            commit=commit,
            bench=bench,
        )
