"""Compare a network with its teacher: ``python -m rwpm_fast.training.agreement --help``."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import networks
from ..io.console import run_command
from ..io.extras import require_extras
from ..io.files import make_folder_of, write_json
from ..io.images import find_images, read_image
from ..io.outputs import check_outputs
from ..io.progress import progress
from ..networks import Network
from ..scoring.scorer import Scorer

SUMMARY = "Count the pixels of photos by the classes that a network and its teacher give them, without a walk."


@dataclass(frozen=True, eq=False)
class Agreement:
    """Confusion matrix of a network and its teacher.

    Attributes:
        classes: K names.
        counts: [K, K] int64, pixels by the teacher's class (row) and the network's (column).
    """

    classes: tuple[str, ...]
    counts: np.ndarray

    @property
    def share(self) -> float:
        """Share of the pixels that both give the same class, in [0, 1]."""
        return float(self.counts.trace() / self.counts.sum())

    @property
    def teacher(self) -> np.ndarray:
        """Share of the pixels that the teacher gives to each class, [K] in [0, 1]."""
        return self.counts.sum(1) / self.counts.sum()

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, [K] in [0, 1]; NaN for a class that neither network gives."""
        both = self.counts.diagonal()
        either = self.counts.sum(0) + self.counts.sum(1) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def compare(network: Network, teacher: Network, photos: list[Path]) -> Agreement:
    """Segment photos with both networks and count pixels by class.

    Args:
        network: compared with the teacher.
        teacher: with the same classes.
        photos: files.

    Raises:
        ValueError: the networks have different classes.
        ImageError: a photo that cannot be read.
    """
    if network.classes != teacher.classes:
        raise ValueError(
            f"network: expected the {len(teacher.classes)} classes of the teacher {teacher.name}, "
            f"got {len(network.classes)} other ones of {network.name}"
        )
    size = len(teacher.classes)
    counts = np.zeros((size, size), np.int64)
    scorers = [Scorer(segmenter, walk=None) for segmenter in (teacher, network)]
    for path in progress(photos, "compare"):
        photo = read_image(path, upright=True)
        row, column = (scorer(photo).segmentation.numpy() for scorer in scorers)  # [H, W] each
        counts += np.bincount((row * size + column).ravel(), minlength=size**2).reshape(size, size)
    return Agreement(teacher.classes, counts)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0, or 2 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m rwpm_fast.training.agreement", description=SUMMARY)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="PATH", help="photos, or folders")
    parser.add_argument("--teacher", type=Path, required=True, metavar="NPZ", help="DABNet's weights")
    parser.add_argument("--network", default="compact", help="network to compare (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its weights (default: the package's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and all counts there")
    return run_command(parser, run, arguments)


def run(options: argparse.Namespace) -> int:
    """Compare two networks, print a table and write the JSON file that the options name; returns 0."""
    require_extras("agreement", "PIL.Image")
    photos = find_images(options.photos)
    if options.json is not None:
        inputs = [*photos, options.teacher, options.weights]
        check_outputs([("--json", options.json)], inputs, "give another file")
        make_folder_of(options.json, "--json")
    teacher = networks.load("dabnet", options.teacher)
    agreement = compare(networks.load(options.network, options.weights), teacher, photos)
    rows = list(zip(agreement.classes, agreement.teacher.tolist(), agreement.iou.tolist(), strict=True))
    if options.json:
        by_class = {name: {"teacher": s, "iou": iou} for name, s, iou in rows}
        figures = {"photos": len(photos), "share": agreement.share, "classes": by_class}
        write_json(options.json, figures | {"counts": agreement.counts.tolist()})
    print(f"{len(photos)} photos, the same class at {agreement.share:.1%} of the pixels")
    print(f"{'class':<14}{'teacher':>9}{'IoU':>7}")
    for name, share, iou in rows:
        print(f"{name:<14}{share:>9.2%}{'-' if math.isnan(iou) else f'{iou:.2f}':>7}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
