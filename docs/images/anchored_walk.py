"""Draw anchored_walk.png: the anomaly score around a small obstacle without a walk, walked, and walked with an anchor.

python docs/images/anchored_walk.py PHOTO LABELS    # labels: 1 anomaly

The picture shows scores and weights only, no part of the photo. The one in the guide is of the Obstacle track's
validation split, photo 19.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage
from strip import save_strip, score_style

from rwpm_fast import Scorer, Walk, networks, presets
from rwpm_fast.io.images import read_image, read_labels

OUT = Path(__file__).with_suffix(".png")
HALF = 160, 240  # rows and columns shown on each side of the obstacle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("labels", type=Path)
    options = parser.parse_args()
    photo, labels = read_image(options.photo), read_labels(options.labels)
    network = networks.load()
    published = Scorer(network, walk=Walk(tolerance=1e-4))
    anchored = Scorer(network, walk=Walk(tolerance=1e-4, anchor_share=presets.ANCHOR_SHARE))
    embedded = published.embed(photo)
    walked, kept = published.analyze_embedded(embedded), anchored.analyze_embedded(embedded)
    with torch.inference_mode():
        maps = [prediction.score("energy").numpy() for prediction in (walked.plain, walked.walked, kept.walked)]
    weights = kept.own_weights.numpy()
    weights = ndimage.zoom(weights, np.divide(labels.shape, weights.shape), order=0)

    objects, _ = ndimage.label(labels == 1)
    largest = np.bincount(objects[objects > 0]).argmax()
    row, column = (round(x) for x in ndimage.center_of_mass(objects == largest))
    shown = tuple(slice(max(at - half, 0), at + half) for at, half in zip((row, column), HALF, strict=True))
    style, (rows, columns) = score_style(maps), shown
    pictures = [
        (maps[0][shown], "Energy, without a walk", style),
        (maps[1][shown], "Published walk", style),
        (maps[2][shown], "Anchored walk", style),
        (weights[shown], "r, weight of a pixel's own value", {"cmap": "viridis", "vmin": 0, "vmax": 1}),
    ]
    center = column - columns.start, row - rows.start
    save_strip(OUT, pictures, lambda axis: axis.add_patch(plt.Circle(center, 45, fill=False, color="#19e5c8")))


if __name__ == "__main__":
    main()
