"""Chains take turns, warm up, and are timed as often as asked."""

from __future__ import annotations

import pytest
import torch

from python_tests.synboost.parts import small_pipeline
from python_tests.synboost.test_pipeline import random_photo
from rwpm_fast.networks import CompactNet
from rwpm_fast.synboost.timing import measure_chains, untrained_chain


class Recorded:
    """A chain that writes down when it runs."""

    def __init__(self, name, turns):
        self.name, self.turns, self.chain = name, turns, small_pipeline()

    def __call__(self, photo):
        self.turns.append(self.name)
        return self.chain(photo)


def test_chains_take_turns_after_warming_up():
    turns = []
    chains = {name: Recorded(name, turns) for name in ("full", "light")}
    seconds = measure_chains(chains, random_photo(), runs=3, warmup=2)
    assert turns == ["full", "light"] * 5
    assert [len(runs) for runs in seconds.values()] == [3, 3]
    for run in (run for runs in seconds.values() for run in runs):
        assert run.walk == 0 and all(value > 0 for name, value in run._asdict().items() if name != "walk")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chains": {}}, "chains: expected one or more, got none"),
        ({"runs": 0}, "runs: expected 1 or more, got 0"),
        ({"warmup": -1}, "warmup: expected 0 or more, got -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        measure_chains(**{"chains": {"light": small_pipeline()}, "photo": random_photo(), **settings})


def test_light_chain():
    state = torch.get_rng_state()
    chain = untrained_chain("light")
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(chain.segmentation.network, CompactNet) and chain.segmentation.walk is None
    assert chain.features.network is chain.segmentation.network and chain.size == (256, 512)


def test_full_chain_has_the_networks_of_the_paper():
    with torch.device("meta"):
        chain = untrained_chain("full", "meta")
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in (("dissimilarity", chain.dissimilarity), ("features", chain.features))
    }
    assert sizes == {"dissimilarity": 18_780_162, "features": 12_944_960}
    assert chain.segmentation.network.name == "deeplab_wrn38" and chain.synthesis.size == (512, 1024)


def test_unknown_chain():
    with pytest.raises(ValueError, match="kind: expected full or light, got 'heavy'"):
        untrained_chain("heavy")
