#!/usr/bin/env bash
# Package: triton 3.7.1 (torch 2.13.0 for tensors in the interpreter).
#
# Expected: a Python float in a float32 kernel is a float32 constant, and a kernel that runs in the interpreter
# (TRITON_INTERPRET=1) compiles.
#
# Instead: a constant below float32's smallest normal number, 1.18e-38, is float64. A choice between it and a float32
# scalar runs in the interpreter and does not compile for a GPU; tl.maximum compiles, and silently makes the tensor
# and all that follows from it float64. Output seen:
#     interpreted, choose 1e-40: [2.0]
#     compiled, choose 1e-30: float32
#     compiled, choose 1e-40: Ternary expression with dynamic condition has inconsistent types fp32 and fp64
#     compiled, guard 1e-30: float32
#     compiled, guard 1e-40: float64
#
# Why it matters: such constants guard the sum of a softmax row against division by zero. Tests without a GPU pass in
# the interpreter, and the kernel fails at its first launch on a GPU; or it runs, with float64 arithmetic in its inner
# loop, at a small part of float32's rate on GPUs that are not made for data centers. Keep guards at 1e-37 or above.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 triton==3.7.1
export TRITON_CACHE_DIR="$folder/cache"

cat >kernels.py <<'PYTHON'
import os

import triton
import triton.language as tl


@triton.jit
def choose(x, out, some, TINY: tl.constexpr):
    total = tl.sum(tl.load(x + tl.arange(0, 128)), 0)
    total = total if some > 3 else TINY
    tl.store(out, total)


@triton.jit
def guard(x, out, some, TINY: tl.constexpr):
    i = tl.arange(0, 128)
    tl.store(out + i, 1 / tl.maximum(tl.load(x + i), TINY))


def interpret():
    import torch

    out = torch.zeros(1)
    choose[(1,)](torch.full((128,), 2 / 128), out, 7, TINY=1e-40)
    return out.tolist()


def compile(kernel, tiny):
    """Type of the arithmetic, or the error."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, CompilationError

    types = {"x": "*fp32", "out": "*fp32", "some": "i32", "TINY": "constexpr"}
    try:
        compiled = triton.compile(ASTSource(kernel, types, {"TINY": tiny}), target=GPUTarget("cuda", 90, 32))
    except CompilationError as error:
        return str(error).strip().splitlines()[-1].removeprefix("AssertionError('").removesuffix("')")
    return "float64" if "f64" in compiled.asm["ptx"] else "float32"


if os.environ.get("TRITON_INTERPRET") == "1":
    seen = {"interpreted, choose 1e-40": interpret()}
    expected = [[2.0]]
else:
    seen = {f"compiled, {k.__name__} {c}": compile(k, c) for k in (choose, guard) for c in (1e-30, 1e-40)}
    inconsistent = "Ternary expression with dynamic condition has inconsistent types fp32 and fp64"
    expected = ["float32", inconsistent, "float32", "float64"]
for name, what in seen.items():
    print(f"{name}: {what}")
if list(seen.values()) != expected:
    raise SystemExit("The behavior has changed.")
PYTHON
TRITON_INTERPRET=1 venv/bin/python -I kernels.py
TRITON_INTERPRET=0 venv/bin/python -I kernels.py
