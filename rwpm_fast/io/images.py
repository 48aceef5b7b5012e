"""Find and read images and label images, and convert them to [H, W, 3] uint8."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .files import natural_key
from .text import listed

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class ImageError(ValueError):
    """A photo or a label file that cannot be found, read or used; the message names it."""


def read_image(path: str | os.PathLike[str], *, upright: bool = False) -> np.ndarray:
    """Read a photo as RGB.

    Grayscale is repeated in the three channels, an alpha channel is dropped, 16 bits a channel are scaled to 8, and of
    several frames the first is read.

    Args:
        path: the file; the format follows from its content, not from its suffix.
        upright: rotate the photo as its EXIF orientation says. Off by default, since label images are not rotated; TIFF
            files are rotated in any case, because Pillow does so by itself.

    Returns:
        Photo: [H, W, 3] uint8.

    Raises:
        ImageError: the file is missing, not a picture, cut short, or holds floating-point pixels.
    """
    picture = _open(path)
    if upright:
        from PIL import ImageOps

        picture = ImageOps.exif_transpose(picture)
    return _rgb(picture, f"photo {path}")


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the pixel values or palette indices of a label image unchanged; of three equal channels the first.

    Args:
        path: the file; the format follows from its content, not from its suffix.

    Returns:
        Labels: [H, W] integer, uint8 or as wide as in the file.

    Raises:
        ImageError: the file is missing, not a picture, cut short, or a picture in color.
    """
    picture = _open(path)
    labels = np.array(picture)
    if picture.mode == "RGB" and (labels == labels[..., :1]).all():
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise ImageError(f"labels {path}: expected one channel of integer class ids, got mode {picture.mode}")
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def as_image(photo: Any) -> np.ndarray:
    """Convert a photo in any usual form to RGB.

    Args:
        photo: a PIL image; an array [H, W, 3], [H, W, 4] (alpha is dropped) or [H, W] (grayscale); or a tensor
            [3, H, W]. Values are uint8, or floating point in 0..255, which is rounded. Floating point in 0..1 is an
            error: read as 0..255 it would be a black photo, without any sign of it.

    Returns:
        Photo: [H, W, 3] uint8, RGB, contiguous.

    Raises:
        TypeError: neither image, array nor tensor, or values of another type.
        ImageError: another shape, no pixels, or values out of range.
    """
    if hasattr(photo, "getbands"):
        return _rgb(photo, "photo")
    if isinstance(photo, torch.Tensor):
        if photo.dim() != 3 or photo.shape[0] != 3:
            raise ImageError(f"photo: expected a tensor of shape [3, H, W], got {list(photo.shape)}")
        tensor = photo.detach().permute(1, 2, 0)
        pixels = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    elif isinstance(photo, np.ndarray):
        if photo.ndim != 2 and not (photo.ndim == 3 and photo.shape[2] in (3, 4)):
            raise ImageError(
                f"photo: expected an array of shape [H, W, 3], [H, W, 4] or [H, W], got {list(photo.shape)}"
            )
        pixels = np.stack([photo] * 3, axis=-1) if photo.ndim == 2 else photo[..., :3]
    else:
        raise TypeError(f"photo: expected a PIL image, an array or a tensor, got {type(photo).__name__}")
    if pixels.size == 0:
        raise ImageError(f"photo: expected at least one pixel, got shape {list(photo.shape)}")
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 255):
            raise ImageError(f"photo: expected values in 0..255, got {low:g}..{high:g}")
        if 0 < high <= 1:
            raise ImageError(f"photo: expected values in 0..255, got {low:g}..{high:g}; multiply by 255 first")
        pixels = pixels.round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise TypeError(f"photo: expected uint8, or floating point in 0..255, got {photo.dtype}")
    return np.ascontiguousarray(pixels)


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the photo files that files, folders and glob patterns stand for.

    A folder stands for the photos directly in it, a pattern for those it matches; both in natural order (frame 9 before
    frame 10) and without hidden files. A file that is named is used whatever its suffix.

    Args:
        paths: one or several files, folders or patterns.

    Returns:
        Files in the order of ``paths``, each once.

    Raises:
        ImageError: a path that does not exist, or a folder or pattern without a photo.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = _images_among(path.iterdir())
        else:
            matches = _images_among(map(Path, glob.glob(str(given), recursive=True)))
        if not matches:
            what = "no photos in this folder" if path.is_dir() else "no such file or folder, nor a pattern with a match"
            raise ImageError(f"{given}: {what} (photos end in {' '.join(IMAGE_SUFFIXES)})")
        found.update(dict.fromkeys(matches))
    return list(found)


def pair_labels(photos: Iterable[Path], labels_dir: str | os.PathLike[str]) -> list[tuple[Path, Path]]:
    """Pair each photo with its label image: the PNG of equal stem in ``labels_dir``.

    Args:
        photos: photo files.
        labels_dir: folder of label images.

    Returns:
        Pairs of photo and label file, in the order of ``photos``.

    Raises:
        ImageError: there is no such folder, labels are missing, or two photos share a stem and so a label; the message
            names them.
    """
    labels_dir = Path(labels_dir)
    if not labels_dir.is_dir():
        raise ImageError(f"labels: expected a folder of label PNGs, got {labels_dir}, which is none")
    pairs: dict[Path, Path] = {}
    missing = []
    for photo in photos:
        label = labels_dir / f"{photo.stem}.png"
        if label in pairs:
            raise ImageError(f"{photo} and {pairs[label]} would share the label {label}")
        if not label.is_file():
            missing.append(label.name)
        pairs[label] = photo
    if missing:
        raise ImageError(
            f"{labels_dir}: {len(missing)} of {len(pairs)} labels missing: {listed(missing)}; "
            "each photo needs the PNG of its stem"
        )
    return [(photo, label) for label, photo in pairs.items()]


def _open(path: str | os.PathLike[str]) -> Any:
    """Open a file as a PIL image and load its pixels."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install 'rwpm_fast[cli]'") from error
    # Pillow's decoders report broken content by any of these.
    broken = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture that can be read") from error
    except broken as error:
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _rgb(picture: Any, name: str) -> np.ndarray:
    """Convert a PIL image to [H, W, 3] uint8."""

    if picture.mode == "F":
        raise ImageError(f"{name}: expected 8 or 16 bits a channel, got floating-point pixels")
    if picture.mode.startswith("I"):
        # Pillow would clip 16-bit gray at 255 instead of scaling it.
        gray = np.asarray(picture)
        if gray.min() < 0 or gray.max() > 65535:
            raise ImageError(f"{name}: expected 16-bit values in 0..65535, got {gray.min()}..{gray.max()}")
        return np.stack([np.round(gray / 257).astype(np.uint8)] * 3, axis=-1)
    return np.array(picture.convert("RGB"))


def _images_among(paths: Iterable[Path]) -> list[Path]:
    photos = (p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(photos, key=natural_key)
