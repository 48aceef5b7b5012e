"""A scorer as one graph: the scorer's results, whatever compiles it, for photos of all sizes."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Predictor, Scorer, Walk, networks
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.pipeline import Pipeline
from rwpm_fast.networks import Network
from rwpm_fast.scenes import render_scene

# Large enough that all convolutions run in the same library. Some are whole multiples of 16 and of 64 / 3.
SIZES = ((136, 144), (145, 129), (128, 256), (144, 145), (195, 154), (130, 130), (192, 128), (139, 177))


def photo(size, seed=0):
    return torch.from_numpy(render_scene(np.random.default_rng(seed), size)[0].copy())


class PlainNetwork(TinyNetwork):
    """It does not count its passes, which a compiled graph would depend on."""

    def embed(self, images):
        return self.body(images)


class PaddedNetwork(PlainNetwork):
    """Its input is filled up to a multiple of 16."""

    padded_to = 16

    def preprocess(self, photos):
        return self.pad(super().preprocess(photos), photos.shape[-2:])


class ResizedNetwork(PaddedNetwork):
    """Its input is three quarters of the photo, filled up."""

    def input_size(self, photo_size):
        height, width = (side * 3 // 4 for side in photo_size)
        return height, width

    def preprocess(self, photos):
        size = self.input_size(photos.shape[-2:])
        images = torch.nn.functional.interpolate(photos.float() / 32, size, mode="bilinear")
        return self.pad(images, photos.shape[-2:])


NETWORKS = (PlainNetwork, PaddedNetwork, ResizedNetwork)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("score", ["energy", "max_logit", "max_softmax", "entropy", "blurred_energy"])
def test_equals_the_scorer(network, score):
    scorer = Scorer(network(), score, Walk(steps=2))
    for size in SIZES[:2]:
        wanted = scorer(photo(size).numpy())
        found, segmentation = Pipeline(scorer)(photo(size))
        assert torch.equal(found, wanted.score) and torch.equal(segmentation.long(), wanted.segmentation)
        found, segmentation = Pipeline(scorer, one_pass=True)(photo(size))
        torch.testing.assert_close(found, wanted.score, rtol=2e-6, atol=2e-6)
        assert (segmentation.long() == wanted.segmentation).float().mean() > 0.999


def assert_equal(found, wanted, size):
    """The same but for rounding: where nothing is padded, eager computes score and segmentation in one pass."""
    torch.testing.assert_close(found[0], wanted[0], rtol=2e-6, atol=2e-6, msg=lambda text: f"{size}: {text}")
    assert (found[1] == wanted[1]).float().mean() > 0.999, size


@pytest.mark.parametrize(
    ("network", "score"),
    [
        (ResizedNetwork, "energy"),
        (PaddedNetwork, "blurred_energy"),
        *(pytest.param(network, "energy", marks=pytest.mark.slow) for network in (PlainNetwork, PaddedNetwork)),
    ],
)
@torch.no_grad()
def test_one_exported_graph_serves_every_size(network, score):
    from rwpm_fast.deploy.tracing import trace

    pipeline = Pipeline(Scorer(network(), score, Walk(steps=2)), one_pass=True)
    graph = trace(pipeline, photo(SIZES[0]))[0].module(check_guards=False)  # of layouts
    for size in SIZES:
        assert_equal(graph(photo(size)), pipeline(photo(size)), size)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_compiled_once_for_eight_sizes(network):
    torch._dynamo.reset()
    counter = CompileCounter()
    pipeline = Pipeline(Scorer(network(), walk=Walk(steps=2)), one_pass=True)
    compiled = torch.compile(pipeline, fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES:
        assert_equal(compiled(photo(size)), pipeline(photo(size)), size)
    assert counter.frame_count == 1


# A photo of less than 20 480 elements would be compiled for once more: torch chooses convolutions by that number.
PHOTO_SIZES = ((720, 1280), (375, 1242), (468, 832), (360, 640), (1024, 2048), (722, 1281), (201, 333), (833, 832))


@pytest.mark.slow
def test_the_compact_network_is_compiled_once_for_eight_sizes():
    torch._dynamo.reset()
    scorer = Scorer(networks.load("compact"), walk=Walk(tolerance=1e-4))
    predictor = Predictor(scorer, compiled=True)
    # A graph from the compiler's cache would serve one side of 832 only (findings/torch_compile_warm_cache.sh).
    with torch._dynamo.config.patch(error_on_recompile=True), torch._inductor.utils.fresh_cache():
        for size in PHOTO_SIZES:
            wanted = scorer(photo(size).numpy()).score
            found = torch.from_numpy(predictor(photo(size).numpy()).score)
            assert (found - wanted).abs().max() <= 1e-5 * (wanted.max() - wanted.min()), size


def test_what_is_more_than_one_graph_is_told():
    class Other(Scorer):
        """Another kind of scorer, as SynBoost's is."""

    with pytest.raises(TypeError, match=r"scorer: expected a rwpm_fast\.Scorer of a network and a walk, got Other"):
        Pipeline(Other(TinyNetwork()))
    unpadded = Scorer(PaddedNetwork(), walk=Walk(), walk_padding=False)
    with pytest.raises(ValueError, match="scorer: which padding is left out depends on the photo's size"):
        Pipeline(unpadded)
    calibrated = Scorer(TinyNetwork(), walk=Walk(parts=2), calibrated=True)
    with pytest.raises(ValueError, match="scorer: calibrated scores depend on the photo's size"):
        Pipeline(calibrated)


def test_too_many_classes_are_told():
    class Many(Network):
        name, classes, stride, linear_head = "many", tuple(map(str, range(257))), 1, True

    with pytest.raises(ValueError, match="scorer: expected up to 256 classes for uint8, got 257"):
        Pipeline(Scorer(Many()))


class Windowed(torch.nn.Module):
    """Takes another way below some pixels a side, as a Swin transformer where a map is smaller than its windows."""

    def __init__(self, least):
        super().__init__()
        self.least = least

    def forward(self, photo):
        score = photo.float().mean(-1)
        return score + 1 if min(photo.shape[:2]) < self.least else score, photo[..., 0]


def test_a_way_that_only_small_photos_take_raises_the_smallest_side():
    from rwpm_fast.deploy.tracing import trace

    sides = {least: trace(Windowed(least), photo((600, 700)))[1] for least in (8, 65, 97, 300, 512)}
    assert sides == {8: 64, 65: 65, 97: 97, 300: 319, 512: 512}
    with pytest.raises(ExportError, match=r"traced it is wrong for 64x64: .*; compute sizes without branches"):
        trace(Windowed(513), photo((600, 700)))
