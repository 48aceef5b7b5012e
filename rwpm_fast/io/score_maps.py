"""Read score maps of anybody's method from files: NumPy's, TIFF, PNG of 16 bits, and SegmentMeIfYouCan's HDF5."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .arrays import as_array
from .extras import import_extra
from .images import read_values

SUFFIXES = (".npy", ".npz", ".tif", ".tiff", ".hdf5", ".h5")
PNG = ".png"  # taken for maps only where nothing else can be: panels and masks lie beside maps
RESIZINGS = ("nearest", "bilinear")
_HDF5_NAME = "value"  # of the variable in files of SegmentMeIfYouCan's toolkit


class ScoreMapError(ValueError):
    """A score map that cannot be found, read or used; the message names it."""


def read_score_map(path: str | os.PathLike[str], png_range: tuple[float, float] | None = None) -> np.ndarray:
    """Read a score map as it is stored.

    ====================  =============================================================================================
    suffix                content
    ====================  =============================================================================================
    ``.npy``              floating-point array [H, W]; leading axes of length 1 are dropped
    ``.npz``              one such array, whatever its name
    ``.tif``, ``.tiff``   one channel of float32
    ``.png``              gray of 16 bits: 0 stands for the first score of ``png_range``, 65535 for the second
    ``.hdf5``, ``.h5``    such an array as the variable ``value`` (extra ``submission``)
    ====================  =============================================================================================

    Args:
        path: the file; what it is follows from its suffix.
        png_range: scores of the least and the largest value of a PNG.

    Returns:
        Scores: [H, W] float16, float32 or float64 as in the file; of a PNG float64.

    Raises:
        ScoreMapError: another suffix, not such a file, several arrays or none, or no range for a PNG.
        ImportError: h5py or Pillow is missing for such a file.

    Example:
        >>> scores = read_score_map("scores/0001.npy")
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == PNG and png_range is None:
        raise ScoreMapError(f"{path}: expected the scores that 0 and 65535 stand for, got none (--png-range LOW HIGH)")
    if suffix not in (*SUFFIXES, PNG):
        raise ScoreMapError(f"{path}: expected a score map that ends in {' '.join((*SUFFIXES, PNG))}, got {suffix}")
    try:
        if suffix in (".hdf5", ".h5"):
            scores = _read_hdf5(path)
        elif suffix in (".npy", ".npz"):
            scores = _read_numpy(path)
        else:
            scores = read_values(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScoreMapError(str(reason) if str(path) in str(reason) else f"{path}: cannot be read: {reason}") from error
    if suffix == PNG:
        if scores.dtype != np.uint16:
            raise ScoreMapError(f"{path}: expected a gray PNG of 16 bits, got {scores.dtype}")
        low, high = png_range or (0.0, 1.0)
        return low + (high - low) * (scores / 65535)
    return as_score_map(scores, str(path))


def as_score_map(scores: Any, name: str) -> np.ndarray:
    """Convert scores to an array of two axes.

    Args:
        scores: floating-point array or tensor [H, W]; leading axes of length 1 are dropped.
        name: what it is, for errors.

    Returns:
        Scores: [H, W] float16, float32 or float64.

    Raises:
        ScoreMapError: other numbers, or another shape.
    """
    try:
        array = as_array("scores", scores)
    except TypeError as error:
        raise ScoreMapError(f"{name}: {error}") from error
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ScoreMapError(f"{name}: expected float16, float32 or float64, got {array.dtype}")
    shape = list(array.shape)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or not array.size:
        raise ScoreMapError(f"{name}: expected one map [H, W], got the shape {shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def fit_score_map(scores: np.ndarray, size: tuple[int, int], resize: str | None, name: str) -> np.ndarray:
    """Check that a map is finite and has the size of its labels, or give it that size.

    Args:
        scores: [H, W] floating point.
        size: height and width of the labels.
        resize: rule for a map of another size: "nearest", the pixel whose center is nearest, or "bilinear" between
            centers; None to refuse it.
        name: what the map is, for errors.

    Returns:
        Scores: of that size; float16 becomes float32 where it is resized.

    Raises:
        ScoreMapError: NaN or infinity, or another size without a rule.
    """
    finite = np.isfinite(scores)
    if not finite.all():
        nan = int(np.isnan(scores).sum())
        infinite = finite.size - int(finite.sum()) - nan
        raise ScoreMapError(f"{name}: expected finite scores, got {nan} NaN and {infinite} infinite")
    if scores.shape == size:
        return scores
    if resize is None:
        height, width = scores.shape
        raise ScoreMapError(
            f"{name}: expected the labels' size {size[0]}x{size[1]}, got {height}x{width} (--resize-scores "
            f"{' or '.join(RESIZINGS)} resizes it)"
        )
    maps = torch.from_numpy(np.ascontiguousarray(scores))[None, None]
    maps = maps.float() if maps.dtype == torch.float16 else maps
    if resize == "nearest":
        return F.interpolate(maps, size, mode="nearest-exact")[0, 0].numpy()
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _read_numpy(path: Path) -> np.ndarray:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            names = ", ".join(content.files) or "none"
            raise ScoreMapError(f"{path}: expected a file of one array, got {names}; store the map alone")
        return content[content.files[0]]


def _read_hdf5(path: Path) -> np.ndarray:
    h5py = import_extra("h5py", "reading score maps in HDF5")
    with h5py.File(path, "r") as file:
        if _HDF5_NAME not in file:
            names = ", ".join(file) or "none"
            raise ScoreMapError(f"{path}: expected the variable {_HDF5_NAME}, got {names}")
        return np.asarray(file[_HDF5_NAME])
