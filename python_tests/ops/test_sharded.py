"""The walk that several processes share, over gloo: the same as that of one process, and errors on all of them."""

import math

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

import rwpm_fast
from python_tests.helpers import error_of_largest, gaps, manifold, relative_error, road
from rwpm_fast import reference
from rwpm_fast.ops import sharded

PIXELS, RANKS = 1001, 3
SHARES = {3: [400, 0, 601], 2: [500, 501]}  # pixels of each rank, by their number

# Inputs and settings of every walk.
WALKS = {
    "plain": {},
    "two": {"ranks": 2},
    "own values": {"values": False},
    "broken": {"broken": True},
    "anchor": {"anchor": 0.9},
    "anchor share": {"broken": True, "anchor_share": 0.2},
    "float64": {"dtype": torch.float64},
    "float16": {"dtype": torch.float16},
    "sparse": {"tolerance": 1e-4, "steps": 20},
    "sparse, broken": {"tolerance": 1e-3, "broken": True, "anchor_share": 0.1},
    "sparse, float64": {"tolerance": 1e-3, "dtype": torch.float64},
    "dense": {"tolerance": 1e-4, "temperature": 1.0},
    "no step": {"steps": 0},
    "alone": {"alone": True},
}
# What each rank passes instead of the same as the others, and what all of them say.
ERRORS = {
    "settings": ([{"alpha": 0.5}, {}, {}], ValueError, r"alpha: .* got 0.5 on rank 0 and 0.99 on rank 1"),
    "channels": ([{}, {}, {"channels": 9}], ValueError, r"embeddings: expected the same channels .* 9 on rank 2"),
    "dtype": ([{}, {"dtype": torch.float64}, {}], ValueError, r"embeddings: .* dtype .* torch.float64 on rank 1"),
    "one rank": ([{}, {"steps": -1}, {}], ValueError, r"steps: expected 0 or more.*, got -1 \(rank 1 of 3\)"),
    "type": ([{}, {}, {"mask": 1}], TypeError, r"mask: expected a torch.Tensor, got int.* \(rank 2 of 3\)"),
    "batch": ([{"batch": True}] * 3, ValueError, r"embeddings: expected shape \[N, D\], got \[1, 4, 8\]; .*rank 0"),
    "gradient": ([{}, {"grad": True}, {}], NotImplementedError, r"values: .* no gradient; .*detach.* \(rank 1"),
    "device": ([{}, {"device": "meta"}, {}], ValueError, r"embeddings: expected a device .*cpu.*gloo.* got meta"),
}


def inputs(*, dtype=torch.float32, values=True, broken=False, alone=False, ranks=RANKS, **settings):
    """Embeddings, values or None, mask or None, and settings of a walk of all pixels, and the shares of the ranks."""
    e, v = road(PIXELS, 16).to(dtype), manifold(PIXELS, 5, seed=1).to(dtype)
    mask = None
    if broken:
        e, mask = gaps(e)
        e[11] = 0
        v[13, 2] = math.nan
    if alone:
        mask = torch.arange(PIXELS) == 7
    return e, v if values else None, mask, {"steps": 6, "tolerance": 0.0, **settings}, SHARES[ranks]


def walk_all(rank, groups):
    """Walk this rank's pixels of every walk."""
    walked = {}
    for name, walk in WALKS.items():
        e, v, mask, settings, sizes = inputs(**walk)
        if rank < len(sizes):
            mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
            own = None if v is None else v[mine], None if mask is None else mask[mine]
            walked[name] = rwpm_fast.walk_sharded(e[mine], own[0], mask=own[1], group=groups[len(sizes)], **settings)
    return walked


def fail_all(rank, group):
    """What this rank raises in every case of ``ERRORS``."""
    raised = {}
    for name, (passed, *_) in ERRORS.items():
        own = dict(passed[rank])
        e = manifold(4, own.pop("channels", 8)).to(own.pop("dtype", torch.float32)).to(own.pop("device", "cpu"))
        e = e[None] if own.pop("batch", False) else e
        v = e.clone().requires_grad_(own.pop("grad", False))
        try:
            rwpm_fast.walk_sharded(e, v, group=group, **own)
        except Exception as error:
            raised[name] = type(error), str(error)
    return raised


