"""Every layout that the data sets come in, as trees of tiny files, and what is said where nothing fits."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwpm_fast import data
from rwpm_fast.data.benchmarks import BENCHMARKS
from rwpm_fast.io.images import ImageError

PHOTO = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
LABELS = np.array([[0, 1, 255, 0, 0, 0]] * 4, np.uint8)

LAF = "04_Maurener_Weg_8_000000_000030"
CITY = "frankfurt_000000_000294"


def save(path: Path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def tree(root: Path, *files: str, labels=LABELS):
    """Files of a tree: label files are those that a label's folder or name tells."""
    for file in files:
        marks = ("labels", "gtCoarse", "label_masks", "semantic_ood", "annotations", "leftLabel")
        is_label = any(part in file for part in marks)
        save(root / file, labels if is_label else PHOTO)


# name, layout, split, files, id of the one frame, photo file
TREES = [
    (
        "fishyscapes_lost_and_found",
        "official",
        "validation",
        (f"fishyscapes_lostandfound/0000_{LAF}_labels.png", f"leftImg8bit/train/04_x/{LAF}_leftImg8bit.png"),
        LAF,
    ),
    (
        "fishyscapes_lost_and_found",
        "rwpm",
        "validation",
        (
            f"Fishyscapes/fishyscapes_lostandfound/0000_{LAF}_labels.png",
            f"Fishyscapes/laf_images/{LAF}_leftImg8bit.png",
        ),
        LAF,
    ),
    (
        "fishyscapes_lost_and_found",
        "pebal",
        "validation",
        ("fishyscapes/LostAndFound/original/7.png", "fishyscapes/LostAndFound/labels/7.png"),
        "7",
    ),
    (
        "fishyscapes_lost_and_found",
        "balanced_energy",
        "validation",
        ("fs_lost_and_found/original/7.png", "fs_lost_and_found/labels/7.png"),
        "7",
    ),
    (
        "fishyscapes_lost_and_found",
        "mask2anomaly",
        "validation",
        ("FS_LostFound_full/images/7.png", "FS_LostFound_full/labels_masks/7.png"),
        "7",
    ),
    (
        "fishyscapes_lost_and_found",
        "smiyc",
        "validation",
        (
            f"dataset_FishyLAF/labels/val/{LAF}_fishy-labels.png",
            f"LostAndFound/leftImg8bit/test/04_x/{LAF}_leftImg8bit.webp",
        ),
        LAF,
    ),
    (
        "fishyscapes_static",
        "rwpm",
        "v2",
        (f"fs_val_v2/0003_{CITY}_labels.png", f"fs_static_images_v2/0003_{CITY}_rgb.png"),
        f"0003_{CITY}",
    ),
    ("fishyscapes_static", "pebal", "validation", ("Static/original/7.png", "Static/labels/7.png"), "7"),
    (
        "fishyscapes_static",
        "balanced_energy",
        "validation",
        ("fs_static/original/7.jpg", "fs_static/labels/7.png"),
        "7",
    ),
    (
        "fishyscapes_static",
        "mask2anomaly",
        "validation",
        ("fs_static/images/7.jpg", "fs_static/labels_masks/7.png"),
        "7",
    ),
    (
        "road_anomaly",
        "official",
        "all",
        (
            "RoadAnomaly/RoadAnomaly_jpg/frames/a b.jpg",
            "RoadAnomaly/RoadAnomaly_jpg/frames/a b.labels/labels_semantic.png",
        ),
        "a b",
    ),
    ("road_anomaly", "rwpm", "all", ("frames/a.jpg", "frames/a/labels_semantic.png"), "a"),
    ("road_anomaly", "pebal", "all", ("original/a.jpg", "labels/a.png"), "a"),
    ("road_anomaly", "mask2anomaly", "all", ("RoadAnomaly/images/a.jpg", "RoadAnomaly/labels_masks/a.png"), "a"),
    (
        "anomaly_track",
        "official",
        "validation",
        (
            "dataset_AnomalyTrack/images/validation0001.jpg",
            "dataset_AnomalyTrack/labels_masks/validation0001_labels_semantic.png",
        ),
        "validation0001",
    ),
    (
        "anomaly_track",
        "rwpm",
        "validation",
        ("images/validation0001.jpg", "label_masks/validation0001_labels_semantic.png"),
        "validation0001",
    ),
    (
        "anomaly_track",
        "mask2anomaly",
        "validation",
        ("RoadAnomaly21/images/7.png", "RoadAnomaly21/labels_masks/7.png"),
        "7",
    ),
    (
        "obstacle_track",
        "official",
        "validation",
        ("images/validation_1.webp", "labels_masks/validation_1_labels_semantic.png"),
        "validation_1",
    ),
    (
        "obstacle_track",
        "mask2anomaly",
        "validation",
        ("RoadObsticle21/images/7.webp", "RoadObsticle21/labels_masks/7.png"),
        "7",
    ),
    (
        "lost_and_found",
        "official",
        "test",
        (f"leftImg8bit/test/04_x/{LAF}_leftImg8bit.png", f"gtCoarse/test/04_x/{LAF}_gtCoarse_labelIds.png"),
        LAF,
    ),
    (
        "lost_and_found_road",
        "mask2anomaly",
        "test",
        ("LostAndFound/images/7.png", "LostAndFound/labels_masks/7.png"),
        "7",
    ),
]
TREES += [
    ("road_anomaly", "balanced_energy", "all", ("road_anomaly/original/a.jpg", "road_anomaly/labels/a.png"), "a"),
    (
        "obstacle_track",
        "rwpm",
        "validation",
        ("images/validation_1.webp", "label_masks/validation_1_labels_semantic.png"),
        "validation_1",
    ),
    ("lost_and_found", "mask2anomaly", "test", ("LostAndFound/images/7.png", "LostAndFound/labels_masks/7.png"), "7"),
    (
        "lost_and_found_road",
        "official",
        "test",
        (f"leftImg8bit/test/04_x/{LAF}_leftImg8bit.webp", f"gtCoarse/test/04_x/{LAF}_gtCoarse_labelIds.png"),
        LAF,
    ),
]
TREES += [
    (name, "plain", benchmark.default_split or "validation", ("images/10.jpg", "labels/10.png"), "10")
    for name, benchmark in BENCHMARKS.items()
    if any(layout.name == "plain" for layout in benchmark.layouts)
]
TREES += [
    (
        name,
        "official",
        "test",
        (
            f"{folder}/raw_data/sequence_001/000008_raw_data.{suffix}",
            f"{folder}/semantic_ood/sequence_001/000008_semantic_ood.png",
        ),
        "sequence_001/000008",
    )
    for name, folder, suffix in (
        ("street_obstacle_sequences", "street_obstacle_sequences", "jpg"),
        ("wuppertal_obstacle_sequences", "wos", "png"),
        ("carla_wildlife", "carla_wildlife_sequences", "png"),
    )
]
TREES += [
    (
        "street_hazards",
        "official",
        "test",
        ("streethazards/test/images/t5/20/3.png", "streethazards/test/annotations/t5/20/3.png"),
        "t5/20/3",
    ),
    ("muad", "folder", "test", ("leftImg8bit/000007_leftImg8bit.png", "leftLabel/000007_leftLabel.png"), "000007"),
]


