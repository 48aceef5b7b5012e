"""Frames that are broken or odd: what reading them and checking their data set says."""

import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from python_tests.places import DATA
from rwpm_fast import data
from rwpm_fast.data import LabelValues
from rwpm_fast.data.frames import count_values
from rwpm_fast.io.images import ImageError, read_image


@pytest.fixture
def root(tmp_path):
    """Three frames in the plain layout: 24 pixels each, 4 of them anomalous in the first, 6 void in the second."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        labels = np.zeros((4, 6), np.uint8)
        if i == 0:
            labels[0, :4] = 1
        if i == 1:
            labels[3] = 255
        Image.fromarray(np.full((4, 6, 3), 40 * i, np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.png")
    return tmp_path


def test_a_sound_data_set_but_for_its_number(root):
    report = data.check(data.open_dataset("anomaly_track", root))
    counts = "10 are published, 3 are here (published of each split: validation 10, test 100, all 110)"
    assert report.problems == {
        "unexpected number of frames": [counts],
        "labels of a single value, as hidden ones are": [f"{root / 'labels/2.png'} (all 0)"],
    }
    assert report.sizes == {"6x4": 3}
    assert report.pixels == {"inlier": 72 - 10, "anomaly": 4, "void": 6}
    assert report.without_anomaly == ["1", "2"]
    assert "frames: 3 (10 published)" in report.text() and "void 8.33%" in report.text()
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False


def test_labels_without_anomalies_are_no_hidden_ones_where_such_are_published(root):
    report = data.check(data.open_dataset("fishyscapes_static", root))
    assert report.without_anomaly == ["1", "2"]
    assert report.problems == {
        "unexpected number of frames": [
            "30 are published, 3 are here (published of each split: validation 30, v1 30, v2 30, v3 30)"
        ]
    }


def test_all_that_is_odd_is_told(root):
    (root / "labels" / "1.png").unlink()
    (root / "images" / "2.png").unlink()
    for i, labels in enumerate(([[0, 7, 7, 2]] * 2, np.zeros((3, 5)), np.zeros((2, 4)), np.zeros((2, 4))), start=3):
        Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(root / "images" / f"{i}.png")
        Image.fromarray(np.array(labels, np.uint8)).save(root / "labels" / f"{i}.png")
    cut = root / "images" / "5.png"
    cut.write_bytes(cut.read_bytes()[:45])
    dataset = data.open_dataset("fishyscapes_lost_and_found", root)
    report = data.check(dataset)
    assert {kind: len(found) for kind, found in report.problems.items()} == {
        "photos without labels": 1,
        "labels without photos": 1,
        "unexpected number of frames": 1,
        "files that cannot be read": 1,
        "sizes that differ": 1,
        "unknown label values": 1,
        "labels of a single value, as hidden ones are": 2,
    }
    text = report.text()
    assert str(root / "images" / "1.png") in text and str(root / "labels" / "2.png") in text
    assert "3.png: 2 at 2 pixels, 7 at 4 pixels (known: 0 inlier, 1 anomaly, 255 void)" in text
    assert "4.png: 5x3, its photo 4x2" in text and "5.png" in text and "8 problems" in text
    with pytest.raises(ImageError, match=r"labels missing for 1: 1\.png"):
        dataset.require_complete()


def test_many_problems_are_counted_and_not_all_printed(root):
    for i in range(10, 30):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / "images" / f"{i}.png")
    report = data.check(data.open_dataset("anomaly_track", root))
    assert "photos without labels: 20" in report.text() and "... and 15 more" in report.text()
    assert len(report.as_dict()["problems"]["photos without labels"]) == 20


def test_unknown_values_and_other_sizes_are_not_read(root):
    frames = data.open_dataset("anomaly_track", root).frames
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(frames[0].label)
    with pytest.raises(
        ImageError, match=r"labels .*0\.png: expected the values 0 inlier, 1 anomaly, 255 void, got 9 \(24"
    ):
        frames[0].read()
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(frames[1].label)
    with pytest.raises(ImageError, match=r"labels .*1\.png: expected the photo's size 4x6, got 6x4"):
        frames[1].read()


def test_label_values_in_words():
    values = LabelValues.from_values(anomaly=range(2, 201), inlier=(1,), void=(0,))
    assert values.described() == "1 inlier, 2..200 anomaly, 0 void"
    assert LabelValues.from_values(void=None).described() == "0 inlier, 1 anomaly, others void"
    wide = np.array([[1, 2, 300]], np.uint16)
    assert values.unknown(wide) == {300: 1}
    assert LabelValues.from_values(void=None).map(wide).tolist() == [[1, 255, 255]]


def test_two_photos_of_one_label_are_refused(root):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / "images" / "0.jpg")
    with pytest.raises(ImageError, match=r"0\.jpg and .*0\.png: two files of one photo"):
        data.open_dataset("anomaly_track", root)


def test_labels_in_three_equal_channels(root):
    frame = data.open_dataset("anomaly_track", root).frames[0]
    wanted = frame.read_labels()
    Image.fromarray(np.stack([wanted] * 3, -1)).save(frame.label)
    np.testing.assert_array_equal(frame.read_labels(), wanted)


def test_a_gamma_chunk_changes_no_pixel(tmp_path):
    """Lost & Found's photos carry one; honoring it would wash them out."""
    photo = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (220_000).to_bytes(4, "big"))
    Image.fromarray(photo).save(tmp_path / "a.png", pnginfo=chunks)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["gamma"] == 2.2
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo)


