"""Draw stream_overlay.png: a rendered street, and the picture of it that ``rwpm-fast stream --save-video`` writes.

python docs/images/stream_overlay.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from rwpm_fast import Scorer, Walk, networks, presets
from rwpm_fast.scenes import render_holdout_scene
from rwpm_fast.viz.overlay import Overlay

OUT = Path(__file__).with_suffix(".png")
SEED, SIZE = 2, (216, 384)


def main() -> None:
    photo, _ = render_holdout_scene(SEED, SIZE)
    scorer = Scorer(networks.load("compact"), walk=Walk(anchor_share=presets.ANCHOR_SHARE))
    picture = Overlay()(photo, scorer(photo).score)
    Image.fromarray(np.concatenate([photo, picture], axis=1)).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
