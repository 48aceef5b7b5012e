#!/usr/bin/env bash
# Package: torch 2.13.0, on the CPU.
#
# Expected: torch.histc and torch.histogram count the elements of a float32 tensor, as numpy.histogram does.
#
# Instead: each thread counts in float32, whose next number after 2^24 = 16777216 cannot be reached by adding 1. A bin
# stops there, once a thread, so that the counts depend on the number of threads; torch.bincount with float32 weights
# does the same. No warning (pytorch/pytorch#96613, of 2023). Output seen, for 40 million equal scores:
#     numpy.histogram: 40000000
#     torch.histc, 1 thread: 16777216
#     torch.histc, 2 threads: 33554432
#     torch.histogram, 1 thread: 16777216
#     torch.bincount, float32 weights of 1: 16777216
#     torch.histc of float64: 40000000
#
# Why it matters: pooled ROC and precision-recall curves of anomaly segmentation are histograms over all pixels of a
# data set; 60 photos of 1280 x 720 have 55 million, and by a score such as 1 - max softmax most of them, all normal,
# fall in the first bin. Normal pixels are lost from the count, so that false positive rates and AUROC are wrong, and
# differ between machines by their number of threads. Count in int64: torch.bincount of bin indices without weights.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import numpy as np
import torch

pixels, limit = 40_000_000, 2**24
scores = torch.full((pixels,), 0.5)


def histc(threads, dtype=torch.float32):
    torch.set_num_threads(threads)
    return int(torch.histc(scores.to(dtype), bins=10, min=0, max=1).sum())


one = histc(1)
seen = {
    "numpy.histogram": int(np.histogram(scores.numpy(), bins=10, range=(0, 1))[0].sum()),
    "torch.histc, 1 thread": one,
    "torch.histc, 2 threads": histc(2),
}
torch.set_num_threads(1)
seen |= {
    "torch.histogram, 1 thread": int(torch.histogram(scores, bins=10, range=(0.0, 1.0)).hist.sum()),
    "torch.bincount, float32 weights of 1": int(
        torch.bincount(torch.zeros(pixels, dtype=torch.int64), weights=torch.ones(pixels)).sum()
    ),
    "torch.histc of float64": histc(1, torch.float64),
}
for name, count in seen.items():
    print(f"{name}: {count}")
if list(seen.values()) != [pixels, limit, 2 * limit, limit, limit, pixels]:
    raise SystemExit("The behavior has changed.")
PYTHON
