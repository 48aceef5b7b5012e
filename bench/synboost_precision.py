"""What bfloat16, channels-last memory and torch.compile cost and save in SynBoost's dissimilarity network: time of a
photo, and AP.

python -m bench.synboost_precision --root ROAD_ANOMALY [--dataset road_anomaly] [--weights FILE --width 64]

The network reads photos at 256 x 512 beside a synthesis that needs no weights: every class in its mean color. All
variants judge the same comparison, in turns; the median time is shown, and AP over all pixels. Compilation, for which
Inductor needs a C++ compiler, is part of no time.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

SUMMARY = "Time and AP of SynBoost's dissimilarity network by precision, memory format and compiler."


@dataclass(frozen=True)
class Variant:
    """A way to run the network.

    Attributes:
        precision: of :class:`~rwpm_fast.synboost.pipeline.SynBoost`, which runs bfloat16 in channels-last memory.
        channels_last: lay out the weights of convolutions channels-last, by which their results are too.
        compiled: by torch.compile with its default, Inductor.
    """

    precision: str
    channels_last: bool = False
    compiled: bool = False

    def prepare(self, network: DissimilarityNet) -> nn.Module:
        """Return the network as it runs; the one given stays as it is."""
        if self.channels_last:
            network = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return torch.compile(network) if self.compiled else network


VARIANTS = {
    "float32": Variant("float32"),
    "float32, channels-last": Variant("float32", channels_last=True),
    "bfloat16": Variant("bfloat16"),
    "float32, channels-last, compiled": Variant("float32", channels_last=True, compiled=True),
    "bfloat16, compiled": Variant("bfloat16", compiled=True),
}


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
    """What one variant gave.

    Attributes:
        seconds: of the network, by photo and round.
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
    parser.add_argument("--rounds", type=int, default=1, help="turns for each photo (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the network (default: drawn at random)")
    parser.add_argument("--width", type=int, default=64, help="of the network (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads to use (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    if options.root is None:
        raise ValueError("--root: expected the folder of a data set with labels; AP is that of its photos")
    for name, count in (("--photos", options.photos), ("--rounds", options.rounds)):
        if count < 1:
            raise ValueError(f"{name}: expected 1 or more, got {count}")
    set_threads(options.threads, "--threads")
    frames = open_dataset(options.dataset, options.root).frames[: options.photos]
    torch.manual_seed(0)
    weights = options.weights
    network = DissimilarityNet.load(weights, width=options.width) if weights else DissimilarityNet(width=options.width)
    found = measure(network, frames, rounds=options.rounds)
    provenance = Provenance(
        command=shareable(["python", "-m", "bench.synboost_precision", *non_default_args(options, add_arguments)]),
        machine=machine.facts(),
        limits={},
        rounds=options.rounds,
    )
    print(f"`{provenance.command}`\n\n{provenance.where}; {provenance.versions}\n\n{table(found)}")
    return 0


def measure(network: DissimilarityNet, frames: Sequence[Frame], *, rounds: int = 1) -> dict[str, Measured]:
    """Judge every photo in all variants. The first photo is judged once more, before, to compile and warm up."""
    segmentation = networks.load("compact")
    scorer, features = Scorer(segmentation), NetworkFeatures(segmentation)
    pipelines = {
        name: SynBoost(
            segmentation=scorer,
            synthesis=MeanColors(),
            dissimilarity=variant.prepare(network),
            features=features,
            precision=variant.precision,
        )
        for name, variant in VARIANTS.items()
    }
    found = {name: Measured() for name in VARIANTS}
    for index, frame in enumerate(progress(frames, "photos")):
        photo, labels = frame.read()
        comparison = next(iter(pipelines.values())).compare(photo, scorer.analyze(photo))
        small = torch.from_numpy(labels)[None, None].float()
        small = F.interpolate(small, comparison.class_map.shape, mode="nearest-exact")[0, 0].byte()
        if not index:
            for pipeline in pipelines.values():
                pipeline.judge(comparison)
        for turn in range(rounds):
            for name, pipeline in pipelines.items():
                result = pipeline.judge(comparison)
                measured = found[name]
                measured.seconds.append(result.seconds.dissimilarity)
                if not turn:
                    measured.probability.update(result.probability.float(), small)
                    measured.score.update(result.score, labels)
    return found


def table(found: Mapping[str, Measured]) -> str:
    """A line a variant: seconds, and AP in percent."""
    header = ["variant", "s", "AP of the probability", "AP of the score"]
    return markdown_table(
        header,
        (
            [name, f"{median(m.seconds):.2f}", *(f"{100 * x.compute().ap:.2f}" for x in (m.probability, m.score))]
            for name, m in found.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
