"""Uploads become photos, upright and not too large; nothing of them stays."""

import numpy as np
import pytest
from PIL import Image

from rwpm_fast.io.images import ImageError, read_header, read_image
from rwpm_fast.serve.limits import Limits
from rwpm_fast.serve.photos import FORMATS, decode_upload

from .serving import encoded, picture


@pytest.mark.parametrize("format", sorted({*FORMATS} - {"MPO"}))
def test_every_format(format):
    from PIL import features

    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    photo, size = decode_upload(encoded(picture(), format), Limits())
    assert photo.shape == (64, 96, 3) and photo.dtype == np.uint8 and size == (64, 96)
    if format in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(photo, picture())


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[274] = 6
    photo, size = decode_upload(encoded(picture(), "PNG", exif=exif), Limits())
    assert size == (96, 64) and np.array_equal(photo, np.rot90(picture(), -1))


def test_a_large_photo_is_reduced():
    photo, size = decode_upload(encoded(picture((60, 200))), Limits(longest_side=100))
    assert photo.shape == (30, 100, 3) and size == (60, 200)
    expected = Image.fromarray(picture((60, 200))).resize((100, 30), Image.Resampling.BILINEAR)
    assert np.array_equal(photo, np.asarray(expected))
    thin, _ = decode_upload(encoded(picture((1, 300))), Limits(longest_side=100))
    assert thin.shape == (1, 100, 3)


def test_files_that_are_open(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    with open(path, "rb") as file:
        assert read_header(file) == read_header(path)
    with open(path, "rb") as file:
        assert np.array_equal(read_image(file), read_image(path))
        assert not file.closed
    path.write_bytes(b"text")
    with open(path, "rb") as file, pytest.raises(ImageError, match=r"a\.png: not a picture"):
        read_image(file)
