"""Make the weights of the compact network: ``python -m training --photos DIR ... --teacher dabnet.npz --out FILE``.

Takes a teacher's word on photos and the truth on rendered scenes, and trains for so many minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from rwpm_fast import networks
from rwpm_fast.networks.compact import WEIGHTS, CompactNet

from .loop import train
from .scenes import render
from .teacher import look


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR", help="folders of photos")
    parser.add_argument("--teacher", type=Path, required=True, metavar="NPZ", help="DABNet's weights")
    parser.add_argument("--scenes", type=int, default=140, help="rendered scenes (default: %(default)s)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to go on from (default: none)")
    parser.add_argument("--minutes", type=float, default=60, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="crops of a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FILE", help="npz file (default: the package's)")
    options = parser.parse_args(arguments)

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    teacher = networks.load("dabnet", options.teacher)
    lessons = look(teacher, options.photos, note=note)
    lessons += render(options.scenes, np.random.default_rng(options.seed), note=note)
    note(f"{len(lessons)} lessons")
    torch.manual_seed(options.seed)
    network = CompactNet() if options.start is None else networks.load("compact", options.start)
    train(network, lessons, options.minutes, batch=options.batch, seed=options.seed, out=options.out, note=note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
