#!/usr/bin/env bash
# Package: transformers 5.24.0 (torch 2.13.0), the image processor on Pillow. Nothing is downloaded.
#
# Expected: Mask2FormerImageProcessor.post_process_semantic_segmentation enlarges the mask logits, a quarter of the
# photo in height and width, to `target_sizes`.
#
# Instead: it first resizes them to 384 x 384, whatever the size and shape of the photo, by bilinear interpolation
# without antialiasing. A photo of 1024 x 2048 has mask logits of 256 x 512; two of four columns enter the 384 with a
# weight of at most a half, so that an object one column wide is found or lost by where it stands. Output seen:
#     mask logits 256 x 512, an object one column wide, photo 1024 x 2048
#     column 200: 4096 pixels by direct enlargement, 5120 by post_process_semantic_segmentation
#     column 201: 4096 pixels by direct enlargement, 0 by post_process_semantic_segmentation
#     column 202: 4096 pixels by direct enlargement, 0 by post_process_semantic_segmentation
#     column 203: 4096 pixels by direct enlargement, 5120 by post_process_semantic_segmentation
#
# Why it matters: the photos of Cityscapes, Lost and Found, Fishyscapes and SegmentMeIfYouCan are up to 2048 pixels
# wide, and their small obstacles, seen by a network at the photo's own size, are few mask columns wide. The scores that the method returns
# with return_segmentation_scores=True, of which anomaly scores are made, come from the same 384 x 384 map. Enlarge
# `masks_queries_logits` to the size of the photo oneself.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 pillow==13.0.0 transformers==5.24.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/hub"

venv/bin/python -I - <<'PYTHON'
from types import SimpleNamespace

import torch
from transformers import Mask2FormerImageProcessorPil

processor = Mask2FormerImageProcessorPil()
size = (1024, 2048)
classes = torch.tensor([[[9.0, 0, 0], [0, 9, 0]]])  # query 0 is road, query 1 an object


def found(column):
    """Pixels of the object by direct enlargement and by the processor."""
    is_object = torch.zeros(256, 512, dtype=torch.bool)
    is_object[:, column] = True
    masks = torch.stack([torch.where(is_object, -4.0, 5.0), torch.where(is_object, 4.0, -5.0)])[None]
    direct = torch.nn.functional.interpolate(masks, size, mode="bilinear")[0].argmax(0)
    outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
    processed = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])[0]
    return int(direct.sum()), int(processed.sum())


print("mask logits 256 x 512, an object one column wide, photo 1024 x 2048")
seen = {column: found(column) for column in (200, 201, 202, 203)}
for column, (direct, processed) in seen.items():
    print(f"column {column}: {direct} pixels by direct enlargement, {processed} by post_process_semantic_segmentation")
if not (all(direct == 4096 for direct, _ in seen.values()) and [processed > 0 for _, processed in seen.values()] == [
    True, False, False, True,
]):  # fmt: skip
    raise SystemExit("The behavior has changed.")
PYTHON
