"""Load the compiled CPU operators, or find out why they cannot be used."""

from __future__ import annotations

from ctypes import CDLL, c_int64
from functools import cache
from pathlib import Path

import torch

from ..native import way_to_build
from .torch_version import OLDEST_STABLE_ABI, too_old

LIBRARY = Path(__file__).parents[1] / "librwpm_ops.so"

# Rises when the schema or the meaning of an operator that exported models call changes, rwpm::walk or rwpm::score_map:
# they do not contain it, and carry the number. The library tells its own by rwpm_op_abi().
OP_ABI = 1

_functions: CDLL | None = None  # of the library, once this module has loaded it


def has_kernel(key: str) -> bool:
    """Whether a kernel of ``rwpm::walk`` is registered for a dispatch key, such as "CPU"."""
    return hasattr(torch.ops.rwpm, "walk") and torch._C._dispatch_has_kernel_for_dispatch_key("rwpm::walk", key)


@cache
def unsupported_reason() -> str | None:
    """Load the compiled CPU operators on the first call, and say why they cannot be used; None if they can.

    Raises:
        ImportError: the library is of another version of the package. Its operators are registered by then, so that
            the walk must not run.
    """
    global _functions
    if _functions is not None:  # an earlier call has loaded the library and refused it
        _check_abi(_functions)
    # A second load would not raise but end the process: a schema can be defined only once.
    if has_kernel("CPU"):
        return None
    if hasattr(torch.ops.rwpm, "walk"):
        return "another copy of the package registered the operators in plain torch before; restart Python"
    if (reason := too_old(OLDEST_STABLE_ABI)) is not None:
        return reason
    if not LIBRARY.exists():
        return f"{LIBRARY.name} is not built; {way_to_build(LIBRARY.name, 'needs torch')}"
    try:
        torch.ops.load_library(str(LIBRARY))
    except (OSError, RuntimeError) as error:
        return f"{LIBRARY.name} does not load into torch {torch.__version__} ({error}); build it again for this torch"
    _functions = CDLL(str(LIBRARY))
    _check_abi(_functions)
    _functions.rwpm_workspace_bytes.restype = c_int64
    return None


def _check_abi(functions: CDLL) -> None:
    found = functions.rwpm_op_abi() if hasattr(functions, "rwpm_op_abi") else "before 1"
    if found != OP_ABI:
        raise ImportError(
            f"{LIBRARY.name}: expected the operators' ABI {OP_ABI}, got {found}: the library is of another version of "
            f"the package; {way_to_build(LIBRARY.name, 'needs torch')}"
        )


def functions() -> CDLL | None:
    """Return the library's functions that are called without torch's dispatcher.

    Returns:
        The library; None where it cannot be used, or another copy of the package has loaded its own.
    """
    return _functions if unsupported_reason() is None else None
