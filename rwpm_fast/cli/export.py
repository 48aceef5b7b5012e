"""The sub-command ``export``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.extras import require_extras
from ..io.files import make_folder, write_json, write_text
from ..io.outputs import check_outputs
from .loading import load_scorer
from .options import add_network_options, add_walk_options

if TYPE_CHECKING:
    import numpy as np

    from ..deploy.verify import Comparison

SUMMARY = "Export network, walk and score as one file for AOTInductor or ONNX Runtime, checked against eager torch."

# Of each format: largest error against eager torch, relative to the range of the score, and what stands beside it.
TOLERANCES = {"pt2": 1e-5, "onnx": 1e-5, "pure": 1e-4}
BESIDE = {"pt2": ("run_pt2.py", "example.cpp", "CMakeLists.txt"), "onnx": ("run_onnx.py",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", required=True, help="pt2 (AOTInductor) or onnx (ONNX Runtime)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, made if missing")
    parser.add_argument("--score", help="anomaly score (default: that of the network's authors)")
    parser.add_argument("--threshold", type=float, help="score above which a pixel is anomalous, saved with the file")
    parser.add_argument(
        "--photo",
        type=Path,
        action="append",
        help="photo to check the file on; may be repeated (default: a rendered one)",
    )
    parser.add_argument(
        "--pure",
        action="store_true",
        help="onnx only: the walk in plain ONNX, exact, for any runtime, many times slower",
    )
    parser.add_argument("--cpu", help="pt2 only: x86-64-v3, from 2013 on, or x86-64-v4, AVX-512 (default: x86-64-v3)")
    add_network_options(parser, positional=True)
    add_walk_options(parser)
    parser.set_defaults(method=None)  # SynBoost's chain is more than one graph


def run(options: argparse.Namespace) -> int:
    kind = _kind(options)
    require_extras("export", "PIL.Image", *(["onnx", "onnxscript", "onnxruntime"] if options.format == "onnx" else []))
    name = export_name(options.network, kind)
    files = [options.out / name, options.out / f"{name}.json", *(options.out / file for file in BESIDE[options.format])]
    photos = options.photo or []
    check_outputs([("--out", file) for file in files], [*photos, options.weights], "give another --out")
    make_folder(options.out, "--out")

    from ..deploy.metadata import Metadata
    from ..deploy.pipeline import Pipeline
    from ..deploy.runners import open_runner
    from ..deploy.verify import sizes_of, verify

    examples = [size for photo in _photos(photos) for size in sizes_of(photo)]
    scorer = load_scorer(options, options.score)
    metadata = Metadata.of(scorer, threshold=options.threshold, cpu=_cpu(options))
    pipeline = Pipeline(scorer, one_pass=options.format == "pt2")
    print(f"{name}: {'compiling, which takes minutes' if options.format == 'pt2' else 'tracing'} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix=".rwpm-export-", dir=options.out) as folder:
        made = Path(folder) / name
        _export(options, pipeline, examples[0], made, metadata.to_strings())
        found = verify(open_runner(made), scorer, examples, tolerance=TOLERANCES[kind], name=name)
        made.replace(options.out / name)
    for comparison in found:
        print(_line(comparison))
    _write_beside(options, name, {**metadata.to_strings(), "checked": [vars(comparison) for comparison in found]})
    print(f"{options.out / name}  {(options.out / name).stat().st_size / 1e6:.1f} MB")
    return 0


def export_name(network: str, kind: str) -> str:
    """Return the name of an export: of kind "pt2", "onnx" or "pure"."""
    return f"{network}-pure.onnx" if kind == "pure" else f"{network}.{kind}"


def _kind(options: argparse.Namespace) -> str:
    if options.format not in BESIDE:
        raise ValueError(f"--format: expected {' or '.join(BESIDE)}, got {options.format}")
    if options.pure and options.format != "onnx":
        raise ValueError("--pure: only for --format onnx")
    if options.cpu is not None and options.format != "pt2":
        raise ValueError("--cpu: only for --format pt2; an ONNX file is compiled where it runs")
    return "pure" if options.pure else options.format


def _cpu(options: argparse.Namespace) -> str:
    if options.format != "pt2":
        return ""
    from ..deploy.pt2 import check_cpu, default_cpu

    if options.cpu is not None:
        check_cpu(options.cpu, "--cpu")
    return options.cpu or default_cpu()


def _photos(paths: list[Path]) -> list[np.ndarray]:
    """Read the photos to check on, or render one."""
    import numpy as np

    from ..io.images import find_images, read_image
    from ..scenes import render_scene

    if paths:
        return [read_image(photo, upright=True) for photo in find_images(paths)]
    print("checked on a rendered street; give --photo for a photo of yours", file=sys.stderr)
    return [render_scene(np.random.default_rng(0), (720, 1280))[0]]


def _export(
    options: argparse.Namespace, pipeline: Any, photo: np.ndarray, path: Path, metadata: dict[str, str]
) -> None:
    import torch

    example = torch.from_numpy(photo.copy())
    if options.format == "pt2":
        from ..deploy.pt2 import export_pt2

        export_pt2(pipeline, example, path, metadata=metadata, cpu=metadata["rwpm.cpu"])
    else:
        from ..deploy.onnx import export_onnx

        export_onnx(pipeline, example, path, metadata=metadata, pure=options.pure)


def _line(comparison: Comparison) -> str:
    height, width = comparison.size
    return (
        f"  {width}x{height}: score within {comparison.error:.1e} of its range, class differs at "
        f"{comparison.differing_classes:.4%} of the pixels"
    )


def _write_beside(options: argparse.Namespace, name: str, record: dict[str, Any]) -> None:
    """Write the record of the check, and the script and the example that run the file."""
    write_json(options.out / f"{name}.json", record)
    for file in BESIDE[options.format]:
        write_text(options.out / file, (resources.files("rwpm_fast.deploy") / "templates" / file).read_text())