@pytest.mark.parametrize(("name", "layout", "split", "files", "frame_id"), TREES, ids=[f"{t[0]}-{t[1]}" for t in TREES])
def test_each_layout_is_found_by_looking_and_by_name(tmp_path, name, layout, split, files, frame_id):
    tree(tmp_path, *files, labels=LABELS * (LABELS < 2))
    for forced in (None, layout):
        dataset = data.open_dataset(name, tmp_path, layout=forced)
        assert (dataset.layout, dataset.split, len(dataset)) == (layout, split, 1)
        (frame,) = dataset
        assert frame.id == frame_id
        assert {frame.photo, frame.label} == {tmp_path / file for file in files}
        dataset.require_complete()
        photo, labels = frame.read()
        assert photo.shape == (4, 6, 3) and photo.dtype == labels.dtype == np.uint8
        assert labels.shape == (4, 6) and set(np.unique(labels)) <= {0, 1, 255}


@pytest.mark.parametrize(("name", "layout", "split", "files", "frame_id"), TREES, ids=[f"{t[0]}-{t[1]}" for t in TREES])
def test_each_layout_tells_what_it_leaves_out(tmp_path, name, layout, split, files, frame_id):
    """Suffixes match in any case; dead links are photos; hidden files and folders are nothing."""
    tree(tmp_path, *files, labels=LABELS * (LABELS < 2))
    (frame,) = data.open_dataset(name, tmp_path, layout=layout)
    photo, label = (path.rename(path.with_suffix(path.suffix.upper())) for path in (frame.photo, frame.label))
    other = photo.with_suffix(".heic")
    other.touch()
    photo.with_name(f".{photo.name}").touch()
    photo.with_suffix(".folder").mkdir()
    dataset = data.open_dataset(name, tmp_path, layout=layout)
    assert [(frame.id, frame.photo, frame.label) for frame in dataset] == [(frame_id, photo, label)]
    assert dataset.unused == (other,)
    dataset.require_complete()
    assert data.check(dataset).unused == [str(other)]

    photo.unlink()
    photo.symlink_to("gone.png")
    report = data.check(data.open_dataset(name, tmp_path, layout=layout))
    (told,) = report.problems["files that cannot be read"]
    assert told == f"{photo}: cannot be read: a link to gone.png, which is not there"


