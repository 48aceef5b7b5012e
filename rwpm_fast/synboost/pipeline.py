"""The chain of SynBoost and Image Resynthesis++: segmentation, uncertainty maps, synthesis, dissimilarity, ensemble.

Where paper and released code leave a choice, or the code's own is an accident of its time:

- The segmentation is that of the photo as its network takes it; the code brings photos to 1024 x 2048 before.
- The score is brought to the photo's size by bilinear interpolation, which stays in [0, 1]; the code uses Pillow's
  default, nearest or cubic by version.
- Maps keep their digits; ``quantized=True`` stores maps and synthesis in 8 bits as the code does.
- As in the code, all that the dissimilarity network reads, the photo too, is resized to its size by the nearest pixel,
  and the photo is compared with its synthesis at that size.

Source: Pixel-wise Anomaly Detection in Complex Driving Scenes (Di Biase et al., CVPR 2021), section 3 and appendix A;
Image Resynthesis++ is appendix A.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_integers
from ..io.arrays import as_array
from ..io.images import as_image
from ..networks import CITYSCAPES_CLASSES
from ..networks.base import device_of
from ..networks.deeplab import PIXEL_MEAN, PIXEL_STD
from ..networks.evaluation_mode import check_evaluation, enter_evaluation
from ..networks.precision import at_least_float32
from ..ops.stopwatch import Stopwatch
from ..scoring.scorer import Analysis, Scorer
from . import uncertainty
from .dissimilarity import MULTIPLE, DissimilarityNet, semantic_one_hot
from .ensemble import MAPS, PUBLISHED_WEIGHTS, stack_maps, weighted_average
from .features import FeatureNetwork, check_features
from .synthesis import Synthesis, check_classes


class Seconds(NamedTuple):
    """Time of each module for one photo; its ``sum`` is that of the whole chain.

    Attributes:
        network: pre-processing, segmentation network and head.
        walk: the walk, 0 without one.
        uncertainty: up-sampled logits, segmentation, entropy and softmax distance, and the photo's resizing.
        synthesis: the synthesis.
        perceptual: the perceptual difference.
        dissimilarity: the dissimilarity network.
        ensemble: the average of the maps, and its up-sampling.
    """

    network: float
    walk: float
    uncertainty: float
    synthesis: float
    perceptual: float
    dissimilarity: float = 0.0
    ensemble: float = 0.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """A photo beside the synthesis of its segmentation: what the dissimilarity network reads, and is trained with.

    All maps but the segmentation have the dissimilarity network's size. A map that neither it nor the ensemble reads is
    None.

    Attributes:
        segmentation: [H, W] int64 in the photo's size, index of the likeliest class.
        image: [3, h, w] uint8, the photo, RGB.
        synthesis: [3, h, w] in 0..1, RGB, at least float32.
        class_map: [h, w] int64, train ids of the synthesis; 255 for pixels without a class.
        entropy: [h, w] in 0..1, at least float32.
        perceptual: the same, perceptual difference.
        distance: the same, softmax distance.
        seconds: time of each module so far.
    """

    segmentation: Tensor
    image: Tensor
    synthesis: Tensor
    class_map: Tensor
    entropy: Tensor | None
    perceptual: Tensor | None
    distance: Tensor | None
    seconds: Seconds


@dataclass(frozen=True, eq=False)
class SynBoostResult:
    """The anomaly map of a photo.

    Attributes:
        score: [H, W] float32 in 0..1, higher is more anomalous.
        segmentation: [H, W] int64, index of the likeliest class.
        probability: [h, w] in 0..1, the dissimilarity network's probability of an anomaly, at least float32.
        comparison: what the network read.
        seconds: time of each module.
    """

    score: Tensor
    segmentation: Tensor
    probability: Tensor
    comparison: Comparison
    seconds: Seconds


def imagenet_normalized(images: Tensor) -> Tensor:
    """Subtract ImageNet's mean from images and divide by its standard deviation, as the networks of this room take
    photos and syntheses.

    Args:
        images: RGB in 0..1, [..., 3, H, W], floating point.

    Returns:
        Images of the same shape, at least float32.

    Raises:
        TypeError: the images are not of floating point.

    Example:
        >>> photos = torch.full((1, 3, 256, 512), 255, dtype=torch.uint8)
        >>> imagenet_normalized(photos / 255)[0, :, 0, 0]
        tensor([2.2489, 2.4286, 2.6400])
    """
    if not images.is_floating_point():
        raise TypeError(f"images: expected floating point in 0..1, got {images.dtype}; divide by 255 first")
    images = at_least_float32(images)
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std


class SynBoost:
    """Score photos by how they differ from the synthesis of their segmentation, and how unsure the segmentation is.

    With a dissimilarity network that reads no dispersion maps and has no SPADE, and ``weights=(1, 0, 0, 0)``, it is
    Image Resynthesis++. Maps that neither the network nor the ensemble reads are not computed.

    It keeps nothing of a photo, so that several threads may use one, as far as the synthesis lets them.

    Args:
        segmentation: scorer of the segmentation network, whose classes are Cityscapes' train ids. With a walk, class
            map, entropy and distance are those of the walked logits; of a mask head, its class maps are taken for
            logits. The scorer's own score and calibration play no part.
        synthesis: renders the segmentation, such as :class:`rwpm_fast.synboost.synthesis.CCFPSESynthesis`; its images
            may have another size.
        dissimilarity: compares photo and synthesis.
        features: network whose features of photo and synthesis are compared for the perceptual difference:
            :class:`rwpm_fast.synboost.vgg.VGG19` in the paper; a
            :class:`rwpm_fast.synboost.features.NetworkFeatures` may be that of the segmentation network. None where the
            map is read by neither the dissimilarity network nor the ensemble.
        weights: of the ensemble, four numbers of 0 or more in the order of :data:`rwpm_fast.synboost.ensemble.MAPS`;
            of a :class:`rwpm_fast.synboost.ensemble.LearnedEnsemble`, ``ensemble.weights.tolist()``.
        minmax: how maps are scaled, ``"range"``, or ``"legacy"`` for released checkpoints; see
            :mod:`rwpm_fast.synboost.uncertainty`.
        quantized: store maps and synthesis in 8 bits, as the released code does.
        size: height and width at which photo and synthesis are compared, multiples of 8.
        precision: how the dissimilarity network runs: ``"float32"``, in the dtype of its weights; ``"bfloat16"``, by
            autocast and in channels-last memory, at a fraction of the time on processors and GPUs that multiply
            matrices in bfloat16. Features are computed in the dtype of their network's weights:
            ``vgg.to(torch.bfloat16, memory_format=torch.channels_last)`` saves as much there.

    All networks are put into evaluation mode, in which they must be at each call, and must be on one device, to which
    photos are moved.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the segmentation network has more than 19 classes, ``features`` is missing, or a setting is out of
            range; also at a call, if the networks are on several devices.

    Source: SynBoost, section 3.

    Example:
        >>> pipeline = SynBoost(
        ...     segmentation=Scorer(networks.load("deeplab_wrn38", "cityscapes_best.pth")),
        ...     synthesis=CCFPSESynthesis.load("latest_net_G.pth", "latest_net_E.pth"),
        ...     dissimilarity=DissimilarityNet.load("synboost.pth"),
        ...     features=VGG19.load("vgg19-dcbb9e9d.pth"),
        ...     minmax="legacy",
        ...     quantized=True,
        ... )
        >>> pipeline(read_image("street.jpg")).score  # [H, W]
    """

    def __init__(
        self,
        *,
        segmentation: Scorer,
        synthesis: Synthesis,
        dissimilarity: DissimilarityNet,
        features: FeatureNetwork | None = None,
        weights: Sequence[float] = PUBLISHED_WEIGHTS,
        minmax: str = "range",
        quantized: bool = False,
        size: tuple[int, int] = (256, 512),
        precision: str = "float32",
    ) -> None:
        _check_parts(segmentation, synthesis, dissimilarity, features)
        if minmax not in ("range", "legacy"):
            raise ValueError(f"minmax: expected 'range' or 'legacy', got {minmax!r}")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision: expected 'float32' or 'bfloat16', got {precision!r}")
        weighted_average(torch.zeros(len(MAPS), 1, 1), weights)  # an error for weights that make no average
        self.segmentation, self.synthesis = segmentation, synthesis
        self.dissimilarity, self.features = dissimilarity, features
        self.weights, self.minmax, self.quantized = tuple(weights), minmax, quantized
        self.size, self.precision = _checked_size(size), precision
        if features is None and self._reads("perceptual"):
            raise ValueError(
                "features: expected a network such as VGG19 for the perceptual difference, which "
                f"{'the dissimilarity network' if self._has_dispersion else 'the ensemble'} reads, got None; load one "
                "by VGG19.load"
            )
        self._modules = {
            name: module
            for name, module in (("synthesis", synthesis), ("dissimilarity", dissimilarity), ("features", features))
            if isinstance(module, nn.Module)
        }
        self._always_training = {name: enter_evaluation(module) for name, module in self._modules.items()}
        self._check()

    @torch.no_grad()
    def __call__(self, photo: Any, mask: np.ndarray | Tensor | None = None) -> SynBoostResult:
        """Score one photo.

        Args:
            photo: a PIL image, an array [H, W, 3] or a tensor [3, H, W] of values in 0..255; see
                :func:`rwpm_fast.io.images.as_image`. Any size that the segmentation network takes.
            mask: [H, W] bool, photo pixels that belong to the graph of the walk; see
                :meth:`rwpm_fast.Scorer.analyze`.

        Raises:
            TypeError: see :meth:`rwpm_fast.Scorer.analyze`.
            ValueError: see there; or logits, synthesis or the dissimilarity network's output are not finite, or the
                synthesis is not what it should be.
            RuntimeError: a module of a network is in training mode.
        """
        self._check()
        pixels = as_image(photo)
        return self.judge(self.compare(pixels, self.segmentation.analyze(pixels, mask)))

    @torch.no_grad()
    def compare(self, photo: Any, analysis: Analysis, class_map: np.ndarray | Tensor | None = None) -> Comparison:
        """Compute what the dissimilarity network reads of a photo whose segmentation is there: for :meth:`judge`, or as
        an input of training.

        The tensors need no gradient, and are no inference tensors, so that training takes them as they are.

        Args:
            photo: see :meth:`__call__`.
            analysis: of this photo, by ``segmentation`` or another scorer, whose walked prediction is used.
            class_map: [H, W] integers, train ids 0 to 18, or 255 for pixels without a class, that synthesis and
                dissimilarity network read in place of the prediction, such as a ground truth with swapped instances;
                entropy and distance are those of the prediction nonetheless.

        Raises:
            TypeError: a photo or class map of another type.
            ValueError: photo or class map are not of the analysis's size, or see :meth:`__call__`.
            RuntimeError: a module of a network is in training mode.
        """
        self._check()
        prediction = analysis.walked
        pixels = torch.tensor(as_image(photo))
        size = (pixels.shape[0], pixels.shape[1])
        if size != prediction.size:
            raise ValueError(
                f"analysis: expected that of the photo, of {list(size)} pixels, got one of {list(prediction.size)}"
            )
        device = device_of(self.segmentation.network)
        if class_map is not None:
            class_map = _checked_class_map(class_map, size).to(device)
        photos = pixels.to(device).permute(2, 0, 1)[None]

        watch = Stopwatch(device)
        logits = prediction.full_logits[None]
        _check_finite("segmentation", logits)
        entropy, distance = self._dispersion_of(logits)
        ids = (prediction.segmentation if class_map is None else class_map)[None]
        image, small_ids = self._resized(photos), self._resized(ids[None])
        uncertainty_seconds = watch.lap()
        synthesis = self._synthesized(ids, photos)
        synthesis_seconds = watch.lap()
        pair = imagenet_normalized(image / 255), imagenet_normalized(synthesis)
        perceptual = None
        if self.features is not None and self._reads("perceptual"):
            difference = uncertainty.perceptual_difference(*pair, self.features, minmax=self.minmax)
            perceptual = self._stored(difference)[0, 0]
        perceptual_seconds = watch.lap()
        return Comparison(
            segmentation=prediction.segmentation.clone(),  # the scorer's is an inference tensor
            image=image[0].byte(),
            synthesis=synthesis[0],
            class_map=small_ids[0, 0].long(),
            entropy=entropy,
            perceptual=perceptual,
            distance=distance,
            seconds=Seconds(
                network=analysis.network_seconds,
                walk=analysis.walk_seconds,
                uncertainty=uncertainty_seconds,
                synthesis=synthesis_seconds,
                perceptual=perceptual_seconds,
            ),
        )

    @torch.no_grad()
    def judge(self, comparison: Comparison) -> SynBoostResult:
        """Run the dissimilarity network on what :meth:`compare` gave, and average the maps.

        Args:
            comparison: result of :meth:`compare` of this pipeline.

        Raises:
            ValueError: the comparison lacks a map, or the network's output is not finite.
            RuntimeError: a module of a network is in training mode.
        """
        self._check()
        entropy, perceptual, distance = (self._read(name, comparison)[None, None] for name in MAPS[1:])
        watch = Stopwatch(comparison.image.device)
        logits = self._compared(
            imagenet_normalized(comparison.image[None] / 255),
            imagenet_normalized(comparison.synthesis[None]),
            semantic_one_hot(comparison.class_map[None]),
            torch.cat([entropy, perceptual, distance], dim=1) if self._has_dispersion else None,
        )
        _check_finite("dissimilarity", logits)
        maps = stack_maps(logits, entropy, perceptual, distance)
        dissimilarity_seconds = watch.lap()
        average = weighted_average(maps, self.weights)[None]
        photo_size = comparison.segmentation.shape
        score = F.interpolate(average, photo_size, mode="bilinear", align_corners=False)[0, 0].float()
        seconds = comparison.seconds._replace(dissimilarity=dissimilarity_seconds, ensemble=watch.lap())
        return SynBoostResult(score, comparison.segmentation, maps[0, 0], comparison, seconds)

    def _compared(self, *inputs: Tensor | None) -> Tensor:
        """Run the dissimilarity network in the precision that is set."""
        if self.precision == "float32":
            return self.dissimilarity(*inputs)
        last = (None if x is None else x.contiguous(memory_format=torch.channels_last) for x in inputs)
        with torch.autocast(device_of(self.segmentation.network).type, torch.bfloat16):
            return self.dissimilarity(*last)

    def _check(self) -> None:
        """Check at each call what may have changed since the last: devices and modes of the networks."""
        device = device_of(self.segmentation.network)
        for name, module in self._modules.items():
            if any(parameter.device != device for parameter in module.parameters()):
                raise ValueError(
                    f"{name}: expected all weights on the device of the segmentation network, {device}; move them by "
                    f".to({str(device)!r})"
                )
            check_evaluation(name, module, type(module).__name__, self._always_training[name])

    @property
    def _has_dispersion(self) -> bool:
        return self.dissimilarity.dispersion_encoder is not None

    def _reads(self, name: str) -> bool:
        """Whether the dissimilarity network or the ensemble reads an uncertainty map."""
        return self._has_dispersion or self.weights[MAPS.index(name)] > 0

    def _read(self, name: str, comparison: Comparison) -> Tensor:
        """A map of a comparison, [h, w]; zeros for one that nobody reads."""
        values: Tensor | None = getattr(comparison, name)
        if values is not None:
            return values
        if self._reads(name):
            raise ValueError(f"comparison: expected the map {name}, got none; compare the photo with this pipeline")
        return torch.zeros_like(comparison.class_map, dtype=comparison.synthesis.dtype)

    def _dispersion_of(self, logits: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Compute entropy and distance of logits [1, K, H, W] as the dissimilarity network takes them, [h, w]; None for
        one that nobody reads."""
        entropy = distance = None
        if self._reads("entropy") and self._reads("distance"):
            entropy, distance = uncertainty.entropy_and_distance(logits, minmax=self.minmax)
        elif self._reads("entropy"):
            entropy = uncertainty.entropy(logits, minmax=self.minmax)
        elif self._reads("distance"):
            distance = uncertainty.softmax_distance(logits, minmax=self.minmax)
        stored = (None if values is None else self._stored(values)[0, 0] for values in (entropy, distance))
        return next(stored), next(stored)

    def _synthesized(self, class_map: Tensor, photos: Tensor) -> Tensor:
        """Render class map [1, H, W] and photo [1, 3, H, W] as the dissimilarity network takes it: [1, 3, h, w] in
        0..1."""
        images = self.synthesis(class_map, photos)
        expected = [1, 3, *self.synthesis.size]
        if list(images.shape) != expected:
            raise ValueError(f"synthesis: expected an image of shape {expected}, got {list(images.shape)}")
        low, high = (extreme.item() for extreme in images.aminmax())
        if not (low >= -1 and high <= 1):  # NaN is not
            raise ValueError(f"synthesis: expected an image in -1..1, got {low:g}..{high:g}")
        return self._stored((at_least_float32(images) + 1) / 2)

    def _stored(self, values: Tensor) -> Tensor:
        """Bring values [1, C, H, W] in 0..1 to the dissimilarity network's size, in 8 bits if so set."""
        values = self._resized(values)
        return uncertainty.quantize(values) if self.quantized else values

    def _resized(self, values: Tensor) -> Tensor:
        """Resize [1, C, H, W] by the nearest pixel, the one at the center as Pillow takes it."""
        return F.interpolate(at_least_float32(values), self.size, mode="nearest-exact")


