"""Models of ONNX that are one walk, as our operator or in plain ONNX, and sessions that run them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper

from rwpm_fast.deploy.onnx_pure_walk import expand_walks
from rwpm_fast.deploy.onnx_runtime import OPERATORS

INPUTS = ("embeddings", "values", "mask")
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def operator_model(inputs=INPUTS, *, dtype="float32", rank=2, **attributes) -> onnx.ModelProto:
    """A walk of inputs of a rank; those that are left out are ""."""
    node = helper.make_node("Walk", list(inputs), ["walked"], domain="rwpm", **attributes)
    sizes = [None] * rank
    given = [
        helper.make_tensor_value_info("mask", TensorProto.BOOL, sizes[1:])
        if name == "mask"
        else helper.make_tensor_value_info(name, TYPES[dtype], sizes)
        for name in inputs
        if name
    ]
    graph = helper.make_graph([node], "walk", given, [helper.make_tensor_value_info("walked", TYPES[dtype], sizes)])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("rwpm", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def pure_model(inputs=INPUTS, **settings) -> onnx.ModelProto:
    """The same in plain ONNX."""
    model = onnx_ir.from_proto(operator_model(inputs, **settings))
    expand_walks(model)
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto


def session(model: onnx.ModelProto, *, threads=1, operators=True) -> onnxruntime.InferenceSession:
    """A session that says nothing on standard error."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if operators:
        options.register_custom_ops_library(str(OPERATORS))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(ready: onnxruntime.InferenceSession, *arrays: np.ndarray | None) -> np.ndarray:
    """The walked values of embeddings, values and mask; None for those that the model has not."""
    feed = {name: array for name, array in zip(INPUTS, arrays, strict=False) if array is not None}
    (walked,) = ready.run(None, feed)
    return walked