def test_every_layout_has_a_tree():
    below = {("fishyscapes_static", "official"), ("bdd_anomaly", "official"), ("muad", "official")}
    tried = {(name, layout) for name, layout, *_ in TREES} | below
    assert tried == {(name, one.name) for name, b in BENCHMARKS.items() for one in b.layouts}


def static_tree(root, overlay, *, version="v3"):
    save(root / f"fs_val_{version}" / f"0003_{CITY}_labels.png", LABELS)
    np.savez(root / f"fs_val_{version}" / "0003_cow_rgb.npz", **overlay)
    save(root / "cityscapes" / "leftImg8bit" / "val" / "frankfurt" / f"{CITY}_leftImg8bit.png", PHOTO)


def test_overlays_are_composited_on_cityscapes(tmp_path):
    rgb = np.zeros((4, 6, 3), np.int16)
    rgb[0, 0], rgb[0, 1], rgb[3, 5] = (300, -300, 5), (1, 2, 3), (190, -70, 184)
    static_tree(tmp_path, {"rgb": rgb})
    dataset = data.open_dataset("fishyscapes_static", tmp_path)
    assert (dataset.layout, dataset.split, dataset.expected) == ("official", "v3", 30)
    (frame,) = dataset
    assert frame.id == f"0003_{CITY}" and frame.photo.name == "0003_cow_rgb.npz"
    photo, _ = frame.read()
    wanted = PHOTO.copy()
    wanted[0, 0], wanted[0, 1] = (255, 0, 7), (4, 6, 8)
    wanted[3, 5] = (255, 0, 255)
    np.testing.assert_array_equal(photo, wanted)
    elsewhere = data.open_dataset("fishyscapes_static", tmp_path, source=tmp_path / "cityscapes")
    assert elsewhere.frames == dataset.frames


@pytest.mark.parametrize(
    "overlay",
    [{"depth": np.zeros((4, 6, 3), int)}, {"rgb": np.zeros((4, 5, 3), int)}, {"rgb": np.zeros((4, 6, 3))}],
    ids=["no array rgb", "another size", "floating point"],
)
def test_overlays_that_do_not_fit_are_named(tmp_path, overlay):
    static_tree(tmp_path, overlay)
    with pytest.raises(ImageError, match=r"overlay .*0003_cow_rgb\.npz: expected"):
        data.open_dataset("fishyscapes_static", tmp_path).frames[0].read()


def test_a_missing_overlay_leaves_its_label_alone(tmp_path):
    static_tree(tmp_path, {"rgb": np.zeros((4, 6, 3), int)})
    save(tmp_path / "fs_val_v3" / "0004_munster_000000_000019_labels.png", LABELS)
    dataset = data.open_dataset("fishyscapes_static", tmp_path)
    assert len(dataset) == 1
    with pytest.raises(ImageError, match=r"photos missing for 1: 0004_munster_000000_000019_labels\.png"):
        dataset.require_complete()


def test_several_versions_have_to_be_told_apart(tmp_path):
    for version in ("v1", "v2"):
        static_tree(tmp_path, {"rgb": np.zeros((4, 6, 3), int)}, version=version)
    with pytest.raises(ValueError, match=r"several fit .*official of split v1, layout official of split v2; choose"):
        data.open_dataset("fishyscapes_static", tmp_path)
    assert data.open_dataset("fishyscapes_static", tmp_path, split="v2").frames[0].label.parent.name == "fs_val_v2"


