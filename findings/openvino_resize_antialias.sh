#!/usr/bin/env bash
# Package: openvino 2026.4.1, beside onnxruntime 1.32.0 (with onnx 1.23.2, Pillow 12.0.0, numpy 2.3.5).
#
# Expected: Resize of ONNX opset 18 with mode "linear" and antialias = 1 widens its kernel where it reduces an image, as
# Pillow and ONNX Runtime do, and a runtime that does not implement it refuses the model.
#
# Instead: OpenVINO loads and runs the model, and ignores the attribute: its result is that of antialias = 0, bit for
# bit. Output seen:
#     onnxruntime 1.32.0: largest difference from Pillow with antialias 1.3e-06, without 8.3e-01
#     openvino 2026.4.1: largest difference from Pillow with antialias 8.3e-01, without 8.3e-01
#
# Why it matters: road networks reduce large photos with antialiasing before they embed them, so that distant objects do
# not flicker. An export that holds this step gives other embeddings in OpenVINO without a word, and other anomaly
# scores than those that were checked in ONNX Runtime. Two products with matrices of weights, in place of Resize, are
# right in both.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnxruntime==1.32.0 openvino==2026.4.1 onnx==1.23.2 pillow==12.0.0 numpy==2.3.5
venv/bin/python -I - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from PIL import Image

image = np.random.default_rng(0).uniform(-1, 1, (64, 96)).astype(np.float32)
size = (23, 41)
wanted = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def model(antialias):
    node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="linear", antialias=antialias, exclude_outside=antialias)
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, *image.shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *size])],
        [helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, *size])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def by_onnxruntime(antialias):
    session = onnxruntime.InferenceSession(model(antialias), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image[None, None]})[0][0, 0]


def by_openvino(antialias):
    core = openvino.Core()
    ready = core.compile_model(core.read_model(model(antialias)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return ready({0: image[None, None]})[0][0, 0]


ort, plain_ort = (np.abs(by_onnxruntime(flag) - wanted).max() for flag in (1, 0))
vino, plain_vino = (np.abs(by_openvino(flag) - wanted).max() for flag in (1, 0))
text = "largest difference from Pillow with antialias"
print(f"onnxruntime {onnxruntime.__version__}: {text} {ort:.1e}, without {plain_ort:.1e}")
print(f"openvino {openvino.__version__.split('-')[0]}: {text} {vino:.1e}, without {plain_vino:.1e}")
ignored = np.array_equal(by_openvino(1), by_openvino(0)) and vino > 0.1
if not ignored or ort > 1e-4:
    sys.exit("The behavior has changed.")
PYTHON
