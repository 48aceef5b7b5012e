"""Which file is the score map of which frame: names of every tool, and what is missing, doubtful or left over."""

from pathlib import Path

import pytest

from rwpm_fast.data import Frame, LabelValues, find_score_files
from rwpm_fast.io.score_maps import ScoreMapError

VALUES = LabelValues.from_values()


def frame(name, photo=None, label=None):
    return Frame(name, Path(photo or f"photos/{name}.jpg"), Path(label or f"labels/{name}.png"), VALUES)


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


FRAMES = [frame("a"), frame("b")]


@pytest.mark.parametrize(
    ("frames", "names"),
    [
        (FRAMES, ["a.npy", "b.npy"]),
        (FRAMES, ["AnomalyTrack-all/a.hdf5", "AnomalyTrack-all/b.hdf5"]),  # of the toolkit's folder for all data sets
        (FRAMES, ["a.npy", "b.NPZ"]),
        ([frame("town/01"), frame("wood/01")], ["town/01.tif", "wood/01.tif"]),
        ([frame("town/01"), frame("wood/02")], ["01.npy", "02.npy"]),
        (
            [frame("1", "x/p1_leftImg8bit.png"), frame("2", "x/p2_leftImg8bit.png")],
            ["p1_leftImg8bit.npy"] * 1 + ["2.npy"],
        ),
        ([frame("1", label="0007_x_labels.png"), frame("2")], ["0007_x_labels.npy", "2.npy"]),
    ],
)
def test_names(tmp_path, frames, names):
    touch(tmp_path, *names)
    found = find_score_files(tmp_path, frames)
    assert list(found) == [frame.id for frame in frames]
    assert [file.relative_to(tmp_path).as_posix() for file in found.values()] == names


def test_files_of_our_commands(tmp_path):
    """``score`` writes panels beside its maps, ``submit fishyscapes`` segmentations and a record."""
    touch(tmp_path / "score", "a.npy", "a.png", "b.npy", "b.png", ".rwpm-1.tmp", ".hidden/a.npy")
    assert [file.name for file in find_score_files(tmp_path / "score", FRAMES, png=True).values()] == ["a.npy", "b.npy"]
    laf = [frame("04_M", "04_M_leftImg8bit.png", "0000_04_M_labels.png"), frame("0001_b")]
    names = [f"{n}_{what}.npy" for n in ("0000", "0001") for what in ("anomaly", "segmentation")]
    touch(tmp_path / "fs", *names, "submission.json")
    assert [file.name for file in find_score_files(tmp_path / "fs", laf).values()] == names[::2]


def test_pngs_only_where_they_are_asked_for(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    assert len(find_score_files(tmp_path, FRAMES, png=True)) == 2
    with pytest.raises(ScoreMapError, match="2 PNGs there are maps only with --png-range"):
        find_score_files(tmp_path, FRAMES)


def test_missing_maps_are_named(tmp_path):
    touch(tmp_path, "a.npy")
    frames = [*FRAMES, frame("c", "photos/c_photo.jpg")]
    wanted = r"a score map for each of 3 frames, got none for 2: b, c; that of b is called b, and ends in .npy"
    with pytest.raises(ScoreMapError, match=wanted) as error:
        find_score_files(tmp_path, frames)
    assert str(error.value).startswith(f"{tmp_path}: ")
    for path, got in ((tmp_path / "none", "got none"), (tmp_path / "a.npy", "got a file")):
        with pytest.raises(ScoreMapError, match=got):
            find_score_files(path, FRAMES)


def test_doubtful_maps_are_named(tmp_path):
    touch(tmp_path / "twice", "a.npy", "a.npz", "b.npy")
    with pytest.raises(ScoreMapError, match=r"twice: expected one score map for a, got a.npy, a.npz; keep one"):
        find_score_files(tmp_path / "twice", FRAMES)
    touch(tmp_path / "flat", "01.npy")
    with pytest.raises(
        ScoreMapError, match=r"01.npy: expected a map of one frame, got a name of town/01 and of wood/01"
    ):
        find_score_files(tmp_path / "flat", [frame("town/01"), frame("wood/01")])


def test_maps_of_no_frame_are_refused_unless_allowed(tmp_path):
    touch(tmp_path, "a.npy", "b.npy", "c.npy", "x/d.npy")
    with pytest.raises(ScoreMapError, match=r"got 2 of no frame: c.npy, x/d.npy; .* \(--extra-scores\)"):
        find_score_files(tmp_path, FRAMES)
    assert len(find_score_files(tmp_path, FRAMES, extra=True)) == 2
    every = [*FRAMES, frame("c"), frame("d")]
    assert len(find_score_files(tmp_path, FRAMES, every_frame=every)) == 2  # the first frames of a data set