def test_several_layouts_have_to_be_told_apart(tmp_path):
    tree(tmp_path, "images/1.jpg", "labels/1.png", "labels_masks/1.png")
    with pytest.raises(ValueError, match="layout mask2anomaly of split validation, layout plain of split validation"):
        data.open_dataset("anomaly_track", tmp_path)
    assert data.open_dataset("anomaly_track", tmp_path, layout="plain").frames[0].label == tmp_path / "labels/1.png"


def test_nothing_that_fits_tells_what_was_looked_for_and_where(tmp_path):
    tree(tmp_path, "images/1.jpg", "labels/2.png")
    with pytest.raises(ImageError) as caught:
        data.open_dataset("anomaly_track", tmp_path)
    text = str(caught.value)
    assert f"no layout fits below {tmp_path}" in text
    assert "official: images/{id}.* and labels_masks/{id}_labels_semantic.png in ./ or dataset_AnomalyTrack/" in text
    plain = "plain: images/{id}.* and labels/{id}.png in ./ or anomaly_track/"
    assert f"{plain} (found 1 photos and 1 labels, but no pair)" in text
    with pytest.raises(ImageError, match="no such folder"):
        data.open_dataset("anomaly_track", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "kitti"}, "name: expected one of fishyscapes_lost_and_found, .* got 'kitti'"),
        ({"protocol": "pebal"}, "protocol: expected one of official, rwpm, got 'pebal'"),
        ({"name": "muad", "protocol": "rwpm"}, "protocol: expected one of official, road, got 'rwpm'"),
        ({"name": "muad", "split": "train", "layout": "folder"}, "split: train cannot be found in the layout folder"),
        ({"split": "train"}, "split: expected one of validation, test, all, got 'train'"),
        ({"layout": "coco"}, "layout: expected one of official, rwpm, mask2anomaly, plain, got 'coco'"),
        ({"split": "test", "layout": "plain"}, "split: test cannot be found in the layout plain"),
    ],
)
def test_unknown_settings_are_refused(tmp_path, settings, message):
    tree(tmp_path, "images/1.jpg", "labels/1.png")
    with pytest.raises(ValueError, match=message):
        data.open_dataset(settings.pop("name", "anomaly_track"), tmp_path, **settings)


def touch(root: Path, *files: str):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def test_splits_of_the_obstacle_track(tmp_path):
    names = (
        "validation_1",
        "validation_20",
        "validation_21",
        "validation_19",
        "driveway_3",
        "snowstorm2_5",
        "gravel_7",
    )
    touch(tmp_path, *(f"images/{name}.webp" for name in names))
    touch(tmp_path, *(f"labels_masks/{name}_labels_semantic.png" for name in names[:4]))

    def ids(split=None, protocol="official"):
        return [frame.id for frame in data.open_dataset("obstacle_track", tmp_path, split=split, protocol=protocol)]

    assert ids() == ["validation_1", "validation_20"]
    assert ids(protocol="rwpm") == ["validation_1", "validation_19", "validation_20", "validation_21"]
    assert ids("test") == ["gravel_7"]
    assert ids("test", "rwpm") == ["driveway_3", "gravel_7", "snowstorm2_5"]
    assert ids("no_night") == ["gravel_7", "snowstorm2_5"]
    assert (ids("night"), ids("snowstorm")) == (["driveway_3"], ["snowstorm2_5"])
    assert sorted(ids("all")) == sorted(names)


def test_test_photos_have_no_labels(tmp_path):
    touch(tmp_path, "images/0001.jpg", "images/0002.jpg")
    dataset = data.open_dataset("anomaly_track", tmp_path, split="test")
    assert len(dataset) == 2 and dataset.expected == 100
    dataset.require_complete()
    with pytest.raises(ImageError, match="0001: expected labels, but this photo has none"):
        dataset.frames[0].read_labels()
    with pytest.raises(ImageError, match="no layout fits"):
        data.open_dataset("anomaly_track", tmp_path)


