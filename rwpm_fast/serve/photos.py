"""Photos that are uploaded: checked by their header, decoded from memory, and reduced where they are large."""

from __future__ import annotations

import io
import warnings

import numpy as np

from ..io.extras import import_extra
from ..io.images import ImageError, read_header, read_image
from ..memory import is_out_of_memory
from .limits import Limits, Refusal

# Formats in which cameras and browsers keep photos. Pillow would start other programs for some that it knows.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "BMP", "TIFF")
_EXPECTED = "expected a photo in JPEG, PNG, WebP, AVIF, BMP or TIFF"


class _Upload(io.BytesIO):
    name = "the upload"  # in messages


def decode_upload(data: bytes | bytearray, limits: Limits) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an uploaded photo and turn it upright.

    Args:
        data: content of the file.
        limits: of the server.

    Returns:
        The photo, [H, W, 3] uint8, no side longer than ``limits.longest_side``; and height and width before.

    Raises:
        Refusal: it is no photo, too large, or broken.
    """
    Image = import_extra("PIL.Image", "serve")
    file = _Upload(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        try:
            header = read_header(file)
        except ImageError as error:
            if isinstance(error.__cause__, Image.DecompressionBombError):
                raise Refusal(413, _too_large("it has more", limits)) from error
            raise Refusal(415, f"{error}; {_EXPECTED}") from error
        if header.format not in FORMATS:
            raise Refusal(415, f"the upload: {_EXPECTED}, got {header.format}")
        height, width = header.upright_size
        if height * width > limits.photo_pixels:
            raise Refusal(413, _too_large(f"got {width}x{height}", limits))
        file.seek(0)
        try:
            photo = read_image(file, upright=True)
        except ImageError as error:
            raise Refusal(422, str(error)) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise Refusal(413, f"the upload: no memory for {width}x{height} pixels; make it smaller") from error
    return _reduced(photo, limits.longest_side), (height, width)


def _too_large(got: str, limits: Limits) -> str:
    megapixels = limits.photo_pixels / 1e6
    return f"the upload: expected at most {megapixels:g} megapixels, {got}; make the photo smaller"


def _reduced(photo: np.ndarray, longest_side: int) -> np.ndarray:
    """Reduce a photo whose longer side is above a limit, by antialiased bilinear interpolation."""
    height, width = photo.shape[:2]
    if max(height, width) <= longest_side:
        return photo
    Image = import_extra("PIL.Image", "serve")
    factor = longest_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))


def encode_photo(photo: np.ndarray) -> bytes:
    """Encode a photo [H, W, 3] for the page to show: JPEG, which is not what is scored."""
    Image = import_extra("PIL.Image", "serve")
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=92)
    return file.getvalue()
