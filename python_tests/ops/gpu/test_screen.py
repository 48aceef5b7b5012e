"""Looks at pairs: at every one once, by half of the tiles, it finds what a look at all would; and the later ones."""

import math

import pytest
import torch
import triton
import triton.language as tl

import rwpm_fast
from python_tests.helpers import error_of_largest, manifold, road
from rwpm_fast import reference
from rwpm_fast.ops.gpu import screen as module
from rwpm_fast.ops.gpu import tuning
from rwpm_fast.ops.gpu.kernels import screen as kernels
from rwpm_fast.ops.gpu.pack import pack_graph
from rwpm_fast.ops.gpu.screen import GROUP
from rwpm_fast.ops.gpu.tuning import Tile

SEE, KEEP = 2e-5, 1e-4
TOLERANCE = 0.5  # no more than what is counted in parts of: so large that rounding to them shows


def screened(e, mask, tile):
    graph = pack_graph(e, mask, 0.05)
    # As if cosines were further off, in every image by something else: at high temperatures margins are too small to
    # be missed.
    graph.quant_error *= torch.tensor([20.0, 40.0], device=e.device)
    return graph, module.first_pass(graph, tile, TOLERANCE, SEE, KEEP)


def logits(graph):
    """[B, padded, padded] in float64, of all pairs; and the same with -inf where they are not two valid pixels."""
    q = graph.keys.high.double() * graph.inv_norm.double()[..., None]
    valid = graph.valid != 0
    live = valid[:, :, None] & valid[:, None] & ~torch.eye(graph.padded, dtype=torch.bool, device=q.device)
    every = (q @ q.mT) * graph.scale
    return every, torch.where(live, every, -torch.inf)


def near(x, rows):
    """Log2 of rows' sums over their tile of ``rows`` pixels and those within reach of it, [B, padded]."""
    tile = torch.arange(x.shape[1], device=x.device) // rows * rows
    key = torch.arange(x.shape[1], device=x.device)
    seen = (key[None] >= tile[:, None] - module.WINDOW) & (key[None] < tile[:, None] + rows + module.WINDOW)
    return torch.where(seen, x, -torch.inf).mul(math.log(2)).logsumexp(-1) / math.log(2)


def columns(bits):
    """Words [B, groups, words] as [B, groups, 32 * words] bool."""
    place = torch.arange(32, dtype=torch.int32, device=bits.device)
    return ((bits[..., None] >> place) & 1).flatten(2) != 0


