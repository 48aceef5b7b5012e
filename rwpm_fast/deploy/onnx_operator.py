"""The walk as an operator of ONNX: domain ``rwpm``, operator ``Walk``. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..io.extras import import_extra
from ..ops.settings import OPERATOR_DEFAULTS, WalkSettings

DOMAIN, DOMAIN_VERSION = "rwpm", 1

_PURPOSE = "the export to ONNX"


def settings_of(attributes: Mapping[str, float]) -> WalkSettings:
    """Read the settings of a walk from the attributes of its node.

    ONNX has 32 bits for a number: the shortest decimal fraction that they stand for is what the exporter was given.

    Args:
        attributes: by their names; those that are left out have the defaults of the operator.
    """
    steps = int(attributes.get("steps", OPERATOR_DEFAULTS.steps))
    numbers: dict[str, Any] = {n: float(str(np.float32(value))) for n, value in attributes.items() if n != "steps"}
    return WalkSettings(steps=steps, **numbers)


def register_schema() -> None:
    """Tell onnx of the operator, once in a process: the exporter and its checks refuse what they do not know."""
    defs = import_extra("onnx.defs", _PURPOSE)
    if defs.has("Walk", DOMAIN):
        return
    schema = defs.OpSchema
    optional = schema.FormalParameterOption.Optional
    numbers = {name: value for name, value in OPERATOR_DEFAULTS.operator_kwargs().items() if name != "steps"}
    defs.register_schema(
        schema(
            "Walk",
            DOMAIN,
            DOMAIN_VERSION,
            "Random walk with restart on the graph of pixel similarities; see torch.ops.rwpm.walk.",
            inputs=[
                schema.FormalParameter("embeddings", "T", "[N, D] or [B, N, D]"),
                schema.FormalParameter("values", "T", "[.., N, C]; default: the embeddings", param_option=optional),
                schema.FormalParameter("mask", "M", "[.., N]; true: valid; default: all", param_option=optional),
            ],
            outputs=[schema.FormalParameter("walked", "T", "[.., N, C]")],
            type_constraints=[
                ("T", ["tensor(float)", "tensor(float16)"], "Computed in float32."),
                ("M", ["tensor(bool)"], ""),
            ],
            attributes=[
                *(schema.Attribute(name, schema.AttrType.FLOAT, "", required=False) for name in numbers),
                schema.Attribute("steps", schema.AttrType.INT, "", required=False),
            ],
        )
    )


def translation(opset: int) -> Any:
    """Return what translates ``torch.ops.rwpm.walk`` for the exporter.

    Args:
        opset: of the other operators.
    """
    values_of = import_extra("onnxscript.values", _PURPOSE)
    dtypes = import_extra("onnx_ir", _PURPOSE).DataType
    ours, plain = values_of.Opset(DOMAIN, DOMAIN_VERSION), values_of.Opset("", opset)

    def walk(embeddings: Any, values: Any = None, mask: Any = None, **settings: Any) -> Any:
        given = [embeddings] if values is None else [embeddings, values]
        # Both of one type, which is half or single precision.
        common = given[0].dtype if len({x.dtype for x in given}) == 1 else dtypes.FLOAT
        common = common if common == dtypes.FLOAT16 else dtypes.FLOAT
        result = given[-1].dtype
        given = [x if x.dtype == common else plain.Cast(x, to=common) for x in given]
        inputs = [*given, None][:2]
        # The exporter leaves out what equals the schema's default; a file says all.
        walked = ours.Walk(*inputs, mask, **{**OPERATOR_DEFAULTS.operator_kwargs(), **settings})
        return walked if result == common else plain.Cast(walked, to=result)

    return walk
