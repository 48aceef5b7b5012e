"""Labels to train the dissimilarity network with, from Cityscapes ground truth: swapped instances and void regions.

Label ids are those of the files ``*_gtFine_labelIds.png``, 0 to 33; 19 of them have a train id.

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021), whose data generator has
the two sources; Detecting the Unexpected via Image Resynthesis (Lis et al., ICCV 2019), which has the first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..data.frames import ANOMALY, INLIER, VOID, LabelValues, count_values
from ..io.arrays import as_array
from ..io.text import listed

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of train ids 0 to 18
NUM_LABEL_IDS = 34

# The classes that a swapped instance may get, as often as they are drawn: road, person and car more than the others.
SWAP_IDS = (*[7] * 3, 8, 11, 12, 13, 20, 21, 22, *[24] * 3, 25, *[26] * 7, 27, 28, 32, 33)
EQUAL_SWAP_IDS = tuple(sorted(set(SWAP_IDS)))
INSTANCE_IDS = range(24_000, 34_000)  # 1000 times the class plus a number; a smaller id is no single object

ANOMALOUS_IDS = (0, 4, 5, 29, 30)  # unlabeled, static, dynamic, caravan, trailer
IGNORED_IDS = (1, 2, 3)  # ego vehicle, rectification border, out of region of interest


def train_ids(label_map: Any) -> np.ndarray:
    """Convert label ids to train ids.

    Args:
        label_map: [H, W] integer array or tensor, Cityscapes label ids, 0 to 33.

    Returns:
        [H, W] uint8, 0 to 18, and 255 where the label id has no train id.

    Raises:
        TypeError: not integers.
        ValueError: an id beyond 0 to 33.

    Example:
        >>> train_ids(np.array([[7, 5, 33]])).tolist()
        [[0, 255, 18]]
    """
    label_map = _checked_ids("label_map", label_map)
    if unknown := sorted(set(count_values(label_map)) - set(range(NUM_LABEL_IDS))):
        raise ValueError(f"label_map: expected Cityscapes label ids from 0 to 33, got {listed(unknown)}")
    table = np.full(NUM_LABEL_IDS, VOID, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table[label_map]


def swap_instances(
    label_map: Any,
    instances: Any,
    rng: np.random.Generator,
    *,
    new_ids: Sequence[int] = SWAP_IDS,
    anomalous: Collection[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Give some objects another class: a synthesis of the result differs from the photo there.

    Of N objects, floor(U N) with U uniform in [0, 1) are altered, so never all. Each gets a class drawn from
    ``new_ids`` without its own one. The synthesis is made of the altered map, with the edges of the instances as they
    were.

    Source: the training data of Lis et al.; number of objects and list of classes are those that SynBoost's
    code has.

    Args:
        label_map: [H, W] integer array or tensor, Cityscapes label ids.
        instances: [H, W] integer array or tensor, Cityscapes instance ids; objects are those from 24000 to 33999.
        rng: source of the objects and of their classes; equal states give equal results.
        new_ids: label ids to draw from; one that is there k times is k times as likely. ``EQUAL_SWAP_IDS`` has every
            class once.
        anomalous: label ids whose pixels are labeled 1 as well, (5,) for dynamic objects.

    Returns:
        label_map: [H, W], the altered label ids, a copy in the dtype of the argument.
        labels: [H, W] uint8, 1 where altered, 0 elsewhere.

    Raises:
        TypeError: not integers.
        ValueError: shapes differ, an object has pixels of another class than its id tells, or ``new_ids`` has no class
            but an object's own one, or one that the label map's dtype cannot hold.

    Example:
        >>> label_map = np.array([[7, 26, 26, 24]])
        >>> instances = np.array([[7, 26000, 26001, 24000]])
        >>> altered, labels = swap_instances(label_map, instances, np.random.default_rng(1))
        >>> bool(((altered != label_map) == (labels == 1)).all())
        True
    """
    label_map, instances = _checked_ids("label_map", label_map), _checked_ids("instances", instances)
    if instances.shape != label_map.shape:
        raise ValueError(
            f"instances: expected the shape {list(label_map.shape)} of label_map, got {list(instances.shape)}"
        )
    ids, inverse = np.unique(instances.astype(np.int64), return_inverse=True)
    inverse = inverse.reshape(instances.shape)  # NumPy 1 returns it flat
    is_object = (ids >= INSTANCE_IDS.start) & (ids < INSTANCE_IDS.stop)
    objects, old = np.flatnonzero(is_object), np.where(is_object, ids // 1000, -1)
    _check_classes(label_map, instances, old[inverse])
    choices = {known: _other_ids(new_ids, known, label_map.dtype) for known in np.unique(old[objects]).tolist()}

    chosen = rng.choice(objects, int(rng.random() * len(objects)), replace=False)
    new = np.full(len(ids), -1)
    for index in chosen:
        new[index] = rng.choice(choices[int(old[index])])
    new_map = new[inverse]
    altered = np.where(new_map >= 0, new_map, label_map).astype(label_map.dtype)
    labels = (new_map >= 0) | np.isin(label_map, list(anomalous))
    return altered, labels.astype(np.uint8)


def void_labels(
    label_map: Any, *, anomalous: Collection[int] = ANOMALOUS_IDS, ignored: Collection[int] = IGNORED_IDS
) -> np.ndarray:
    """Label what belongs to no training class as an anomaly; semantics and synthesis are then a network's prediction.

    Which void ids count is not settled by paper and released code. The defaults are a choice of this package: state
    them with results.

    Args:
        label_map: [H, W] integer array or tensor, Cityscapes label ids.
        anomalous: label ids that are labeled 1: unlabeled, static, dynamic, caravan and trailer.
        ignored: label ids that are labeled 255: ego vehicle, rectification border, out of region of interest. A value
            that is no label id may be named here too.

    Returns:
        labels: [H, W] uint8: 0, 1 or 255.

    Raises:
        TypeError: not integers.
        ValueError: an id is in both sets, or the map has one beyond 0 to 33 that is in neither.

    Example:
        >>> void_labels(np.array([[7, 5, 1]])).tolist()
        [[0, 1, 255]]
    """
    label_map = _checked_ids("label_map", label_map)
    if both := set(anomalous) & set(ignored):
        raise ValueError(f"ignored: expected label ids that are not anomalous too, got {sorted(both)} in both")
    inlier = set(range(NUM_LABEL_IDS)) - set(anomalous) - set(ignored)
    try:
        return LabelValues.from_values(anomaly=anomalous, inlier=inlier, void=ignored).map(label_map)
    except ValueError as error:
        raise ValueError(f"label_map: {error} (name other values in ignored)") from error


def class_weights(labels: Iterable[Any]) -> tuple[float, float]:
    """Compute the weights of inliers and anomalies in the loss, 1 / ln(1.02 + f), f their share of the labeled pixels.

    Every pixel of every map is counted, but for those labeled 255.

    Source: ENet (Paszke et al., 2016), by way of Lis et al. and SynBoost's released code.

    Args:
        labels: [H, W] of all training photos, integer or bool arrays or tensors: 0, 1, and 255 where
            ignored. They are taken one at a time.

    Returns:
        Weights of label 0 and label 1: from 1.42, of a label that all pixels have, to 50.5, of one that none has.

    Raises:
        TypeError: not integers or bool.
        ValueError: another label, or no labeled pixel.

    Example:
        >>> [round(weight, 2) for weight in class_weights([np.array([[0, 0, 0, 1, 255]])])]
        [1.75, 4.18]
    """
    pixels = {INLIER: 0, ANOMALY: 0, VOID: 0}
    for index, photo in enumerate(labels):
        for value, count in count_values(_checked_ids("labels", photo, kinds="iub")).items():
            if value not in pixels:
                raise ValueError(f"labels: expected 0, 1 and 255, got {value} in photo {index}")
            pixels[value] += count
    labeled = pixels[INLIER] + pixels[ANOMALY]
    if not labeled:
        raise ValueError(f"labels: expected pixels labeled 0 or 1, got none among {pixels[VOID]} pixels")
    inlier, anomaly = (1 / math.log(1.02 + pixels[label] / labeled) for label in (INLIER, ANOMALY))
    return inlier, anomaly


def _checked_ids(name: str, ids: Any, kinds: str = "iu") -> np.ndarray:
    """Convert a map of ids to an array, or raise TypeError unless it holds one of some kinds of integers."""
    ids = as_array(name, ids)
    if ids.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected integers, got {ids.dtype}")
    return ids


def _check_classes(label_map: np.ndarray, instances: np.ndarray, old: np.ndarray) -> None:
    """Raise ValueError where an object's pixels have another class than its id tells: maps of two photos?

    Args:
        label_map: [H, W] label ids.
        instances: [H, W] instance ids.
        old: [H, W] classes of the instance ids, -1 outside of objects.
    """
    wrong = (old >= 0) & (old != label_map)
    if wrong.any():
        raise ValueError(
            f"label_map: expected class {old[wrong][0]} where instances are {instances[wrong][0]}, got "
            f"{label_map[wrong][0]}; {wrong.sum()} pixels disagree (are both maps of one photo, in label ids?)"
        )


def _other_ids(new_ids: Sequence[int], old: int, dtype: np.dtype) -> list[int]:
    """Return the label ids that an object of a class may get."""
    other = [new for new in new_ids if new != old]
    limits = np.iinfo(dtype)
    if not other or min(other) < 0 or max(other) > limits.max:
        raise ValueError(
            f"new_ids: expected label ids from 0 to {limits.max}, at least one of them not {old}, got {list(new_ids)}"
        )
    return other