@pytest.mark.parametrize("pixels", [2, 100, 129, 385, 600])  # 1 to 5 tiles of 128, 2 to 10 of 64
@pytest.mark.parametrize(("side", "wide"), [(64, 64), (128, 64), (128, 128)])
@pytest.mark.parametrize(("turns", "reach"), [(1, 64), (2, 0), (64, 128)])
def test_finds_what_a_look_at_all_tiles_finds(device, monkeypatch, pixels, side, wide, turns, reach):
    monkeypatch.setattr(module, "TILES_PER_PROGRAM", turns)
    monkeypatch.setattr(module, "WINDOW", reach)
    monkeypatch.setattr(module, "MAX_DENSITY", 1.0)
    monkeypatch.setattr(tuning, "EXACT_TILES", (Tile(64, 64, 4, 1),))
    e = torch.stack([road(pixels, 24, seed=seed) for seed in (0, 3)]).to(device)
    mask = torch.arange(2 * pixels, device=device).view(2, pixels) % 13 > 0
    graph, found = screened(e, mask, Tile(side, wide, 4, 1))
    (every, x), margin = logits(graph), 2 * graph.scale * graph.quant_error.double()[:, None, None]
    base = (near(x, 64)[..., None] - margin).nan_to_num(neginf=torch.inf)  # [B, padded, 1]
    known = found.dropped_mass.isfinite() & (graph.valid != 0)
    assert known.sum() > 0.9 * mask.sum() or pixels < 64
    share = (x - base).exp2()

    def wanted(slack):
        return (share >= (1 + slack) * KEEP * (-margin).exp2()).unflatten(1, (-1, GROUP)).any(2)

    got = columns(found.bits)
    assert (got | ~wanted(1e-3)).all()
    assert (~got | wanted(-1e-3)).all()
    assert torch.equal(found.counts.long(), got.sum(2))
    kept = got.repeat_interleave(GROUP, 1)

    def lost(slack, of):
        """What rows drop in pieces of tiles that hold a share to look for, with their margin. Whose rows and whose
        columns a piece is of, the order of tiles says: counted are those of one and (or) of the other."""
        seen = (every - base).exp2() >= (1 + slack) * SEE * (-margin).exp2()
        pieces = (seen | seen.mT).unflatten(2, (-1, wide)).unflatten(1, (-1, side)).any(4).any(2)
        pieces = pieces.repeat_interleave(side, 1).repeat_interleave(wide, 2)
        looked_at = of(pieces, pieces.mT)
        return (torch.where(looked_at & ~kept, share, 0).sum(2, keepdim=True) * margin.exp2())[..., 0][known]

    rounded = (2 * graph.padded // side) / kernels.FIXED_POINT_ONE.value * TOLERANCE * margin.max().exp2()
    dropped = found.dropped_mass[known].double()
    assert (dropped >= (lost(1e-3, torch.logical_and) * (1 - 1e-4) + pixels * SEE) * (1 - 1e-6)).all()
    assert (dropped <= (lost(-1e-3, torch.logical_or) * (1 + 1e-4) + pixels * SEE) * (1 + 1e-6) + rounded).all()
    largest = torch.where(kept, x, -torch.inf).amax(2)
    some = largest > -torch.inf
    above = (found.row_max - margin[..., 0])[some]
    assert (above >= largest[some] - 1e-4).all()
    assert (above <= x.amax(2)[some] + 1e-4).all()


def test_a_later_look_allows_for_its_margins(device, monkeypatch):
    monkeypatch.setattr(tuning, "SCREEN_TILES", ())
    monkeypatch.setattr(module, "PASSES", 1)
    graph = pack_graph(road(400, 10)[None].to(device), None, 0.05)
    graph.quant_error *= 30
    found = module.screen_pairs(graph, 1e-2)
    see, keep = module.thresholds(400, 1e-2)
    x, margin = logits(graph)[1][:, :400], 2 * graph.scale * graph.quant_error.item()
    share = (x * math.log(2)).softmax(2)
    kept = columns(found.bits).repeat_interleave(GROUP, 1)[:, :400]
    assert (kept | (share < keep * 2**-margin * (1 + 1e-3))).all()
    looked_at = share >= see * 2**-margin * (1 + 1e-3)  # others may have been, beside these
    least, most = (torch.where(some & ~kept, share, 0).sum(2) * 4**margin + 400 * see for some in (looked_at, ~kept))
    assert (least > 400 * see).any()
    dropped, largest = found.dropped_mass[:, :400], found.row_max[:, :400]
    assert (dropped >= least * (1 - 1e-5)).all() and (dropped <= most * (1 + 1e-5)).all()
    assert ((largest - margin - x.amax(2)).abs() < 1e-4).all()


@pytest.mark.parametrize("tiles", [(), (Tile(64, 64, 4, 1),), (Tile(128, 128, 8, 1),)])
def test_a_walk_is_the_same_without_it(device, monkeypatch, tiles):
    monkeypatch.setattr(tuning, "SCREEN_TILES", tiles)
    e, v = road(600, 24).to(device), manifold(600, 3, seed=1).to(device)
    got, info = rwpm_fast.walk(e, v, tolerance=1e-4, steps=3, backend="triton", return_info=True)
    assert info.path == "sparse" and info.dropped_mass <= 1e-4
    wanted = reference.walk(e.double(), v.double(), steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


def test_rows_with_nothing_near_look_again(device):
    e, v = road(640, 24).to(device), manifold(640, 3, seed=1).to(device)
    mask = torch.arange(640, device=device) >= 500
    mask[5] = True  # alone among the first 500
    got, info = rwpm_fast.walk(e, v, mask=mask, tolerance=1e-4, steps=3, backend="triton", return_info=True)
    wanted = reference.walk(e.double(), v.double(), mask=mask, steps=3)
    assert error_of_largest(got, wanted, v) <= 2 * 3 * info.dropped_mass + 1e-5


def test_rows_that_began_with_far_too_small_sums_look_again(device, monkeypatch):
    """Most pixels' like are beyond their own 16 pixels, where sums are made at first: all others seem to matter."""
    monkeypatch.setattr(module, "WINDOW", 0)
    monkeypatch.setattr(tuning, "EXACT_TILES", (Tile(16, 16, 4, 1),))
    pixel = torch.arange(256)
    kind = pixel // GROUP * 16 + pixel % 16
    e = manifold(64, 200, directions=4096, noise=0)[kind] + 0.01 * manifold(256, 200, seed=2)
    e = torch.cat([e, road(64, 200, seed=1)])  # and these begin well
    graph = pack_graph(e[None].to(device), None, 0.05)
    monkeypatch.setattr(module, "PASSES", 0)
    first = module.screen_pairs(graph, 1e-2)
    monkeypatch.setattr(module, "PASSES", 3)
    last = module.screen_pairs(graph, 1e-2)
    assert first.dropped_mass[:, :256].isinf().all() and (first.counts[:, :4] > 200).all()
    assert first.dropped_mass[:, 256:].isfinite().all()
    assert (last.dropped_mass <= 1e-2).all() and (last.counts <= 128).all()


@pytest.mark.parametrize("pixels", [2, 100, 3999, 4000, 10**5, 10**7])
@pytest.mark.parametrize("tolerance", [1e-9, 1e-3, 0.5])
def test_float32_holds_whatever_parts_a_row_drops(pixels, tolerance):
    """All pixels for a share just too small to be kept, and the sum of every 64 rounded up."""
    _, keep = module.thresholds(pixels, tolerance)
    assert pixels * keep / tolerance * kernels.FIXED_POINT_ONE.value + pixels / 64 < 2**24


@triton.jit
def order(numbers, to, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    tl.store(to + at, kernels.float_to_ordered_int(tl.load(numbers + at)))


def test_integers_keep_the_order_of_numbers(device):
    x = torch.tensor([-torch.inf, -3e38, -1.0, -1e-40, 0.0, 1e-40, 1.0, 144.27], device=device)
    ordered = torch.empty(8, dtype=torch.int32, device=device)
    order[(1,)](x, ordered, COUNT=8)
    assert torch.equal(ordered, ordered.sort().values)
    assert torch.equal(kernels.ordered_int_to_float(ordered)[1:], x[1:])
    none = torch.tensor([torch.iinfo(torch.int32).min], dtype=torch.int32)
    assert kernels.ordered_int_to_float(none).isposinf().all() and kernels.ordered_int_to_float(ordered)[0].isposinf()
