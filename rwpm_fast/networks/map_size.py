"""Sizes of a network's input and of its embedding map: what a stride gives, and what a preprocessing may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Size = tuple[int, int]


def check_size(size: Sequence[int], argument: str = "size") -> None:
    """Raise ValueError unless a size is a height and a width of 1 or more."""
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ValueError(f"{argument}: expected height and width, 1 or more each, got {tuple(size)}")


def image_size(images: Any) -> Size | None:
    """Return height and width of a model's input [B, C, h, w]; None where it is of another form, such as tokens."""
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] > 4:
        return None
    return images.shape[2], images.shape[3]


def follows(size: Size, map_size: Size, stride: int | Size) -> bool:
    """Whether a map of so many rows and columns covers an input, with one map pixel for every ``stride`` pixels.

    Along a side of n pixels that a stride s does not divide, convolutions and pools give n / s rounded down or up, and
    those that pad by half of an even kernel one more than n / s rounded down, also where s divides n. So both of these
    are right, ``n // s`` and ``n // s + 1``; any other map has lost a border or has one too many.
    """
    strides = (stride, stride) if isinstance(stride, int) else stride
    return all(pixels - side // s in (0, 1) for side, pixels, s in zip(size, map_size, strides, strict=True))


def find_stride(size: Size, embedding_map: Tensor) -> int:
    """Find the stride, the same for both sides, that gives the map of an input.

    Several may, where the map is small: then an exact quotient is taken before a power of two, and this before others.

    Raises:
        ValueError: there is none.
    """
    map_size = (embedding_map.shape[2], embedding_map.shape[3])
    quotient = size[0] / map_size[0]
    fitting = [stride for stride in range(1, max(size) + 1) if follows(size, map_size, stride)]
    if not fitting:
        raise ValueError(
            f"stride: the map of an input {list(size)} is {list(map_size)}, which no one stride gives; see that "
            "the map covers the whole input, give padded_to if the model takes only multiples of a number, or, where "
            "rows and columns differ, stride=(ROWS, COLUMNS)"
        )
    return min(fitting, key=lambda s: (s * map_size[0] != size[0], s & (s - 1) != 0, abs(s - quotient)))


def check_map(size: Size, embedding_map: Tensor, stride: int | Size) -> None:
    """Check that the map of an input covers it.

    Raises:
        ValueError: it does not.
    """
    map_size = (embedding_map.shape[2], embedding_map.shape[3])
    if not follows(size, map_size, stride):
        raise ValueError(
            f"embedding: the map of an input {list(size)} is {list(map_size)}, which no stride {stride} gives, and "
            "scores would be shifted; see that the map covers the whole input, or give attach padded_to or the stride"
        )


def check_area(preprocess: Callable[[Tensor], Any], trial_size: Size, device: torch.device) -> None:
    """Check that a preprocessing shows the model the photo's whole area and nothing else: it may resize, not pad or
    crop. One side of the trial photo is no multiple of anything, so that padding to multiples shows.

    Raises:
        ValueError: it pads or crops.
    """
    for size in (trial_size, (trial_size[0] + 1, trial_size[1] + 1)):
        # A bright rectangle, half as high and wide as the photo, keeps its share of both sides if all is resized.
        photo = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
        top, left = (side // 4 for side in size)
        photo[..., top : size[0] - top, left : size[1] - left] = 255
        try:
            images = preprocess(photo)
        except Exception:  # a preprocessing that takes other sizes only tells so by itself
            continue
        if (found := image_size(images)) is None:
            continue
        channel = images[0, 0].float()
        bright = channel > (channel.min() + channel.max()) / 2
        shown = (bright[:, found[1] // 2].sum().item(), bright[found[0] // 2].sum().item())
        wanted = (pixels * (side - 2 * (side // 4)) / side for pixels, side in zip(found, size, strict=True))
        if any(abs(pixels - share) > 1.5 for pixels, share in zip(shown, wanted, strict=True)):
            raise ValueError(
                f"preprocess: it pads or crops a photo {list(size)} to an input {list(found)}, and scores would be "
                "shifted; leave the size as it is and give padded_to, or resize the whole photo"
            )
