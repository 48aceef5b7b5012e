"""Mask2Former (Cheng et al., CVPR 2022, arXiv 2112.01527) built from Hugging Face transformers, with what its
descendants change: the number of levels that the deformable encoder reads, and global masked attention.

Only this module needs transformers; importing it without them raises ImportError.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    PretrainedConfig,
    ResNetConfig,
    SwinConfig,
)
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention as DeformableAttention,
)

from .transformers_model import pretrained as load_pretrained

STAGES = ["stage1", "stage2", "stage3", "stage4"]
STRIDES = (4, 8, 16, 32)  # of the backbone's stages

# Entries of Swin that inference does not read and that a file may lack.
UNREAD = re.compile(r"\.swin\.layernorm\.|\.relative_position_index$")


def swin(*, width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> PretrainedConfig:
    """Configure a Swin transformer (Liu et al., ICCV 2021) as a backbone of four stages.

    Args:
        width: channels of the first stage; each later stage has twice as many.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: side of the attention windows, in patches.
    """
    return SwinConfig(
        embed_dim=width,
        depths=list(depths),
        num_heads=list(heads),
        window_size=window,
        drop_path_rate=0.0,
        out_features=STAGES,
    )


def resnet(*, depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> PretrainedConfig:
    """Configure a ResNet (He et al., CVPR 2016) with bottlenecks that stride in their 3 x 3 convolutions.

    Args:
        depths: blocks of each stage; those of ResNet-50 by default.
        width: channels of the stem.
    """
    return ResNetConfig(
        embedding_size=width,
        hidden_sizes=[4 * width * 2**stage for stage in range(4)],
        depths=list(depths),
        downsample_in_bottleneck=False,
        out_features=STAGES,
    )


def mask2former(
    backbone: PretrainedConfig,
    *,
    classes: int,
    decoder_layers: int,
    levels: int = 3,
    global_masked_attention: bool = False,
    **settings: Any,
) -> Mask2FormerForUniversalSegmentation:
    """Build a network with random weights, in evaluation mode.

    Args:
        backbone: configuration of four stages with strides 4, 8, 16, 32.
        classes: K, without void.
        decoder_layers: number of layers of the transformer decoder.
        levels: backbone stages that the deformable encoder reads, counted from the coarsest, 1 to 3; the others enter
            in the feature pyramid.
        global_masked_attention: see :class:`GlobalMaskedAttention`.
        settings: further arguments of ``Mask2FormerConfig``.
    """
    config = Mask2FormerConfig(
        num_labels=classes,
        decoder_layers=decoder_layers + 1,  # counts the prediction before the first layer
        # Used for one thing only: how many levels the pyramid adds to the finest one of the deformable encoder.
        feature_strides=[max(stride, STRIDES[-levels]) for stride in STRIDES],
        **settings,
    )
    config.backbone_config = backbone  # set here, since the constructor warns of any backbone but Swin
    model = Mask2FormerForUniversalSegmentation(config)
    if isinstance(backbone, SwinConfig):
        model.model.pixel_level_module.encoder.swin.layernorm = nn.Identity()  # its output is not used
    if levels != 3:  # hard-coded
        _set_levels(model, levels)
    if global_masked_attention:
        for layer in model.model.transformer_module.decoder.layers:
            layer.cross_attn = GlobalMaskedAttention(config.hidden_dim, config.num_attention_heads)
    return model.eval()


def pretrained(folder: Path, weights_key: str | None = None) -> Mask2FormerForUniversalSegmentation:
    """Load the network that ``save_pretrained`` wrote, in evaluation mode.

    Args:
        folder: with ``config.json`` and the weights.
        weights_key: place of the tensors in the file of weights, where several sets of them fit.

    Raises:
        OSError: there are no weights in the folder.
        ValueError: the weights do not fit the configuration, are not finite, or their file is cut short.
    """
    return load_pretrained(
        Mask2FormerForUniversalSegmentation,
        folder,
        weights_key,
        is_stable=lambda name: not name.startswith("model.pixel_level_module.encoder."),  # the backbone's
        unread=UNREAD,
    )


class GlobalMaskedAttention(nn.Module):
    """Cross-attention of Mask2Anomaly (Rai et al., ICCV 2023): one attention to the foreground of a query's mask plus
    a second one to its background. It takes the place of ``nn.MultiheadAttention``.

    Args:
        channels: of queries, keys and values.
        heads: number of attention heads of each of the two.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.foreground = nn.MultiheadAttention(channels, heads)
        self.background = nn.MultiheadAttention(channels, heads)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, key_padding_mask: None = None
    ) -> tuple[Tensor, None]:
        """Attend to the foreground and to the background of every query.

        Args:
            query: [Q, B, C].
            key: [N, B, C].
            value: [N, B, C].
            attn_mask: [B * heads, Q, N] bool, True where a pixel is no foreground of the query; all False for a query
                without foreground.
            key_padding_mask: not used.

        Returns:
            Attended values [Q, B, C], and None in place of the attention weights.
        """
        in_foreground = ~attn_mask
        in_foreground &= ~in_foreground.all(-1, keepdim=True)  # without background, attend to all pixels
        front, _ = self.foreground(query, key, value, attn_mask=attn_mask, need_weights=False)
        back, _ = self.background(query, key, value, attn_mask=in_foreground, need_weights=False)
        return front + back, None


def _set_levels(model: Mask2FormerForUniversalSegmentation, levels: int) -> None:
    """Restrict encoder and decoder to the coarsest levels."""

    pixels, queries = model.model.pixel_level_module.decoder, model.model.transformer_module
    pixels.num_feature_levels = queries.num_feature_levels = queries.decoder.num_feature_levels = levels
    pixels.input_projections = pixels.input_projections[:levels]  # from the coarsest
    pixels.level_embed = nn.Parameter(pixels.level_embed.detach()[:levels].clone())
    queries.level_embed = nn.Embedding(levels, queries.level_embed.embedding_dim)
    for layer in pixels.encoder.layers:
        old = layer.self_attn
        layer.self_attn = DeformableAttention(old.d_model, old.n_heads, n_levels=levels, n_points=old.n_points)
        model._init_weights(layer.self_attn)
