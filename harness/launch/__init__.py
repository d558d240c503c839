"""Starting workers. ``join`` is the one code path; a launcher starts N of them somewhere and relays what they tell.

Modules: ``join`` (be a worker), ``local`` (processes on this machine), ``cluster`` (SLURM, Ray).
"""

from __future__ import annotations

from harness.launch.cluster import Ask, run_ray, run_slurm
from harness.launch.join import LaunchResult, join
from harness.launch.local import run_local

__all__ = ["Ask", "LaunchResult", "join", "run_local", "run_ray", "run_slurm"]
