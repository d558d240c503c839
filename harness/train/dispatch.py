"""The base of what looks at each operation of torch while it runs: a count, a dry run, a record of memory."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class OperationWatch(TorchDispatchMode):
    """A dispatch mode that costs no import of torch's compiler, which takes a second and a half of a process's start."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # nothing is compiled here: no need to import the compiler in order to be left out of it
        return False
