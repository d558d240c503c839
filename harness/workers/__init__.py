"""Running cells: the loop that drains a ledger, processes, SLURM, Ray, shards, scripts of the user.

Not how a trial trains (``train``), nor how the queue is kept (``ledger``).
Start with ``join``, the one way to be a worker, then ``drain``; ``local`` and ``cluster`` start
them.
"""

from __future__ import annotations
