"""Published tables: their figures, and the walks of their rows."""

import pytest

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.baselines import KnnWalk
from rwpm_fast.evaluate import published
from rwpm_fast.ops.maps import Walk
from rwpm_fast.presets import BENCHMARKS, METHODS, preset

# The supplement's figures, and k or tau of the row, typed cell by cell.
S3 = [
    (10, 86.38, 6.57, 0.93),
    (20, 86.65, 6.47, 0.93),
    (50, 86.71, 5.96, 0.93),
    (100, 86.24, 6.00, 0.93),
    (200, 84.61, 6.72, 0.93),
    (500, 81.00, 19.08, 0.93),
    (None, 87.34, 5.27, 2.04),
]
S4 = [
    (None, 85.42, 6.92),
    (1.0, 21.60, 79.25),
    (0.1, 31.45, 68.65),
    (0.01, 87.34, 5.27),
    (0.001, 85.97, 6.70),
    (0.0001, 85.57, 6.93),
]
# Table S.1, row by row as printed: without, with.
S1 = """
pebal 98.96 58.81 4.77 87.63 45.10 44.58 49.13 40.87 4.96 12.71
pebal 99.20 66.85 3.68 89.48 50.29 36.81 51.49 34.04 14.47 11.23
balanced_energy 99.03 67.07 2.93 88.31 41.48 41.46 47.70 52.00 9.07 18.78
balanced_energy 99.29 72.95 2.38 90.51 48.26 32.10 50.44 51.13 20.00 16.65
mask2anomaly 95.47 65.27 7.79 96.54 80.04 13.95 88.62 14.57 93.10 0.20
mask2anomaly 95.48 65.38 7.33 97.44 80.09 7.45 88.98 15.88 93.82 0.18
rba 98.62 70.81 6.30 97.99 85.42 6.92 90.86 11.59 91.85 0.46
rba 98.82 71.16 6.12 98.04 87.34 5.27 92.00 10.15 93.30 0.28
"""
N = {None: (85.42, 6.92, 11.12), (1, False): (87.90, 5.17, 0.32), (2, False): (87.34, 5.27, 2.04)}
N |= {(4, True): (87.17, 5.32, 4.35), (8, True): (86.91, 5.41, 6.26)}


def test_s1_is_the_published_table():
    lines = [line.split() for line in S1.strip().splitlines()]
    for without, walked in zip(lines[::2], lines[1::2], strict=True):
        method = without[0]
        printed = {0: [], 1: []}
        for benchmark in BENCHMARKS:
            rows = published.method_rows(method, benchmark, tolerance=1e-3)
            assert [row.label for row in rows] == ["without", "with"] and rows[0].settings is None
            assert rows[1].settings == {**vars(preset(method, benchmark)), "tolerance": 1e-3}
            for index, row in enumerate(rows):
                full = ("fishyscapes_lost_and_found", "road_anomaly")
                assert list(row.published) == ["AuROC", "AP", "FPR95"][0 if benchmark in full else 1 :]
                printed[index] += row.published.values()
        assert [printed[0], printed[1]] == [[*map(float, line[1:])] for line in (without, walked)]
    released = published.method_rows("rba", "road_anomaly", "released")
    assert released[1].settings["steps"] == 21
    with pytest.raises(ValueError, match="preset: expected paper or released, got 'mine'"):
        published.method_rows("rba", "road_anomaly", "mine")


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_s2_has_every_methods_walk_once(dataset):
    without, *rows = published.settings_rows(dataset, tolerance=0.0)
    assert without.settings is None
    found = {title: row.settings for row in rows for title in row.label.split(":")[0].split(", ")}
    assert found == {
        method.title: {**vars(preset(name, dataset)), "tolerance": 0.0} for name, method in METHODS.items()
    }
    assert len({tuple(row.settings.items()) for row in rows}) == len(rows)
    if dataset == "road_anomaly":
        assert rows[0].label == "PEBAL, Balanced Energy: alpha 0.99, T 20, n 4, calibrated"


def test_n_is_the_published_table():
    for row in published.get("n").with_settings(tolerance=1e-4):
        key = row.settings and (row.settings["parts"], row.settings.get("calibrated", False))
        assert tuple(row.published.values()) == N.get(key, ())
        assert row.settings is None or row.settings.items() >= {"alpha": 0.99, "steps": 20, "temperature": 0.01}.items()
    assert len(published.get("n").rows) == 8


def test_s3_is_the_published_table():
    table = published.get("S3")
    assert table.columns == ("AP", "FPR95", "FPS")
    assert [tuple(row.published.values()) for row in table.rows] == [tuple(figures) for _, *figures in S3]
    settings = {"alpha": 0.99, "steps": 20, "parts": 2}
    for row, (k, *_) in zip(table.with_settings(tolerance=1e-4), S3, strict=True):
        if k is None:
            assert row.label == "Softmax (tau = 0.01)" and row.graph == "softmax"
            assert row.settings == {**settings, "temperature": 0.01, "tolerance": 1e-4}
        else:
            assert row.label == f"k-NN (k = {k})" and row.graph == "knn"
            assert row.settings == {**settings, "neighbors": k, "weights": "cosine"}


def test_s4_is_the_published_table():
    table = published.get("S4")
    assert table.columns == ("AP", "FPR95")
    assert [tuple(row.published.values()) for row in table.rows] == [tuple(figures) for _, *figures in S4]
    for row, (tau, *_) in zip(table.with_settings(), S4, strict=True):
        if tau is None:
            assert row.label == "without" and row.settings is None
        else:
            assert float(row.label.removeprefix("tau = ")) == tau
            assert row.settings == {"alpha": 0.99, "steps": 20, "parts": 2, "temperature": tau}


@pytest.mark.parametrize("name", published.TABLES)
def test_rows_walk_by_their_settings(name):
    network = TinyNetwork()
    for row in published.get(name).with_settings(steps=7, tolerance=1e-3):
        scorer = row.scorer(Scorer(network), walk_values="embeddings")
        assert (scorer.walk is None) == (row.settings is None)
        if row.settings:
            settings = dict(row.settings)
            assert scorer.calibrated == settings.pop("calibrated", False)
            assert scorer.walk_values == "embeddings"
            assert isinstance(scorer.walk, KnnWalk if row.graph == "knn" else Walk)
            assert scorer.walk.settings.steps == 7
            has = {**vars(scorer.walk.settings), **vars(scorer.walk)}
            assert {name: has[name] for name in settings} == settings


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match=r"table: expected one of S3, S4, n, got 'S9'"):
        published.get("S9")
    for name, setting in (("S3", "temperature"), ("S4", "temperature"), ("n", "parts")):
        with pytest.raises(ValueError, match=rf"{setting}: sets the rows of table .* apart"):
            published.get(name).with_settings(**{setting: 1})
    with pytest.raises(ValueError, match="alpha"):
        published.Row("", {"alpha": 2.0}).walk()
    with pytest.raises(TypeError, match="neighbors"):
        published.Row("", {"neighbors": 10}).walk()  # the graph is named, not guessed from the settings
    assert isinstance(published.Row("", {"steps": 1}, graph="knn").walk(), KnnWalk)
