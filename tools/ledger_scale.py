"""Measure what a ledger costs a cell: planning, claiming and recording cells that train nothing.

python tools/ledger_scale.py 1000 10000                             # on a journal
python tools/ledger_scale.py 200 2000 --storage postgresql+psycopg://user@host/database

Prints, for every number of cells, milliseconds of this process's processor time a cell and its peak
memory. Each number has a process of its own. On a database the server's share is not counted; a
number needs a database without trials of it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# of the sweep that the cells are of: the number of arms grows with that of cells no further than
# here
SEEDS_A_LEVEL = 10


def measure(count: int, storage: str | None) -> str:
    """Plan, claim and record ``count`` cells, and return a row of the table."""
    sys.path.insert(0, str(ROOT))
    from harness.ledger import Ledger
    from tests import light

    which = light.study(count // SEEDS_A_LEVEL, SEEDS_A_LEVEL).model_copy(
        update={"name": f"light{count}"}
    )
    cells = light.cells_of(which)
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        with Ledger.open(which.folder, storage=storage, runs=Path(folder)) as ledger:
            ledger.plan(light.plan_of(which), cells)
            planned = time.process_time()
            done = 0
            while (claim := ledger.claim("w")) is not None:
                light.complete(ledger, claim)
                done += 1
        ended = time.process_time()
    if done != len(cells):
        raise SystemExit(
            f"{done} of {len(cells)} cells were recorded: name a database without trials of this study"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    plan_ms, drain_ms = (
        1000 * (planned - before) / len(cells),
        1000 * (ended - planned) / len(cells),
    )
    return f"| {len(cells):,} | {plan_ms:.2f} | {drain_ms:.2f} | {peak_mib:,.0f} |"


def main() -> None:
    """Print the table, a process a row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", type=int, nargs="+")
    parser.add_argument("--storage")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(measure(asked.cells[0], asked.storage))
        return
    print(
        "| cells | plan, ms a cell | claim and record, ms a cell | peak memory, MiB |\n|---:|---:|---:|---:|"
    )
    for count in asked.cells:
        given = ["--storage", asked.storage] if asked.storage else []
        subprocess.run([sys.executable, __file__, str(count), "--one", *given], check=True)  # noqa: S603 - this very file


if __name__ == "__main__":
    main()
