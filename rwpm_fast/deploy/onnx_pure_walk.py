"""The walk in plain operators of ONNX, which any runtime loads: exact, a block of rows at a time, never N x N."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..ops.settings import WalkSettings, cosine_scale, is_anchored
from .onnx_builder import Builder
from .onnx_operator import DOMAIN, settings_of

# Pixels whose rows of the transition matrix are in memory at once: 4 bytes x ROWS x N.
ROWS = 128

# Logits of pixels that nobody reads; finite, since infinity times a zero of padding would be NaN.
_NEVER = -3e38


def expand_walks(model: ir.Model) -> None:
    """Replace every operator Walk of the domain rwpm in a model by plain ONNX that computes the exact walk.

    Every transition computes the matrix anew, block by block, in a Loop: softmax without the diagonal, then its product
    with the values, in float32. Masked, zero and broken pixels and the anchor are treated as the operator treats them;
    its tolerance is left out, since the exact walk drops nothing.

    Args:
        model: of opset 18 or later; changed in place. The inputs of a walk must have a known rank and element type.
    """
    for number, node in enumerate([n for n in model.graph if (n.domain, n.op_type) == (DOMAIN, "Walk")]):
        embeddings, values, mask = [*node.inputs, None, None][:3]
        assert embeddings is not None
        b = Builder(f"walk{number}")
        walked = _walk(b, embeddings, values, mask, settings_of({name: a.value for name, a in node.attributes.items()}))
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], b.nodes, node.outputs, [walked])
    model.opset_imports.pop(DOMAIN, None)


def _walk(
    b: Builder, embeddings: ir.Value, values: ir.Value | None, mask: ir.Value | None, settings: WalkSettings
) -> ir.Value:
    values = embeddings if values is None else values
    if settings.steps == 0 or settings.alpha == 0:
        return b.Identity(values)
    e = b.Cast(embeddings, to=ir.DataType.FLOAT)
    v = e if values is embeddings else b.Cast(values, to=ir.DataType.FLOAT)
    assert embeddings.shape is not None
    batched = len(embeddings.shape) == 3
    if not batched:  # as a batch of one
        first = b.int64s(0)
        e, v = b.Unsqueeze(e, first), b.Unsqueeze(v, first)
        mask = None if mask is None else b.Unsqueeze(mask, first)

    finite = b.And(_finite(b, e), _finite(b, v))  # [B, N, 1]
    valid = finite if mask is None else b.And(finite, b.Unsqueeze(mask, b.int64s(2)))
    count = b.ReduceSum(b.Cast(valid, to=ir.DataType.INT64), b.int64s(1))  # [B, 1, 1]
    walks = b.And(valid, b.Greater(count, b.int64s(1)))

    # Rows are padded to whole blocks, by pixels that nobody reads.
    zero = b.float32(0)
    pixels = b.size(e, 1)
    blocks = b.Div(b.Add(pixels, b.int64s(ROWS - 1)), b.int64s(ROWS))
    nothing = b.int64s(0)
    padding = b.Concat(*[nothing] * 4, b.Sub(b.Mul(blocks, b.int64s(ROWS)), pixels), nothing, axis=0)
    q = b.Pad(_units(b, b.Where(valid, e, zero)), padding)  # [B, M, D]
    start = b.Pad(b.Where(valid, v, zero), padding)  # [B, M, C]
    # One more channel tells of a key whether it may be read: 0, or what takes its weight to 0.
    bias = b.Pad(b.Where(valid, zero, b.float32(_NEVER)), padding, b.float32(_NEVER))  # [B, M, 1]
    keys = b.Transpose(b.Concat(q, bias, axis=2), perm=[0, 2, 1])  # [B, D + 1, M]
    rows = b.Pad(b.Mul(q, b.float32(cosine_scale(settings.temperature))), b.int64s(0, 0, 0, 0, 0, 1), b.float32(1))
    by_block = _by_block(b, rows, blocks)  # [M / ROWS, B, ROWS, D + 1]
    graph = _Graph(by_block, keys, b.Squeeze(blocks), b.size(e, 0))

    # m <- alpha (1 - r) S m + (1 - alpha (1 - r)) v
    alpha = settings.alpha
    if is_anchored(settings.anchor, settings.anchor_share):
        own = _own_weights(b, graph.log_sums(b), b.GreaterOrEqual(bias, zero), settings)  # [B, M, 1]
        going_on = b.Mul(b.Sub(b.float32(1), own), b.float32(alpha))
        restart = b.Mul(start, b.Add(b.float32(1 - alpha), b.Mul(own, b.float32(alpha))))
    else:
        going_on, restart = b.float32(alpha), b.Mul(start, b.float32(1 - alpha))

    def step(b: Builder, _: ir.Value, m: ir.Value) -> ir.Value:
        return b.Add(b.Mul(graph.product(b, m), going_on), restart)

    m = b.loop("step", b.int64(settings.steps), start, step)
    walked = b.Where(walks, b.Slice(m, b.int64s(0), pixels, b.int64s(1)), v)
    if not batched:
        walked = b.Squeeze(walked, b.int64s(0))
    return b.CastLike(walked, values)


def _finite(b: Builder, x: ir.Value) -> ir.Value:
    """[B, N, 1]: whether every channel of a pixel is finite."""
    broken = b.Not(b.LessOrEqual(b.Abs(x), b.float32(float(np.finfo(np.float32).max))))
    number = b.ReduceSum(b.Cast(broken, to=ir.DataType.FLOAT), b.int64s(2))
    return b.Equal(number, b.float32(0))


def _units(b: Builder, e: ir.Value) -> ir.Value:
    """``e / max(|e|, 1e-12)``, by way of the largest channel, so that no square overflows or underflows."""
    scaled = b.Div(e, b.Max(b.ReduceMax(b.Abs(e), b.int64s(2)), b.float32(1e-12)))
    return b.Div(scaled, b.Max(b.Sqrt(b.ReduceSumSquare(scaled, b.int64s(2))), b.float32(1)))


def _by_block(b: Builder, x: ir.Value, blocks: ir.Value) -> ir.Value:
    """[B, M, K] as [M / ROWS, B, ROWS, K]."""
    split = b.Reshape(x, b.Concat(b.size(x, 0), blocks, b.int64s(ROWS), b.size(x, 2), axis=0), allowzero=1)
    return b.Transpose(split, perm=[1, 0, 2, 3])


class _Graph:
    """The pixels of a graph.

    Args:
        rows: [M / ROWS, B, ROWS, D + 1] pixels as rows of the matrix, times 1 / temperature, and a channel of 1.
        keys: [B, D + 1, M] pixels as columns of the matrix.
        blocks: M / ROWS, a scalar.
        batch: B, [1].
    """

    def __init__(self, rows: ir.Value, keys: ir.Value, blocks: ir.Value, batch: ir.Value) -> None:
        self.rows, self.keys, self.blocks, self.batch = rows, keys, blocks, batch

    def _logits(self, b: Builder, i: ir.Value) -> ir.Value:
        """[B, ROWS, M]: rows of block i, nothing on the diagonal."""
        cosines = b.MatMul(b.Gather(self.rows, i, axis=0), self.keys)
        own = b.Add(b.Constant(value=ir.tensor(np.arange(ROWS)[None, :, None])), b.Mul(i, b.int64s(ROWS)))
        own = b.Expand(own, b.Concat(self.batch, b.int64s(1, 1), axis=0))
        never = b.Expand(b.float32(_NEVER), b.Shape(own))
        return b.ScatterElements(cosines, own, never, axis=2)

    def _each_block(self, b: Builder, name: str, body: Any) -> ir.Value:
        """[B, M, K] of ``body(b, i)``, [B, ROWS, K] of block i."""
        stacked = b.loop(name, self.blocks, None, body)
        ordered = b.Transpose(stacked, perm=[1, 0, 2, 3])
        return b.Reshape(ordered, b.Concat(self.batch, b.int64s(-1), b.size(stacked, 3), axis=0))

    def product(self, b: Builder, m: ir.Value) -> ir.Value:
        """S m, [B, M, C]."""
        return self._each_block(b, "block", lambda b, i: b.MatMul(b.Softmax(self._logits(b, i), axis=-1), m))

    def log_sums(self, b: Builder) -> ir.Value:
        """The logarithm of the sum of every row, [B, M, 1]."""

        def of_block(b: Builder, i: ir.Value) -> ir.Value:
            logits = self._logits(b, i)
            largest = b.ReduceMax(logits, b.int64s(2))
            return b.Add(largest, b.Log(b.ReduceSum(b.Exp(b.Sub(logits, largest)), b.int64s(2))))

        return self._each_block(b, "sum", of_block)


def _own_weights(b: Builder, log_sum: ir.Value, valid: ir.Value, settings: WalkSettings) -> ir.Value:
    """The weight r of every pixel's own value, [B, M, 1]; see :func:`rwpm_fast.reference.own_weights`."""
    if settings.anchor_share == 0:
        logit = b.float32(settings.anchor * cosine_scale(settings.temperature))
    else:
        count = b.ReduceSum(b.Cast(valid, to=ir.DataType.INT64), b.int64s(1))  # [B, 1, 1]
        # The share of the pixels, rounded up, as an index; in float64, as all backends have it.
        share = b.Constant(value=ir.tensor(np.array(settings.anchor_share, np.float64)))
        wanted = b.Mul(b.Cast(count, to=ir.DataType.DOUBLE), share)
        whole = b.Cast(wanted, to=ir.DataType.INT64)
        exact = b.Equal(b.Cast(whole, to=ir.DataType.DOUBLE), wanted)
        index = b.Max(b.Where(exact, b.Sub(whole, b.int64s(1)), whole), b.int64s(0))
        among = b.Where(valid, log_sum, b.float32(-_NEVER))
        ascending, _ = b.TopK(among, b.size(among, 1), axis=1, largest=0, outputs=2)
        logit = b.GatherElements(ascending, index, axis=1)
    return b.Sigmoid(b.Sub(logit, log_sum))
