"""The controller of a deadline, on durations that are made up: no clock is read."""

import random

import pytest

from rwpm_fast.stream.deadline import MOST_DROPS, Costs, DeadlineController

RATIOS = (1, 0.85, 0.65, 0.55, 0.4, 0.2, 0.02)  # of the walk's levels
DEADLINE, NETWORK, WALK, SCORE = 0.1, 0.04, 0.1, 0.01  # 150 ms for a frame in full


def simulate(load, frames=2000, *, noise=0.05, period=0.1, known=1.0):
    """Run frames one after the other; a frame arrives every ``period``.

    Args:
        load: function from the number of a frame to the factor of all its durations.
        frames: how many.
        noise: standard deviation of the logarithm of every duration.
        period: seconds.
        known: factor of the durations when they were measured at first.

    Returns:
        Latency and level of each frame, None and None of one that was dropped.
    """
    rng = random.Random(0)
    walks = [known * WALK * ratio for ratio in RATIOS]
    controller = DeadlineController(DEADLINE, Costs(known * NETWORK, walks, known * SCORE))
    clock, found = 0.0, []
    for frame in range(frames):
        arrived = frame * period
        clock = max(clock, arrived)

        def spend(seconds, frame=frame):
            nonlocal clock
            seconds *= load(frame) * rng.lognormvariate(0, noise)
            clock += seconds
            return seconds

        if not controller.admit(clock - arrived):
            found.append((None, None))
            continue
        controller.observe_network(spend(NETWORK))
        level = controller.choose(clock - arrived)
        if level is None:
            found.append((None, None))
            continue
        controller.observe_walk(level, spend(WALK * RATIOS[level]))
        controller.observe_score(spend(SCORE))
        found.append((clock - arrived, level))
    return found


def late(found):
    """Share of frames that are later than 1.2 times the deadline."""
    return sum(latency is not None and latency > 1.2 * DEADLINE for latency, _ in found) / len(found)


def dropped(found):
    return sum(level is None for _, level in found) / len(found)


@pytest.mark.parametrize("noise", [0.05, 0.15])
@pytest.mark.parametrize("known", [0.3, 1.0, 3.0])
def test_a_load_of_150_keeps_a_deadline_of_100(noise, known):
    found = simulate(lambda frame: 1.0, noise=noise, known=known)
    assert late(found) <= 0.01 and dropped(found) < 0.05
    used = [level for _, level in found if level is not None]
    assert sum(level >= 4 for level in used) > 0.9 * len(used)  # 50 ms are left: the first that fits takes 40
    assert sum(level == 6 for level in used) < 0.1 * len(used)  # no more is given up than needs to be


def test_a_load_that_fits_has_the_full_walk():
    found = simulate(lambda frame: 0.5)
    assert late(found) == dropped(found) == 0
    assert sum(level == 0 for _, level in found) > 0.95 * len(found)


def test_it_recovers_when_the_load_falls():
    found = simulate(lambda frame: 1.5 if 500 <= frame < 1000 else 0.5)
    levels = [level for _, level in found]
    assert {0} == set(levels[450:500])
    assert min(level for level in levels[510:1000] if level is not None) >= 4
    assert {0} == set(levels[1200:])
    assert late(found) <= 0.01


def test_single_slow_frames_do_no_lasting_harm():
    found = simulate(lambda frame: 4.0 if frame % 50 == 0 else 0.5)
    assert sum(level == 0 for _, level in found) > 0.8 * len(found)


def test_frames_come_out_even_where_none_can_keep_the_deadline():
    found = simulate(lambda frame: 5.0, frames=500)
    gaps = "".join("." if level is None else "x" for _, level in found).split("x")
    assert max(map(len, gaps)) <= MOST_DROPS and dropped(found) > 0.5
    assert {level for _, level in found} == {None, 6}


def test_frames_that_waited_too_long_are_not_begun():
    controller = DeadlineController(0.1, Costs(0.03, [0.1, 0.001], 0.01))
    assert controller.admit(0.0) and not controller.admit(0.09)
    assert controller.choose(0.03) == 1  # 60 ms are left for a walk of 100
    assert controller.choose(0.2) is None
