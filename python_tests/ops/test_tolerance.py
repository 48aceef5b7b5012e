"""Filter and refine: what ``tolerance`` promises, and where the op streams instead."""

import numpy as np
import pytest
import torch

import rwpm_fast
from python_tests.helpers import error_of_largest, manifold, relative_error
from python_tests.places import DATA
from rwpm_fast import reference

EMBEDDINGS = sorted((DATA / "embeddings").glob("dabnet__*.npz"))

TOLERANCES = [1e-2, 1e-4, 1e-7]


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_error_is_within_the_certificate(isa, tolerance):
    e, v = manifold(1500, 64, directions=80, noise=0.6), manifold(1500, 7, seed=1)
    for steps in (1, 20):
        got = rwpm_fast.walk(e, v, steps=steps, tolerance=tolerance, backend="cpu")
        expected = reference.walk(e.double(), v.double(), steps=steps)
        # Beside the dropped mass stands float32's own rounding.
        assert error_of_largest(got, expected, v) <= 2 * steps * tolerance + 1e-5


@pytest.mark.parametrize("pixels", [512, 529, 577])
def test_rows_that_keep_right_angles(isa, pixels):
    """What pads the last panel of pixels is at a right angle to all of them."""
    e, v = manifold(pixels, 37, directions=48, noise=0.1), manifold(pixels, 3, seed=1)
    e[7] = -e.mean(0)  # like nothing else
    settings = {"temperature": 0.03, "tolerance": 1e-3}
    got, info = rwpm_fast.walk(e, v, **settings, return_info=True)
    assert info.path == "sparse"
    q = torch.nn.functional.normalize(e)
    kept = rwpm_fast.transition(e, **settings).to_csr().to_dense() > 0
    assert (q @ q.T)[kept].min() < 0
    expected = reference.walk(e.double(), v.double(), temperature=0.03)
    assert error_of_largest(got, expected, v) <= 2 * 20 * 1e-3


def test_another_result_than_streaming():
    """The filter is at work: a generous tolerance shows."""
    e = manifold(1500, 64, directions=80, noise=0.6)
    assert not torch.equal(rwpm_fast.walk(e, tolerance=1e-2), rwpm_fast.walk(e, tolerance=0))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_rows_sum_to_one(alpha):
    e = manifold(1200, 48, directions=60)
    constant = torch.full((1200, 3), 0.7)
    got = rwpm_fast.walk(e, constant, alpha=alpha, steps=20, tolerance=1e-3)
    torch.testing.assert_close(got, constant, rtol=2e-5, atol=0)


def test_same_bits_at_any_number_of_threads():
    e, v = manifold(2000, 40, directions=90), manifold(2000, 50, seed=1)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        results.append(rwpm_fast.walk(e, v, tolerance=1e-4))
    torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_masked_and_broken_pixels_leave_the_graph():
    e, v = manifold(1400, 32, directions=70), manifold(1400, 5, seed=1)
    e[3, 0], v[17, 2] = torch.nan, torch.inf
    mask = torch.ones(1400, dtype=torch.bool)
    mask[500:600] = False
    got = rwpm_fast.walk(e, v, mask=mask, tolerance=1e-5)
    out = ~reference.valid_pixels(e, v, mask)
    assert torch.equal(got[out], v[out])
    expected = reference.walk(e.double(), v.double(), mask=mask)
    assert error_of_largest(got[~out], expected[~out], v[~out]) <= 2 * 20 * 1e-5 + 1e-5


def test_values_near_the_largest_number_stay_finite():
    """Each walked value is a mean of values, so it cannot overflow where they do not."""
    e = manifold(1200, 48, directions=60)
    v = torch.full((1200, 2), torch.finfo(torch.float32).max / 4)
    got, info = rwpm_fast.walk(e, v, steps=2, tolerance=1e-3, return_info=True)
    assert info.path == "sparse"
    torch.testing.assert_close(got, v, rtol=1e-5, atol=0)


