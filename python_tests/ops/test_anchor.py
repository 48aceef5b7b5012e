"""The anchored walk, in every backend that runs on a CPU, against the reference in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rwpm_fast
import rwpm_fast.numpy
from python_tests.helpers import error_of_largest, gaps, manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops import backends
from rwpm_fast.ops.settings import WalkSettings

ANCHORS = (
    {"anchor": 0.5},
    {"anchor": 0.98},
    {"anchor": 1.2},
    {"anchor_share": 0.02},
    {"anchor_share": 0.5},
    {"anchor_share": 1.0},
)
each_anchor = pytest.mark.parametrize("anchor", ANCHORS, ids=str)


def by_numpy(e, v, *, mask=None, tolerance=0.0, **settings):
    mask = None if mask is None else mask.numpy()
    walked = rwpm_fast.numpy.walk(e.numpy(), v.numpy(), mask=mask, tolerance=tolerance, **settings)
    return torch.from_numpy(walked)


def by_operator(e, v, *, tolerance=0.0, **settings):
    return rwpm_fast.walk(e, v, tolerance=tolerance, **settings)


def by_torch(e, v, **settings):
    return rwpm_fast.walk(e, v, backend="torch", **settings)


def by_graph(e, v, *, mask=None, tolerance=0.0, **settings):
    return rwpm_fast.transition(e, mask=mask, tolerance=tolerance).walk(v, **settings)


WALKS = {"operator": by_operator, "numpy": by_numpy, "torch": by_torch, "graph": by_graph}
each_walk = pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)


@each_walk
@each_anchor
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
def test_exact_walk(walk, anchor, dtype, bound):
    e, v = manifold(150, 19, dtype=dtype), manifold(150, 20, seed=1, dtype=dtype)
    mask = torch.rand(150, generator=torch.Generator().manual_seed(2)) > 0.1
    want = reference.walk(e.double(), v.double(), mask=mask, **anchor)
    assert relative_error(walk(e, v, mask=mask, **anchor), want) <= bound


@each_anchor
def test_every_instruction_set(isa, anchor):
    e, v = manifold(1200, 30), manifold(1200, 7, seed=1)
    want = reference.walk(e.double(), v.double(), **anchor)
    assert relative_error(rwpm_fast.walk(e, v, tolerance=0, **anchor), want) <= 1e-5
    assert relative_error(rwpm_fast.walk(e, v, tolerance=1e-6, **anchor), want) <= 1e-5


@pytest.mark.parametrize("walk", [by_operator, by_graph], ids=["operator", "graph"])
@each_anchor
@pytest.mark.parametrize("tolerance", [1e-4, 1e-2])
def test_certificate_of_the_sparse_walk(walk, anchor, tolerance):
    e, mask = gaps(road(1500, 20))
    v = manifold(1500, 19, seed=3)
    graph = rwpm_fast.transition(e, mask=mask, tolerance=tolerance)
    assert graph.path == "sparse"
    want = reference.walk(e.double(), v.double(), mask=mask, **anchor)
    got = walk(e, v, mask=mask, tolerance=tolerance, **anchor)
    assert error_of_largest(got, want, v) <= graph.error_bound() + 1e-5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 700),
    st.integers(1, 12),
    st.floats(-1.5, 1.5) | st.just(-math.inf) | st.just(math.inf),
    st.floats(0, 1),
    st.floats(1e-3, 10),
    st.floats(0, 1),
    st.integers(0, 12),
    st.integers(0, 2**31),
)
def test_certificate_of_random_walks(pixels, channels, anchor, share, temperature, alpha, steps, seed):
    e, v = manifold(pixels, channels, seed=seed), manifold(pixels, 3, seed=seed + 1)
    chosen = {"anchor_share": share} if share > 0 and seed % 2 else {"anchor": anchor}
    common = {"alpha": alpha, "steps": steps, **chosen}
    want = reference.walk(e.double(), v.double(), temperature=temperature, **common)
    graph = rwpm_fast.transition(e, temperature=temperature, tolerance=1e-3)
    bound = graph.error_bound(alpha=alpha, steps=steps)
    # Where ties of the largest sums decide who is anchored, rounding does: cosines are good to 1e-7.
    rounding = 1e-5 + 1e-6 / temperature
    assert error_of_largest(graph.walk(v, **common), want, v) <= bound + rounding
    got = rwpm_fast.walk(e, v, temperature=temperature, tolerance=0, **common)
    assert error_of_largest(got, want, v) <= rounding
    low, high = v.amin(0), v.amax(0)
    assert (got >= low - 1e-5).all() and (got <= high + 1e-5).all()  # a mean of values


@each_walk
@pytest.mark.parametrize("anchor", [{}, {"anchor": -1.0}, {"anchor": -5.0}, {"anchor": -math.inf}], ids=str)
@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_without_an_anchor_the_published_walk_to_the_bit(walk, anchor, temperature):
    e, v = road(500, 12), manifold(500, 5, seed=1)
    if walk is by_graph:
        graph = rwpm_fast.transition(e, temperature=temperature)
        assert torch.equal(graph.walk(v, **anchor), graph.walk(v))
    else:
        plain = walk(e, v, temperature=temperature)
        assert torch.equal(walk(e, v, temperature=temperature, **anchor), plain)


@each_walk
@each_anchor
def test_constants_are_kept(walk, anchor):
    ones = torch.ones(300, 2)
    torch.testing.assert_close(walk(manifold(300, 8), ones, **anchor), ones)


@each_walk
def test_all_pixels_anchored_firmly_keep_their_values(walk):
    v = manifold(200, 3, seed=1)
    assert torch.equal(walk(manifold(200, 8), v, anchor=math.inf), v)


@each_walk
def test_the_stranger_keeps_its_value(walk):
    """A pixel that resembles no other is the one that is anchored."""
    e = road(400, 12, noise=0.01)
    e[123] = -e.mean(0)
    v = manifold(400, 3, seed=1)
    got, plain = walk(e, v, anchor_share=1 / 400), walk(e, v)
    moved, plainly = (got - v).abs().amax(1), (plain - v).abs().amax(1)
    assert moved[123] <= 0.55 * plainly[123]
    assert relative_error(walk(e, v, anchor=0.9)[123], v[123]) <= 0.02 + (1 - 0.99)
    others = torch.arange(400) != 123
    assert relative_error(got[others], plain[others]) <= 0.2


@each_walk
def test_pixels_out_of_the_graph_keep_their_values(walk):
    e, mask = gaps(manifold(700, 10))
    v = manifold(700, 4, seed=1)
    got = walk(e, v, mask=mask, anchor_share=0.1)
    out = ~reference.valid_pixels(e, v, mask)
    assert torch.equal(got[out], v[out])
    want = reference.walk(e.double(), v.double(), mask=mask, anchor_share=0.1)
    assert relative_error(got, want) <= 1e-5


def test_a_pixel_alone_keeps_its_value():
    v = torch.tensor([[1.0], [torch.nan]])
    assert torch.equal(rwpm_fast.walk(torch.ones(2, 3), v, anchor=0.5).isnan(), v.isnan())
    graph = rwpm_fast.transition(torch.ones(1, 3))
    assert torch.equal(graph.own_weights(anchor=0.5), torch.ones(1))
    assert graph.smooth_max.tolist() == [-math.inf]


def test_share_of_anchored_pixels():
    e, v = road(1000, 16), manifold(1000, 2)
    for tolerance in (0.0, 1e-4):
        for share in (0.001, 0.02, 0.3, 1.0):
            _, info = rwpm_fast.walk(e, v, tolerance=tolerance, anchor_share=share, return_info=True)
            assert info.anchored == math.ceil(share * 1000)
    assert rwpm_fast.walk(e, v, return_info=True)[1].anchored == 0


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_weights_of_a_graph(tolerance):
    e, mask = gaps(road(900, 16))
    graph = rwpm_fast.transition(e, mask=mask, tolerance=tolerance)
    valid = reference.valid_pixels(e, None, mask)
    kept = e[valid].double()
    for anchor in ANCHORS:
        got = graph.own_weights(**anchor)
        torch.testing.assert_close(got[valid].double(), reference.own_weights(kept, **anchor), atol=2e-4, rtol=1e-3)
        assert (got[~valid] == 1).all()
    q = torch.nn.functional.normalize(kept, dim=-1)
    smooth_max = 0.01 * torch.logsumexp((q @ q.T / 0.01).fill_diagonal_(-math.inf), -1)
    torch.testing.assert_close(graph.smooth_max[valid].double(), smooth_max, atol=1e-5, rtol=0)


@each_anchor
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_solve_is_the_limit(anchor, tolerance):
    e, v = road(600, 16), manifold(600, 3, seed=1)
    solution = rwpm_fast.transition(e, tolerance=tolerance).solve(v, alpha=0.9, **anchor)
    assert solution.converged
    want = reference.walk(e.double(), v.double(), alpha=0.9, steps=400, **anchor)
    assert error_of_largest(solution.values, want, v) <= 2 * tolerance * 9 + 1e-5


@pytest.mark.parametrize("walk", [by_operator, by_graph], ids=["operator", "graph"])
@pytest.mark.parametrize("anchor", [ANCHORS[1], ANCHORS[3]], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_gradcheck(walk, anchor, steps):
    e = manifold(30, 5, dtype=torch.float64)
    v = manifold(30, 3, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: walk(e, x, steps=steps, **anchor), v)
    assert torch.autograd.gradgradcheck(lambda x: walk(e, x, steps=steps, **anchor), v)


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_gradient_of_float32(anchor, tolerance):
    e, v, g = road(400, 16), manifold(400, 3, seed=1), manifold(400, 3, seed=2)
    values = v.double().requires_grad_()
    reference.walk(e.double(), values, **anchor).backward(g.double())
    graph = rwpm_fast.transition(e, tolerance=tolerance)
    for walk in (lambda x: rwpm_fast.walk(e, x, **anchor), lambda x: graph.walk(x, **anchor)):
        x = v.clone().requires_grad_()
        walk(x).backward(g)
        assert relative_error(x.grad, values.grad) <= 2e-5
    by_torch = backends.EAGER.walk(e, g, None, WalkSettings(**anchor), adjoint=True)
    assert relative_error(by_torch, values.grad) <= 2e-5


@pytest.mark.parametrize("anchor", [ANCHORS[1], ANCHORS[3]], ids=str)
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_the_same_bits_at_any_number_of_threads(anchor, tolerance):
    e, v = road(1500, 16), manifold(1500, 19, seed=1)
    walked = []
    for threads in (1, 2, 3):
        walked.append(by_numpy(e, v, tolerance=tolerance, threads=threads, **anchor))
    assert all(torch.equal(walked[0], w) for w in walked)


@pytest.mark.parametrize("parts", [1, 2])
def test_maps_and_modules(parts):
    e, v = manifold(2, 7, 9, 11).permute(0, 3, 1, 2), manifold(2, 7, 9, 3, seed=1).permute(0, 3, 1, 2)
    settings = {"parts": parts, "steps": 3, "anchor_share": 0.1}
    got = rwpm_fast.walk_map(e, v, **settings)
    assert torch.equal(rwpm_fast.Walk(**settings)(e, v), got)
    plain = rwpm_fast.walk_map(e, v, parts=parts, steps=3)
    assert not torch.equal(got, plain)
    if parts == 1:
        flat = [m.flatten(2).transpose(1, 2) for m in (e, v)]
        assert torch.equal(got.flatten(2).transpose(1, 2), rwpm_fast.walk(*flat, steps=3, anchor_share=0.1))
    assert "anchor_share=0.1" in repr(rwpm_fast.Walk(**settings))


def test_compiled_and_checked_operator():
    e, v = manifold(60, 5), manifold(60, 3, seed=1)
    arguments = {"alpha": 0.9, "steps": 2, "anchor": 0.9}
    torch.library.opcheck(torch.ops.rwpm.walk.default, (e, v.requires_grad_(), None), arguments)
    compiled = torch.compile(lambda e, v: rwpm_fast.walk(e, v, anchor_share=0.1), fullgraph=True)
    assert torch.equal(compiled(e, v.detach()), rwpm_fast.walk(e, v.detach(), anchor_share=0.1))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"anchor": math.nan}, ValueError, "anchor: expected a cosine"),
        ({"anchor": "0.9"}, TypeError, "anchor: expected a number, got str"),
        ({"anchor_share": 1.5}, ValueError, r"anchor_share: expected a number in \[0, 1\], got 1.5"),
        ({"anchor_share": math.nan}, ValueError, "anchor_share: expected a number"),
        ({"anchor": 0.9, "anchor_share": 0.1}, ValueError, "anchor_share: expected 0 with an anchor"),
    ],
    ids=str,
)
def test_errors(settings, error, message):
    e = manifold(20, 3)
    graph = rwpm_fast.transition(e)
    for call in (
        lambda: rwpm_fast.walk(e, **settings),
        lambda: rwpm_fast.numpy.walk(e.numpy(), **settings),
        lambda: rwpm_fast.Walk(**settings),
        lambda: graph.walk(e, **settings),
        lambda: graph.solve(e, **settings),
        lambda: graph.own_weights(**settings),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    "settings", [{"anchor": math.nan}, {"anchor_share": 2.0}, {"anchor": 0.9, "anchor_share": 0.1}], ids=str
)
def test_errors_of_the_operator(settings):
    with pytest.raises(RuntimeError, match="anchor"):
        torch.ops.rwpm.walk(manifold(20, 3), **settings)
