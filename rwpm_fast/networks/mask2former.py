"""Mask2Former and the two published anomaly methods on it, RbA and Mask2Anomaly.

The pixel embedding map is the output of the pixel decoder's ``mask_features`` (``mask_projection`` in transformers), a
linear layer: signed, unbounded, at stride 4 of the padded input. The transformer decoder reads it twice: for the
attention masks of each layer, and for the final masks, which are linear in it.

Needs transformers and SciPy, which are imported when a network is made.
"""

from __future__ import annotations

from os import PathLike
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from . import detectron2
from .base import Encoded, MaskLogits, Network
from .checkpoint import load_state, read_state_dict
from .cityscapes import CITYSCAPES_CLASSES
from .resize import resize_photos, size_by_shorter_side
from .transformers_folder import PIXEL_MEAN, PIXEL_STD, class_names, import_models, open_folder, pixel_statistics


class Mask2Former(Network):
    """Any ``Mask2FormerForUniversalSegmentation`` of transformers, scored at the photo's own size.

    Source: Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, CVPR 2022.

    Args:
        model: the transformers model.
        classes: names of its classes; by default those of its configuration.
        pixel_mean: of red, green and blue, 0..255.
        pixel_std: standard deviation of red, green and blue, 0..255.
    """

    name = "mask2former"
    stride = 4
    linear_head = False
    mask_head = True
    padded_to = 32
    default_score = "rba"

    model: Any  # of transformers, whose types are not known without it

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: tuple[str, ...] | None = None,
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
    ) -> None:
        super().__init__()
        self.model = model
        self.classes = class_names(self.model.config) if classes is None else classes
        self.pixel_mean = pixel_mean
        self.pixel_std = pixel_std

    def preprocess(self, photos: Tensor) -> Tensor:
        size, photos = (photos.shape[-2], photos.shape[-1]), photos.float()
        self._check_size(size)
        shown = self.input_size(size)
        if type(self).input_size is not Network.input_size:  # by class: a branch on sizes would be frozen by an export
            photos = resize_photos(photos, shown, rounded=True)  # as Pillow does, which the published code uses
        mean, std = (photos.new_tensor(values).view(3, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        return self.pad((photos - mean) / std, size).to(next(self.parameters()).dtype)

    def _check_size(self, photo_size: tuple[int, int]) -> None:
        """Check that the coarsest map is more than a pixel where that is all that a group of its norm has."""
        coarsest = self.model.model.pixel_level_module.decoder.input_projections
        single = any(
            module.num_groups == module.num_channels
            for module in coarsest.modules()
            if isinstance(module, nn.GroupNorm)
        )
        # In this order: an export of a network without such norms keeps no condition on the size.
        if single and self.padded_size(photo_size) == (self.padded_to,) * 2:
            height, width = photo_size
            raise ValueError(
                f"photo: expected more than {self.padded_to} pixels on a side, since this {self.name} normalizes each "
                f"channel by itself over a map at stride {self.padded_to}; got {height} x {width}"
            )

    def encode(self, images: Tensor) -> Encoded:
        pixels = self.model.model.pixel_level_module(images)
        return Encoded(pixels.decoder_last_hidden_state, pixels.decoder_hidden_states)

    def decode(self, embedding_map: Tensor, context: Any = None) -> MaskLogits:
        queries = self.model.model.transformer_module(multi_scale_features=context, mask_features=embedding_map)
        last = queries.intermediate_hidden_states[-1]  # [Q, B, C]
        return MaskLogits(self.model.class_predictor(last.transpose(0, 1)), queries.masks_queries_logits[-1])

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> Mask2Former:
        """Load the network in a folder that ``save_pretrained`` wrote.

        Nothing is downloaded. Mean and standard deviation are those of ``preprocessor_config.json``, if there is one.

        Args:
            weights: the folder.
            weights_key: place of the tensors in the folder's file of weights, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such folder, or no ``config.json`` in it.
            ImportError: transformers or SciPy is missing, or cannot be imported.
            OSError: there are no weights in it.
            ValueError: the weights do not fit the configuration, are not finite, or a file is cut short; or
                ``preprocessor_config.json`` has no three numbers for a color.
        """
        parts, folder = _parts(), open_folder(weights)
        pixels = pixel_statistics(folder)
        return cls(parts.pretrained(folder, weights_key), **pixels).eval()


class Detectron2Network(Mask2Former):
    """A network for the 19 Cityscapes classes whose published checkpoints have the layout of detectron2.

    ``Detectron2State(network.model)`` of :mod:`rwpm_fast.networks.detectron2` gives its state in that layout.
    """

    def __init__(self) -> None:
        super().__init__(self.build(), classes=CITYSCAPES_CLASSES)

    @classmethod
    def build(cls) -> nn.Module:
        """Build the transformers model with random weights."""
        raise NotImplementedError

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> Detectron2Network:
        """Load the weights of a detectron2 checkpoint.

        Entries that inference does not read (of the training loss, ``fusion_layer``) may be missing; any other must be
        there once.

        Args:
            weights: weight file; see :func:`rwpm_fast.networks.checkpoint.read_state_dict` for the formats.
            weights_key: place of the tensors in the file, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such file.
            ImportError: transformers or SciPy is missing, or cannot be imported.
            ValueError: the file is no weight file, or its tensors are not the network's; the message names them.
        """
        network = cls()
        view = detectron2.Detectron2State(network.model)
        state = read_state_dict(weights, view.places, weights_key=weights_key, unread=detectron2.UNREAD)
        load_state(view, state, name=network.name, path=weights)
        return network.eval()


class RbASwinB(Detectron2Network):
    """Rejected by All (Nayal et al., ICCV 2023), the released models ``swin_b_1dl*``: Swin-B, one decoder layer, one
    deformable level. The walk was published with this network."""

    name = "rba_swin_b"

    @classmethod
    def build(cls) -> nn.Module:
        parts = _parts()
        backbone = parts.swin(width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12)
        return parts.mask2former(backbone, classes=19, decoder_layers=1, levels=1)


class RbASwinL(Detectron2Network):
    """Rejected by All (Nayal et al., ICCV 2023), the released models ``swin_l_1dl*``: Swin-L, one decoder layer, one
    deformable level."""

    name = "rba_swin_l"

    @classmethod
    def build(cls) -> nn.Module:
        parts = _parts()
        backbone = parts.swin(width=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12)
        return parts.mask2former(backbone, classes=19, decoder_layers=1, levels=1)


class Mask2Anomaly(Detectron2Network):
    """Mask2Anomaly (Rai et al., ICCV 2023) as released: ResNet-50, three deformable levels, nine decoder layers with
    global masked attention. Photos are resized to a shorter side of 1024, and their scores are averaged with those of
    the mirror image."""

    name = "mask2anomaly"
    mirrored = True
    default_score = "mask2anomaly"
    shorter_side = 1024
    longest_side = 2048

    @classmethod
    def build(cls) -> nn.Module:
        parts = _parts()
        return parts.mask2former(parts.resnet(), classes=19, decoder_layers=9, global_masked_attention=True)

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        return size_by_shorter_side(photo_size, self.shorter_side, self.longest_side)


def _parts() -> ModuleType:
    """Import the module that needs transformers."""
    return import_models("mask2former_model", "Mask2Former")