@pytest.mark.parametrize("values", [1, 16, 17, 48, 49, 100])
def test_any_number_of_value_channels(isa, values):
    e, v = manifold(900, 24, directions=50), manifold(900, values, seed=1)
    got = rwpm_fast.walk(e, v, steps=3, tolerance=1e-6)
    expected = reference.walk(e.double(), v.double(), steps=3)
    assert error_of_largest(got, expected, v) <= 2 * 3 * 1e-6 + 1e-5


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda manifold: manifold(800, 32), {"temperature": 1.0}),
        (lambda manifold: manifold(800, 32), {"temperature": 0.1}),
        (lambda manifold: manifold(800, 2), {}),
        (lambda manifold: torch.ones(800, 16), {}),
        (lambda manifold: torch.zeros(800, 16), {}),
        (lambda manifold: manifold(60, 32), {}),
        (lambda manifold: manifold(800, 32).double(), {}),
    ],
    ids=["tau 1", "tau 0.1", "two channels", "one color", "zero", "few pixels", "float64"],
)
def test_streams_where_no_sparse_matrix_pays(make, settings):
    e = make(manifold)
    got = rwpm_fast.walk(e, steps=3, tolerance=1e-4, **settings)
    assert torch.equal(got, rwpm_fast.walk(e, steps=3, tolerance=0, **settings))


@pytest.mark.parametrize("temperature", [1e-40, 1e-6, 1e-3])
def test_cold_walks(temperature):
    e, v = manifold(1000, 32, directions=60), manifold(1000, 4, seed=1)
    got = rwpm_fast.walk(e, v, steps=2, temperature=temperature, tolerance=1e-4)
    assert torch.isfinite(got).all()
    assert got.abs().max() <= v.abs().max() * (1 + 1e-5)


def test_order_of_pixels_does_not_matter():
    e, v = manifold(1500, 48, directions=60), manifold(1500, 4, seed=1)
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(0))
    shuffled = rwpm_fast.walk(e[order], v[order], tolerance=1e-5)
    straight = rwpm_fast.walk(e, v, tolerance=1e-5)
    assert error_of_largest(shuffled, straight[order].double(), v) <= 2 * 2 * 20 * 1e-5


def test_a_batch_is_its_maps():
    e = manifold(2, 700, 32, directions=40)
    got = rwpm_fast.walk(e, tolerance=1e-4)
    for b in range(2):
        assert torch.equal(got[b], rwpm_fast.walk(e[b], tolerance=1e-4))


@pytest.mark.skipif(not EMBEDDINGS, reason=f"no embeddings in {DATA / 'embeddings'}; set RWPM_DATA")
@pytest.mark.parametrize("path", EMBEDDINGS, ids=lambda path: path.stem)
def test_embeddings_of_real_photos(path):
    with np.load(path) as arrays:
        e, logits = (torch.from_numpy(arrays[name]).float().flatten(1).T for name in ("embedding", "logits"))
    # Every second row of the map: the exact walk of all of it takes many seconds.
    half = torch.arange(len(e)).view(90, 160)[::2].flatten()
    e, logits = e[half], logits[half]
    exact = rwpm_fast.walk(e, logits, tolerance=0)
    got = rwpm_fast.walk(e, logits, tolerance=1e-4)
    assert not torch.equal(got, exact)
    assert error_of_largest(got, exact.double(), logits) <= 2 * 20 * 1e-4
    assert relative_error(got, exact) <= 3e-4  # measured 1.0e-4 to 1.5e-4 on whole maps


def test_numpy_walks_the_same():
    import rwpm_fast.numpy

    e = manifold(1000, 32, directions=60)
    got = rwpm_fast.numpy.walk(e.numpy(), tolerance=1e-3)
    assert np.array_equal(got, rwpm_fast.walk(e, tolerance=1e-3).numpy())
