"""Find and read images and label images, and convert images to [H, W, 3] uint8."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from .arrays import as_array
from .extras import import_extra
from .listing import IMAGE_SUFFIXES, LABEL_SUFFIXES, Listing, is_dead_link, sift, sift_folder
from .text import listed

# EXIF orientation to the method of PIL.Image.Transpose that turns such a picture upright.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION = 274  # the tag's number
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class ImageError(ValueError):
    """A photo or a label file that cannot be found, read or used; the message names it."""


def read_image(path: str | os.PathLike[str] | BinaryIO, *, upright: bool = False) -> np.ndarray:
    """Read a photo as RGB.

    Grayscale is repeated in the three channels, an alpha channel is dropped, 16 bits a channel are scaled to 8, and of
    several frames the first is read.

    Args:
        path: the file, or one that is open for reading bytes; the format follows from its content, not from its
            suffix.
        upright: turn the photo as its EXIF orientation says, as viewers do. Off by default: the pixels as they are
            stored, which is how most label images belong to them; see :class:`rwpm_fast.data.Frame`.

    Returns:
        Photo: [H, W, 3] uint8.

    Raises:
        ImageError: the file is missing, not a picture, cut short, or holds floating-point pixels.
    """
    picture, orientation = _open(path)
    return _rgb(_turned(picture, orientation) if upright else picture, f"photo {_name(path)}")


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the values of a label image: the gray levels that viewers show, or the indices of a palette with colors.

    =====================================  ============================================================================
    coding                                 value of a pixel
    =====================================  ============================================================================
    gray, 8 or 16 bits                     as stored
    gray, 1, 2 or 4 bits                   scaled to 0..255, as readers of PNG do: the set pixels of 1 bit are 255
    palette of nothing but grays           the gray level
    palette with a color, used or not      the index
    color, or gray with alpha              the gray level, where the color channels agree and no pixel is transparent
    =====================================  ============================================================================

    A label image is read as it is stored, whatever its EXIF orientation.

    Args:
        path: the file; the format follows from its content, not from its suffix.

    Returns:
        Labels: [H, W] integer, uint8 or as wide as in the file.

    Raises:
        ImageError: the file is missing, not a picture, cut short, in color, transparent, or of a coding that Pillow
            would change.
    """
    picture, _ = _open(path)
    if ";16" in picture.info["rawmode"] and not picture.mode.startswith("I"):
        raise ImageError(f"labels {path}: expected one channel, got several of 16 bits, which Pillow cuts to 8")
    if picture.mode == "P":
        return _palette_labels(picture, path)
    labels = np.array(picture.convert("L") if picture.mode == "1" else picture)
    if picture.mode in ("LA", "RGBA"):
        if hidden := int((labels[..., -1] < 255).sum()):
            raise ImageError(f"labels {path}: expected opaque pixels, got {hidden} that are transparent; flatten them")
        labels = labels[..., :-1]
    if picture.mode in ("LA", "RGB", "RGBA") and (labels == labels[..., :1]).all():
        labels = labels[..., 0]
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ImageError(f"labels {path}: expected one channel of integer class ids, got mode {picture.mode}")
    return np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))


