"""Gradients by Triton's kernels, against autograd through dense float64 matrices of the pairs that the walk kept."""

import math

import pytest
import torch

from python_tests.helpers import manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops.backends import EAGER, TRITON
from rwpm_fast.ops.gpu import sparse
from rwpm_fast.ops.gpu.exact import row_sums
from rwpm_fast.ops.gpu.gradient import multiply_pairs, pack_factors
from rwpm_fast.ops.gpu.pack import pack_graph, pack_state
from rwpm_fast.ops.gpu.sparse import GROUP, WEIGHT_BLOCK, build_pairs
from rwpm_fast.ops.gpu.tuning import PAIR_TILES
from rwpm_fast.ops.settings import WalkSettings

BOUND = 1e-4
ANCHORS = ({}, {"anchor": 0.5}, {"anchor_share": 0.3})
each_anchor = pytest.mark.parametrize("anchor", ANCHORS, ids=["published", "anchor", "anchor_share"])


def kept_pairs(e, v, mask, settings):
    """Which pairs the walk of one image keeps, [N, N] bool, and how many of its rows stream."""
    valid = reference.valid_pixels(e, v, mask)
    kept = (valid[:, None] & valid[None, :]).fill_diagonal_(False)
    if settings.tolerance == 0:
        return kept, len(e)
    graph = pack_graph(e[None], None if mask is None else mask[None], settings.temperature)
    pack_state(v[None], graph, check=True)
    pairs = build_pairs(graph, settings.tolerance, has_low=True)
    listed = kept.clone()
    for group, (begin, count) in enumerate(zip(pairs.begins.tolist(), pairs.counts.tolist(), strict=True)):
        if begin >= 0:
            rows = slice(group * GROUP, (group + 1) * GROUP)
            listed[rows] = False
            listed[rows, pairs.columns[begin : begin + count].long()] = True
    return kept & listed, int((pairs.begins < 0).sum()) * GROUP


def autograd(gradient, e, v, kept, settings):
    """Gradients of one image's walk over pairs [N, N], in float64, with respect to embeddings, values, temperature."""
    valid = kept.any(1)
    e, v = e.double().where(valid[:, None], 0).requires_grad_(), v.double().where(valid[:, None], 0).requires_grad_()
    temperature = torch.tensor(settings.temperature, dtype=torch.float64, device=e.device, requires_grad=True)
    unit = e[valid] / e[valid].norm(dim=1, keepdim=True)
    logits = (unit @ unit.T / temperature).masked_fill(~kept[valid][:, valid], -math.inf)
    log_sum = logits.logsumexp(1)
    proceed = torch.full_like(log_sum, settings.alpha)
    if settings.anchor > -1 or settings.anchor_share > 0:
        logit = settings.anchor / temperature
        if settings.anchor_share > 0:
            logit = log_sum.sort().values[math.ceil(settings.anchor_share * len(log_sum)) - 1]
        proceed = settings.alpha * (1 - torch.sigmoid(logit - log_sum))
    S, proceed = logits.softmax(1), proceed[:, None]
    m = v[valid]
    for _ in range(settings.steps):
        m = proceed * (S @ m) + (1 - proceed) * v[valid]
    upstream = gradient.double()
    got = torch.autograd.grad(m, (e, v, temperature), upstream[valid], allow_unused=True)
    by_e, by_v, by_t = (torch.zeros_like(t) if g is None else g for g, t in zip(got, (e, v, temperature), strict=True))
    return by_e, by_v.where(valid[:, None], upstream), by_t


@pytest.fixture
def check(device):
    """Compare the gradients of one image with those of autograd; return them and how many rows streamed."""

    def run(e, v, mask=None, *, bound=BOUND, **settings):
        settings = WalkSettings(**settings)
        e, v = e.to(device), v.to(device)
        mask = None if mask is None else mask.to(device)
        g = manifold(*v.shape, seed=2, dtype=v.dtype).to(device)
        got = TRITON.gradients(g, e, v, mask, settings)
        kept, streaming = kept_pairs(e, v, mask, settings)
        wanted = autograd(g, e, v, kept, settings)
        assert (got.embeddings.dtype, got.values.dtype, got.temperature.dtype) == (e.dtype, v.dtype, torch.float64)
        assert relative_error(got.embeddings, wanted[0]) <= bound
        assert relative_error(got.values, wanted[1]) <= bound
        # A sum of terms most of which cancel, to half of what float32 rounds.
        inside = kept.any(1)
        terms = g[inside].double().norm() * v[inside].double().norm() / settings.temperature**2
        assert abs(got.temperature - wanted[2]) <= bound * abs(wanted[2]) + 3e-4 * bound * terms
        return got, streaming

    return run


