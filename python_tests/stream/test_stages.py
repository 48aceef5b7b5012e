"""The stages of a scorer, and the levels of degradation of its walk."""

import numpy as np
import pytest
import torch

from python_tests.stream.fakes import FakeSource
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.baselines import KnnWalk
from rwpm_fast.stream import StreamSettings, stream
from rwpm_fast.stream.levels import levels
from rwpm_fast.stream.stages import ScorerStages

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def scorer(**walk):
    return Scorer(TinyNetwork(), walk=Walk(**walk))


def test_levels_come_in_the_stated_order():
    found = levels(scorer(), StreamSettings(), (12, 16))
    assert [level.degradations for level in found] == [
        (),
        ("tolerance 0.001",),
        ("tolerance 0.001", "steps 10"),
        ("tolerance 0.001", "steps 5"),
        ("tolerance 0.001", "steps 5", "sky masked"),
        ("tolerance 0.001", "steps 5", "sky masked", "parts 2"),
        ("tolerance 0.001", "steps 5", "sky masked", "parts 4"),
        ("no walk",),
    ]
    walks = [level.scorer.walk for level in found[:-1]]
    assert [walk.settings.tolerance for walk in walks] == [1e-4, *[1e-3] * 6]
    assert [walk.settings.steps for walk in walks] == [20, 20, 10, 5, 5, 5, 5]
    assert [walk.settings.parts for walk in walks] == [1, 1, 1, 1, 1, 2, 4]
    assert [level.masked for level in found] == [False] * 4 + [True] * 3 + [False]
    assert found[-1].scorer.walk is None


@pytest.mark.parametrize(
    ("walk", "settings", "map_size", "texts"),
    [
        ({"steps": 4, "tolerance": 0.01}, {}, (12, 16), [(), ("sky masked",), ("sky masked", "parts 2")]),
        ({"steps": 7, "tolerance": 0.01, "parts": 3}, {}, (5, 9), [(), ("steps 5",), ("steps 5", "sky masked")]),
    ],
)
def test_what_changes_nothing_is_no_level(walk, settings, map_size, texts):
    found = [level.degradations for level in levels(scorer(**walk), StreamSettings(**settings), map_size)]
    assert found[: len(texts)] == texts and found[-1] == ("no walk",)


def test_a_trained_temperature_and_the_anchor_stay():
    tau = torch.nn.Parameter(torch.tensor(0.03))
    found = levels(scorer(temperature=tau, anchor_share=0.1), StreamSettings(), (12, 16))
    assert all(level.scorer.walk.temperature is tau for level in found[:-1])
    assert all(level.scorer.walk.settings.anchor_share == 0.1 for level in found[:-1])


def test_a_walk_of_another_kind_is_masked_or_left_out():
    found = levels(Scorer(TinyNetwork(), walk=KnnWalk()), StreamSettings(), (12, 16))
    assert [level.degradations for level in found] == [(), ("sky masked",), ("no walk",)]
    assert [level.degradations for level in levels(Scorer(TinyNetwork()), StreamSettings(), (12, 16))] == [()]


def test_the_stages_are_the_scorer():
    whole = scorer()
    stages = ScorerStages(whole, StreamSettings())
    assert stages.prepare(PHOTO, measured=False) is None
    score, segmentation = stages.score(stages.walk(stages.embed(PHOTO), 0))
    expected = whole(PHOTO)
    np.testing.assert_allclose(score, expected.score.numpy(), rtol=1e-5, atol=1e-5)
    assert (segmentation == expected.segmentation.numpy()).all() and segmentation.dtype == np.uint8


def test_every_level_runs_and_is_what_it_says():
    whole = scorer()
    stages = ScorerStages(whole, StreamSettings())
    costs = stages.prepare(PHOTO, measured=True)
    assert len(costs.walks) == len(stages.degradations) == 8 and min(costs.walks) > 0
    embedded = stages.embed(PHOTO)
    segmentation = stages.score(stages.walk(embedded, 0))[1]
    scores = [stages.score(stages.walk(embedded, level))[0] for level in range(8)]
    np.testing.assert_allclose(scores[7], whole.with_walk(None)(PHOTO).score.numpy(), rtol=1e-5, atol=1e-5)
    fewer = whole.with_walk(Walk(tolerance=1e-3, steps=5))
    np.testing.assert_allclose(scores[3], fewer(PHOTO).score.numpy(), rtol=1e-5, atol=1e-5)
    stages.score(stages.walk(embedded, 0))
    masked = stages.score(stages.walk(embedded, 4))[0]
    np.testing.assert_allclose(masked, fewer(PHOTO, segmentation != 1).score.numpy(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(scores[3], scores[7])


def test_the_ego_vehicle_is_masked_with_the_sky():
    ego = np.zeros((24, 32), bool)
    ego[12:] = True
    whole = scorer(steps=5, tolerance=1e-3)
    stages = ScorerStages(whole, StreamSettings(ego_mask=ego))
    stages.prepare(PHOTO, measured=True)
    stages._segmentation = None  # of no frame before
    assert stages.degradations[1] == ("sky and ego masked",)
    score, _ = stages.score(stages.walk(stages.embed(PHOTO), 1))
    np.testing.assert_allclose(score, whole(PHOTO, ~ego).score.numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"ego_mask: expected \[4, 6\] to match the frames, got \[24, 32\]"):
        list(stream(FakeSource(2), whole, settings=StreamSettings(ego_mask=ego)))


def test_a_sky_without_end_walks_not_at_all():
    whole = scorer(steps=5, tolerance=1e-3)
    stages = ScorerStages(whole, StreamSettings())
    stages.prepare(PHOTO, measured=True)
    stages._segmentation = np.ones((24, 32), np.uint8)
    score, _ = stages.score(stages.walk(stages.embed(PHOTO), 1))
    np.testing.assert_allclose(score, whole.with_walk(None)(PHOTO).score.numpy(), rtol=1e-5, atol=1e-5)


def test_a_score_that_is_not_finite_ends_the_stream():
    whole = scorer()
    with torch.no_grad():
        whole.network.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="energy: not finite"):
        list(stream(FakeSource(2), whole))


def test_stream_reads_folders_and_gives_what_the_scorer_gives(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(5)]
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "frame_2.png").write_bytes(b"no picture")
    whole = scorer()
    with stream(tmp_path, whole, all_frames=True) as results:
        found = {result.index: result for result in results}
    assert list(found) == [0, 1, 3, 4] and results.summary.broken == 1
    for index, result in found.items():
        assert (result.photo == photos[index]).all() and result.degradations == ()
        np.testing.assert_allclose(result.score, whole(photos[index]).score.numpy(), rtol=1e-5, atol=1e-5)
        assert set(result.stages) == {"decode", "network", "walk", "score"} and result.latency > 0
    with pytest.raises(TypeError, match="topic: only for a source that is opened here"):
        stream(FakeSource(2), whole, topic="/camera")
