"""Gradients with respect to embeddings, values and temperature together, by every way to walk."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

import rwpm_fast
from python_tests.helpers import gaps, manifold, relative_error
from python_tests.places import DATA
from rwpm_fast import reference

FLOAT32, FLOAT64 = 2e-5, 1e-11
ANCHORS = ({}, {"anchor": 0.8}, {"anchor_share": 0.2})
N = 1200  # of the fixture sparse_map


def by_function(backend):
    return lambda e, v, tau, mask, **settings: rwpm_fast.walk(
        e, v, mask=mask, temperature=tau, tolerance=0, backend=backend, **settings
    )


def by_operator(e, v, tau, mask, **settings):
    return torch.ops.rwpm.walk.temperature(e, v, mask, tau, **settings)


def by_graph(e, v, tau, mask, **settings):
    graph = rwpm_fast.transition(e, mask=mask, temperature=tau, tolerance=0)
    return graph.walk(v, **settings)


def by_map(e, v, tau, mask, **settings):
    maps = (t.T.unflatten(1, (1, -1)) for t in (e, v))
    mask = None if mask is None else mask[None]
    return rwpm_fast.Walk(tolerance=0, temperature=tau, **settings)(*maps, mask=mask).flatten(1).T


WAYS = pytest.mark.parametrize(
    "walk",
    [by_function("auto"), by_function("cpu"), by_function("torch"), by_operator, by_graph, by_map],
    ids=["auto", "cpu", "torch", "operator", "graph", "map"],
)


def problem(pixels, *, broken=False, channels=5, value_channels=2):
    e = manifold(pixels, channels, dtype=torch.float64)
    v = manifold(pixels, value_channels, seed=1, dtype=torch.float64)
    mask = None
    if broken:
        e[4, 2], v[6, 0] = torch.nan, torch.inf
        mask = torch.arange(pixels) != 1
    tau = torch.tensor(0.2, dtype=torch.float64)
    return e, v, tau, mask


def gradients(walk, e, v, tau, mask, upstream, **settings):
    inputs = [t.detach().clone().requires_grad_() for t in (e, v, tau)]
    return torch.autograd.grad(walk(*inputs, mask, **settings), inputs, upstream)


def by_reference(e, v, tau, mask, **settings):
    return reference.walk(e, v, mask=mask, temperature=tau, **settings)


@WAYS
@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_gradcheck(walk, steps, anchor):
    e, v, tau, mask = problem(9, broken=walk is not by_graph)  # a graph refuses broken values
    finite = e.isfinite()

    def of_finite(x, v, tau):
        return walk(e.masked_scatter(finite, x), v, tau, mask, alpha=0.8, steps=steps, **anchor)

    inputs = [t.clone().requires_grad_() for t in (e[finite], v, tau)]
    fine = [*inputs] if v.isfinite().all() else [inputs[0], v[:6].clone().requires_grad_(), inputs[2]]
    if fine[1] is not inputs[1]:  # finite differences of the broken value have no meaning
        assert gradcheck(lambda x, head, tau: of_finite(x, torch.cat([head, v[6:]]), tau)[v.isfinite().all(1)], fine)
    else:
        assert gradcheck(of_finite, fine)


@pytest.mark.parametrize("pixels", [2, 3, 11, 12, 13, 23, 24, 25, 47, 48, 49, 95, 97, 193, 385])
@pytest.mark.parametrize("value_channels", [1, 19, 50])
def test_around_tile_edges(isa, pixels, value_channels):
    e, v, tau, mask = problem(pixels, broken=pixels > 10, value_channels=value_channels)
    upstream = manifold(pixels, value_channels, seed=2, dtype=torch.float64)
    anchor = ANCHORS[pixels % 3]
    wanted = gradients(by_reference, e, v, tau, mask, upstream, steps=5, **anchor)
    wanted = [t.nan_to_num() if t is wanted[0] else t for t in wanted]
    for dtype, tolerance in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        inputs = (t.to(dtype) for t in (e, v, tau))
        got = gradients(by_operator, *inputs, mask, upstream.to(dtype), steps=5, **anchor)
        assert [t.dtype for t in got] == [dtype] * 3
        if pixels == 2:  # each has one neighbor, whatever its embedding
            assert got[0].abs().max() <= 1e-4 and relative_error(got[1], wanted[1]) <= tolerance
            continue
        for a, b, slack in zip(got, wanted, (1, 1, 50), strict=True):  # the temperature's is a difference of large sums
            assert relative_error(a, b) <= slack * tolerance


@pytest.mark.parametrize("value_channels", [300, 700])
def test_more_values_than_are_multiplied_at_a_time(value_channels):
    e, v, tau, _ = problem(60, value_channels=value_channels)
    upstream = manifold(60, value_channels, seed=2, dtype=torch.float64)
    wanted = gradients(by_reference, e, v, tau, None, upstream, steps=5)
    for a, b in zip(gradients(by_operator, e, v, tau, None, upstream, steps=5), wanted, strict=True):
        assert relative_error(a, b) <= FLOAT64


def test_of_values_that_are_the_embeddings():
    e = manifold(40, 6, dtype=torch.float64).requires_grad_()
    upstream = manifold(40, 6, seed=2, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(reference.walk(e, steps=4, temperature=0.1), e, upstream)
    for walk in (rwpm_fast.walk, torch.ops.rwpm.walk):
        for arguments in ((e,), (e, e)):
            (got,) = torch.autograd.grad(walk(*arguments, steps=4, temperature=0.1), e, upstream)
            assert relative_error(got, wanted) <= FLOAT64


def test_batches_with_an_isolated_pixel():
    e, v = manifold(3, 20, 6, dtype=torch.float64), manifold(3, 20, 4, seed=1, dtype=torch.float64)
    upstream, tau = manifold(3, 20, 4, seed=2, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[1, 1:] = False  # leaves one, which keeps its value
    for walk in (by_function("auto"), by_function("torch"), by_operator):
        got = gradients(walk, e, v, tau, mask, upstream, steps=3)
        wanted = gradients(by_reference, e, v, tau, mask, upstream, steps=3)
        for a, b in zip(got, wanted, strict=True):
            assert relative_error(a, b) <= FLOAT64
        assert torch.equal(got[1][1], upstream[1]) and not got[0][1].any()


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_broken_pixels_get_zero_and_poison_nothing(sparse_map, tolerance):
    e, v = sparse_map
    e, mask = gaps(e)
    v = v.clone()
    v[20, 1] = torch.nan
    out = ~reference.valid_pixels(e, v, mask)
    inputs = e.clone().requires_grad_(), v.clone().requires_grad_()
    rwpm_fast.walk(*inputs, mask=mask, tolerance=tolerance)[~out].sum().backward()
    rwpm_fast.walk(*inputs, mask=mask, tolerance=tolerance)[~out].square().sum().backward()
    assert inputs[0].grad.isfinite().all() and inputs[1].grad.isfinite().all()
    assert not inputs[0].grad[out].any() and inputs[0].grad[~out].any(1).all()


def test_an_embedding_without_direction_gets_zero():
    e, v, tau, _ = problem(30)
    e[5], e[6] = 0, 1e-14
    for walk in (by_function("auto"), by_function("torch")):
        by_embeddings, *_ = gradients(walk, e, v, tau, None, torch.ones_like(v).cumsum(0), steps=3)
        assert by_embeddings.isfinite().all() and not by_embeddings[5:7].any() and by_embeddings[7:].any(1).all()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_embeddings_of_any_size(size):
    e, v, tau, _ = (None if t is None else t.float() for t in problem(40))
    e *= size
    upstream = manifold(40, 2, seed=2)
    wanted = gradients(by_reference, e.double() / size, v.double(), tau.double(), None, upstream.double(), steps=4)
    for walk in (by_function("auto"), by_function("torch")):
        by_embeddings, *_ = gradients(walk, e, v, tau, None, upstream, steps=4)
        if size < 1:  # such slopes overflow, or the embedding has no direction
            continue
        assert relative_error(by_embeddings.double() * size, wanted[0]) <= FLOAT32


# The sparse path


def kept_walk(e, v, tau, kept, *, alpha=0.99, steps=20, anchor=-1.0, anchor_share=0.0):
    """The definition on the pairs that are kept, dense."""
    q = torch.nn.functional.normalize(e, dim=-1)
    logits = (q @ q.T / tau).masked_fill(~kept, -torch.inf)
    S, log_sum = logits.softmax(-1), logits.logsumexp(-1)
    r = torch.zeros_like(log_sum)
    if anchor_share:
        r = torch.sigmoid(log_sum.kthvalue(int(np.ceil(anchor_share * len(e)))).values - log_sum)
    elif anchor > -1:
        r = torch.sigmoid(anchor / tau - log_sum)
    m, a = v, alpha * (1 - r[:, None])
    for _ in range(steps):
        m = a * (S @ m) + (1 - a) * v
    return m


def kept_pairs(graph, pixels):
    row, column, _ = graph._matrix.pairs()
    kept = torch.zeros(pixels, pixels, dtype=torch.bool)
    kept[row, column] = True
    return kept


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
@pytest.mark.parametrize(("tolerance", "error"), [(1e-2, 3e-4), (1e-4, 1e-4), (1e-5, 3e-5)])
def test_filtered_walks_have_the_gradient_of_the_pairs_they_keep(sparse_map, isa, anchor, tolerance, error):
    e, v = sparse_map
    tau, upstream = torch.tensor(0.01), manifold(N, 7, seed=2)
    graph = rwpm_fast.transition(e, tolerance=tolerance)
    kept = kept_pairs(graph, N)

    def by_pairs(e, v, tau, mask, **settings):
        return kept_walk(e, v, tau, kept, **settings)

    double = e.double(), v.double(), tau.double(), None, upstream.double()
    wanted = gradients(by_pairs, *double, **anchor)
    exact = gradients(by_reference, *double, **anchor)
    assert relative_error(wanted[0], exact[0]) > 1e-7  # another operator than the exact one

    def by_filter(e, v, tau, mask, **settings):
        return rwpm_fast.walk(e, v, temperature=tau, tolerance=tolerance, **settings)

    def by_graph(e, v, tau, mask, **settings):
        graph = rwpm_fast.transition(e, temperature=tau, tolerance=tolerance)
        assert graph.path == "sparse"
        return graph.walk(v, **settings)

    for walk in (by_filter, by_graph):
        got = gradients(walk, e, v, tau, None, upstream, **anchor)
        for a, b in zip(got[:2], wanted[:2], strict=True):
            assert relative_error(a, b) <= error
        assert relative_error(got[2], wanted[2]) <= 100 * error  # a sum of terms of both signs
    # Of values alone: the adjoint of the same matrix.
    values = v.clone().requires_grad_()
    (by_values,) = torch.autograd.grad(by_filter(e, values, 0.01, None, **anchor), values, upstream)
    assert relative_error(by_values, wanted[1]) <= error


def test_float64_values_on_a_sparse_matrix(sparse_map):
    e, v = sparse_map
    upstream = manifold(N, 7, seed=2, dtype=torch.float64)
    kept = kept_pairs(rwpm_fast.transition(e, tolerance=1e-4), N)
    tau = torch.tensor(0.01, dtype=torch.float64)

    def by_pairs(e, v, tau, mask, **settings):
        return kept_walk(e, v, tau, kept, **settings)

    wanted = gradients(by_pairs, e.double(), v.double(), tau, None, upstream)
    inputs = [t.requires_grad_() for t in (e.clone(), v.double(), tau.clone())]
    graph = rwpm_fast.transition(inputs[0], temperature=inputs[2], tolerance=1e-4)
    got = torch.autograd.grad(graph.walk(inputs[1]), inputs, upstream)
    assert [t.dtype for t in got] == [torch.float32, torch.float64, torch.float64]
    assert all(relative_error(a, b) <= 1e-4 for a, b in zip(got[:2], wanted[:2], strict=True))


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
@pytest.mark.parametrize("channels", [19, 150])
def test_the_same_bits_at_any_number_of_threads_and_in_every_run(tolerance, channels):
    e, v = manifold(1500, 16, directions=80, noise=0.6), manifold(1500, channels, seed=1)
    upstream = manifold(1500, channels, seed=2)
    results = []
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            results.append(torch.ops.rwpm.walk_backward(upstream, e, v, tolerance=tolerance, steps=4))
    finally:
        torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


EMBEDDINGS = sorted((DATA / "embeddings").glob("*.npz")) or [None]


@pytest.mark.parametrize("path", EMBEDDINGS, ids=lambda path: "none" if path is None else path.stem)
def test_real_embeddings(path):
    if path is None:
        pytest.skip(f"no embeddings in {DATA}")
    with np.load(path) as file:
        e, v = (torch.from_numpy(file[name]).float()[:, ::2, ::2].flatten(1).T for name in ("embedding", "logits"))
    e, v = e[:3600].contiguous(), v[:3600].contiguous()
    upstream = torch.randn(v.shape, generator=torch.Generator().manual_seed(0))

    def norm_wise(walk, **settings):
        inputs = [t.clone().requires_grad_() for t in (e, v)]
        return torch.autograd.grad(walk(*inputs, **settings), inputs, upstream)

    double = [t.double().requires_grad_() for t in (e, v)]
    wanted = torch.autograd.grad(reference.walk(*double), double, upstream.double())
    got = norm_wise(rwpm_fast.walk, tolerance=0)
    assert all(relative_error(a, b) <= 1e-4 for a, b in zip(got, wanted, strict=True))
    graph = rwpm_fast.transition(e, tolerance=1e-4)
    if graph.path == "streaming":
        return
    kept = kept_pairs(graph, len(e))
    wanted = torch.autograd.grad(kept_walk(*double, 0.01, kept), double, upstream.double())
    got = norm_wise(rwpm_fast.walk, tolerance=1e-4)
    assert all(relative_error(a, b) <= 1e-4 for a, b in zip(got, wanted, strict=True))


# The framework


def test_operators_pass_the_checks_of_the_framework():
    e, v, tau, mask = problem(12)
    e, v, tau = (t.requires_grad_() for t in (e, v, tau))
    mask = torch.arange(12) > 0
    settings = {"steps": 3, "alpha": 0.9}
    torch.library.opcheck(torch.ops.rwpm.walk.default, (e, v, mask), settings | {"temperature": 0.2})
    torch.library.opcheck(torch.ops.rwpm.walk.default, (e,), settings | {"temperature": 0.2})
    torch.library.opcheck(torch.ops.rwpm.walk.temperature, (e, v, mask, tau), settings)
    plain = [t.detach() for t in (v, e, v)]
    torch.library.opcheck(torch.ops.rwpm.walk_backward.default, (*plain, mask), settings | {"temperature": 0.2})
    torch.library.opcheck(torch.ops.rwpm.walk_backward.temperature, (*plain, mask, tau.detach()), settings)


@pytest.mark.parametrize("walk", [by_function("auto"), by_operator, by_map], ids=["function", "operator", "map"])
def test_compiled(walk):
    e, v, tau, _ = problem(35)
    upstream = manifold(35, 2, seed=2, dtype=torch.float64)
    compiled = torch.compile(lambda *inputs: walk(*inputs, None, steps=3), fullgraph=True)
    wanted = gradients(walk, e, v, tau, None, upstream, steps=3)
    got = gradients(lambda e, v, tau, mask: compiled(e, v, tau), e, v, tau, None, upstream)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_transforms_of_functions():
    e, v, tau, _ = problem(12)

    def loss(e, v, tau):
        return rwpm_fast.walk(e, v, temperature=tau, steps=3).square().sum()

    inputs = [t.clone().requires_grad_() for t in (e, v, tau)]
    wanted = torch.autograd.grad(loss(*inputs), inputs)
    got = torch.func.grad(loss, argnums=(0, 1, 2))(e, v, tau)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    es = torch.stack([e, 2 * e.roll(1, 0)])
    each = torch.vmap(torch.func.grad(loss), in_dims=(0, None, None))(es, v, tau)
    assert torch.equal(each[0], wanted[0])
    assert torch.equal(each[1], torch.func.grad(loss)(es[1], v, tau))
    jacobian = torch.func.jacrev(lambda e: rwpm_fast.walk(e, v, temperature=0.2, steps=2)[0])(e)
    assert jacobian.shape == (2, *e.shape)
    walked = torch.vmap(lambda e: rwpm_fast.walk(e, v, steps=3), in_dims=1)(es.transpose(0, 1))
    assert torch.equal(walked[1], rwpm_fast.walk(es[1], v, steps=3))


def test_no_second_gradient_and_none_in_forward_mode():
    e, v, tau, _ = problem(12)
    e.requires_grad_()
    for walk in (by_function("auto"), by_function("torch"), by_operator):
        (first,) = torch.autograd.grad(walk(e, v, tau, None, steps=2).square().sum(), e, create_graph=True)
        with pytest.raises(NotImplementedError, match="embeddings: no second gradient through a walk"):
            first.sum().backward()
    for name in ("embeddings", "values"):
        with pytest.raises(NotImplementedError, match=f"{name}: no derivative in forward mode"):
            torch.func.jvp(
                lambda x, name=name: rwpm_fast.walk(**({"embeddings": v, "values": v} | {name: x})), (v,), (v,)
            )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"gradient": torch.ones(5, 3)},
            (ValueError, RuntimeError),
            r"gradient: expected shape \[5, 2\] of the values",
        ),
        ({"gradient": torch.ones(5, 2).int()}, (TypeError, RuntimeError), "gradient: expected dtype float32"),
        ({"temperature": -1.0}, (ValueError, RuntimeError), "temperature: expected a positive finite number"),
        ({"values": torch.ones(4, 2)}, (ValueError, RuntimeError), r"values: expected shape \[5, C\]"),
    ],
)
def test_operator_refuses(change, error, message):
    arguments = {"gradient": torch.ones(5, 2), "embeddings": torch.ones(5, 3), "values": torch.ones(5, 2)} | change
    with pytest.raises(error, match=message):
        torch.ops.rwpm.walk_backward(**arguments)


def test_refuses_temperatures():
    e = manifold(5, 3)
    for walk in (rwpm_fast.walk, rwpm_fast.transition):
        with pytest.raises(ValueError, match=r"temperature: expected a number or a tensor of shape \[\], got \[1\]"):
            walk(e, temperature=torch.ones(1))
        with pytest.raises(TypeError, match="temperature: expected a floating dtype, got torch"):
            walk(e, temperature=torch.tensor(1))
        with pytest.raises((ValueError, RuntimeError), match="temperature: expected a positive finite number, got -1"):
            walk(e, temperature=torch.tensor(-1.0))


def test_a_temperature_is_learned():
    module = rwpm_fast.Walk(temperature=torch.nn.Parameter(torch.tensor(0.5)), steps=3, tolerance=0)
    assert dict(module.named_parameters()).keys() == {"temperature"} and "temperature=0.5" in repr(module)
    e = manifold(6, 4, 5).permute(2, 0, 1)
    wanted = rwpm_fast.walk_map(e, steps=3, temperature=0.2, tolerance=0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(100):
        loss = (module(e) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert module.settings.temperature == pytest.approx(0.2, abs=0.02)
