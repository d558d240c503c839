"""The colours of a report: after Okabe and Ito (2008), darkened until text in them has a contrast of 4.5 on white.

A drawing uses the colours below as they are; inside the page each becomes the page's own colour of
that name and so follows the reader's light or dark setting. No two are equal, because a value is how
each is found.
"""

from __future__ import annotations

PAGE = {
    "ink": "#1b1c1e",
    "muted": "#5a5f66",
    "line": "#dfe2e6",
    "faint": "#b9bec5",
    "band": "#e9edf1",
    "bg": "#fefefe",
    "better": "#00609c",
    "worse": "#a83f00",
    "equivalent": "#00694b",
    "unresolved": "#62676f",
}

MARKERS = {"better": "^", "worse": "v", "equivalent": "s", "unresolved": "o", "none": "X", "": "o"}
"""matplotlib's name of each verdict's symbol; ``words.MARKS`` has the same ones as text."""


def colour(mark: str) -> str:
    """Return a verdict's colour."""
    return PAGE.get(mark, PAGE["unresolved"] if mark == "none" else PAGE["ink"])
