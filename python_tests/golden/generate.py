"""Write the golden set: inputs of the walk, and what its definition gives for them in float64.

    python -m python_tests.golden.generate

The definition is written here once more, in NumPy and independently of ``rwpm_fast``, dense and without any shortcut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parent


def oracle(e: np.ndarray, v: np.ndarray, mask: np.ndarray, *, alpha: float, steps: int, temperature: float):
    """Walk values [N, C] on the graph of embeddings [N, D] in float64 (equation S.5 of the RWPM supplement).

    With ``q_i = e_i / max(||e_i||, 1e-12)``, the weight of pixel j in row i is ``exp(q_i . q_j / temperature)`` over
    the sum of the row, without the pixel itself. A pixel that is masked out or not finite is no part of the graph and
    keeps its value; so does a pixel without any other.
    """
    e, v = e.astype(np.float64), v.astype(np.float64)
    graph = np.flatnonzero(mask & np.isfinite(e).all(1) & np.isfinite(v).all(1))
    walked = v.copy()
    if len(graph) < 2:
        return walked
    q = e[graph] / np.maximum(np.sqrt((e[graph] ** 2).sum(1, keepdims=True)), 1e-12)
    logits = (q[:, None, :] * q[None, :, :]).sum(2) / temperature
    np.fill_diagonal(logits, -np.inf)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    start = v[graph]
    m = start
    for _ in range(steps):
        m = alpha * (weights @ m) + (1 - alpha) * start
    walked[graph] = m
    return walked


class Case(NamedTuple):
    """Inputs of a walk, float32, and why the case exists."""

    name: str
    why: str
    embeddings: np.ndarray  # [N, D]
    values: np.ndarray  # [N, C]
    mask: np.ndarray  # [N] bool
    settings: dict[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the case's file."""
        expected = oracle(self.embeddings, self.values, self.mask, **self.settings)
        meta = np.array(json.dumps({**self.settings, "why": self.why}))
        inputs = {"embeddings": self.embeddings, "values": self.values, "mask": self.mask}
        return {**inputs, "expected": expected, "meta": meta}


def case(
    name: str,
    why: str,
    pixels: int,
    channels: int = 12,
    value_channels: int = 3,
    *,
    seed: int = 0,
    directions: int = 5,
    noise: float = 0.3,
    **settings: Any,
) -> Case:
    """Embeddings around a few directions, so that rows have near and far pixels, and normal values."""
    rng = np.random.Generator(np.random.PCG64([seed, pixels, channels]))
    centers = rng.standard_normal((directions, channels))
    e = centers[rng.integers(directions, size=pixels)] + noise * rng.standard_normal((pixels, channels))
    v = rng.standard_normal((pixels, value_channels))
    settings = {"alpha": 0.99, "steps": 4, "temperature": 0.01, **settings}
    return Case(name, why, e.astype(np.float32), v.astype(np.float32), np.ones(pixels, bool), settings)


def cases() -> Iterator[Case]:
    """Every case of the set."""
    for pixels in (1, 2, 3, 8, 63, 64, 65, 127, 128, 129):
        yield case(f"pixels_{pixels}", "sizes around the edges of tiles", pixels)
    for channels in (1, 16, 17, 33):
        yield case(f"channels_{channels}", "embedding channels around the edges of tiles", 40, channels)
    for value_channels in (1, 16, 17, 33):
        yield case(
            f"value_channels_{value_channels}", "value channels around the edges of tiles", 40, 8, value_channels
        )

    # At low temperatures float32 keeps digits only where no two pixels are nearly as close to a third.
    for tau, noise in ((1e-4, 1.0), (1e-3, 1.0), (0.1, 0.3), (1.0, 0.3), (100.0, 0.3)):
        why = "from the nearest pixel alone to the mean of all"
        yield case(f"temperature_{tau:g}", why, 50, noise=noise, temperature=tau)
    yield case("steps_0", "no transition: values stay", 20, steps=0)
    yield case("steps_1", "one transition", 20, steps=1)
    yield case("steps_30", "rounding adds up", 40, steps=30)
    yield case("alpha_0", "nothing but restarts: values stay", 20, alpha=0.0)
    yield case("alpha_1", "no restart", 30, alpha=1.0, steps=7)

    masked = case("masked", "masked pixels in and at the edges of tiles", 100)
    masked.mask[[0, 63, 64, 99]] = False
    masked.mask[20:45] = False
    yield masked
    lone = case("masked_but_one", "a pixel without any other keeps its value", 20)
    lone.mask[:] = False
    lone.mask[11] = True
    yield lone
    nothing = case("masked_all", "a graph without pixels", 20)
    nothing.mask[:] = False
    yield nothing

    broken = case("not_finite", "a pixel that is not finite spoils no other", 70)
    broken.embeddings[[3, 64], [0, 5]] = np.nan, -np.inf
    broken.values[[9, 40, 69], [1, 0, 2]] = np.inf, np.nan, -np.inf
    yield broken
    zero = case("zero_rows", "zero vectors: cosine 0 to every pixel", 40)
    zero.embeddings[[0, 8, 39]] = 0
    yield zero
    yield case("all_zero", "zero vectors alone: a mean of the others", 20, noise=0.0)._replace(
        embeddings=np.zeros((20, 6), np.float32)
    )
    twins = case("duplicates", "equal embeddings in one and in several tiles", 90)
    twins.embeddings[[1, 2, 66, 89]] = twins.embeddings[0]
    yield twins
    opposite = case("antipodal", "cosines of 1 and -1", 40, temperature=0.5)
    opposite.embeddings[20:] = -opposite.embeddings[:20]
    yield opposite
    scaled = case("scales", "the length of an embedding does not matter", 40)
    scaled.embeddings[...] *= np.float32(10.0) ** np.linspace(-8, 12, 40, dtype=np.float32)[:, None]
    yield scaled
    clustered = {"directions": 60, "noise": 0.1}
    yield case("sparse", "large and clustered enough for a sparse matrix", 520, 8, 2, steps=8, **clustered)


def main() -> None:
    """Write a file for every case."""
    folder = FOLDER / "walk"
    folder.mkdir(exist_ok=True)
    for made in cases():
        np.savez_compressed(folder / f"{made.name}.npz", **made.arrays())


if __name__ == "__main__":
    main()
