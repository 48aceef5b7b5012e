"""EoMT (Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025) of Hugging Face transformers, on
DINOv2 and on DINOv3.

Needs transformers and SciPy, which are imported when a folder is loaded.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Encoded, MaskLogits, Network
from .precision import at_least_float32
from .resize import resize_photos, size_by_shorter_side
from .transformers_folder import PIXEL_MEAN, PIXEL_STD, class_names, import_models, open_folder, pixel_statistics


class EoMT(Network):
    """Any ``EomtForUniversalSegmentation`` of transformers.

    A photo is resized to a shorter side of ``image_size``, the longer one at most twice that, and seen as a whole: the
    position embeddings, which are square, are interpolated to its grid of patches. The published evaluation cuts it
    into square windows instead and averages their scores; on a square photo of ``image_size`` both are the same.

    What ``upscale_block`` gives at its last call walks: the patches' tokens, enlarged to stride 4 (for patches of 16).
    The masks are products of the queries with it, and nothing else reads it, so that the masks walk instead, which is
    the same and has fewer channels; classes and queries are out of the walk's reach. The tokens before that block have
    a stride of 16, too coarse for small objects, and the queries attend to them.

    Args:
        model: the transformers model.
        classes: names of its classes; by default those of its configuration.
        pixel_mean: of red, green and blue, 0..255.
        pixel_std: standard deviation of red, green and blue, 0..255.
        size: height and width to which photos are resized, in place of the rule above.

    Raises:
        ValueError: patches that the enlargement does not make whole pixels of, or attention masks that are left out at
            random, as in the midst of a training.
    """

    name = "eomt"
    linear_head = True
    mask_head = True
    default_score = "rba"

    folder_type = "eomt"
    class_name = "EomtForUniversalSegmentation"

    model: Any  # of transformers, whose types are not known without it

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: tuple[str, ...] | None = None,
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        config = self.model.config
        self.classes = class_names(config) if classes is None else classes
        self.pixel_mean, self.pixel_std, self.fixed_size = pixel_mean, pixel_std, size
        self.padded_to = config.patch_size
        enlarged = 2**config.num_upscale_blocks
        if config.patch_size % enlarged:
            raise ValueError(
                f"model: expected a patch_size that {enlarged} divides, by which its map is enlarged, got "
                f"{config.patch_size}"
            )
        self.stride = config.patch_size // enlarged
        probabilities = self.model.attn_mask_probs.tolist()
        if any(0 < value < 1 for value in probabilities):
            raise ValueError(
                f"model: expected attn_mask_probs of 0, as after the training, or 1, got {probabilities}, by which "
                "masks are left out at random"
            )
        self._masked = [value > 0 for value in probabilities]  # of the last layers

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        shorter = self.model.config.image_size
        return size_by_shorter_side(photo_size, shorter, 2 * shorter) if self.fixed_size is None else self.fixed_size

    def preprocess(self, photos: Tensor) -> Tensor:
        size = (photos.shape[-2], photos.shape[-1])
        photos = resize_photos(photos, self.input_size(size))
        mean, std = (photos.new_tensor(values).view(3, 1, 1) for values in (self.pixel_mean, self.pixel_std))
        return self.pad((photos - mean) / std, size).to(next(self.parameters()).dtype)

    def encode(self, images: Tensor) -> Encoded:
        """Compute the enlarged map [B, D, h, w]; the context is the classes [B, Q, K + 1] and mask embeddings [B, Q, D]
        of the queries."""
        model, queries = self.model, self.model.query.weight
        grid = (images.shape[-2] // self.padded_to, images.shape[-1] // self.padded_to)
        tokens, settings = self._embedded(images, grid)
        mask = None
        plain = len(model.layers) - len(self._masked)  # layers without queries
        for number, layer in enumerate(model.layers):
            if number == plain:
                tokens = torch.cat([queries.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
            if number >= plain and self._masked[number - plain]:
                mask = self._attention_mask(tokens, grid)  # later layers without one of their own keep it
            tokens = layer(tokens, attention_mask=mask, **settings)
        map_, embeddings, classes = self._predicted(tokens, grid)
        return Encoded(at_least_float32(map_), (at_least_float32(classes), at_least_float32(embeddings)))

    def decode(self, embedding_map: Tensor, context: Any = None) -> MaskLogits:
        classes, embeddings = context
        return MaskLogits(classes, torch.einsum("bqc,bchw->bqhw", embeddings.to(embedding_map.dtype), embedding_map))

    def _embedded(self, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, dict[str, Any]]:
        """Tokens [B, prefix + h w, D] of images, and what layers read besides."""
        parts = self.model.embeddings
        side = self.model.grid_size
        positions = parts.position_embeddings.weight.mT.unflatten(1, side)[None]  # [1, D, side, side]
        positions = F.interpolate(positions, grid, mode="bicubic", align_corners=False)  # as it is for the same grid
        patches = parts.patch_embeddings(images) + positions.flatten(2).mT
        first = [parts.cls_token, parts.register_tokens]
        return torch.cat([*(token.expand(len(images), -1, -1) for token in first), patches], dim=1), {}

    def _predicted(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The enlarged map [B, D, h, w], mask embeddings [B, Q, D] and classes [B, Q, K + 1] of tokens."""
        model, count = self.model, self.model.config.num_queries
        tokens = model.layernorm(tokens)
        queries, patches = tokens[:, :count], tokens[:, count + model.embeddings.num_prefix_tokens :]
        map_ = model.upscale_block(patches.mT.unflatten(-1, grid))
        return map_, model.mask_head(queries), model.class_predictor(queries)

    def _attention_mask(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """What is added to the attention, [B, 1, N, N]: queries see the patches in their masks alone."""
        map_, embeddings, _ = self._predicted(tokens, grid)
        masks = F.interpolate(torch.einsum("bqc,bchw->bqhw", embeddings, map_), grid, mode="bilinear").flatten(2)
        batch, count = masks.shape[:2]
        added = tokens.new_zeros(batch, 1, tokens.shape[1], tokens.shape[1])
        patches = added[:, 0, :count, count + self.model.embeddings.num_prefix_tokens :]
        patches.masked_fill_(masks <= 0, torch.finfo(tokens.dtype).min)
        return added

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> EoMT:
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
            ValueError: it holds another model, see :class:`EoMT`, the weights do not fit the configuration, are not
                finite, or a file is cut short.
        """
        models = import_models("transformers_model", "EoMT")
        folder = open_folder(weights, cls.folder_type)
        model = models.pretrained(models.kind(cls.class_name), folder, weights_key)
        return cls(model, **pixel_statistics(folder)).eval()


class EoMTDINOv3(EoMT):
    """Any ``EomtDinov3ForUniversalSegmentation`` of transformers: as :class:`EoMT`, with positions that are computed
    for every grid of patches instead of interpolated."""

    name = "eomt_dinov3"
    folder_type = "eomt_dinov3"
    class_name = "EomtDinov3ForUniversalSegmentation"

    def _embedded(self, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, dict[str, Any]]:
        positions = self.model.rope_embeddings(images)
        return self.model.embeddings(images), {"position_embeddings": positions}
