"""The sub-command ``export``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.extras import require_extras
from ..io.files import make_folder
from ..io.outputs import check_outputs
from .loading import load_scorer
from .options import add_network_options, add_walk_options

if TYPE_CHECKING:
    import numpy as np

SUMMARY = "Export network, walk and score as one file for AOTInductor or ONNX Runtime, checked against eager torch."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", required=True, help="pt2 (AOTInductor) or onnx (ONNX Runtime)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, made if missing")
    parser.add_argument("--score", help="anomaly score (default: that of the network's authors)")
    parser.add_argument("--threshold", type=float, help="score above which a pixel is anomalous, saved with the file")
    parser.add_argument(
        "--photo",
        nargs="+",
        default=[],
        help="photos, folders or patterns to check the file on (default: a rendered street)",
    )
    parser.add_argument(
        "--pure",
        action="store_true",
        help="onnx only: the walk in plain ONNX, exact, for any runtime, many times slower",
    )
    parser.add_argument("--cpu", help="pt2 only: x86-64-v3 (AVX2) or x86-64-v4 (AVX-512) (default: x86-64-v3)")
    add_network_options(parser, positional=True, device=False)
    add_walk_options(parser)
    # SynBoost's chain is more than one graph, and exports run on the CPU.
    parser.set_defaults(method=None, device="cpu")


def run(options: argparse.Namespace) -> int:
    if options.format not in ("pt2", "onnx"):
        raise ValueError(f"--format: expected pt2 or onnx, got {options.format}")
    require_extras("export", "PIL.Image")
    from ..deploy.export import check_settings, export, files_of, foreign_files
    from ..io.images import find_images

    check_settings(f".{options.format}", cpu=options.cpu, pure=options.pure, prefix="--")
    path = options.out / export_name(options.network, "pure" if options.pure else options.format)
    photos = find_images(options.photo) if options.photo else []
    check_outputs([("--out", file) for file in files_of(path)], [*photos, options.weights], "give another --out")
    pixels = [_read(photo) for photo in photos]
    if not pixels:
        print("checked on a rendered street; give --photo for a photo of yours", file=sys.stderr)
    scorer = load_scorer(options, options.score)
    make_folder(options.out, "--out")
    for file in foreign_files(path):
        print(f"{file}: was changed, and is left as it is; remove it to get that of this version", file=sys.stderr)
    print(f"{path.name}: {'compiling, which takes minutes' if options.format == 'pt2' else 'tracing'} ...", flush=True)
    found = export(scorer, path, photos=pixels, threshold=options.threshold, cpu=options.cpu, pure=options.pure)
    for comparison in found:
        height, width = comparison.size
        print(
            f"  {width}x{height}: score within {comparison.error:.1e} of its largest, class differs at "
            f"{comparison.differing_classes:.4%} of the pixels"
        )
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _read(photo: Path) -> np.ndarray:
    """Read a photo to check an export on.

    Raises:
        ExportError: it is none, or too small.
    """
    from ..deploy.errors import ExportError
    from ..deploy.verify import sizes_of
    from ..io.images import read_image

    try:
        pixels = read_image(photo, upright=True)
    except ValueError as error:
        raise ExportError(str(error)) from error
    try:
        sizes_of(pixels)
    except ValueError as error:
        raise ExportError(f"{photo}: {error}") from error
    return pixels


def export_name(network: str, kind: str) -> str:
    """Return the name of an export: of kind "pt2", "onnx" or "pure"."""
    from ..networks.own import file_stem

    stem = file_stem(network)
    return f"{stem}-pure.onnx" if kind == "pure" else f"{stem}.{kind}"
