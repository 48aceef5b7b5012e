"""Names of the dissimilarity network's weights in the released checkpoints of SynBoost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

# In the released network: of each decoder block, coarse to fine, the first convolution, the rest of the block, and the
# up-sampling, which the last one lacks; and the fusions, fine to coarse.
_BLOCKS = (
    ("conv1", "conv2", "tconv1"),
    ("conv12", "conv13", "tconv3"),
    ("conv3", "conv4", "tconv2"),
    ("conv5", "conv6", ""),
)
_FUSIONS = ("conv10", "conv9", "conv8", "conv7")

# Layers of VGG16 at which the levels of the released image encoder begin: each with its pooling.
_VGG16_LEVELS = (0, 4, 9, 16, 23)


class RenamedState:
    """The state of a module under other names, to load files that have these.

    Args:
        module: the module.
        names: the other name of each of its entries.
    """

    def __init__(self, module: nn.Module, names: Mapping[str, str]) -> None:
        self.module = module
        self.names = names

    def state_dict(self) -> dict[str, Tensor]:
        """Return every entry under its other name."""
        return {self.names[name]: tensor for name, tensor in self.module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Fill the module from entries under the names of ``state_dict``."""
        self.module.load_state_dict({name: state[other] for name, other in self.names.items()})


def released_names(names: Iterable[str]) -> dict[str, str]:
    """Name the entries of a :class:`~rwpm_fast.synboost.dissimilarity.DissimilarityNet` as the released checkpoints do.

    Args:
        names: all entries of its ``state_dict``.

    Returns:
        The released name of each.
    """
    split = {name: name.rpartition(".") for name in names}
    modules = dict(_released_modules(spade=any(".second_norm." in name for name in split)))
    return {name: f"{modules[module]}.{entry}" for name, (module, _, entry) in split.items()}


def _released_modules(spade: bool) -> Iterator[tuple[str, str]]:
    """Yield the names of modules, here and in the released network."""
    for level, fusion in enumerate(_FUSIONS):
        start, end = _VGG16_LEVELS[level : level + 2]
        for layer in range(start, end):
            yield f"image_encoder.features.{layer}", f"vgg_encoder.layer{level + 1}.{layer - start}"
        yield f"semantic_encoder.levels.{level}", f"semantic_encoder.hidden_layers.{level}.0"
        yield f"dispersion_encoder.levels.{level}", f"prior_encoder.hidden_layers.{level}.0"
        yield f"fusions.{level}", fusion
    for number, (first, rest, upsample) in enumerate(_BLOCKS):
        block = f"decoder.{number}"
        yield f"{block}.first", f"{first}.0"
        yield f"{block}.second", f"{rest}.conv" if spade else f"{rest}.0"
        yield f"{block}.upsample", upsample
        for norm, released in (("first_norm", "norm1"), ("second_norm", "norm2")):
            yield f"{block}.{norm}.hidden", f"{rest}.{released}.shared.0"
            yield f"{block}.{norm}.gamma", f"{rest}.{released}.gamma"
            yield f"{block}.{norm}.beta", f"{rest}.{released}.beta"
    yield "head", "conv11"
