"""Score photos with an exported model: an anomaly map (.npy) and a picture of it (.png) for each.

    python run_pt2.py model.pt2 street.jpg --out maps

It needs torch (of the minor version that exported), NumPy, Pillow, and librwpm_ops.so, which `pip install rwpm-fast`
has. It stands beside every export and imports nothing of rwpm_fast, to be copied and changed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

LIBRARY = "librwpm_ops.so"
MIN_SIDE = 32  # pixels
NEEDS = {"x86-64-v3": {"AVX2", "AVX512"}, "x86-64-v4": {"AVX512"}}  # what torch calls the processor, by rwpm.cpu


class Refused(Exception):
    """What cannot be run; one line."""


def read_metadata(package: Path) -> dict[str, str]:
    """Read what an export says of itself, without loading its code."""
    try:
        with zipfile.ZipFile(package) as file:
            names = [name for name in file.namelist() if name.endswith(".wrapper_metadata.json")]
            metadata = json.loads(file.read(names[0])) if names else {}
    except (OSError, zipfile.BadZipFile) as error:
        raise Refused(f"{package}: expected an export of rwpm-fast, got another file ({error})") from None
    if metadata.get("rwpm.format") != "1":
        raise Refused(f"{package}: expected metadata rwpm.format 1, got {metadata.get('rwpm.format')}: no export of it")
    return metadata


def find_library(given: Path | None, package: Path) -> Path | None:
    """Find the operator library: where the user says, beside the package, or in an installed rwpm_fast."""
    if given is not None:
        return given
    installed = importlib.util.find_spec("rwpm_fast")
    folders = [package.parent, *map(Path, installed.submodule_search_locations or () if installed else ())]
    return next((folder / LIBRARY for folder in folders if (folder / LIBRARY).exists()), None)


def load(package: Path, library: Path | None = None) -> tuple[Callable[..., Any], dict[str, str]]:
    """Load an export: check that it can run here, load the operator, then the model.

    Returns:
        The model, from uint8 [H, W, 3] to score float32 [H, W] and segmentation uint8 [H, W]; and its metadata.

    Raises:
        Refused: no export, another torch, processor or operator; one line.
    """
    metadata = read_metadata(package)
    exported, here = metadata["rwpm.torch"], torch.__version__
    if exported.split(".")[:2] != here.split(".")[:2]:
        raise Refused(f"{package}: was exported with torch {exported}, this is torch {here}; export it again with this")
    processor = torch.backends.cpu.get_cpu_capability()
    if processor not in NEEDS.get(metadata["rwpm.cpu"], {processor}):
        raise Refused(f"{package}: was compiled for {metadata['rwpm.cpu']}, this processor has {processor}")
    found = find_library(library, package)
    if found is not None and found.exists():
        try:
            torch.ops.load_library(found)  # the operators are not inside, and have to be there first
            abi = ctypes.CDLL(str(found)).rwpm_op_abi()
        except (AttributeError, OSError, RuntimeError) as error:
            raise Refused(f"{found}: is no operator library for torch {here}: {error}") from None
        if metadata["rwpm.op_abi"] != str(abi):
            raise Refused(f"{package}: expected a library of ABI {metadata['rwpm.op_abi']}, got {abi} of {found}")
    elif metadata["rwpm.walk"] or library:
        raise Refused(f"{package}: {library or LIBRARY} with its operators not found; pip install rwpm-fast has it")
    return torch._inductor.aoti_load_package(str(package)), metadata


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as a model takes it: uint8 [H, W, 3], RGB, contiguous, upright."""
    try:
        with Image.open(path) as picture:
            if picture.mode[:1] in "IF":
                raise Refused(f"{path}: expected 8 bits a channel, got mode {picture.mode}")
            photo = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error}") from None
    if min(photo.shape[:2]) < MIN_SIDE:
        raise Refused(f"{path}: expected at least {MIN_SIDE} pixels a side, got {photo.shape[1]}x{photo.shape[0]}")
    return photo


def overlay(photo: np.ndarray, score: np.ndarray, threshold: float | None) -> np.ndarray:
    """Color a score over its photo: yellow to orange up to the threshold, red from there on.

    Without a threshold red begins at the map's 99.9th percentile; colors begin at its 1st.
    """
    low = np.percentile(score, 1)
    high = np.percentile(score, 99.9) if threshold is None else threshold
    position = np.clip((score - low) / (high - low), 0, 1) if high > low else np.zeros(score.shape)
    alarm = score >= high if threshold is not None or high > low else np.zeros(score.shape, bool)
    yellow, orange, red = np.array([[255, 235, 60], [255, 130, 0], [225, 0, 40]], float)
    color = np.where(alarm[..., None], red, yellow + position[..., None] * (orange - yellow))
    share = np.where(alarm, 0.75, 0.55 * position)[..., None]
    gray = (photo @ [0.299, 0.587, 0.114])[..., None]
    return np.rint(gray + share * (color - gray)).astype(np.uint8)


def write_whole(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file beside its place and move it there, so that it is whole or not there."""
    beside = path.with_name(path.name + ".partial")
    with open(beside, "wb") as file:
        write(file)
    os.replace(beside, path)


def main(words: list[str] | None = None) -> int:
    """Run the script; its exit status."""
    parser = argparse.ArgumentParser(description="Score photos with an exported model.")
    parser.add_argument("package", type=Path, help="model.pt2")
    parser.add_argument("photos", type=Path, nargs="+", metavar="photo")
    parser.add_argument("--out", type=Path, default=Path("maps"), help="folder for the results (default: maps)")
    parser.add_argument("--library", type=Path, help=f"{LIBRARY} (default: beside the package, or of rwpm_fast)")
    options = parser.parse_args(words)
    try:
        model, metadata = load(options.package, options.library)
        threshold = float(metadata["rwpm.threshold"]) if metadata["rwpm.threshold"] else None
        options.out.mkdir(parents=True, exist_ok=True)
        for path in options.photos:
            photo = read_photo(path)
            with torch.inference_mode():
                score = model(torch.from_numpy(photo))[0].numpy()
            out = options.out / f"{path.stem}.npy"
            picture = Image.fromarray(overlay(photo, score, threshold))
            write_whole(out, partial(np.save, arr=score))
            write_whole(out.with_suffix(".png"), partial(picture.save, format="PNG"))
            print(f"{path}  {photo.shape[1]}x{photo.shape[0]}  highest score {score.max():.4g}  {out}")
    except Refused as error:
        print(f"run_pt2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
