"""Facts about this installation and what of it can be used here: for bug reports, benchmarks and first runs."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util
from pathlib import Path
from typing import Any

from . import __version__, native


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the name of the processor, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def isa() -> str:
    """Return the instruction set that the compiled kernels use, or why there is none."""
    try:
        return native.native().chosen_isa()
    except (RuntimeError, ValueError) as error:
        return f"none: {error}"


def _torch_parts() -> dict[str, Any]:
    if util.find_spec("torch") is None:
        why = "torch is not installed"
        return {"operators": f"no: {why}", "torch_threads": "-", "cuda": f"no: {why}"}
    import torch

    from .ops import backends, library

    if torch.cuda.is_available():
        reason = backends.load_triton()[1]
        kernels = "Triton's kernels" if reason is None else f"plain torch: {reason}"
        cuda = f"{torch.version.cuda}: {torch.cuda.get_device_name()}; the walk runs there in {kernels}"
    elif torch.version.cuda is None:
        cuda = "no: this torch is a build without CUDA"
    else:
        cuda = f"no: torch is built for CUDA {torch.version.cuda} and finds no device"
    reason = library.unsupported_reason()
    return {
        "operators": "compiled" if reason is None else f"plain torch: {reason}",
        "torch_threads": torch.get_num_threads(),
        "cuda": cuda,
    }


def info() -> dict[str, Any]:
    """Collect the facts by name, in the order to print them; values are strings, numbers or lists of strings."""
    reason = native.unsupported_reason()
    build = native.native().build() if reason is None else {}
    return {
        "rwpm_fast": __version__,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "torch": _version("torch"),
        "system": platform.platform(),
        "processor": processor(),
        "cores": native.cores(),
        "compiled_module": "yes" if reason is None else f"no: {reason}",
        "compiler": build.get("compiler", "-"),
        "build_type": build.get("build_type", "-"),
        "built_for_torch": build.get("torch", "-"),
        "isa_compiled": build.get("isa_compiled", []),
        "isa_available": build.get("isa_available", []),
        "isa_chosen": isa(),
        "RWPM_ISA": os.environ.get("RWPM_ISA", "not set"),
        **_torch_parts(),
        "triton": _version("triton") if util.find_spec("triton") else "no: not installed; GPUs walk in plain torch",
    }
