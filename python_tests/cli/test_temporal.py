"""The command ``temporal``: drives and data sets of sequences, files, and wrong options told before any work."""

import json

import numpy as np
import pytest
from PIL import Image

from rwpm_fast.cli import main

QUICK = "--steps 1 --threads 1 --cost"


def test_drives_are_measured_and_written(tmp_path, capsys):
    files = f"--json {tmp_path}/out/a.json --markdown {tmp_path}/out/a.md"
    words = f"temporal --drives 2 --frames 3 --size 32 64 --crossing --scores energy max_logit {QUICK} 0.1 {files}"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out/a.md").read_text().strip() in printed
    assert "2 sequences, 6 frames, 6 with labels, of which 4 came before the first map of their sequence" in printed
    assert "max_logit: maps change less with the walk in " in printed
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert record["network"] == "compact" and record["sequences"] == ["drive 0", "drive 1"]
    assert [(row["score"], row["scorer"]) for row in record["rows"]] == [
        (score, walk) for walk in ("without", "with") for score in ("energy", "max_logit")
    ]


def test_a_data_set_of_sequences_is_measured(tmp_path, capsys):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    rng = np.random.default_rng(0)
    for number in range(3):
        photo = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        for sequence in ("sequence_001", "sequence_002"):
            path = tmp_path / f"raw_data/{sequence}/{8 * number:06d}_raw_data.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(path)
            if number != 1:
                labels = np.zeros((32, 64), np.uint8)
                labels[8:16, 8:24] = 254
                path = tmp_path / f"semantic_ood/{sequence}/{8 * number:06d}_semantic_ood.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(labels).save(path)
    words = f"temporal street_obstacle_sequences {tmp_path} --limit 1 {QUICK} 0.05"
    assert main(words.split()) == 0
    assert "1 sequences, 3 frames, 2 with labels, of which 1 came before the first map" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("road_anomaly", "expected NAME and ROOT of a data set, or neither"),
        ("--drives 0", "--drives: expected 1 or more, got 0"),
        ("--frames 1", "--frames: expected 2 or more, to be compared with one another, got 1"),
        ("--rate 0", "--rate: expected more than 0 frames per second, got 0"),
        ("--limit 3", "--limit: of a data set; give its NAME and ROOT"),
        ("road_anomaly . --crossing", "--crossing: of rendered drives, not of a data set"),
        ("road_anomaly . --limit 0", "--limit: expected 1 or more sequences, got 0"),
        ("road_anomaly .", "road_anomaly: no layout fits below"),
        ("--drives 1 --scores best", "--scores: expected one of energy"),
        ("--drives 1 --cost -1", "cost: expected 0 or more seconds"),
        ("--json a.json --markdown a.json", "a.json"),
    ],
)
def test_wrong_options_are_told(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["temporal", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
