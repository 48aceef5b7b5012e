"""Draw before_after.png: one rendered street, its anomaly score without and with the walk.

python docs/images/before_after.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.scenes import render_holdout_scene

OUT = Path(__file__).with_suffix(".png")
SEED = 0


def main() -> None:
    image, labels = render_holdout_scene(SEED)  # [H, W, 3], [H, W]: 1 anomaly, 255 void
    scorer = Scorer(networks.load(), walk=Walk(tolerance=1e-4))
    analysis = scorer.analyze(image)
    with torch.inference_mode():
        maps = [p.score(scorer.score).numpy() for p in (analysis.plain, analysis.walked)]
    low, high = np.percentile(np.stack(maps), (1, 99.9))
    figure, axes = plt.subplots(1, 3, figsize=(12, 2.35), dpi=90)
    panels = [
        (image, "Rendered street, anomalies outlined"),
        (maps[0], "Score, network alone"),
        (maps[1], "Score, walked"),
    ]
    for axis, (panel, title) in zip(axes, panels, strict=True):
        axis.imshow(panel, cmap="inferno", vmin=low, vmax=high)
        axis.contour(labels == 1, [0.5], colors="#19e5c8", linewidths=1)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.subplots_adjust(left=0.003, right=0.997, bottom=0.01, top=0.89, wspace=0.012)
    figure.savefig(OUT)
    plt.close(figure)


if __name__ == "__main__":
    main()
