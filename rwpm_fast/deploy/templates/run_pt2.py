"""Score photos with an exported model: an anomaly map (.npy) and a picture of it (_overlay.png) for each.

    python run_pt2.py model.pt2 street.jpg --out maps

It needs torch (of the minor version that exported), NumPy, Pillow, and librwpm_ops.so, which stands beside the export
and in an installed rwpm-fast. It imports nothing of rwpm_fast, to be copied and changed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f"run_pt2: {error}; it needs torch, NumPy and Pillow: pip install torch numpy pillow")

LIBRARY = "librwpm_ops.so"
NEEDS = {"x86-64-v3": {"AVX2", "AVX512"}, "x86-64-v4": {"AVX512"}}  # what torch calls the processor, by rwpm.cpu


def read_metadata(model: Path) -> dict[str, str]:
    """Read what an export says of itself, without loading its code."""
    try:
        with zipfile.ZipFile(model) as file:
            names = [name for name in file.namelist() if name.endswith(".wrapper_metadata.json")]
            metadata = json.loads(file.read(names[0])) if names else {}
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise Refused(f"{model}: expected an export of rwpm-fast, got another file ({one_line(error)})") from None
    check_metadata(model, metadata)
    return metadata


def load(model: Path, library: Path | None, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, str]]:
    """Load an export: check that it can run here, load its operators, then the model.

    Returns:
        A function from a photo, uint8 [H, W, 3], to its score, float32 [H, W]; and the metadata.

    Raises:
        Refused: no export, another torch, processor or operator; one line.
    """
    metadata = read_metadata(model)
    exported, here = metadata["rwpm.torch"], torch.__version__
    if exported.split(".")[:2] != here.split(".")[:2]:
        raise Refused(f"{model}: was exported with torch {exported}, this is torch {here}; export it again with this")
    processor = torch.backends.cpu.get_cpu_capability()
    if processor not in NEEDS.get(metadata["rwpm.cpu"], {processor}):
        raise Refused(f"{model}: was compiled for {metadata['rwpm.cpu']}, this processor has {processor}")
    found = find_library(library, model)
    if found is None or not found.exists():
        raise Refused(f"{model}: {library or LIBRARY} with its operators not found; pip install rwpm-fast has it")
    try:
        torch.ops.load_library(str(found.resolve()))  # the operators are not inside, and have to be there first
        abi = ctypes.CDLL(str(found.resolve())).rwpm_op_abi()
    except (AttributeError, OSError, RuntimeError) as error:
        raise Refused(f"{found}: is no operator library for torch {here}: {one_line(error)}") from None
    if metadata["rwpm.op_abi"] != str(abi):
        raise Refused(f"{model}: expected a library of ABI {metadata['rwpm.op_abi']}, got {abi} of {found}")
    if threads:
        torch.set_num_threads(threads)
    try:
        package = torch._inductor.aoti_load_package(str(model))
    except Exception as error:
        raise Refused(f"{model}: torch {here} cannot load it: {one_line(error)}") from None

    def run(photo: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return package(torch.from_numpy(photo))[0].numpy()

    return run, metadata


# From here on run_onnx.py and run_pt2.py are the same.


class Refused(Exception):
    """What cannot be run; one line."""


def one_line(error: Exception) -> str:
    """What an exception says first."""
    text = getattr(error, "strerror", None) or str(error).strip()
    return text.partition("\n")[0] or type(error).__name__


def check_metadata(model: Path, metadata: Any) -> None:
    """Check what an export says of itself, as far as it is used here."""
    if not isinstance(metadata, dict) or metadata.get("rwpm.format") != "1":
        found = metadata.get("rwpm.format") if isinstance(metadata, dict) else metadata
        raise Refused(f"{model}: expected metadata rwpm.format 1, got {found}: no export of it")
    for key in ("rwpm.torch", "rwpm.cpu", "rwpm.op_abi", "rwpm.threshold", "rwpm.min_side"):
        if not isinstance(metadata.get(key), str):
            raise Refused(f"{model}: its metadata is broken ({key}: {metadata.get(key)!r}); export again")
    if not metadata["rwpm.min_side"].isdecimal():
        raise Refused(f"{model}: its metadata is broken (rwpm.min_side: {metadata['rwpm.min_side']!r}); export again")
    threshold_of(model, metadata)


def threshold_of(model: Path, metadata: dict[str, str]) -> float | None:
    """Read the score above which a pixel is anomalous; None where none was chosen."""
    text = metadata["rwpm.threshold"]
    try:
        threshold = float(text or 0)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise Refused(f"{model}: its metadata is broken (rwpm.threshold: {text!r}); export again")
    return threshold if text else None


def find_library(given: Path | None, model: Path) -> Path | None:
    """Find the operator library: where the user says, beside the model or this script, or in an installed rwpm_fast."""
    if given is not None:
        return given
    installed = importlib.util.find_spec("rwpm_fast")
    folders = [model.resolve().parent, Path(__file__).resolve().parent]
    folders += map(Path, (installed.submodule_search_locations or ()) if installed else ())
    return next((folder / LIBRARY for folder in folders if (folder / LIBRARY).exists()), None)


def results_of(photo: Path, out: Path) -> tuple[Path, Path]:
    """Return the files of a photo's map and picture."""
    return out / f"{photo.stem}.npy", out / f"{photo.stem}_overlay.png"


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from others, whatever its name; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_results(photos: list[Path], out: Path, inputs: list[Path]) -> None:
    """Check before any work that no result replaces a file that is read, or another result."""
    if out.exists() and not out.is_dir():
        raise Refused(f"--out: expected a folder, got the file {out}")
    read = {identity(path): path for path in [*photos, *inputs]}
    writers: dict[Path, Path] = {}
    for photo in photos:
        for file in results_of(photo, out):
            if file in writers:
                raise Refused(f"{writers[file]} and {photo}: both would write {file}; score photos of one name apart")
            writers[file] = photo
            found = identity(file)
            if found is not None and found in read:
                raise Refused(f"{photo}: would replace {read[found]}, which is read; give another --out")


