#!/usr/bin/env bash
# Package: numpy 2.4.6, on x86-64 processors with AVX-512 for 16-bit integers (AVX512_ICL in NumPy's words) but without
# that for float16 (AVX512_SPR), as AMD's since Zen 4 and Intel's Ice Lake. Seen on an AMD EPYC of Zen 4.
#
# Expected: numpy.sort sorts.
#
# Instead: float16 arrays with many equal negative values come back unsorted, and numpy.unique, which sorts, returns
# values many times over. No warning. argsort and partition are right, float32 is right, and so is the same NumPy with
# NPY_DISABLE_CPU_FEATURES=AVX512_ICL. Output seen, for a score map of 1280 x 720 of scores around -10 in float16, as
# they are and rounded to integers:
#     AVX512_ICL: sorted False, 3744 values where there are 2790; rounded: sorted False, 25 values where there are 19
#     without it: sorted True, 2790 values where there are 2790; rounded: sorted True, 19 values where there are 19
#
# Why it matters: anomaly scores are submitted and stored in float16, and energies, the most common score, are negative.
# AUROC, average precision and false positive rates are computed on sorted scores: on such a map they are wrong, differ
# between machines, and nothing tells. Widen float16 to float32 before sorting.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6

cat > sort.py <<'PYTHON'
import sys

import numpy as np
from numpy._core._multiarray_umath import __cpu_features__ as features

if sys.argv[1] == "AVX512_ICL" and not features["AVX512_ICL"]:
    print("skipped: this processor has no AVX512_ICL")
    raise SystemExit(77)
rng = np.random.default_rng(0)
energies = rng.normal(-10, 2, 1280 * 720)
found = []
for scores in (energies, energies.round()):
    half = scores.astype(np.float16)
    single = half.astype(np.float32)
    assert np.array_equal(half[np.argsort(half)], np.sort(single))
    found.append((np.array_equal(np.sort(half), np.sort(single)), np.unique(half).size, np.unique(single).size))
text = "; rounded: ".join(f"sorted {is_sorted}, {got} values where there are {real}" for is_sorted, got, real in found)
print(f"{sys.argv[1]}: {text}")
broken = all(not is_sorted and got > real for is_sorted, got, real in found)
right = all(is_sorted and got == real for is_sorted, got, real in found)
if not (broken if sys.argv[1] == "AVX512_ICL" else right):
    raise SystemExit("The behavior has changed.")
PYTHON
# A processor that has both would sort by AVX512_SPR.
status=0
NPY_DISABLE_CPU_FEATURES=AVX512_SPR venv/bin/python -IW ignore sort.py AVX512_ICL || status=$?
[ "$status" -eq 77 ] && exit 0
[ "$status" -eq 0 ]
NPY_DISABLE_CPU_FEATURES="AVX512_ICL AVX512_SPR" venv/bin/python -IW ignore sort.py "without it"
