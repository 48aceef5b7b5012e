"""The walk and antialiased resizing in plain ONNX."""

import json

import numpy as np
import pytest
import torch

from python_tests.conformance import golden, load
from python_tests.helpers import manifold, relative_error
from rwpm_fast import reference

onnx = pytest.importorskip("onnx")
onnx_ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")

from python_tests.deploy.one_walk import pure_model, run, session  # noqa: E402
from rwpm_fast.deploy import onnx_pure_walk  # noqa: E402
from rwpm_fast.deploy.onnx_resize import expand_resizes  # noqa: E402


def plain(model):
    """A session that knows nothing of our operator."""
    assert {opset.domain for opset in model.opset_import} == {""}
    return session(model, operators=False)


@golden("walk", own=True)
def test_conformance_pure_onnx(path):
    case = load(path)
    meta = json.loads(str(case["meta"]))
    settings = {name: meta[name] for name in ("alpha", "steps", "temperature")}
    e, v = (case[name].astype(np.float32) for name in ("embeddings", "values"))
    got = run(plain(pure_model(**settings)), e, v, case["mask"])
    out = ~reference.valid_pixels(*map(torch.from_numpy, (e, v, case["mask"]))).numpy()
    np.testing.assert_array_equal(got[out], v[out])
    finite = np.isfinite(case["expected"]).all(-1)
    # At a temperature of 1e-4 the logit is 1e4 times the cosine, so that its float32 rounding shows.
    tolerance = 1e-4 if meta["temperature"] <= 1e-4 else 1e-5
    assert relative_error(got[finite], case["expected"][finite]) <= tolerance


@pytest.mark.parametrize(
    "settings", [{}, {"anchor": 0.95}, {"anchor_share": 0.2}, {"anchor_share": 1.0}, {"tolerance": 0.1}], ids=str
)
@pytest.mark.parametrize("rank", [2, 3])
def test_batches_anchors_and_gaps(rank, settings, monkeypatch):
    monkeypatch.setattr(onnx_pure_walk, "ROWS", 64)  # so that a block is cut short
    e, v = manifold(2, 150, 12), manifold(2, 150, 5, seed=1)
    mask = torch.arange(300).reshape(2, 150) % 4 > 0
    e[0, 3, 1], v[1, 7, 0], e[1, 9] = torch.nan, torch.inf, 0
    if rank == 2:
        e, v, mask = e[1], v[1], mask[1]
    settings = {"alpha": 0.9, "steps": 4, "temperature": 0.1, **settings}
    got = run(plain(pure_model(rank=rank, **settings)), *(x.numpy() for x in (e, v, mask)))
    settings.pop("tolerance", None)  # the walk is exact
    wanted = reference.walk(e.double(), v.double(), mask=mask, **settings)
    torch.testing.assert_close(torch.from_numpy(got), wanted.float(), rtol=1e-5, atol=1e-5)


def test_float16_and_values_left_out():
    e = manifold(150, 12, dtype=torch.float16)
    got = run(plain(pure_model(("embeddings",), dtype="float16", temperature=0.1)), e.numpy())
    assert got.dtype == np.float16
    wanted = reference.walk(e.double(), temperature=0.1)
    assert relative_error(torch.from_numpy(got), wanted) < 1e-3


@pytest.mark.parametrize(
    ("before", "after"), [((90, 160), (59, 104)), ((47, 155), (47, 155)), ((33, 200), (80, 83)), ((30, 31), (61, 75))]
)
def test_antialiased_resizing(before, after):
    image = torch.rand(2, 3, *before, generator=torch.Generator().manual_seed(0))
    node = onnx.helper.make_node("Resize", ["image", "", "", "sizes"], ["resized"], mode="linear", antialias=1)
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    given = [
        onnx.helper.make_tensor_value_info("image", floats, [None] * 4),
        onnx.helper.make_tensor_value_info("sizes", whole, [4]),
    ]
    result = onnx.helper.make_tensor_value_info("resized", floats, [None] * 4)
    graph = onnx.helper.make_graph([node], "resize", given, [result])
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx_ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    expand_resizes(model)
    assert "Resize" not in {node.op_type for node in model.graph}
    (got,) = plain(onnx_ir.to_proto(model)).run(None, {"image": image.numpy(), "sizes": np.array([2, 3, *after])})
    wanted = torch.nn.functional.interpolate(image, after, mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=0, atol=1e-5)
