"""Trace a module from photo to score into one graph for photos of any size, or say why it is not one."""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor, nn

from .errors import ExportError
from .photos import MIN_SIDE

# Odd and even at every halving, on both sides of usual limits.
_SIDES = (
    *(MIN_SIDE, 65, 95, 96, 97, 127, 128, 129, 192, 193, 256, 257, 319, 320, 321, 360, 375, 384, 385, 448, 449),
    *(511, 512, 513, 640, 720, 831, 832, 833, 1001),
    *(1023, 1025, 1080, 1242, 1280, 1920, 2047, 2160, 3840),
)
# At which a guard that fails is compared, the smallest first.
_COMPARED_SIZES = 3
_MAX_MIN_SIDE = 512  # of photos of the road, that a program may ask for


def trace(module: nn.Module, example_photo: Tensor) -> tuple[torch.export.ExportedProgram, int]:
    """Trace a module by ``torch.export``.

    A branch on the size of the photo is taken as for the example, without a word. The guards of the traced program tell
    of it: they are tried with photos of many sizes. Where only small photos take another way, as through the windows of
    a Swin transformer, the program is one for larger photos.

    Args:
        module: from photo [H, W, 3] uint8 to outputs [H, W].
        example_photo: [H, W, 3] uint8.

    Returns:
        The program, whose photo has dynamic height and width, and the smallest side that it takes, in pixels.

    Raises:
        ExportError: torch does not trace it, in its words; or the traced program is wrong for photos of some size from
            512 pixels a side on: the message names the size and the condition.
    """
    side = torch.export.Dim
    shapes = ({0: side.DYNAMIC, 1: side.DYNAMIC, 2: side.STATIC},)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, (example_photo,), dynamic_shapes=shapes, strict=False)
        except Exception as error:  # of many kinds, and many lines
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ExportError(f"module: torch {torch.__version__} does not trace it: {reason}") from error
        return program, _min_side(program, module)


def _min_side(program: torch.export.ExportedProgram, module: nn.Module) -> int:
    """Try the guards of a traced program. Some speak of what changes no result, such as the strides of maps of one row:
    where one fails, the program is compared with the module.
    """
    guards = getattr(program.module(), "_guards_fn", None)
    if guards is None:
        return MIN_SIDE

    def failing(height: int, width: int) -> str | None:
        try:
            guards(torch.empty(height, width, 3, dtype=torch.uint8, device="meta"))
        except AssertionError as error:
            return str(error)
        return None

    unguarded = program.module(check_guards=False)
    compared: Counter[str] = Counter()
    min_side = MIN_SIDE
    for height, width in sorted(product(_SIDES, repeat=2), key=math.prod):
        if min(height, width) < min_side or (condition := failing(height, width)) is None:
            continue
        if compared[condition] == _COMPARED_SIZES:
            continue
        compared[condition] += 1
        if _equal(unguarded, module, height, width):
            continue
        larger = (side for side in _SIDES if min(height, width) < side <= _MAX_MIN_SIDE)
        found = next((side for side in larger if failing(max(height, side), max(width, side)) != condition), None)
        if found is None:
            raise ExportError(
                f"module: expected one graph for photos of all sizes, but traced it is wrong for {width}x{height}: "
                f"{condition}; compute sizes without branches, as with torch.sym_max"
            )
        min_side, compared[condition] = found, 0
    return min_side


def _equal(program: nn.Module, module: nn.Module, height: int, width: int) -> bool:
    photo = torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    try:
        outputs = program(photo)
    except RuntimeError:  # the program refuses the size
        return False
    expected = module(photo)
    return all(
        got.shape == wanted.shape and bool((got.double() - wanted.double()).norm() <= 1e-3 * wanted.double().norm())
        for got, wanted in zip(outputs, expected, strict=True)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch says of itself while it traces and compiles: deprecations, packages that are not installed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._inductor")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
