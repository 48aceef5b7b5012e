#!/usr/bin/env bash
# Package: torch 2.13.0 (CPU build), numpy 2.4.6.
#
# Expected: torch.compile(dynamic=True) of a convolution makes one graph for images of all sizes.
#
# Instead: the trace asks whether the input has more than 20 480 elements (where oneDNN begins to pay), and keeps the
# answer as a guard: the first image on the other side compiles again, and under error_on_recompile raises. Three
# channels reach 20 480 elements at 83 x 83 pixels. Output seen:
#     graphs after 40x44 and 50x60: 1; after 200x300 too: 2
#     the guard that failed: 3*args[0].size()[2]*args[0].size()[3] <= 20480
#
# Why it matters: a road network is compiled once for photos of all sizes, and tried on a small one since that is quick.
# Trying it so sets the guard the wrong way: the first real photo takes the minute of compiling that the trial was to
# spare, or in a service that forbids recompilation is refused. Trace with an image of the real size.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import sys

import torch
from torch._dynamo.testing import CompileCounter

torch.set_grad_enabled(False)
network = torch.nn.Conv2d(3, 8, 3).eval()


def image(height, width):
    return torch.zeros(1, 3, height, width)


counter = CompileCounter()
compiled = torch.compile(network, dynamic=True, backend=counter)
compiled(image(40, 44))
compiled(image(50, 60))
small = counter.frame_count
compiled(image(200, 300))
print(f"graphs after 40x44 and 50x60: {small}; after 200x300 too: {counter.frame_count}")

torch._dynamo.reset()
strict = torch.compile(network, dynamic=True, backend="eager")
strict(image(40, 44))
reason = ""
with torch._dynamo.config.patch(error_on_recompile=True):
    try:
        strict(image(200, 300))
    except torch._dynamo.exc.RecompileError as error:
        reason = str(error)
guard = next((line.split(": ", 1)[1].split("  #")[0] for line in reason.splitlines() if "20480" in line), "none")
print(f"the guard that failed: {guard}")
if (small, counter.frame_count) != (1, 2) or "20480" not in guard:
    sys.exit("The behavior has changed.")
PYTHON
