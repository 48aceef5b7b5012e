"""A graph built once: walked, written down, and certain of its error."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, error_of_largest, gaps, manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.ops import graph as transitions

N = 1200


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "gaps"])
def test_walks_as_the_walk_bit_for_bit(sparse_map, isa, whole):
    e, v = sparse_map
    e, mask = (e, None) if whole else gaps(e)
    graph = rwpm_fast.transition(e, mask=mask, tolerance=1e-5)
    assert graph.path == "sparse"
    for alpha, steps in ((0.99, 20), (0.5, 13), (1.0, 11), (0.0, 20), (0.9, 0)):
        got = graph.walk(v, alpha=alpha, steps=steps)
        assert got.is_contiguous()
        assert torch.equal(got, rwpm_fast.walk(e, v, mask=mask, alpha=alpha, steps=steps, tolerance=1e-5))


STREAMING = {
    "tolerance 0": (lambda manifold: manifold(600, 32), {"tolerance": 0.0}),
    "warm": (lambda manifold: manifold(600, 32), {"temperature": 1.0}),
    "few pixels": (lambda manifold: manifold(60, 32), {}),
    "float64": (lambda manifold: manifold(600, 32).double(), {}),
    "one color": (lambda manifold: torch.ones(600, 16), {}),
}


@pytest.mark.parametrize("case", STREAMING)
def test_streams_where_no_sparse_matrix_pays(case):
    make, setting = STREAMING[case]
    e, mask = gaps(make(manifold)) if case in ("warm", "float64") else (make(manifold), None)
    v = manifold(len(e), 3, seed=1)
    graph = rwpm_fast.transition(e, mask=mask, **setting)
    assert graph.path == "streaming"
    setting.setdefault("tolerance", 1e-4)
    assert torch.equal(graph.walk(v, steps=3), rwpm_fast.walk(e, v, mask=mask, steps=3, **setting))
    valid = reference.valid_pixels(e, None, mask)
    assert graph.pixels == valid.sum()
    assert torch.equal(graph.kept_per_row, torch.where(valid, valid.sum() - 1, 0))
    assert not graph.dropped_mass.any()
    assert graph.error_bound() == 0


def test_a_new_value_in_every_walk(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    one = graph.walk(v)
    graph.walk(v * 2)
    assert torch.equal(graph.walk(v), one)


@pytest.mark.parametrize("path", ["sparse", "streaming"])
def test_embeddings_may_change_afterwards(sparse_map, path):
    e, v = sparse_map
    graph = rwpm_fast.transition(e, tolerance=1e-4 if path == "sparse" else 0.0)
    assert graph.path == path
    before = graph.walk(v, steps=2)
    e.zero_()
    assert torch.equal(graph.walk(v, steps=2), before)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
def test_error_is_within_the_certificate(sparse_map, isa, tolerance):
    e, v = sparse_map
    graph = rwpm_fast.transition(e, tolerance=tolerance)
    for alpha, steps in ((0.99, 20), (1.0, 5), (0.5, 30)):
        expected = reference.walk(e.double(), v.double(), alpha=alpha, steps=steps)
        bound = graph.error_bound(alpha=alpha, steps=steps)
        assert 0 < bound <= 2 * steps * tolerance
        # Beside the dropped mass stands float32's own rounding.
        assert error_of_largest(graph.walk(v, alpha=alpha, steps=steps), expected, v) <= bound + 1e-5


def test_pixels_outside_keep_whatever_they_have(sparse_map):
    e, v = sparse_map
    e, mask = gaps(e)
    v[3], v[550, 1] = torch.inf, torch.nan
    graph = rwpm_fast.transition(e, mask=mask)
    got = graph.walk(v)
    out = ~reference.valid_pixels(e, None, mask)
    assert torch.equal(got[out].view(torch.int32), v[out].view(torch.int32))
    assert torch.equal(graph.kept_per_row[out], torch.zeros(int(out.sum()), dtype=torch.int64))
    assert not graph.dropped_mass[out].any()
    assert got[~out].isfinite().all()
    solution = graph.solve(v)
    assert torch.equal(solution.values[out].view(torch.int32), v[out].view(torch.int32))


@pytest.mark.parametrize("tolerance", [1e-4, 0.0], ids=["sparse", "streaming"])
def test_values_in_the_graph_have_to_be_finite(sparse_map, tolerance):
    e, v = sparse_map
    v[7, 2], v[9] = torch.nan, torch.inf
    graph = rwpm_fast.transition(e, tolerance=tolerance)
    for call in (graph.walk, graph.solve):
        with pytest.raises(ValueError, match=r"values: expected finite .* got 2 pixels with others; leave them out"):
            call(v)
    # The way out that the message names:
    inside = rwpm_fast.transition(e, mask=v.isfinite().all(-1), tolerance=tolerance)
    assert torch.equal(inside.walk(v, steps=2)[10:], rwpm_fast.walk(e, v, steps=2, tolerance=tolerance)[10:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_is_computed_in_float32(sparse_map, dtype):
    e, v = (x.to(dtype) for x in sparse_map)
    graph = rwpm_fast.transition(e)
    got = graph.walk(v)
    assert got.dtype == dtype
    assert torch.equal(got, rwpm_fast.walk(e, v, tolerance=1e-4))
    assert graph.to_csr().dtype == torch.float32


def test_float64_values_are_walked_in_float64(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    S, v = graph.to_csr().to_dense().double(), v.double()
    wanted = v
    for _ in range(5):
        wanted = 0.9 * S @ wanted + 0.1 * v
    got = graph.walk(v, alpha=0.9, steps=5)
    assert got.dtype == torch.float64
    assert relative_error(got, wanted) <= 1e-13
    assert torch.equal(graph.walk(v, steps=0), v)


@pytest.mark.parametrize("channels", [1, 16, 17, 33, 48, 100])
def test_any_number_of_value_channels(sparse_map, channels):
    e, _ = sparse_map
    v = manifold(N, channels, seed=2)
    graph = rwpm_fast.transition(e)
    assert relative_error(graph.walk(v, steps=3), graph.walk(v.double(), steps=3)) <= 1e-6


def test_layouts_do_not_matter(sparse_map):
    e, v = sparse_map
    wanted = rwpm_fast.transition(e).walk(v)
    graph = rwpm_fast.transition(e.T.contiguous().T)
    assert torch.equal(graph.walk(v.T.contiguous().T), wanted)
    assert torch.equal(graph.walk(v.repeat_interleave(2, -1)[:, ::2]), wanted)


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_few_pixels(pixels):
    e, v = torch.ones(pixels, 3), torch.arange(pixels * 2.0).view(pixels, 2)
    graph = rwpm_fast.transition(e)
    assert torch.equal(graph.walk(v, alpha=1.0, steps=1), v.flip(0))
    assert graph.solve(v).converged
    assert torch.equal(graph.to_csr().to_dense(), torch.eye(pixels).flip(0))
    assert graph.pixels == (2 if pixels == 2 else 0)


@pytest.mark.parametrize("valid", [0, 1])
def test_a_pixel_without_another_keeps_its_value(valid):
    e, v = manifold(5, 4), manifold(5, 2, seed=1)
    graph = rwpm_fast.transition(e, mask=torch.arange(5) < valid)
    assert torch.equal(graph.walk(v), v)
    assert torch.equal(graph.solve(v).values, v)
    assert torch.equal(graph.to_csr().to_dense(), torch.eye(5))


def test_no_channels(sparse_map):
    e, _ = sparse_map
    for graph in (rwpm_fast.transition(e), rwpm_fast.transition(e[:9])):
        v = torch.zeros(len(graph.kept_per_row), 0)
        assert graph.walk(v).shape == v.shape
        assert graph.solve(v).values.shape == v.shape
    v = torch.tensor([[0.0], [2.0], [4.0]])
    assert rwpm_fast.transition(torch.zeros(3, 0)).walk(v, alpha=1.0, steps=1).flatten().tolist() == [3, 2, 1]


def test_same_bits_at_any_number_of_threads(sparse_map):
    e, v = sparse_map

    def bits(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            graph = rwpm_fast.transition(e, shape=(30, 40))
            S = graph.to_csr()
            return (
                *(S.crow_indices(), S.col_indices(), S.values(), graph.dropped_mass),
                *(graph.walk(v), graph.walk(v.double()), graph.solve(v, alpha=0.9).values),
            )
        finally:
            torch.set_num_threads(before)

    one, two = bits(1), bits(2)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("shape", [(30, 40), (40, 30), (1, N), (N, 1), (400, 3), (3, 400), (200, 6), (150, 8)], ids=str)
def test_any_shape_holds_the_tolerance(sparse_map, isa, shape):
    e, _ = sparse_map
    graph = rwpm_fast.transition(e, tolerance=1e-3, shape=shape)
    assert graph.path == "sparse"
    check_dropped_mass(graph, dense(e), 1e-3)


# What the graph tells of itself


def check_dropped_mass(graph, exact, tolerance):
    kept = graph.to_csr().to_dense() > 0
    dropped = 1 - torch.where(kept, exact, 0).sum(1)
    rounding = 1e-9 + 1e-3 * tolerance  # of float32 logits
    assert (dropped <= graph.dropped_mass + rounding).all()
    assert (graph.dropped_mass <= tolerance).all()
    assert dropped.max() > 0


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "gaps"])
def test_csr_is_the_definition_up_to_the_dropped_mass(sparse_map, isa, whole, tolerance):
    e, _ = sparse_map
    e, mask = (e, None) if whole else gaps(e)
    graph = rwpm_fast.transition(e, mask=mask, tolerance=tolerance)
    S, exact = graph.to_csr(), dense(e, mask)
    assert S.layout == torch.sparse_csr and S.dtype == torch.float32
    check_dropped_mass(graph, exact, tolerance)
    rows = S.crow_indices().diff()
    inside = reference.valid_pixels(e, None, mask)
    assert torch.equal(rows, torch.where(inside, graph.kept_per_row, 1).to(rows.dtype))
    torch.testing.assert_close(S.to_dense().double().sum(1), torch.ones(N, dtype=torch.float64), rtol=0, atol=2e-6)
    # A row loses its dropped mass, and what is left takes it up; weights are as good as float32 logits.
    off = (S.to_dense().double() - exact).abs().sum(1)
    assert (off <= 2 * graph.dropped_mass + 2e-4).all()
    assert torch.equal(S.to_dense().diagonal(), (~inside).float())


def test_csr_walks_as_the_graph(sparse_map):
    e, v = sparse_map
    e, mask = gaps(e)
    graph = rwpm_fast.transition(e, mask=mask)
    S = graph.to_csr().to_dense().double()
    wanted = v.double()
    for _ in range(4):
        wanted = 0.99 * S @ wanted + 0.01 * v.double()
    assert relative_error(graph.walk(v, steps=4), wanted) <= 1e-6


def test_csr_is_a_copy(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    before = graph.walk(v)
    S = graph.to_csr()
    S.values().zero_()
    S.col_indices().zero_()
    assert torch.equal(graph.walk(v), before)


def test_csr_in_scipy(sparse_map):
    sparse = pytest.importorskip("scipy.sparse")
    e, v = sparse_map
    graph = rwpm_fast.transition(e)
    S = graph.to_csr()
    matrix = sparse.csr_array((S.values(), S.col_indices(), S.crow_indices()), S.shape)
    assert matrix.has_canonical_format
    got = graph.walk(v.double(), alpha=1.0, steps=1).numpy()
    np.testing.assert_allclose(matrix.astype(np.float64) @ v.double().numpy(), got, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_csr_of_a_graph_that_streams(dtype):
    e, mask = gaps(manifold(800, 24, dtype=dtype))
    graph = rwpm_fast.transition(e, mask=mask, tolerance=0.0)
    S = graph.to_csr()
    assert S.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(S.to_dense().double(), dense(e, mask), rtol=0, atol=tolerance)
    inside = reference.valid_pixels(e, None, mask)
    assert torch.equal(S.crow_indices().diff(), torch.where(inside, graph.kept_per_row, 1).int())


def test_csr_has_a_budget(monkeypatch):
    monkeypatch.setattr(transitions, "MAX_DENSE_ENTRIES", 19 * 20)
    assert rwpm_fast.transition(manifold(20, 4)).to_csr().shape == (20, 20)
    with pytest.raises(ValueError, match="to_csr: expected a sparse graph or at most 380 pairs, got 420 pairs"):
        rwpm_fast.transition(manifold(21, 4)).to_csr()


def test_repr():
    assert repr(rwpm_fast.transition(manifold(20, 4))) == "Transition(streaming, 20 pixels, 380 pairs)"


# The certificate


def test_bound_is_the_sum_of_powers(sparse_map):
    graph = rwpm_fast.transition(sparse_map[0])
    delta = graph.dropped_mass.max().item()
    for alpha, steps in ((0.99, 20), (0.3, 4), (0.999999, 7)):
        wanted = 2 * delta * math.fsum(alpha**t for t in range(1, steps + 1))
        assert graph.error_bound(alpha=alpha, steps=steps) == pytest.approx(wanted, rel=1e-9)
    assert graph.error_bound() == graph.error_bound(alpha=0.99, steps=20)
    assert graph.error_bound(alpha=1.0, steps=7) == pytest.approx(14 * delta)
    assert graph.error_bound(alpha=0.99, steps=math.inf) == pytest.approx(2 * delta * 99)
    assert graph.error_bound(alpha=1.0, steps=math.inf) == 2  # both walks stay among the values
    assert graph.error_bound(alpha=0.0) == graph.error_bound(steps=0) == 0


# Errors


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"embeddings": torch.ones(2, 5, 4)}, ValueError, "embeddings: expected shape [N, D], got [2, 5, 4]; make a"),
        ({"embeddings": torch.ones(5)}, ValueError, "embeddings: expected shape [N, D], got [5]"),
        ({"embeddings": np.ones((5, 4))}, TypeError, "embeddings: expected a torch.Tensor, got ndarray"),
        ({"embeddings": torch.ones(5, 4).int()}, TypeError, "embeddings: expected dtype float32, float64"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, ValueError, "mask: expected shape [5]"),
        ({"mask": torch.ones(5)}, TypeError, "mask: expected dtype bool, got torch.float32"),
        ({"temperature": 0.0}, ValueError, "temperature: expected a positive finite number, got 0.0"),
        ({"temperature": "1"}, TypeError, "temperature: expected a number, got str"),
        ({"tolerance": 1.0}, ValueError, "tolerance: expected a number in [0, 1), got 1.0"),
        ({"shape": (2, 2)}, ValueError, "shape: expected (H, W) with H * W = 5 pixels, got (2, 2)"),
        ({"shape": (-1, -5)}, ValueError, "shape: expected (H, W) with H * W = 5 pixels, got (-1, -5)"),
        ({"shape": (5,)}, TypeError, "shape: expected two integers (H, W), got (5,)"),
        ({"shape": 5}, TypeError, "shape: expected two integers (H, W), got 5"),
        ({"shape": (2.5, 2)}, TypeError, "shape: expected two integers (H, W), got (2.5, 2)"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_transition_refuses(change, kind, text):
    arguments = {"embeddings": torch.ones(5, 4)} | change
    with pytest.raises(kind) as caught:
        rwpm_fast.transition(arguments.pop("embeddings"), **arguments)
    assert str(caught.value).startswith(text)


VALUES = torch.ones(6, 2)


@pytest.mark.parametrize(
    ("method", "values", "change", "kind", "text"),
    [
        ("walk", torch.ones(5, 2), {}, ValueError, "values: expected shape [6, C], got [5, 2]"),
        ("walk", torch.ones(6), {}, ValueError, "values: expected shape [6, C], got [6]"),
        ("solve", torch.ones(1, 6, 2), {}, ValueError, "values: expected shape [6, C], got [1, 6, 2]"),
        ("walk", [[1.0]] * 6, {}, TypeError, "values: expected a torch.Tensor, got list"),
        ("solve", [[1.0]] * 6, {}, TypeError, "values: expected a torch.Tensor, got list"),
        ("walk", VALUES.int(), {}, TypeError, "values: expected dtype float32, float64, float16 or bfloat16, got"),
        ("walk", VALUES.to("meta"), {}, ValueError, "values: expected the embeddings' device cpu, got meta"),
        ("walk", VALUES, {"alpha": 1.5}, ValueError, "alpha: expected a number in [0, 1], got 1.5"),
        ("walk", VALUES, {"steps": -1}, ValueError, "steps: expected 0 or more transitions, got -1"),
        ("walk", VALUES, {"steps": 1.0}, TypeError, "steps: expected an integer, got float"),
        ("solve", VALUES, {"alpha": 1.0}, ValueError, "alpha: expected a number in [0, 1), got 1"),
        ("solve", VALUES, {"alpha": None}, TypeError, "alpha: expected a number, got NoneType"),
        ("solve", VALUES, {"rtol": 0.0}, ValueError, "rtol: expected a positive finite number, got 0.0"),
        ("solve", VALUES, {"rtol": "1"}, TypeError, "rtol: expected a number, got str"),
        ("solve", VALUES, {"max_iterations": 0}, ValueError, "max_iterations: expected 1 or more transitions, got 0"),
        ("solve", VALUES, {"max_iterations": 1.5}, TypeError, "max_iterations: expected an integer, got float"),
        ("error_bound", None, {"alpha": 2.0}, ValueError, "alpha: expected a number in [0, 1], got 2.0"),
        ("error_bound", None, {"steps": 2.5}, TypeError, "steps: expected an integer, got float"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_methods_refuse(method, values, change, kind, text):
    graph = rwpm_fast.transition(torch.eye(6))
    with pytest.raises(kind) as caught:
        getattr(graph, method)(*(() if values is None else (values,)), **change)
    assert str(caught.value).startswith(text)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("tolerance", [1e-4, 0.0], ids=["sparse", "streaming"])
def test_no_warning_of_torch_comes_through(tolerance):
    code = "import torch, rwpm_fast; print(rwpm_fast.transition(torch.randn(40, 8), tolerance={}).to_csr().layout)"
    # In a process of its own: torch warns once.
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code.format(tolerance)], capture_output=True, text=True
    )
    assert done.stdout == "torch.sparse_csr\n", done.stderr


def test_is_appnp_of_pytorch_geometric(sparse_map):
    geometric = pytest.importorskip("torch_geometric.nn")
    e, v = sparse_map
    mask = torch.arange(len(e)) % 7 > 0
    graph = rwpm_fast.transition(e, mask=mask)
    appnp = geometric.APPNP(K=20, alpha=0.01, normalize=False, add_self_loops=False)
    assert relative_error(appnp(v, graph.to_csr()), graph.walk(v, alpha=0.99, steps=20)) <= 1e-5