def _check_parts(segmentation: Any, synthesis: Any, dissimilarity: Any, features: Any) -> None:
    """Raise TypeError or ValueError for parts of another kind. Compiled networks are of another class, so their
    attributes are asked for."""
    if not isinstance(segmentation, Scorer):
        raise TypeError(
            f"segmentation: expected a rwpm_fast.Scorer, got {type(segmentation).__name__}; make one of a network by "
            "Scorer(network)"
        )
    classes = segmentation.network.classes
    if len(classes) > len(CITYSCAPES_CLASSES):
        raise ValueError(
            f"segmentation: expected at most the {len(CITYSCAPES_CLASSES)} classes of Cityscapes, in the order of "
            f"their train ids, got the {len(classes)} of {segmentation.network.name}"
        )
    if not (callable(synthesis) and hasattr(synthesis, "size")):
        raise TypeError(
            "synthesis: expected a function of class map and photos with the size of its images, such as "
            f"CCFPSESynthesis, got {type(synthesis).__name__}"
        )
    if not hasattr(dissimilarity, "dispersion_encoder"):
        raise TypeError(f"dissimilarity: expected a DissimilarityNet, got {type(dissimilarity).__name__}")
    if features is not None:
        check_features("features", features)


def _checked_size(size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2:
        raise ValueError(f"size: expected height and width, got {len(size)} numbers")
    height, width = size
    check_integers(**{"size[0]": height, "size[1]": width})
    if height < MULTIPLE or width < MULTIPLE or height % MULTIPLE or width % MULTIPLE:
        raise ValueError(
            f"size: expected positive multiples of {MULTIPLE}, height and width, got {height} x {width}; the paper has "
            "256 x 512"
        )
    return height, width


def _checked_class_map(class_map: np.ndarray | Tensor, size: tuple[int, int]) -> Tensor:
    class_map = torch.tensor(as_array("class_map", class_map))
    if tuple(class_map.shape) != size:
        raise ValueError(f"class_map: expected shape {list(size)} to match the photo, got {list(class_map.shape)}")
    check_classes(class_map[None])
    return class_map.long()


def _check_finite(name: str, logits: Tensor) -> None:
    """Raise ValueError for logits of a network that are not finite."""
    low, high = logits.aminmax()  # less memory than isfinite takes
    if not (low.isfinite() and high.isfinite()):
        raise ValueError(
            f"{name}: logits are not finite; most likely weights of the network are not finite, or its dtype is too "
            "narrow for this photo"
        )
