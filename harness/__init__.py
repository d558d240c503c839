"""An ablation harness for image-classification training recipes.

Names of the public API are resolved on first use, so that ``import harness`` loads neither torch nor pandas. No module of the
package imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_API: dict[str, str] = {}
"""Public name -> the module that defines it under the same name."""

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Import what `_API` says on first use, and keep it.

    Raises:
        AttributeError: the name is not public.
    """
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_API[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