def test_lost_and_found_without_known_objects(tmp_path):
    groups = ("01_Hanns_Klemm_Str_45_000006", "02_Hanns_Klemm_Str_44", "15_Rechbergstr_Deckenpfronn")
    names = [f"{groups[i // 401]}_{i:06d}_000010" for i in range(1203)]
    for folder, suffix in (("leftImg8bit", "leftImg8bit"), ("gtCoarse", "gtCoarse_labelIds")):
        for name in names:
            touch(tmp_path, f"{folder}/test/scene/{name}_{suffix}.png")
    whole, known = (
        data.open_dataset("lost_and_found_road", tmp_path, split=split) for split in ("test", "test_no_known")
    )
    assert (len(whole), whole.expected) == (1203, 1203)
    kept = [frame.id for frame in known]
    # Of the middle scene, frames 401..801, six have empty labels.
    assert kept == [name for i, name in enumerate(names) if 401 <= i < 802 and i not in (490, 618, 686, 792, 793)]
    os.remove(whole.frames[0].photo)
    os.remove(whole.frames[0].label)
    with pytest.raises(ValueError, match="among all 1203 of the test split, of which 1202 are here"):
        data.open_dataset("lost_and_found_road", tmp_path, split="test_no_known")


LAF_LABELS = np.array([[0, 1, 2, 43, 200]], np.uint8)
LAF_TRAIN_IDS = np.array([[255, 1, 2, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    ("name", "protocol", "wanted"),
    [
        ("lost_and_found", "official", [0, 0, 1, 1, 1]),
        ("lost_and_found_road", "official", [255, 0, 1, 1, 1]),
        ("lost_and_found", "rwpm", [0, 0, 1, 0, 0]),
        ("lost_and_found_road", "rwpm", [255, 0, 1, 0, 0]),
    ],
)
def test_labels_of_lost_and_found(tmp_path, name, protocol, wanted):
    save(tmp_path / f"leftImg8bit/test/s/{LAF}_leftImg8bit.png", PHOTO[:1, :5])
    save(tmp_path / f"gtCoarse/test/s/{LAF}_gtCoarse_labelIds.png", LAF_LABELS)
    save(tmp_path / f"gtCoarse/test/s/{LAF}_gtCoarse_labelTrainIds.png", LAF_TRAIN_IDS)
    assert data.open_dataset(name, tmp_path, protocol=protocol).frames[0].read()[1].tolist() == [wanted]


def test_files_that_number_the_objects(tmp_path):
    """As they are, whatever their bits; resized with the labels; and of some frames only."""
    tree(tmp_path, *(f"frames/{name}{end}" for name in "ab" for end in (".jpg", ".labels/labels_semantic.png")))
    numbers = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000
    save(tmp_path / "frames/b.labels/labels_instance.png", numbers)
    without, frame = data.open_dataset("road_anomaly", tmp_path)
    assert without.instances is None and without.read_instances() is None
    assert frame.instances in frame.files()
    np.testing.assert_array_equal(frame.read_instances(), numbers)
    larger = replace(frame, size=(8, 6)).read_instances()
    np.testing.assert_array_equal(larger, numbers.repeat(2, axis=0))
    save(tmp_path / f"laf/leftImg8bit/test/s/{LAF}_leftImg8bit.png", PHOTO)
    for kind in ("labelIds", "instanceIds"):
        save(tmp_path / f"laf/gtCoarse/test/s/{LAF}_gtCoarse_{kind}.png", LABELS)
    (frame,) = data.open_dataset("lost_and_found", tmp_path / "laf")
    assert frame.instances.name == f"{LAF}_gtCoarse_instanceIds.png"


def test_road_anomaly_has_2_for_anomalies_and_a_list_of_its_photos(tmp_path):
    tree(tmp_path, "frames/a.jpg", "frames/a.labels/labels_semantic.png", labels=2 * (LABELS == 1).astype(np.uint8))
    (tmp_path / "frame_list.json").write_text(json.dumps(["a.jpg", "b.jpg"]))
    dataset = data.open_dataset("road_anomaly", tmp_path)
    np.testing.assert_array_equal(dataset.frames[0].read_labels(), LABELS == 1)
    assert (dataset.listed_only, dataset.without_photo) == (("b.jpg",), ())
    with pytest.raises(ImageError, match=r"listed photos missing for 1: b\.jpg"):
        dataset.require_complete()
    report = data.check(dataset)
    assert report.problems["listed but not there"] == ["b.jpg"] and "labels without photos" not in report.problems
    for broken in ("[", '{"a": 1}'):
        (tmp_path / "frame_list.json").write_text(broken)
        with pytest.raises(ImageError, match=r"frame_list\.json: expected a JSON list"):
            data.open_dataset("road_anomaly", tmp_path)


def test_the_anomaly_track_as_the_rwpm_code_reads_it(tmp_path):
    photo = np.zeros((8, 12, 3), np.uint8)
    photo[:, 6:] = 200
    labels = np.zeros((8, 12), np.uint8)
    labels[:, 6:], labels[4:, 6:] = 1, 255
    save(tmp_path / "images/1.png", photo)
    save(tmp_path / "labels/1.png", labels)
    (frame,) = data.open_dataset("anomaly_track", tmp_path, protocol="rwpm")
    photo, labels = frame.read()
    assert photo.shape == (720, 1280, 3) and labels.shape == (720, 1280)
    assert labels[0].tolist() == [0] * 640 + [1] * 640 and set(labels[360:, 640:].ravel()) == {255}
    # Bilinear with half-pixel centers: the step from 0 to 200 lies between the centers of columns 5 and 6.
    wanted = np.clip((np.arange(1280) + 0.5) * 12 / 1280 - 0.5 - 5, 0, 1) * 200
    np.testing.assert_allclose(photo[100, :, 0], wanted, atol=0.51)
    np.testing.assert_array_equal(frame.read_image(), photo)
    assert data.open_dataset("anomaly_track", tmp_path).frames[0].read()[0].shape == (8, 12, 3)


COURSE = {  # folder to data set, suffix of its photos, and value of its anomalies
    "FS_LostFound_full": ("fishyscapes_lost_and_found", "png", 1),
    "fs_static": ("fishyscapes_static", "jpg", 1),
    "RoadAnomaly": ("road_anomaly", "jpg", 2),
    "RoadAnomaly21": ("anomaly_track", "png", 1),
    "RoadObsticle21": ("obstacle_track", "webp", 1),
}


@pytest.mark.parametrize("below", ["Validation_Dataset", "validation_dataset", "."])
def test_the_folders_of_the_course(tmp_path, below):
    """Five sets side by side, each with a suffix of its own, one with 2 for anomalies, one misspelled."""
    for folder, (_, suffix, anomaly) in COURSE.items():
        labels = np.where(LABELS == 1, anomaly, LABELS).astype(np.uint8)
        tree(tmp_path / below / folder, f"images/0.{suffix}", "labels_masks/0.png", labels=labels)
    for folder, (name, suffix, _) in COURSE.items():
        dataset = data.open_dataset(name, tmp_path)
        (frame,) = dataset
        assert (dataset.layout, frame.photo) == ("mask2anomaly", tmp_path / below / folder / "images" / f"0.{suffix}")
        assert frame.read_labels().tolist() == LABELS.tolist()


def test_other_values_than_those_of_the_course_are_refused_with_the_file(tmp_path):
    tree(
        tmp_path,
        "RoadObsticle21/images/0.webp",
        "RoadObsticle21/labels_masks/0.png",
        labels=2 * (LABELS == 1).astype("u1"),
    )
    wanted = (
        r"labels .*RoadObsticle21/labels_masks/0\.png: expected the values 0 inlier, 1 anomaly, 255 void, got 2 \(4 pix"
    )
    with pytest.raises(ImageError, match=wanted):
        data.open_dataset("obstacle_track", tmp_path).frames[0].read()


def values_of(name, root, label: Path, values, **settings):
    """What a row of label values is read as."""
    save(label, np.array([values], np.uint8))
    return data.open_dataset(name, root, **settings).frames[0].read_labels()[0].tolist()


def test_street_hazards(tmp_path):
    """Files hold the class plus one; train and validation lie beside each other."""
    root = tmp_path / "train"
    for split, folder in (("train", "training"), ("validation", "validation")):
        tree(root, f"images/{folder}/t1-3/7.png", f"annotations/{folder}/t1-3/7.png", labels=LABELS[:, :2] + 1)
        (frame,) = data.open_dataset("street_hazards", tmp_path, split=split)
        assert (frame.id, frame.photo) == ("t1-3/7", root / f"images/{folder}/t1-3/7.png")
    tree(tmp_path, "test/images/test/t6/1.png", "test/images/test/.t/1.png")
    label = tmp_path / "test/annotations/test/t6/1.png"
    assert values_of("street_hazards", tmp_path, label, range(15)) == [255] + [0] * 13 + [1]
    on_road = values_of("street_hazards", tmp_path, label, range(15), protocol="road")
    assert on_road == [255] * 7 + [0, 0] + [255] * 5 + [1]
    assert [frame.id for frame in data.open_dataset("street_hazards", tmp_path)] == ["test/t6/1"]


def bdd_tree(root: Path, *photos: str):
    for photo in photos:
        folder, name = photo.split("/")
        save(root / f"seg/images/{photo}.jpg", PHOTO)
        save(root / f"seg/train_labels/{folder}/{name}_train_id.png", LABELS * (LABELS < 2))


def test_bdd_anomaly_takes_its_test_photos_from_the_list_of_its_script(tmp_path):
    bdd_tree(tmp_path / "data", "train/a", "train/b", "val/c", "val/d")
    ids = {split: [f.id for f in data.open_dataset("bdd_anomaly", tmp_path, split=split)] for split in ("train", "val")}
    assert ids == {"train": ["a", "b"], "val": ["c", "d"]}
    with pytest.raises(ImageError, match=r"split test: expected .*data/anom\.odgt, .* script .* choose another split"):
        data.open_dataset("bdd_anomaly", tmp_path)
    listing = tmp_path / "data/anom.odgt"
    listing.write_text(json.dumps([{"fpath_img": f"seg/images/{name}.jpg"} for name in ("train/b", "val/c", "val/e")]))
    dataset = data.open_dataset("bdd_anomaly", tmp_path)
    assert [frame.id for frame in dataset] == ["b", "c"] and dataset.listed_only == ("seg/images/val/e.jpg",)
    with pytest.raises(ImageError, match=r"listed photos missing for 1: e\.jpg"):
        dataset.require_complete()
    for broken, told in (("[", "fpath_img: "), ("{}", "fpath_img, got dict"), ('["a.jpg"]', "fpath_img$")):
        listing.write_text(broken)
        with pytest.raises(ImageError, match=rf"anom\.odgt: expected a JSON list of objects with {told}"):
            data.open_dataset("bdd_anomaly", tmp_path)


def test_bdd_anomaly_before_and_after_its_script(tmp_path):
    """The script makes bicycle 17, motorcycle 18, train 19 of 18, 17 and 16; each rule refuses what the other reads."""
    bdd_tree(tmp_path, "val/c")
    label = tmp_path / "seg/train_labels/val/c_train_id.png"
    settings = {"name": "bdd_anomaly", "root": tmp_path, "label": label, "split": "val"}
    assert values_of(**settings, values=range(20)) == [255] + [0] * 17 + [1, 1]
    assert values_of(**settings, values=range(20), protocol="road") == [255, 0] + [255] * 16 + [1, 1]
    raw = values_of(**settings, values=[*range(19), 255], protocol="raw")
    assert raw == [0] * 16 + [1, 1, 0, 255]
    for protocol, value, way_out in (
        ("official", 255, "got 255 .1 pixels.; 255, which .* calls for protocol raw"),
        ("road", 20, "got 20 .1 pixels.; .*20 comes from the first version"),
        ("raw", 19, "got 19 .1 pixels.; 19, which .* calls for protocol official"),
    ):
        with pytest.raises(ImageError, match=rf"c_train_id\.png: expected the values .*, {way_out}"):
            values_of(**settings, values=[value], protocol=protocol)


def test_muad(tmp_path):
    """Its splits by name, and any other of its folders by its path."""
    for split, published in (("train", 3420), ("val", 492)):
        tree(
            tmp_path / "MUAD", f"{split}/leftImg8bit/000001_leftImg8bit.png", f"{split}/leftLabel/000001_leftLabel.png"
        )
        dataset = data.open_dataset("muad", tmp_path, split=split)
        assert (dataset.layout, len(dataset), dataset.expected) == ("official", 1, published)
    folder = tmp_path / "some test set"
    tree(folder, "leftImg8bit/000001_leftImg8bit.png")
    label = folder / "leftLabel/000001_leftLabel.png"
    values = [*range(22), 255]
    assert values_of("muad", folder, label, values) == [0] * 12 + [1] + [0] * 3 + [1] * 5 + [255] * 2
    assert values_of("muad", folder, label, values, protocol="road") == (
        [0] + [255] * 11 + [1] + [255] * 3 + [1] * 5 + [255] * 2
    )
