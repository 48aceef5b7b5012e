"""Any torch segmentation model as a ``Network``, by forward hooks on two of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from .base import Network
from .probe import Trial, describe


def attach(
    model: nn.Module,
    embedding: str,
    head: str,
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stride: int | None = None,
    linear_head: bool | None = None,
    align_corners: bool = False,
    classes: Sequence[str] | None = None,
    trial_size: tuple[int, int] = (128, 192),
) -> Attached:
    """Make a model a network whose pixels can walk between two of its modules.

    One pass over a trial photo of noise shows whether the modules fit: that both are called once, that the embedding
    is a map, that the head reads just that map, and gives logits. The model's own ``forward`` stays as it is.

    Args:
        model: called with the preprocessed photos alone; put into evaluation mode. What it returns does not matter.
        embedding: path of the module whose output is the embedding map [B, D, h, w], as in ``model.named_modules()``.
            The map covers the whole photo.
        head: path of the module that turns the map into logits [B, K, h, w], called with the map alone.
        preprocess: RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the model's input; or give
        mean, std: of RGB in 0..1, three numbers each, subtracted and divided by. ImageNet's are (0.485, 0.456, 0.406)
            and (0.229, 0.224, 0.225).
        stride: photo pixels per side of a map pixel; found by the trial pass when None.
        linear_head: whether the head is linear for each pixel by itself, so that a walk may act on its logits; found by
            mixing the trial map's pixels before and after the head when None.
        align_corners: how the model brings logits to the photo's size.
        classes: names of the K classes; "class 0" and so on when None.
        trial_size: height and width of the trial photo, for models that take no other.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: no preprocessing or two, a path that names no module (the message lists close names and layers that
            give maps), a pass that fails, or modules that do not fit.

    Example:
        >>> model = torchvision.models.segmentation.deeplabv3_resnet50(weights="DEFAULT")
        >>> mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        >>> network = attach(model, embedding="classifier.3", head="classifier.4", mean=mean, std=std)
        >>> Scorer(network, walk=Walk(steps=20))(photo).score  # [H, W]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    network = Attached(model.eval(), embedding, head, _preprocessing(preprocess, mean, std), align_corners)

    generator = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (1, 3, *trial_size), dtype=torch.uint8, generator=generator)
    weight = next(model.parameters(), torch.empty(0))
    trial = Trial(model, network.preprocess(photo.to(weight.device)), embedding, head)
    logits = _apply_alone(trial, network.model.get_submodule(head))

    network.stride = _stride(trial_size, trial.map) if stride is None else stride
    network.linear_head = (
        _commutes(network.model.get_submodule(head), trial.map) if linear_head is None else linear_head
    )
    count = logits.shape[1]
    network.classes = tuple(f"class {k}" for k in range(count)) if classes is None else tuple(classes)
    if len(network.classes) != count:
        raise ValueError(f"classes: expected {count} names for the {count} logits of {head!r}, got {len(classes)}")
    return network


