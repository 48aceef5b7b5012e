"""The operators of a compiled graph: gradients, the framework around them, and what they refuse."""

import pytest
import torch

import rwpm_fast
from python_tests.helpers import dense, gaps, relative_error

N = 1200


@pytest.mark.parametrize("path", ["sparse", "streaming"])
def test_gradient_is_that_of_the_matrix(sparse_map, path):
    e, v = sparse_map
    e, mask = gaps(e)
    graph = rwpm_fast.transition(e, mask=mask, tolerance=1e-4 if path == "sparse" else 0.0)
    assert graph.path == path
    S = (graph.to_csr().to_dense() if path == "sparse" else dense(e, mask)).double()
    upstream = torch.randn(v.shape, generator=torch.Generator().manual_seed(2))
    wanted = upstream.double()
    for _ in range(3):
        wanted = 0.9 * S.T @ wanted + 0.1 * upstream.double()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        values = v.to(dtype, copy=True).requires_grad_()
        graph.walk(values, alpha=0.9, steps=3).backward(upstream.to(dtype))
        assert values.grad.dtype == dtype
        assert relative_error(values.grad, wanted) <= tolerance


# Pixels 1, 0, 2 make the rows of one group, whose entries have four codes, two for the first rows, two for the last.
ORDER, START = torch.tensor([1, 0, 2]), torch.tensor([[0, 1, 2, 0], [3, 3, 3, 8]])
COLUMNS = torch.tensor([0, 2, 1], dtype=torch.int32)
CODES = torch.tensor([[0, 30000, 65535, 0, 65535, 65535, 20000, 0]]).to(torch.uint16)
LOW_CODES = torch.tensor([[0, 0, 12345, 0, 65535, 1, 40000, 0]]).to(torch.uint16)
SCALES = torch.tensor([1.0, 0.8, 0.9]) / 65535
MATRIX = (ORDER, START, COLUMNS, CODES, SCALES)


@pytest.mark.parametrize("low", [False, True])
def test_operator_walks_the_matrix(low):
    root = torch.tensor([[0.0, 0, 65535], [30000, 0, 65535], [65535, 20000, 0]])  # by row and column
    matrix = MATRIX
    if low:
        root += torch.tensor([[0.0, 0, 65535], [0, 0, 1], [12345, 40000, 0]]) / 2**16
        matrix = (ORDER, START, COLUMNS, torch.cat([CODES, LOW_CODES]), SCALES)
    S = torch.zeros(3, 3)
    S[ORDER[:, None], ORDER[None]] = (root * SCALES[:, None]) ** 2
    v = torch.tensor([[1.0], [10.0], [100.0]])
    for values, tolerance in ((v, 1e-6), (v.double(), 2e-7)):
        got = torch.ops.rwpm.transition_walk(*matrix, values, alpha=0.5, steps=1)
        torch.testing.assert_close(got, (0.5 * S @ v + 0.5 * v).to(values.dtype), rtol=tolerance, atol=0)
        turned = torch.ops.rwpm.transition_walk(*matrix, values, alpha=0.5, steps=1, adjoint=True)
        torch.testing.assert_close(turned, (0.5 * S.T @ v + 0.5 * v).to(values.dtype), rtol=tolerance, atol=0)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_rows_sum_to_one_in_float32(sparse_map, isa, tolerance):
    e, _ = sparse_map
    S = rwpm_fast.transition(e, tolerance=tolerance).to_csr()
    assert (S.to_dense().double().sum(1) - 1).abs().max() <= 3e-7


def test_dropped_mass_counts_rounding(sparse_map, isa):
    """Half of the difference between a row and the exact one is within its dropped mass, up to float32 logits."""
    e, _ = sparse_map
    graph = rwpm_fast.transition(e, tolerance=1e-4)
    moved = (graph.to_csr().to_dense().double() - dense(e)).abs().sum(1) / 2
    assert (moved <= graph.dropped_mass + 1e-5).all()
    assert graph.dropped_mass.median() > 1e-6  # what rounding moves in most rows


