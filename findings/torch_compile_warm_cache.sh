#!/usr/bin/env bash
# Package: torch 2.13.0, on the CPU; needs g++.
#
# Expected: a function compiled with dynamic=True that needs one graph for inputs of all sizes needs one in every process.
#
# Instead: where its sizes are computed with torch.sym_max, the first process compiles one graph, and a second process,
# which finds it in the compiler's cache on disk, takes it for the sizes on the first input's side of the maximum only,
# and compiles once more for those on the other side. Output seen, graphs after inputs of 1280, 640, 1024 and 333 rows:
#     first process: 1, 1, 1, 1
#     second process: 1, 2, 2, 2
#
# Why it matters: road networks reduce photos whose longer side exceeds a limit, which is written with sym_max so that one
# graph serves all sizes. A service that was warmed up, and tested to compile once, compiles for seconds or minutes at the
# first small photo after its next start. Warm up with a photo on either side of the limit.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
export TORCHINDUCTOR_CACHE_DIR=$folder/cache

cat > graphs.py <<'PYTHON'
import sys

import torch
from torch._dynamo.utils import counters


def reduced(photo):
    height = photo.shape[0] * 832 // torch.sym_max(832, photo.shape[0])
    return torch.nn.functional.interpolate(photo[None, None], (height, 64), mode="bilinear").relu().sum(-1)


compiled = torch.compile(reduced, fullgraph=True, dynamic=True)
graphs = []
for height in (1280, 640, 1024, 333):
    photo = torch.rand(height, 64)
    torch.testing.assert_close(compiled(photo), reduced(photo))
    graphs.append(counters["stats"]["unique_graphs"])
name, *expected = sys.argv[1:]
print(f"{name} process: {', '.join(map(str, graphs))}")
if graphs != list(map(int, expected)):
    raise SystemExit("The behavior has changed.")
PYTHON
venv/bin/python -IW ignore graphs.py first 1 1 1 1
venv/bin/python -IW ignore graphs.py second 1 2 2 2
