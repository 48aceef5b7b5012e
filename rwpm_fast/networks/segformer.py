"""SegFormer (Xie et al., NeurIPS 2021, arXiv 2105.15203) of Hugging Face transformers.

Needs transformers and SciPy, which are imported when a folder is loaded.
"""

from __future__ import annotations

import re
from os import PathLike
from typing import Any

from torch import nn

from .attach import Attached
from .transformers_folder import PIXEL_MEAN, PIXEL_STD, class_names, import_models, open_folder, pixel_statistics

# Entries that are called the same in files of every version of transformers.
STABLE = re.compile(r"^decode_head\.(linear_fuse|batch_norm|classifier)\.")


class SegFormer(Attached):
    """Any ``SegformerForSemanticSegmentation`` of transformers, scored at the photo's own size.

    What the classifier reads walks: the fused map of all four stages, with ``decoder_hidden_size`` channels >= 0 at
    stride 4. The classifier is linear, so that its logits walk instead. No map before it has both the finest stride and
    all that the classifier knows.

    Args:
        model: the transformers model.
        classes: names of its classes; by default those of its configuration.
        pixel_mean: of red, green and blue, 0..255.
        pixel_std: standard deviation of red, green and blue, 0..255.

    Example:
        >>> network = networks.load("segformer", "segformer-b0-finetuned-cityscapes-1024-1024", size=(512, 1024))
    """

    name = "segformer"

    model: Any  # of transformers, whose types are not known without it

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: tuple[str, ...] | None = None,
        pixel_mean: tuple[float, ...] = PIXEL_MEAN,
        pixel_std: tuple[float, ...] = PIXEL_STD,
    ) -> None:
        mean, std = ([value / 255 for value in values] for values in (pixel_mean, pixel_std))
        super().__init__(model, "decode_head.dropout", "decode_head.classifier", (mean, std), align_corners=False)
        config = self.model.config
        self.name = type(self).name
        self.stride = config.strides[0]
        self.linear_head = self._linear = True
        self._name_outputs(class_names(config) if classes is None else classes)

    @classmethod
    def load(cls, weights: str | PathLike[str], *, weights_key: str | None = None) -> SegFormer:
        """Load the network in a folder that ``save_pretrained`` wrote.

        Nothing is downloaded. Mean and standard deviation are those of ``preprocessor_config.json``, if there is one;
        its size is not taken, since it makes photos square: ``size`` of :func:`rwpm_fast.networks.load` sets another.

        Args:
            weights: the folder.
            weights_key: place of the tensors in the folder's file of weights, where several sets of them fit.

        Returns:
            The network, in evaluation mode on the CPU.

        Raises:
            FileNotFoundError: there is no such folder, or no ``config.json`` in it.
            ImportError: transformers or SciPy is missing, or cannot be imported.
            OSError: there are no weights in it.
            ValueError: it holds another model, the weights do not fit the configuration, are not finite, or a file is
                cut short.
        """
        models = import_models("transformers_model", "SegFormer")
        folder = open_folder(weights, "segformer")
        kind = models.kind("SegformerForSemanticSegmentation")
        model = models.pretrained(kind, folder, weights_key, is_stable=STABLE.search)
        return cls(model, **pixel_statistics(folder)).eval()
