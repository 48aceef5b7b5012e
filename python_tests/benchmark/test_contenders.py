"""Every contender does what its contract says, before anybody times it."""

import os
import pickle
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from bench.suites import cpu_peers
from python_tests.helpers import LOWERED_PRODUCTS, products_lowered, relative_error
from rwpm_fast import Walk, products, reference
from rwpm_fast.benchmark import Case, Unavailable, chosen, fps_entries, isas, our_walk, torch_walks, walk_entries
from rwpm_fast.benchmark import ours as our_walks
from rwpm_fast.benchmark import reference as references
from rwpm_fast.benchmark.entries import bfloat16_walks, fps_peers
from rwpm_fast.benchmark.libraries import without_itself
from rwpm_fast.benchmark.torch_walks import topk
from rwpm_fast.ops.settings import WalkSettings

CLEAR_CUT = Case(12, 35, channels=24, value_channels=5)
FLAT = Case(15, 16, channels=4, value_channels=9, settings=WalkSettings(alpha=0.8, steps=3, temperature=0.1))
UNCUT = Case(8, 13, channels=24, value_channels=5, settings=WalkSettings(steps=3), smooth=True)
WIDE = Case(16, 24, channels=64, value_channels=32, settings=WalkSettings(steps=2), smooth=True)
CUT = Case(20, 24, 24, 20, WalkSettings(steps=3, parts=2), smooth=True, dtype="float16")

EVERY = walk_entries(FLAT, [1e-3, 1e-5], isas()) + cpu_peers.peers()
COMPILED = ("flex", "flex-autotuned", "keops")  # for each size, in many seconds
QUICK = [c for c in EVERY if c.key not in COMPILED]
METHODS = {"on CPUs": references.ON_CPU, "on GPUs": references.ON_GPU}


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


def of(key, case=CUT):
    return next(c for c in fps_entries(case, [1e-3]) if c.key == key)


def in_sub_maps(case, result):
    """A contender's result as values [B, P, C]."""
    return result if result.dim() == 3 else case.from_map(result)


