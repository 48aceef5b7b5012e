"""The machine of a record: what it is, what it is made of, and what it reaches."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from .. import info, native
from ..products import exact_products

PACKAGE = Path(__file__).parents[1]


def facts() -> dict[str, Any]:
    """Versions, processor, instruction sets, threads, and the precision that is allowed for float32 products."""
    kept = {name: value for name, value in info.info().items() if name != "system"}
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    precision = torch.get_float32_matmul_precision() if matmul is None else matmul.fp32_precision
    return {"kernel": platform.release().split("-")[0], **kept, "float32_products": precision}


def commit() -> str | None:
    """The commit that this package was run from, ``-dirty`` where files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # An installed copy may lie inside a repository that is not this one.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


@exact_products
def peak_flops(seconds: float = 0.3) -> float:
    """Float32 operations a second, a multiply-add counted as two: of the compiled kernels' instruction set on torch's
    number of threads, or of torch's product of two large matrices where those are not built."""
    threads = torch.get_num_threads()
    if native.unsupported_reason() is None:
        return native.native().peak_float32(threads, seconds)
    a = torch.ones(1024, 1024)
    a @ a
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ a
        count += 1
    return count * 2 * 1024**3 / (time.perf_counter() - start)


def copy_bytes(seconds: float = 0.1) -> float:
    """Bytes a second, read and written, of a copy too large for the caches."""
    source = torch.ones(2**25)  # 128 MiB
    target = torch.empty_like(source).copy_(source)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        target.copy_(source)
        count += 1
    return count * 2 * source.nbytes / (time.perf_counter() - start)


def load() -> float:
    """Processes that want to run, averaged over a minute; 0 where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0
