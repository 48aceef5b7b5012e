"""Warping samples where the flow points, and the estimated flow is the known one."""

import numpy as np
import pytest

from rwpm_fast.metrics import optical_flow, warp
from rwpm_fast.metrics.flow import leaves_image
from rwpm_fast.scenes import render_drive


def shift(size, across, down):
    return np.full((*size, 2), (across, down), np.float32)


def test_whole_pixels_are_taken_as_they_are():
    image = np.arange(30.0).reshape(5, 6)
    assert (warp(image, shift((5, 6), 1, 0))[:, :-1] == image[:, 1:]).all()
    assert (warp(image, shift((5, 6), 0, -2))[2:] == image[:-2]).all()
    colors = np.stack([image, -image], -1).astype(np.float32)
    warped = warp(colors, shift((5, 6), 0, 1))
    assert warped.dtype == np.float32 and (warped[:-1] == colors[1:]).all()


def test_a_plane_is_interpolated_exactly():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :30].astype(float)
    flow = rng.uniform(-3, 3, (20, 30, 2))
    inside = ~leaves_image(flow)
    wanted = 2 * (x + flow[..., 0]) - 3 * (y + flow[..., 1]) + 1
    assert 0.5 < inside.mean() < 1
    np.testing.assert_allclose(warp(2 * x - 3 * y + 1, flow)[inside], wanted[inside], atol=1e-12)


def test_beyond_the_border_is_the_border():
    image = np.arange(12.0).reshape(3, 4)
    assert (warp(image, shift((3, 4), 100, 0)) == image[:, -1:]).all()
    assert leaves_image(shift((3, 4), 0.5, 0))[:, -1].all() and not leaves_image(shift((3, 4), 0.5, 0))[:, :-1].any()


def test_a_flow_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"flow: expected shape \[3, 4, 2\] to match the map, got \[4, 3, 2\]"):
        warp(np.zeros((3, 4)), np.zeros((4, 3, 2)))


class TestOpticalFlow:
    @pytest.fixture(autouse=True)
    def opencv(self):
        pytest.importorskip("cv2", reason="OpenCV is not installed")

    def test_it_finds_a_shift_and_what_it_uncovers(self):
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (12, 20, 3)).astype(np.float32)
        y, x = np.mgrid[:96, :160]
        place = np.stack([x / 8.5 - x, y / 8.5 - y], -1)
        canvas = np.zeros((96, 160, 3), np.float32)
        canvas[:12, :20] = coarse
        texture = warp(canvas, place).astype(np.uint8)
        before, photo = texture[10:74, 10:110], texture[10:74, 13:113]  # everything moves three pixels to the left
        flow, occluded = optical_flow(before, photo)
        inner = flow[8:-8, 8:-8]
        assert flow.dtype == np.float32 and abs(np.median(inner, (0, 1)) - (3, 0)).max() < 0.2
        assert occluded[:, -1].mean() > 0.9 and occluded[8:-8, 8:-8].mean() < 0.1

    def test_it_agrees_with_the_known_motion_of_a_drive(self):
        before, frame = render_drive(1, 2, (128, 256))
        flow, occluded = optical_flow(before.photo, frame.photo)
        both = ~occluded & ~frame.occluded
        error = np.hypot(*np.moveaxis(flow - frame.flow, -1, 0))[both]
        length = np.hypot(*np.moveaxis(frame.flow, -1, 0))[both]
        assert both.mean() > 0.5 and np.median(error) < 0.5 and error.mean() < 0.5 * length.mean() + 0.5

    @pytest.mark.parametrize(
        ("before", "photo", "message"),
        [
            (np.zeros((32, 32, 3)), np.zeros((32, 32, 3), np.uint8), r"before: expected .*, got float64 \[32, 32, 3\]"),
            (
                np.zeros((32, 32, 3), np.uint8),
                np.zeros((32, 32), np.uint8),
                r"photo: expected .*, got uint8 \[32, 32\]",
            ),
            (np.zeros((32, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), r"before: expected shape \[32, 32, 3\]"),
        ],
    )
    def test_bad_photos_are_refused(self, before, photo, message):
        with pytest.raises(ValueError, match=message):
            optical_flow(before, photo)
