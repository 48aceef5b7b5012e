#!/usr/bin/env bash
# Package: transformers 5.24.0 (torch 2.13.0). Random weights, nothing is downloaded.
#
# Expected: EoMT refuses a photo whose shape is not that of its configuration, or gives masks of the photo's shape, as
# Mask2Former does. EoMT on DINOv3 computes its positions for any grid of patches.
#
# Instead: both fold the patches into the square grid of `image_size`. A photo of another shape with as many patches, such
# as 32 x 128 for 64 x 64, gives square masks without a word, in which rows of the photo are wrapped; any other number of
# patches fails in a reshape. Output seen:
#     EomtForUniversalSegmentation: photo 32 x 128, masks 16 x 16
#     EomtDinov3ForUniversalSegmentation: photo 32 x 128, masks 16 x 16
#     EomtDinov3ForUniversalSegmentation: photo 64 x 128: RuntimeError
#
# Why it matters: the strip around the horizon of a 2048 x 1024 road photo, 512 x 2048, has as many patches as 1024 x 1024,
# and the masks, enlarged to it, show a scrambled scene; whole road photos fail. The image processor of EoMT cuts photos
# into squares, but it needs torchvision; whoever resizes by hand must take image_size x image_size, or arrange the
# patches by the photo's own grid.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 scipy==1.17.1 transformers==5.24.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/hub"

venv/bin/python -I - <<'PYTHON'
import torch
from transformers import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
)

settings = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "num_queries": 5}
settings |= {"num_blocks": 1, "num_labels": 3}
models = [
    EomtForUniversalSegmentation(EomtConfig(**settings)),
    EomtDinov3ForUniversalSegmentation(EomtDinov3Config(**settings, intermediate_size=64)),
]
found = []
for model in models:
    with torch.no_grad():
        masks = model.eval()(torch.randn(1, 3, 32, 128)).masks_queries_logits
    found.append(tuple(masks.shape[-2:]))
    print(f"{type(model).__name__}: photo 32 x 128, masks {found[-1][0]} x {found[-1][1]}")
try:
    with torch.no_grad():
        models[1](torch.randn(1, 3, 64, 128))
    failed = False
except RuntimeError as error:
    failed = True
    print(f"{type(models[1]).__name__}: photo 64 x 128: {type(error).__name__}")
if found != [(16, 16), (16, 16)] or not failed:
    raise SystemExit("The behavior has changed.")
PYTHON
