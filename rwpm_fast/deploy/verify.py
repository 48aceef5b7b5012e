"""Compare an export with eager torch before it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks import MaskLogits, Network
from ..scoring.scorer import Scorer
from .errors import ExportError, reason_of
from .photos import MIN_SIDE
from .runners import Runner

MAX_DIFFERING_CLASSES = 1e-3  # share of pixels: where two classes are as good as equal, rounding decides


@dataclass(frozen=True)
class Comparison:
    """An export against eager torch on one photo.

    Attributes:
        size: height and width of the photo.
        error: largest difference of the scores, relative to the largest of eager's.
        differing_classes: share of pixels whose class is another.
    """

    size: tuple[int, int]
    error: float
    differing_classes: float


def check_logits(network: Network, photo: np.ndarray) -> None:
    """Check what a network gives, which a trace would not tell in words of this package.

    Args:
        network: in evaluation mode, on the CPU.
        photo: [H, W, 3] uint8.

    Raises:
        ExportError: it fails, or gives no logits [1, K, h, w] of its K classes, or no ``MaskLogits`` of a mask head.
    """
    expected = f"module: expected logits [1, {len(network.classes)}, h, w] of {network.name}"
    try:
        with torch.no_grad():
            given: object = network(network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None]))
    except Exception as error:  # of any kind: it is a user's network
        size = f"{photo.shape[1]}x{photo.shape[0]}"
        raise ExportError(f"module: {network.name} fails on a photo of {size}: {reason_of(error)}") from error
    if network.mask_head:
        if not isinstance(given, MaskLogits):
            raise ExportError(f"module: expected MaskLogits of {network.name}, got {type(given).__name__}")
        return
    if not isinstance(given, Tensor):
        raise ExportError(f"{expected}, got {type(given).__name__}")
    if given.dim() != 4 or given.shape[1] != len(network.classes) or not given.is_floating_point():
        raise ExportError(f"{expected}, got {list(given.shape)} {str(given.dtype).removeprefix('torch.')}")


def compare(runner: Runner, scorer: Scorer, photo: np.ndarray) -> Comparison:
    """Run a photo by an export and by eager torch.

    Args:
        runner: of the export.
        scorer: that was exported.
        photo: [H, W, 3] uint8.

    Raises:
        ExportError: the outputs are of another shape or type, or the export's score is not finite.
    """
    wanted = scorer(photo)
    score, segmentation = runner.run(photo)
    size = (photo.shape[0], photo.shape[1])
    expected = wanted.score.cpu().numpy()
    for name, found, dtype in (("score", score, np.float32), ("segmentation", segmentation, np.uint8)):
        if found.shape != size or found.dtype != dtype:
            kind = np.dtype(dtype).name
            raise ExportError(f"{name}: expected {list(size)} {kind}, got {list(found.shape)} {found.dtype}")
    if not np.isfinite(score).all():
        raise ExportError(f"score: not finite at {int((~np.isfinite(score)).sum())} of {score.size} pixels")
    error = relative_error(score, expected)
    differing = float((segmentation != wanted.segmentation.cpu().numpy()).mean())
    return Comparison(size, error, differing)


def relative_error(score: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of two score maps, relative to the largest magnitude of the second."""
    return float(np.abs(score - expected).max()) / (float(np.abs(expected).max()) or 1.0)


def verify(
    runner: Runner, scorer: Scorer, photos: Iterable[np.ndarray], *, tolerance: float, name: str
) -> list[Comparison]:
    """Compare an export with eager torch on photos of several sizes.

    Args:
        runner: of the export.
        scorer: that was exported.
        photos: [H, W, 3] uint8 each; see :func:`sizes_of`.
        tolerance: largest error allowed; see :attr:`Comparison.error`.
        name: of the export, for the error.

    Raises:
        ExportError: it differs by more; the message says at which size and by how much.
    """
    comparisons = []
    for photo in photos:
        found = compare(runner, scorer, photo)
        height, width = found.size
        if not found.error <= tolerance or found.differing_classes > MAX_DIFFERING_CLASSES:
            raise ExportError(
                f"{name}: differs from eager torch at {width}x{height}: score by {found.error:.1e} of its largest "
                f"(allowed: {tolerance:.0e}), class at {found.differing_classes:.2%} of the pixels (allowed: "
                f"{MAX_DIFFERING_CLASSES:.2%}); it is not kept"
            )
        comparisons.append(found)
    return comparisons


def sizes_of(photo: np.ndarray, min_side: int = MIN_SIDE) -> list[np.ndarray]:
    """Cut a photo to the sizes that an export is tried at: its own, odd sides, and one below half of it.

    Pooling rounds odd sides, and networks reduce large photos: both are branches on the size.

    Args:
        photo: [H, W, 3] uint8.
        min_side: of the photos that the export takes, in pixels.

    Raises:
        ValueError: a side of less than 128 pixels, or of not more than ``min_side``.
    """
    height, width = photo.shape[:2]
    least = max(128, min_side + 2)
    if min(height, width) < least:
        raise ValueError(
            f"photo: expected sides of at least {least} pixels, to cut it smaller, got {list(photo.shape)}"
        )
    odd = photo[: height - 1 - height % 2, : width - 1 - width % 2]
    small = photo[: max(min_side, height * 2 // 5), : max(min_side, width * 2 // 5)]
    return [photo, odd, small]
