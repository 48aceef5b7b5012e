"""What is walked in a benchmark: embeddings of a map, synthetic or a network's own, and values at the same pixels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.maps import partition_edges
from ..ops.settings import OPERATOR_DEFAULTS, WalkSettings
from ..products import exact_products

DTYPES = {"float16": torch.float16, "float32": torch.float32}

# Maps of the paper's networks, their sub-maps n, and channels that are walked: pixel embeddings, Mask2Former's mask
# logits, class logits. RbA at 720p (padded) and at 1024x2048 with its width halved, DeepLab at stride 2.
PAPER = (
    ((184, 320), (1, 2, 4, 8), (256, 100, 19)),
    ((256, 512), (1, 2), (256, 100, 19)),
    ((512, 1024), (1, 4), (19,)),
)
PAPER_STEPS = (20, 5)  # T of RoadAnomaly, and of the rest; the released code makes T + 1 transitions


@dataclass(frozen=True)
class Problem:
    """The tensors of a case: embeddings [B, P, D] and values [B, P, C] of its B sub-maps, contiguous."""

    case: Case
    embeddings: Tensor
    values: Tensor

    @property
    def settings(self) -> dict[str, Any]:
        """The exact walk's settings, as keyword arguments."""
        settings = self.case.settings
        return {"alpha": settings.alpha, "steps": settings.steps, "temperature": settings.temperature}

    def to(self, dtype: torch.dtype) -> Problem:
        """The same in another dtype."""
        return replace(self, embeddings=self.embeddings.to(dtype), values=self.values.to(dtype))

    def each(self, walk: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """``walk`` of the embeddings [P, D] and values [P, C] of every sub-map by itself: [B, P, C]."""
        return torch.stack([walk(e, v) for e, v in zip(self.embeddings, self.values, strict=True)])


@dataclass(frozen=True)
class Case:
    """A map to walk on a device: always the same numbers for the same case.

    Args:
        height: pixels of a column of the map.
        width: pixels of a row; N = height * width >= 2.
        channels: D of the embeddings.
        value_channels: C of the values, which a fixed random linear head makes of the embeddings.
        settings: of the exact walk; ``parts``, n of the paper, must divide height and width.
        source: .npz with ``embedding`` [D, H, W], enlarged bilinearly where it is not height x width; synthetic
            embeddings when None.
        smooth: synthetic embeddings are :func:`smooth_manifolds`, not :func:`manifolds`.
        seed: of the synthetic embeddings and of the head.
        dtype: of embeddings and values, a name of :data:`DTYPES`.
        device: torch's name of the device.

    Raises:
        TypeError, ValueError: a size or setting out of its range.
    """

    height: int
    width: int
    channels: int = 256
    value_channels: int = 19
    settings: WalkSettings = OPERATOR_DEFAULTS
    source: Path | None = None
    smooth: bool = False
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "value_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.pixels < 2:
            raise ValueError(f"height, width: expected 2 or more pixels, got {self.height}x{self.width}")
        if self.settings.tolerance:
            raise ValueError(f"settings: expected tolerance 0, since contenders set it, got {self.settings.tolerance}")
        for side in (self.height, self.width):
            partition_edges(side, self.parts)
            if side % self.parts:
                raise ValueError(f"parts: expected a divisor of {self.height} and {self.width}, got {self.parts}")
        if self.part_pixels < 2:
            raise ValueError(f"parts: expected sub-maps of 2 or more pixels, got {self.part_pixels}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")

    @classmethod
    def from_file(cls, source: Path, enlarged: tuple[int, int] | None = None, **facts: Any) -> Case:
        """The case of embeddings in a file, at their own size or ``enlarged`` to (height, width).

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no ``embedding`` [D, H, W].
        """
        channels, *shape = _read(source).shape
        height, width = enlarged or shape
        return cls(height, width, channels, source=source, **facts)

    @property
    def parts(self) -> int:
        """n: the map is cut into n x n sub-maps."""
        return self.settings.parts

    @property
    def steps(self) -> int:
        """T, the number of transitions."""
        return self.settings.steps

    @property
    def pixels(self) -> int:
        """N, pixels of the map."""
        return self.height * self.width

    @property
    def part_pixels(self) -> int:
        """P, pixels of a sub-map."""
        return self.pixels // self.parts**2

    @property
    def pairs(self) -> int:
        """Ordered pairs of pixels that a transition goes over, those of a pixel with itself among them."""
        return self.pixels * self.part_pixels

    @property
    def name(self) -> str:
        """What it is made of, in words."""
        if self.source is not None:
            return self.source.stem
        return "smooth manifolds" if self.smooth else "synthetic manifolds"

    def title(self) -> str:
        """All of it on one line."""
        s = self.settings
        return (
            f"{self.name}, {self.height}x{self.width}: N = {self.pixels}, D = {self.channels}, "
            f"C = {self.value_channels}, T = {s.steps}, tau = {s.temperature:g}, alpha = {s.alpha:g}, "
            f"{'uncut' if s.parts == 1 else f'n = {s.parts}'}, {self.dtype}"
        )

    def to_json(self) -> dict[str, Any]:
        """For a record: no folder of this machine in it."""
        facts = asdict(self)
        settings = facts.pop("settings")
        del settings["tolerance"]
        source = None if self.source is None else self.source.name
        described = {"pixels": self.pixels, "name": self.name, "title": self.title()}
        return facts | settings | {"source": source} | described

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Case:
        """The case of a record; what records before format 2 lack has its default."""
        settings = {name: facts[name] for name in ("alpha", "steps", "temperature")}
        sizes = {name: facts[name] for name in ("height", "width", "channels", "value_channels")}
        later = {name: facts[name] for name in ("seed", "dtype", "device") if name in facts}
        return cls(
            **sizes,
            **later,
            settings=WalkSettings(**settings, parts=facts.get("parts", 1)),
            source=None if facts.get("source") is None else Path(facts["source"]),
            smooth=facts.get("smooth", facts.get("name") == "smooth manifolds"),
        )

    def with_steps(self, steps: int) -> Case:
        """The same with another number of transitions."""
        return replace(self, settings=replace(self.settings, steps=steps))

    def small(self) -> Case:
        """A synthetic map of at most 32x32 pixels, 128x128 on a GPU, and one transition, all else alike: to warm up and
        to estimate."""
        side = max(2, (32 if torch.device(self.device).type == "cpu" else 128) // self.parts)  # of a sub-map
        height, width = self.height // self.parts, self.width // self.parts
        height = min(height, side**2 // min(width, side))
        width = min(width, side**2 // height)
        small = replace(self, height=self.parts * height, width=self.parts * width, source=None)
        return small.with_steps(min(1, self.steps))

    def problem(self) -> Problem:
        """Make the tensors, pixels of a sub-map row by row."""
        if self.source is not None:
            map_ = torch.from_numpy(_read(self.source)).float()  # [D, H, W]
            if map_.shape[1:] != (self.height, self.width):
                map_ = F.interpolate(map_[None], (self.height, self.width), mode="bilinear", align_corners=False)[0]
            embeddings = map_.flatten(1).T.contiguous()
        elif self.smooth:
            embeddings = smooth_manifolds(self.height, self.width, self.channels, self.seed)
        else:
            embeddings = manifolds(self.pixels, self.channels, self.seed)
        # Any linear map of the embeddings is as good for timing as a trained head, and as smooth on the graph.
        random = torch.Generator().manual_seed(self.seed + 1)
        head = torch.randn(self.channels, self.value_channels, generator=random, dtype=torch.float64)
        values = embeddings.double() @ head / self.channels**0.5
        order, dtype = self._order(), DTYPES[self.dtype]
        return Problem(self, *(p[order].to(self.device, dtype) for p in (embeddings, values.float())))

    def _order(self) -> Tensor:
        """Index [n * n, P] of the pixels of every sub-map."""
        index = torch.arange(self.pixels).view(self.height, self.width)
        rows, columns = (list(pairwise(partition_edges(side, self.parts))) for side in index.shape)
        return torch.stack([index[top:bottom, left:right].flatten() for top, bottom in rows for left, right in columns])

    def to_map(self, pixels: Tensor) -> Tensor:
        """The map [1, C, H, W], as a network gives it, of sub-maps' pixels [n * n, P, C]."""
        back = self._order().flatten().argsort().to(pixels.device)
        return pixels.flatten(0, 1)[back].T.reshape(1, -1, self.height, self.width).contiguous()

    def from_map(self, map_: Tensor) -> Tensor:
        """The inverse of :meth:`to_map`."""
        return map_[0].flatten(1).T[self._order().to(map_.device)]


def paper_cases(**facts: Any) -> Iterator[Case]:
    """Every size, n, width and T of the paper, the widest and longest walk of a size first.

    Args:
        facts: of :class:`Case`; of ``settings`` all but n and T is kept.
    """
    settings = facts.pop("settings", OPERATOR_DEFAULTS)
    for shape, every, channels in PAPER:
        for parts in every:
            for width in channels:
                for steps in PAPER_STEPS:
                    walk = replace(settings, parts=parts, steps=steps)
                    yield Case(*shape, value_channels=width, settings=walk, **facts)


def manifolds(pixels: int, channels: int, seed: int = 0) -> Tensor:
    """Synthetic embeddings [N, D]: 40 directions, each pixel between two of them, with noise."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(40, channels, generator=random)
    kind = torch.randint(40, (2, pixels), generator=random)
    along = torch.rand(pixels, 1, generator=random) * 0.4
    clean = (1 - along) * directions[kind[0]] + along * directions[kind[1]]
    return clean + 0.5 * torch.randn(pixels, channels, generator=random)


@exact_products  # the same map whatever the process allows
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
    what = "expected an .npz with `embedding` [D, H, W]"
    try:
        with np.load(source, allow_pickle=False) as arrays:
            embedding = arrays["embedding"]
    # IndexError: the file is one array; EOFError: it is empty.
    except (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source}: {what}: {error}") from error
    if embedding.ndim != 3 or embedding.dtype.kind != "f":
        raise ValueError(f"{source}: {what}, got {list(embedding.shape)} of {embedding.dtype}")
    if not np.isfinite(embedding).all():
        raise ValueError(f"{source}: expected finite embeddings, for the peers know no masked pixels")
    return embedding
