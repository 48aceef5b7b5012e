"""Draw synboost.png: a rendered street, its synthesis, and SynBoost's scores without and with the walk.

python docs/images/synboost.py
"""

from pathlib import Path

import torch
from strip import save_strip

from rwpm_fast import Scorer, Walk, networks, synboost
from rwpm_fast.scenes import render_holdout_scene

OUT = Path(__file__).with_suffix(".png")
SEED = 5  # of a scene that no training saw


def main() -> None:
    photo, _ = render_holdout_scene(SEED, size=(512, 1024))
    chain = synboost.load("synboost", Scorer(networks.load()))
    scorer = synboost.SynBoostScorer(chain, walk=Walk(tolerance=1e-4), walk_values="score")
    analysis = scorer.analyze(photo)
    with torch.inference_mode():
        plain, walked = (prediction.score("synboost").numpy() for prediction in (analysis.plain, analysis.walked))
    comparison = chain.compare(photo, chain.segmentation.analyze(photo))
    style = {"cmap": "inferno", "vmin": 0, "vmax": 1}
    pictures = [
        (photo, "Photo", {}),
        (comparison.synthesis.permute(1, 2, 0).numpy(), "Synthesis of its segmentation", {}),
        (plain, "SynBoost", style),
        (walked, "SynBoost, score walked", style),
    ]
    save_strip(OUT, pictures, lambda axis: None)


if __name__ == "__main__":
    main()
