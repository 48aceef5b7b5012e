import math

import pytest
import torch

from python_tests.helpers import manifold
from rwpm_fast import reference


def walk_in_loops(embeddings, values, alpha, steps, temperature):
    """The definition, one pixel and one channel at a time."""
    units = []
    for e in embeddings.tolist():
        length = max(math.sqrt(sum(x * x for x in e)), 1e-12)
        units.append([x / length for x in e])
    count = len(units)
    rows = []
    for i in range(count):
        powers = [
            0.0 if i == j else math.exp(sum(a * b for a, b in zip(units[i], units[j], strict=True)) / temperature)
            for j in range(count)
        ]
        rows.append([p / sum(powers) for p in powers])
    start = values.tolist()
    m = start
    for _ in range(steps):
        m = [
            [
                alpha * sum(rows[i][j] * m[j][c] for j in range(count)) + (1 - alpha) * start[i][c]
                for c in range(len(start[i]))
            ]
            for i in range(count)
        ]
    return torch.tensor(m, dtype=torch.float64)


@pytest.mark.parametrize(("alpha", "steps", "temperature"), [(0.99, 3, 0.01), (0.5, 1, 0.1), (1.0, 4, 1.0)])
def test_walk_equals_plain_loops(alpha, steps, temperature):
    e, v = manifold(9, 4, dtype=torch.float64), manifold(9, 2, seed=1, dtype=torch.float64)
    got = reference.walk(e, v, alpha=alpha, steps=steps, temperature=temperature)
    torch.testing.assert_close(got, walk_in_loops(e, v, alpha, steps, temperature), rtol=1e-12, atol=1e-13)


def test_values_default_to_the_embeddings():
    e = manifold(12, 5)
    assert torch.equal(reference.walk(e), reference.walk(e, e))


def test_transition_rows_sum_to_one_around_an_empty_diagonal():
    S = reference.transition(manifold(40, 8, dtype=torch.float64))
    assert S.diagonal().eq(0).all()
    torch.testing.assert_close(S.sum(-1), torch.ones(40, dtype=torch.float64), rtol=1e-14, atol=0)
    assert not torch.allclose(S, S.T)


def test_zero_embeddings_are_equally_far_from_everyone():
    e = torch.eye(4, dtype=torch.float64)
    e[2] = 0
    S = reference.transition(e)
    assert S[2].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


def test_long_walk_reaches_the_closed_form():
    e, v = manifold(20, 6, dtype=torch.float64), manifold(20, 3, seed=1, dtype=torch.float64)
    S = reference.transition(e, temperature=0.1)
    limit = torch.linalg.solve(torch.eye(20, dtype=torch.float64) - 0.8 * S, 0.2 * v)
    got = reference.walk(e, v, alpha=0.8, steps=200, temperature=0.1)  # 0.8^200 is 4e-20
    torch.testing.assert_close(got, limit, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("setting", [{"steps": 0}, {"alpha": 0.0}], ids=["no steps", "always restart"])
def test_nothing_moves(setting):
    e, v = manifold(10, 4), manifold(10, 3, seed=1)
    got = reference.walk(e, v, **setting)
    assert torch.equal(got, v)
    assert got.data_ptr() != v.data_ptr()


def test_left_out_pixels_keep_their_values_and_are_read_by_nobody():
    e, v = manifold(12, 4, dtype=torch.float64), manifold(12, 3, seed=1, dtype=torch.float64)
    mask = torch.ones(12, dtype=torch.bool)
    mask[[0, 5]] = False
    e[3, 1], v[7, 0], v[8, 2] = torch.nan, torch.inf, torch.nan
    rest = [i for i in range(12) if i not in (0, 3, 5, 7, 8)]
    assert reference.valid_pixels(e, v, mask).nonzero().flatten().tolist() == rest
    got = reference.walk(e, v, mask=mask)
    torch.testing.assert_close(got[[0, 3, 5, 7, 8]], v[[0, 3, 5, 7, 8]], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(got[rest], reference.walk(e[rest], v[rest]), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("valid", [0, 1])
def test_a_pixel_without_another_keeps_its_value(valid):
    e = manifold(6, 4)
    assert torch.equal(reference.walk(e, mask=torch.arange(6) < valid), e)


def test_batch_is_image_by_image():
    e, v = manifold(3, 10, 4), manifold(3, 10, 2, seed=1)
    mask = torch.rand(3, 10, generator=torch.Generator().manual_seed(0)) < 0.7
    got = reference.walk(e, v, mask=mask)
    for b in range(3):
        assert torch.equal(got[b], reference.walk(e[b], v[b], mask=mask[b]))
    assert reference.walk(e[:0], v[:0]).shape == (0, 10, 2)


def test_linear_head_commutes():
    e = manifold(30, 8, dtype=torch.float64)
    weight, bias = manifold(8, 3, seed=2, dtype=torch.float64), manifold(1, 3, seed=3, dtype=torch.float64)
    torch.testing.assert_close(reference.walk(e) @ weight + bias, reference.walk(e, e @ weight + bias))
