"""The parts in the order in which they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

KINDS = ("correctness", "timings", "tune")


class Part(NamedTuple):
    """Args:
    kind: one of KINDS.
    module, function: of this package, or of the timings by name.
    limit: seconds after which it is given up.
    """

    kind: str
    module: str
    function: str
    limit: float = 150.0

    def run(self, context) -> dict[str, Any]:
        """Do it. Modules are imported here: who only watches needs no torch."""
        from importlib import import_module

        module = import_module(f"bench.gpu.{self.module}")
        run: Callable[..., dict[str, Any]] = (
            module.TIMINGS[self.function] if self.module == "timings" else getattr(module, self.function)
        )
        return run(context)


def _timing(name: str, limit: float = 150.0) -> tuple[str, Part]:
    return name, Part("timings", "timings", name, limit)


# A part's name is its file's. The machine is told of in every call.
PARTS: dict[str, Part] = dict(
    [
        ("machine", Part("machine", "correctness", "machine")),
        ("walks", Part("correctness", "correctness", "walks", 240)),
        ("contract", Part("correctness", "correctness", "contract")),
        ("conformance", Part("correctness", "correctness", "conformance")),
        ("tests", Part("correctness", "correctness", "tests", 270)),
        ("sanitizer", Part("correctness", "sanitizer", "sanitize", 420)),
        _timing("uncut-256"),
        ("profile", Part("timings", "kernels", "profile")),
        ("steps", Part("timings", "kernels", "steps")),
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
        ("tune", Part("tune", "kernels", "tune", 600)),
        _timing("flex-autotuned", 300),
    ]
)


def wanted(only: list[str] | None) -> list[str]:
    """Names of the parts of some kinds, or of all, in order."""
    return [name for name, part in PARTS.items() if part.kind == "machine" or only is None or part.kind in only]
