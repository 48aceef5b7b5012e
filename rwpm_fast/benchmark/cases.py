"""What is walked in a benchmark: embeddings of a map, synthetic or a network's own, and values beside them."""

from __future__ import annotations

import math
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.settings import DEFAULTS, check_settings


@dataclass(frozen=True)
class Problem:
    """A case's tensors: embeddings [N, D] and values [N, C], float32, contiguous."""

    case: Case
    embeddings: Tensor
    values: Tensor

    @property
    def settings(self) -> dict[str, Any]:
        """The walk's settings, as keyword arguments."""
        return {"alpha": self.case.alpha, "steps": self.case.steps, "temperature": self.case.temperature}


@dataclass(frozen=True)
class Case:
    """A map to walk: always the same numbers for the same case.

    Args:
        height, width: pixels of the map, N = height * width >= 2.
        channels: D of the embeddings.
        value_channels: C of the values, which a fixed random linear head makes of the embeddings.
        alpha, steps, temperature: as of :func:`rwpm_fast.walk`.
        source: .npz with ``embedding`` [D, H, W], enlarged bilinearly where it is not height x width; synthetic
            manifolds when None.
        seed: of the synthetic embeddings and of the head.

    Raises:
        TypeError, ValueError: a size or setting out of its range.
    """

    height: int
    width: int
    channels: int = 256
    value_channels: int = 19
    alpha: float = DEFAULTS.alpha
    steps: int = 20
    temperature: float = DEFAULTS.temperature
    source: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "value_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.pixels < 2:
            raise ValueError(f"height, width: expected 2 or more pixels, got {self.height}x{self.width}")
        check_settings(self.alpha, self.steps, self.temperature)

    @classmethod
    def of_file(cls, source: Path, enlarged: tuple[int, int] | None = None, **settings: Any) -> Case:
        """The case of embeddings in a file, at their own size or ``enlarged`` to (height, width).

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no ``embedding`` [D, H, W].
        """
        channels, *shape = _read(source).shape
        height, width = enlarged or shape
        return cls(height, width, channels, source=source, **settings)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def name(self) -> str:
        """What it is made of, in words."""
        return "synthetic manifolds" if self.source is None else self.source.stem

    def title(self) -> str:
        """All of it on one line."""
        return (
            f"{self.name}, {self.height}x{self.width}: N = {self.pixels}, D = {self.channels}, "
            f"C = {self.value_channels}, T = {self.steps}, tau = {self.temperature:g}, alpha = {self.alpha:g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a record: no folder of this machine in it."""
        source = None if self.source is None else self.source.name
        return asdict(self) | {"source": source, "pixels": self.pixels, "name": self.name, "title": self.title()}

    def small(self) -> Case:
        """A synthetic map of at most 32x32 pixels and one transition, all else alike: to warm up and to estimate."""
        side = min(32, math.isqrt(self.pixels))
        height, width = (side, side) if side > 1 else (1, 2)
        return replace(self, height=height, width=width, steps=min(1, self.steps), source=None)

    def synthetic(self) -> Tensor:
        """Embeddings [N, D] where no file gives them."""
        return manifolds(self.pixels, self.channels, self.seed)

    def problem(self) -> Problem:
        """Make the tensors."""
        if self.source is None:
            embeddings = self.synthetic()
        else:
            map_ = torch.from_numpy(_read(self.source)).float()  # [D, H, W]
            if map_.shape[1:] != (self.height, self.width):
                map_ = F.interpolate(map_[None], (self.height, self.width), mode="bilinear", align_corners=False)[0]
            embeddings = map_.flatten(1).T.contiguous()
        # Any linear map of the embeddings is as good for timing as a trained head, and as smooth on the graph.
        random = torch.Generator().manual_seed(self.seed + 1)
        head = torch.randn(self.channels, self.value_channels, generator=random, dtype=torch.float64)
        values = embeddings.double() @ head / self.channels**0.5
        return Problem(self, embeddings, values.float())


def manifolds(pixels: int, channels: int, seed: int = 0) -> Tensor:
    """Synthetic embeddings [N, D]: 40 directions, each pixel between two of them, with noise."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(40, channels, generator=random)
    kind = torch.randint(40, (2, pixels), generator=random)
    along = torch.rand(pixels, 1, generator=random) * 0.4
    clean = (1 - along) * directions[kind[0]] + along * directions[kind[1]]
    return clean + 0.5 * torch.randn(pixels, channels, generator=random)


def smooth_manifolds(height: int, width: int, channels: int, seed: int = 0) -> Tensor:
    """Synthetic embeddings [N, D] of a map as a network would give: 32 kinds in regions with blurred borders, that
    drift within a region, with noise.

    The scales follow the map's height, so that a larger map is the same scene seen finer. At tau = 0.01 the pairs that
    a row keeps lie between those of two photos with DABNet: at 90x160 some 170 to 200 have a weight of 1e-6 and more,
    in the mean, against 142 and 292.
    """
    random = torch.Generator().manual_seed(seed)

    def field(count: int, patches: int) -> Tensor:  # [count, H, W], with so many independent patches along the height
        sides = [max(2, round(side * patches / height) + 1) for side in (height, width)]
        coarse = torch.randn(1, count, *sides, generator=random)
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]

    kind = field(32, 8).argmax(0)  # [H, W]
    centers = torch.randn(32, channels, generator=random)
    axes = torch.randn(24, channels, generator=random) / 24**0.5
    clean = centers[kind] + 0.5 * field(24, 30).permute(1, 2, 0) @ axes  # [H, W, D]
    clean = F.avg_pool2d(clean.permute(2, 0, 1)[None], 3, 1, 1, count_include_pad=False)[0].flatten(1).T
    return (clean + 0.2 * torch.randn(height * width, channels, generator=random)).contiguous()


def map_shape(pixels: int) -> tuple[int, int]:
    """Height and width of a map of so many pixels, as nearly square as they divide.

    Raises:
        ValueError: fewer than 2 pixels.
    """
    if pixels < 2:
        raise ValueError(f"pixels: expected 2 or more, got {pixels}")
    height = next(h for h in range(math.isqrt(pixels), 0, -1) if pixels % h == 0)
    return height, pixels // height


def _read(source: Path) -> np.ndarray:  # [D, H, W]
    wanted = "expected an .npz with `embedding` [D, H, W]"
    try:
        with np.load(source, allow_pickle=False) as arrays:
            embedding = arrays["embedding"]
    # IndexError: the file is one array; EOFError: it is empty.
    except (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source}: {wanted}: {error}") from error
    if embedding.ndim != 3 or embedding.dtype.kind != "f":
        raise ValueError(f"{source}: {wanted}, got {list(embedding.shape)} of {embedding.dtype}")
    if not np.isfinite(embedding).all():
        raise ValueError(f"{source}: expected finite embeddings, for the peers know no masked pixels")
    return embedding
