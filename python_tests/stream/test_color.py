"""The matrix of a video, and the conversion to RGB."""

import numpy as np
import pytest

from rwpm_fast.stream.color import MATRICES, ColorChoice, choose_color, yuv_to_rgb

# ITU-T H.273 and FFmpeg by number: BT.709, none, BT.470BG, SMPTE 170M, BT.2020, YCgCo.
BT709, UNTAGGED, BT470BG, SMPTE170M, BT2020, YCGCO = 1, 2, 5, 6, 9, 8


@pytest.mark.parametrize(
    ("tag", "lines", "matrix", "note"),
    [
        (BT709, 480, "bt709", None),
        (BT470BG, 1080, "bt601", None),
        (SMPTE170M, 1080, "bt601", None),
        (BT2020, 2160, "bt2020", None),
        (UNTAGGED, 720, "bt709", "colors: BT.709, as usual for 720 lines and more; the file is not tagged"),
        (UNTAGGED, 719, "bt601", "colors: BT.601, as usual for less than 720 lines; the file is not tagged"),
        (YCGCO, 720, "bt709", "matrix 8 of H.273, which is not supported"),
        (0, 720, "bt709", None),  # RGB: no matrix is used
    ],
)
def test_matrix_by_tag_or_size(tag, lines, matrix, note):
    choice = choose_color("auto", tag=tag, full=False, lines=lines)
    assert choice.matrix == matrix and not choice.full
    assert (note is None and not choice.notes) or note in choice.notes[0]


def test_color_overrides_the_tags_and_says_so():
    choice = choose_color("bt601", tag=BT709, full=True, lines=1080)
    assert choice.matrix == "bt601" and choice.full
    assert choice.notes == ("colors: BT.601, as asked for; the file is tagged BT.709",)


def test_hdr_is_noted():
    assert "PQ" in choose_color("auto", tag=BT2020, full=False, lines=2160, transfer=16).notes[0]


def test_unknown_color():
    with pytest.raises(ValueError, match=r"color: expected one of auto, bt601, .*, got 'rec709'"):
        choose_color("rec709", tag=2, full=False, lines=720)


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [
        ((81, 100, 150), (115, 70, 17)),
        ((180, 128, 128), (191, 191, 191)),
        ((235, 128, 128), (255, 255, 255)),
        ((16, 128, 128), (0, 0, 0)),
        ((60, 100, 150), (91, 45, 0)),
    ],
)
def test_right_values_of_bt709(yuv, rgb):
    planes = [np.full((2, 2), value, np.uint8) for value in yuv]
    photo = yuv_to_rgb(*planes, ColorChoice("bt709", full=False))
    assert photo.shape == (2, 2, 3) and photo.dtype == np.uint8
    assert (photo == rgb).all()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_pure_colors_survive(matrix, full):
    """The matrix of the standard forward, here in float64, then back."""
    red, blue = MATRICES[matrix]
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 120, 0], [0, 0, 0], [255, 255, 255]]) / 255
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = [(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)]
    y = np.rint(255 * luma if full else 16 + 219 * luma)
    u, v = (np.rint(128 + (255 if full else 224) * plane).clip(0, 255) for plane in chroma)
    photo = yuv_to_rgb(*(plane.astype(np.uint8)[None] for plane in (y, u, v)), ColorChoice(matrix, full))
    assert np.abs(photo[0] - 255 * rgb).max() <= 2  # by rounding to 8 bits alone


def test_swscale_as_the_reader_calls_it_rounds_rightly():
    av = pytest.importorskip("av")
    from rwpm_fast.stream.frame import SourceInfo
    from rwpm_fast.stream.pyav import Converter

    legal = np.random.default_rng(0).integers(16, 236, (3, 96, 128), np.uint8)
    for matrix in ("bt601", "bt709", "bt2020"):
        if matrix == "bt2020" and not hasattr(pytest.importorskip("av.video.reformatter").Colorspace, "BT2020"):
            with pytest.raises(ValueError, match="color: 'bt2020' needs PyAV 18 or later"):
                Converter(matrix, SourceInfo("", "video", ""))
            continue
        photo = Converter(matrix, SourceInfo("", "video", ""))(av.VideoFrame.from_ndarray(legal, format="yuv444p"))
        exact = yuv_to_rgb(*legal, ColorChoice(matrix, full=False))
        difference = np.abs(photo.astype(int) - exact)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
