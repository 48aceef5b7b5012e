"""Choose the share of pixels to anchor on data whose figures are not reported.

python -m bench.anchor_share --root OBSTACLE_TRACK --weights dabnet_cityscapes.npz

The data: rendered hold-out scenes, and every other photo of the Obstacle track's validation split. The choice: the
largest share whose mean AP over photos is within a point of the best share's, for both networks, scores and data sets.
The larger the share, the fewer photos lose; the smaller, the more the others gain. The share that this prints is
``rwpm_fast.presets.ANCHOR_SHARE``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from PIL import Image

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.data import Frame, folders, open_dataset
from rwpm_fast.evaluate.paired import TIE
from rwpm_fast.evaluate.runner import sweep
from rwpm_fast.io.console import run_command
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.io.progress import progress
from rwpm_fast.networks import Network
from rwpm_fast.scenes import render_holdout_scene

SUMMARY = "Mean AP over photos, and photos that lose, by the share of pixels to anchor."
SHARES = (0.01, 0.02, 0.03, 0.05, 0.1)
SCORES = ("energy", "max_logit")
MARGIN = 0.01  # of the mean AP, a fraction
FIRST_SEED = 1000  # of the scenes; the demo and the documentation show scenes of small seeds


@dataclass(frozen=True)
class Effect:
    """What a walk does to the photos of a data set.

    Attributes:
        mean_ap: mean AP over photos, a fraction.
        losing: photos whose AP falls.
        worst: lowest change of a photo's AP.
    """

    mean_ap: float
    losing: int
    worst: float


Effects = dict[float, Effect]  # by share; 0 is the published walk


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.anchor_share", description=SUMMARY)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the Obstacle track")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="DABNet's weights")
    parser.add_argument("--scenes", type=int, default=40, metavar="N", help="rendered scenes (default: %(default)s)")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    half = open_dataset("obstacle_track", options.root).frames[::2]
    cells: dict[tuple[str, str, str], Effects] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = {"scenes": render(Path(folder), options.scenes), "half of the Obstacle track": half}
        for network in (networks.load("compact"), networks.load("dabnet", options.weights)):
            for name, frames in data.items():
                for score, effects in measure(network, frames).items():
                    cells[network.name, name, score] = effects
    print(table(cells))
    print(f"\nlargest share within {100 * MARGIN:g} point of the best everywhere: {choose(list(cells.values())):g}")
    return 0


def render(folder: Path, number: int) -> Sequence[Frame]:
    """Render scenes with their labels into a folder."""
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for seed in progress(range(FIRST_SEED, FIRST_SEED + number), "render"):
        photo, labels = render_holdout_scene(seed)
        Image.fromarray(photo).save(folder / "images" / f"{seed}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{seed}.png")
    return folders(folder / "images", folder / "labels").frames


def measure(network: Network, frames: Sequence[Frame]) -> dict[str, Effects]:
    """Score the photos without a walk, with the published one and with every share; by score what each share does."""
    scorers = {"without": Scorer(network)}
    for share in (0.0, *SHARES):
        scorers[str(share)] = Scorer(network, walk=Walk(tolerance=1e-4, anchor_share=share))
    swept = sweep(scorers, frames, scores=SCORES, progress=lambda items: progress(items, network.name))
    if swept.failures:
        raise ValueError(f"photos: {len(swept.failures)} could not be used: {next(iter(swept.failures.values()))}")
    effects: dict[str, Effects] = {}
    for score in SCORES:
        photos = [image.results for image in swept.used if image.results["without", score].positives]
        effects[score] = {}
        for share in (0.0, *SHARES):
            gains = [photo[str(share), score].ap - photo["without", score].ap for photo in photos]
            mean = fmean(photo[str(share), score].ap for photo in photos)
            effects[score][share] = Effect(mean, sum(gain <= -TIE for gain in gains), min(gains))
    return effects


def choose(cells: Sequence[Effects]) -> float:
    """Return the largest share whose mean AP is within ``MARGIN`` of the best share's in every cell."""
    best = [max(effects[share].mean_ap for share in SHARES) for effects in cells]
    near = [
        share
        for share in SHARES
        if all(effects[share].mean_ap >= top - MARGIN for effects, top in zip(cells, best, strict=True))
    ]
    return max(near, default=min(SHARES))


def table(cells: dict[tuple[str, str, str], Effects]) -> str:
    """A line a network, data set and score; a cell a share: mean AP, photos that lose, worst change, in percent."""
    header = ["network", "data", "score", "published walk", *(f"{100 * share:g} %" for share in SHARES)]
    return markdown_table(header, ([*names, *map(_text, effects.values())] for names, effects in cells.items()))


def _text(effect: Effect) -> str:
    return f"{100 * effect.mean_ap:.2f}, {effect.losing}, {100 * effect.worst:+.1f}"


if __name__ == "__main__":
    sys.exit(main())
