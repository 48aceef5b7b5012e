"""Tables of the supplement: their figures, the walks of their rows, and sweeps that go on where they were cut off."""

import numpy as np
import pytest
import torch
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import tables
from rwpm_fast.baselines import KnnWalk
from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import evaluate
from rwpm_fast.maps import Walk
from rwpm_fast.metrics import component_metrics
from rwpm_fast.scorer import Scorer
from rwpm_fast.sweep import evaluate_kept, sweep

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


@pytest.fixture
def frames(tmp_path):
    """Four photos and their labels."""
    random = np.random.default_rng(0)
    frames = []
    for index in range(4):
        photo, label = tmp_path / f"photo{index}.png", tmp_path / f"label{index}.png"
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(photo)
        Image.fromarray(random.choice(np.array([0, 1, 255], np.uint8), (16, 24))).save(label)
        frames.append(Frame(f"photo{index}", photo, label, LabelValues.of(void=None)))
    return frames


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


WALKS = (None, Walk(steps=3), KnnWalk(5, "cosine", steps=3, parts=2))


def scorers_of(network, walks=WALKS, **settings):
    return [Scorer(network, walk=walk, **settings) for walk in walks]


def test_s3_is_the_published_table():
    table = tables.get("S3")
    assert table.columns == ("AP", "FPR95", "FPS")
    assert [row.published for row in table.rows] == [tuple(figures) for _, *figures in S3]
    settings = {"alpha": 0.99, "steps": 20, "parts": 2}
    for row, (k, *_), walk in zip(table.rows, S3, table.row_settings(tolerance=1e-4), strict=True):
        if k is None:
            assert row.label == "Softmax (tau = 0.01)"
            assert walk == {**settings, "temperature": 0.01, "tolerance": 1e-4}
        else:
            assert row.label == f"k-NN (k = {k})"
            assert walk == {**settings, "neighbours": k, "weights": "cosine"}


def test_s4_is_the_published_table():
    table = tables.get("S4")
    assert table.columns == ("AP", "FPR95")
    assert [row.published for row in table.rows] == [tuple(figures) for _, *figures in S4]
    for row, (tau, *_), walk in zip(table.rows, S4, table.row_settings(), strict=True):
        if tau is None:
            assert row.label == "without" and walk is None
        else:
            assert float(row.label.removeprefix("tau = ")) == tau
            assert walk == {"alpha": 0.99, "steps": 20, "parts": 2, "temperature": tau}


@pytest.mark.parametrize("name", tables.TABLES)
def test_rows_walk_by_their_settings(name):
    for settings in tables.get(name).row_settings(steps=7, tolerance=1e-3):
        walk = tables.walk_of(settings)
        assert (walk is None) == (settings is None)
        if settings:
            assert isinstance(walk, KnnWalk if "neighbours" in settings else Walk)
            assert walk.steps == 7
            assert {name: getattr(walk, name) for name in settings} == settings


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match=r"table: expected one of S3, S4, got 'S9'"):
        tables.get("S9")
    for name in tables.TABLES:
        with pytest.raises(ValueError, match=rf"temperature: sets the rows of table S\.{name[1]} apart"):
            tables.get(name).row_settings(temperature=0.1)


@pytest.mark.parametrize("walk", WALKS[1:], ids=["softmax", "knn"])
def test_sweep_pools_as_evaluate_does(frames, cache, walk):
    scorer = Scorer(TinyNetwork(), walk=walk, calibrated=True)
    settings = {"scores": ("energy", "entropy"), "fpr_rule": "pebal"}
    wanted = evaluate(scorer, frames, **settings)
    got = sweep([Scorer(scorer.network), scorer], frames, cache, **settings)
    assert got.results == {
        (index, score): wanted.results[score, name]
        for index, name in enumerate(("without", "with"))
        for score in ("energy", "entropy")
    }
    assert len({result.ap for result in got.results.values()}) == 4


def test_kept_evaluation_adds_components(frames, cache):
    scorer = Scorer(TinyNetwork(), walk=Walk(steps=3))
    wanted, got = evaluate(scorer, frames), evaluate_kept(scorer, frames, cache, scores=("energy", "max_logit"))
    assert (got.results, got.components, got.failures) == (wanted.results, {}, {})
    got = evaluate_kept(scorer, frames, cache, track="obstacle_track")
    assert got.components.keys() == got.results.keys() == {("energy", "without"), ("energy", "with")}
    maps = [
        (scorer.analyse(photo).walked.score("energy").numpy(), labels) for photo, labels in (f.read() for f in frames)
    ]
    assert got.components["energy", "with"] == component_metrics(lambda: maps, "obstacle_track")[1]
    row = got.as_dict()["results"][1]
    assert row["walk"] and row["components"]["images"] == 4 and len(row["components"]["by_threshold"]) == 11
    with pytest.raises(ValueError, match="track: expected one of"):
        evaluate_kept(scorer, frames, cache, track="road")


def test_network_runs_once_a_photo(frames, cache):
    network = TinyNetwork()
    got = sweep(scorers_of(network), frames, cache)
    assert network.passes == len(frames)
    assert got.seconds.shape == (4, 3, 2)
    assert (got.seconds[:, :, 0] > 0).all()
    assert (got.seconds[:, :, 1] > 0).tolist() == [[False, True, True]] * 4
    for index in range(3):
        assert got.network_seconds(index) == np.median(got.seconds[:, index, 0])
        assert got.walk_seconds(index) == np.median(got.seconds[:, index, 1])
        assert got.fps(index) == pytest.approx(1 / np.median(got.seconds[:, index].sum(-1)))


