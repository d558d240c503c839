"""Ctrl-C and SIGTERM while workers run: counted, for the launcher to act on between two of its turns."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """How often somebody pressed Ctrl-C or sent SIGTERM.

    Attributes:
        count: so often.
        came: set by the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.came = threading.Event()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the signals instead of being ended by them; elsewhere than in the main thread, none arrive."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        self.count += 1
        self.came.set()
