"""Exports for torch's AOTInductor: a ``.pt2`` package of compiled code that runs in Python and in C++.

The operators ``rwpm::walk`` and ``rwpm::score_map`` are not inside, by design of torch: whoever loads a package loads
``librwpm_ops.so`` first. A package checks nothing of what it is given, and so the runner here does.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..ops import library
from .errors import ExportError, reason_of
from .metadata import MIN_SIDE_KEY, Metadata
from .photos import check_photo
from .tracing import quiet, trace

# Instruction sets that a package may be compiled for, each with the width of its vectors, and what torch calls the
# processors that have it. A package for the processor that made it ("native") would end with an illegal instruction on
# another.
CPUS = {"x86-64-v3": (256, {"AVX2", "AVX512"}), "x86-64-v4": (512, {"AVX512"})}
ON_X86 = platform.machine() in ("x86_64", "AMD64")


def default_cpu() -> str:
    """Return the instruction set that packages are compiled for unless told otherwise: one that every processor of the
    last ten years has. Elsewhere than on x86 it is that of this machine."""
    return "x86-64-v3" if ON_X86 else f"native {platform.machine()}"


def check_cpu(cpu: str, name: str) -> None:
    """Raise ValueError unless packages can be compiled for an instruction set; ``name`` stands before the message."""
    choices = [*CPUS] if ON_X86 else [default_cpu()]
    if cpu not in choices:
        raise ValueError(f"{name}: expected {' or '.join(choices)}, got {cpu!r}")


def check_compiler() -> None:
    """Raise ExportError unless the C++ compiler is there that torch compiles packages with."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ExportError(
            f"{compiler}: no such C++ compiler, which packages are compiled with; install g++, or name one by the "
            "variable CXX"
        )


def export_pt2(
    module: nn.Module,
    example_photo: Tensor,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str],
    cpu: str | None = None,
) -> None:
    """Compile a module into a package for photos of any size. It takes one to five minutes.

    Args:
        module: from photo [H, W, 3] uint8 to score [H, W] float32 and segmentation [H, W] uint8, such as a
            :class:`rwpm_fast.deploy.pipeline.Pipeline`, on the CPU.
        example_photo: [H, W, 3] uint8; its size does not matter.
        path: of the package; ends in ``.pt2``. An old one is replaced.
        metadata: what the package says of itself; see :meth:`Metadata.to_strings`. The smallest side is added.
        cpu: instruction set, a key of :data:`CPUS`; None for :func:`default_cpu`.

    Raises:
        ExportError: the name of the file, no C++ compiler, one that fails, or see
            :func:`rwpm_fast.deploy.tracing.trace`.
        ValueError: an unknown instruction set.
    """
    cpu = cpu or default_cpu()
    check_cpu(cpu, "cpu")
    if not str(path).endswith(".pt2"):
        raise ExportError(f"{path}: expected a name that ends in .pt2")
    check_compiler()
    program, min_side = trace(module, example_photo)
    configs: dict[str, Any] = {
        "aot_inductor.metadata": {**metadata, MIN_SIDE_KEY: str(min_side)},
        # Not "freezing", which packs weights beforehand: it would gain a tenth, and makes transformers wrong
        # (findings/torch_aotinductor_freezing.sh).
        # As many threads as the process that runs it has; else as many as the one that made it.
        "cpp.dynamic_threads": True,
    }
    if cpu in CPUS:
        configs |= {"cpp.march": cpu, "cpp.simdlen": CPUS[cpu][0]}
    with quiet(), torch.no_grad():
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=os.fspath(path), inductor_configs=configs)
        except Exception as error:  # of many kinds, and many lines
            raise ExportError(f"module: torch {torch.__version__} does not compile it: {reason_of(error)}") from error


class Pt2Runner:
    """A package that is loaded; see :func:`load_pt2`.

    Attributes:
        metadata: what the package says of itself.
    """

    def __init__(self, path: Path, metadata: Metadata, package: Any) -> None:
        self.path, self.metadata, self._package = path, metadata, package

    def run(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score one photo.

        Args:
            photo: [H, W, 3] uint8, RGB, see :func:`rwpm_fast.deploy.photos.check_photo`; any strides.

        Returns:
            Score [H, W] float32, higher is more anomalous, and index of the likeliest class [H, W] uint8.

        Raises:
            TypeError: the photo is no array of uint8.
            ValueError: the photo has another shape.
        """
        pixels = torch.from_numpy(check_photo(photo, self.metadata.min_side))
        with torch.inference_mode():
            score, segmentation = self._package(pixels)
        return score.numpy(), segmentation.numpy()


def load_pt2(path: str | os.PathLike[str]) -> Pt2Runner:
    """Load a package that :func:`export_pt2` made.

    Args:
        path: the package.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: it is no package of ours, it was made for another torch, processor or operators, or the library of
            the operators cannot be loaded.
    """
    path = Path(path)
    metadata = Metadata.from_strings(read_strings(path), str(path))
    check_torch(metadata, path)
    if metadata.cpu in CPUS and torch.backends.cpu.get_cpu_capability() not in CPUS[metadata.cpu][1]:
        raise ExportError(
            f"{path}: compiled for {metadata.cpu}, which this processor lacks (torch finds "
            f"{torch.backends.cpu.get_cpu_capability()}); export it for this processor"
        )
    metadata.check_operator(str(path))
    check_library(path)
    try:
        with _without_isa_warning(), quiet():
            package = torch._inductor.aoti_load_package(str(path))
    except Exception as error:  # of many kinds, and many lines
        raise ExportError(f"{path}: torch {torch.__version__} cannot load it: {reason_of(error)}") from error
    return Pt2Runner(path, metadata, package)


def read_strings(path: Path) -> dict[str, str]:
    """Read the metadata of a package without loading its code.

    Raises:
        FileNotFoundError: there is no such file.
        ExportError: it is no package.
    """
    kind = f"{path}: expected a package of AOTInductor, got another kind of file"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".wrapper_metadata.json")]
            text = archive.read(names[0]) if len(names) == 1 else None
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:  # RuntimeError: it is encrypted
        raise ExportError(f"{kind} ({getattr(error, 'strerror', None) or error})") from error
    if text is None:
        raise ExportError(kind)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ExportError(f"{path}: its metadata is broken ({error}); export again") from error


def check_torch(metadata: Metadata, path: Path) -> None:
    """Check that a package was made by this torch: compiled code binds to the C shims of one minor version.

    Raises:
        ExportError: it was made by another.
    """
    made, here = (version.split(".")[:2] for version in (metadata.torch, torch.__version__))
    if made != here:
        raise ExportError(
            f"{path}: made by torch {metadata.torch}, and this is torch {torch.__version__}; export it again with this "
            f"torch, or run it with torch {'.'.join(made)}"
        )


def check_library(path: Path) -> None:
    """Check that the operators are there which every package calls: ``rwpm::score_map``, also without a walk.

    Raises:
        ExportError: their library does not load.
    """
    if (reason := library.unsupported_reason()) is not None:
        raise ExportError(f"{path}: calls operators of {library.LIBRARY.name}, which does not load: {reason}")


@contextmanager
def _without_isa_warning() -> Iterator[None]:
    """Silence torch's warning that a package was compiled for another instruction set than this processor's best: it
    was, on purpose, and whether the processor has it is checked."""
    logger = logging.getLogger("torch.export.pt2_archive._package")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
