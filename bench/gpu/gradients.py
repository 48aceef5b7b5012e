"""The gradients of walks: against plain torch, and their time, launch by launch."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rwpm_fast.benchmark import Case
from rwpm_fast.ops.backends import EAGER, TRITON
from rwpm_fast.ops.gradient import Gradients
from rwpm_fast.ops.settings import WalkSettings

from .context import Context, note
from .correctness import DRY_SIZES, SIZES, inputs, poisoned, run_check
from .kernels import profile_run

STEPS = 5
# Norm-wise, of the results' rounding and, in float32, of cosines over the temperature.
EXACT = {"float16": 2e-3, "float32": 1e-4}
# What a dropped pair changes grows with the inverse temperature; no certificate bounds it.
OF_TOLERANCE = {1e-3: 0.1, 1e-5: 3e-3}


def error_of(got: Gradients, wanted: Gradients) -> float:
    """The larger norm-wise relative error of embeddings and values."""
    pairs = zip(got[:2], wanted[:2], strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in pairs)


def check_gradients(
    g: Tensor, e: Tensor, v: Tensor, mask: Tensor, wanted: Gradients, settings: WalkSettings, bound: float
) -> tuple[bool, str]:
    """Gradients are near plain torch in float64, and the same again and with poisoned memory."""
    run = partial(TRITON.gradients, g, e, v, mask, settings)
    first, again = run(), run()
    with poisoned():
        clean = run()
    error = error_of(first, wanted)
    same, whole = (all(map(torch.equal, first, other)) for other in (again, clean))
    detail = f"error {error:.1e} of {bound:.0e}, of the temperature {error_of_temperature(first, wanted):.1e}"
    detail += "" if same else ", another run differs"
    detail += "" if whole else ", it reads uninitialized memory"
    return error <= bound and same and whole, detail


def error_of_temperature(got: Gradients, wanted: Gradients) -> float:
    """Relative; a sum whose terms cancel, so that it says more of a map than of a kernel."""
    return ((got.temperature - wanted.temperature).abs() / wanted.temperature.abs()).item()


def check_no_synchronization(g: Tensor, e: Tensor, v: Tensor, settings: WalkSettings) -> tuple[bool, str]:
    """Gradients never wait for the device."""
    TRITON.gradients(g, e, v, None, settings)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        TRITON.gradients(g, e, v, None, settings)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True, "no hidden synchronization"


def correctness(context: Context) -> dict[str, Any]:
    """Check gradients of several sizes, dtypes and tolerances."""
    checks = []
    for dtype in ("float16",) if context.dry else EXACT:
        for size in DRY_SIZES[:1] if context.dry else SIZES:
            e, v = inputs(size, context, getattr(torch, dtype))
            g = inputs(size, context, getattr(torch, dtype), seed=7)[1]
            mask = torch.arange(size[1], device=e.device).expand(size[:2]) % 9 > 0
            doubles = (t.double() for t in (g, e, v))
            wanted = EAGER.gradients(*doubles, mask, WalkSettings(steps=STEPS, anchor=0.9))
            for tolerance in (0.0, *OF_TOLERANCE):
                settings = WalkSettings(steps=STEPS, tolerance=tolerance, anchor=0.9)
                bound = EXACT[dtype] + OF_TOLERANCE.get(tolerance, 0)
                name = f"gradients {list(size)} {dtype} tolerance {tolerance:g}"
                checks.append(run_check(name, check_gradients, g, e, v, mask, wanted, settings, bound))
                if context.device == "cuda":
                    checks.append(run_check(f"{name}: waits", check_no_synchronization, g, e, v, settings))
    return {"checks": checks}


def frames(context: Context) -> list[tuple[Case, float]]:
    """The walks that are differentiated: frames and tolerances."""
    logits = context.frame(184, 320, value_channels=19)
    small = context.frame(90, 160, value_channels=19, dtype="float32")
    wide = context.frame(184, 320, value_channels=256, parts=2)
    walks = [(small, 0.0), (small, 1e-3), (logits, 1e-3), (logits, 0.0), (wide, 1e-3)]
    return walks[:2] if context.dry else walks


def profile(context: Context) -> dict[str, Any]:
    """Milliseconds of every kernel of the gradients of a walk; of the smallest frames beside plain torch."""
    timed = []
    for frame, tolerance in frames(context):
        problem = frame.problem()
        settings = WalkSettings(**{**problem.settings, "tolerance": tolerance})
        inputs = problem.values, problem.embeddings, problem.values, None, settings
        run = partial(TRITON.gradients, *inputs)
        result = profile_run(f"gradients: {frame.title()}, tolerance {tolerance:g}", run, context)
        if frame.dtype == "float32":
            wanted, seconds = _timed(partial(EAGER.gradients, *inputs))
            result |= {"torch_ms": 1000 * seconds, "differs": error_of(run(), wanted)}
            note(f"  plain torch, without a tolerance: {1000 * seconds:.1f} ms; they differ by {result['differs']:.1e}")
        timed.append(result)
    return {"gradients": timed}


def _timed(run: partial[Gradients]) -> tuple[Gradients, float]:
    """The result of a second run, and its seconds until the device is done."""
    run().temperature.item()
    begin = time.perf_counter()
    result = run()
    result.temperature.item()
    return result, time.perf_counter() - begin