class Attached(Network):
    """A model with an embedding map and a head found in it by ``attach``.

    Embedding map and logits are at least float32 whatever the model runs in, so that a walk is not rounded to it.
    """

    def __init__(
        self,
        model: nn.Module,
        embedding: str,
        head: str,
        preprocess: Callable[[Tensor], Tensor] | tuple[Sequence[float], Sequence[float]],
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.name = type(model).__name__
        self.model = model
        self.embedding_path = embedding
        self.head_path = head
        self.align_corners = align_corners
        self._preprocess = preprocess

    def preprocess(self, photos: Tensor) -> Tensor:
        if callable(self._preprocess):
            return self._preprocess(photos)
        dtype = next((p.dtype for p in self.model.parameters()), torch.float32)
        mean, std = (torch.tensor(values, device=photos.device).view(3, 1, 1) for values in self._preprocess)
        return ((photos.to(mean.dtype) / 255 - mean) / std).to(dtype)

    def embed(self, images: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found.append(output)
            raise _Reached

        handle = self.model.get_submodule(self.embedding_path).register_forward_hook(stop)
        try:
            self.model(images)
        except _Reached:
            return _at_least_float32(found[0])
        finally:
            handle.remove()
        raise RuntimeError(f"embedding: {self.embedding_path!r} was not called in this pass, as it was in the trial's")

    def head(self, embedding_map: Tensor) -> Tensor:
        head = self.model.get_submodule(self.head_path)
        dtype = next((p.dtype for p in head.parameters()), embedding_map.dtype)
        return _at_least_float32(head(embedding_map.to(dtype)))

    @contextmanager
    def walked(self, walk: Callable[..., Tensor]) -> Iterator[nn.Module]:
        """While the block runs, the model's own ``forward`` classifies walked pixels.

        The head gets the walked map, or, where it is linear, its logits walk, which is the same and cheaper. Other
        readers of the map see it as it was. Gradients flow through the walked values, not through the graph.

        Args:
            walk: ``rwpm_fast.Walk`` or alike.

        Yields:
            The model.

        Example:
            >>> with network.walked(Walk(steps=20)) as model:
            ...     segmentation = model(images)["out"].argmax(1)
        """
        head = self.model.get_submodule(self.head_path)
        if self.linear_head:
            handle = head.register_forward_hook(lambda _, inputs, logits: _walked(walk, inputs[0], logits))
        else:
            handle = head.register_forward_pre_hook(lambda _, inputs: _walked(walk, inputs[0], inputs[0]))
        try:
            yield self.model
        finally:
            handle.remove()


class _Reached(BaseException):
    """Leaves a model's forward once the embedding map is there; no error, so that no ``except Exception`` holds it."""


def _walked(walk: Callable[..., Tensor], embedding_map: Tensor, values: Tensor) -> Tensor:
    graph = _at_least_float32(embedding_map.detach())  # only values have a gradient
    return walk(graph, value_map=_at_least_float32(values)).to(values.dtype)


def _at_least_float32(map_: Tensor) -> Tensor:
    return map_.to(torch.promote_types(map_.dtype, torch.float32))


def _preprocessing(
    preprocess: Callable[[Tensor], Tensor] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Tensor], Tensor] | tuple[Sequence[float], Sequence[float]]:
    if (preprocess is None) == (mean is None and std is None):
        raise ValueError(
            "preprocess: expected either a callable or mean and std, got "
            f"{'neither' if preprocess is None else 'both'}; ImageNet's are mean=(0.485, 0.456, 0.406), "
            "std=(0.229, 0.224, 0.225)"
        )
    if preprocess is not None:
        if not callable(preprocess):
            raise TypeError(f"preprocess: expected a callable, got {type(preprocess).__name__}")
        return preprocess
    for name, values in (("mean", mean), ("std", std)):
        if values is None or len(values) != 3 or (name == "std" and min(values) <= 0):
            raise ValueError(f"{name}: expected three {'positive ' * (name == 'std')}numbers, got {values}")
    return mean, std


def _apply_alone(trial: Trial, head: nn.Module) -> Tensor:
    """Logits of the head called with the map alone, which must be those of the model's own pass."""
    try:
        with torch.no_grad():
            logits = head(trial.map)
    except Exception as error:
        raise ValueError(
            f"head: {trial.head!r} cannot be called with the map {describe(trial.map)} alone ({error})"
        ) from error
    same = isinstance(logits, Tensor) and logits.shape == trial.logits.shape
    if not (same and torch.allclose(logits, trial.logits, rtol=1e-3, atol=1e-3, equal_nan=True)):
        raise ValueError(
            f"head: {trial.head!r} called with the map {describe(trial.map)} alone gives {describe(logits)}, and not "
            f"what it gives in the model's own pass, {describe(trial.logits)}"
        )
    return logits


def _stride(size: tuple[int, int], embedding_map: Tensor) -> int:
    map_size = tuple(embedding_map.shape[-2:])
    stride = round(size[0] / map_size[0])
    if tuple(-(-side // max(stride, 1)) for side in size) != map_size:
        raise ValueError(
            f"stride: the map of a photo {list(size)} is {list(map_size)}, which no one stride gives; give stride, and "
            "see that the map covers the photo without padding"
        )
    return stride


def _commutes(head: nn.Module, embedding_map: Tensor) -> bool:
    """Whether mixing pixels before a head is mixing them after it, as for a linear head of each pixel by itself."""
    generator = torch.Generator().manual_seed(0)
    map_ = embedding_map.to("cpu", torch.float64)
    wide = 3 * map_.abs().max().clamp(min=1) * torch.randn(map_.shape, generator=generator, dtype=map_.dtype)
    order = torch.randperm(map_.shape[-2:].numel(), generator=generator)

    def mix(pixels: Tensor) -> Tensor:
        return (0.7 * pixels.flatten(2) + 0.3 * pixels.flatten(2)[..., order]).view_as(pixels)

    def commutes(pixels: Tensor) -> bool:
        logits = head(pixels)
        if logits.shape[-2:] != pixels.shape[-2:]:
            return False
        return bool((head(mix(pixels)) - mix(logits)).abs().max() <= 1e-9 * logits.abs().max())

    try:
        # In float64, where rounding cannot pass for a bend. A head that cannot run there counts as bent: walking the
        # map is right for every head.
        head = deepcopy(head).to("cpu", torch.float64)
        with torch.no_grad():
            return commutes(map_) and commutes(wide)
    except Exception:
        return False
