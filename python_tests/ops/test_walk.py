import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import native, reference

# Float32 unit vectors give cosines good to about 1e-7 and logits at the usual temperature 0.01 to about 1e-5.
FLOAT32 = 1e-5
FLOAT64 = 1e-12

# Around the edges of panels, query tiles and key tiles of every instruction set: 8 to 48, 32 to 192, 48 to 288 pixels.
PIXELS = (1, 2, 3, 7, 8, 9, 31, 33, 47, 48, 49, 95, 97, 143, 145, 191, 192, 193, 287, 288, 289, 577)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def exactly(e, v, **settings):
    return reference.walk(e.double(), v.double(), **settings)


def tolerance_of(dtype):
    return FLOAT32 if dtype == torch.float32 else FLOAT64


@DTYPES
@pytest.mark.parametrize(
    ("pixels", "channels", "value_channels"),
    [
        *((n, 19, 5) for n in PIXELS),
        *((100, d, 4) for d in (1, 3, 64, 65, 256, 300)),
        *((100, 16, c) for c in (1, 15, 16, 17, 31, 33, 49, 256)),
    ],
)
def test_sizes(isa, pixels, channels, value_channels, dtype):
    e = manifold(pixels, channels, dtype=dtype)
    v = manifold(pixels, value_channels, seed=1, dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=3, backend="cpu")
    assert got.is_contiguous()
    assert got.dtype == dtype
    assert relative_error(got, exactly(e, v, steps=3)) <= tolerance_of(dtype)


