"""Walks are exact whatever precision the process allows for products of float32 matrices."""

import threading
from pathlib import Path

import pytest
import torch

import rwpm_fast
from python_tests.helpers import LOWERED_PRODUCTS, manifold, products_lowered, relative_error
from rwpm_fast import baselines, products, reference

SWITCH = products._SWITCH
pytestmark = pytest.mark.skipif(SWITCH is None, reason="this torch has no precision switch for the CPU alone")


@pytest.fixture(params=LOWERED_PRODUCTS)
def lowered(request):
    return request.param


WALKS = """
import sys
import torch
import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import baselines, reference

e, v = manifold(400, 64, directions=9, noise=0.2), manifold(400, 5, seed=1)
before = torch.backends.fp32_precision, torch.backends.cudnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision
LOWERED
setting = torch.backends.mkldnn.matmul.fp32_precision
unit = torch.nn.functional.normalize(e, dim=-1)
print("rounded" if relative_error(unit @ unit.T, unit.double() @ unit.double().T) > 1e-5 else "exact")
walks = {
    "torch": lambda: rwpm_fast.walk(e, v, backend="torch"),
    "adjoint": lambda: torch.ops.rwpm.walk_adjoint(v, e),
    "reference": lambda: reference.walk(e, v),
    "dense": lambda: baselines.dense_walk(e, v),
    "chunked": lambda: baselines.chunked_walk(e, v),
    "knn": lambda: baselines.knn_walk(e, v, neighbors=399),
}
wanted = reference.walk(e.double(), v.double())
S = reference.transition(e.double())
backward = v.double()
for _ in range(20):
    backward = 0.99 * (S.T @ backward) + 0.01 * v
for name, walk in walks.items():
    error = relative_error(walk(), backward if name == "adjoint" else wanted)
    print(name, error)
    assert error <= 1e-5, (name, error)
assert torch.backends.mkldnn.matmul.fp32_precision == setting
"""


def test_walks_are_exact_at_any_setting(run_python, lowered):
    out = run_python(WALKS.replace("LOWERED", lowered), paths=[Path(__file__).parents[1]])
    if out.startswith("exact"):
        pytest.skip("this processor multiplies float32 in float32 at every setting")


EMBEDDINGS, VALUES = manifold(400, 64, directions=9, noise=0.2), manifold(400, 5, seed=1)
UNIT = torch.nn.functional.normalize(EMBEDDINGS, dim=-1)
MAPS = EMBEDDINGS.T.reshape(1, 64, 20, 20), VALUES.T.reshape(1, 5, 20, 20)
DEFINED = {
    "reference": lambda: reference.walk(EMBEDDINGS, VALUES),
    "transition": lambda: reference.transition(EMBEDDINGS),
    "own weights": lambda: reference.own_weights(EMBEDDINGS, anchor=0.5),
    "dense": lambda: baselines.dense_walk(EMBEDDINGS, VALUES),
    "dense, flushed": lambda: baselines.dense_walk(EMBEDDINGS, VALUES, flush=True, released=True),
    "chunked": lambda: baselines.chunked_walk(EMBEDDINGS, VALUES),
    "nearest": lambda: baselines.nearest(UNIT, 50)[0],
    "knn": lambda: baselines.knn_walk(EMBEDDINGS, VALUES),
    "knn of maps": lambda: baselines.KnnWalk(20, parts=2)(*MAPS),
}


@pytest.mark.parametrize("name", DEFINED)
def test_reference_and_baselines_give_the_same_bits_at_any_setting(name, lowered):
    wanted = DEFINED[name]()
    with products_lowered(lowered):
        assert torch.equal(DEFINED[name](), wanted)


@pytest.fixture
def switch():
    """Put back what the tests set."""
    yield SWITCH
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    SWITCH.fp32_precision = "none"


@products.exact_products
def inside(then=lambda: None):
    then()
    return SWITCH.fp32_precision


@pytest.mark.parametrize("setting", ["none", "ieee", "tf32", "bf16"])
def test_the_setting_is_put_back(switch, setting):
    SWITCH.fp32_precision = setting
    assert inside() == "ieee"
    assert SWITCH.fp32_precision == setting
    with pytest.raises(ZeroDivisionError):
        inside(lambda: 1 / 0)
    assert SWITCH.fp32_precision == setting
    assert inside(inside) == "ieee"
    assert SWITCH.fp32_precision == setting


@pytest.mark.parametrize("setting", ["none", "ieee", "tf32", "bf16"])
def test_rounded_products_put_the_setting_back(switch, setting):
    SWITCH.fp32_precision = setting
    with products.rounded_products():
        assert SWITCH.fp32_precision == "bf16"
        assert inside() == "ieee"
        assert SWITCH.fp32_precision == "bf16"
    assert SWITCH.fp32_precision == setting
    with pytest.raises(ZeroDivisionError), products.rounded_products():
        1 / 0  # noqa: B018
    assert SWITCH.fp32_precision == setting


def test_rounded_products_among_exact_ones(switch):
    def rounded():
        with products.rounded_products():
            assert SWITCH.fp32_precision == "bf16"
        assert SWITCH.fp32_precision == "ieee"

    for setting in ("none", "bf16"):
        SWITCH.fp32_precision = setting
        inside(rounded)
        assert SWITCH.fp32_precision == setting


def test_rounding_is_seen(switch, monkeypatch):
    assert not products.products_are_rounded()
    multiply = torch.Tensor.__matmul__
    in_bfloat16 = lambda a, b: multiply(a.bfloat16(), b.bfloat16()).to(a.dtype)  # noqa: E731
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: (in_bfloat16 if a.dtype == torch.float32 else multiply)(a, b)
    )
    assert products.products_are_rounded()


def test_an_inherited_setting_stays_inherited(switch):
    torch.backends.fp32_precision = "bf16"
    assert inside() == "ieee"
    assert SWITCH.fp32_precision == "bf16"
    torch.backends.fp32_precision = "tf32"
    assert SWITCH.fp32_precision == "tf32"


def test_a_setting_made_meanwhile_stays(switch):
    def set_another():
        SWITCH.fp32_precision = "tf32"

    inside(set_another)
    assert SWITCH.fp32_precision == "tf32"


def test_threads_that_overlap(switch):
    SWITCH.fp32_precision = "bf16"
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def first():
        inside(lambda: (first_is_in.set(), second_is_in.wait(60)))
        first_is_out.set()

    def second():
        first_is_in.wait(60)
        inside(lambda: (second_is_in.set(), first_is_out.wait(60), seen.append(SWITCH.fp32_precision)))

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["ieee"]
    assert SWITCH.fp32_precision == "bf16"


def test_compilers_trace_no_switch():
    torch._dynamo.reset()
    e = manifold(40, 12)
    compiled = torch.compile(reference.transition, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(e), reference.transition(e))
    torch._dynamo.reset()


def test_without_the_switch(monkeypatch):
    monkeypatch.setattr(products, "_SWITCH", None)
    e = manifold(40, 12)
    assert relative_error(rwpm_fast.walk(e, backend="torch"), baselines.dense_walk(e)) <= 1e-5
