"""Trace a module from photo to score into one graph for photos of any size, or say why it is not one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor, nn

from .errors import ExportError
from .photos import MAX_ASPECT, MIN_SIDE

# Odd and even at every halving, on both sides of usual limits.
_SIDES = (MIN_SIDE, 65, 95, 127, 200, 256, 319, 360, 375, 511, 513, 640, 720, 831, 832, 833, 1001)
_LARGE_SIDES = (1023, 1025, 1080, 1242, 1280, 1920, 2047, 2160, 3840)


def trace(module: nn.Module, example_photo: Tensor) -> torch.export.ExportedProgram:
    """Trace a module by ``torch.export``.

    A branch on the size of the photo is taken as for the example, without a word. The guards of the traced program tell
    of it: they are tried with photos of many sizes.

    Args:
        module: from photo [H, W, 3] uint8 to outputs [H, W].
        example_photo: [H, W, 3] uint8.

    Returns:
        The program, whose photo has dynamic height and width.

    Raises:
        ExportError: torch does not trace it, in its words; or the traced program is wrong for photos of some size: the
            message names the size and the condition.
    """
    side = torch.export.Dim
    shapes = ({0: side.DYNAMIC, 1: side.DYNAMIC, 2: side.STATIC},)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, (example_photo,), dynamic_shapes=shapes, strict=False)
        except Exception as error:  # of many kinds, and many lines
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ExportError(f"module: torch {torch.__version__} does not trace it: {reason}") from error
        _check_guards(program)
    return program


def _check_guards(program: torch.export.ExportedProgram) -> None:
    guards = getattr(program.module(), "_guards_fn", None)
    if guards is None:
        return
    for height, width in product(_SIDES + _LARGE_SIDES, repeat=2):
        if max(height, width) > MAX_ASPECT * min(height, width):
            continue
        try:
            guards(torch.empty(height, width, 3, dtype=torch.uint8, device="meta"))
        except AssertionError as error:
            raise ExportError(
                f"module: expected one graph for photos of all sizes, but traced it is wrong for {width}x{height}: "
                f"{error}; compute sizes without branches, as with torch.sym_max"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch says of itself while it traces: its own deprecations, and packages that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logger.setLevel(level)
