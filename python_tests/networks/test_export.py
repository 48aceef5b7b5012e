"""Exported networks take photos of any size: no branch on a size is frozen to that of the example photo."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim

from rwpm_fast import Walk, networks, scores
from rwpm_fast.networks.dabnet import Downsample
from rwpm_fast.scenes import render_scene


def photo(height, width):
    made, _ = render_scene(np.random.default_rng(0), (height, width))
    return torch.tensor(made).permute(2, 0, 1)[None].contiguous()  # a package takes no other strides, and checks none


class Pipeline(torch.nn.Module):
    """Photos [1, 3, H, W] to scores [1, H, W]: pre-processing, network, walk, up-sampling, score."""

    def __init__(self, network):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.walk = Walk(steps=3, tolerance=1e-4)

    def forward(self, photos):
        embedding_map, context = self.network.encode(self.network.preprocess(photos))
        logits = self.walk(embedding_map, self.network.decode(embedding_map, context))
        logits = F.interpolate(logits, photos.shape[2:], mode="bilinear", align_corners=self.network.align_corners)
        return scores.energy(logits[0])[None]


def small_deeplab():
    return networks.DeepLabWRN38(width=4)


NETWORKS = {"compact": networks.load, "dabnet": networks.DABNet, "deeplab": small_deeplab}


def exported(pipeline, size):
    return torch.export.export(pipeline, (photo(*size),), dynamic_shapes=({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},))


@pytest.mark.parametrize(
    ("name", "example", "sizes"),
    [  # odd and even, on both sides of where photos are reduced
        pytest.param("compact", (72, 848), [(65, 97), (70, 833), (70, 832)], marks=pytest.mark.slow),
        ("compact", (96, 160), [(65, 97), (70, 833), (70, 832)]),
        pytest.param("dabnet", (64, 96), [(65, 97), (33, 64)], marks=pytest.mark.slow),
        ("deeplab", (32, 48), [(33, 47)]),
    ],
    ids=str,
)
def test_exported_network_equals_eager_at_other_sizes(name, example, sizes):
    torch.manual_seed(0)
    pipeline = Pipeline(NETWORKS[name]())
    module = exported(pipeline, example).module()
    for size in (example, *sizes):
        assert torch.equal(module(photo(*size)), pipeline(photo(*size))), size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compact", "dabnet"])
def test_package_equals_eager_at_other_sizes(name, tmp_path):
    torch.manual_seed(0)
    pipeline = Pipeline(NETWORKS[name]())
    path = torch._inductor.aoti_compile_and_package(
        exported(pipeline, (720, 1280)), package_path=str(tmp_path / "network.pt2")
    )
    package = torch._inductor.aoti_load_package(path)
    for size in ((720, 1280), (360, 640), (468, 832), (375, 1242), (722, 1282)):
        error = (package(photo(*size)) - pipeline(photo(*size))).abs().max().item()
        print(f"{name} {size}: {error:.1e}")
        assert error <= 1e-4


def by_float(photo_size):
    part = min(1.0, 832 / max(photo_size))
    return tuple(max(8, round(side * part)) for side in photo_size)


def test_compact_sizes_are_those_of_the_float_rule():
    network = networks.CompactNet()
    draw = random.Random(0)
    sizes = [(draw.randint(1, 4096), draw.randint(1, 4096)) for _ in range(20_000)]
    sizes += [(1664, side) for side in range(1, 1664)]  # every other side is a tie
    sizes += [(720, 1280), (1080, 1920), (1024, 2048), (375, 1242), (1, 1), (1, 4096), (8, 8), (832, 832), (833, 833)]
    for size in sizes:
        exact = 832 * min(size) / max(size)  # rounded differently by the float rule where it errs on a tie itself
        assert network.input_size(size) == by_float(size) or exact % 1 == 0.5, size
    for size in ((720, 1280), (833, 832), (40, 900), (832, 9)):
        assert tuple(network.preprocess(torch.zeros(1, 3, *size)).shape[2:]) == network.input_size(size)


def test_photos_that_keep_their_size_keep_every_bit():
    network = networks.CompactNet()
    for size in ((64, 96), (65, 97), (832, 832), (16, 832)):
        x = photo(*size)
        for images in (x, x.to(memory_format=torch.channels_last)):
            assert torch.equal(network.preprocess(images), images / 127.5 - 1)


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 13), (9, 13), (1, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("value", [1.0, torch.inf, torch.nan], ids=str)
def test_pooling_keeps_a_last_odd_row_and_column(size, value):
    layer = Downsample(4, 9).eval()
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    x[0, 0, -1, -1] = value
    wanted = torch.cat([layer.conv3x3(x), F.max_pool2d(x, 2, ceil_mode=True)], 1)
    assert torch.equal(layer(x).nan_to_num(7), layer.bn_prelu(wanted).nan_to_num(7))
