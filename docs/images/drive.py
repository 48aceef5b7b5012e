"""Draw two frames of a rendered drive, and the first one warped to where the second shows its points.

python docs/images/drive.py
"""

from itertools import islice
from pathlib import Path

import numpy as np
from strip import save_strip

from rwpm_fast.metrics import warp
from rwpm_fast.scenes import render_drive

OUT = Path(__file__).with_suffix(".png")
SEED, FRAMES, SECOND = 2, 24, 21


def main() -> None:
    drive = render_drive(SEED, FRAMES, (256, 368), speed=12.0)
    before, frame = islice(drive, SECOND - 1, SECOND + 1)
    warped = warp(before.photo.astype(np.float32), frame.flow)
    warped[frame.occluded] = 0
    pictures = [
        (before.photo, f"Frame {before.index}", {}),
        (frame.photo, f"Frame {frame.index}", {}),
        (warped.round().astype(np.uint8), f"Frame {before.index} warped, occluded pixels black", {}),
        (np.hypot(*np.moveaxis(frame.flow, -1, 0)), "Length of the motion, 0 to 20 pixels", {"vmin": 0, "vmax": 20}),
    ]
    save_strip(OUT, pictures, lambda axis: None)


if __name__ == "__main__":
    main()
