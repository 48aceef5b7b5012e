"""Settings of the compact network's training, and how learning rate and walk change with the steps."""

from dataclasses import replace

import pytest

from rwpm_fast.training.settings import TrainingSettings, WalkSchedule


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = TrainingSettings(steps=400, learning_rate=0.01)
    rates = [settings.learning_rate_at(step) for step in range(400)]
    assert rates[0] == pytest.approx(0.01 / 20) and max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[200] == pytest.approx(0.005) and 0 < rates[-1] < 1e-6
    assert TrainingSettings(steps=1, learning_rate=0.01).learning_rate_at(0) == 0.01


def test_walk_sets_in():
    schedule = WalkSchedule(steps=10, temperature=0.001, anchor_share=0.03)
    walks = [schedule.at(done / 100) for done in range(100)]
    assert {walk.steps for walk in walks[:21]} == {0} and walks[25].steps == 1
    steps = [walk.steps for walk in walks]
    assert steps == sorted(steps) and walks[59].steps == 9 and {walk.steps for walk in walks[60:]} == {10}
    temperatures = [walk.temperature for walk in walks]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == 0.1 and temperatures[40] == pytest.approx(0.01) and temperatures[60] == 0.001
    assert {(walk.alpha, walk.anchor_share, walk.parts) for walk in walks} == {(0.99, 0.03, 1)}


def test_a_temperature_above_the_loose_one_stays():
    schedule = WalkSchedule(temperature=0.5)
    assert {schedule.at(done).temperature for done in (0.0, 0.4, 1.0)} == {0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"batch": 0}, "batch: expected 1 or more, got 0"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number > 0, got 0.0"),
        ({"learning_rate": float("inf")}, "learning_rate: expected a finite number > 0, got inf"),
        ({"size": (256, 40)}, r"size: expected height and width, positive multiples of 32, got \(256, 40\)"),
        ({"size": (256,)}, r"size: expected height and width, positive multiples of 32, got \(256,\)"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TrainingSettings(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"steps": -1}, "steps: expected .* got -1"),
        ({"temperature": 0.0}, "temperature: expected .* got 0.0"),
        ({"anchor_share": 2.0}, "anchor_share: expected .* got 2.0"),
        ({"weight": 1.5}, r"weight: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_walks_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        WalkSchedule(**changes)


def test_settings_that_are_no_numbers():
    with pytest.raises(TypeError, match="batch: expected an integer, got float"):
        TrainingSettings(batch=2.0)
    with pytest.raises(TypeError, match="weight: expected a number, got str"):
        WalkSchedule(weight="1")
