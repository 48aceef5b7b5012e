"""What a source gave against what it declares."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from rwpm_fast.stream.endings import Tally, declared_seconds, ends_within_a_box
from rwpm_fast.stream.frame import BrokenFrame, VideoFrame

PHOTO = np.zeros((1, 1, 3), np.uint8)


def notes_of(times, declared=None, frames=0, rate=25.0, broken=(), marks=()):
    tally = Tally()
    for index, seconds in enumerate(times):
        if index in broken:
            tally.count(BrokenFrame(index, seconds, "cut"))
        else:
            tally.count(VideoFrame(index, seconds, PHOTO, ("damaged",) if index in marks else ()))
    return tally.notes(declared, frames, rate)


TIMES = [index / 25 for index in range(50)]


@pytest.mark.parametrize(
    ("times", "declared", "missing"),
    [
        (TIMES, (2.0, 0.0), None),
        (TIMES[:49], (2.0, 0.0), "declares 2.00 s; its last frame is at 1.92 s: 0.04 s, about 1 frame are missing"),
        (TIMES[:29], (2.0, 0.0), "declares 2.00 s; its last frame is at 1.12 s: 0.84 s, about 21 frames are missing"),
        (TIMES[:29], (2.0, 1.0), None),  # sound may last longer
        ([5 + seconds for seconds in TIMES], (2.0, 0.0), None),  # declared from the first frame on
        ([5 + seconds for seconds in TIMES], (7.0, 0.0), None),  # or as the time of the end
        ([None] * 3, (2.0, 0.0), None),
    ],
)
def test_declared_duration(times, declared, missing):
    assert notes_of(times, declared) == ([missing] if missing else [])


def test_without_a_rate_no_frames_are_counted():
    assert notes_of([0.0, 1.0], (2.0, 0.0), rate=None) == [
        "declares 2.00 s; its last frame is at 1.00 s: 1.00 s are missing"
    ]


def test_counts():
    assert notes_of(TIMES, frames=60, broken=[1], marks=[3, 4]) == [
        "1 of 50 frames are broken",
        "2 of 50 frames: damaged",
        "declares 60 frames and gives 50",
    ]
    assert notes_of([]) == ["no frames"]


def container(duration=None, streams=1):
    return SimpleNamespace(duration=duration, streams=[None] * streams)


def stream(duration=None, **metadata):
    return SimpleNamespace(duration=duration, time_base=Fraction(1, 1000), metadata=metadata)


def test_where_a_duration_is_declared():
    assert declared_seconds(container(9_000_000), stream(2000)) == (2.0, 0.0)
    assert declared_seconds(container(9_000_000), stream(DURATION="01:00:02.500000000")) == (3602.5, 0.0)
    assert declared_seconds(container(9_000_000), stream()) == (9.0, 0.0)
    assert declared_seconds(container(9_000_000, streams=2), stream()) == (9.0, 1.0)
    assert declared_seconds(container(), stream()) is None


def box(kind, content=b"", size=None):
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + kind + content


@pytest.mark.parametrize(
    ("data", "cut"),
    [
        (box(b"ftyp", bytes(8)) + box(b"mdat", bytes(20)), False),
        (box(b"ftyp", bytes(8)) + box(b"mdat", bytes(20))[:-1], True),
        (box(b"ftyp", bytes(8)) + box(b"moof")[:5], True),
        (box(b"ftyp", bytes(8)) + box(b"mdat", bytes(20), size=0), False),  # to the end of the file
        (box(b"mdat", (36).to_bytes(8, "big") + bytes(20), size=1), False),  # 64 bits
        (box(b"mdat", (36).to_bytes(8, "big") + bytes(19), size=1), True),
        (b"", False),
    ],
)
def test_boxes(tmp_path, data, cut):
    path = tmp_path / "video.mp4"
    path.write_bytes(data)
    assert ends_within_a_box(str(path)) is cut