@pytest.mark.parametrize("shape", [(0, 4), (0, 7, 4), (3, 0, 4), (0, 0, 0)], ids=str)
def test_no_pixels(shape):
    assert rwpm_fast.walk(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("leading", [(6,), (2, 6)], ids=["flat", "batched"])
def test_no_channels(leading):
    v = manifold(*leading, 3, dtype=torch.float64)
    got = rwpm_fast.walk(torch.zeros(*leading, 0), v, alpha=1.0, steps=1)
    others = (v.sum(-2, keepdim=True) - v) / 5  # without a direction every pixel is equally near
    torch.testing.assert_close(got, others)
    assert rwpm_fast.walk(v, v[..., :0]).shape == (*leading, 0)


@DTYPES
def test_values_default_to_the_embeddings(dtype):
    e = manifold(50, 6, dtype=dtype)
    assert torch.equal(rwpm_fast.walk(e), rwpm_fast.walk(e, e))
    assert torch.equal(torch.ops.rwpm.walk(e), rwpm_fast.walk(e, tolerance=0))


def test_operator_defaults_are_the_published_settings():
    e = manifold(50, 6)
    wanted = rwpm_fast.walk(e, alpha=0.99, steps=20, temperature=0.01, tolerance=0.0)
    assert torch.equal(torch.ops.rwpm.walk(e), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_is_as_good_as_float32_on_the_rounded_inputs(dtype):
    e, v = manifold(150, 32, dtype=dtype), manifold(150, 5, seed=1, dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=5)
    assert got.dtype == dtype
    wanted = exactly(e, v, steps=5)
    plain = relative_error(reference.walk(e.float(), v.float(), steps=5), wanted)
    assert relative_error(got, wanted) <= 2 * plain + torch.finfo(dtype).eps / 2  # half an eps: the output's rounding


@pytest.mark.parametrize("of_values", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("of_embeddings", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_mixed_dtypes_are_computed_in_the_wider(of_embeddings, of_values):
    e, v = manifold(60, 8, dtype=of_embeddings), manifold(60, 3, seed=1, dtype=of_values)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=3)
    assert got.dtype == of_values
    inner = FLOAT64 if torch.float64 in (of_embeddings, of_values) else FLOAT32
    assert relative_error(got, exactly(e, v, steps=3)) <= inner + torch.finfo(of_values).eps / 2


LAYOUTS = {
    "transposed": lambda x: x.mT.contiguous().mT,
    "every other pixel": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "every third channel": lambda x: x.repeat_interleave(3, -1)[..., 1::3],
    "inside a larger one": lambda x: torch.nn.functional.pad(x, (2, 1, 3, 5), value=9.0)[..., 3:-5, 2:-1],
    "negated lazily": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("leading", [(70,), (2, 70)], ids=["flat", "batched"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(layout, leading):
    e, v = manifold(*leading, 6), manifold(*leading, 5, seed=1)
    mask = torch.rand(leading, generator=torch.Generator().manual_seed(0)) < 0.8
    lay = LAYOUTS[layout]
    assert torch.equal(lay(e), e)
    strided_mask = mask.repeat_interleave(2, -1)[..., ::2]
    got = rwpm_fast.walk(lay(e), lay(v), mask=strided_mask)
    assert got.is_contiguous()
    assert torch.equal(got, rwpm_fast.walk(e, v, mask=mask))


def test_expanded_inputs():
    e, v = manifold(40, 6), manifold(40, 1, seed=1)
    wanted = rwpm_fast.walk(e, v)
    got = rwpm_fast.walk(e.expand(3, 40, 6), v.expand(3, 40, 4), mask=torch.ones(1, dtype=torch.bool).expand(3, 40))
    assert got.shape == (3, 40, 4)
    assert torch.equal(got, wanted.expand(3, 40, 4))


def test_batch_is_image_by_image():
    e, v = manifold(3, 60, 6), manifold(3, 60, 4, seed=1)
    mask = torch.rand(3, 60, generator=torch.Generator().manual_seed(0)) < 0.6
    got = rwpm_fast.walk(e, v, mask=mask)
    for b in range(3):
        assert torch.equal(got[b], rwpm_fast.walk(e[b], v[b], mask=mask[b]))


@DTYPES
@pytest.mark.parametrize("valid", [0, 1, 2, 90, 150])
def test_mask(isa, valid, dtype):
    e, v = manifold(150, 8, dtype=dtype), manifold(150, 5, seed=1, dtype=dtype)
    mask = torch.zeros(150, dtype=torch.bool)
    mask[torch.randperm(150, generator=torch.Generator().manual_seed(0))[:valid]] = True
    got = rwpm_fast.walk(e, v, tolerance=0, mask=mask, steps=4)
    assert torch.equal(got[~mask], v[~mask])
    assert relative_error(got, exactly(e, v, mask=mask, steps=4)) <= tolerance_of(dtype)
    if valid > 1:
        assert not torch.equal(got[mask], v[mask])


@DTYPES
def test_pixels_that_are_not_finite_leave_the_graph(isa, dtype):
    e, v = manifold(150, 8, dtype=dtype), manifold(150, 5, seed=1, dtype=dtype)
    e[3, 7], e[60, 0], v[100, 4], v[149, 0], v[0] = torch.nan, -torch.inf, torch.inf, torch.nan, torch.inf
    out = [0, 3, 60, 100, 149]
    rest = [i for i in range(150) if i not in out]
    got = rwpm_fast.walk(e, v, tolerance=0, steps=4)
    torch.testing.assert_close(got[out], v[out], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(got[rest], rwpm_fast.walk(e[rest], v[rest], tolerance=0, steps=4))


@DTYPES
@pytest.mark.parametrize("alpha", [0, 0.3, 1.0])
def test_restart(alpha, dtype):
    e, v = manifold(80, 8, dtype=dtype), manifold(80, 5, seed=1, dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, alpha=alpha, steps=6)
    assert relative_error(got, exactly(e, v, alpha=alpha, steps=6)) <= tolerance_of(dtype)
    if alpha == 0:
        assert torch.equal(got, v)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 50])
def test_steps(steps):
    e, v = manifold(80, 8, dtype=torch.float64), manifold(80, 5, seed=1, dtype=torch.float64)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=steps)
    assert relative_error(got, exactly(e, v, steps=steps)) <= FLOAT64
    assert got.data_ptr() != v.data_ptr()
    if steps == 0:
        assert torch.equal(got, v)


@DTYPES
@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 0.1, 1.0, 100.0, 1e300])
def test_temperatures(isa, temperature, dtype):
    e, v = manifold(100, 16, dtype=dtype), manifold(100, 3, seed=1, dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=3, temperature=temperature)
    # A logit is the cosine over the temperature, and its absolute error is the weight's relative one.
    colder = max(1.0, 0.01 / temperature)
    assert relative_error(got, exactly(e, v, steps=3, temperature=temperature)) <= colder * tolerance_of(dtype)


@DTYPES
@pytest.mark.parametrize("temperature", [1e-4, 1e-40, 5e-324])
def test_cold_walk_goes_to_the_nearest(isa, temperature, dtype):
    angles = torch.tensor([0.0, 0.3, 1.0, 1.9, 3.0], dtype=torch.float64)
    e = torch.stack([angles.cos(), angles.sin()], -1).to(dtype)
    v = torch.arange(5, dtype=dtype)[:, None]
    got = rwpm_fast.walk(e, v, tolerance=0, alpha=1.0, steps=1, temperature=temperature)
    assert got.flatten().tolist() == [1, 0, 1, 2, 3]


@DTYPES
def test_exact_ties_share_at_any_temperature(isa, dtype):
    e = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]], dtype=dtype)
    v = torch.tensor([[0.0], [3], [6], [9]], dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, alpha=1.0, steps=1, temperature=1e-40)
    assert got.flatten().tolist() == pytest.approx([4.5, 3, 1.5, 3], rel=1e-6)


