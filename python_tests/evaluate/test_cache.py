"""Caches in memory and in a folder hold the same, and no score name is mistaken for the times."""

import os
import pickle

import numpy as np
import pytest
import torch

from python_tests.tiny_network import TinyNetwork
from rwpm_fast.evaluate.cache import CacheEntry, DiskCache, MemoryCache, cache_key, fingerprint, walk_fingerprint
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer


@pytest.fixture(params=["memory", "folder"])
def cache(request, tmp_path):
    return MemoryCache() if request.param == "memory" else DiskCache(tmp_path)


def entry(seed=0):
    random = np.random.default_rng(seed)
    score_maps = {name: random.normal(size=(3, 4)).astype(np.float32) for name in ("energy", "seconds", "file")}
    return CacheEntry(score_maps, 0.5, 0.25)


def test_what_is_put_is_read(cache):
    one, other = entry(0), entry(1)
    cache.put("a", one)
    cache.put("b", other)
    assert "a" in cache and "b" in cache and "c" not in cache
    for key, wanted in (("a", one), ("b", other)):
        assert cache.seconds(key) == (0.5, 0.25)
        for score, score_map in wanted.score_maps.items():
            got = cache.score_map(key, score)
            np.testing.assert_array_equal(got, score_map)
            assert got.dtype == np.float32


def test_a_missing_entry(cache):
    for read in (lambda: cache.seconds("a"), lambda: cache.score_map("a", "energy")):
        with pytest.raises(OSError, match="a"):
            read()


def test_a_folder_is_shared_and_memory_is_not(tmp_path):
    for cache in (DiskCache(tmp_path), MemoryCache()):
        cache.put("a", entry())
        assert ("a" in pickle.loads(pickle.dumps(cache))) == isinstance(cache, DiskCache)


def test_keys_differ_in_all_that_matters():
    network, photo = TinyNetwork(), np.zeros((4, 6, 3), np.uint8)
    walks = [Scorer(network), Scorer(network, walk=Walk(steps=2)), Scorer(network, walk=Walk(steps=3))]
    fingerprints = [fingerprint(network, ["energy"]), fingerprint(network, ["entropy"])]
    with torch.no_grad():
        network.classifier.bias[0] += 1
    fingerprints.append(fingerprint(network, ["energy"]))
    keys = {cache_key("a", photo, print_, walk_fingerprint(scorer)) for print_ in fingerprints for scorer in walks}
    assert len(keys) == 9 and all(key.startswith("a-") for key in keys)
    assert cache_key("a", photo, fingerprints[0]) != cache_key("a", photo.reshape(6, 4, 3), fingerprints[0])
    assert walk_fingerprint(Scorer(network, walk_padding=False)) == walk_fingerprint(walks[0])  # without a walk


LONG = ["x" * 240, "x" * 251, "ü" * 120, "日" * 84, os.fsdecode(b"\xff" * 240)]


@pytest.mark.parametrize("frame_id", LONG, ids=range(len(LONG)))
def test_a_name_of_any_length_names_a_file(tmp_path, frame_id):
    """Names of files have at most 255 bytes; entries that share the beginning of their name stay apart."""
    photo = np.zeros((4, 6, 3), np.uint8)
    keys = [cache_key(frame_id, photo, print_) for print_ in (b"one", b"other")]
    cache = DiskCache(tmp_path)
    for seed, key in enumerate(keys):
        cache.put(key, entry(seed))
    assert len({path.name for path in tmp_path.iterdir()}) == 2
    for seed, key in enumerate(keys):
        np.testing.assert_array_equal(cache.score_map(key, "energy"), entry(seed).score_maps["energy"])


def test_a_key_begins_with_the_name(tmp_path):
    photo = np.zeros((4, 6, 3), np.uint8)
    assert cache_key("city_000001", photo).startswith("city_000001-")
    assert cache_key("x" * 240, photo).startswith("x" * 100 + "-")
