import dataclasses

import pytest

from rwpm_fast.presets import BENCHMARKS, METHODS, Preset, preset

# Table S.2 of the supplement, typed cell by cell: method, benchmark, alpha, T; then n and the dagger of Table S.1.
TABLE = [
    ("pebal", "fishyscapes_lost_and_found", 0.99, 5, 4, True),
    ("pebal", "road_anomaly", 0.99, 20, 4, True),
    ("pebal", "anomaly_track", 0.99, 5, 4, True),
    ("pebal", "obstacle_track", 0.99, 5, 4, True),
    ("balanced_energy", "fishyscapes_lost_and_found", 0.90, 5, 4, True),
    ("balanced_energy", "road_anomaly", 0.99, 20, 4, True),
    ("balanced_energy", "anomaly_track", 0.99, 5, 4, True),
    ("balanced_energy", "obstacle_track", 0.99, 5, 4, True),
    ("mask2anomaly", "fishyscapes_lost_and_found", 0.10, 5, 2, False),
    ("mask2anomaly", "road_anomaly", 0.99, 20, 2, False),
    ("mask2anomaly", "anomaly_track", 0.90, 5, 2, False),
    ("mask2anomaly", "obstacle_track", 0.70, 5, 2, False),
    ("rba", "fishyscapes_lost_and_found", 0.50, 5, 2, False),
    ("rba", "road_anomaly", 0.99, 20, 2, False),
    ("rba", "anomaly_track", 0.99, 5, 2, False),
    ("rba", "obstacle_track", 0.90, 5, 2, False),
]


@pytest.mark.parametrize(("method", "dataset", "alpha", "steps", "parts", "calibrated"), TABLE)
def test_preset_equals_table(method, dataset, alpha, steps, parts, calibrated):
    assert preset(method, dataset) == Preset(alpha, steps, 0.01, parts, calibrated)


def test_table_is_complete():
    assert {row[:2] for row in TABLE} == {(method, benchmark) for method in METHODS for benchmark in BENCHMARKS}


def test_released_makes_one_more_step():
    published = preset("rba", "road_anomaly")
    released = published.released()
    assert (published.steps, released.steps) == (20, 21)
    assert dataclasses.replace(released, steps=20) == published


def test_preset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("rba", "road_anomaly").steps = 3


def test_unknown_names():
    with pytest.raises(
        ValueError, match="method: expected one of pebal, balanced_energy, mask2anomaly, rba, got 'RbA'"
    ):
        preset("RbA", "road_anomaly")
    with pytest.raises(ValueError, match=r"benchmark: expected one of fishyscapes_lost_and_found, .*, got 'static'"):
        preset("rba", "static")