def test_any_two_folders(root):
    dataset = data.folders(root / "images", root / "labels", positive=(255,), negative=(0, 1))
    assert [frame.id for frame in dataset] == ["0", "1", "2"] and dataset.benchmark is None
    assert dataset.frames[1].read_labels()[3].tolist() == [1] * 6
    assert len(data.folders(root / "images", root / "labels", limit=2)) == 2
    with pytest.raises(ValueError, match="positive"):
        data.folders(root / "images", root / "labels", positive=(1,), negative=(1,))


def test_left_over_and_missing_labels_of_two_folders(root):
    for source, target in (("images/0.png", "images/a.png"), ("labels/0.png", "labels/b.png")):
        (root / target).write_bytes((root / source).read_bytes())
    (root / "images" / "c.heic").touch()
    with pytest.raises(ImageError, match=r"1 of 4 labels missing: a\.png"):
        data.folders(root / "images", root / "labels")
    dataset = data.folders(root / "images", root / "labels", complete=False)
    assert [path.name for path in (*dataset.without_label, *dataset.unused)] == ["a.png", "c.heic"]
    assert dataset.without_photo == (str(root / "labels" / "b.png"),)
    assert data.folders(root / "images", root / "labels", limit=3).without_photo == dataset.without_photo
    (root / "images" / "a.png").unlink()
    data.folders(root / "images", root / "labels").require_complete()


def test_two_folders_with_declared_void_values(root):
    dataset = data.folders(root / "images", root / "labels", void=(255,))
    assert dataset.frames[1].read_labels()[3].tolist() == [255] * 6
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(root / "labels" / "1.png")
    with pytest.raises(ImageError, match="expected the values 0 inlier, 1 anomaly, 255 void, got 9"):
        dataset.frames[1].read_labels()
    for settings, message in (
        ({"void": (0,)}, "void: expected label values that are neither"),
        ({"orientation": "left"}, "orientation: expected stored or upright, got 'left'"),
    ):
        with pytest.raises(ValueError, match=message):
            data.folders(root / "images", root / "labels", **settings)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_shares_of_label_values(dtype):
    pixels = count_values(np.array([[0, 0, 0, 0, 1, 2, 3, 3, 3, 255]], dtype))
    assert pixels == {0: 4, 1: 1, 2: 1, 3: 3, 255: 1}
    undeclared = LabelValues.from_values(void=None)
    assert (
        undeclared.shares(pixels)
        == "inlier values 0 (40.00%), anomaly values 1 (10.00%), void values 2..3, 255 (50.00%)"
    )
    declared = LabelValues.from_values(anomaly=(7,), inlier=(0, 1))
    assert (
        declared.shares(pixels) == "inlier values 0..1 (50.00%), void values 255 (10.00%), unknown values 2..3 (40.00%)"
    )


PUBLISHED = {
    "road_anomaly": ("road_anomaly", 60, {"1280x720": 60}),
    "smiyc_anomaly_val": ("anomaly_track", 10, {"1280x720": 10}),
    "smiyc_obstacle_val": ("obstacle_track", 30, {"1920x1080": 30}),
    "fishyscapes_static": ("fishyscapes_static", 30, {"2048x1024": 30}),
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", PUBLISHED)
def test_real_data_is_complete(folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"no {folder} in {DATA}; set RWPM_DATA to the folder of data sets")
    name, number, sizes = PUBLISHED[folder]
    report = data.check(data.open_dataset(name, DATA / folder))
    assert report.ok and report.frames == number and report.sizes == sizes


@pytest.mark.parametrize("folder", PUBLISHED)
def test_a_frame_of_real_data(folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"no {folder} in {DATA}; set RWPM_DATA to the folder of data sets")
    name, number, sizes = PUBLISHED[folder]
    dataset = data.open_dataset(name, DATA / folder)
    assert len(dataset) == dataset.expected == number and dataset.layout == "plain"
    dataset.require_complete()
    photo, labels = dataset.frames[-1].read()
    assert f"{photo.shape[1]}x{photo.shape[0]}" in sizes and (labels == 0).any()
