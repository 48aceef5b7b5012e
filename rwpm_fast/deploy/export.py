"""Export a scorer as one file, which is kept only if it equals eager torch, with what runs it beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from ..io.extras import require_extras
from ..io.files import atomic_write, write_json, write_text
from ..io.images import as_image
from ..networks.base import device_of
from ..ops.maps import Walk
from ..scenes import render_scene
from ..scoring.scorer import Scorer
from .errors import ExportError
from .metadata import Metadata
from .pipeline import Pipeline
from .pt2 import check_compiler, check_cpu, check_library, default_cpu, export_pt2
from .runners import open_runner
from .verify import Comparison, check_logits, sizes_of, verify

# Of each kind: largest error against eager torch, as of Comparison.error, and what stands beside the file.
TOLERANCES = {"pt2": 1e-5, "onnx": 5e-5, "pure": 1e-4}
PACKAGE = Path(__file__).parents[1]
LIBRARIES = {".pt2": "librwpm_ops.so", ".onnx": "librwpm_ort.so"}
BESIDE = {".pt2": ("run_pt2.py", "example.cpp", "CMakeLists.txt"), ".onnx": ("run_onnx.py",)}


def export(
    scorer: Scorer,
    path: str | os.PathLike[str],
    *,
    photos: Sequence[np.ndarray] = (),
    threshold: float | None = None,
    cpu: str | None = None,
    pure: bool = False,
) -> list[Comparison]:
    """Export network, walk and score as one file for photos of any size, on the CPU.

    The file is run on photos of several sizes and compared with the scorer before it is kept. Beside it are written a
    record of that (``NAME.json``), a script and, for a package, a C++ example that run it, and the library with the
    operators that they load. A script or an example that stands there and was changed is left as it is; see
    :func:`foreign_files`.

    Args:
        scorer: of a network and, if any, a :class:`rwpm_fast.Walk`; on the CPU.
        path: of the file, in a folder that exists. ``.pt2``: a package of AOTInductor, which takes minutes to compile,
            runs in Python and C++ with torch of the same minor version, and calls ``librwpm_ops.so``. ``.onnx``: for
            ONNX Runtime with ``librwpm_ort.so``; see ``pure``.
        photos: photos on which the file is compared, each cut to three sizes: [H, W, 3] uint8, or what
            :func:`rwpm_fast.io.images.as_image` takes; at least 128 pixels a side. A rendered street if there is none.
        threshold: score above which a pixel counts as anomalous, saved with the file; any finite number.
        cpu: ``.pt2`` only: instruction set that it is compiled for, ``"x86-64-v3"`` (AVX2; the default) or
            ``"x86-64-v4"`` (AVX-512).
        pure: ``.onnx`` only: the walk in plain ONNX, for runtimes without our operator; exact, whatever the tolerance,
            and many times slower.

    Returns:
        What the comparisons found, a photo and size each.

    Raises:
        ExportError: the network gives no logits, the scorer cannot be traced, translated or compiled, or the file
            differs from it: by more than 1e-5 of the largest score (5e-5 for ONNX, whose convolutions are others; 1e-4
            if ``pure``), or in the class of more than 0.1 % of the pixels.
        TypeError: another kind of scorer or walk.
        ValueError: another suffix, settings that do not go together, a network on another device than the CPU, or a
            photo that is too small.
        ImportError: the packages of ONNX are not installed.
        OSError: the files cannot be written, or their folder is missing.

    Example:
        >>> export(Scorer(networks.load("compact"), walk=Walk()), "compact.pt2", threshold=-4.0)
    """
    path = Path(path)
    check_settings(path.suffix, cpu=cpu, pure=pure)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {path}")
    if (device := device_of(scorer.network)).type != "cpu":
        raise ValueError(f"scorer: expected a network on the CPU, got one on {device}; use network.cpu()")
    pixels = [as_image(photo) for photo in photos] or [render_scene(np.random.default_rng(0), (720, 1280))[0]]
    smallest = [sizes_of(photo)[-1] for photo in pixels]
    if pure and isinstance(scorer.walk, Walk):
        scorer = scorer.with_walk(Walk(**{**vars(scorer.walk.settings), "tolerance": 0.0}))
    pipeline = Pipeline(scorer, one_pass=path.suffix == ".pt2")
    metadata = Metadata.of(scorer, threshold=threshold, cpu=(cpu or default_cpu()) if path.suffix == ".pt2" else "")
    if path.suffix == ".pt2":
        check_library(path)
    check_logits(scorer.network, smallest[0])
    with tempfile.TemporaryDirectory(prefix=".rwpm-export-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        try:
            _make(pipeline, torch.from_numpy(pixels[0].copy()), made, metadata, cpu=cpu, pure=pure)
            tolerance = TOLERANCES["pure" if pure else path.suffix[1:]]
            runner = open_runner(made)
            cuts = [cut for photo in pixels for cut in sizes_of(photo, runner.metadata.min_side)]
            found = verify(runner, scorer, cuts, tolerance=tolerance, name=path.name)
        # The file that was asked for is named, wherever it is made.
        except ExportError as error:
            raise ExportError(str(error).replace(str(made), str(path))) from error
        except OSError as error:
            error.strerror = (error.strerror or str(error)).replace(str(made), str(path))
            raise
        # The file comes last: where it is, all is.
        metadata = replace(metadata, min_side=runner.metadata.min_side)
        record = {**metadata.to_strings(), "checked": list(map(asdict, found))}
        write_json(path.with_name(f"{path.name}.json"), record)
        foreign = foreign_files(path)
        for file in BESIDE[path.suffix]:
            if (place := path.with_name(file)) not in foreign:
                write_text(place, _template(file))
        if path.suffix == ".pt2" or not (pure or scorer.walk is None):
            library = PACKAGE / LIBRARIES[path.suffix]
            atomic_write(path.with_name(library.name), lambda file: file.write(library.read_bytes()))
        made.replace(path)
    return found


def _make(
    pipeline: Pipeline, example: torch.Tensor, path: Path, metadata: Metadata, *, cpu: str | None, pure: bool
) -> None:
    """Write the file."""
    if path.suffix == ".pt2":
        export_pt2(pipeline, example, path, metadata=metadata.to_strings(), cpu=cpu)
        return
    from .onnx import export_onnx

    export_onnx(pipeline, example, path, metadata=metadata.to_strings(), pure=pure)


def foreign_files(path: Path) -> list[Path]:
    """List the files that should stand beside an export but are others, such as a changed script: they are left."""
    places = {path.with_name(file): file for file in BESIDE[path.suffix]}
    return [place for place, file in places.items() if os.path.lexists(place) and not _is_ours(place, file)]


def _is_ours(place: Path, file: str) -> bool:
    return place.is_file() and place.read_bytes() == _template(file).encode()


def _template(file: str) -> str:
    return (resources.files(__package__) / "templates" / file).read_text(encoding="utf-8")


def files_of(path: Path) -> list[Path]:
    """List the files that an export writes: its own, its record, and what runs it."""
    beside = (f"{path.name}.json", *BESIDE[path.suffix], LIBRARIES[path.suffix])
    return [path, *(path.with_name(file) for file in beside)]


def check_settings(suffix: str, *, cpu: str | None, pure: bool, prefix: str = "") -> None:
    """Check what :func:`export` is asked for, before any work.

    Args:
        suffix: of the file.
        cpu: see :func:`export`.
        pure: see :func:`export`.
        prefix: of the settings' names in the errors, such as ``--``.

    Raises:
        ExportError: another suffix, or no C++ compiler for a package.
        ValueError: settings that do not go together, or an instruction set that packages are not compiled for.
        ImportError: the packages of ONNX are not installed.
    """
    if suffix not in BESIDE:
        raise ExportError(f"path: expected a name that ends in {' or '.join(BESIDE)}, got {suffix or 'none'}")
    if pure and suffix != ".onnx":
        raise ValueError(f"{prefix}pure: only for ONNX")
    if cpu is not None:
        if suffix != ".pt2":
            raise ValueError(f"{prefix}cpu: only for pt2; an ONNX file is compiled where it runs")
        check_cpu(cpu, f"{prefix}cpu")
    if suffix == ".pt2":
        check_compiler()
    else:
        require_extras("the export to ONNX", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
