"""Table 6 of the SynBoost appendix: weights of the ensemble by grid search and learned, on photos that tune neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import Frame
from ..scoring.failures import photo_failure
from ..synboost.ensemble import MAPS
from ..synboost.pipeline import SynBoost
from ..synboost.tuning import compare_ensembles, ensemble_maps, tuned_weights
from .plain_table import Cell, PlainTable

# AP and FPR95 in percent, of the validation sets.
PUBLISHED = {
    "fishyscapes_lost_and_found": {"grid search": (55.1, 39.6), "end to end": (59.6, 58.6)},
    "fishyscapes_static": {"grid search": (61.5, 25.6), "end to end": (61.1, 37.3)},
}
SOURCE = "Table 6, whose grid search is tuned on photos that it reports"
NOTES = (
    "Grid search: the lowest FPR95 of 224 vectors. End to end: learned from there by the loss that the network is "
    "trained with, of the network's finished maps; the paper trains both together.",
    "Scores are compared at the size of the dissimilarity network, with labels of the nearest pixel, as the released "
    "code does; benchmarks compare at the size of the photo.",
)
LABELS = {"anomaly": "dissimilarity network alone", "published": "published weights"}

LabeledMaps = tuple[Tensor, Tensor]


def labeled_maps(chain: SynBoost, frame: Frame) -> LabeledMaps:
    """Score a frame for an ensemble's weights.

    Args:
        chain: whose dissimilarity network reads dispersion maps.
        frame: photo and labels.

    Returns:
        maps: [4, h, w] in 0..1, at the size of the dissimilarity network, on the CPU.
        labels: [h, w] uint8, 0 inlier, 1 anomaly, 255 void, of the nearest pixels.

    Raises:
        ImageError: photo or labels cannot be read.
        ValueError: see :meth:`rwpm_fast.synboost.pipeline.SynBoost.__call__`.
    """
    photo, labels = frame.read()
    maps = ensemble_maps(chain(photo)).cpu()
    small = F.interpolate(torch.from_numpy(labels)[None, None], (maps.shape[1], maps.shape[2]), mode="nearest-exact")
    return maps, small[0, 0]


def halves(frames: Sequence[Frame]) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Split frames into those that tune, the first half and the middle one, and those that are reported.

    Neighbors stay together, since in a sequence they show the same obstacles.
    """
    middle = (len(frames) + 1) // 2
    return frames[:middle], frames[middle:]


def ensemble_table(
    chain: SynBoost,
    tuning: Iterable[Frame],
    reported: Mapping[str, Sequence[Frame]],
    *,
    titles: Mapping[str, str] | None = None,
    fpr_rule: str = "fishyscapes",
    progress: Callable[[Iterable[Frame], str], Iterable[Frame]] = lambda frames, title: frames,
    on_image: Callable[[Path, str | None], object] = lambda photo, failure: None,
) -> PlainTable:
    """Tune the weights of an ensemble on some photos, and compare them on others.

    A photo that cannot be used does not stop the others. The maps of all tuning photos are kept in memory, 2 MiB a
    photo at 256 x 512; the grid search sorts their pixels 224 times.

    Args:
        chain: whose dissimilarity network reads dispersion maps.
        tuning: frames that find the weights.
        reported: name of a data set, for its published figures, to the frames that are reported, other than those.
        titles: name of a data set to its title; the name without one.
        fpr_rule: how FPR95 is read off the curve.
        progress: wraps the frames of each split, with its name.
        on_image: called after each photo with its path, and the reason if it failed or None.

    Returns:
        The table: rows of each map alone, of the published weights, of the grid search, and learned end to end.

    Raises:
        ValueError: a photo is in both splits, or the tuning photos have no anomaly or no inlier.
    """
    tuning = list(tuning)
    known = {frame.photo for frame in tuning}
    if both := [frame.photo for frames in reported.values() for frame in frames if frame.photo in known]:
        raise ValueError(f"reported: expected photos that the weights are not tuned on, got {both[0]} in both splits")
    failures: dict[str, str] = {}

    def scored(frames: Iterable[Frame], title: str) -> Iterable[LabeledMaps]:
        for frame in progress(frames, title):
            try:
                maps_and_labels = labeled_maps(chain, frame)
            except Exception as error:
                failures[str(frame.photo)] = photo_failure(error, frame.photo)
                on_image(frame.photo, failures[str(frame.photo)])
            else:
                on_image(frame.photo, None)
                yield maps_and_labels

    weights = tuned_weights(scored(tuning, "tune"), fpr_rule=fpr_rule)
    header = ["data set", "score", *(f"weight {name}" for name in MAPS), "AP", "FPR95", "published AP"]
    rows: list[list[Cell]] = []
    for name, frames in reported.items():
        title = (titles or {}).get(name, name)
        for row in compare_ensembles(weights, scored(frames, title), fpr_rule=fpr_rule):
            label = LABELS.get(row.name, f"{row.name} alone" if row.name in MAPS else row.name)
            figures = [100 * row.result.ap, 100 * row.result.fpr95]
            rows.append([title, label, *row.weights, *figures, *PUBLISHED.get(name, {}).get(row.name, (None, None))])
    return PlainTable(
        "Table 6: weights of the ensemble, tuned on photos that are not reported",
        [*header, "published FPR95"],
        rows,
        source=SOURCE if any(name in PUBLISHED for name in reported) else "",
        notes=NOTES,
        failures=failures,
    )
