"""What a source is, by its name."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from rwpm_fast.stream import sources
from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.sources import open_source


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Replace what opens by what tells; in a folder with one file of each kind."""
    for name in ("FolderSource", "RecordingSource", "VideoSource", "TorchcodecSource", "OpenCVSource"):
        monkeypatch.setattr(sources, name, lambda *arguments, name=name: (name, *arguments))
    for name in ("open_address", "open_camera"):
        monkeypatch.setattr(sources, name, lambda *arguments, name=name: (name, *arguments))
    for name in ("a.mp4", "a.MCAP", "a.bag", "a.png", "7", "bag/metadata.yaml", "photos/1.png", "x.db3"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return open_source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.mp4", ("VideoSource", "a.mp4", "auto")),
        (Path("a.mp4"), ("VideoSource", "a.mp4", "auto")),
        ("7", ("VideoSource", "7", "auto")),  # a file of this name
        ("a.MCAP", ("RecordingSource", "a.MCAP", None, "auto")),
        ("a.bag", ("RecordingSource", "a.bag", None, "auto")),
        ("bag", ("RecordingSource", "bag", None, "auto")),
        ("photos", ("FolderSource", "photos", None)),
        ("a.png", ("FolderSource", "a.png", None)),
        ("photos/*.png", ("FolderSource", "photos/*.png", None)),
        (0, ("open_camera", "0", 0, "auto", "pyav")),
        ("0", ("open_camera", "0", 0, "auto", "pyav")),
        ("/dev/video93", ("open_camera", "/dev/video93", "/dev/video93", "auto", "pyav")),
        (os.devnull, ("open_camera", os.devnull, os.devnull, "auto", "pyav")),
        ("rtsp://camera/1", ("open_address", "rtsp://camera/1", "auto")),
    ],
)
def test_kinds(opened, source, expected):
    assert opened(source) == expected


def test_arguments_are_handed_on(opened):
    assert opened("a.mp4", color="bt601", reader="torchcodec") == ("TorchcodecSource", "a.mp4", "bt601")
    assert opened("a.mp4", reader="opencv") == ("OpenCVSource", "a.mp4", "a.mp4", "auto")
    assert opened("photos", rate=12.5) == ("FolderSource", "photos", 12.5)
    assert opened("bag", topic="/camera") == ("RecordingSource", "bag", "/camera", "auto")
    assert opened("1", reader="opencv") == ("open_camera", "1", 1, "auto", "opencv")


@pytest.mark.parametrize(
    ("source", "arguments", "error", "message"),
    [
        ("a.mp4", {"color": "rec709"}, ValueError, "color: expected one of auto, bt601, bt709, bt2020, got 'rec709'"),
        ("a.mp4", {"reader": "ffmpeg"}, ValueError, "reader: expected one of auto, pyav, .*, got 'ffmpeg'"),
        ("a.mp4", {"topic": "/camera"}, ValueError, "topic: is for recordings .*, got '/camera' for a.mp4"),
        ("a.mp4", {"rate": 5}, ValueError, "rate: is for folders of photos, got 5 for a.mp4"),
        ("photos", {"rate": 0}, ValueError, "rate: expected frames per second, more than 0, got 0"),
        ("photos", {"rate": float("nan")}, ValueError, "rate: expected frames per second, more than 0, got nan"),
        ("0", {"reader": "torchcodec"}, ValueError, "reader: expected one of auto, pyav, opencv for this source"),
        ("x.db3", {}, SourceError, "x.db3: is a part of a ROS 2 bag; give the folder"),
        ("gone.mp4", {}, SourceError, "gone.mp4: there is no such file or folder; expected one, a pattern"),
    ],
)
def test_wrong_arguments(opened, source, arguments, error, message):
    with pytest.raises(error, match=message):
        opened(source, **arguments)


def test_the_first_reader_that_is_installed(monkeypatch, tmp_path):
    pytest.importorskip("cv2")
    videos = pytest.importorskip("python_tests.stream.videos")
    path = tmp_path / "video.mkv"
    path.write_bytes(videos.encode(videos.moving_planes(2)))
    with open_source(path) as source:
        assert source.info.reader.startswith("PyAV")
    monkeypatch.setitem(sys.modules, "av", None)
    for module in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, module, None)
    with open_source(path) as source:
        assert source.info.reader.startswith("OpenCV") and len(list(source)) == 2
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"reading videos needs PyAV .*rwpm-fast\[video\]"):
        open_source(path)


def test_a_folder_from_end_to_end(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(tmp_path / "1.png")
    with open_source(tmp_path, rate=4) as source:
        (frame,) = source
    assert (frame.photo == 7).all() and frame.seconds == 0


def test_a_folder_that_cannot_be_read(opened, monkeypatch):
    monkeypatch.setattr(sources.os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(SourceError, match="photos: the folder cannot be read: permission denied"):
        opened("photos")