def test_an_interrupted_sweep_goes_on(frames, cache, tmp_path):
    (tmp_path / "other").mkdir()
    whole = sweep(scorers_of(TinyNetwork()), frames, tmp_path / "other")

    network = TinyNetwork()
    network.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        sweep(scorers_of(network), frames, cache)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    assert len(kept) == 2

    network = TinyNetwork()
    resumed = sweep(scorers_of(network), frames, cache)
    assert network.passes == 2
    assert resumed.results == whole.results
    assert len(list(cache.iterdir())) == 4
    assert all(path.read_bytes() == content for path, content in kept.items())

    network = TinyNetwork()
    again = sweep(scorers_of(network), frames, cache)
    assert network.passes == 0
    assert again.results == whole.results
    assert np.array_equal(again.seconds, resumed.seconds)


@pytest.mark.parametrize(
    ("walks", "settings"),
    [
        ((None, Walk(steps=4), WALKS[2]), {}),
        ((None, WALKS[1], KnnWalk(6, "cosine", steps=3, parts=2)), {}),
        ((None, WALKS[1], KnnWalk(5, "softmax", steps=3, parts=2)), {}),
        ((WALKS[1], None, WALKS[2]), {}),
        (WALKS, {"calibrated": True}),
        (WALKS, {"walk_values": "embeddings"}),
    ],
    ids=["steps", "neighbours", "weights", "order", "calibrated", "walk_values"],
)
def test_changed_scorers_run_anew(frames, cache, tmp_path, walks, settings):
    network = TinyNetwork()
    sweep(scorers_of(network), frames, cache)
    got = sweep(scorers_of(network, walks, **settings), frames, cache)
    assert network.passes == 2 * len(frames)
    (tmp_path / "other").mkdir()
    assert got.results == sweep(scorers_of(network, walks, **settings), frames, tmp_path / "other").results


def test_changed_networks_scores_and_threads_run_anew(frames, cache):
    network = TinyNetwork()
    results = [sweep(scorers_of(network), frames, cache).results[0, "energy"]]
    with torch.no_grad():
        network.classifier.bias[0] += 1
    results.append(sweep(scorers_of(network), frames, cache).results[0, "energy"])
    network.name = "small"
    sweep(scorers_of(network), frames, cache)
    sweep(scorers_of(network), frames, cache, scores=("entropy",))
    assert network.passes == 4 * len(frames)
    assert results[0] != results[1]

    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        sweep(scorers_of(network), frames, cache)
    finally:
        torch.set_num_threads(threads)
    assert network.passes == 5 * len(frames)


def test_changed_photos_run_anew_and_changed_labels_need_not(frames, cache):
    network = TinyNetwork()
    before = sweep(scorers_of(network), frames, cache)
    photo, label = frames[1].photo, frames[1].label
    Image.fromarray(np.array(Image.open(label)) ^ 1).save(label)  # 254 is void as 255 is
    relabelled = sweep(scorers_of(network), frames, cache)
    assert network.passes == 4
    assert relabelled.results != before.results

    pixels = np.array(Image.open(photo))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(photo)
    sweep(scorers_of(network), frames, cache)
    assert network.passes == 5


def test_broken_photos_are_in_no_row(frames, cache):
    Image.fromarray(np.zeros((16, 23), np.uint8)).save(frames[0].label)
    # Its map of 2 x 12 is cut into parts of six pixels: too few for one of the rows.
    Image.fromarray(np.zeros((4, 24, 3), np.uint8)).save(frames[2].photo)
    Image.fromarray(np.zeros((4, 24), np.uint8)).save(frames[2].label)
    told = []
    scorers = scorers_of(TinyNetwork(), (None, Walk(steps=3), KnnWalk(6, parts=2)))
    got = sweep(scorers, frames, cache, on_photo=lambda photo, failure: told.append((photo, failure is None)))
    assert told == [
        (photo, good) for photo, good in zip((f.photo for f in frames), (False, True, False, True), strict=True)
    ]
    assert "expected the photo's size 16x24, got 16x23" in got.failures[frames[0].photo]
    assert "neighbours: expected 1 to 5 for 6 pixels, got 6" in got.failures[frames[2].photo]
    assert {result.images for result in got.results.values()} == {2}
    assert len(got.seconds) == len(list(cache.iterdir())) == 2


def test_scores_that_are_nan_fail_their_photo(frames, cache):
    network = TinyNetwork()
    with torch.no_grad():
        network.classifier.bias[0] = torch.nan
    got = sweep(scorers_of(network), frames[:1], cache)
    assert "energy: NaN at 384 pixels, with walk None" in got.failures[frames[0].photo]
    assert not list(cache.iterdir())
    assert np.isnan([got.fps(0), got.walk_seconds(1), got.network_seconds(2)]).all()


def test_errors_before_any_photo(cache):
    def untouched():
        raise AssertionError("a photo was asked for")
        yield

    one_network = scorers_of(TinyNetwork())
    for scorers in ([], [Scorer(TinyNetwork()), Scorer(TinyNetwork())]):
        with pytest.raises(ValueError, match="scorers: expected one or more that share a network"):
            sweep(scorers, untouched(), cache)
    with pytest.raises(ValueError, match=r"name: expected one of energy.*got 'colour'"):
        sweep(one_network, untouched(), cache, scores=("colour",))
    with pytest.raises(ValueError, match=r"fpr_rule: expected one of .*got 'mine'"):
        sweep(one_network, untouched(), cache, fpr_rule="mine")


def test_a_folder_that_is_not_there(frames, tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*nowhere"):
        sweep(scorers_of(TinyNetwork()), frames, tmp_path / "nowhere")
