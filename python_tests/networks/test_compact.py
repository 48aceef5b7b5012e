import torch

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.networks.compact import EMBEDDING, WEIGHTS, CompactNet, Conv


def test_fits_into_the_package():
    network = networks.load()
    assert isinstance(network, CompactNet) and not network.training
    assert sum(p.numel() for p in network.parameters()) <= 1_500_000
    assert WEIGHTS.stat().st_size <= 3_000_000
    assert all(t.isfinite().all() for t in network.state_dict().values())


def test_maps_of_any_size():
    network = CompactNet().eval()
    for height, width in ((8, 8), (64, 96), (75, 141)):
        images = network.preprocess(torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8))
        with torch.inference_mode():
            embedding_map = network.embed(images)
            assert embedding_map.shape == (2, EMBEDDING, -(-height // 8), -(-width // 8))
            assert network.head(embedding_map).shape[1] == 19
            torch.testing.assert_close(network.embed(images[:1]), embedding_map[:1], rtol=1e-4, atol=1e-5)


def test_large_photos_are_made_smaller():
    network = CompactNet().eval()
    assert network.input_size((720, 1280)) == (468, 832)
    assert network.preprocess(torch.zeros(1, 3, 720, 1280)).shape == (1, 3, 468, 832)
    scored = Scorer(network, walk=None)(torch.zeros(3, 720, 1280, dtype=torch.uint8))
    assert scored.score.shape == (720, 1280) and scored.map_size == (59, 104)


def test_norms_fold_into_convolutions():
    torch.manual_seed(0)
    network = CompactNet().normalize().train()
    images = torch.randn(4, 3, 64, 64)
    for _ in range(3):
        network(images)
    network.eval()
    with torch.inference_mode():
        expected = network(images)
        folded = network.fold()(images)
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)
    assert folded.std() > 0
    assert network.state_dict().keys() == CompactNet().state_dict().keys()


def test_gradients_in_half_precision_are_those_in_float32():
    """They would not be of dilated depthwise convolutions in bfloat16, see findings."""
    torch.manual_seed(0)
    conv = Conv(128, 128, 3, dilation=2, groups=128)
    conv.norm = torch.nn.BatchNorm2d(128)
    conv.to(memory_format=torch.channels_last)
    x = torch.randn(4, 128, 32, 60).to(memory_format=torch.channels_last)
    gradients = []
    for half in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            conv(x.bfloat16() if half else x.bfloat16().float()).float().relu().square().mean().backward()
        gradients.append(conv.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=0, atol=0.02 * gradients[0].abs().max().item())


def test_segments_road_and_sky_of_scenes_it_was_not_trained_on():
    import numpy as np

    from rwpm_fast.scenes import render_scene

    scorer = Scorer(networks.load(), walk=Walk(steps=5))
    right, total = torch.zeros(2), torch.zeros(2)
    for child in np.random.SeedSequence(7).spawn(4):
        photo, class_map = render_scene(np.random.default_rng(child), (256, 512))
        segmentation = scorer(photo).segmentation
        for row, kind in enumerate((0, 10)):  # road, sky
            there = torch.from_numpy(class_map == kind)
            right[row] += (segmentation[there] == kind).sum()
            total[row] += there.sum()
    assert (right / total > 0.85).all()
