"""Sweeps: pooled as PixelMetrics pools, kept photo by photo, going on where they were cut off."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import attach
from rwpm_fast.baselines import KnnWalk
from rwpm_fast.data import Frame, LabelValues
from rwpm_fast.evaluate import evaluate, sweep
from rwpm_fast.metrics import PixelMetrics, component_metrics
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer


@pytest.fixture
def frames(tmp_path):
    """Four photos and their labels."""
    random = np.random.default_rng(0)
    frames = []
    for index in range(4):
        photo, label = tmp_path / f"photo{index}.png", tmp_path / f"label{index}.png"
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(photo)
        Image.fromarray(random.choice(np.array([0, 1, 255], np.uint8), (16, 24))).save(label)
        frames.append(Frame(f"photo{index}", photo, label, LabelValues.from_values(void=None)))
    return frames


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


WALKS = (None, Walk(steps=3), KnnWalk(5, "cosine", steps=3, parts=2))


def scorers_of(network, walks=WALKS, **settings):
    return {str(index): Scorer(network, walk=walk, **settings) for index, walk in enumerate(walks)}


@pytest.mark.parametrize("walk", WALKS[1:], ids=["softmax", "knn"])
@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_pools_all_pixels(frames, cache, walk, kept):
    scorer = Scorer(TinyNetwork(), walk=walk, calibrated=True)
    settings = {"scores": ("energy", "entropy"), "fpr_rule": "pebal", "track": "obstacle_track"}
    got = evaluate(scorer, frames, cache=cache if kept else None, **settings)
    analyses = [(scorer.analyze(photo), labels) for photo, labels in (frame.read() for frame in frames)]
    assert list(got.results) == [(w, score) for w in ("without", "with") for score in ("energy", "entropy")]
    for (which, score), result in got.results.items():
        maps = [((a.walked if which == "with" else a.plain).score(score).numpy(), labels) for a, labels in analyses]
        pooled = PixelMetrics("pebal")
        for index, one in enumerate(maps):
            pooled.update(*one)
            alone = PixelMetrics("pebal")
            alone.update(*one)
            assert got.images[index].results[which, score] == alone.compute()
            assert np.array_equal(got.score_map(got.images[index], which, score), one[0])
        assert result == pooled.compute()
        assert got.curves[which, score].ap() == result.ap
        both = got.binned[which, score], got.components[which, score]
        assert both == component_metrics(lambda maps=maps: maps, "obstacle_track")
    assert len({result.ap for result in got.results.values()}) == 4
    assert evaluate(Scorer(scorer.network), frames).results.keys() == {("without", "energy"), ("without", "max_logit")}


def test_network_runs_once_a_photo(frames, cache):
    network = TinyNetwork()
    got = sweep(scorers_of(network), frames, cache=cache)
    assert network.passes == len(frames)
    seconds = np.array([list(image.seconds.values()) for image in got.images])  # [photos, scorers, 2]
    assert (seconds[:, :, 0] > 0).all()
    assert (seconds[:, :, 1] > 0).tolist() == [[False, True, True]] * 4
    for index in range(3):
        assert got.network_seconds(str(index)) == np.median(seconds[:, index, 0])
        assert got.walk_seconds(str(index)) == np.median(seconds[:, index, 1])
        assert got.fps(str(index)) == pytest.approx(1 / np.median(seconds[:, index].sum(-1)))


def test_an_interrupted_sweep_goes_on(frames, cache, tmp_path):
    (tmp_path / "other").mkdir()
    whole = sweep(scorers_of(TinyNetwork()), frames, cache=tmp_path / "other")

    network = TinyNetwork()
    network.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        sweep(scorers_of(network), frames, cache=cache)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    assert len(kept) == 2 * 3

    network = TinyNetwork()
    resumed = sweep(scorers_of(network), frames, cache=cache)
    assert network.passes == 2
    assert resumed.results == whole.results
    assert len(list(cache.iterdir())) == 4 * 3
    assert all(path.read_bytes() == content for path, content in kept.items())

    network = TinyNetwork()
    again = sweep(scorers_of(network), frames, cache=cache)
    assert network.passes == 0
    assert again.results == whole.results
    assert [image.seconds for image in again.images] == [image.seconds for image in resumed.images]


@pytest.mark.parametrize(
    ("walks", "settings"),
    [
        ((None, Walk(steps=4), WALKS[2]), {}),
        ((None, WALKS[1], KnnWalk(6, "cosine", steps=3, parts=2)), {}),
        ((None, WALKS[1], KnnWalk(5, "softmax", steps=3, parts=2)), {}),
        (WALKS, {"calibrated": True}),
        (WALKS, {"walk_values": "embeddings"}),
        (WALKS, {"walk_padding": False}),
    ],
    ids=["steps", "neighbors", "weights", "calibrated", "walk_values", "walk_padding"],
)
def test_changed_scorers_run_again(frames, cache, tmp_path, walks, settings):
    network = TinyNetwork()
    sweep(scorers_of(network), frames, cache=cache)
    got = sweep(scorers_of(network, walks, **settings), frames, cache=cache)
    assert network.passes == 2 * len(frames)
    (tmp_path / "other").mkdir()
    assert got.results == sweep(scorers_of(network, walks, **settings), frames, cache=tmp_path / "other").results


def test_scorers_that_were_there_serve_under_any_name(frames, cache):
    network = TinyNetwork()
    before = sweep(scorers_of(network), frames, cache=cache)
    again = sweep({"softmax": Scorer(network, walk=WALKS[1]), "none": Scorer(network)}, frames, cache=cache)
    assert network.passes == len(frames)
    assert again.results["softmax", "energy"] == before.results["1", "energy"]
    assert again.results["none", "energy"] == before.results["0", "energy"]


def test_a_file_that_was_cut_short_is_replaced(frames, cache):
    network = TinyNetwork()
    before = sweep(scorers_of(network), frames, cache=cache)
    first, second, *_ = sorted(cache.glob("photo2-*"))
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    second.write_bytes(b"")
    assert sweep(scorers_of(network), frames, cache=cache).results == before.results
    assert network.passes == len(frames) + 1
    content = bytearray(content)
    content[200] ^= 255  # its directory is whole, an array is not
    first.write_bytes(content)
    with pytest.raises(OSError, match=rf"{first.name}: damaged .*delete it and run again"):
        sweep(scorers_of(network), frames, cache=cache)


def test_changed_networks_scores_and_threads_run_again(frames, cache):
    network = TinyNetwork()
    results = [sweep(scorers_of(network), frames, cache=cache).results["0", "energy"]]
    with torch.no_grad():
        network.classifier.bias[0] += 1
    results.append(sweep(scorers_of(network), frames, cache=cache).results["0", "energy"])
    network.name = "small"
    sweep(scorers_of(network), frames, cache=cache)
    sweep(scorers_of(network), frames, cache=cache, scores=("entropy",))
    assert network.passes == 4 * len(frames)
    assert results[0] != results[1]

    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        sweep(scorers_of(network), frames, cache=cache)
    finally:
        torch.set_num_threads(threads)
    assert network.passes == 5 * len(frames)


def test_changed_preprocessing_runs_again(frames, cache):
    """An attached network's numbers for it are no weights."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1))
    paths = {"embedding": "0", "head": "1"}
    found = []
    for mean in (0.5, 0.4):
        network = attach(model, **paths, mean=(mean,) * 3, std=(0.2,) * 3)
        found.append(sweep({"none": Scorer(network)}, frames, cache=cache).results["none", "energy"])
    assert found[0] != found[1] and len(list(cache.iterdir())) == 2 * len(frames)