@DTYPES
@pytest.mark.parametrize("norm", [1e-30, 1e-18, 1e-13, 1e-12, 1e-11, 1e18, 1e30])
def test_norms(isa, norm, dtype):
    e, v = (manifold(80, 8) * norm).to(dtype), manifold(80, 3, seed=1, dtype=dtype)
    got = rwpm_fast.walk(e, v, tolerance=0, steps=3)
    assert relative_error(got, exactly(e, v, steps=3)) <= tolerance_of(dtype)


def test_norms_of_one_image_may_differ():
    e = manifold(80, 8) * torch.logspace(-30, 30, 80)[:, None]
    e[::9] = 0
    v = manifold(80, 3, seed=1)
    assert relative_error(rwpm_fast.walk(e, v, tolerance=0, steps=3), exactly(e, v, steps=3)) <= FLOAT32


@pytest.mark.parametrize("pixels", [4096, 16384])
def test_long_rows_keep_constants(isa, pixels):
    """Equal weights added one by one round the same way each time, unless partial sums are taken."""
    e = torch.zeros(pixels, 1)
    v = torch.full((pixels, 1), 0.1)
    got = rwpm_fast.walk(e, v, tolerance=0, alpha=1.0, steps=1)
    assert (got / 0.1 - 1).abs().max().item() <= FLOAT32


@DTYPES
def test_values_near_the_largest_number_stay_finite(dtype):
    """Each walked value is a mean of values, so it cannot overflow where they do not."""
    v = torch.full((100, 2), torch.finfo(dtype).max / 4, dtype=dtype)
    got = rwpm_fast.walk(manifold(100, 8, dtype=dtype), v, temperature=1.0, steps=2)
    torch.testing.assert_close(got, v, rtol=1e-5, atol=0)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-3, 0.5])
def test_tolerance_bounds_the_error(tolerance):
    e, v = manifold(200, 16), manifold(200, 4, seed=1)
    got = rwpm_fast.walk(e, v, steps=3, tolerance=tolerance)
    bound = 2 * 3 * tolerance * v.abs().max().item()  # by row-stochasticity, for dropped mass <= tolerance a row
    assert (got - exactly(e, v, steps=3)).abs().max().item() <= bound + 1e-4


