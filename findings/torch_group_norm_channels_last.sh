#!/usr/bin/env bash
# Package: torch 2.13.0 on the CPU.
#
# Expected: F.group_norm of a map does not depend on its memory format, apart from rounding; F.instance_norm's does not.
#
# Instead: for a channels-last map the variance seems to be the mean of the squares less the square of the mean, in float32.
# Where the mean of a group is large against its deviation no digit is left, without a warning. Normalized values lie within
# some five deviations; a map of deviation 0.5, 64 x 64 x 128, one group per channel, is off by, at most (more with more
# threads or pixels; mean, contiguous, channels last, instance_norm of channels last):
#          0         5.3e-07         2.8e-06         4.2e-07
#         34         9.8e-06         3.1e-02         7.1e-06
#       1000         2.1e-04         6.9e+02         1.2e-04
#
# Why it matters: channels-last is the fast layout of convolutions on a CPU, and decoders with group norm (Mask2Former's pixel
# decoder, SPADE built on it) follow it; behind sums of products, such as a correlation of features, means are that large.
# Subtract the mean of each channel first, or make the map contiguous.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import torch
import torch.nn.functional as F

errors = {}
for mean in (0, 34, 1000):
    x = mean + 0.5 * torch.randn(1, 64, 64, 128, generator=torch.Generator().manual_seed(0))
    last = x.contiguous(memory_format=torch.channels_last)
    exact = F.instance_norm(x.double())
    got = (F.group_norm(x, 64), F.group_norm(last, 64), F.instance_norm(last))
    errors[mean] = [float((y - exact).abs().max()) for y in got]
    print(f"{mean:6}", *(f"{error:15.1e}" for error in errors[mean]))
for mean, (contiguous, channels_last, instance) in errors.items():
    assert contiguous < 1e-3 and instance < 1e-3, "the contiguous one is off too"
    if mean:
        assert channels_last > 100 * contiguous, "channels-last maps are normalized as others are"
PYTHON
