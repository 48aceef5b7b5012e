"""Metrics photo by photo: means, counts and the interval of the mean change, in every form of a result."""

import csv
import io
import json
import math

import numpy as np
import pytest

from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import SINGLE_PROCESS, EvaluationResult, ImageResult, ResultRow, Sweep
from rwpm_fast.evaluate.paired import Paired, bootstrap_interval
from rwpm_fast.metrics import PixelResult

NAN = math.nan
PHOTOS = [  # AP and FPR95 without and with the walk
    ((0.20, 0.50), (0.50, 0.40)),
    ((0.40, 0.30), (0.30, 0.30)),
    ((0.70, 0.10), (0.65, 0.15)),
    ((0.60, 0.10), (0.60005, 0.10009)),  # changes below what tables show
]


def photo(ap, fpr95):
    return PixelResult(0.9 if ap == ap else NAN, ap, fpr95, 5 if ap == ap else 0, 95, 1, "fishyscapes")


def results(side):
    return [photo(*pair[side]) for pair in PHOTOS] + [photo(NAN, NAN)]  # a photo without an anomaly


def test_means_and_counts():
    paired = Paired.from_results(results(0), results(1))
    assert paired.photos == 4
    assert (paired.ap.better, paired.ap.worse, paired.ap.tied) == (1, 2, 1)
    assert (paired.fpr95.better, paired.fpr95.worse, paired.fpr95.tied) == (1, 1, 2)
    assert (paired.auroc.better, paired.auroc.worse, paired.auroc.tied) == (0, 0, 4)
    assert paired.ap.without == pytest.approx(0.475) and paired.ap.walked == pytest.approx(0.5125125)
    assert paired.fpr95.without == pytest.approx(0.25) and paired.fpr95.change == pytest.approx(-0.0124775)
    assert paired.auroc.low == paired.auroc.high == paired.auroc.change == 0


@pytest.mark.parametrize("values", [[0.3, -0.1, -0.05, 0.00005], [0.2], [0.1, 0.1, 0.1], list(np.arange(40) / 40)])
def test_the_interval_is_that_of_resampled_photos(values):
    low, high = bootstrap_interval(np.array(values))
    random = np.random.default_rng(1)
    means = [random.choice(values, len(values)).mean() for _ in range(20_000)]
    spread = np.std(values) / math.sqrt(len(values))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.15 * spread + 1e-12)
    assert low <= np.mean(values) + 1e-12 and high >= np.mean(values) - 1e-12
    assert bootstrap_interval(np.array(values)) == (low, high)


def test_photos_without_anomalies_or_inliers_do_not_count():
    only_anomalies = PixelResult(NAN, 1.0, NAN, 9, 0, 1, "fishyscapes")
    assert Paired.from_results([photo(NAN, NAN), only_anomalies], [photo(NAN, NAN), only_anomalies]) is None
    assert Paired.from_results([], []) is None


@pytest.fixture
def evaluated(tmp_path):
    """A walk against none, for two scores, of which the second has no row to compare with."""
    keys = [("without", "energy"), ("with", "energy"), ("with", "max_logit")]
    images = []
    for index, (before, after) in enumerate(zip(results(0), results(1), strict=True)):
        frame = Frame(f"photo{index}", tmp_path / f"{index}.png", None, LabelValues.from_values())
        images.append(ImageResult(frame, results=dict(zip(keys, (before, after, after), strict=True))))
    images.append(ImageResult(Frame("torn", tmp_path / "torn.png", None, LabelValues.from_values()), failure="torn"))
    pooled = PixelResult(0.9, 0.5, 0.2, 20, 380, 5, "fishyscapes")
    rows = [
        ResultRow("Road", label, score, None if label == "without" else {"steps": 20}, pooled, None, 0.5, 0.2, 1.5)
        for label, score in keys
    ]
    sweep = Sweep({}, {}, {}, images, SINGLE_PROCESS, None)
    return EvaluationResult("A table", "walk", ("AP",), "", {}, rows, {"Road": sweep})


def test_every_walk_is_told_below_the_table(evaluated):
    interval = bootstrap_interval(np.array([after[0] - before[0] for before, after in PHOTOS]))
    low, high = (f"{100 * end:+.2f}" for end in interval)
    _, table, explained, effects = evaluated.markdown().strip().split("\n\n")
    assert len(table.splitlines()) == 2 + 3 and "paired bootstrap (2000 samples" in explained
    assert effects == (
        "- with, energy: mean AuROC 90.00 → 90.00, mean AP 47.50 → 51.25, mean FPR95 25.00 → 23.75, "
        f"AP better 1, worse 2, tied 1, mean AP change +3.75, 95 % interval {low} to {high}, holds zero"
    )
    evaluated.sweeps["Track"] = evaluated.sweeps["Road"]
    assert evaluated.paired_header()[0] == "data set" and evaluated.paired_cells()[0][0] == "Road"
    assert "\n- Road, with, energy: mean AuROC" in evaluated.markdown()


def test_json_and_csv_have_the_figures_of_photos(evaluated):
    without, walked, other = json.loads(json.dumps(evaluated.as_dict()))["lines"]
    assert without["against_without"] is None and other["against_without"] is None
    assert walked["against_without"] == evaluated.paired(evaluated.rows[1]).as_dict()
    assert walked["by_photo"][0] == {
        "photo": "photo0", "auroc": 0.9, "ap": 0.5, "fpr95": 0.4, "positives": 5, "negatives": 95,
    }  # fmt: skip
    assert [line["photo"] for line in without["by_photo"]] == [f"photo{i}" for i in range(5)]

    without, walked, other = csv.DictReader(io.StringIO(evaluated.csv()))
    assert without["mean AP with"] == other["AP better"] == ""
    assert float(walked["mean AP without"]) == pytest.approx(47.5)
    assert (walked["AP better"], walked["AP worse"], walked["AP tied"]) == ("1", "2", "1")
    assert float(walked["mean AP change, low"]) < 3.75 < float(walked["mean AP change, high"])

    lines = list(csv.DictReader(io.StringIO(evaluated.photos_csv())))
    assert len(lines) == 3 * 5
    assert lines[5] == {
        "data set": "Road", "label": "with", "score": "energy", "photo": "photo0",
        "AuROC": "90.0", "AP": "50.0", "FPR95": "40.0", "positives": "5", "negatives": "95",
    }  # fmt: skip
    assert lines[4]["AP"] == "nan"
