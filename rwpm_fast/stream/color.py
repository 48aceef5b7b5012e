"""Which matrix and range turn the YUV of a video into RGB.

A file says so by its tags. Many have none, and then the libraries assume BT.601, whatever the size, while cameras and
players take BT.709 from 720 lines up: red cones, traffic signs and grass come out in other colors than in photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Name of a matrix: Kr and Kb, the share of red and blue in luma (ITU-T H.273, table 4).
MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
COLORS = ("auto", *MATRICES)

# Code points of H.273 that FFmpeg and the files use: matrix coefficients.
_TAGS = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
_NO_MATRIX = 0  # the planes are G, B and R
_UNTAGGED = (2, 3)
_HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}  # transfer functions
HIGH_LINES = 720


@dataclass(frozen=True)
class ColorChoice:
    """How YUV becomes RGB.

    Attributes:
        matrix: a name of ``MATRICES``.
        full: whether values span 0..255; otherwise luma spans 16..235 and chroma 16..240.
        notes: what was chosen other than by the tags, and why, in words.
    """

    matrix: str
    full: bool
    notes: tuple[str, ...] = ()


def choose_color(color: str, *, tag: int, full: bool, lines: int, transfer: int = 2) -> ColorChoice:
    """Choose the matrix of a video.

    Args:
        color: "auto", or the name of a matrix that overrides the tags.
        tag: matrix coefficients by H.273, as in the file; 2 if it has none.
        full: whether the file is tagged with the full range.
        lines: height of its frames as stored.
        transfer: transfer function by H.273.

    Raises:
        ValueError: there is no such color.

    Example::

        choose_color("auto", tag=2, full=False, lines=720).matrix      # "bt709"
    """
    if color not in COLORS:
        raise ValueError(f"color: expected one of {', '.join(COLORS)}, got {color!r}")
    notes = [f"{_HDR[transfer]} is shown as it is, without tone mapping"] if transfer in _HDR else []
    tagged = _TAGS.get(tag)
    usual = "bt709" if lines >= HIGH_LINES else "bt601"
    matrix = tagged or usual
    if color != "auto":
        matrix = color
        notes.append(f"colors: {_name(color)}, as asked for; the file is {_tagged_as(tag)}")
    elif tagged is None and tag != _NO_MATRIX:
        sizes = f"{HIGH_LINES} lines and more" if lines >= HIGH_LINES else f"less than {HIGH_LINES} lines"
        notes.append(f"colors: {_name(usual)}, as usual for {sizes}; the file is {_tagged_as(tag)}")
    return ColorChoice(matrix, full, tuple(notes))


def _name(matrix: str) -> str:
    return matrix.upper().replace("BT", "BT.")


def _tagged_as(tag: int) -> str:
    if tag in _TAGS:
        return f"tagged {_name(_TAGS[tag])}"
    return "not tagged" if tag in _UNTAGGED else f"tagged with matrix {tag} of H.273, which is not supported"


def yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray, choice: ColorChoice) -> np.ndarray:
    """Convert planes of equal size, exactly, to the nearest value.

    Args:
        y: luma, [H, W] uint8.
        u: blue-difference chroma, [H, W] uint8.
        v: red-difference chroma, [H, W] uint8.
        choice: matrix and range.

    Returns:
        Photo: [H, W, 3] uint8.
    """
    red, blue = MATRICES[choice.matrix]
    green = 1 - red - blue
    luma = y.astype(np.float32) * (1 / 255) if choice.full else (y.astype(np.float32) - 16) * (1 / 219)
    span = 255 if choice.full else 224
    cb, cr = ((plane.astype(np.float32) - 128) * (2 / span) for plane in (u, v))
    r = luma + (1 - red) * cr
    b = luma + (1 - blue) * cb
    g = luma - (red * (1 - red) * cr + blue * (1 - blue) * cb) / green
    return np.clip(np.rint(np.stack([r, g, b], axis=-1) * 255), 0, 255).astype(np.uint8)