def in_a_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    groups = {3: None, 2: dist.new_group([0, 1])}
    found = {"walks": walk_all(rank, groups), "errors": fail_all(rank, groups[3])}
    with torch.no_grad():  # nobody asks for a gradient
        rwpm_fast.walk_sharded(torch.ones(2, 2, requires_grad=True))
    if rank == 2:
        with pytest.raises(ValueError, match="group: expected a process group that this process is in"):
            rwpm_fast.walk_sharded(torch.ones(2, 2), group=groups[2])
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the ranks found, started once for all tests."""
    folder = tmp_path_factory.mktemp("ranks")
    start_processes(in_a_process, (folder,), RANKS, start_method="spawn")
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(RANKS)]


@pytest.mark.parametrize("name", WALKS)
def test_equals_one_process(ranks, name):
    e, v, mask, settings, sizes = inputs(**WALKS[name])
    got = [ranks[rank]["walks"][name] for rank in range(len(sizes))]
    assert [len(rows) for rows in got] == sizes
    got = torch.cat(got)
    values = e if v is None else v
    assert got.dtype == values.dtype and got.is_contiguous()
    tolerance = settings.pop("tolerance")
    valid = reference.valid_pixels(e, values, mask)
    expected = reference.walk(e.double(), values.double(), mask=mask, **settings)
    torch.testing.assert_close(got[~valid], values[~valid], rtol=0, atol=0, equal_nan=True)
    rounding = {torch.float16: 1e-3, torch.float32: 1e-5, torch.float64: 1e-12}[e.dtype]
    assert relative_error(got[valid], expected[valid]) <= rounding + 2 * settings["steps"] * tolerance
    if tolerance:
        bound = 2 * settings["steps"] * tolerance + rounding
        assert error_of_largest(got[valid], expected[valid], values[valid]) <= bound
    one = rwpm_fast.walk(e, v, mask=mask, backend="torch", **settings)
    if tolerance == 0:
        assert relative_error(got[valid], one[valid]) <= rounding


@pytest.mark.parametrize("name", ERRORS)
def test_all_ranks_raise_the_same(ranks, name):
    _, kind, message = ERRORS[name]
    raised = [found["errors"][name] for found in ranks]
    assert raised[0] == raised[1] == raised[2]
    with pytest.raises(kind, match=message):
        raise raised[0][0](raised[0][1])


def test_needs_a_process_group():
    with pytest.raises(RuntimeError, match=r"group: expected a process group, .*init_process_group"):
        rwpm_fast.walk_sharded(torch.ones(2, 2))


@pytest.mark.parametrize(
    ("tolerance", "embeddings"), [(1e-4, road(700, 16)), (0.9, road(700, 16)), (0.3, manifold(700, 4))]
)
def test_rows_drop_no_more_than_the_tolerance(monkeypatch, tolerance, embeddings):
    S = reference.transition(embeddings.double()).float()
    rows = sharded._SparseRows(300, 700, tolerance)
    monkeypatch.setattr(rows, "_max_entries", math.inf)
    for slab in S[200:500].split(128):
        largest = slab.amax(-1, keepdim=True)
        rows.add(slab / largest, 1 / largest)
    matrix = rows.matrix().to_dense()
    kept = matrix > 0
    dropped = (S[200:500] * ~kept).sum(-1)
    assert (dropped <= tolerance).all() and dropped.max() > 0
    assert kept.any(-1).all()
    wanted = S[200:500] * kept
    assert relative_error(matrix, wanted / wanted.sum(-1, keepdim=True)) <= 1e-6


def test_rows_that_keep_too_many_are_given_up():
    rows = sharded._SparseRows(100, 700, 1e-4)
    for _ in range(2):
        rows.add(torch.ones(50, 700), torch.full((50, 1), 700.0))
    assert rows.matrix() is None
