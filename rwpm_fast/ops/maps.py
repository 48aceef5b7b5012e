"""The walk on maps [B, D, H, W]: sub-maps, masks, and values that walk on the graph of other embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..checks import check_integers
from . import pixel_order
from .backends import check_backend
from .functional import split_temperature, walk
from .graph import transition
from .settings import DEFAULTS, WalkSettings
from .validation import check_tensors


def partition_edges(size: int, parts: int) -> list[int]:
    """Cut ``size`` pixels into contiguous runs whose sizes differ by at most one.

    The released code gives every run ``size // parts`` pixels and drops the rest; where ``parts`` divides ``size`` the
    two agree.

    Args:
        size: pixels along one side of a map, >= 0.
        parts: number of runs, from 1 to ``size``.

    Returns:
        Edges of the runs, ``parts + 1`` integers from 0 to ``size``.

    Raises:
        TypeError: ``parts`` is no integer.
        ValueError: ``parts`` < 1, or more parts than pixels.
    """
    check_integers(parts=parts)
    if parts < 1:
        raise ValueError(f"parts: expected 1 or more, got {parts}")
    if parts == 1:  # of a map without pixels too, and no condition on a size that a compiler keeps open
        return [0, size]
    if parts > size:
        raise ValueError(f"parts: expected 1 to {max(size, 1)} for a map side of {size} pixels, got {parts}")
    return [size * k // parts for k in range(parts + 1)]


def walk_map(
    embedding_map: Tensor,
    value_map: Tensor | None = None,
    *,
    parts: int = DEFAULTS.parts,
    mask: Tensor | None = None,
    alpha: float = DEFAULTS.alpha,
    steps: int = DEFAULTS.steps,
    temperature: float | Tensor = DEFAULTS.temperature,
    tolerance: float = DEFAULTS.tolerance,
    anchor: float = DEFAULTS.anchor,
    anchor_share: float = DEFAULTS.anchor_share,
    backend: str = "auto",
) -> Tensor:
    """Walk a map of pixel embeddings, whole or in ``parts`` x ``parts`` contiguous sub-maps (n of the paper).

    Every sub-map is walked by itself. Uneven sizes lose no pixel; sub-maps of equal size are walked as one batch,
    except under ``torch.compile`` and ``torch.export``, which make one graph for all sizes of a map. Masked pixels are
    no part of the graph, so that sky or other irrelevant regions cost no time (comment 3 of the RWPM supplement), and
    keep their values.

    Example:
        >>> walked = rwpm_fast.walk_map(embedding_map, logits)
        >>> exact = rwpm_fast.walk_map(embedding_map, logits, tolerance=0)

    Args:
        embedding_map: [B, D, H, W] or [D, H, W] floating point.
        value_map: [B, C, H, W] or [C, H, W], walked on the graph of the embeddings; the embeddings when None. A linear
            head commutes with the walk: walking its 19 logits equals walking 256 channels and applying the head after.
        parts: n, from 1 to the shorter side.
        mask: [B, H, W] or [H, W] bool, True = valid; all when None.
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0; as a tensor of shape [] it can have a gradient.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk. No value is off by more than
            ``2 * steps * tolerance * max|v|``. See :func:`rwpm_fast.walk`.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor. See :func:`rwpm_fast.walk`.
        anchor_share: share of the pixels of every sub-map to anchor, in [0, 1]; 0: by ``anchor``.
        backend: one of "auto", "cpu", "triton", "cuda", "torch"; see :func:`rwpm_fast.walk`.

    Returns:
        Walked values, [B, C, H, W] or [C, H, W], contiguous. Differentiable as :func:`rwpm_fast.walk` is.

    Raises:
        TypeError: a dtype or type that is not supported.
        ValueError: shapes, devices or settings that do not fit, or more parts than pixels along a side.
        RuntimeError: ``backend`` names kernels that cannot serve; the message says why.
    """
    number, tau = split_temperature(temperature)
    settings = WalkSettings(alpha, steps, number, tolerance, parts, anchor, anchor_share)
    check_tensors(embedding_map=embedding_map, value_map=value_map, mask=mask)
    shape = tuple(embedding_map.shape)
    if len(shape) not in (3, 4):
        raise ValueError(f"embedding_map: expected shape [B, D, H, W] or [D, H, W], got {list(shape)}")
    batch, size = shape[:-3], shape[-2:]
    if value_map is not None and (
        value_map.dim() != len(shape) or value_map.shape[:-3] != batch or value_map.shape[-2:] != size
    ):
        wanted = ", ".join(map(str, (*batch, "C", *size)))
        raise ValueError(
            f"value_map: expected shape [{wanted}] to match embedding_map {list(shape)}, got {list(value_map.shape)}"
        )
    if mask is not None and tuple(mask.shape) != batch + size:
        wanted = ", ".join(map(str, batch + size))
        raise ValueError(
            f"mask: expected shape [{wanted}] to match embedding_map {list(shape)}, got {list(mask.shape)}"
        )
    edges = [partition_edges(side, parts) for side in size]
    options = settings.operator_kwargs() | ({} if tau is None else {"temperature": tau})
    walk_pixels = partial(walk, **options, backend=backend)
    # On a GPU the sparse matrix is smaller if the pixels of a group are close together; the CPU kernels reorder pixels.
    # The order by patches depends on the size, which a compiler keeps open.
    on_gpu = embedding_map.is_cuda or backend == "triton"
    by_patches = tolerance > 0 and on_gpu and not torch.compiler.is_compiling()
    if batch:
        return walk_blocks(walk_pixels, embedding_map, value_map, mask, *edges, by_patches=by_patches)
    value_map, mask = (None if map_ is None else map_[None] for map_ in (value_map, mask))
    return walk_blocks(walk_pixels, embedding_map[None], value_map, mask, *edges, by_patches=by_patches)[0]


def walk_blocks(
    walk_pixels: Callable[..., Tensor],
    embedding_map: Tensor,
    value_map: Tensor | None,
    mask: Tensor | None,
    rows: list[int],
    columns: list[int],
    *,
    by_patches: bool = False,
) -> Tensor:
    """Cut maps at edges, walk every sub-map by itself, and join the results. Nothing is checked.

    Args:
        walk_pixels: function from embeddings [M, N, D], values [M, N, C] or None for the embeddings, and ``mask``
            [M, N] bool or None to walked values [M, N, C].
        embedding_map: [B, D, H, W].
        value_map: [B, C, H, W] or None.
        mask: [B, H, W] bool or None.
        rows: increasing edges of the sub-maps from 0 to H; see :func:`partition_edges`.
        columns: increasing edges of the sub-maps from 0 to W.
        by_patches: pass the pixels of a sub-map patch by patch instead of row by row; see
            :mod:`rwpm_fast.ops.pixel_order`.

    Returns:
        Walked values, [B, C, H, W], contiguous.
    """
    to_pixels, to_map = (pixel_order.to_pixels, pixel_order.to_map) if by_patches else (_by_rows, _from_rows)
    blocks = [(top, bottom, left, right) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]

    def pixels(map_: Tensor, where: list[int]) -> Tensor:  # -> [len(where) * B, h * w, channels]
        flat = [to_pixels(map_[..., top:bottom, left:right]) for top, bottom, left, right in (blocks[k] for k in where)]
        return flat[0] if len(flat) == 1 else torch.cat(flat)

    source = embedding_map if value_map is None else value_map
    result: Tensor | None = None
    for where in _alike(blocks):
        values = None if value_map is None else pixels(value_map, where)
        valid = None if mask is None else pixels(mask[:, None], where).squeeze(2)
        walked = walk_pixels(pixels(embedding_map, where), values, mask=valid)
        top, bottom, left, right = blocks[where[0]]
        walked = to_map(walked, bottom - top, right - left).unflatten(0, (len(where), len(source)))
        if result is None:
            result = walked.new_empty(source.shape)
        for k, part in zip(where, walked, strict=True):  # part: [B, C, h, w]
            top, bottom, left, right = blocks[k]
            result[..., top:bottom, left:right] = part
    assert result is not None  # edges enclose at least one sub-map
    return result


def _alike(blocks: list[tuple[int, int, int, int]]) -> list[list[int]]:
    """Numbers of the sub-maps, those of equal size together.

    Under a compiler each is alone: sizes may be symbols there, for one graph for all of them, and to ask whether two
    are equal would fix them.
    """
    open_sizes = torch.compiler.is_compiling() or any(isinstance(edge, torch.SymInt) for edge in blocks[-1])
    groups = defaultdict(list)
    for k, (top, bottom, left, right) in enumerate(blocks):
        groups[k if open_sizes else (bottom - top, right - left)].append(k)
    return list(groups.values())


def _by_rows(map_: Tensor) -> Tensor:
    return map_.flatten(2).transpose(1, 2)


def _from_rows(pixels: Tensor, height: int, width: int) -> Tensor:
    return pixels.transpose(1, 2).unflatten(2, (height, width))


class Walk(nn.Module):
    """A module that walks maps by :func:`rwpm_fast.walk_map`, to put between a network and its head.

    Example:
        >>> scorer = Scorer(networks.load("compact"), walk=Walk(steps=20))
        >>> exact = scorer.with_walk(Walk(steps=20, tolerance=0))

    Args:
        alpha: continuing probability, in [0, 1].
        steps: number of transitions, >= 0.
        temperature: softmax temperature tau > 0; a parameter, ``nn.Parameter(torch.tensor(0.02))``, can be trained.
        parts: n of the paper: the map is cut into n x n sub-maps; 1: uncut.
        tolerance: mass that a row of S may drop, in [0, 1); 0: the exact walk. No value is off by more than
            ``2 * steps * tolerance * max|v|``. See :func:`rwpm_fast.walk`.
        anchor: cosine of a pixel with its own value; -1 or lower: no anchor. See :func:`rwpm_fast.walk`.
        anchor_share: share of the pixels of every sub-map to anchor, in [0, 1]; 0: by ``anchor``.
        backend: one of "auto", "cpu", "triton", "cuda", "torch"; see :func:`rwpm_fast.walk`.

    Attributes:
        settings: of the walk, as :class:`rwpm_fast.ops.settings.WalkSettings`.
        temperature: as given.
        backend: name of the backend.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a setting is out of its range, or there is no such backend.
    """

    def __init__(
        self,
        alpha: float = DEFAULTS.alpha,
        steps: int = DEFAULTS.steps,
        temperature: float | Tensor = DEFAULTS.temperature,
        *,
        parts: int = DEFAULTS.parts,
        tolerance: float = DEFAULTS.tolerance,
        anchor: float = DEFAULTS.anchor,
        anchor_share: float = DEFAULTS.anchor_share,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_backend(backend)
        number, tau = split_temperature(temperature)
        self._settings = WalkSettings(alpha, steps, number, tolerance, parts, anchor, anchor_share)
        if tau is None or isinstance(tau, nn.Parameter):
            self.temperature = temperature
        else:
            self.register_buffer("temperature", tau)
        self.backend = backend

    @property
    def settings(self) -> WalkSettings:
        if isinstance(self.temperature, Tensor):
            return replace(self._settings, temperature=self.temperature.item())
        return self._settings

    @property
    def parts(self) -> int:
        """n of the paper, as in ``settings``."""
        return self._settings.parts

    def forward(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Walk a map; see :func:`rwpm_fast.walk_map`.

        Args:
            embedding_map: [B, D, H, W] or [D, H, W].
            value_map: [B, C, H, W] or [C, H, W]; the embeddings when None.
            mask: [B, H, W] or [H, W] bool, True = valid; all when None.

        Returns:
            Walked values, [B, C, H, W] or [C, H, W].
        """
        return walk_map(
            embedding_map,
            value_map,
            parts=self.parts,
            mask=mask,
            **(self._settings.operator_kwargs() | {"temperature": self.temperature}),
            backend=self.backend,
        )

    def own_weights(self, embedding_map: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the weight r of every pixel's own value in the anchored walk; see :meth:`Transition.own_weights`.

        It builds the graphs again, so it takes about as long as the walk.

        Args:
            embedding_map: [B, D, H, W].
            mask: [B, H, W] bool, True = valid; all when None.

        Returns:
            r: [B, H, W] float32 in [0, 1]: 1 for a pixel that is no part of the graph, 0 for others without an anchor.
        """
        s = self.settings

        def of_pixels(embeddings: Tensor, values: Tensor | None, mask: Tensor | None) -> Tensor:
            masks = [None] * len(embeddings) if mask is None else mask
            graphs = [
                transition(e, mask=m, temperature=s.temperature, tolerance=s.tolerance)
                for e, m in zip(embeddings, masks, strict=True)
            ]
            return torch.stack([g.own_weights(anchor=s.anchor, anchor_share=s.anchor_share) for g in graphs])[..., None]

        edges = (partition_edges(side, s.parts) for side in embedding_map.shape[-2:])
        return walk_blocks(of_pixels, embedding_map, embedding_map[:, :1].float(), mask, *edges)[:, 0]

    def extra_repr(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.as_dict().items())
        return f"{settings}, backend={self.backend!r}"
