#!/usr/bin/env bash
# Package: torch 2.13.0 with its oneDNN, on the CPU.
#
# Expected: a convolution that was out of memory raises, and works again once there is memory, as products, sorts and
# allocations of torch do.
#
# Instead: if memory is short when oneDNN first makes the code of a kernel, the failure stays: every later convolution of
# the process raises "could not create a primitive", of any size and with all memory back. The message does not speak of
# memory. Output seen:
#     a product, out of memory: RuntimeError [enforce fail at alloc_cpu.cpp:127]
#     the same, with memory: works
#     the first convolution, out of memory: RuntimeError could not create a primitive
#     the same, with memory again: RuntimeError could not create a primitive
#     one of 64 x 64 pixels: RuntimeError could not create a primitive
#
# Why it matters: a service that reports a frame as too large and goes on to the next, under a limit to its address space,
# answers no frame from then on. Convolve one small tensor at the start, while memory is there.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

OMP_NUM_THREADS=1 venv/bin/python -I - <<'PYTHON'
import re
import resource

import torch


def attempt(function):
    try:
        function()
        return "works"
    except RuntimeError as error:
        return f"RuntimeError {str(error)[:35]}"


def without_memory(function):
    taken = 1024 * int(re.search(r"VmSize:\s+(\d+)", open("/proc/self/status").read())[1])
    resource.setrlimit(resource.RLIMIT_AS, (taken, resource.RLIM_INFINITY))
    result = attempt(function)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return result


matrix, images = torch.ones(5000, 5000), torch.ones(1, 32, 1000, 1000)
convolution = torch.nn.Conv2d(32, 64, 3, padding=1).requires_grad_(False)
seen = {
    "a product, out of memory": without_memory(lambda: matrix @ matrix),
    "the same, with memory": attempt(lambda: matrix @ matrix),
    "the first convolution, out of memory": without_memory(lambda: convolution(images)),
    "the same, with memory again": attempt(lambda: convolution(images)),
    "one of 64 x 64 pixels": attempt(lambda: convolution(images[..., :64, :64])),
}
for name, outcome in seen.items():
    print(f"{name}: {outcome}")
outcomes = list(seen.values())
if "alloc_cpu" not in outcomes[0] or outcomes[1] != "works" or not all("a primitive" in o for o in outcomes[2:]):
    raise SystemExit("The behavior has changed.")
PYTHON
