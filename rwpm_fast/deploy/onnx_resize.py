"""Antialiased resizing in plain operators of ONNX, which every runtime computes as torch does.

ONNX Runtime's antialiased Resize is off by 1e-4 of the largest value for photos of 1280 pixels, since it rounds the
place of every pixel, and OpenVINO 2026.4 leaves the antialiasing out without a word.
"""

from __future__ import annotations

import onnx_ir as ir

from .onnx_builder import Builder


def expand_resizes(model: ir.Model) -> None:
    """Replace every antialiased bilinear Resize of a map [B, C, H, W] to a given size by two products of matrices.

    The matrices hold the weights of ``torch.nn.functional.interpolate``, as float32 as torch computes them.

    Args:
        model: of opset 18 or later; changed in place.
    """
    for number, node in enumerate([n for n in model.graph if _is_ours(n)]):
        b = Builder(f"resize{number}")
        image, sizes = node.inputs[0], node.inputs[3]
        vertical = _weights(b, image, sizes, 2)  # [h, H]
        horizontal = b.Transpose(_weights(b, image, sizes, 3), perm=[1, 0])  # [W, w]
        resized = b.MatMul(b.MatMul(vertical, image), horizontal)
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], b.nodes, node.outputs, [resized])


def _is_ours(node: ir.Node) -> bool:
    def told(name: str, otherwise: object) -> object:
        return node.attributes[name].value if name in node.attributes else otherwise

    return (
        node.op_type == "Resize"
        and told("antialias", 0) == 1
        and told("mode", "nearest") == "linear"
        and told("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        and len(node.inputs) == 4
        and node.inputs[3] is not None
    )


def _weights(b: Builder, image: ir.Value, sizes: ir.Value, axis: int) -> ir.Value:
    """[to, from]: a triangle around the center of every pixel to be, as wide as the pixel but no narrower than one."""
    float_type = ir.DataType.FLOAT
    before, after = b.size(image, axis), b.Slice(sizes, b.int64s(axis), b.int64s(axis + 1))  # [1]
    one, half = b.float32(1), b.float32(0.5)
    scale = b.Div(b.Cast(before, to=float_type), b.Cast(after, to=float_type))
    centers = b.Mul(b.Add(b.Unsqueeze(_counted(b, after), b.int64s(1)), half), scale)  # [to, 1]
    places = b.Add(_counted(b, before), half)  # [from]
    distances = b.Div(b.Abs(b.Sub(places, centers)), b.Max(scale, one))
    triangle = b.Max(b.Sub(one, distances), b.float32(0))
    return b.Div(triangle, b.ReduceSum(triangle, b.int64s(1)))


def _counted(b: Builder, count: ir.Value) -> ir.Value:
    """0, 1, .. below a count [1], in float32."""
    return b.Cast(b.Range(b.int64(0), b.Squeeze(count), b.int64(1)), to=ir.DataType.FLOAT)