@pytest.mark.parametrize("pixels", [2, 65, 130, 200])
@pytest.mark.parametrize(("value_channels", "channels"), [(1, 5), (3, 70), (19, 5)])
def test_exact_walk(check, pixels, value_channels, channels):
    check(manifold(pixels, channels), manifold(pixels, value_channels, seed=1), steps=2)


@each_anchor
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_steps_and_anchors(check, steps, anchor):
    mask = torch.arange(140) % 9 > 0
    check(manifold(140, 12), manifold(140, 3, seed=1), mask, steps=steps, temperature=0.05, **anchor)


@each_anchor
def test_sparse_walk(check, sparse_map, anchor):
    e, v = (t[:300] for t in sparse_map)
    _, streaming = check(e, v, torch.arange(300) % 13 > 0, steps=3, tolerance=1e-3, **anchor)
    assert streaming == 0


@pytest.mark.parametrize("tolerance", [1e-5, 1e-3])
def test_rows_that_stream_and_rows_that_do_not(device, check, monkeypatch, tolerance):
    """Where rows find no room; anchored, with more channels than go to a column at a time."""
    monkeypatch.setattr(sparse, "device_memory", lambda device: 16 * GROUP * 3 * WEIGHT_BLOCK)
    e, v = road(300, 24), manifold(300, 70, seed=1)
    _, streaming = check(e, v, torch.arange(300) % 13 > 0, steps=2, tolerance=tolerance, anchor=0.9)
    assert 0 < streaming < 300


def test_a_dense_graph_streams(check):
    _, streaming = check(manifold(130, 12), manifold(130, 3, seed=1), steps=2, temperature=1.0, tolerance=1e-4)
    assert streaming >= 130


@pytest.mark.parametrize("tolerance", [0, 1e-3])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)], ids=str)
def test_dtypes(check, dtype, bound, tolerance):
    """Only the results are rounded."""
    check(road(130, 20).to(dtype), manifold(130, 3, seed=1).to(dtype), bound=bound, steps=3, tolerance=tolerance)


def test_keys_rounded_as_for_tf32(check, monkeypatch):
    """What one half rounds from the embeddings is in the walk, too; nothing else is rounded."""
    monkeypatch.setattr("rwpm_fast.ops.gpu.pack.needs_two_halves", lambda t: False)
    check(manifold(130, 20).half().float(), manifold(130, 3, seed=1), bound=1e-3, steps=3)


@pytest.mark.parametrize("tolerance", [0, 1e-3])
def test_pixels_outside_the_graph(check, tolerance):
    e, v = road(200, 20), manifold(200, 4, seed=1)
    e[3, 2], e[77, 0], v[130, 1] = torch.nan, torch.inf, -torch.inf
    mask = torch.ones(200, dtype=torch.bool)
    mask[5:60] = False
    got, _ = check(e, v, mask, steps=3, tolerance=tolerance, anchor_share=0.3)
    outside = ~reference.valid_pixels(e, v, mask)
    assert (got.embeddings[outside.to(got.embeddings.device)] == 0).all()
    assert got.embeddings.isfinite().all()


@pytest.mark.parametrize("tolerance", [0, 1e-3])
def test_batches_are_images_and_runs_the_same_bits(device, tolerance):
    e, v, g = (manifold(2, 140, c, directions=40, seed=c).to(device) for c in (12, 3, 4))
    g = g[..., :3]
    mask = torch.rand(2, 140, generator=torch.Generator().manual_seed(0)).to(device) > 0.2
    settings = WalkSettings(steps=1, tolerance=tolerance, anchor=0.8)
    together, again = (TRITON.gradients(g, e, v, mask, settings) for _ in range(2))
    alone = [TRITON.gradients(g[b], e[b], v[b], mask[b], settings) for b in range(2)]
    for name in ("embeddings", "values"):
        assert torch.equal(getattr(together, name), getattr(again, name))
        assert torch.equal(getattr(together, name), torch.stack([getattr(a, name) for a in alone]))
    assert torch.equal(together.temperature, again.temperature)
    assert together.temperature == sum(a.temperature for a in alone)


