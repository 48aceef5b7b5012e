"""What every task gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rwpm_fast.benchmark import Case, open_device
from rwpm_fast.benchmark.device import Device
from rwpm_fast.benchmark.ours import backends
from rwpm_fast.ops.settings import WalkSettings


class Skipped(Exception):
    """A task cannot be done; the message says why."""


@dataclass(frozen=True)
class Context:
    """Args:
    dry: tiny sizes, to see that everything runs; figures mean nothing.
    embeddings: files of real embeddings.
    conformance: folder of golden files, None for none.
    work: folder of the tasks' results.
    deadline: time.time() at which a task that may end early should have ended.
    """

    dry: bool
    embeddings: tuple[Path, ...]
    conformance: Path | None
    work: Path
    deadline: float = math.inf

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    def open_device(self) -> Device:
        return open_device(self.device)

    def frame(self, height: int, width: int, **settings) -> Case:
        return self.sized(Case(height, width, **self._case_settings(**settings)))

    def real_frame(self, source: Path, height: int, width: int, **settings) -> Case:
        return self.sized(Case.from_file(source, (height, width), **self._case_settings(**settings)))

    def _case_settings(self, parts: int = 1, steps: int = 20, dtype: str = "float16", **settings) -> dict[str, Any]:
        walk = WalkSettings(parts=parts, steps=steps)
        return {"settings": walk, "dtype": dtype, "smooth": True, "device": self.device, **settings}

    def sized(self, frame: Case) -> Case:
        """The frame, or in a dry run a tiny one."""
        if not self.dry:
            return frame
        small = {"height": 8, "width": 16}
        channels = {"channels": 16} if frame.source is None else {}
        small_frame = replace(frame, **small, **channels, value_channels=min(4, frame.value_channels))
        return small_frame.with_steps(min(2, frame.steps))

    def backends(self, frame: Case) -> list[str]:
        """This package's backends for a GPU."""
        return [backend for backend in backends(frame) if backend != "cpu"]


def note(text: str) -> None:
    print(text, flush=True)


def gpu_backends(context: Context, dtype: str) -> Iterator[str]:
    """Yield the GPU's backends that take frames of a dtype: CUDA C++ takes float16 alone.

    Raises:
        RuntimeError: there is none.
    """
    found = context.backends(context.frame(184, 320, dtype=dtype))
    if not found:
        raise RuntimeError(
            "no backend of a GPU can walk here: Triton is missing, or there is no GPU and no TRITON_INTERPRET"
        )
    yield from found