@pytest.mark.parametrize("adjoint", [False, True], ids=["walk", "adjoint"])
def test_same_bits_on_any_threads_and_on_repeat(adjoint):
    e, v = manifold(900, 20), manifold(900, 7, seed=1)

    def bits(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            if adjoint:
                return torch.ops.rwpm.walk_adjoint(v, e, steps=3)
            return rwpm_fast.walk(e, v, tolerance=0, steps=3)
        finally:
            torch.set_num_threads(before)

    one = bits(1)
    for threads in (1, 2, 3):
        assert torch.equal(bits(threads), one)


def test_calls_from_several_threads_do_not_meet():
    inputs = [manifold(200 + 7 * k, 12, seed=k) for k in range(4)]
    wanted = [rwpm_fast.walk(e, steps=3) for e in inputs]
    got = [None] * 4

    def run(k):
        for _ in range(5):
            got[k] = rwpm_fast.walk(inputs[k], steps=3)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("backend", ["auto", "cpu", "torch"])
def test_inputs_are_left_alone(backend):
    e, v = manifold(60, 6), manifold(60, 4, seed=1)
    v[5, 0] = torch.nan
    mask = torch.arange(60) % 7 > 0
    before = e.clone(), v.clone(), mask.clone()
    rwpm_fast.walk(e, v, mask=mask, backend=backend)
    torch.ops.rwpm.walk_adjoint(v, e, mask)
    for now, then in zip((e, v, mask), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)


def test_backends_agree():
    e, v = manifold(2, 80, 8, dtype=torch.float64), manifold(2, 80, 3, seed=1, dtype=torch.float64)
    wanted = exactly(e, v)
    for backend in ("auto", "cpu", "torch"):
        assert relative_error(rwpm_fast.walk(e, v, tolerance=0, backend=backend), wanted) <= FLOAT64


def test_numpy_scalars_are_numbers():
    e = manifold(20, 4)
    got = rwpm_fast.walk(e, alpha=np.float32(0.5), steps=np.int64(3), temperature=np.float64(0.1))
    assert torch.equal(got, rwpm_fast.walk(e, alpha=0.5, steps=3, temperature=0.1))


def test_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("RWPM_ISA", "sse9")
    wanted = r"RWPM_ISA: expected one that this machine has \(.*baseline\), got 'sse9'"
    with pytest.raises((RuntimeError, ValueError), match=wanted):
        rwpm_fast.walk(manifold(5, 3))


def test_forced_instruction_set_is_used(isa):
    assert native.native().chosen_isa() == isa


# Properties


numbers = st.floats(0, 1)
walks = {
    "pixels": st.integers(2, 70),
    "alpha": numbers,
    "steps": st.integers(0, 8),
    "temperature": st.floats(-3, 1).map(lambda power: 10**power),
    "seed": st.integers(0, 1000),
}
examples = settings(deadline=None, max_examples=25, derandomize=True)


@examples
@given(a=st.floats(-5, 5), b=st.floats(-5, 5), **walks)
def test_linear_in_the_values(a, b, pixels, seed, **setting):
    e = manifold(pixels, 6, seed=seed, dtype=torch.float64)
    v, w = (manifold(pixels, 3, seed=seed + k, dtype=torch.float64) for k in (1, 2))
    both = rwpm_fast.walk(e, a * v + b * w, **setting)
    apart = a * rwpm_fast.walk(e, v, **setting) + b * rwpm_fast.walk(e, w, **setting)
    torch.testing.assert_close(both, apart, rtol=0, atol=1e-12 * (1 + abs(a) + abs(b)))


@examples
@given(**walks)
def test_constants_stay_and_values_stay_in_their_hull(pixels, seed, **setting):
    e = manifold(pixels, 6, seed=seed, dtype=torch.float64)
    v = manifold(pixels, 3, seed=seed + 1, dtype=torch.float64)
    v[:, 0] = 7
    got = rwpm_fast.walk(e, v, **setting)
    torch.testing.assert_close(got[:, 0], v[:, 0], rtol=1e-13, atol=0)
    assert (got.amax(0) <= v.amax(0) + 1e-13).all()
    assert (got.amin(0) >= v.amin(0) - 1e-13).all()


@examples
@given(**walks)
def test_order_of_pixels_does_not_matter(pixels, seed, **setting):
    e = manifold(pixels, 6, seed=seed, dtype=torch.float64)
    v = manifold(pixels, 3, seed=seed + 1, dtype=torch.float64)
    order = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed))
    got = rwpm_fast.walk(e[order], v[order], **setting)
    # Sums in another order round differently: 1e-16 of a cosine is 1e-13 of a logit at the lowest temperature.
    torch.testing.assert_close(got, rwpm_fast.walk(e, v, **setting)[order], rtol=0, atol=1e-11)


BIG = """
import re, torch, rwpm_fast
from rwpm_fast import ops
assert ops.library.unsupported_reason() is None
N, D, C = 65_536, 32, 8
g = torch.Generator().manual_seed(0)
centers = torch.randn(50, D, generator=g)
e = centers[torch.randint(50, (N,), generator=g)] + 0.5 * torch.randn(N, D, generator=g)
v = torch.randn(N, C, generator=g)
got = rwpm_fast.walk(e, v, tolerance=0, steps=1, backend="cpu")
# Not ru_maxrss, which begins with the peak of the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 2**20  # GiB
# Rows of one transition can be checked one by one; the last ones have pair indices beyond 32 bits.
rows = torch.cat([torch.randint(N, (60,), generator=g), torch.arange(N - 4, N)])
q = torch.nn.functional.normalize(e.double(), dim=-1)
logits = q[rows] @ q.T / 0.01
logits[torch.arange(64), rows] = -torch.inf
wanted = 0.99 * logits.softmax(-1) @ v.double() + 0.01 * v[rows].double()
error = ((got[rows] - wanted).norm() / wanted.norm()).item()
assert peak < 1, f"peak memory {peak:.2f} GiB"
assert error <= 1e-5, f"relative error {error:.1e}"
"""


def test_memory_does_not_grow_with_pairs(run_python):
    run_python(BIG)
