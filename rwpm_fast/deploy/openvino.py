"""The operator of exports for OpenVINO: a node that calls the compiled walk. Needs openvino and no torch."""

from __future__ import annotations

from typing import Any

import openvino as ov
from openvino.frontend.onnx import ConversionExtension

from .. import numpy as walks
from .onnx_operator import DOMAIN, settings_of


class _Walk(ov.Op):
    def __init__(self, inputs: Any, settings: dict[str, Any], *, values: bool, mask: bool) -> None:
        super().__init__(self)
        self.settings, self.values, self.mask = settings, values, mask
        self.set_arguments(inputs)
        self.constructor_validate_and_infer_types()

    def validate_and_infer_types(self) -> None:
        self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(int(self.values)))

    def clone_with_new_inputs(self, inputs: Any) -> _Walk:
        return _Walk(inputs, self.settings, values=self.values, mask=self.mask)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: Any, inputs: Any) -> bool:
        embeddings, *others = (tensor.data for tensor in inputs)
        values = others.pop(0) if self.values else None
        mask = others.pop().astype(bool) if self.mask else None  # bytes in OpenVINO
        walked = walks.walk(embeddings, values, mask=mask, **self.settings)
        outputs[0].shape = walked.shape
        outputs[0].data[:] = walked
        return True


def add_walk(core: ov.Core) -> None:
    """Let a core read exports whose walk is the operator. Their walk then runs on all cores, in float32.

    On CPUs with bfloat16 it computes in that, unless told otherwise, which is not enough for a walk.

    Args:
        core: changed in place.

    Example:
        >>> core = openvino.Core()
        >>> add_walk(core)
        >>> model = core.compile_model("dabnet.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        >>> score, segmentation = model({"photo": photo}).values()
    """

    def convert(node: Any) -> Any:
        given = ("alpha", "steps", "temperature", "tolerance", "anchor", "anchor_share")
        settings = settings_of({name: node.get_attribute(name) for name in given if node.has_attribute(name)})
        # An input that is left out before another one is a node of nothing.
        inputs = [node.get_input(i) for i in range(node.get_input_size())]
        there = [source.get_node().get_type_name() != "NullNode" for source in inputs] + [False] * 2
        inputs = [source for source, is_there in zip(inputs, there, strict=False) if is_there]
        return _Walk(inputs, settings.operator_kwargs(), values=there[1], mask=there[2]).outputs()

    core.add_extension(ConversionExtension("Walk", DOMAIN, convert))
