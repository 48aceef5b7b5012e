"""Right before fast: walks against float64, and what a user of a GPU relies on beside the numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
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

from .context import Context, Skipped, each_backend, note

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 240
# Embeddings [B, N, D], values [B, N, C].
SIZES = ((1, 1000, 256, 256), (1, 3000, 259, 19), (2, 515, 64, 100))
DRY_SIZES = ((1, 300, 20, 5), (2, 40, 8, 3))


def machine(context: Context) -> dict[str, Any]:
    """What the device is and what it reaches."""
    stage = context.stage()
    smi = ""
    if shutil.which("nvidia-smi"):
        smi = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
    facts = stage.facts()
    rates = {} if context.dry else {"peak_flops": stage.peak_flops(), "copy_bytes": stage.copy_bytes()}
    note(smi or "no nvidia-smi")
    note(json.dumps({"gpu": facts.get("gpu"), "torch": facts["torch"], **rates}, indent=1))
    return {"machine": facts, "nvidia_smi": smi, **rates}


def check(name: str, ok: bool, detail: str = "") -> dict[str, Any]:
    note(f"{'ok  ' if ok else 'FAIL'} {name} {detail}")
    return {"name": name, "ok": bool(ok), "detail": detail}


def tried(name: str, run: Callable[[], tuple[bool, str]]) -> dict[str, Any]:
    """A check whose exception is a failure, so that the next is made."""
    try:
        return check(name, *run())
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
    """Memory that nobody has written holds NaN or the largest integer."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(t: Tensor) -> Tensor:
        return t.fill_(torch.nan if t.is_floating_point() else torch.iinfo(t.dtype).max)

    torch.empty = lambda *shape, **facts: poison(empty(*shape, **facts))
    torch.empty_like = lambda t, **facts: poison(empty_like(t, **facts))
    try:
        yield
    finally:
        torch.empty, torch.empty_like = empty, empty_like


def walks(context: Context) -> dict[str, Any]:
    """Walks of several sizes, dtypes and tolerances: near float64, and the same again and with poisoned memory."""
    checks = []
    for dtype in ("float16", "float32"):
        for backend in each_backend(context, dtype):
            for size in DRY_SIZES if context.dry else SIZES:
                e, v = inputs(size, context, getattr(torch, dtype))
                mask = torch.arange(size[1], device=e.device).expand(size[:2]) % 9 > 0
                for tolerance in (0.0, 1e-3, 1e-5):
                    settings = {"steps": 5, "mask": mask}
                    bound = EXACT[dtype] + min(TOLERANT, 2 * 5 * tolerance)

                    def run(e=e, v=v, settings=settings, tolerance=tolerance, bound=bound, backend=backend):
                        walk = {**settings, "tolerance": tolerance, "backend": backend}
                        first = rwpm_fast.walk(e, v, **walk)
                        again = rwpm_fast.walk(e, v, **walk)
                        with poisoned():
                            clean = rwpm_fast.walk(e, v, **walk)
                        error = error_of(first, e, v, **settings)
                        same, whole = torch.equal(first, again), torch.equal(first, clean)
                        detail = f"error {error:.1e} of {bound:.0e}"
                        detail += "" if same else ", another run differs" + f" by {(first - again).abs().max():.1e}"
                        detail += "" if whole else ", it reads what nobody has written"
                        return error <= bound and same and whole, detail

                    checks.append(tried(f"{backend} {list(size)} {dtype} tolerance {tolerance:g}", run))
    return {"checks": checks}


