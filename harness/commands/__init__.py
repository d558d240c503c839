"""What each command does, without a terminal: one module a command, and what they share.

No option and no printing (``cli``); how a cell is run is ``workers``, how it is judged
``analysis``. Start with ``ablate``, then ``run``: from plan to report.
"""

from __future__ import annotations
