"""``python -m harness``: the command line where the ``harness`` script is not on the path."""

from __future__ import annotations

from harness.cli import main

if __name__ == "__main__":
    main()