def read_values(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture of one channel of numbers as it is stored, such as depths or scores.

    Args:
        path: the file; the format follows from its content, not from its suffix.

    Returns:
        Values: [H, W] uint8, uint16 or float32.

    Raises:
        ImageError: the file is missing, not a picture, cut short, of several channels, or of a coding that Pillow would
            change.
    """
    picture, _ = _open(path)
    coding = picture.info["rawmode"]
    if picture.mode not in ("L", "F") and not picture.mode.startswith("I;16"):
        raise ImageError(f"{path}: expected one channel of 8 or 16 bits or of float32, got mode {picture.mode}")
    if picture.mode == "F" and "F;32" not in coding:
        raise ImageError(f"{path}: expected float32, got {coding}, which Pillow would change")
    values = np.array(picture)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself before its pixels are decoded.

    Attributes:
        size: height and width as stored.
        orientation: EXIF orientation, 1..8; 1 is upright, and from 5 on height and width change places.
        lossy: whether it is stored as JPEG, which alters values.
        indexed: whether its labels are indices of a palette with colors.
        format: Pillow's name of the format, such as "JPEG".
    """

    size: tuple[int, int]
    orientation: int
    lossy: bool
    indexed: bool
    format: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width once it is turned upright."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def read_header(path: str | os.PathLike[str] | BinaryIO) -> Header:
    """Read what a picture file says of itself.

    Args:
        path: the file, or one that is open for reading bytes.

    Raises:
        ImageError: the file is missing or not a picture.
    """
    with _opened(path) as picture:
        orientation = _orientation(picture, decoded=False)
        width, height = picture.size
        if picture.format == "TIFF":  # Pillow's size is that of the stored or of the turned picture, by version
            width, height = (int(picture.tag_v2[tag]) for tag in (256, 257))
        indexed = picture.mode == "P" and not _is_gray(_palette(picture))
        return Header((height, width), orientation, picture.format in ("JPEG", "MPO"), indexed, str(picture.format))


def as_image(photo: Any) -> np.ndarray:
    """Convert a photo in any usual form to RGB.

    Args:
        photo: a PIL image; an array [H, W, 3], [H, W, 4] (alpha is dropped) or [H, W] (grayscale); or a tensor
            [3, H, W]. Values are uint8, or floating point in 0..255, which is rounded. Floating point in 0..1 is an
            error: read as 0..255 it would be a black photo, without any sign of it.

    Returns:
        Photo: [H, W, 3] uint8, RGB, contiguous.

    Raises:
        TypeError: neither image, array nor tensor, an array with a mask of its own, or values of another type.
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
        photo = as_array("photo", photo)
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
    """List the photo files that files, folders and glob patterns stand for; see :func:`list_images`."""
    return list_images(paths).used


def list_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Listing:
    """List the photo files that files, folders and glob patterns stand for, and the files beside them.

    A folder stands for the photos directly in it, a pattern for those it matches; both in natural order (frame 9 before
    frame 10) and without hidden files. A file that is named is used whatever its suffix.

    Args:
        paths: one or several files, folders or patterns.

    Returns:
        Files in the order of ``paths``, each once; those of other suffixes in ``unused``.

    Raises:
        ImageError: a path that does not exist, or a folder or pattern without a photo.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    used: dict[Path, None] = {}
    unused: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_file() or is_dead_link(path):
            found = Listing([path])
        elif path.is_dir():
            found = sift_folder(path, IMAGE_SUFFIXES)
        else:
            found = sift(map(Path, glob.glob(str(given), recursive=True)), IMAGE_SUFFIXES)
        if not found.used:
            what = "no photos in this folder" if path.is_dir() else "no such file or folder, nor a pattern with a match"
            deeper = (
                f"; the pattern '{path / '**' / '*'}' stands for those in the folders below" if path.is_dir() else ""
            )
            raise ImageError(f"{given}: {what}{deeper} (photos end in {' '.join(IMAGE_SUFFIXES)})")
        used.update(dict.fromkeys(found.used))
        unused.update(dict.fromkeys(found.unused))
    return Listing(list(used), [path for path in unused if path not in used])


@dataclass(frozen=True)
class Pairing:
    """Photos and the label images of another folder, joined by their stems.

    Attributes:
        pairs: photo to label file, in the order of the photos.
        missing: photos without a label file.
        labels: stem to every label file of the folder.
        unused: files of the folder that are no label files by their suffix.
    """

    pairs: dict[Path, Path]
    missing: list[Path]
    labels: dict[str, Path]
    unused: list[Path]

    def require_complete(self, labels_dir: str | os.PathLike[str]) -> None:
        """Raise ImageError, with the names, if label files are missing."""
        if self.missing:
            others = f"; files there of another suffix: {listed(p.name for p in self.unused)}" if self.unused else ""
            raise ImageError(
                f"{labels_dir}: {len(self.missing)} of {len(self.pairs) + len(self.missing)} labels missing: "
                f"{listed(f'{photo.stem}.png' for photo in self.missing)}; each photo needs the PNG of its stem{others}"
            )


def join_labels(photos: Iterable[Path], labels_dir: str | os.PathLike[str]) -> Pairing:
    """Join photos with their label images: the PNG of equal stem in ``labels_dir``, its suffix in any case.

    Args:
        photos: photo files.
        labels_dir: folder of label images.

    Raises:
        ImageError: there is no such folder, two photos share a stem and so a label, or two labels do.
    """
    labels_dir = Path(labels_dir)
    if not labels_dir.is_dir():
        raise ImageError(f"labels: expected a folder of label PNGs, got {labels_dir}, which is none")
    listing = sift_folder(labels_dir, LABEL_SUFFIXES)
    pairing = Pairing({}, [], {}, listing.unused)
    for label in listing.used:
        if label.stem in pairing.labels:
            raise ImageError(f"{pairing.labels[label.stem]} and {label}: two label files of one photo; keep one")
        pairing.labels[label.stem] = label
    by_stem: dict[str, Path] = {}
    for photo in photos:
        if photo.stem in by_stem:
            raise ImageError(
                f"{photo} and {by_stem[photo.stem]} would share the label {labels_dir / f'{photo.stem}.png'}"
            )
        by_stem[photo.stem] = photo
        if photo.stem in pairing.labels:
            pairing.pairs[photo] = pairing.labels[photo.stem]
        else:
            pairing.missing.append(photo)
    return pairing


def pair_labels(photos: Iterable[Path], labels_dir: str | os.PathLike[str]) -> list[tuple[Path, Path]]:
    """Pair each photo with its label image; see :func:`join_labels`.

    Returns:
        Pairs of photo and label file, in the order of ``photos``.

    Raises:
        ImageError: see :func:`join_labels`, or labels are missing; the message names them.
    """
    pairing = join_labels(photos, labels_dir)
    pairing.require_complete(labels_dir)
    return list(pairing.pairs.items())


def _name(path: str | os.PathLike[str] | BinaryIO) -> str:
    """Name of a file for messages."""
    return str(path) if isinstance(path, (str, os.PathLike)) else str(getattr(path, "name", "the file"))


@contextmanager
def _opened(path: str | os.PathLike[str] | BinaryIO) -> Iterator[Any]:
    """Open a file as a PIL image whose pixels are not loaded yet; errors of Pillow become ours."""
    Image = import_extra("PIL.Image", "reading pictures")
    # Pillow's decoders report broken content by any of these.
    broken = (*_BROKEN, Image.DecompressionBombError)
    try:
        # A file, not a path, which Pillow would map into memory: in TIFF files it then mixes up height and width of
        # the pixels that are to be turned by a quarter.
        with (
            open(path, "rb") if isinstance(path, (str, os.PathLike)) else nullcontext(path) as file,
            Image.open(file) as picture,
        ):
            yield picture
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{_name(path)}: not a picture that can be read") from error
    except broken as error:
        if isinstance(path, (str, os.PathLike)) and is_dead_link(path):
            raise ImageError(f"{path}: cannot be read: a link to {os.readlink(path)}, which is not there") from error
        raise ImageError(f"{_name(path)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _open(path: str | os.PathLike[str] | BinaryIO) -> tuple[Any, int]:
    """Open a file as a PIL image with its pixels as they are stored; and its EXIF orientation."""
    with _opened(path) as picture:
        picture.info["rawmode"] = str(picture.tile[0][3]) if picture.tile else ""  # gone once the pixels are loaded
        if picture.format != "TIFF":
            picture.load()
            return picture, _orientation(picture)
        orientation = _orientation(picture)
        picture.load()
        # Pillow has turned it. Turning back is the same method, but for the quarter turns.
        return _turned(picture, {6: 8, 8: 6}.get(orientation, orientation)), orientation


def _orientation(picture: Any, *, decoded: bool = True) -> int:
    """Return the EXIF orientation, 1..8; 1 where there is none or none that can be read.

    Args:
        picture: the picture.
        decoded: whether its pixels are loaded. Pillow would load those of any PNG for what may stand behind them.
    """
    from PIL import Image

    try:
        whole = decoded or picture.format != "PNG" or _png_goes_on(picture.fp)
        exif = picture.getexif() if whole else Image.Image.getexif(picture)
        orientation = exif.get(_ORIENTATION)
    except _BROKEN:  # the pixels may be whole
        return 1
    return orientation if orientation in _TURNS else 1


def _png_goes_on(file: BinaryIO) -> bool:
    """Whether a PNG has EXIF or text behind its pixels; the file's position stays."""
    position = file.tell()
    behind = False
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        behind = behind or kind == b"IDAT"
        if behind and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            break
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return len(head) == 8


def _turned(picture: Any, orientation: int) -> Any:
    """Turn a picture of an EXIF orientation upright."""
    from PIL import Image

    return picture if orientation == 1 else picture.transpose(Image.Transpose[_TURNS[orientation]])


def _palette_labels(picture: Any, path: str | os.PathLike[str]) -> np.ndarray:
    """Return the gray levels that a palette of grays stands for, or else the indices."""
    indices, palette = np.array(picture), _palette(picture)
    if not _is_gray(palette):
        return indices
    if indices.max(initial=0) >= len(palette):
        raise ImageError(f"labels {path}: index {indices.max()} is beyond the {len(palette)} entries of its palette")
    return palette[:, 0][indices]


def _palette(picture: Any) -> np.ndarray:
    """Return the palette, [entries, 3] uint8."""
    return np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _is_gray(palette: np.ndarray) -> bool:
    return bool((palette == palette[:, :1]).all())


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
