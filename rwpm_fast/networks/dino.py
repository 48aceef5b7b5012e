"""Frozen patch embeddings of DINOv2 (Oquab et al., TMLR 2024) and DINOv3 (Siméoni et al., 2025), of transformers or
timm, under a linear head, or scored by their nearest neighbor among the patches of reference photos.

Folders of transformers need transformers and SciPy, which are imported when one is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..io.files import atomic_write
from ..io.images import as_image
from .base import Network, device_of
from .checkpoint import load_state, read_state_dict
from .cityscapes import CITYSCAPES_CLASSES
from .precision import at_least_float32
from .resize import resize_photos
from .tokens import map_to_tokens, tokens_to_map
from .transformers_folder import (
    PIXEL_MEAN,
    PIXEL_STD,
    import_models,
    model_type,
    open_folder,
    pixel_statistics,
)

# Type of a folder's configuration: class of transformers.
BACKBONES = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
HEAD_FILES = ("head.safetensors", "head.npz", "head.pth")
REFERENCE_FILE = "reference.npz"
AT_ONCE = 8192  # patches of the reference to compare with; their similarities to a map's take this many rows


class PatchNetwork(Network):
    """A vision transformer's patch embeddings under a head.

    Photos have their own size, filled up to multiples of a patch. The embeddings are those of the last layer, normed;
    class and register tokens are left out. The transformer itself is never trained here.

    Args:
        backbone: a ``Dinov2Model``, ``Dinov2WithRegistersModel`` or ``DINOv3ViTModel`` of transformers, or a vision
            transformer of timm, made with ``dynamic_img_size=True`` where photos differ from its own size.
        classifier: what makes logits [B, K, h, w] of the map [B, D, h, w].
        classes: names of the K classes.
        pixel_mean: of red, green and blue, 0..255.
        pixel_std: standard deviation of red, green and blue, 0..255.
        size: height and width to which photos are resized; None for their own.

    Raises:
        TypeError: the backbone is neither.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        *,
        classes: Sequence[str],
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._prefix, patch, self.channels = _form(backbone)
        self.stride = self.padded_to = patch
        self.backbone, self.classifier = backbone, classifier
        self.classes = tuple(classes)
        self.pixel_mean, self.pixel_std, self.fixed_size = pixel_mean, pixel_std, size

    def preprocess(self, photos: Tensor) -> Tensor:
        photos = photos.float() if self.fixed_size is None else resize_photos(photos, self.fixed_size)
        mean, std = (photos.new_tensor(values).view(3, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        images = self.pad((photos - mean) / std, (photos.shape[-2], photos.shape[-1]))
        return images.to(next(self.backbone.parameters()).dtype)

    def embed(self, images: Tensor) -> Tensor:
        tokens = _tokens(self.backbone, images)
        size = (images.shape[-2], images.shape[-1])
        return at_least_float32(tokens_to_map(tokens, self._prefix, size, self.padded_to))

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.classifier(embedding_map)


class DINOLinear(PatchNetwork):
    """Patch embeddings under a linear head, as linear probes of DINO have it.

    The embeddings walk, at stride 14 or 16, before the head, which is linear, so that its logits walk in their place:
    the same, with fewer channels.

    Args:
        backbone: see :class:`PatchNetwork`.
        classes: names of the K classes.
        settings: see :class:`PatchNetwork`.
    """

    name = "dino_linear"
    linear_head = True

    def __init__(self, backbone: nn.Module, classes: Sequence[str], **settings: Any) -> None:
        super().__init__(backbone, nn.Conv2d(_form(backbone)[2], len(classes), 1), classes=classes, **settings)

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> DINOLinear:
        """Load a folder that ``save_pretrained`` wrote for DINOv2 or DINOv3, with a head beside it.

        The head is ``head.safetensors``, ``head.npz`` or ``head.pth``, with ``weight`` [K, D] (or [K, D, 1, 1]) and
        ``bias`` [K]. Of 19 classes they are those of Cityscapes.

        Args:
            weights: the folder.
            weights_key: place of the tensors in the file of the head, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such folder, no ``config.json`` or no head in it.
            ImportError: transformers or SciPy is missing, or cannot be imported.
            OSError: there are no weights in it.
            ValueError: it holds another model, or weights do not fit.
        """
        folder = open_folder(weights, *BACKBONES)
        head = next(filter(Path.is_file, (folder / name for name in HEAD_FILES)), None)
        if head is None:
            raise FileNotFoundError(f"weights: expected a head, {' or '.join(HEAD_FILES)}, in {folder}, which has none")
        state = read_state_dict(head, ("weight", "bias"), weights_key=weights_key)
        if (weight := state.get("weight")) is None or weight.dim() not in (2, 4):
            got = "none" if weight is None else f"shape {list(weight.shape)}"
            raise ValueError(f"weights: expected weight [K, D] of a linear head in {head}, got {got}")
        if weight.dim() == 2:
            state["weight"] = weight[..., None, None]
        network = cls(_backbone(folder), _class_names(len(weight)), **pixel_statistics(folder))
        load_state(network.classifier, state, name="the linear head", path=head)
        return network.eval()


class NearestNeighbor(nn.Module):
    """Similarity of every pixel to the one of a reference that is nearest.

    Args:
        reference: embeddings [M, D].
    """

    reference: Tensor

    def __init__(self, reference: Tensor) -> None:
        super().__init__()
        self.register_buffer("reference", F.normalize(reference.float(), dim=-1))

    def forward(self, embedding_map: Tensor) -> Tensor:
        """Compute the largest cosine to the reference, [B, 1, h, w] in -1..1, of a map [B, D, h, w]."""
        pixels = F.normalize(map_to_tokens(embedding_map), dim=-1)  # [B, N, D]
        parts = [(pixels @ part.to(pixels.dtype).mT).amax(-1) for part in self.reference.split(AT_ONCE)]
        return torch.stack(parts).amax(0).unflatten(1, embedding_map.shape[-2:]).unsqueeze(1)


class DINONeighbors(PatchNetwork):
    """Patch embeddings scored by their nearest neighbor among the patches of reference photos, without any training.

    Source: of the idea, PatchCore (Roth et al., CVPR 2022); here for patches of a road that reference photos show
    without anomalies. The one logit is the cosine to the nearest, so that the score ``max_logit`` is its negative.

    The embeddings walk, before the search: pixels that the walk pulls to their manifold find the neighbors of that
    manifold. The search takes a maximum, so that its similarities cannot walk in place of the embeddings, and the
    reference does not walk, since its photos have graphs of their own.

    Args:
        backbone: see :class:`PatchNetwork`.
        reference: embeddings of the reference's patches, [M, D].
        settings: see :class:`PatchNetwork`.

    Example:
        >>> network = DINONeighbors.from_photos(backbone, photos)
        >>> Scorer(network, walk=Walk(steps=20))(photo).score
    """

    name = "dino_neighbors"
    linear_head = False
    default_score = "max_logit"

    def __init__(self, backbone: nn.Module, reference: Tensor, **settings: Any) -> None:
        channels = _form(backbone)[2]
        if reference.dim() != 2 or reference.shape[1] != channels or not len(reference):
            raise ValueError(
                f"reference: expected embeddings [M, {channels}], as many channels as the backbone's, M of 1 or more, "
                f"got {list(reference.shape)}"
            )
        super().__init__(backbone, NearestNeighbor(reference), classes=("reference",), **settings)

    @classmethod
    def from_photos(
        cls, backbone: nn.Module, photos: Iterable[Any], *, limit: int = 100_000, **settings: Any
    ) -> DINONeighbors:
        """Take the patches of photos as reference.

        Args:
            backbone: see :class:`PatchNetwork`.
            photos: without anomalies; see :func:`rwpm_fast.io.images.as_image` for what they may be. Patches that are
                partly padding are left out.
            limit: number of patches to keep, drawn from all with a fixed seed.
            settings: see :class:`PatchNetwork`.

        Returns:
            The network, in evaluation mode, on the backbone's device.

        Raises:
            ValueError: no photo has a whole patch, or ``limit`` is below 1.
        """
        if limit < 1:
            raise ValueError(f"limit: expected a number of patches, 1 or more, got {limit}")
        encoder = PatchNetwork(backbone.eval(), nn.Identity(), classes=("reference",), **settings)
        patch, found = encoder.padded_to, []
        with torch.inference_mode():
            for photo in photos:
                pixels = torch.tensor(as_image(photo)).permute(2, 0, 1)[None].to(device_of(backbone))
                map_ = encoder.embed(encoder.preprocess(pixels))
                height, width = encoder.input_size((pixels.shape[-2], pixels.shape[-1]))
                found.append(map_to_tokens(map_[..., : height // patch, : width // patch])[0])
        patches = torch.cat(found) if found else torch.empty(0, encoder.channels)
        if not len(patches):
            raise ValueError(f"photos: expected one or more with a whole patch of {patch} x {patch} pixels, got none")
        order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))[:limit]
        return cls(backbone, patches[order.to(patches.device)].clone(), **settings).eval()

    def save_reference(self, folder: str | PathLike[str]) -> None:
        """Write the reference into the backbone's folder, from which :meth:`load` reads both."""
        reference = self.get_buffer("classifier.reference").cpu().numpy()
        atomic_write(Path(folder) / REFERENCE_FILE, lambda file: np.savez(file, reference=reference))

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> DINONeighbors:
        """Load a folder that ``save_pretrained`` wrote for DINOv2 or DINOv3, with the reference of
        :meth:`save_reference` beside it.

        Args:
            weights: the folder.
            weights_key: place of the array in the file of the reference, where several fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such folder, no ``config.json`` or no reference in it.
            ImportError: transformers or SciPy is missing, or cannot be imported.
            OSError: there are no weights in it.
            ValueError: it holds another model, or weights or reference do not fit.
        """
        folder = open_folder(weights, *BACKBONES)
        file = folder / REFERENCE_FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"weights: expected {REFERENCE_FILE} in {folder}, which has none; make it by "
                "DINONeighbors.from_photos(backbone, photos).save_reference(folder)"
            )
        state = read_state_dict(file, ("reference",), weights_key=weights_key)
        if "reference" not in state:
            raise ValueError(f"weights: expected an array 'reference' in {file}, got {', '.join(state)}")
        return cls(_backbone(folder), state["reference"], **pixel_statistics(folder)).eval()


def _backbone(folder: Path) -> nn.Module:
    models = import_models("transformers_model", "DINO")
    return models.pretrained(models.kind(BACKBONES[model_type(folder) or ""]), folder)


def _class_names(count: int) -> Sequence[str]:
    return CITYSCAPES_CLASSES if count == len(CITYSCAPES_CLASSES) else [f"class {k}" for k in range(count)]


def _form(backbone: Any) -> tuple[int, int, int]:
    """Number of tokens before the patches, side of a patch, and channels of a vision transformer."""
    if hasattr(backbone, "forward_features") and hasattr(backbone, "num_prefix_tokens"):  # of timm
        return backbone.num_prefix_tokens, _side(backbone.patch_embed.patch_size), backbone.num_features
    config: Any = getattr(backbone, "config", None)
    if getattr(config, "model_type", None) in BACKBONES:
        registers = getattr(config, "num_register_tokens", 0)
        return 1 + registers, _side(config.patch_size), config.hidden_size
    raise TypeError(
        f"backbone: expected {', '.join(BACKBONES.values())} of transformers or a vision transformer of timm, got "
        f"{type(backbone).__name__}"
    )


def _side(patch: Any) -> int:
    return patch if isinstance(patch, int) else patch[0]


def _tokens(backbone: Any, images: Tensor) -> Tensor:
    """Normed tokens of the last layer, [B, prefix + N, D]."""
    if hasattr(backbone, "forward_features"):
        return backbone.forward_features(images)
    return backbone(pixel_values=images).last_hidden_state
