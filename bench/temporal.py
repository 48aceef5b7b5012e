"""Compare what the walks do to maps along rendered drives with what a blur of the same map does.

python -m bench.temporal
python -m bench.temporal --network dabnet --weights dabnet_cityscapes.npz

Averaging makes any map steadier. The blurs say how much of it comes so cheaply, and what it costs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from rwpm_fast import Scorer, Walk, networks, presets
from rwpm_fast.io.console import run_command
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.io.progress import progress
from rwpm_fast.metrics import PixelMetrics, StreamingAccuracy, TemporalConsistency, one_worker
from rwpm_fast.networks import Network
from rwpm_fast.scenes import render_drive
from rwpm_fast.scenes.post_process import gaussian_blur

SUMMARY = "Steadiness and accuracy of energy along rendered drives: without a walk, walked, and blurred."
BLURS = (2, 4, 6)  # standard deviations in pixels
RATE = 12.0  # frames per second


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.temporal", description=SUMMARY)
    parser.add_argument("--network", default="compact", help="which network (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its weights")
    parser.add_argument("--drives", type=int, default=6, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=16, metavar="N", help="of each (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"), help="of the frames")
    parser.add_argument("--cost", type=float, default=0.15, help="seconds that a frame takes (default: %(default)s)")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    network = networks.load(options.network, options.weights)
    rows = measure(network, options.drives, options.frames, tuple(options.size), options.cost)
    header = ["map", "change", "correlation", "mask IoU", "AP", "FPR95", "AP, streaming", "FPR95, streaming"]
    print(markdown_table(header, rows))
    return 0


def measure(network: Network, drives: int, frames: int, size: tuple[int, int], cost: float) -> Iterator[list[str]]:
    """Yield the row of each kind of map, once all drives are scored."""
    scorers = {
        "without a walk": Scorer(network, "energy"),
        "published walk": Scorer(network, "energy", Walk(tolerance=1e-4)),
        "anchored walk": Scorer(network, "energy", Walk(tolerance=1e-4, anchor_share=presets.ANCHOR_SHARE)),
    }
    kinds = [*scorers, *(f"without a walk, blurred by {sigma} pixels" for sigma in BLURS)]
    steady = {kind: TemporalConsistency() for kind in kinds}
    instant = {kind: PixelMetrics() for kind in kinds}
    late = {kind: StreamingAccuracy() for kind in kinds}
    latencies = one_worker([index / RATE for index in range(frames)], [cost] * frames)
    for seed in progress(range(drives), "temporal", "drive"):
        for kind in kinds:
            steady[kind].start()
            late[kind].start()
        for frame in render_drive(seed, frames, size, rate=RATE):
            latency = latencies[frame.index]
            for kind, scores in zip(kinds, _maps(scorers, frame.photo), strict=True):
                steady[kind].update(scores, frame.flow, frame.occluded)
                instant[kind].update(scores, frame.labels)
                late[kind].update(frame.seconds, None if latency is None else scores, latency, frame.labels)
    for kind in kinds:
        consistency, now, later = steady[kind].compute(), instant[kind].compute(), late[kind].compute().pixels
        cells = [f"{value:.3f}" for value in (consistency.change, consistency.correlation, consistency.iou)]
        yield [kind, *cells, *(f"{100 * value:.2f}" for value in (now.ap, now.fpr95, later.ap, later.fpr95))]


@torch.inference_mode()
def _maps(scorers: dict[str, Scorer], photo: np.ndarray) -> list[np.ndarray]:
    """Return the energy of every scorer, and that of the first blurred."""
    embedded = next(iter(scorers.values())).embed(photo)
    maps = [scorer.analyze_embedded(embedded).walked.score("energy").numpy() for scorer in scorers.values()]
    return maps + [gaussian_blur(gaussian_blur(maps[0], sigma, 0), sigma, 1) for sigma in BLURS]


if __name__ == "__main__":
    sys.exit(main())
