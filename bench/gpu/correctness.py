"""Right before fast: walks against float64, and what a user of a GPU relies on besides the numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rwpm_fast
from rwpm_fast import reference
from rwpm_fast.benchmark.cases import map_shape, smooth_manifolds
from rwpm_fast.benchmark.contender import EXACT
from rwpm_fast.benchmark.entries import TOLERANT

from .context import Context, Skipped, gpu_backends, note

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 240
STEPS = 5
# Embeddings [B, N, D], values [B, N, C].
SIZES = ((1, 1000, 256, 256), (1, 3000, 259, 19), (2, 515, 64, 100))
DRY_SIZES = ((1, 300, 20, 5), (2, 40, 8, 3))


def machine(context: Context) -> dict[str, Any]:
    """Say what the device is and what it reaches."""
    device = context.open_device()
    smi = ""
    if shutil.which("nvidia-smi"):
        smi = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
    facts = device.facts()
    rates = {} if context.dry else {"peak_flops": device.peak_flops(), "copy_bytes": device.copy_bytes()}
    note(smi or "no nvidia-smi")
    note(json.dumps({"gpu": facts.get("gpu"), "torch": facts["torch"], **rates}, indent=1))
    return {"machine": facts, "nvidia_smi": smi, **rates}


def check(name: str, ok: bool, detail: str = "") -> dict[str, Any]:
    note(f"{'ok  ' if ok else 'FAIL'} {name} {detail}")
    return {"name": name, "ok": bool(ok), "detail": detail}


def run_check(name: str, function: Callable[..., tuple[bool, str]], *arguments: Any) -> dict[str, Any]:
    """Run a check, which returns whether it holds and a detail; its exception is a failure, so that the next runs."""
    try:
        return check(name, *function(*arguments))
    except Exception as error:
        return check(name, False, f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}")


def inputs(size: tuple[int, int, int, int], context: Context, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, ...]:
    batch, pixels, channels, width = size
    shape = map_shape(pixels)
    e = torch.stack([smooth_manifolds(*shape, channels, seed + b) for b in range(batch)])
    v = torch.stack([smooth_manifolds(*shape, width, seed + 50 + b) for b in range(batch)])
    return tuple(t.to(context.device, dtype) for t in (e, v))


def error_of(got: Tensor, e: Tensor, v: Tensor, mask: Tensor | None = None, **settings) -> float:
    """Norm-wise relative error against the definition in float64."""
    wanted = reference.walk(e.double(), v.double(), mask=mask, **settings)
    return ((got.double() - wanted).norm() / wanted.norm()).item()


@contextmanager
def poisoned():
    """Fill uninitialized memory with NaN or the largest integer: what a kernel does not write shows."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(t: Tensor) -> Tensor:
        return t.fill_(torch.nan if t.is_floating_point() else torch.iinfo(t.dtype).max)

    torch.empty = lambda *shape, **facts: poison(empty(*shape, **facts))
    torch.empty_like = lambda t, **facts: poison(empty_like(t, **facts))
    try:
        yield
    finally:
        torch.empty, torch.empty_like = empty, empty_like


def check_walk(e: Tensor, v: Tensor, mask: Tensor, backend: str, tolerance: float, bound: float) -> tuple[bool, str]:
    """A walk is near float64, and the same again and with poisoned memory."""
    settings = {"steps": STEPS, "mask": mask}
    walk = partial(rwpm_fast.walk, e, v, **settings, tolerance=tolerance, backend=backend)
    first, again = walk(), walk()
    with poisoned():
        clean = walk()
    error = error_of(first, e, v, **settings)
    same, whole = torch.equal(first, again), torch.equal(first, clean)
    detail = f"error {error:.1e} of {bound:.0e}"
    detail += "" if same else f", another run differs by {(first - again).abs().max():.1e}"
    detail += "" if whole else ", it reads uninitialized memory"
    return error <= bound and same and whole, detail


def walks(context: Context) -> dict[str, Any]:
    """Check walks of several sizes, dtypes and tolerances."""
    checks = []
    for dtype in ("float16", "float32"):
        for backend in gpu_backends(context, dtype):
            for size in DRY_SIZES if context.dry else SIZES:
                e, v = inputs(size, context, getattr(torch, dtype))
                mask = torch.arange(size[1], device=e.device).expand(size[:2]) % 9 > 0
                for tolerance in (0.0, 1e-3, 1e-5):
                    bound = EXACT[dtype] + min(TOLERANT, 2 * STEPS * tolerance)
                    name = f"{backend} {list(size)} {dtype} tolerance {tolerance:g}"
                    checks.append(run_check(name, check_walk, e, v, mask, backend, tolerance, bound))
    return {"checks": checks}


def check_strides(walk: Callable[..., Tensor], e: Tensor, v: Tensor) -> tuple[bool, str]:
    """Channels first, as a network gives them, walk as channels last."""
    channels_first = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (e, v))
    return torch.equal(walk(e, v), walk(*channels_first)), "channels first"


