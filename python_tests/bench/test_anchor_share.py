"""The choice of the share of pixels to anchor, from effects that are given and from scenes that are scored."""

from functools import partial

import pytest

from bench import anchor_share
from bench.anchor_share import SHARES, Effect
from python_tests.tiny_network import TinyNetwork
from rwpm_fast.scenes import render_holdout_scene


def effects(*mean_aps):
    by_share = {share: Effect(mean, 1, -0.01) for share, mean in zip(SHARES, mean_aps, strict=True)}
    return {0.0: Effect(0.4, 3, -0.5), **by_share}


def test_the_largest_share_that_is_near_the_best_everywhere():
    falling, rising = effects(0.5, 0.498, 0.491, 0.489, 0.48), effects(0.1, 0.2, 0.3, 0.305, 0.309)
    assert anchor_share.choose([falling]) == 0.03
    assert anchor_share.choose([rising]) == 0.1
    assert anchor_share.choose([falling, rising]) == 0.03
    assert anchor_share.choose([effects(0.5, 0.4, 0.4, 0.4, 0.4), effects(0.1, 0.1, 0.1, 0.1, 0.4)]) == 0.01


def test_table():
    lines = anchor_share.table({("tiny", "scenes", "energy"): effects(0.5, 0.5, 0.5, 0.5, 0.25)}).splitlines()
    assert lines[0] == "| network | data | score | published walk | 1 % | 2 % | 3 % | 5 % | 10 % |"
    assert lines[2].startswith("| tiny | scenes | energy | 40.00, 3, -50.0 | 50.00, 1, -1.0 |")


def test_scenes_are_scored_under_every_share(tmp_path, monkeypatch):
    monkeypatch.setattr(anchor_share, "render_holdout_scene", partial(render_holdout_scene, size=(48, 96)))
    found = anchor_share.measure(TinyNetwork(), anchor_share.render(tmp_path, 2))
    assert list(found) == ["energy", "max_logit"]
    for by_share in found.values():
        assert list(by_share) == [0.0, *SHARES]
        assert len({effect.mean_ap for effect in by_share.values()}) > 3
    (tmp_path / "images/1000.png").write_bytes(b"no photo")
    with pytest.raises(ValueError, match="photos: 1 could not be used"):
        anchor_share.measure(TinyNetwork(), anchor_share.folders(tmp_path / "images", tmp_path / "labels").frames)
