"""Precision of the products of float32 matrices on the CPU: exact, whatever the process allows, or in bfloat16.

After ``torch.set_float32_matmul_precision("medium")`` torch multiplies float32 matrices in bfloat16 where the processor
can. At tau = 0.01 a weight is the exponential of a hundred cosines, and a walk would be off by 1e-2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

# Not torch.backends.mkldnn.fp32_precision, which would set cuBLAS and cuDNN too. None before torch 2.9.
_SWITCH: Any = getattr(torch.backends.mkldnn, "matmul", None)
EXACT, ROUNDED, INHERITED = "ieee", "bf16", "none"

_lock = Lock()
_inside = 0
_found = INHERITED


def exact_products(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function multiply float32 matrices in float32 on the CPU.

    The switch is the process's: products of other threads are exact too while any thread is in such a function. The
    last to leave puts back what the first found, unless somebody has set another value meanwhile. Backward passes run
    later and are not in it. Nothing is done under a compiler, which traces no switch, and before torch 2.9, which has
    none for the CPU alone.
    """

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        if _SWITCH is None or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        with _pinned():
            return function(*args, **kwargs)

    return exact


@contextmanager
def _pinned() -> Iterator[None]:
    global _inside, _found
    with _lock:
        if _inside == 0:
            _found = _SWITCH.fp32_precision
            _SWITCH.fp32_precision = EXACT
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _SWITCH.fp32_precision == EXACT:
                _put_back(_found)


def _put_back(setting: str) -> None:
    _SWITCH.fp32_precision = INHERITED
    if _SWITCH.fp32_precision != setting:  # it was set here, not at a level above
        _SWITCH.fp32_precision = setting


def can_round() -> bool:
    """Whether this torch has a switch for products on the CPU alone; the processor need not heed it."""
    return _SWITCH is not None


@contextmanager
def rounded_products() -> Iterator[None]:
    """Let products of float32 matrices on the CPU be made in bfloat16 where the processor can, as after
    ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``.

    The switch is the process's: no other thread should need exact products meanwhile. What was set before is put back,
    after an error too. Needs :func:`can_round`.
    """
    with _lock:
        found = _SWITCH.fp32_precision
        _SWITCH.fp32_precision = ROUNDED
    try:
        yield
    finally:
        with _lock:
            _put_back(found)


def products_are_rounded() -> bool:
    """Whether products of float32 matrices on the CPU lose accuracy at what is set now: seen from one."""
    a = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ a.double()
    return bool((a @ a - exact).norm() > 1e-4 * exact.norm())  # float32 is off by 1e-6, bfloat16 by 1e-3