def test_is_near_plain_torch(device):
    e, g = manifold(140, 12).to(device), manifold(140, 12, seed=2).to(device)
    settings = WalkSettings(steps=3, temperature=0.05)
    got, wanted = (backend.gradients(g, e, None, None, settings) for backend in (TRITON, EAGER))
    errors = [relative_error(a, b) for a, b in zip(got, wanted, strict=True)]
    assert max(errors[:2]) <= BOUND and errors[2] <= 10 * BOUND, errors


@each_anchor
def test_gradient_of_the_values_alone(device, anchor):
    """That of the pairs kept, too; the same as with all gradients."""
    e, v, g = road(300, 24).to(device), manifold(300, 3, seed=1).to(device), manifold(300, 3, seed=2).to(device)
    mask = torch.arange(300, device=device) % 13 > 0
    for tolerance in (0, 1e-3):
        settings = WalkSettings(steps=3, tolerance=tolerance, **anchor)
        got = TRITON.adjoint(g, e, mask, settings)
        kept, _ = kept_pairs(e, v, mask, settings)
        assert relative_error(got, autograd(g, e, v, kept, settings)[1]) <= 1e-5
    assert relative_error(got, TRITON.gradients(g, e, v, mask, settings).values) <= 1e-6


def test_a_value_that_is_no_number_leaves_no_trace(device):
    """The gradient of the values alone knows such a pixel only as masked, and has to find the same pairs."""
    e, v = road(200, 24).to(device), manifold(200, 3, seed=1).to(device)
    packed = pack_graph(e[None], None, 0.01)
    roughest = int(packed.rounding_norm[0, :200].argmax())
    v[roughest, 1] = torch.nan
    pack_state(v[None], packed, check=True)
    masked = pack_graph(e[None], reference.valid_pixels(e, v)[None], 0.01)
    assert torch.equal(packed.quant_error, masked.quant_error)
    assert torch.equal(packed.valid, masked.valid)


def test_broken_gradient_shows(device):
    e, v, g = road(140, 12).to(device), manifold(140, 3, seed=1).to(device), manifold(140, 3, seed=2).to(device)
    g[4] = torch.nan
    for tolerance in (0, 1e-3):
        got = TRITON.gradients(g, e, v, None, WalkSettings(steps=1, tolerance=tolerance))
        assert not got.embeddings.isfinite().all() and not got.values.isfinite().all()
        assert not got.temperature.isfinite()


@pytest.mark.parametrize("alone", [0, 1])
def test_a_pixel_without_another(device, alone):
    e, v, g = (manifold(70, c, seed=c).to(device) for c in (5, 3, 4))
    got = TRITON.gradients(g[:, :3], e, v, torch.arange(70, device=device) < alone, WalkSettings(anchor_share=0.5))
    assert torch.equal(got.values, g[:, :3])
    assert (got.embeddings == 0).all() and got.temperature == 0


def test_nothing_to_differentiate(device):
    e, v = manifold(50, 4).to(device), manifold(50, 3, seed=1).to(device)
    for pixels, channels in ((50, 0), (0, 3), (1, 3)):
        start = v[:pixels, :channels]
        got = TRITON.gradients(start, e[:pixels], start, None, WalkSettings())
        assert torch.equal(got.values, start)
        assert got.embeddings.shape == (pixels, 4) and (got.embeddings == 0).all()


@pytest.mark.parametrize(
    "tile", [*PAIR_TILES[:2], *(pytest.param(tile, marks=pytest.mark.slow) for tile in PAIR_TILES[2:])], ids=str
)
@pytest.mark.parametrize("channels", [20, 150])
def test_every_shape_of_tile(device, tile, channels):
    """Products with pairs; 150 channels in two halves take two programs."""
    e = manifold(140, channels).to(device)
    left, right = (manifold(140, 100, seed=seed).to(device) for seed in (1, 2))
    offset = manifold(140, 1, seed=3)[:, 0].to(device)
    graph = pack_graph(e[None], None, 0.05)
    unit = torch.nn.functional.normalize(e)
    source, factor = pack_state(unit[None], graph, check=False, has_low=True)
    factors = pack_factors(left, right, offset, graph.padded)
    everywhere = graph.valid.new_ones(1, graph.padded // 128)
    got = multiply_pairs(graph, row_sums(graph, None), everywhere, factors, source, tiles=(tile,))
    got = got[0, :140, :channels] / factor * factors.size
    S = reference.transition(e.double().cpu(), temperature=0.05).to(device)
    H = S * (left.double() @ right.double().T + offset[:, None])
    assert relative_error(got, (H + H.T) @ unit.double()) <= 1e-5
