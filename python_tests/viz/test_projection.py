"""Both projections are of directions, fitted on both sets of embeddings together, and the same at each run."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from rwpm_fast.viz.projection import project


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(60, 8)).astype(np.float32) + 3 * np.eye(8, dtype=np.float32)[np.arange(60) % 3]
    return before, (before + before.mean(0)).astype(np.float32)


def test_pca_keeps_distances_between_directions(embeddings):
    before, after = embeddings
    found = project(before, after, "pca", seed=0)
    unit = [e / np.linalg.norm(e, axis=1, keepdims=True) for e in embeddings]
    both = np.concatenate(unit).astype(np.float64)
    both -= both.mean(0)
    _, values, directions = np.linalg.svd(both, full_matrices=False)
    wanted, got = both @ directions[:2].T, np.concatenate([found.before, found.after])
    signs = np.sign((wanted * got).sum(0))
    np.testing.assert_allclose(got, wanted * signs, atol=1e-6)
    shares = values[:2] ** 2 / (values**2).sum()
    assert found.axes == tuple(
        f"component {k}, {share:.0%}"[:-1] + " % of the variance" for k, share in zip((1, 2), shares, strict=True)
    )


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_lengths_do_not_count_and_runs_agree(embeddings, method):
    before, after = embeddings
    found = project(before, after, method, seed=3)
    assert found.before.shape == found.after.shape == (60, 2)
    again = project(4 * before, 0.5 * after, method, seed=3)  # powers of two keep the bits
    assert np.array_equal(found.before, again.before) and np.array_equal(found.after, again.after)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_few_pixels(method):
    few = np.eye(6, 4, dtype=np.float32)  # two embeddings of zeros
    found = project(few, few, method, seed=0)
    assert np.isfinite(found.before).all() and np.isfinite(found.after).all()