def read_photo(path: Path, min_side: int) -> np.ndarray:
    """Read a photo as a model takes it: uint8 [H, W, 3], RGB, contiguous, upright; 16 bits are scaled to 8."""
    try:
        # From a file, not from its path: Pillow would map that into memory, and mix up the sides of turned TIFF files.
        with open(path, "rb") as file, Image.open(file) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            gray = np.asarray(upright) if upright.mode[:1] in "IF" else None
            photo = np.array(upright.convert("RGB")) if gray is None else gray
    except Exception as error:  # Pillow's decoders report broken content by any kind
        raise Refused(f"{path}: cannot be read: {one_line(error)}") from None
    if gray is not None:
        if gray.dtype.kind == "f" or gray.min() < 0 or gray.max() > 65535:
            raise Refused(f"{path}: expected 8 or 16 bits a channel, got {gray.dtype} {gray.min()} to {gray.max()}")
        photo = np.stack([np.round(gray / 257).astype(np.uint8)] * 3, axis=-1)
    if min(photo.shape[:2]) < min_side:
        raise Refused(f"{path}: expected at least {min_side} pixels a side, got {photo.shape[1]}x{photo.shape[0]}")
    return photo


def overlay(photo: np.ndarray, score: np.ndarray, threshold: float | None) -> np.ndarray:
    """Color a score over its photo: yellow to orange up to the threshold, red above it.

    Without a threshold red begins at the map's 99.9th percentile; colors begin at its 1st.
    """
    low = np.percentile(score, 1)
    high = np.percentile(score, 99.9) if threshold is None else threshold
    position = np.clip((score - low) / (high - low), 0, 1) if high > low else np.zeros(score.shape)
    alarm = score > threshold if threshold is not None else (score >= high) & (high > low)
    yellow, orange, red = np.array([[255, 235, 60], [255, 130, 0], [225, 0, 40]], float)
    color = np.where(alarm[..., None], red, yellow + position[..., None] * (orange - yellow))
    share = np.where(alarm, 0.75, 0.55 * position)[..., None]
    gray = (photo @ [0.299, 0.587, 0.114])[..., None]
    return np.rint(gray + share * (color - gray)).astype(np.uint8)


def write_whole(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file beside its place and move it there, so that it is whole or not there."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(beside, "wb") as file:
            write(file)
        os.replace(beside, path)
    except OSError as error:
        raise Refused(f"{path}: cannot be written: {one_line(error)}") from None
    finally:
        beside.unlink(missing_ok=True)


def score_photos(options: argparse.Namespace) -> None:
    """Score photos, and write a map and a picture of each."""
    inputs = [options.model, *([options.library] if options.library else [])]
    check_results(options.photos, options.out, inputs)
    run, metadata = load(options.model, options.library, options.threads)
    threshold = threshold_of(options.model, metadata)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"--out: expected a folder, or a path to make one at, got {options.out}: {one_line(error)}"
        ) from None
    for path in options.photos:
        photo = read_photo(path, int(metadata["rwpm.min_side"]))
        begin = time.perf_counter()
        try:
            score = run(photo)
        except Exception as error:
            raise Refused(f"{path}: {options.model} fails: {one_line(error)}") from None
        seconds = time.perf_counter() - begin
        if not np.isfinite(score).all():
            raise Refused(f"{path}: score: not finite at {(~np.isfinite(score)).sum()} of {score.size} pixels")
        map_file, picture_file = results_of(path, options.out)
        picture = Image.fromarray(overlay(photo, score, threshold))
        write_whole(map_file, partial(np.save, arr=score))
        write_whole(picture_file, partial(picture.save, format="PNG"))
        line = f"{path}  {photo.shape[1]}x{photo.shape[0]}  {seconds:.3f} s  highest score {score.max():.4g}"
        if threshold is not None:
            line += f"  {(score > threshold).mean():.2%} of the pixels above {threshold:g}"
        print(f"{line}  {map_file}")


def main(words: list[str] | None = None) -> int:
    """Run the script; its exit status."""
    parser = argparse.ArgumentParser(description="Score photos with an exported model: a map and a picture for each.")
    parser.add_argument("model", type=Path, help="the export")
    parser.add_argument("photos", type=Path, nargs="+", metavar="photo")
    parser.add_argument("--out", type=Path, default=Path("maps"), help="folder for the results (default: maps)")
    parser.add_argument("--library", type=Path, help=f"{LIBRARY} (default: beside the model, or of rwpm_fast)")
    parser.add_argument("--threads", type=int, default=0, help="0, the default: one for each core")
    options = parser.parse_args(words)
    try:
        score_photos(options)
    except Refused as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
