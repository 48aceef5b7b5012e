import pytest
import torch

from rwpm_fast.ops.pixel_order import to_map, to_pixels


@pytest.mark.parametrize(("height", "width"), [(16, 24), (17, 30), (8, 5), (3, 40), (5, 7), (1, 1), (8, 8)])
def test_there_and_back(height, width):
    map_ = torch.randn(2, 3, height, width)
    pixels = to_pixels(map_)
    assert pixels.shape == (2, height * width, 3)
    assert torch.equal(to_map(pixels, height, width), map_)


def test_patch_by_patch():
    place = torch.stack(torch.meshgrid(torch.arange(20), torch.arange(27), indexing="ij"))[None].float()
    pixels = to_pixels(place)[0].long()
    assert pixels.unique(dim=0).shape == (540, 2)
    patches = pixels[: 16 * 24].view(-1, 64, 2) // 8  # 6 whole patches, each of one place
    assert torch.equal(patches, patches[:, :1].expand_as(patches))
    assert torch.equal(pixels[:8, 0], torch.zeros(8, dtype=torch.long))