def test_gradgradcheck():
    v = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()

    def walk(values):
        return torch.ops.rwpm.transition_walk(*MATRIX, values, alpha=0.8, steps=3)

    assert torch.autograd.gradcheck(walk, v)
    assert torch.autograd.gradgradcheck(walk, v)


def test_gradients_that_are_not_there(sparse_map):
    e, v = sparse_map
    graph = rwpm_fast.transition(e.clone().requires_grad_())
    with pytest.raises(NotImplementedError, match=r"embeddings: solve\(\) gives no gradient; call it under"):
        graph.solve(v)
    graph = rwpm_fast.transition(e)
    with pytest.raises(NotImplementedError, match=r"values: solve\(\) gives no gradient; pass values.detach\(\)"):
        graph.solve(v.clone().requires_grad_())
    with torch.no_grad():
        assert graph.solve(v.clone().requires_grad_(), alpha=0.5).converged
    with pytest.raises(NotImplementedError, match="row_scale: no gradient"):
        torch.ops.rwpm.transition_walk(ORDER, START, COLUMNS, CODES, SCALES.clone().requires_grad_(), v[:3])


# The framework around the operators


def test_opcheck(sparse_map):
    e, v = (x[:600] for x in sparse_map)
    *matrix, dropped, log_sum = torch.ops.rwpm.transition(e)
    order, group_start, column, code, row_scale = matrix
    assert torch.equal(order.sort().values, torch.arange(600))
    assert len(column) == group_start[-1, 0] > 0
    assert code.shape == (1, group_start[-1, 3])
    assert row_scale.shape == dropped.shape == log_sum.shape == (600,)
    torch.library.opcheck(torch.ops.rwpm.transition.default, (e,), {"tolerance": 1e-3})
    torch.library.opcheck(torch.ops.rwpm.transition.default, (e, torch.arange(600) > 9))
    torch.library.opcheck(torch.ops.rwpm.transition.default, (e[:20],))
    for values in (v, v.clone().requires_grad_(), v.double(), v[:, :0], v.T.contiguous().T):
        torch.library.opcheck(torch.ops.rwpm.transition_walk.default, (*matrix, values), {"steps": 2})


@pytest.mark.parametrize("path", ["sparse", "streaming"])
def test_compile(sparse_map, path):
    e, v = sparse_map
    graph = rwpm_fast.transition(e, tolerance=1e-4 if path == "sparse" else 0.0, mask=torch.arange(N) > 4)
    torch._dynamo.reset()
    walk = torch.compile(lambda x: graph.walk(x, steps=2) + 1, fullgraph=True, backend="aot_eager")
    assert torch.equal(walk(v), graph.walk(v, steps=2) + 1)
    if path == "sparse":
        with pytest.raises(RuntimeError, match="values: expected finite numbers in the pixels of the graph"):
            walk(v * torch.inf)
    torch._dynamo.reset()


WITHOUT_LIBRARY = """
import torch, rwpm_fast, warnings
from rwpm_fast import ops, reference
assert ops.library.unsupported_reason()
torch.manual_seed(0)
e, v = torch.randn(700, 20), torch.randn(700, 3)
e[5] = torch.nan
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ops.FallbackWarning)
    graph = rwpm_fast.transition(e, temperature=0.1)
    assert graph.path == "streaming" and graph.pixels == 699
    wanted = reference.walk(e.double(), v.double(), steps=3, temperature=0.1)
    assert (graph.walk(v, steps=3) - wanted).abs().max() <= 1e-5 * v.abs().max()
assert [w.category for w in caught] == [ops.FallbackWarning], caught
solution = graph.solve(v, alpha=0.5)
assert solution.converged
limit = reference.walk(e.double(), v.double(), alpha=0.5, steps=60, temperature=0.1)
assert (solution.values - limit).abs().max() <= 1e-5 * v.abs().max()
torch.testing.assert_close(graph.to_csr().to_dense().sum(1), torch.ones(700), rtol=0, atol=1e-5)
values = v.clone().requires_grad_()
graph.walk(values, steps=2).sum().backward()
assert values.grad.isfinite().all()
"""


