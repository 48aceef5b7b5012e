"""Draw tightening.png: the figure of `rwpm-fast figure tighten` of a rendered street.

python docs/images/tightening.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from rwpm_fast.cli import main
from rwpm_fast.scenes import render_holdout_scene

OUT = Path(__file__).with_suffix(".png")
SEED = 0


def draw() -> None:
    image, _ = render_holdout_scene(SEED)  # [H, W, 3]
    with TemporaryDirectory() as folder:
        photo = Path(folder) / "rendered street.png"
        Image.fromarray(image).save(photo)
        figure = photo.with_name("figure.png")
        main(["figure", "tighten", str(photo), "--class", "road", "--out", str(figure)])
        Image.open(figure).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(OUT, optimize=True)


if __name__ == "__main__":
    draw()
