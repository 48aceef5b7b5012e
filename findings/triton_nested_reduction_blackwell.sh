#!/usr/bin/env bash
# Package: triton 3.7.1. Compiles for three GPUs, and needs none.
#
# Expected: tl.max(tl.max(scores, 1), 0), the largest element of a product of two tiles, compiles for every GPU that
# compiles the product.
#
# Instead: it compiles for sm_80 and sm_90 and fails for sm_100 (Blackwell), in a pass for its tensor memory. One
# reduction over both axes at once, tl.max(scores), compiles everywhere. Output seen:
#     sm_80: nested compiles, joint compiles
#     sm_90: nested compiles, joint compiles
#     sm_100: nested RuntimeError: PassManager::run failed, joint compiles
#
# Why it matters: kernels that skip tiles of an affinity (block-sparse attention, walks with a tolerance) ask for the
# largest score of a tile in each round. Developed on Ampere or Hopper, they fail on the first Blackwell machine with
# an error that does not name the operation. Compile for every target in the tests: it takes no GPU.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check triton==3.7.1
export TRITON_CACHE_DIR="$folder/cache"

cat >kernels.py <<'PYTHON'
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def scores(queries, keys):
    i = tl.arange(0, 64)
    return tl.dot(tl.load(queries + i[:, None] * 64 + i[None, :]), tl.load(keys + i[None, :] * 64 + i[:, None]))


@triton.jit
def nested(queries, keys, out):
    tl.store(out, tl.max(tl.max(scores(queries, keys), 1), 0))


@triton.jit
def joint(queries, keys, out):
    tl.store(out, tl.max(scores(queries, keys)))


def compile(kernel, capability):
    types = {"queries": "*fp16", "keys": "*fp16", "out": "*fp32"}
    try:
        triton.compile(ASTSource(kernel, types, {}), target=GPUTarget("cuda", capability, 32))
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return "compiles"


seen = {sm: [compile(nested, sm), compile(joint, sm)] for sm in (80, 90, 100)}
for sm, (two, one) in seen.items():
    print(f"sm_{sm}: nested {two}, joint {one}")
fine = ["compiles"] * 2
if seen != {80: fine, 90: fine, 100: ["RuntimeError: PassManager::run failed", "compiles"]}:
    raise SystemExit("The behavior has changed.")
PYTHON
venv/bin/python -I kernels.py 2>compiler.log || { tail -n 5 compiler.log >&2; exit 1; }  # MLIR's dump is long
