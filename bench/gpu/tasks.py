"""The tasks in the order in which they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = ("correctness", "timings", "tune")


class Task(NamedTuple):
    """Something to be done on a GPU.

    Attributes:
        kind: one of KINDS, or "machine".
        module: of this package.
        function: of the module; for "timings" a key of ``TIMINGS``.
        limit: seconds after which it is given up.
    """

    kind: str
    module: str
    function: str
    limit: float = 150.0

    def run(self, context) -> dict[str, Any]:
        """Do it. Modules are imported here: the watching process needs no torch."""
        from importlib import import_module

        module = import_module(f"bench.gpu.{self.module}")
        run: Callable[..., dict[str, Any]] = (
            module.TIMINGS[self.function] if self.module == "timings" else getattr(module, self.function)
        )
        return run(context)


def _timing(name: str, limit: float = 150.0) -> tuple[str, Task]:
    return name, Task("timings", "timings", name, limit)


# Each task writes <name>.json. The machine task always runs.
TASKS: dict[str, Task] = dict(
    [
        ("machine", Task("machine", "correctness", "machine")),
        ("walks", Task("correctness", "correctness", "walks", 240)),
        ("gradients", Task("correctness", "gradients", "correctness", 240)),
        ("contract", Task("correctness", "correctness", "contract")),
        ("conformance", Task("correctness", "correctness", "conformance")),
        ("tests", Task("correctness", "correctness", "tests", 270)),
        ("sanitizer", Task("correctness", "sanitizer", "sanitize", 420)),
        _timing("uncut-256"),
        ("profile", Task("timings", "kernels", "profile")),
        ("gradient-profile", Task("timings", "gradients", "profile")),
        ("steps", Task("timings", "kernels", "steps")),
        _timing("half-256", 200),
        _timing("real-0"),
        _timing("uncut-100"),
        _timing("uncut-19"),
        _timing("uncut-flex", 200),
        _timing("deeplab", 240),
        _timing("real-1"),
        _timing("uncut-256-float32"),
        _timing("uncut-peers"),
        _timing("quarter-256", 200),
        _timing("eighth-256", 200),
        _timing("large-256", 200),
        _timing("half-256-float32"),
        ("tune", Task("tune", "kernels", "tune", 600)),
        _timing("flex-autotuned", 300),
    ]
)


def select(kinds: list[str] | None) -> list[str]:
    """Names of the tasks of some kinds, or of all, in order."""
    return [name for name, task in TASKS.items() if task.kind == "machine" or kinds is None or task.kind in kinds]