def contract(context: Context) -> dict[str, Any]:
    """What holds beside the numbers: no waiting for the device, CUDA graphs, other streams, strides, certificates."""
    checks = []
    size = DRY_SIZES[0] if context.dry else (1, 4000, 256, 100)
    on_gpu = context.device == "cuda"
    for backend in each_backend(context, "float16"):
        for tolerance in (0.0, 1e-3):
            e, v = inputs(size, context, torch.float16)
            other = inputs(size, context, torch.float16, seed=9)

            def walk(e: Tensor, v: Tensor, backend=backend, tolerance=tolerance) -> Tensor:
                return rwpm_fast.walk(e, v, steps=5, tolerance=tolerance, backend=backend)

            def strides(e=e, v=v, walk=walk):
                apart = e.transpose(1, 2).contiguous().transpose(1, 2), v.transpose(1, 2).contiguous().transpose(1, 2)
                return torch.equal(walk(e, v), walk(*apart)), "channels first"

            def certificate(e=e, v=v, backend=backend, tolerance=tolerance):
                walk = {"steps": 5, "tolerance": tolerance, "backend": backend, "return_info": True}
                got, info = rwpm_fast.walk(e[0], v[0], **walk)
                wanted = reference.walk(e[0].double(), v[0].double(), steps=5)
                error = ((got.double() - wanted).abs().max() / v.abs().max()).item()
                bound = 2 * 5 * info.dropped_mass + 4e-3  # float16 rounds the result itself by 2^-11
                detail = f"{info.path}, dropped {info.dropped_mass:.1e}, largest error {error:.1e} of {bound:.1e}"
                return info.dropped_mass <= tolerance and error <= bound, detail

            def graph(e=e, v=v, other=other, walk=walk):
                from rwpm_fast.benchmark.device import Captured

                held = e.clone(), v.clone()
                captured = Captured(lambda: walk(*held))
                one = torch.equal(captured(), walk(e, v))
                for tensor, new in zip(held, other, strict=True):
                    tensor.copy_(new)
                two = torch.equal(captured(), walk(*other))
                return one and two, f"captured inputs {one}, new inputs {two}"

            def no_waiting(e=e, v=v, walk=walk):
                walk(e, v)
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
                try:
                    walk(e, v)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                return True, "no hidden synchronization"

            def stream(e=e, v=v, walk=walk):
                wanted = walk(e, v)
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    torch.cuda._sleep(20_000_000)  # who launches elsewhere than on this stream comes too early
                    late = e * 1  # made on this stream
                    got = walk(late, v)
                side.synchronize()
                return torch.equal(got, wanted), "second stream"

            about = f"{backend} tolerance {tolerance:g}:"
            checks += [tried(f"{about} strides", strides), tried(f"{about} certificate", certificate)]
            if on_gpu:
                checks.append(tried(f"{about} no synchronization", no_waiting))
                checks.append(tried(f"{about} second stream", stream))
                checks.append(tried(f"{about} CUDA graph", graph))
    return {"checks": checks}


def conformance(context: Context) -> dict[str, Any]:
    """The golden files of the walk, in float32."""
    folder = context.conformance
    files = sorted((folder / "walk").glob("*.npz")) if folder else []
    if not files:
        raise Skipped(f"no golden files in {folder}/walk" if folder else "no --conformance folder")
    checks = []
    for backend in each_backend(context, "float32"):
        for file in files[:3] if context.dry else files:

            def run(file=file, backend=backend):
                with np.load(file) as arrays:
                    case = {name: arrays[name] for name in arrays.files}
                meta = json.loads(str(case["meta"]))
                e, v, expected = (torch.from_numpy(case[k]).float() for k in ("embeddings", "values", "expected"))
                mask = torch.from_numpy(case["mask"])
                settings = {name: meta[name] for name in ("alpha", "steps", "temperature")}
                on = (t.to(context.device) for t in (e, v))
                got = rwpm_fast.walk(*on, mask=mask.to(context.device), **settings, backend=backend).cpu()
                inside = expected.isfinite().all(-1)
                size = expected[inside].double().norm().item()
                error = (got[inside].double() - torch.from_numpy(case["expected"])[inside]).norm().item() / (size or 1)
                bound = 1e-4 if meta["temperature"] <= 1e-4 else 1e-5
                out = ~reference.valid_pixels(e, v, mask)
                kept = torch.equal(got[out].view(torch.int32), v[out].view(torch.int32))
                return error <= bound and kept, f"error {error:.1e} of {bound:.0e}" + (
                    "" if kept else ", outside moved"
                )

            checks.append(tried(f"{backend} {file.stem}", run))
    return {"checks": checks}


def tests(context: Context) -> dict[str, Any]:
    """The test-suites of the GPU's backends, in a process of their own."""
    wanted = [ROOT / "python_tests" / name for name in ("triton", "test_cuda.py", "cuda")]
    if context.dry:
        wanted = [ROOT / "python_tests" / "triton" / "test_tiles.py"]
    paths = [str(path.relative_to(ROOT)) for path in wanted if path.exists()]
    if not paths:
        raise Skipped("no tests of a GPU backend")
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *paths]
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
    result = check("pytest " + " ".join(paths), status == 0, f"exit status {status}: {last}")
    return {"checks": [result], "output": output[-200_000:]}
