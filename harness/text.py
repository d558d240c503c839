"""Small words that every part of the program uses: durations and counts."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration in words, to the precision a person plans with: ``42 s``, ``7 min``, ``3 h 10 min``, ``5 days``."""
    if seconds < 99.5:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def plural(count: int, one: str, many: str = "") -> str:
    """Return ``1 seed`` or ``8 seeds``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
