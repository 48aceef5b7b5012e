#!/usr/bin/env bash
# Package: torch 2.13.0.
#
# Expected: an operator with a gradient by torch.library.register_autograd, and no rule for forward mode, refuses
# torch.func.jvp, as a torch.autograd.Function without a jvp does.
#
# Instead: it passes for a constant. The tangent is zeros from torch.func.jvp, None from forward_ad, and what stands on it
# (jacfwd, linearize, a Hessian-vector product) is wrong without a word. Output seen:
#   operator: derivative of x^2 at 3 along 1: 0.0, by reverse mode 6.0
#   dual tensor: tangent None
#   autograd.Function: NotImplementedError
#
# Why it matters: a walk, an attention kernel or a renderer behind an operator drops out of a forward-mode derivative of
# the whole network, and the rest of it still gives plausible numbers. A Python function in front of the operator can look
# for tangents by torch.autograd.forward_ad.unpack_dual and refuse.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import torch
from torch.autograd import forward_ad


@torch.library.custom_op("finding::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


square.register_fake(torch.empty_like)
square.register_autograd(
    lambda ctx, gradient: 2 * gradient * ctx.saved_tensors[0],
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


x, along = torch.tensor(3.0), torch.tensor(1.0)
leaf = x.clone().requires_grad_()
square(leaf).backward()
_, tangent = torch.func.jvp(square, (x,), (along,))
print(f"operator: derivative of x^2 at 3 along 1: {tangent.item()}, by reverse mode {leaf.grad.item()}")
with forward_ad.dual_level():
    of_dual = forward_ad.unpack_dual(square(forward_ad.make_dual(x, along))).tangent
print(f"dual tensor: tangent {of_dual}")
try:
    torch.func.jvp(Square.apply, (x,), (along,))
    refusal = None
except NotImplementedError as error:
    refusal = type(error).__name__
print(f"autograd.Function: {refusal}")
assert leaf.grad.item() == 6
assert tangent.item() == 0 and of_dual is None, "operators have tangents, or refuse them"
assert refusal == "NotImplementedError"
PYTHON
