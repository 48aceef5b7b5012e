"""Random textures that do not depend on the resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Noise:
    """Fractal value noise in [0, 1] over the plane, the same at every resolution.

    Args:
        rng: source of the lattice values.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        # one more row and column repeat the first, so that a cell's four corners need no modulo
        self._lattice = np.pad(rng.random((256, 256), np.float32), ((0, 1), (0, 1)), "wrap").ravel()

    def __call__(self, u: ArrayLike, v: ArrayLike, octaves: int = 4) -> NDArray:
        """Evaluate the noise.

        Args:
            u: first coordinate; its features are one unit large in the first octave.
            v: second coordinate; broadcasts with ``u``.
            octaves: number of octaves; each has features of half the size and 0.55 of the weight.
        """
        u, v = np.asarray(u, np.float32), np.asarray(v, np.float32)
        total, weights = np.float32(0), 0.0
        for octave in range(octaves):
            scale, weight = np.float32(2**octave), np.float32(0.55**octave)
            total = total + weight * self._value_noise(u * scale + np.float32(37.7 * octave), v * scale)
            weights += weight
        return total / np.float32(weights)

    def _value_noise(self, u: NDArray, v: NDArray) -> NDArray:
        """Interpolate the lattice, with zero slope at its points."""
        row, column = np.floor(u), np.floor(v)
        s, t = u - row, v - column
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        cell = (row.astype(np.int32) & 255) * 257 + (column.astype(np.int32) & 255)
        corner = self._lattice.take
        top = corner(cell) * (1 - t) + corner(cell + 1) * t
        bottom = corner(cell + 257) * (1 - t) + corner(cell + 258) * t
        return top * (1 - s) + bottom * s
