"""Small walks under compute-sanitizer, which finds accesses out of bounds and races in shared memory.

``python -m bench.gpu.sanitizer`` runs the walks alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import rwpm_fast

from .context import Context, Skipped, gpu_backends, note
from .correctness import check, inputs
from .files import ROOT

TOOLS = ("memcheck", "racecheck")
ERROR_EXIT_CODE = 9  # of a tool that found something
# Embeddings [B, N, D], values [B, N, C]: several tiles and a part of one, whole and odd channels.
SIZES = ((2, 300, 40, 19), (1, 515, 272, 259))


def walks(context: Context) -> None:
    """Run exact walks, walks with a tolerance, and their gradients: every kernel of every backend."""
    for dtype in ("float16", "float32"):
        for backend in gpu_backends(context, dtype):
            for size in SIZES[:1] if context.dry else SIZES:
                e, v = inputs(size, context, getattr(torch, dtype))
                mask = torch.arange(size[1], device=e.device).expand(size[:2]) % 7 > 0
                for tolerance in (0.0, 1e-3, 1e-6):
                    settings = {"mask": mask, "steps": 2, "tolerance": tolerance}
                    rwpm_fast.walk(e, v, **settings, backend=backend)
                    if context.device == "cuda":
                        torch.ops.rwpm.walk_adjoint(v, e, mask, steps=1, tolerance=tolerance)
                        torch.ops.rwpm.walk_backward(v, e, v, mask, steps=1, tolerance=tolerance)
    if context.device == "cuda":
        torch.cuda.synchronize()


def sanitize(context: Context) -> dict[str, Any]:
    """Run the walks under each tool."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        raise Skipped("compute-sanitizer is not installed")
    if context.device != "cuda":
        raise Skipped("no CUDA device")
    # Each tensor directly from the driver, so that memcheck sees where it ends.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    checks, outputs = [], {}
    for tool in TOOLS:
        command = [
            program,
            "--tool",
            tool,
            "--error-exitcode",
            str(ERROR_EXIT_CODE),
            sys.executable,
            "-m",
            "bench.gpu.sanitizer",
        ]
        seconds = min(200.0, context.deadline - time.time())
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
            output, status = done.stdout + done.stderr, str(done.returncode)
        except subprocess.TimeoutExpired as late:
            output, status = (late.stdout or b"").decode(errors="replace"), f"none: it took longer than {seconds:.0f} s"
        note(output[-2000:])
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
        checks.append(check(f"compute-sanitizer {tool}", status == "0", f"exit status {status}: {last}"))
        outputs[tool] = output[-50_000:]
    return {"checks": checks, "outputs": outputs}


if __name__ == "__main__":
    walks(Context(dry=False, embeddings=(), conformance=None, work=Path()))
