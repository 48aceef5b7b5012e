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
    *(MIN_SIDE, 65, 79, 95, 96, 127, 200, 256, 319, 360, 375, 511, 513, 640, 720, 831, 832, 833, 1001),
    *(1023, 1025, 1080, 1242, 1280, 1920, 2047, 2160, 3840),
)
# At which a guard that fails is compared, the smallest first.
_COMPARED_SIZES = 3


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
        _check_guards(program, module)
    return program


def _check_guards(program: torch.export.ExportedProgram, module: nn.Module) -> None:
    """Try the guards of a traced program. Some speak of what changes no result, such as the strides of maps of one row:
    where one fails, the program is compared with the module.
    """
    guards = getattr(program.module(), "_guards_fn", None)
    if guards is None:
        return
    unguarded = program.module(check_guards=False)
    compared: Counter[str] = Counter()
    for height, width in sorted(product(_SIDES, repeat=2), key=math.prod):
        try:
            guards(torch.empty(height, width, 3, dtype=torch.uint8, device="meta"))
        except AssertionError as error:
            condition = str(error)
            if compared[condition] == _COMPARED_SIZES:
                continue
            compared[condition] += 1
            if not _equal(unguarded, module, height, width):
                raise ExportError(
                    f"module: expected one graph for photos of all sizes, but traced it is wrong for {width}x{height}: "
                    f"{condition}; compute sizes without branches, as with torch.sym_max"
                ) from error


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
