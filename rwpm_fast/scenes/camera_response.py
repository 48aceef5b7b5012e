"""From the light of a scene to the numbers of a photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Film:
    """How a camera answers to light.

    Attributes:
        exposure: factors [3] on red, green and blue, for brightness and white balance; or one for all three.
        vignette: light lost at the middle of an edge, in [0, 1].
        contrast: share of an S-shaped curve, in [0, 1].
        grain: standard deviation of the noise that the three channels share; each has half as much of its own.
    """

    exposure: float | tuple[float, float, float] = 1.0
    vignette: float = 0.16
    contrast: float = 0.25
    grain: float = 0.012

    def develop(self, rng: np.random.Generator, color: NDArray) -> NDArray:
        """Colors [H, W, 3] in [0, 1] to uint8."""
        height, width, _ = color.shape
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        color = np.clip(color * self.exposure * (1 - self.vignette * (x**2 + y**2))[..., None], 0, 1)
        color = (1 - self.contrast) * color + self.contrast * color**2 * (3 - 2 * color)
        shared = self.grain * rng.standard_normal((height, width, 1))
        grain = shared + self.grain / 2 * rng.standard_normal((height, width, 3))
        return (np.clip(color + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
