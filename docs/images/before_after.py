"""Draw before_after.png: one rendered street, its anomaly score without and with the walk.

python docs/images/before_after.py
"""

from pathlib import Path

import torch
from strip import save_strip, score_style

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
    style = score_style(maps)
    pictures = [
        (image, "Rendered street, anomalies outlined", {}),
        (maps[0], "Score, network alone", style),
        (maps[1], "Score, walked", style),
    ]
    save_strip(OUT, pictures, lambda axis: axis.contour(labels == 1, [0.5], colors="#19e5c8", linewidths=1))


if __name__ == "__main__":
    main()
