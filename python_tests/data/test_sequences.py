"""Data sets of sequences: frames between labels lack nothing, ids tell sequences apart, counts are checked."""

import numpy as np
import pytest
from PIL import Image

from rwpm_fast import data
from rwpm_fast.cli import main
from rwpm_fast.io.images import ImageError

LABELS = np.array([[0, 254, 255, 7, 0, 0]] * 4, np.uint8)
SETS = {
    "street_obstacle_sequences": ("jpg", 1129, 20),
    "wuppertal_obstacle_sequences": ("png", 938, 44),
    "carla_wildlife": ("png", None, 26),
}


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(params=SETS)
def sequences(tmp_path, request):
    """Two sequences of three frames, of which the first and the last have labels."""
    suffix, *_ = SETS[request.param]
    for sequence in ("sequence_010", "sequence_002"):
        for number in (0, 4, 8):
            photo = np.full((4, 6, 3), number, np.uint8)
            save(tmp_path / f"raw_data/{sequence}/{number:06d}_raw_data.{suffix}", photo)
            if number != 4:
                save(tmp_path / f"semantic_ood/{sequence}/{number:06d}_semantic_ood.png", LABELS)
    return request.param, tmp_path


def test_frames_between_labels_are_of_the_sequence_and_not_missing(sequences):
    name, root = sequences
    dataset = data.open_dataset(name, root)
    dataset.require_complete()
    ids = [f"sequence_{n}/{frame:06d}" for n in ("002", "010") for frame in (0, 8)]
    assert [frame.id for frame in dataset] == ids
    assert [frame.id for frame in dataset.unlabeled] == ["sequence_002/000004", "sequence_010/000004"]
    grouped = dataset.sequences()
    assert list(grouped) == ["sequence_002", "sequence_010"]
    assert [frame.label is not None for frame in grouped["sequence_010"]] == [True, False, True]
    assert [frame.read_image().mean().round() for frame in grouped["sequence_010"]] == [0, 4, 8]
    photo, labels = dataset.frames[0].read()
    assert photo.shape == (4, 6, 3) and labels[0].tolist() == [0, 1, 255, 255, 0, 0]


def test_the_published_numbers_are_checked(sequences):
    name, root = sequences
    _, frames, count = SETS[name]
    report = data.check(data.open_dataset(name, root))
    assert report.problems.pop("unexpected number of sequences") == [f"{count} are published, 2 are here"]
    if frames is not None:
        assert report.problems.pop("unexpected number of frames") == [f"{frames} are published, 4 are here"]
    assert report.ok and report.pixels == {"inlier": 48, "anomaly": 16, "void": 32}


def test_a_label_without_its_photo_is_missing(sequences):
    name, root = sequences
    next(root.glob("raw_data/sequence_002/000008_*")).unlink()
    with pytest.raises(ImageError, match=r"photos missing for 1: 000008_semantic_ood\.png"):
        data.open_dataset(name, root).require_complete()


def test_single_photos_are_one_sequence_in_natural_order(tmp_path):
    for number in (10, 9):
        save(tmp_path / f"images/{number}.png", np.zeros((4, 6, 3), np.uint8))
        save(tmp_path / f"labels/{number}.png", LABELS)
    grouped = data.folders(tmp_path / "images", tmp_path / "labels", positive=(254,)).sequences()
    assert [frame.id for frame in grouped[""]] == ["9", "10"]


def test_labeled_frames_are_evaluated(sequences, capsys):
    name, root = sequences
    for path in root.glob("*/*/*"):
        Image.open(path).resize((64, 32), Image.Resampling.NEAREST).save(path)
    words = f"evaluate --dataset {name} --root {root} --scores energy --steps 1 --threads 1"
    assert main(words.split()) == 0
    assert "4 of 4 photos" in capsys.readouterr().out
