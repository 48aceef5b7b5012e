#!/usr/bin/env bash
# Package: transformers 5.24.0 (torch 2.13.0). Random weights, nothing is downloaded.
#
# Expected: `pixel_mask`, which the image processor makes when it pads the photos of a batch to one size and which is
# documented to keep attention from padding, makes the prediction of a photo independent of its padding.
#
# Instead: Mask2Former takes pixel_mask and does not use it. The outputs with it and without it are the same bits, and
# the masks over a photo depend on how much padding is beside it and on what the padding holds (reported as issue
# 39382 of huggingface/transformers, from the side of batches). Output seen:
#     with and without pixel_mask: the same bits
#     mask logits have a standard deviation of 0.0880
#     padded with zeros: mask logits over the photo change by up to 0.3279
#     noise instead of zeros under the mask: they change by up to 0.3611
#
# Why it matters: the photos of anomaly benchmarks have several sizes (1280 x 720, 1920 x 1080, 2048 x 1024). Scored in
# batches, the anomaly scores of a photo depend on the other photos of its batch, and a threshold chosen on single
# photos does not fit. Score photos of one size together, or one by one.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 scipy==1.17.1 transformers==5.24.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/hub"

venv/bin/python -I - <<'PYTHON'
import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

torch.manual_seed(0)
stages = [f"stage{i}" for i in (1, 2, 3, 4)]
swin = SwinConfig(
    image_size=64, embed_dim=24, depths=[1] * 4, num_heads=[1, 2, 3, 4], window_size=4, out_features=stages
)
config = Mask2FormerConfig(
    backbone_config=swin, hidden_dim=64, feature_size=64, mask_feature_size=64, encoder_layers=2, decoder_layers=2,
    num_attention_heads=4, num_queries=20, encoder_feedforward_dim=64, dim_feedforward=64, num_labels=3,
)  # fmt: skip
network = Mask2FormerForUniversalSegmentation(config).eval()

photo = torch.randn(1, 3, 64, 96)
padded, mask = torch.zeros(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.long)
padded[..., :64, :96], mask[:, :64, :96] = photo, 1
noisy = padded + torch.randn_like(padded) * (1 - mask)


def masks(*inputs):
    """Mask logits over the photo, at stride 4."""
    with torch.no_grad():
        return network(*inputs).masks_queries_logits[..., :16, :24]


alone, unmasked, masked, under_mask = masks(photo), masks(padded), masks(padded, mask), masks(noisy, mask)
same = torch.equal(unmasked, masked)
zeros, noise = (alone - masked).abs().max().item(), (under_mask - masked).abs().max().item()
print("with and without pixel_mask:", "the same bits" if same else "different")
print(f"mask logits have a standard deviation of {alone.std():.4f}")
print(f"padded with zeros: mask logits over the photo change by up to {zeros:.4f}")
print(f"noise instead of zeros under the mask: they change by up to {noise:.4f}")
if not (same and zeros > 0.05 and noise > 0.05):
    raise SystemExit("The behavior has changed.")
PYTHON
