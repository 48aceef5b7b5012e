import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rwpm_fast.scoring.calibration import calibrate

RATIOS = ["mean_of_ratios", "ratio_of_means", "median"]
REDUCE = {
    "mean_of_ratios": lambda neighbor, own: (neighbor / own).mean(),
    "ratio_of_means": lambda neighbor, own: neighbor.mean() / own.mean(),
    "median": lambda neighbor, own: np.median(neighbor / own),
}


def naive(score_map, row_edges, column_edges, ratio="mean_of_ratios"):
    """Block by block, every border between scaled scores."""
    result = np.array(score_map, dtype=np.float64)
    rows, columns = len(row_edges) - 1, len(column_edges) - 1
    factors = np.ones((rows, columns))
    spine = (columns - 1) // 2

    def block(r, c):
        return result[row_edges[r] : row_edges[r + 1], column_edges[c] : column_edges[c + 1]]

    def settle(r, c, neighbor, own):
        factors[r, c] = REDUCE[ratio](neighbor, own)
        block(r, c)[...] *= factors[r, c]

    for r in reversed(range(rows)):
        if r < rows - 1:
            settle(r, spine, block(r + 1, spine)[0], block(r, spine)[-1])
        for c in range(spine + 1, columns):
            settle(r, c, block(r, c - 1)[:, -1], block(r, c)[:, 0])
        for c in reversed(range(spine)):
            settle(r, c, block(r, c + 1)[:, 0], block(r, c)[:, -1])
    return result, factors


def negative_map(height, width, seed=0):
    return -np.random.default_rng(seed).uniform(2, 15, (height, width))


GRIDS = [
    ([0, 8, 16, 24, 32], [0, 10, 20, 30, 40]),
    ([0, 3, 13, 32], [0, 7, 8, 20, 33, 40]),
    ([0, 32], [0, 11, 40]),
    ([0, 5, 9, 32], [0, 40]),
    ([0, 4, 8, 12, 16, 20, 24, 28, 32], [0, 5, 10, 15, 20, 25, 30, 35, 40]),
]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("row_edges", "column_edges"), GRIDS)
def test_equals_naive_loop(row_edges, column_edges, ratio):
    score_map = negative_map(32, 40)
    got, factors = calibrate(torch.tensor(score_map), row_edges, column_edges, ratio=ratio, return_factors=True)
    wanted, wanted_factors = naive(score_map, row_edges, column_edges, ratio)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    np.testing.assert_allclose(factors, wanted_factors, rtol=1e-12)
    assert factors[-1, (len(column_edges) - 2) // 2] == 1


@pytest.mark.parametrize("ratio", RATIOS)
def test_single_block_is_identity_and_new(ratio):
    score_map = torch.tensor(negative_map(5, 6))
    got, factors = calibrate(score_map, [0, 5], [0, 6], ratio=ratio, return_factors=True)
    assert got.equal(score_map) and factors.tolist() == [[1]]
    got.zero_()
    assert score_map.ne(0).all()


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("value", [-9.5, 3.0, 0.0])
def test_constant_map_is_unchanged(ratio, value):
    score_map = torch.full((12, 15), value, dtype=torch.float64)
    torch.testing.assert_close(calibrate(score_map, [0, 5, 12], [0, 4, 9, 15], ratio=ratio), score_map)


@pytest.mark.parametrize("ratio", RATIOS)
def test_scaled_blocks_are_restored(ratio):
    y, x = np.mgrid[0:48, 0:64]
    smooth = -10 + np.sin(y / 40) + np.cos(x / 50)
    scale = np.random.default_rng(1).uniform(0.6, 1.6, (4, 4))
    blocky = smooth * scale.repeat(12, 0).repeat(16, 1)
    edges = [0, 12, 24, 36, 48], [0, 16, 32, 48, 64]
    got, factors = calibrate(torch.tensor(blocky), *edges, ratio=ratio, return_factors=True)
    np.testing.assert_allclose(factors, scale[3, 1] / scale, rtol=0.02)
    np.testing.assert_allclose(got, smooth * scale[3, 1], rtol=0.02)
    assert np.abs(blocky - smooth * scale[3, 1]).max() > 2


@pytest.mark.parametrize("ratio", RATIOS)
def test_batch_equals_single(ratio):
    maps = torch.tensor(np.stack([negative_map(12, 15, seed) for seed in range(6)])).reshape(2, 3, 12, 15)
    edges = [0, 5, 12], [0, 4, 9, 15]
    got, factors = calibrate(maps, *edges, ratio=ratio, return_factors=True)
    assert got.shape == maps.shape and factors.shape == (2, 3, 2, 3)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(got[i, j], calibrate(maps[i, j], *edges, ratio=ratio))
    assert calibrate(maps[:0], *edges, ratio=ratio).shape == (0, 3, 12, 15)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("bad", [0.0, torch.inf, -torch.inf, torch.nan, 5.0])
@pytest.mark.parametrize("side", [9, 10])
def test_bad_border_elements_are_left_out(ratio, bad, side):
    score_map = torch.full((8, 20), -4.0, dtype=torch.float64)
    score_map[:, 10:] = -8.0
    score_map[2, side] = bad
    got, factors = calibrate(score_map, [0, 8], [0, 10, 20], ratio=ratio, return_factors=True)
    assert factors.tolist() == [[1, 0.5]]
    wanted = torch.full((8, 20), -4.0, dtype=torch.float64)
    wanted[2, side] = bad if side == 9 else bad / 2
    torch.testing.assert_close(got, wanted, equal_nan=True)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("bad", [0.0, torch.inf, torch.nan, 5.0])
def test_border_with_nothing_left_gives_factor_one(ratio, bad):
    score_map = torch.full((8, 30), -4.0, dtype=torch.float64)
    score_map[:, :10] = -6.0
    score_map[:, 10:20] = -4.0
    score_map[:, 20:] = -8.0
    score_map[:, 20] = bad
    got, factors = calibrate(score_map, [0, 8], [0, 10, 20, 30], ratio=ratio, return_factors=True)
    assert factors.tolist() == [[pytest.approx(2 / 3), 1, 1]]
    torch.testing.assert_close(got[:, 20:], score_map[:, 20:], equal_nan=True)


def test_zero_map_is_unchanged():
    assert calibrate(torch.zeros(8, 8), [0, 4, 8], [0, 4, 8]).equal(torch.zeros(8, 8))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_scores_stay_finite(ratio, dtype):
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    columns = [largest, smallest, largest, largest, smallest, 1.0, largest, smallest]
    score_map = torch.tensor(columns, dtype=dtype).repeat(8, 1)
    for oriented in (score_map, score_map.T, -score_map):
        got = calibrate(oriented, [0, 2, 4, 6, 8], [0, 2, 4, 6, 8], ratio=ratio)
        assert got.isfinite().all() and got.dtype == dtype


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("step", [1e30, 1e-30])
def test_factor_out_of_range_becomes_one(ratio, step):
    columns = [1.0, 1.0, 1.0, step, 1.0, step, 1.0, step]
    got, factors = calibrate(
        torch.tensor(columns).repeat(4, 1), [0, 4], [0, 2, 4, 6, 8], ratio=ratio, return_factors=True
    )
    assert factors.tolist() == [[1, 1, pytest.approx(step), 1]]
    assert got[0, 6:].tolist() == [1, pytest.approx(step)]


@pytest.mark.parametrize("ratio", RATIOS)
def test_scores_of_both_signs_along_a_border(ratio):
    column = torch.tensor([-4.0, 4.0, -2.0, 2.0])  # sums to 0
    score_map = torch.stack([column, column, 2 * column, 2 * column], dim=1)
    torch.testing.assert_close(calibrate(score_map, [0, 4], [0, 2, 4], ratio=ratio), column[:, None].expand(4, 4))


@pytest.mark.parametrize("ratio", RATIOS)
def test_infinite_scores_stay_infinite(ratio):
    score_map = -torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) - 1
    score_map[1, 1], score_map[6, 6] = torch.inf, -torch.inf
    got = calibrate(score_map, [0, 4, 8], [0, 4, 8], ratio=ratio)
    assert got[1, 1] == torch.inf and got[6, 6] == -torch.inf and got.isinf().sum() == 2


