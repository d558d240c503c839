"""What is asked: the recipe and its fields, the study file, its profiles, arms and cells, and the trial that answers one.

Nothing that runs, stores or judges trials: ``train``, ``ledger`` and ``analysis`` do.
Start with ``study`` (the file), then ``recipe``, ``arms`` and ``cells``.
"""

from __future__ import annotations
