"""How fast this machine trains, against the usual pipeline and against what the machine could do.

No figure of a report: ``report.speed`` shows what is saved here.
Start with ``suite``; ``cases`` lists what is timed.
"""

from __future__ import annotations

from harness.bench.result import HEADS, BenchResult, Result, Sample
from harness.bench.suite import bench

__all__ = ["HEADS", "BenchResult", "Result", "Sample", "bench"]