@settings(max_examples=60, deadline=None)
@given(
    score_map=hnp.arrays(np.float32, (6, 9), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    row_edges=st.sets(st.integers(1, 5)).map(lambda inner: [0, *sorted(inner), 6]),
    column_edges=st.sets(st.integers(1, 8)).map(lambda inner: [0, *sorted(inner), 9]),
    ratio=st.sampled_from(RATIOS),
)
def test_finite_stays_finite_and_keeps_its_sign(score_map, row_edges, column_edges, ratio):
    score_map = torch.tensor(score_map)
    got, factors = calibrate(score_map, row_edges, column_edges, ratio=ratio, return_factors=True)
    assert got.isfinite().all() and factors.isfinite().all() and (factors > 0).all()
    assert (got * score_map.sign() >= 0).all()


def test_half_maps_are_scaled_in_float32():
    score_map = torch.tensor(negative_map(12, 15)).half()
    edges = [0, 5, 12], [0, 4, 9, 15]
    got, factors = calibrate(score_map, *edges, return_factors=True)
    wanted, wanted_factors = calibrate(score_map.float(), *edges, return_factors=True)
    assert got.dtype == torch.float16 and got.equal(wanted.half())
    assert factors.equal(wanted_factors)


def test_edges_may_be_any_integers():
    score_map = torch.tensor(negative_map(12, 15))
    wanted = calibrate(score_map, [0, 5, 12], [0, 4, 15])
    assert calibrate(score_map, np.array([0, 5, 12]), torch.tensor([0, 4, 15])).equal(wanted)


@pytest.mark.parametrize("edges", [[0, 5], [1, 6], [0, 4, 4, 6], [0, 4, 2, 6], [6], []])
def test_edge_errors(edges):
    with pytest.raises(ValueError, match="row_edges: expected increasing integers from 0 to 6, got"):
        calibrate(torch.ones(6, 7), edges, [0, 7])
    with pytest.raises(ValueError, match="column_edges: expected increasing integers from 0 to 6, got"):
        calibrate(torch.ones(7, 6), [0, 7], edges)


def test_argument_errors():
    with pytest.raises(TypeError, match="row_edges: expected a sequence of integers"):
        calibrate(torch.ones(6, 7), [0, 2.5, 6], [0, 7])
    with pytest.raises(TypeError, match="column_edges: expected a sequence of integers, got 4"):
        calibrate(torch.ones(6, 7), [0, 6], 4)
    with pytest.raises(TypeError, match=r"score_map: expected a floating-point torch.Tensor, got torch.int64"):
        calibrate(torch.ones(6, 7, dtype=torch.int64), [0, 6], [0, 7])
    with pytest.raises(TypeError, match=r"score_map: expected a floating-point torch.Tensor, got ndarray"):
        calibrate(np.ones((6, 7)), [0, 6], [0, 7])
    with pytest.raises(ValueError, match=r"score_map: expected shape \[\.\.\., H, W\], got \[7\]"):
        calibrate(torch.ones(7), [0, 6], [0, 7])
    with pytest.raises(ValueError, match="ratio: expected one of mean_of_ratios, ratio_of_means, median, got 'mode'"):
        calibrate(torch.ones(6, 7), [0, 6], [0, 7], ratio="mode")
