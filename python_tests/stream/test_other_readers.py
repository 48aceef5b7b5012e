"""torchcodec and OpenCV, where PyAV is missing: the same frames and times, in colors that differ by a stated bound."""

import sys

import numpy as np
import pytest

from python_tests.stream.videos import encode, moving_planes
from rwpm_fast.stream import other_readers
from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.other_readers import OpenCVSource, TorchcodecSource
from rwpm_fast.stream.pyav import VideoSource

# As docs/guide/video_sources.md states them for pictures whose colors change smoothly.
LARGEST, BIAS = 4, (-2.0, 0.0)


@pytest.fixture(params=["torchcodec", "opencv"])
def open_other(request):
    if request.param == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
        return lambda path, color="auto": OpenCVSource(path, path, color)
    try:
        other_readers.import_torchcodec()
    except ImportError as error:
        pytest.skip(str(error))
    return TorchcodecSource


def smooth_planes(count, height=96, width=128):
    rows, columns = np.mgrid[:height, :width] / (height + width)
    return [
        [
            (70 + 120 * (0.5 + 0.5 * np.sin(6 * rows + 4 * columns + index))).astype(np.uint8),
            (100 + 56 * columns).astype(np.uint8),
            (156 - 56 * rows).astype(np.uint8),
        ]
        for index in range(count)
    ]


@pytest.mark.parametrize("tags", [(1, 1), (6, 1)])
def test_the_same_frames_within_the_bound(tmp_path, open_other, tags):
    path = str(tmp_path / "video.mkv")
    (tmp_path / "video.mkv").write_bytes(encode(smooth_planes(10), tags=tags, options={"qp": "0", "bf": "2"}))
    with VideoSource(path) as ours, open_other(path) as theirs:
        expected, frames = list(ours), list(theirs)
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx([frame.seconds for frame in expected])
    difference = np.stack([frame.photo for frame in frames]).astype(int) - np.stack([frame.photo for frame in expected])
    assert np.abs(difference).max() <= LARGEST and BIAS[0] < difference.mean() < BIAS[1]
    info = theirs.info
    assert info.rate == 25 and info.size == (96, 128) and info.kind == "video"
    assert "PyAV does better" in info.notes[0]


def test_an_untagged_file_is_told(tmp_path, open_other):
    path = str(tmp_path / "video.mkv")
    planes = [np.full((720, 64), value, np.uint8) for value in (81, 100, 150)]
    (tmp_path / "video.mkv").write_bytes(encode([planes]))
    with open_other(path) as source:
        (frame,) = source
    assert np.abs(frame.photo[0, 0].astype(int) - (111, 69, 19)).max() <= 2  # BT.601
    assert any("BT.601" in note and "from 720 lines up BT.709 is usual" in note for note in source.info.notes)


def test_a_matrix_is_refused(open_other):
    with pytest.raises(ValueError, match=r"color: .* takes no matrix, .* got 'bt709'; install PyAV"):
        open_other("video.mkv", "bt709")


def test_a_cut_file(tmp_path, open_other):
    data = encode(moving_planes(40), options={"crf": "18", "bf": "0"})
    (tmp_path / "video.mkv").write_bytes(data[: int(0.8 * len(data))])
    with open_other(str(tmp_path / "video.mkv")) as source:
        frames = list(source)
    assert 20 < len(frames) < 40


def test_what_is_no_video(tmp_path, open_other):
    (tmp_path / "video.mp4").write_bytes(b"no video at all" * 50)
    with pytest.raises(SourceError, match=r"video\.mp4: cannot be opened as a video"):
        open_other(str(tmp_path / "video.mp4"))


@pytest.mark.parametrize(
    ("module", "make"),
    [("torchcodec", lambda: TorchcodecSource("a.mp4")), ("cv2", lambda: OpenCVSource("a.mp4", "a.mp4"))],
)
def test_what_is_missing(monkeypatch, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.decoders", None)
    with pytest.raises(ImportError, match=rf"reader: {module} needs .* pip install 'rwpm-fast\[video\]'"):
        make()
