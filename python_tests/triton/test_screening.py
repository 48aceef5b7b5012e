"""The look at every pair once, by half of the tiles: what it finds is what a look at all of them would."""

import math

import pytest
import torch

import rwpm_fast
from rwpm_fast import reference
from rwpm_fast.triton import look as module
from rwpm_fast.triton import screening, tuning
from rwpm_fast.triton.look import GROUP
from rwpm_fast.triton.packed import pack_graph
from rwpm_fast.triton.tuning import Tile

SEE, KEEP, TOLERANCE = 1e-6, 1e-4, 1e-2


def screened(e, mask, tile):
    graph = pack_graph(e, mask, 0.05)
    return graph, module._screened(graph, tile, TOLERANCE, SEE, KEEP)


def logits(graph):
    """[B, padded, padded] in float64, of pairs of different valid pixels; -inf elsewhere."""
    q = graph.keys.high.double() * graph.inverse.double()[..., None]
    valid = graph.valid != 0
    live = valid[:, :, None] & valid[:, None] & ~torch.eye(graph.padded, dtype=torch.bool, device=q.device)
    return torch.where(live, (q @ q.mT) * graph.scale, -torch.inf)


def near(x, rows):
    """Log2 of rows' sums over their tile of ``rows`` pixels and those within reach of it, [B, padded]."""
    tile = torch.arange(x.shape[1], device=x.device) // rows * rows
    key = torch.arange(x.shape[1], device=x.device)
    seen = (key[None] >= tile[:, None] - module.REACH) & (key[None] < tile[:, None] + rows + module.REACH)
    return torch.where(seen, x, -torch.inf).mul(math.log(2)).logsumexp(-1) / math.log(2)


def columns(bits):
    """Words [B, groups, words] as [B, groups, 32 * words] bool."""
    place = torch.arange(32, dtype=torch.int32, device=bits.device)
    return ((bits[..., None] >> place) & 1).flatten(2) != 0


@pytest.mark.parametrize("pixels", [2, 64, 100, 129, 257, 385, 512])  # 1 to 4 tiles of 128, 1 to 8 of 64
@pytest.mark.parametrize(("side", "wide"), [(64, 64), (128, 64), (128, 128)])
@pytest.mark.parametrize("turns", [1, 64])
def test_finds_what_a_look_at_all_tiles_finds(device, road, monkeypatch, pixels, side, wide, turns):
    monkeypatch.setattr(module, "TURNS", turns)
    monkeypatch.setattr(module, "REACH", 0)
    monkeypatch.setattr(module, "DENSEST", 1.0)
    monkeypatch.setattr(tuning, "_STEPS", (Tile(64, 64, 4, 1),))
    e = torch.stack([road(pixels, 24, seed=seed) for seed in (0, 3)]).to(device)
    mask = torch.arange(2 * pixels, device=device).view(2, pixels) % 13 > 0
    graph, found = screened(e, mask, Tile(side, wide, 4, 1))
    x, margin = logits(graph), 2 * graph.scale * graph.off.double()[:, None, None]
    base = (near(x, 64)[..., None] - margin).nan_to_num(neginf=torch.inf)  # [B, padded, 1]
    known = found.dropped.isfinite() & (graph.valid != 0)
    assert known.sum() > 0.9 * mask.sum() or pixels < 64
    share = (x - base).exp2()

    def wanted(slack):
        return (share >= (1 + slack) * KEEP * (-margin).exp2()).unflatten(1, (-1, GROUP)).any(2)

    got = columns(found.bits)
    assert (got | ~wanted(1e-3)).all()
    assert (~got | wanted(-1e-3)).all()
    assert torch.equal(found.counts.long(), got.sum(2))
    kept = got.repeat_interleave(GROUP, 1)
    lost = torch.where(kept, 0, share).sum(2)
    assert (found.dropped[known] >= lost[known] * (1 - 1e-4)).all()
    rounded = (2 * graph.padded // side) / screening.PARTS.value * TOLERANCE
    assert (found.dropped[known] <= (lost[known] * 1.001 + rounded) * (2 * margin).exp2().max() + pixels * SEE).all()
    largest = torch.where(kept, x, -torch.inf).amax(2)
    some = largest > -torch.inf
    assert (found.largest[some] >= largest[some]).all()
    assert (found.largest[some] <= x.amax(2)[some] + 2 * margin.max()).all()


@pytest.mark.parametrize("tiles", [(), (Tile(64, 64, 4, 1),), (Tile(128, 128, 8, 1),)])
def test_a_walk_is_the_same_without_it(device, road, manifold, error_of_largest, monkeypatch, tiles):
    monkeypatch.setattr(tuning, "_SCREENS", tiles)
    e, v = road(600, 24).to(device), manifold(600, 3, seed=1).to(device)
    got, info = rwpm_fast.walk(e, v, tolerance=1e-4, steps=3, backend="triton", return_info=True)
    assert info.path == "sparse" and info.dropped_mass <= 1e-4
    wanted = reference.walk(e.double(), v.double(), steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


def test_rows_with_nothing_near_look_again(device, road, manifold, error_of_largest):
    e, v = road(640, 24).to(device), manifold(640, 3, seed=1).to(device)
    mask = torch.arange(640, device=device) >= 500
    mask[5] = True  # alone among the first 500
    got, info = rwpm_fast.walk(e, v, mask=mask, tolerance=1e-4, steps=3, backend="triton", return_info=True)
    wanted = reference.walk(e.double(), v.double(), mask=mask, steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


def test_rows_that_began_with_far_too_small_sums_look_again(device, manifold, monkeypatch):
    """Every pixel's like are beyond its own 16 pixels, where sums are made at first: all others seem to matter."""
    monkeypatch.setattr(module, "REACH", 0)
    monkeypatch.setattr(tuning, "_STEPS", (Tile(16, 16, 4, 1),))
    pixel = torch.arange(512)
    kind = pixel // GROUP % 4 * 16 + pixel % 16
    e = manifold(64, 200, directions=4096, noise=0)[kind] + 0.01 * manifold(512, 200, seed=2)
    graph = pack_graph(e[None].to(device), None, 0.05)
    monkeypatch.setattr(module, "PASSES", 0)
    first = module.look(graph, 1e-2)
    monkeypatch.setattr(module, "PASSES", 3)
    last = module.look(graph, 1e-2)
    assert first.dropped.isinf().all() and (first.counts > 400).all()
    assert (last.dropped <= 1e-2).all() and (last.counts < 256).all()


def test_integers_keep_the_order_of_numbers():
    x = torch.tensor([-torch.inf, -3e38, -1.0, -1e-40, 0.0, 1e-40, 1.0, 144.27, 3e38, torch.inf])
    bits = x.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    assert torch.equal(ordered, ordered.sort().values)
    assert torch.equal(screening.number_of(ordered)[1:], x[1:])
    none = torch.tensor([torch.iinfo(torch.int32).min], dtype=torch.int32)
    assert screening.number_of(none).isposinf().all() and screening.number_of(ordered)[0].isposinf()
