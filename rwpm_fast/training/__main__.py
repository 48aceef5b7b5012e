"""Train the compact network.

``python -m rwpm_fast.training --photos DIR ... --teacher dabnet.npz --out FILE``
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .. import networks
from ..io.console import run_command
from ..io.extras import require_extras
from ..io.files import make_folder_of
from ..io.images import find_images
from ..io.outputs import check_outputs
from ..networks.compact import WEIGHTS, CompactNet
from .loop import train
from .samples import Sample, scene_samples, teacher_samples

SUMMARY = (
    "Train the compact network: distill a teacher on photos, with ground truth on rendered scenes, for a fixed time."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, or 2 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m rwpm_fast.training", description=SUMMARY)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR", help="folders of photos")
    parser.add_argument("--teacher", type=Path, required=True, metavar="NPZ", help="DABNet's weights")
    parser.add_argument("--scenes", type=int, default=140, help="rendered scenes (default: %(default)s)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to start from (default: none)")
    parser.add_argument("--minutes", type=float, default=60, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="crops per step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and crops (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FILE", help="npz file (default: the package's)")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    """Train as the options say; returns 0."""
    require_extras("training", "PIL.Image")
    # --start is no input here: training may go on from the weights that it replaces.
    check_outputs([("--out", options.out)], [*find_images(options.photos), options.teacher], "give another file")
    make_folder_of(options.out, "--out")
    log = partial(print, file=sys.stderr, flush=True)
    teacher = networks.load("dabnet", options.teacher)
    photos = teacher_samples(teacher, options.photos, log=log)
    scenes = scene_samples(options.scenes, np.random.default_rng(options.seed), log=log)
    samples: list[Sample] = [*photos, *scenes]
    log(f"{len(samples)} samples")
    torch.manual_seed(options.seed)
    network = CompactNet() if options.start is None else CompactNet.load(options.start)
    train(network, samples, options.minutes, batch_size=options.batch, seed=options.seed, out=options.out, log=log)
    return 0


if __name__ == "__main__":
    sys.exit(main())
