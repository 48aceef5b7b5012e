"""Every contender does what its contract says, before anybody times it."""

import os
import pickle

import pytest
import torch

from bench.suites import cpu_peers
from python_tests.helpers import relative_error
from rwpm_fast import baselines, reference
from rwpm_fast.benchmark import Case, Unavailable, chosen, isas, ours, torch_walks
from rwpm_fast.benchmark import contender as contenders
from rwpm_fast.benchmark import reference as references

EVERY = [ours(isa, tolerance) for tolerance in (0.0, 1e-3, 1e-5) for isa in isas()] + torch_walks() + cpu_peers.peers()
COMPILED = ("flex", "keops")  # for each size anew, in many seconds
QUICK = [c for c in EVERY if c.key not in COMPILED]

CLEAR_CUT = Case(12, 35, channels=24, value_channels=5)
FLAT = Case(15, 16, channels=4, value_channels=9, alpha=0.8, steps=3, temperature=0.1)


def names(contender):
    return contender.key


@pytest.fixture(autouse=True)
def own_caches(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "compiled"
    folder.mkdir(exist_ok=True)
    for name in ("KEOPS_CACHE_FOLDER", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(folder))


def run(contender, case):
    try:
        return contender.prepare(case.problem())()
    except Unavailable as reason:
        pytest.skip(str(reason))


def by_hand(case, operator):
    """What each operator is, told apart from the room's own references."""
    problem = case.problem()
    e, v, settings = problem.embeddings.double(), problem.values.double(), dict(problem.settings)
    if operator == references.NEAREST:
        S = reference.transition(e, temperature=case.temperature)
        kept = torch.zeros_like(S).scatter_(1, S.topk(50, -1).indices, 1)
        S = S * kept
        return baselines.iterate(lambda m: S / S.sum(-1, keepdim=True) @ m, v, case.alpha, case.steps)
    if operator == references.CUT:
        rows, columns = torch.arange(case.pixels) // case.width, torch.arange(case.pixels) % case.width
        part = 2 * (rows >= case.height // 2) + (columns >= case.width // 2)
        result = torch.empty_like(v)
        for p in range(4):
            result[part == p] = reference.walk(e[part == p], v[part == p], **settings)
        return result
    settings["steps"] += operator == references.RELEASED
    return reference.walk(e, v, **settings)


@pytest.mark.parametrize("case", [CLEAR_CUT, FLAT], ids=["clear-cut", "flat"])
@pytest.mark.parametrize(
    "contender",
    [pytest.param(c, marks=pytest.mark.slow) if c.key in COMPILED else c for c in EVERY],
    ids=names,
)
def test_agrees_with_float64(contender, case):
    got, expected = run(contender, case), by_hand(case, contender.operator)
    assert got.dtype == torch.float32
    assert relative_error(got, expected) <= contender.bound(case)


@pytest.mark.parametrize("contender", QUICK, ids=names)
def test_equal_embeddings(contender):
    """Pixels that nobody can tell apart: self-affinity is still removed, once."""
    problem = FLAT.problem()
    problem.embeddings[:] = problem.embeddings[0]
    try:
        got = contender.prepare(problem)()
    except Unavailable as reason:
        pytest.skip(str(reason))
    if contender.operator == references.NEAREST:  # any 50 are nearest: none may be the pixel itself, nor twice
        assert got.isfinite().all() and got.amax() <= problem.values.amax()
        return
    expected = references.expected(problem, contender.operator, memory=2**30)
    assert expected.error(got) <= contender.bound(FLAT)


def test_faiss_never_finds_the_pixel_itself():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    assert faiss
    pixels = 60
    walk = next(c for c in EVERY if c.key == "knn-faiss")
    problem = Case(6, 10, channels=3, value_channels=pixels, alpha=1.0, steps=1, temperature=1.0).problem()
    problem.embeddings[:] = problem.embeddings[0]
    problem.values[:] = torch.eye(pixels)  # one transition of the identity shows the matrix
    S = walk.prepare(problem)()
    assert S.diagonal().eq(0).all()
    assert S.count_nonzero(-1).tolist() == [50] * pixels


@pytest.mark.parametrize("contender", QUICK, ids=names)
def test_can_go_to_another_process(contender):
    copy = pickle.loads(pickle.dumps(contender))
    assert torch.equal(run(copy, CLEAR_CUT), run(contender, CLEAR_CUT))


def test_estimates_grow_with_the_map():
    small, large = Case(10, 10), Case(100, 100)
    for contender in EVERY:
        assert contender.work(large) > contender.work(small) > 0
        assert contender.memory(large) > contender.memory(small) > 0
    assert next(c for c in EVERY if c.key == "dense").memory(large) >= 4 * large.pixels**2


def test_keys_and_labels_are_unique():
    assert len({c.key for c in EVERY}) == len({c.label for c in EVERY}) == len(EVERY)


def test_instruction_set_is_forced_for_the_run_only(monkeypatch):
    for before in (None, "baseline"):
        if before:
            monkeypatch.setenv("RWPM_ISA", before)
        with contenders.forced_isa("avx2"):
            assert os.environ["RWPM_ISA"] == "avx2"
        assert os.environ.get("RWPM_ISA") == before


def test_chosen():
    assert {c.key for c in chosen(EVERY, ["exact-*", "dense"])} == {f"exact-{isa}" for isa in isas()} | {"dense"}
    assert "dense-unflushed" not in {c.key for c in chosen(EVERY, None)}
    assert [c.key for c in chosen(EVERY, ["dense-unflushed"])] == ["dense-unflushed"]
    with pytest.raises(ValueError, match=r"contenders: expected patterns of .*dense.*, got 'dens'"):
        chosen(EVERY, ["dens"])


@pytest.mark.parametrize("operator", [references.WALK, references.RELEASED, references.CUT])
def test_streamed_reference_is_the_dense_one(tmp_path, operator):
    problem = CLEAR_CUT.problem()
    dense = references.expected(problem, operator, memory=2**30, cache=tmp_path)
    assert dense.against == "float64 dense" and not list(tmp_path.iterdir())
    streamed = references.expected(problem, operator, memory=1, cache=tmp_path)
    assert streamed.against == "float64 streamed" and streamed.values.dtype == torch.float64
    assert relative_error(streamed.values, dense.values) <= 1e-12
    (file,) = tmp_path.iterdir()
    again = references.expected(problem, operator, memory=1, cache=tmp_path)
    assert torch.equal(again.values, streamed.values) and list(tmp_path.iterdir()) == [file]
    problem.values[0, 0] += 1  # another problem has a file of its own
    other = references.expected(problem, operator, memory=1, cache=tmp_path)
    assert not torch.equal(other.values, streamed.values) and len(list(tmp_path.iterdir())) == 2
