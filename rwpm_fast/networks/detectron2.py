"""The layout of detectron2's Mask2Former checkpoints, which those of RbA and Mask2Anomaly share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Entries of published files that inference does not read: a table that follows from the window's size, and a
# convolution of Mask2Anomaly that is never called.
UNREAD = re.compile(
    r"^backbone\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index$"
    r"|^sem_seg_head\.predictor\.transformer_cross_attention_layers\.\d+\.fusion_layer\.(weight|bias)$"
)

_DECODER_LAYER = r"^decoder\.layers\.(\d+)\."

# Prefix of a part in transformers, its prefix in detectron2, and rules that rename the rest, applied in order.
_PARTS = (
    (
        "model.pixel_level_module.encoder.",
        "backbone.",
        (
            # Swin
            (r"^swin\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^swin\.embeddings\.norm\.", "patch_embed.norm."),
            (r"^swin\.encoder\.", ""),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.attention\.o_proj\.", ".attn.proj."),
            (r"\.attention\.[qkv]_proj\.", ".attn.qkv."),
            (r"\.attention\.relative_position_bias\.", ".attn."),
            (r"^hidden_states_norms\.stage(\d)\.", lambda found: f"norm{int(found[1]) - 1}."),
            # ResNet
            (r"^embedder\.embedder\.", "stem.conv1."),
            (r"^encoder\.stages\.(\d)\.layers\.", lambda found: f"res{int(found[1]) + 2}."),
            (r"\.layer\.(\d)\.", lambda found: f".conv{int(found[1]) + 1}."),
            (r"\.convolution\.", "."),
            (r"\.normalization\.", ".norm."),
        ),
    ),
    (
        "model.pixel_level_module.decoder.",
        "sem_seg_head.pixel_decoder.",
        (
            (r"^level_embed", "transformer.level_embed"),
            (r"^encoder\.", "transformer.encoder."),
            (r"^input_projections\.", "input_proj."),
            (r"^mask_projection\.", "mask_features."),
            (r"^(adapter_\d|layer_\d)\.0\.", r"\1."),
            (r"^(adapter_\d|layer_\d)\.1\.", r"\1.norm."),
            (r"\.self_attn_layer_norm\.", ".norm1."),
            (r"\.final_layer_norm\.", ".norm2."),
            (r"\.fc([12])\.", r".linear\1."),
        ),
    ),
    (
        "model.transformer_module.",
        "sem_seg_head.predictor.",
        (
            (r"^queries_embedder\.", "query_embed."),
            (r"^queries_features\.", "query_feat."),
            (r"^decoder\.layernorm\.", "decoder_norm."),
            (r"^decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.", r"mask_embed.layers.\1."),
            (_DECODER_LAYER + r"self_attn\.[qkv]_proj\.", r"transformer_self_attention_layers.\1.self_attn.in_proj_"),
            (_DECODER_LAYER + r"self_attn\.", r"transformer_self_attention_layers.\1.self_attn."),
            (_DECODER_LAYER + r"self_attn_layer_norm\.", r"transformer_self_attention_layers.\1.norm."),
            (_DECODER_LAYER + r"cross_attn_layer_norm\.", r"transformer_cross_attention_layers.\1.norm."),
            (
                _DECODER_LAYER + r"cross_attn\.(foreground|background)\.",
                r"transformer_cross_attention_layers.\1.multihead_attn_\2.",
            ),
            (_DECODER_LAYER + r"cross_attn\.", r"transformer_cross_attention_layers.\1.multihead_attn."),
            (_DECODER_LAYER + r"fc([12])\.", r"transformer_ffn_layers.\1.linear\2."),
            (_DECODER_LAYER + r"final_layer_norm\.", r"transformer_ffn_layers.\1.norm."),
        ),
    ),
    ("class_predictor.", "sem_seg_head.predictor.class_embed.", ()),
)


class Detectron2State:
    """The state of a transformers Mask2Former under the names and in the shapes of detectron2.

    One tensor of detectron2 may be three here: queries, keys and values of an attention.

    Args:
        model: the transformers model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        places = defaultdict(list)
        for name in model.state_dict():
            if (theirs := _detectron2_name(name)) is not None:
                places[theirs].append(name)
        self.places = {theirs: sorted(names, key=_thirds) for theirs, names in places.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return every entry that inference reads."""
        ours = self.model.state_dict()
        return {
            theirs: ours[names[0]] if len(names) == 1 else torch.cat([ours[name] for name in names])
            for theirs, names in self.places.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Fill the model from entries under the names of ``state_dict``."""
        ours = self.model.state_dict()
        for theirs, names in self.places.items():
            parts = [state[theirs]] if len(names) == 1 else state[theirs].chunk(len(names))
            ours.update(zip(names, parts, strict=True))
        self.model.load_state_dict(ours)


def _detectron2_name(name: str) -> str | None:
    """Name of detectron2's entry that is, or contains, this entry of transformers; None for entries of the loss."""
    for ours, theirs, rules in _PARTS:
        if name.startswith(ours):
            name = name.removeprefix(ours)
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            return theirs + name
    return None


def _thirds(name: str) -> int:
    """Index of the third of an attention's input projection that the entry is: queries, keys, values."""

    found = re.search(r"\.([qkv])_proj\.", name)
    return "qkv".index(found[1]) if found else 0
