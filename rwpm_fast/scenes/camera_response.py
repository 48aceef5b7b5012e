"""The response of a camera: from the light of a scene to the pixel values of a photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CameraResponse:
    """How a camera responds to light.

    Attributes:
        gain: factors [3] on red, green and blue, for brightness and white balance.
        vignetting: share of the light lost at the middle of an edge, in [0, 1].
        contrast: share of an S-shaped tone curve, at most 1; below 0 for less contrast.
        noise: standard deviation of the noise that the three channels share; each has half as much of its own.
    """

    gain: tuple[float, float, float]
    vignetting: float
    contrast: float
    noise: float

    def apply(self, rng: np.random.Generator, color: NDArray) -> NDArray:
        """Turn light [H, W, 3], about 0..1, into a photo [H, W, 3] uint8."""
        height, width, _ = color.shape
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        color = np.clip(color * self.gain * (1 - self.vignetting * (x**2 + y**2))[..., None], 0, 1)
        color = (1 - self.contrast) * color + self.contrast * color**2 * (3 - 2 * color)
        shared = self.noise * rng.standard_normal((height, width, 1))
        noise = shared + self.noise / 2 * rng.standard_normal((height, width, 3))
        return (np.clip(color + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
