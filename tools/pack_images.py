"""Write the per-image outcomes of committed reports again, without what this version no longer keeps, where that is smaller.

python tools/pack_images.py             # every folder under reports/; nothing that a report shows changes
"""

from __future__ import annotations

from pathlib import Path

from harness.report import read_folder
from harness.report.export import data_files

REPORTS = Path(__file__).resolve().parent.parent / "reports"

if __name__ == "__main__":
    for path in sorted(REPORTS.glob("*/images.npz")):
        packed = data_files(read_folder(path.parent))["images.npz"]
        if len(packed) < path.stat().st_size:
            print(
                f"{path.parent.name}: {path.stat().st_size / 1e6:.2f} -> {len(packed) / 1e6:.2f} MB"
            )
            path.write_bytes(packed)
