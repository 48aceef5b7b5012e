"""How a kernel is launched: traced by torch.compile and export, or run, on a GPU or by the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import triton

# Whether kernels run in Triton's interpreter, on tensors of any device. Triton reads the variable TRITON_INTERPRET when
# a kernel is defined, so that it cannot change afterwards.
INTERPRETED = triton.knobs.runtime.interpret

# Bytes that a program may have in the interpreter: shared memory, since it is faster with larger tiles; and memory.
_SHARED_MEMORY, _MEMORY = 2**30, 2**31


class Launch(NamedTuple):
    """A kernel as it is launched.

    Attributes:
        kernel: a function of :mod:`rwpm_fast.ops.gpu.kernels`.
        grid: number of programs along each axis.
        arguments: positional, tensors and scalars.
        options: by keyword, constants of the kernel and of its compilation.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Module and function, such as "exact.step"."""
        function = getattr(self.kernel, "fn", self.kernel)
        return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"

    def run(self) -> None:
        """Launch it, wrapped for tracing if torch.compile or export is active."""
        # A wrapped launch takes five times as long: the 51 of a walk 10 ms and not 2.
        wrap = not INTERPRETED and any(map(_traced, self.arguments))
        (torch.library.wrap_triton(self.kernel) if wrap else self.kernel)[self.grid](*self.arguments, **self.options)


_observer: Callable[[Launch], None] | None = None


@contextmanager
def observe_launches(observer: Callable[[Launch], None]) -> Iterator[None]:
    """Have an observer see every launch, in all threads; the innermost where contexts are nested.

    Args:
        observer: called in place of the launch, which it makes by ``launch.run()``, or leaves out.
    """
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel on a grid; no-op for an empty grid."""
    if 0 not in grid:
        (_observer or Launch.run)(Launch(kernel, grid, arguments, options))


def _traced(argument: Any) -> bool:
    if not isinstance(argument, torch.Tensor):
        return False
    return argument.is_meta or type(argument) not in (torch.Tensor, torch.nn.Parameter)


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program's tiles may take."""
    if device.type != "cuda":
        return _SHARED_MEMORY
    properties = torch.cuda.get_device_properties(device)
    return memory_for_tiles(getattr(properties, "shared_memory_per_block_optin", 64 * 1024), properties.major)


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device, in use or not."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else _MEMORY


def memory_for_tiles(limit: int, major: int) -> int:
    """Bytes of a device's limit for tiles: from compute capability 10 on, compilers stage operands once more."""
    return limit * 7 // 8 if major >= 10 else limit
