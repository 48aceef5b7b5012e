"""Make a ``Network`` of any torch segmentation model, by forward hooks on two of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from .base import Network
from .precision import at_least_float32
from .probe import ModuleProbe, describe


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
    """Wrap a model as a network whose pixels can walk between two of its modules.

    One pass over a trial photo of noise shows whether the modules fit: that both are called once, that the embedding
    is a map, that the head reads just that map, and gives logits. The model's own ``forward`` stays as it is.

    Args:
        model: called with the preprocessed photos alone; put into evaluation mode. What it returns does not matter.
        embedding: path of the module whose output is the embedding map [B, D, h, w], as in ``model.named_modules()``.
            The map covers the whole photo.
        head: path of the module that turns the map into logits [B, K, h, w], called with the map alone.
        preprocess: function from RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the model's input. Give
            either it or ``mean`` and ``std``.
        mean: of red, green and blue in 0..1, three numbers that are subtracted; ImageNet's are (0.485, 0.456, 0.406).
        std: of red, green and blue in 0..1, three positive numbers to divide by; ImageNet's are (0.229, 0.224, 0.225).
        stride: photo pixels per side of a map pixel; when None it is found in the trial pass.
        linear_head: whether the head is linear for each pixel by itself, so that a walk may act on its logits; when
            None it is found by mixing pixels of the trial map before and after the head.
        align_corners: how the model brings logits to the photo's size.
        classes: names of the K classes; "class 0" and so on when None.
        trial_size: height and width of the trial photo, for models that take no other.

    Returns:
        The network, with ``model`` inside.

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
    probe = ModuleProbe(model, network.preprocess(photo.to(weight.device)), embedding, head)
    logits = _apply_alone(probe, network.model.get_submodule(head))

    network.stride = _stride(trial_size, probe.map) if stride is None else stride
    network.linear_head = (
        _commutes(network.model.get_submodule(head), probe.map) if linear_head is None else linear_head
    )
    count = logits.shape[1]
    network.classes = tuple(f"class {k}" for k in range(count)) if classes is None else tuple(classes)
    if (got := len(network.classes)) != count:
        raise ValueError(f"classes: expected {count} names for the {count} logits of {head!r}, got {got}")
    return network


class Attached(Network):
    """A model and the paths of its embedding and its head. Made by :func:`rwpm_fast.attach`.

    Embedding map and logits are at least float32 whatever dtype the model runs in, so that a walk loses no digits.
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
            return at_least_float32(found[0])
        finally:
            handle.remove()
        raise RuntimeError(f"embedding: {self.embedding_path!r} was not called in this pass, as it was in the trial's")

    def head(self, embedding_map: Tensor) -> Tensor:
        head = self.model.get_submodule(self.head_path)
        dtype = next((p.dtype for p in head.parameters()), embedding_map.dtype)
        return at_least_float32(head(embedding_map.to(dtype)))

    @contextmanager
    def walked(self, walk: Callable[..., Tensor]) -> Iterator[nn.Module]:
        """Let the model's own ``forward`` classify walked pixels while the block runs.

        The head gets the walked map; where the head is linear its logits walk instead, which gives the same and is
        cheaper. Other modules that read the map see it unchanged. Gradients flow through the walked values, not through
        the graph.

        Args:
            walk: a walk on maps, such as :class:`rwpm_fast.Walk`.

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
    """Raised to leave a model's ``forward`` at the embedding map; not an Exception, which the model might catch."""


def _walked(walk: Callable[..., Tensor], embedding_map: Tensor, values: Tensor) -> Tensor:
    graph = at_least_float32(embedding_map.detach())  # only values have a gradient
    return walk(graph, value_map=at_least_float32(values)).to(values.dtype)


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
    if mean is None or len(mean) != 3:
        raise ValueError(f"mean: expected three numbers, got {mean}")
    if std is None or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"std: expected three positive numbers, got {std}")
    return mean, std


def _apply_alone(probe: ModuleProbe, head: nn.Module) -> Tensor:
    """Call the head with the map alone, and check that its logits are those of the model's own pass."""
    try:
        with torch.no_grad():
            logits = head(probe.map)
    except Exception as error:
        raise ValueError(
            f"head: {probe.head!r} cannot be called with the map {describe(probe.map)} alone ({error})"
        ) from error
    same = isinstance(logits, Tensor) and logits.shape == probe.logits.shape
    if not (same and torch.allclose(logits, probe.logits, rtol=1e-3, atol=1e-3, equal_nan=True)):
        raise ValueError(
            f"head: {probe.head!r} called with the map {describe(probe.map)} alone gives {describe(logits)}, and not "
            f"what it gives in the model's own pass, {describe(probe.logits)}"
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
    """Whether mixing pixels before the head gives the same as after it, as for a head that is linear pixel by pixel."""
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
        # In float64, where rounding cannot look like a nonlinearity. A head that cannot run in float64 counts as
        # nonlinear: walking the map is right for every head.

        head = deepcopy(head).to("cpu", torch.float64)
        with torch.no_grad():
            return commutes(map_) and commutes(wide)
    except Exception:
        return False
