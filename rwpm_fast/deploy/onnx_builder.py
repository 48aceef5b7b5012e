"""Nodes of ONNX graphs, written as calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir


class Builder:
    """Nodes in the order of their making, with names that no other graph has: ``b.Add(x, y)`` is their output.

    Args:
        prefix: of the names.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[ir.Node] = []

    def __getattr__(self, op_type: str) -> Any:
        def add(*inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
            node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=f"{self.prefix}_{len(self.nodes)}")
            for i, value in enumerate(node.outputs):
                value.name = f"{node.name}_{i}"
            self.nodes.append(node)
            return node.outputs[0] if outputs == 1 else node.outputs

        return add

    def float32(self, number: float) -> ir.Value:
        """A scalar."""
        return self.Constant(value=ir.tensor(np.array(number, np.float32)))

    def int64(self, number: int) -> ir.Value:
        """A scalar."""
        return self.Constant(value=ir.tensor(np.array(number, np.int64)))

    def int64s(self, *numbers: int) -> ir.Value:
        """A vector of whole numbers."""
        return self.Constant(value=ir.tensor(np.array(numbers, np.int64)))

    def size(self, x: ir.Value, axis: int) -> ir.Value:
        """The size of one axis, [1]."""
        return self.Shape(x, start=axis, end=axis + 1)

    def loop(self, name: str, count: ir.Value, carried: ir.Value | None, body: Any) -> ir.Value:
        """Call ``body(b, i, carried)`` for i in [0, count).

        Returns:
            What is carried in the end; without a carried value the results of all calls, stacked.
        """
        b = Builder(f"{self.prefix}_{name}")
        i, go_on = (ir.Value(name=f"{b.prefix}_{which}") for which in ("i", "go_on"))
        i.type, i.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([])
        go_on.type, go_on.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        inputs = [i, go_on]
        if carried is not None:
            inputs.append(ir.Value(name=f"{b.prefix}_carried", type=ir.TensorType(ir.DataType.FLOAT)))
        result = body(b, i, *inputs[2:])
        result.type = ir.TensorType(ir.DataType.FLOAT)
        still = b.Identity(go_on)
        still.type, still.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        graph = ir.Graph(inputs, [still, result], nodes=b.nodes, name=b.prefix)
        start = [] if carried is None else [carried]
        return self.Loop(count, self.Constant(value=ir.tensor(np.array(True))), *start, body=graph)