def test_changed_padding_runs_again(frames, cache):
    """Of a size that needs none, the preprocessing is the same."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1))
    for padded_to in (1, 32):
        network = attach(model, "0", "1", mean=(0.5,) * 3, std=(0.2,) * 3, padded_to=padded_to)
        sweep({"none": Scorer(network)}, frames, cache=cache)
    assert len(list(cache.iterdir())) == 2 * len(frames)


def test_the_order_of_scores_changes_nothing(frames, cache):
    network = TinyNetwork()
    before = sweep(scorers_of(network), frames, cache=cache, scores=("energy", "entropy"))
    again = sweep(scorers_of(network), frames, cache=cache, scores=("entropy", "energy", "entropy"))
    assert network.passes == len(frames) and again.results == before.results


def test_changed_photos_run_again_and_changed_labels_need_not(frames, cache):
    network = TinyNetwork()
    before = sweep(scorers_of(network), frames, cache=cache)
    photo, label = frames[1].photo, frames[1].label
    Image.fromarray(np.array(Image.open(label)) ^ 1).save(label)  # 254 is void as 255 is
    relabeled = sweep(scorers_of(network), frames, cache=cache)
    assert network.passes == 4
    assert relabeled.results != before.results

    pixels = np.array(Image.open(photo))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(photo)
    sweep(scorers_of(network), frames, cache=cache)
    assert network.passes == 5


def test_broken_photos_are_in_no_row(frames, cache):
    Image.fromarray(np.zeros((16, 23), np.uint8)).save(frames[0].label)
    # Its map of 2 x 12 is cut into parts of six pixels: too few for one of the rows.
    Image.fromarray(np.zeros((4, 24, 3), np.uint8)).save(frames[2].photo)
    Image.fromarray(np.zeros((4, 24), np.uint8)).save(frames[2].label)
    reported = []
    scorers = scorers_of(TinyNetwork(), (None, Walk(steps=3), KnnWalk(6, parts=2)))
    got = sweep(scorers, frames, cache=cache, on_image=lambda photo, failure: reported.append((photo, failure is None)))
    assert reported == [
        (photo, good) for photo, good in zip((f.photo for f in frames), (False, True, False, True), strict=True)
    ]
    assert "expected the photo's size 16x24, got 16x23" in got.failures[frames[0].photo]
    assert "neighbors: expected 1 to 5 for 6 pixels, got 6" in got.failures[frames[2].photo]
    assert {result.images for result in got.results.values()} == {2}
    assert [image.frame for image in got.used] == [frames[1], frames[3]]


def test_scores_that_are_nan_fail_their_photo(frames, cache):
    network = TinyNetwork()
    with torch.no_grad():
        network.classifier.bias[0] = torch.nan
    got = sweep(scorers_of(network), frames[:1], cache=cache)
    assert "energy: not finite at 384 of 384 pixels" in got.failures[frames[0].photo]
    assert not list(cache.iterdir())
    assert np.isnan([got.fps("0"), got.walk_seconds("1"), got.network_seconds("2")]).all()


def test_errors_before_any_photo(cache):
    def untouched():
        raise AssertionError("a photo was asked for")
        yield

    one_network = scorers_of(TinyNetwork())
    for scorers in ({}, {"a": Scorer(TinyNetwork()), "b": Scorer(TinyNetwork())}):
        with pytest.raises(ValueError, match="scorers: expected one or more that share a network"):
            sweep(scorers, untouched(), cache=cache)
    with pytest.raises(ValueError, match=r"name: expected one of energy.*got 'color'"):
        sweep(one_network, untouched(), cache=cache, scores=("color",))
    with pytest.raises(ValueError, match=r"fpr_rule: expected one of .*got 'mine'"):
        sweep(one_network, untouched(), cache=cache, fpr_rule="mine")


def test_a_folder_that_is_not_there(frames, tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*nowhere"):
        sweep(scorers_of(TinyNetwork()), frames, cache=tmp_path / "nowhere")
