"""Register ``torch.ops.rwpm.score_map``: class logits to an anomaly score and a segmentation in the photo's size.

Compiled, it goes over the photo once: logits are enlarged a row at a time and never stored in full, which takes a tenth
of the time of the separate steps. Elsewhere it is those steps, in plain torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import scores
from . import library

SCORES = ("energy", "max_logit", "max_softmax", "entropy")  # that the operator computes

_SCHEMA = (
    "score_map(Tensor logits, SymInt height, SymInt width, SymInt enlarged_height, SymInt enlarged_width, *, "
    'bool align_corners=False, str score="energy") -> (Tensor, Tensor)'
)


def score_map(
    logits: Tensor,
    size: tuple[int, int],
    enlarged_size: tuple[int, int],
    *,
    align_corners: bool = False,
    score: str = "energy",
) -> tuple[Tensor, Tensor]:
    """Enlarge class logits by bilinear interpolation, and compute a score and the segmentation of the result.

    Args:
        logits: [K, h, w] float32, K up to 256, finite: where one is not, the score is NaN.
        size: H and W.
        enlarged_size: height and width to which the whole map is enlarged, at least ``size``; what is beyond ``size``
            is padding, and cut off.
        align_corners: how the interpolation places the corners.
        score: one of :data:`SCORES`.

    Returns:
        Score [H, W] float32 as of :mod:`rwpm_fast.scores`, within rounding; and index of the likeliest class [H, W]
        uint8, the first of equal ones.

    Raises:
        RuntimeError: another shape or dtype, sizes that do not fit, or another score.

    Example:
        >>> score, segmentation = score_map(logits, (720, 1280), (720, 1280))
    """
    return torch.ops.rwpm.score_map.default(logits, *size, *enlarged_size, align_corners=align_corners, score=score)


def _score_map_torch(
    logits: Tensor,
    height: int,
    width: int,
    enlarged_height: int,
    enlarged_width: int,
    *,
    align_corners: bool = False,
    score: str = "energy",
) -> tuple[Tensor, Tensor]:
    enlarged = (enlarged_height, enlarged_width)
    full = F.interpolate(logits[None], enlarged, mode="bilinear", align_corners=align_corners)[0, :, :height, :width]
    return scores.get(score)(full).contiguous(), full.max(0).indices.to(torch.uint8)


def _score_map_fake(
    logits: Tensor,
    height: int,
    width: int,
    enlarged_height: int,
    enlarged_width: int,
    *,
    align_corners: bool = False,
    score: str = "energy",
) -> tuple[Tensor, Tensor]:
    return logits.new_empty((height, width)), logits.new_empty((height, width), dtype=torch.uint8)


library.unsupported_reason()  # loads the compiled operators, which define the schema
_compiled = hasattr(torch.ops.rwpm, "score_map")
if not _compiled or not torch._C._dispatch_has_kernel_for_dispatch_key(
    "rwpm::score_map", "CompositeExplicitAutograd"
):  # another copy of the package may have registered it
    _LIBRARY = torch.library.Library("rwpm", "FRAGMENT")
    if not _compiled:
        _LIBRARY.define(_SCHEMA)
    _LIBRARY.impl("score_map", _score_map_torch, "CompositeExplicitAutograd")
    torch.library.register_fake("rwpm::score_map", _score_map_fake, lib=_LIBRARY)