def by_hand(case, operator):
    """What each operator is, [B, P, C], made apart from the harness' own references."""
    problem = case.problem()
    e, v, settings = problem.embeddings.double(), problem.values.double(), dict(problem.settings)
    if operator == references.NEAREST:
        walked = []
        for one, start in zip(e, v, strict=True):
            S = reference.transition(one, temperature=case.settings.temperature)
            S = S * torch.zeros_like(S).scatter_(1, S.topk(50, -1).indices, 1)
            S, m = S / S.sum(-1, keepdim=True), start
            for _ in range(case.steps):
                m = case.settings.alpha * S @ m + (1 - case.settings.alpha) * start
            walked.append(m)
        return torch.stack(walked)
    if operator == references.CUT:
        rows, columns = torch.arange(case.pixels) // case.width, torch.arange(case.pixels) % case.width
        part = 2 * (rows >= case.height // 2) + (columns >= case.width // 2)
        result = torch.empty_like(v)
        for p in range(4):
            result[:, part == p] = reference.walk(e[:, part == p], v[:, part == p], **settings)
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
    got, expected = in_sub_maps(case, run(contender, case)), by_hand(case, contender.operator)
    assert got.dtype == torch.float32
    assert relative_error(got, expected) <= contender.largest_error(case)


@pytest.mark.parametrize("case", [UNCUT, CUT], ids=["uncut float32", "cut float16"])
def test_frames_a_second_are_of_right_walks(case):
    served = []
    for contender in [c for c in fps_entries(case, [1e-3]) if c.key not in COMPILED]:
        with suppress(Unavailable):
            got = in_sub_maps(case, contender.prepare(case.problem())())
            served.append(contender.key)
            wanted = by_hand(case, contender.operator)
            assert got.shape == wanted.shape
            assert (got.double() - wanted).norm() / wanted.norm() <= contender.error_bound(case), contender.key
    assert {"exact-cpu", "dense-released", "dense-tuned", "chunked", "knn-torch"} <= set(served)


@pytest.mark.parametrize("contender", QUICK, ids=names)
def test_equal_embeddings(contender):
    """Pixels that nobody can tell apart: self-affinity is still removed, once."""
    problem = FLAT.problem()
    problem.embeddings[:] = problem.embeddings[:, :1]
    try:
        got = contender.prepare(problem)()
    except Unavailable as reason:
        pytest.skip(str(reason))
    if contender.operator == references.NEAREST:  # any 50 are nearest: none may be the pixel itself, nor twice
        assert got.isfinite().all() and got.amax() <= problem.values.amax()
        return
    expected = references.reference_of(problem, contender.operator, memory=2**30)
    assert expected.error(got) <= contender.largest_error(FLAT)


def test_faiss_never_finds_the_pixel_itself():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    assert faiss
    pixels = 60
    walk = next(c for c in EVERY if c.key == "knn-faiss")
    settings = WalkSettings(alpha=1.0, steps=1, temperature=1.0)
    problem = Case(6, 10, channels=3, value_channels=pixels, settings=settings).problem()
    problem.embeddings[:] = problem.embeddings[:, :1]
    problem.values[:] = torch.eye(pixels)  # one transition of the identity shows the matrix
    (S,) = walk.prepare(problem)()
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


def test_keys_and_estimates_of_frames_a_second():
    large = Case(184, 320, value_channels=256, smooth=True, dtype="float16")
    entries = fps_entries(UNCUT, [1e-3, 1e-4])
    assert len({c.key for c in entries}) == len({c.label for c in entries}) == len(entries)
    assert {c.key for c in fps_peers()} <= {c.key for c in entries}
    for contender in entries:
        assert contender.work(large) > contender.work(UNCUT) > 0
        assert contender.memory(large) > contender.memory(UNCUT) > 0
        pickle.dumps(contender)
    assert of("dense-released").memory(large) >= 3 * 4 * large.pixels**2


def test_bounds():
    exact, tolerant, dense, nearest = (
        of(k, CUT) for k in ("exact-cpu", "tolerance-0.001-cpu", "dense-tuned", "knn-torch")
    )
    assert (exact.error_bound(UNCUT), exact.error_bound(CUT)) == (1e-5, 1e-3)
    assert (tolerant.error_bound(UNCUT), tolerant.error_bound(CUT)) == (1e-3, 1e-3)
    assert dense.error_bound(CUT) == pytest.approx(1e-2) and nearest.error_bound(CUT) == 1e-2
    assert {c.error_bound(FLAT) for c in EVERY if not c.tolerance} == {1e-5}
    assert our_walk("cpu", 1e-4).error_bound(CUT) == pytest.approx(1e-3 + 2 * 3 * 1e-4)


def test_walks_in_bfloat16_are_told_from_those_that_match():
    kept = next(c for c in EVERY if c.key == "dense-bf16-matrix")
    for case in (UNCUT, CLEAR_CUT, FLAT):
        problem = case.problem()
        error = references.reference_of(problem, references.WALK, memory=2**30).error(kept.prepare(problem)())
        assert 10 * kept.error_bound(case) < error <= kept.largest_error(case) == 5e-2
    assert {c.key for c in EVERY if c.largest_error(FLAT) > c.error_bound(FLAT)} == {c.key for c in bfloat16_walks()}
    on_gpu = walk_entries(replace(FLAT, device="cuda"), [], isas=[])
    assert "dense" in {c.key for c in on_gpu} and not any(c.expected_error for c in on_gpu)


SWITCH = products._SWITCH
with_switch = pytest.mark.skipif(SWITCH is None, reason="this torch has no precision switch for the CPU alone")


@pytest.fixture
def rounded():
    """The contender whose products are in bfloat16 where the processor can."""
    yield next(c for c in EVERY if c.key == "dense-bf16-products")
    if SWITCH is not None:
        SWITCH.fp32_precision = "none"


@with_switch
@pytest.mark.parametrize("setting", ["none", "ieee", "bf16"])
def test_products_are_in_bfloat16_for_their_contender_only(rounded, monkeypatch, setting):
    seen = []

    def walk(embeddings, values, **settings):
        seen.append(SWITCH.fp32_precision)
        if len(seen) == 2:
            raise RuntimeError("the second time")
        return values

    monkeypatch.setattr(torch_walks, "kept_walk", walk)
    SWITCH.fp32_precision = setting
    once = rounded.prepare(FLAT.problem())
    once()
    assert SWITCH.fp32_precision == setting
    with pytest.raises(RuntimeError, match="the second time"):
        once()
    rounded.facts(FLAT.problem())
    assert seen == ["bf16"] * 2 and SWITCH.fp32_precision == setting


@with_switch
@pytest.mark.parametrize("rounds", [True, False])
def test_a_processor_that_rounds_no_product_is_told(rounded, monkeypatch, rounds):
    monkeypatch.setattr(torch_walks, "products_are_rounded", lambda: rounds)
    told = "this processor multiplies float32 in float32 at every setting"
    assert rounded.facts(FLAT.problem()).note == (None if rounds else told)


@with_switch
def test_products_in_bfloat16_are_less_accurate(rounded):
    if rounded.facts(UNCUT.problem()).note is not None:
        pytest.skip("this processor multiplies float32 in float32 at every setting")
    assert relative_error(run(rounded, UNCUT), by_hand(UNCUT, references.WALK)) > 10 * rounded.error_bound(UNCUT)


def test_without_the_switch_there_are_no_products_in_bfloat16(rounded, monkeypatch):
    monkeypatch.setattr(products, "_SWITCH", None)
    with pytest.raises(Unavailable, match="has no precision switch for the CPU alone"):
        rounded.prepare(FLAT.problem())()


@with_switch
@pytest.mark.parametrize("setting", LOWERED_PRODUCTS)
@pytest.mark.parametrize(
    "contender",
    [pytest.param(c, marks=pytest.mark.slow) if c.key in COMPILED else c for c in EVERY + fps_peers()[:2]],
    ids=names,
)
def test_same_bits_whatever_precision_is_set(contender, setting):
    wanted = run(contender, WIDE)
    with products_lowered(setting):
        assert torch.equal(run(contender, WIDE), wanted)


@with_switch
@pytest.mark.parametrize("setting", LOWERED_PRODUCTS)
def test_same_case_and_reference_whatever_precision_is_set(setting):
    problem = WIDE.problem()
    wanted = references.reference_of(problem, references.WALK, memory=2**30).values
    with products_lowered(setting):
        again = WIDE.problem()
        assert torch.equal(again.embeddings, problem.embeddings) and torch.equal(again.values, problem.values)
        assert torch.equal(references.reference_of(again, references.WALK, memory=2**30).values, wanted)


def test_without_torch_geometric(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    walk = next(c for c in EVERY if c.key == "appnp-0.0001")
    with pytest.raises(Unavailable, match="torch_geometric is not installed: pip install torch_geometric"):
        walk.prepare(UNCUT.problem())()


def test_instruction_set_is_forced_for_the_run_only(monkeypatch):
    for before in (None, "baseline"):
        if before:
            monkeypatch.setenv("RWPM_ISA", before)
        with our_walks.forced_isa("avx2"):
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
    dense = references.reference_of(problem, operator, memory=2**30, cache=tmp_path)
    assert dense.against == "float64 dense" and not list(tmp_path.iterdir())
    streamed = references.reference_of(problem, operator, memory=1, cache=tmp_path)
    assert streamed.against == "float64 streamed" and streamed.values.dtype == torch.float64
    assert relative_error(streamed.values, dense.values) <= 1e-12
    (file,) = tmp_path.iterdir()
    again = references.reference_of(problem, operator, memory=1, cache=tmp_path)
    assert torch.equal(again.values, streamed.values) and list(tmp_path.iterdir()) == [file]
    problem.values[:, 0, 0] += 1  # another problem has a file of its own
    other = references.reference_of(problem, operator, memory=1, cache=tmp_path)
    assert not torch.equal(other.values, streamed.values) and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [UNCUT, CUT], ids=["uncut", "cut"])
@pytest.mark.parametrize("operator", [references.WALK, references.RELEASED, references.NEAREST])
def test_references_are_the_definition(case, operator, method, tmp_path):
    wanted = by_hand(case, operator)
    channels = METHODS[method].max_channels or case.value_channels
    for memory in (2**30, 1):
        made = references.reference_of(case.problem(), operator, memory=memory, method=METHODS[method], cache=tmp_path)
        assert made.error(wanted) <= 1e-12
        assert made.values.shape == (*wanted.shape[:2], min(wanted.shape[2], channels))
    assert made.error(case.to_map(wanted)) <= 1e-12
    assert made.error(wanted[:, 1:]) == made.error(case.to_map(wanted)[0]) == float("inf")
    by_definition = METHODS[method].dense is reference.walk
    assert len(list(tmp_path.iterdir())) == (1 if operator == references.NEAREST or by_definition else 2)


def test_sums_of_channels_show_the_size_of_an_error_of_any_channel():
    wanted = by_hand(CUT, references.WALK)
    made = references.reference_of(CUT.problem(), references.WALK, memory=2**30, method=references.ON_GPU)
    assert made.against == "float64 dense, 16 sums of channels"
    noise = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise *= 1e-3 * wanted.norm() / noise.norm()
    assert made.error(wanted + noise) == pytest.approx(1e-3, rel=0.1)
    for channel in range(20):
        wrong = wanted.clone()
        wrong[..., channel] += 1
        assert made.error(wrong) > 1e-2
    assert not made.error(torch.full_like(wanted, torch.nan)) <= 1e9


def test_exact_rows_walk_exactly():
    """Whatever tolerance Python has by default, on a graph where it shows."""
    case = Case(32, 40, channels=24, value_channels=3, settings=WalkSettings(steps=3), smooth=True)
    problem = case.problem()
    maps = case.to_map(problem.embeddings), case.to_map(problem.values)
    exact, by_default = Walk(steps=3, tolerance=0)(*maps), Walk(steps=3)(*maps)
    assert not torch.equal(exact, by_default)
    for entries in (walk_entries(case, [1e-4]), fps_entries(case, [1e-4])):
        (row,) = [c for c in entries if c.key == "exact-cpu"]
        assert torch.equal(row.prepare(problem)(), exact)


def test_the_pixel_itself_is_no_neighbor():
    q = torch.nn.functional.normalize(torch.randn(70, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    q[:40] = q[0]  # of so many equals the pixel itself may not be found
    found = (q @ q.T).topk(31, dim=-1)
    for cosines, columns in (without_itself(*found), topk(torch.float32, q, 30)):
        assert cosines.shape == columns.shape == (70, 30)
        assert not (columns == torch.arange(70)[:, None]).any()
        assert all(len(set(row.tolist())) == 30 for row in columns)
