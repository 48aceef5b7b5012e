"""Drives: one world seen from a moving camera, with motion that is exact where it is said to be."""

import itertools

import numpy as np
import pytest

from rwpm_fast.metrics import warp
from rwpm_fast.scenes import EGO, UNKNOWN, render_drive, render_scene
from rwpm_fast.scenes.labels import ROAD, SKY, anomaly_labels

SIZE = (96, 192)


@pytest.fixture(scope="module")
def drives():
    return {seed: list(render_drive(seed, 6, SIZE, crossing=seed == 3)) for seed in (0, 1, 2, 3)}


def pairs(drives):
    for frames in drives.values():
        yield from itertools.pairwise(frames)


def test_frames_have_the_promised_shapes_and_times(drives):
    for frames in drives.values():
        assert [frame.index for frame in frames] == list(range(6))
        assert np.allclose([frame.seconds for frame in frames], np.arange(6) / 12)
        for frame in frames:
            assert frame.photo.shape == (*SIZE, 3) and frame.flow.shape == (*SIZE, 2)
            assert frame.photo.dtype == frame.labels.dtype == np.uint8 and frame.flow.dtype == np.float32
            assert (frame.labels == anomaly_labels(frame.class_map)).all() and np.isfinite(frame.flow).all()
        assert frames[0].occluded.all() and not frames[0].flow.any()
        assert (frames[-1].labels == 1).mean() > 0.001


def test_a_seed_gives_the_same_drive(drives):
    again, other = (list(render_drive(seed, 6, SIZE)) for seed in (1, 2))
    for name in ("photo", "class_map", "flow", "occluded"):
        assert all((getattr(a, name) == getattr(b, name)).all() for a, b in zip(again, drives[1], strict=True))
    assert (other[-1].photo != again[-1].photo).any()


def test_a_drive_ends_in_the_scene_of_its_world(drives):
    """Where the camera stands at last, ``render_scene`` gives the same classes."""
    for child in np.random.SeedSequence(0).spawn(20):
        _, class_map = render_scene(np.random.default_rng(child), SIZE)
        if (class_map == drives[0][-1].class_map).all():
            return
    pytest.fail("no world of the seed has the classes of the last frame")


def test_the_photo_before_warped_is_the_photo(drives):
    """The photo has noise, and fine texture that is sampled anew; what moves wrongly differs by far more."""
    for before, frame in pairs(drives):
        visible, photo = ~frame.occluded, frame.photo.astype(np.float32)
        assert visible.mean() > 0.85
        moved = np.hypot(*np.moveaxis(frame.flow, -1, 0)) > 1
        error, still = (
            abs(candidate - photo).mean(-1)
            for candidate in (warp(before.photo.astype(np.float32), frame.flow), before.photo.astype(np.float32))
        )
        assert error[visible].mean() < 0.85 * still[visible].mean()
        assert error[visible].mean() < 10 and error[visible & moved].mean() < 0.8 * still[visible & moved].mean()


def test_a_flow_that_is_off_by_a_pixel_fits_worse(drives):
    exact, off = [], {shift: [] for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))}
    for before, frame in pairs(drives):
        visible, photo = ~frame.occluded, frame.photo.astype(np.float32)
        earlier = before.photo.astype(np.float32)
        exact.append(abs(warp(earlier, frame.flow) - photo).mean(-1)[visible].mean())
        for shift, errors in off.items():
            errors.append(abs(warp(earlier, frame.flow + np.float32(shift)) - photo).mean(-1)[visible].mean())
    assert all(np.mean(exact) < 0.9 * np.mean(errors) for errors in off.values())


def test_pixels_come_from_their_own_class(drives):
    for before, frame in pairs(drives):
        column = np.rint(np.arange(SIZE[1]) + frame.flow[..., 0]).astype(int)
        row = np.rint(np.arange(SIZE[0])[:, None] + frame.flow[..., 1]).astype(int)
        visible = ~frame.occluded
        assert (before.class_map[row[visible], column[visible]] == frame.class_map[visible]).all()


def test_the_road_moves_as_a_plane_does(drives):
    """A point of the road, h below the camera, lies f h / z below the horizon: a meter nearer each time."""
    step = 8 / 12
    for frames in drives.values():
        frame = frames[-1]
        road = frame.class_map == ROAD
        down, move = np.broadcast_to(np.arange(SIZE[0])[:, None], SIZE)[road], frame.flow[..., 1][road]
        for horizon in np.arange(0.25 * SIZE[0], 0.6 * SIZE[0], 0.05):
            below = down - horizon  # pixels; f h / z
            if below.min() <= 0:
                continue
            # f h / (z + step) - f h / z = -below^2 step / (f h + below step), of which f h alone is unknown
            heights = -(below**2) * step / move - below * step
            if np.ptp(heights) < 0.02 * heights.mean():
                break
        else:
            pytest.fail("no horizon explains the motion of the road")


def test_sky_and_hood_do_not_move_and_what_is_uncovered_is_occluded(drives):
    hoods = 0
    for _, frame in pairs(drives):
        still = np.isin(frame.class_map, (SKY, EGO))
        hoods += (frame.class_map == EGO).sum()
        assert not frame.flow[still].any()
    assert hoods


def test_a_crossing_object_moves_across_and_its_motion_is_known():
    frames = list(render_drive(3, 8, SIZE, speed=0.0, crossing=True))
    moving = [(frame.labels == 1) & (abs(frame.flow[..., 0]) > 1) for frame in frames[1:]]
    columns = [np.nonzero(mask)[1].mean() for mask in moving if mask.any()]
    assert len(columns) >= 4
    steps = np.diff(columns)
    assert (steps > 1).all() or (steps < -1).all()
    for before, frame, mask in zip(frames, frames[1:], moving, strict=False):
        rows, cols = np.nonzero(mask & ~frame.occluded)
        if len(rows):
            from_columns = np.rint(cols + frame.flow[rows, cols, 0]).astype(int)
            assert (before.class_map[rows, from_columns] == UNKNOWN).all()
        uncovered = (before.labels == 1) & (frame.labels != 1)
        assert uncovered.sum() < 20 or frame.occluded[uncovered].mean() > 0.6


def test_a_camera_at_rest_sees_the_same_but_for_noise():
    first, second = render_drive(1, 2, SIZE, speed=0.0)
    assert (first.class_map == second.class_map).all() and not second.flow.any() and not second.occluded.any()
    assert (first.photo != second.photo).any()
    assert abs(first.photo.astype(int) - second.photo).mean() < 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"frames": 0}, "frames: expected 1 or more, got 0"),
        ({"size": (8, 64)}, "size: expected a height and width of 16 pixels or more, got 8 x 64"),
        ({"speed": -1.0}, "speed: expected 0 or more meters per second, got -1"),
        ({"rate": 0.0}, "rate: expected more than 0 frames per second, got 0"),
    ],
    ids=["seed", "frames", "size", "speed", "rate"],
)
def test_bad_arguments_are_refused_before_the_first_frame(settings, message):
    with pytest.raises(ValueError, match=message):
        render_drive(**settings)
