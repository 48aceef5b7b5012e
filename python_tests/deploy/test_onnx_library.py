"""The operator of ONNX Runtime: the bits of torch's operator, for every input that it takes."""

import numpy as np
import pytest
import torch

import rwpm_fast
from python_tests.helpers import manifold, relative_error
from rwpm_fast import reference
from rwpm_fast.deploy.onnx_runtime import OPERATORS

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(not OPERATORS.exists(), reason=f"{OPERATORS.name} is not built")

from python_tests.deploy.one_walk import operator_model, run, session  # noqa: E402


@pytest.fixture
def pixels():
    """Embeddings [2, 150, 12] and values [2, 150, 5], a pixel of each broken, and a mask."""
    e, v = manifold(2, 150, 12).numpy(), manifold(2, 150, 5, seed=1).numpy()
    e[0, 3, 1], v[1, 7, 0] = np.nan, np.inf
    return e, v, np.arange(300).reshape(2, 150) % 4 > 0


def torch_walk(e, v=None, mask=None, **settings):
    given = [None if x is None else torch.from_numpy(x) for x in (e, v, mask)]
    return rwpm_fast.walk(*given[:2], mask=given[2], **settings).numpy()


SETTINGS = [
    {},
    {"alpha": 0.5, "steps": 3, "temperature": 0.2, "tolerance": 1e-3},
    {"anchor": 0.9, "temperature": 0.1},
    {"anchor_share": 0.3},
    {"alpha": 1},
    {"steps": 0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits_as_torch(pixels, settings, threads):
    got = run(session(operator_model(rank=3, **settings), threads=threads), *pixels)
    np.testing.assert_array_equal(got, torch_walk(*pixels, **settings))


@pytest.mark.parametrize(
    "inputs", [("embeddings",), ("embeddings", "values"), ("embeddings", "", "mask")], ids=lambda names: "-".join(names)
)
def test_inputs_may_be_left_out(pixels, inputs):
    given = [x[0] if name in inputs else None for x, name in zip(pixels, ("embeddings", "values", "mask"), strict=True)]
    np.testing.assert_array_equal(run(session(operator_model(inputs)), *given), torch_walk(*given))


def test_of_a_sparse_graph(sparse_map):
    e, v = (x.numpy() for x in sparse_map)
    got = run(session(operator_model(("embeddings", "values"), tolerance=1e-4), threads=2), e, v)
    np.testing.assert_array_equal(got, torch_walk(e, v, tolerance=1e-4))
    assert relative_error(got, reference.walk(*(x.double() for x in sparse_map))) < 1e-3


def test_float16_is_computed_in_float32(pixels):
    e, v = (x.astype(np.float16) for x in pixels[:2])
    got = run(session(operator_model(dtype="float16", rank=3)), e, v, pixels[2])
    assert got.dtype == np.float16
    wide = torch_walk(e.astype(np.float32), v.astype(np.float32), pixels[2])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, wide.astype(np.float16))


def test_every_float16_comes_back():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)[None]
    got = run(session(operator_model(("embeddings",), dtype="float16", steps=0)), every)
    np.testing.assert_array_equal(got, every)


def test_rounding_to_float16():
    """Of two pixels each gets what the other has: the mean of both values, which lies between two of float16."""
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 0x7C00, (2, 20_000)) | generator.integers(0, 2, (2, 20_000)) << 15
    values = bits.astype(np.uint16).view(np.float16)
    values[1] = np.where(generator.random(20_000) < 0.5, np.nextafter(values[0], np.float16(1)), values[1])
    settings = {"alpha": 0.5, "steps": 1}
    got = run(
        session(operator_model(dtype="float16", **settings)), np.eye(2, dtype=np.float16), values, np.ones(2, bool)
    )
    wanted = (values[0].astype(np.float32) / 2 + values[1].astype(np.float32) / 2).astype(np.float16)
    np.testing.assert_array_equal(got, np.stack([wanted, wanted]))


@pytest.mark.parametrize("shape", [(0, 4), (0, 5, 4), (2, 0, 4)], ids=str)
def test_empty(shape):
    got = run(session(operator_model(("embeddings",), rank=len(shape))), np.zeros(shape, np.float32))
    assert got.shape == shape


def good():
    return [np.ones((5, 4), "f4"), np.ones((5, 3), "f4"), np.ones(5, bool)]


@pytest.mark.parametrize(
    ("place", "wrong", "text"),
    [
        (0, np.ones((1, 1, 5, 4), "f4"), r"embeddings: expected shape \[N, D\] or \[B, N, D\], got \[1, 1, 5, 4\]"),
        (1, np.ones((6, 3), "f4"), r"values: expected shape \[5, C\] to match embeddings \[5, 4\], got \[6, 3\]"),
        (1, np.ones((1, 5, 3), "f4"), r"values: expected shape \[5, C\].* got \[1, 5, 3\]"),
        (2, np.ones(4, bool), r"mask: expected shape \[5\] to match embeddings \[5, 4\], got \[4\]"),
    ],
)
def test_wrong_shapes(place, wrong, text):
    model = operator_model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    given = good()
    given[place] = wrong
    with pytest.raises(Exception, match=f"rwpm.Walk: {text}"):
        run(session(model), *given)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"alpha": 1.5}, r"alpha: expected a number in \[0, 1\], got 1.5"),
        ({"steps": -1}, "steps: expected 0 or more transitions, got -1"),
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
        ({"steps": float("inf")}, "steps: expected a whole number, got inf"),
        ({"steps": 1e30}, "steps: expected a whole number, got 1e"),
        ({"alpha": "0.9"}, "alpha: expected a number, got a string"),
        ({"alpha": [0.9]}, "alpha: expected a number, got a list"),
        ({"steps": [3]}, "steps: expected a number, got a list"),
        ({"temperature": 0.0}, "temperature: expected a positive finite number, got 0"),
        ({"tolerance": 1.0}, r"tolerance: expected a number in \[0, 1\), got 1"),
        ({"anchor": 0.5, "anchor_share": 0.1}, "anchor_share: expected 0 with an anchor, got 0.1 and anchor 0.5"),
    ],
    ids=str,
)
def test_wrong_settings_are_told_on_loading(attributes, text):
    with pytest.raises(Exception, match=f"rwpm.Walk: {text}"):
        session(operator_model(**attributes))


def test_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("RWPM_ISA", "sse9")
    with pytest.raises(Exception, match=r"rwpm.Walk: RWPM_ISA: expected one that this machine has"):
        run(session(operator_model()), *good())
