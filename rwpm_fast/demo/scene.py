"""A synthetic scene: a street and the embeddings that a road network might have for it.

Every class is a manifold, as in a real network: a curved sheet around a direction of its own, along which a pixel's
place follows from where it lies and how bright it is. Three things go wrong with pixels, as they do in a real network:
noise of their own, pulls towards other classes that differ from pixel to pixel, and mixing where two classes meet.
Nothing here knows of the walk or of the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..networks.base import Network
from ..networks.cityscapes import CITYSCAPES_CLASSES
from ..scenes.canvas import Noise
from ..scenes.labels import ANOMALY, CAR, EGO, INLIER, UNKNOWN, VOID
from .street import paint_street

CLASSES = len(CITYSCAPES_CLASSES)


@dataclass(frozen=True)
class Scene:
    """A photo with its truth and its embeddings; ``Scene`` number ``seed`` is always the same.

    Attributes:
        photo: [H, W, 3] uint8.
        labels: [H, W] uint8: 0 inlier, 1 anomaly, 255 void (a rim around the anomaly, and our own car).
        class_map: [H, W] uint8: Cityscapes train ids, 255 on the anomaly.
        embedding_map: [1, D, h, w] float32.
        weight: [19, D] float32, linear classifier of the embeddings.
        bias: [19] float32.
        stride: pixels of the photo for one of the embedding map.
    """

    photo: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    class_map: NDArray[np.uint8]
    embedding_map: Tensor
    weight: Tensor
    bias: Tensor
    stride: int


def render_scene(seed: int = 0, size: tuple[int, int] = (512, 1024), stride: int = 8, channels: int = 64) -> Scene:
    """Render a scene; equal arguments give equal bits.

    Args:
        seed: number of the scene, >= 0.
        size: (height, width) of the photo in pixels, multiples of ``stride``.
        stride: photo pixels for one embedding, >= 1.
        channels: D, at least 32 so that the classes have room.

    Raises:
        ValueError: a size that is no positive multiple of the stride, or too few channels.
    """
    height, width = size
    if stride < 1 or min(size) < stride or height % stride or width % stride:
        raise ValueError(f"size: expected positive multiples of stride {stride}, got {height} x {width}")
    if channels < 32:
        raise ValueError(f"channels: expected 32 or more, got {channels}")
    rng = np.random.default_rng(seed)
    photo, painted = paint_street(rng, size)
    anomaly = painted == UNKNOWN
    labels = np.where(anomaly, ANOMALY, INLIER).astype(np.uint8)
    labels[_rim(anomaly, max(1, height // 170)) | (painted == EGO)] = VOID
    class_map = np.where(painted == EGO, CAR, painted).astype(np.uint8)

    manifolds = _Manifolds(rng, channels)
    weight, bias = manifolds.classifier()
    embeddings = manifolds.embed(photo, np.where(anomaly, CLASSES, class_map), stride)  # [h, w, D]
    return Scene(
        photo=photo,
        labels=labels,
        class_map=class_map,
        embedding_map=torch.from_numpy(embeddings.astype(np.float32)).permute(2, 0, 1)[None].contiguous(),
        weight=torch.from_numpy(weight.astype(np.float32)),
        bias=torch.from_numpy(bias.astype(np.float32)),
        stride=stride,
    )


class SceneNetwork(Network):
    """A network that knows one photo by heart: it embeds the scene's photo into the scene's embedding map."""

    name = "scene"
    classes = CITYSCAPES_CLASSES
    linear_head = True
    align_corners = False

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.stride = scene.stride
        self.photo_size = tuple(scene.labels.shape)
        self.register_buffer("embedding_map", scene.embedding_map)
        self.register_buffer("weight", scene.weight)
        self.register_buffer("bias", scene.bias)

    def preprocess(self, photos: Tensor) -> Tensor:
        """Photos [B, 3, H, W] in 0..255 as they are."""
        return photos.to(self.embedding_map)

    def embed(self, images: Tensor) -> Tensor:
        """The scene's embedding map, once for each image: [B, D, h, w].

        Raises:
            ValueError: ``images`` are not [B, 3, H, W] of the scene's photo's size.
        """
        height, width = self.photo_size
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise ValueError(
                f"images: expected [B, 3, {height}, {width}], the photo of the scene, got {list(images.shape)}; "
                "this network knows no other photo"
            )
        return self.embedding_map.expand(len(images), -1, -1, -1)

    def head(self, embedding_map: Tensor) -> Tensor:
        """Logits [B, 19, h, w] of embeddings [B, D, h, w]."""
        return torch.nn.functional.conv2d(embedding_map, self.weight[:, :, None, None], self.bias)


class _Manifolds:
    """Curved sheets in D dimensions, one a class and one for the unknown."""

    bend = 0.8  # radians that a manifold turns, end to end
    noise = 0.9  # mean norm of a pixel's own noise; a clean embedding has norm 1
    shared = 0.5  # part of the noise that comes from the four neighbors
    pull = 0.85  # how far a pixel goes towards another class, at most; 1 is all the way

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.rng = rng
        self.prototypes = _directions(rng, CLASSES + 1, channels)  # [20, D]
        self.tangents = _directions(rng, CLASSES + 1, channels)  # [20, D]
        self.slopes = _directions(rng, CLASSES + 1, channels)  # [20, D]

    def point(self, kind: NDArray, along: NDArray, across: NDArray) -> NDArray:
        """Points [..., D] at places (along, across) in [-1, 1]^2 of the manifolds ``kind``, integers 0..19."""
        angle = (self.bend / 2 * along)[..., None]
        offset = 0.25 * (across + 0.5 * along**2)[..., None]
        points = np.cos(angle) * self.prototypes[kind] + np.sin(angle) * self.tangents[kind]
        return _unit(points + offset * self.slopes[kind])

    def classifier(self, samples: int = 200) -> tuple[NDArray, NDArray]:
        """Ridge regression of one-hot logits on the clean manifolds of the classes: weight [19, D], bias [19]."""
        kind = np.repeat(np.arange(CLASSES), samples)
        clean = self.point(kind, *self.rng.uniform(-1, 1, (2, len(kind))))
        inputs = np.concatenate([clean, np.ones((len(kind), 1))], axis=1)  # [n, D + 1]
        gram = inputs.T @ inputs + 1e-2 * samples * np.eye(inputs.shape[1])
        solution = np.linalg.solve(gram, inputs.T @ (12.0 * np.eye(CLASSES)[kind]))  # [D + 1, 19]
        return solution[:-1].T, solution[-1]

    def embed(self, photo: NDArray, kinds: NDArray, stride: int) -> NDArray:
        """Embeddings [h, w, D] of a photo [H, W, 3] whose pixels are of ``kinds`` [H, W]."""
        light = _cells(photo.mean(-1)[..., None] / 255, stride)[..., 0]  # [h, w]
        share = _cells(np.eye(CLASSES + 1, dtype=np.float32)[kinds], stride) ** 2  # [h, w, 20], softened ties
        share /= share.sum(-1, keepdims=True)
        height, width = light.shape
        y, x = np.mgrid[:height, :width] / height
        smooth = Noise(self.rng)
        along = np.clip(3 * smooth(2 * x, 2 * y, octaves=2) - 1.5, -1, 1)
        across = np.clip(2.5 * (light - 0.4), -1, 1)

        clean = np.zeros((height, width, self.prototypes.shape[1]))
        for kind in range(CLASSES + 1):
            clean += share[..., kind, None] * self.point(np.full(light.shape, kind), along, across)

        # a shadow, a reflection: whole regions lean towards other classes, each pixel by its own amount
        region = np.clip(3 * smooth(3 * x + 40, 3 * y, octaves=3) - 1.0, 0, 1)
        towards = (smooth(2 * x + 90, 2 * y, octaves=2) * 4 * CLASSES).astype(int) % CLASSES
        amount = self.pull * region * (0.6 * self.rng.beta(1.0, 1.5, light.shape) + 0.4 * smooth(20 * x, 20 * y + 60))
        pulled = clean + amount[..., None] * (self.prototypes[towards] - clean)

        # neighbors share part of their noise, for receptive fields overlap
        grain = np.pad(self.rng.standard_normal(clean.shape), ((1, 1), (1, 1), (0, 0)), "wrap")
        shared = (grain[:-2, 1:-1] + grain[2:, 1:-1] + grain[1:-1, :-2] + grain[1:-1, 2:]) / 2
        grain = self.shared * shared + np.sqrt(1 - self.shared**2) * grain[1:-1, 1:-1]
        strength = self.noise * self.rng.gamma(4.0, 0.25, light.shape) / np.sqrt(clean.shape[-1])
        return pulled + strength[..., None] * grain


def _directions(rng: np.random.Generator, count: int, channels: int) -> NDArray:
    return _unit(rng.standard_normal((count, channels)))


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _cells(field: NDArray, stride: int) -> NDArray:
    """Mean over cells of ``stride`` pixels: [H, W, C] to [h, w, C]."""
    height, width, channels = field.shape
    return field.reshape(height // stride, stride, width // stride, stride, channels).mean((1, 3))


def _rim(mask: NDArray, radius: int) -> NDArray:
    """Pixels within ``radius`` of the border of a mask [H, W], on either side."""
    inner, outer = mask, mask
    for axis in (0, 1):
        padded = [
            np.pad(m, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], "edge") for m in (inner, outer)
        ]
        windows = [np.lib.stride_tricks.sliding_window_view(p, 2 * radius + 1, axis) for p in padded]
        inner, outer = windows[0].all(-1), windows[1].any(-1)
    return outer & ~inner