def check_certificate(walk: Callable[..., Any], e: Tensor, v: Tensor, tolerance: float) -> tuple[bool, str]:
    """The error is within the bound that the dropped mass gives, and that within the tolerance."""
    got, info = walk(e[0], v[0], return_info=True)
    expected = reference.walk(e[0].double(), v[0].double(), steps=STEPS)
    error = ((got.double() - expected).abs().max() / v.abs().max()).item()
    bound = 2 * STEPS * info.dropped_mass + 4e-3  # float16 rounds the result itself by 2^-11
    detail = f"{info.path}, dropped {info.dropped_mass:.1e}, largest error {error:.1e} of {bound:.1e}"
    return info.dropped_mass <= tolerance and error <= bound, detail


def check_cuda_graph(walk: Callable[..., Tensor], e: Tensor, v: Tensor, other: tuple[Tensor, ...]) -> tuple[bool, str]:
    """A walk can be captured, and replayed on other inputs."""
    from rwpm_fast.benchmark.device import Captured

    held = e.clone(), v.clone()
    captured = Captured(lambda: walk(*held))
    first = torch.equal(captured(), walk(e, v))
    for tensor, new in zip(held, other, strict=True):
        tensor.copy_(new)
    second = torch.equal(captured(), walk(*other))
    return first and second, f"captured inputs {first}, new inputs {second}"


def check_no_synchronization(walk: Callable[..., Tensor], e: Tensor, v: Tensor) -> tuple[bool, str]:
    """A walk never waits for the device."""
    walk(e, v)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        walk(e, v)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True, "no hidden synchronization"


def check_second_stream(walk: Callable[..., Tensor], e: Tensor, v: Tensor) -> tuple[bool, str]:
    """All that a walk launches goes to the current stream."""
    expected = walk(e, v)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)  # a launch on another stream comes too early
        late = e * 1  # computed on this stream
        got = walk(late, v)
    side.synchronize()
    return torch.equal(got, expected), "second stream"


def contract(context: Context) -> dict[str, Any]:
    """Check what must hold besides the numbers: no waiting, CUDA graphs, other streams, strides, certificates."""
    checks = []
    size = DRY_SIZES[0] if context.dry else (1, 4000, 256, 100)
    for backend in gpu_backends(context, "float16"):
        for tolerance in (0.0, 1e-3):
            e, v = inputs(size, context, torch.float16)
            other = inputs(size, context, torch.float16, seed=9)
            walk = partial(rwpm_fast.walk, steps=STEPS, tolerance=tolerance, backend=backend)
            title = f"{backend} tolerance {tolerance:g}:"
            checks.append(run_check(f"{title} strides", check_strides, walk, e, v))
            checks.append(run_check(f"{title} certificate", check_certificate, walk, e, v, tolerance))
            if context.device == "cuda":
                checks.append(run_check(f"{title} no synchronization", check_no_synchronization, walk, e, v))
                checks.append(run_check(f"{title} second stream", check_second_stream, walk, e, v))
                checks.append(run_check(f"{title} CUDA graph", check_cuda_graph, walk, e, v, other))
    return {"checks": checks}


def check_golden_file(file: Path, backend: str, device: str) -> tuple[bool, str]:
    """A walk in float32 matches a golden file, and pixels outside the graph keep their bits."""
    with np.load(file) as arrays:
        case = {name: arrays[name] for name in arrays.files}
    meta = json.loads(str(case["meta"]))
    e, v, expected = (torch.from_numpy(case[k]).float() for k in ("embeddings", "values", "expected"))
    mask = torch.from_numpy(case["mask"])
    settings = {name: meta[name] for name in ("alpha", "steps", "temperature")}
    on_device = (t.to(device) for t in (e, v))
    got = rwpm_fast.walk(*on_device, mask=mask.to(device), **settings, tolerance=0, backend=backend).cpu()
    inside = expected.isfinite().all(-1)
    size = expected[inside].double().norm().item()
    error = (got[inside].double() - torch.from_numpy(case["expected"])[inside]).norm().item() / (size or 1)
    bound = 1e-4 if meta["temperature"] <= 1e-4 else 1e-5
    outside = ~reference.valid_pixels(e, v, mask)
    kept = torch.equal(got[outside].view(torch.int32), v[outside].view(torch.int32))
    return error <= bound and kept, f"error {error:.1e} of {bound:.0e}" + ("" if kept else ", pixels outside moved")


def conformance(context: Context) -> dict[str, Any]:
    """Check the golden files of the walk, in float32."""
    folder = context.conformance
    files = sorted((folder / "walk").glob("*.npz")) if folder else []
    if not files:
        raise Skipped(f"no golden files in {folder}/walk" if folder else "no --conformance folder")
    checks = []
    for backend in gpu_backends(context, "float32"):
        for file in files[:3] if context.dry else files:
            checks.append(run_check(f"{backend} {file.stem}", check_golden_file, file, backend, context.device))
    return {"checks": checks}


def tests(context: Context) -> dict[str, Any]:
    """Run the tests of the GPU's backends, in a separate process."""
    folder = ROOT / "python_tests" / "ops" / "gpu"
    path = (folder / "test_tiles.py" if context.dry else folder).relative_to(ROOT)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", str(path)]
    if find_spec("xdist") and not context.dry:
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if context.conformance:
        environment["RWPM_CONFORMANCE"] = str(context.conformance.resolve())
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
        )
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        status = f"none: it took longer than {TEST_SECONDS} s"
    note(output[-3000:])
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    result = check(f"pytest {path}", status == 0, f"exit status {status}: {last}")
    return {"checks": [result], "output": output[-200_000:]}