def test_without_the_library(run_python, package_copy):
    run_python(WITHOUT_LIBRARY, paths=[package_copy("bare", compiled=False)])


# Errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({0: ORDER.int()}, "order: expected a contiguous tensor of rank 1 and dtype torch.int64"),
        ({0: ORDER + 1}, "order: expected every pixel from 0 to 2 once"),
        ({0: torch.tensor([1, 1, 2])}, "order: expected every pixel from 0 to 2 once"),
        ({1: START.int()}, "group_start: expected a contiguous tensor of rank 2 and dtype torch.int64"),
        ({1: START[:, :3].contiguous()}, "group_start: expected shape [2, 4], one more than groups of 4 rows"),
        ({1: START[:1]}, "group_start: expected shape [2, 4], one more than groups of 4 rows in order, got [1, 4]"),
        ({1: START + 1}, "group_start: expected entries that ascend from 0 to at most 3"),
        ({1: torch.tensor([[0, 2, 1, 0], [3, 3, 3, 8]])}, "group_start: expected entries that ascend from 0"),
        ({1: torch.tensor([[0, 2, 3, 0], [2, 2, 2, 8]])}, "group_start: expected entries that ascend from 0"),
        ({1: torch.tensor([[0, 1, 2, 0], [4, 4, 4, 10]])}, "group_start: expected entries that ascend from 0"),
        ({1: torch.tensor([[0, 1, 2, 0], [3, 3, 3, 12]])}, "group_start: expected entries that ascend from 0"),
        ({2: COLUMNS.long()}, "column: expected a contiguous tensor of rank 1 and dtype torch.int32"),
        ({2: COLUMNS.tile(2)}, "column, code: expected what group_start ends with, 3 entries and 8 codes, got 6 and 8"),
        ({2: COLUMNS + 1}, "column: expected rows from 0 to 2"),
        ({2: COLUMNS - 1}, "column: expected rows from 0 to 2"),
        ({3: CODES.to(torch.int32)}, "code: expected a contiguous tensor of rank 2 and dtype torch.uint16"),
        ({3: torch.cat([CODES] * 3)}, "code: expected shape [1, codes], or [2, codes] with low ones, got [3, 8]"),
        (
            {3: CODES[:, :7].contiguous()},
            "column, code: expected what group_start ends with, 3 entries and 8 codes, got 3 and 7",
        ),
        ({4: SCALES.double()}, "row_scale: expected a contiguous tensor of rank 1 and dtype torch.float32"),
        ({4: SCALES[:2]}, "row_scale: expected a number for each of 3 rows, got 2"),
        ({5: torch.ones(2, 1)}, "values: expected shape [3, C] to match order, got [2, 1]"),
        ({5: torch.ones(3, 1).int()}, "values: expected dtype float32, float64"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_operator_takes_no_broken_matrix(arguments, text):
    given = dict(enumerate((*MATRIX, torch.ones(3, 1)))) | arguments
    with pytest.raises(RuntimeError) as caught:
        torch.ops.rwpm.transition_walk(*given.values())
    assert any(line.startswith(text) for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("embeddings", "change", "text"),
    [
        (torch.ones(2, 5, 4), {}, "embeddings: expected shape [N, D], got [2, 5, 4]"),
        (torch.ones(5, 4).double(), {}, "embeddings: expected dtype float32, float16 or bfloat16, got torch.float64"),
        (torch.ones(5, 4), {"mask": torch.ones(4, dtype=torch.bool)}, "mask: expected shape [5] to match embeddings"),
        (torch.ones(5, 4), {"tolerance": 2.0}, "tolerance: expected a number in [0, 1), got 2"),
        (torch.ones(5, 4), {"temperature": 0.0}, "temperature: expected a positive finite number, got 0"),
        (torch.ones(5, 4), {"width": -1}, "width: expected 0 (not known) or more pixels, got -1"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_operator_refuses(embeddings, change, text):
    with pytest.raises(RuntimeError) as caught:
        torch.ops.rwpm.transition(embeddings, **change)
    assert any(line.startswith(text) for line in str(caught.value).splitlines())
