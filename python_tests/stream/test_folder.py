"""Photos of a folder or a pattern as frames."""

import numpy as np
import pytest

from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.folder import FolderSource
from rwpm_fast.stream.frame import BrokenFrame

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    """Frames 1, 2, 9, 10 of gray levels of these numbers, the last one turned by its EXIF orientation; and a text."""
    for number in (10, 9, 2, 1):
        exif = Image.Exif()
        exif[274] = 6 if number == 10 else 1
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"frame{number}.png", exif=exif)
    (tmp_path / "notes.txt").write_text("left out")
    return tmp_path


def test_natural_order_upright_with_times(folder):
    with FolderSource(str(folder), rate=10) as source:
        frames = list(source)
    assert [int(frame.photo[0, 0, 0]) for frame in frames] == [1, 2, 9, 10]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [frame.photo.shape for frame in frames] == [(4, 6, 3)] * 3 + [(6, 4, 3)]  # a size that changes
    info = source.info
    assert (info.kind, info.rate, info.frames, info.size) == ("frames", 10, 4, (4, 6))
    assert info.notes == ["1 files are no photos by their suffix and not used: notes.txt"]


def test_a_pattern_without_a_rate(folder):
    with FolderSource(str(folder / "frame1*.png")) as source:
        frames = list(source)
    assert [int(frame.photo[0, 0, 0]) for frame in frames] == [1, 10]
    assert [frame.seconds for frame in frames] == [None, None]


def test_broken_photos_keep_their_places(folder):
    (folder / "frame2.png").write_bytes(b"no picture")
    (folder / "frame9.png").write_bytes((folder / "frame9.png").read_bytes()[:60])
    with FolderSource(str(folder), rate=1) as source:
        frames = list(source)
    assert [isinstance(frame, BrokenFrame) for frame in frames] == [False, True, True, False]
    assert [frame.index for frame in frames] == [0, 1, 2, 3] and frames[2].seconds == 2
    assert "frame2.png: not a picture" in frames[1].reason
    assert source.info.notes[-1] == "2 of 4 frames are broken"


def test_nothing_to_read(tmp_path):
    with pytest.raises(SourceError, match="no photos in this folder"):
        FolderSource(str(tmp_path))
