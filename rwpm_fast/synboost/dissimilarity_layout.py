"""Names of the dissimilarity network's weights in other layouts: in the released checkpoints of SynBoost, and, for its
image encoder, in torchvision's VGG16."""

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

_VGG16_STARTS = (0, 4, 9, 16)  # of each level among the layers of torchvision's VGG16
_LAYERS = 7  # of the longest level


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
    names = list(names)
    modules = dict(_released_modules(spade=any(".second_norm." in name for name in names)))
    return _renamed(names, modules)


def vgg16_names(names: Iterable[str]) -> dict[str, str]:
    """Name the entries of the image encoder as torchvision's VGG16 does.

    Args:
        names: all entries of its ``state_dict``.

    Returns:
        torchvision's name of each.
    """
    modules = {
        f"levels.{level}.{layer}": f"features.{start + layer}"
        for level, start in enumerate(_VGG16_STARTS)
        for layer in range(_LAYERS)
    }
    return _renamed(names, modules)


def _released_modules(spade: bool) -> Iterator[tuple[str, str]]:
    """Yield the names of modules, here and in the released network."""
    for level, fusion in enumerate(_FUSIONS):
        for layer in range(_LAYERS):
            yield f"image_encoder.levels.{level}.{layer}", f"vgg_encoder.layer{level + 1}.{layer}"
        yield f"semantic_encoder.levels.{level}.0", f"semantic_encoder.hidden_layers.{level}.0"
        yield f"dispersion_encoder.levels.{level}.0", f"prior_encoder.hidden_layers.{level}.0"
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


def _renamed(names: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    split = {name: name.rpartition(".") for name in names}
    return {name: f"{modules[module]}.{entry}" for name, (module, _, entry) in split.items()}
