"""What bfloat16 costs and saves in SynBoost's dissimilarity network: time of a photo, and AP.

python -m bench.synboost_precision --root ROAD_ANOMALY [--dataset road_anomaly] [--weights FILE --width 64]

The network reads photos at 256 x 512 beside a synthesis that needs no weights: every class in its mean color. Both
precisions judge the same comparison, in turns; the median time of one thread is shown, and AP over all pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from rwpm_fast import Scorer, networks
from rwpm_fast.benchmark import machine
from rwpm_fast.benchmark.record import Provenance, shareable
from rwpm_fast.data import Frame, open_dataset
from rwpm_fast.io.arguments import non_default_args
from rwpm_fast.io.console import run_command
from rwpm_fast.io.markdown import markdown_table
from rwpm_fast.io.progress import progress
from rwpm_fast.metrics import PixelMetrics
from rwpm_fast.scoring.device import set_threads
from rwpm_fast.synboost.dissimilarity import CLASSES, DissimilarityNet
from rwpm_fast.synboost.features import NetworkFeatures
from rwpm_fast.synboost.pipeline import SynBoost

SUMMARY = "Time and AP of SynBoost's dissimilarity network in float32 and in bfloat16."
PRECISIONS = ("float32", "bfloat16")


class MeanColors:
    """A synthesis that paints every class in its mean color."""

    size = (256, 512)

    def __call__(self, class_map: Tensor, photos: Tensor) -> Tensor:
        ids = F.interpolate(class_map[:, None].float(), self.size, mode="nearest-exact").long().clamp(max=CLASSES)
        planes = (ids == torch.arange(CLASSES + 1, device=ids.device).view(-1, 1, 1)).float()  # [B, K + 1, h, w]
        colors = F.interpolate(photos.float(), self.size, mode="area") / 127.5 - 1
        sums = torch.einsum("bkhw,bchw->bkc", planes, colors)
        means = sums / planes.sum((2, 3)).clamp(min=1)[..., None]
        return torch.einsum("bkhw,bkc->bchw", planes, means).clamp(-1, 1)


@dataclass
class Measured:
    """What one precision gave.

    Attributes:
        seconds: of the network, by photo.
        probability: metrics of the network's own map.
        score: metrics of its average with the uncertainty maps.
    """

    seconds: list[float] = field(default_factory=list)
    probability: PixelMetrics = field(default_factory=PixelMetrics)
    score: PixelMetrics = field(default_factory=PixelMetrics)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.synboost_precision", description=SUMMARY)
    add_arguments(parser)
    return run_command(parser, run, arguments)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the data set")
    parser.add_argument("--dataset", default="road_anomaly", help="(default: %(default)s)")
    parser.add_argument("--photos", type=int, default=12, metavar="N", help="the first N (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the network (default: drawn at random)")
    parser.add_argument("--width", type=int, default=64, help="of the network (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads to use (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    if options.root is None:
        raise ValueError("--root: expected the folder of a data set with labels; AP is that of its photos")
    set_threads(options.threads, "--threads")
    frames = open_dataset(options.dataset, options.root).frames[: options.photos]
    torch.manual_seed(0)
    weights = options.weights
    network = DissimilarityNet.load(weights, width=options.width) if weights else DissimilarityNet(width=options.width)
    found = measure(network, frames)
    provenance = Provenance(
        command=shareable(["python", "-m", "bench.synboost_precision", *non_default_args(options, add_arguments)]),
        machine=machine.facts(),
        limits={},
        rounds=len(frames),
    )
    print(f"`{provenance.command}`\n\n{provenance.where}; {provenance.versions}\n\n{table(found)}")
    return 0


def measure(network: DissimilarityNet, frames: Sequence[Frame]) -> dict[str, Measured]:
    """Judge every photo in both precisions. The first photo is judged once more, before, to warm up."""
    segmentation = networks.load("compact")
    pipelines = {
        precision: SynBoost(
            segmentation=Scorer(segmentation),
            synthesis=MeanColors(),
            dissimilarity=network,
            features=NetworkFeatures(segmentation),
            precision=precision,
        )
        for precision in PRECISIONS
    }
    found = {precision: Measured() for precision in PRECISIONS}
    for index, frame in enumerate(progress(frames, "photos")):
        photo, labels = frame.read()
        scorer = pipelines["float32"].segmentation
        comparison = pipelines["float32"].compare(photo, scorer.analyze(photo))
        small = torch.from_numpy(labels)[None, None].float()
        small = F.interpolate(small, comparison.class_map.shape, mode="nearest-exact")[0, 0].byte()
        for precision, pipeline in pipelines.items():
            if not index:
                pipeline.judge(comparison)
            result = pipeline.judge(comparison)
            measured = found[precision]
            measured.seconds.append(result.seconds.dissimilarity)
            measured.probability.update(result.probability.float(), small)
            measured.score.update(result.score, labels)
    return found


def table(found: Mapping[str, Measured]) -> str:
    """A line a precision: seconds, and AP in percent."""
    header = ["precision", "s", "AP of the probability", "AP of the score"]
    return markdown_table(
        header,
        (
            [name, f"{median(m.seconds):.2f}", *(f"{100 * x.compute().ap:.2f}" for x in (m.probability, m.score))]
            for name, m in found.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
