from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Walk, reference, scores
from rwpm_fast.networks import Network
from rwpm_fast.scoring.scorer import Scorer


class BentNetwork(TinyNetwork):
    linear_head = False
    align_corners = True

    def head(self, embedding_map: Tensor) -> Tensor:
        return self.classifier(embedding_map.tanh())


class ReferenceWalk(nn.Module):
    def forward(self, embedding_map: Tensor, value_map: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        values = embedding_map if value_map is None else value_map
        walked = reference.walk(
            embedding_map.flatten(2).mT, values.flatten(2).mT, mask=None if mask is None else mask.flatten(1)
        )
        return walked.mT.reshape(values.shape)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def logits_of(network: Network, photo: np.ndarray, walk=None) -> Tensor:
    with torch.no_grad():
        embedding_map = network.embed(network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None]))
        logits = network.head(embedding_map if walk is None else walk(embedding_map))
        return F.interpolate(logits, photo.shape[:2], mode="bilinear", align_corners=network.align_corners)[0]


@pytest.mark.parametrize("network", [TinyNetwork(), BentNetwork()], ids=["linear", "bent"])
@pytest.mark.parametrize("walk", [None, ReferenceWalk()], ids=["plain", "walked"])
def test_score_and_segmentation(network, walk, photo):
    expected = logits_of(network, photo, walk)
    scored = Scorer(network, walk=walk)(photo)
    assert scored.score.dtype == torch.float32
    torch.testing.assert_close(scored.score, scores.energy(expected), rtol=0, atol=1e-4)
    assert scored.segmentation.dtype == torch.int64
    assert (scored.segmentation == expected.argmax(0)).float().mean() > 0.99
    assert scored.map_size == (12, 18)
    assert scored.network_seconds > 0
    assert scored.score_seconds > 0
    assert (scored.walk_seconds > 0) == (walk is not None)


@pytest.mark.parametrize("bias", [True, False])
def test_logits_and_embeddings_walk_to_one_map(photo, bias):
    maps = [
        Scorer(TinyNetwork(bias), walk=ReferenceWalk(), walk_values=values)(photo).score
        for values in ("auto", "logits", "embeddings")
    ]
    plain = Scorer(TinyNetwork(bias))(photo).score
    assert torch.equal(maps[0], maps[1])
    torch.testing.assert_close(maps[1], maps[2], rtol=0, atol=1e-4)
    assert (maps[0] - plain).abs().max() > 0.1


def test_analysis_gives_every_score_from_one_pass(photo):
    network = TinyNetwork()
    analysis = Scorer(network, walk=ReferenceWalk()).analyze(photo)
    for prediction, walk in ((analysis.plain, None), (analysis.walked, ReferenceWalk())):
        expected = logits_of(TinyNetwork(), photo, walk)
        for name in ("energy", "max_logit", "max_softmax", "entropy"):
            torch.testing.assert_close(prediction.score(name), scores.get(name)(expected), rtol=0, atol=1e-4)
    assert network.passes == 1
    assert analysis.embedding_map.shape == (6, 12, 18)


@pytest.mark.parametrize("values", ["logits", "embeddings"])
def test_scorers_share_a_network_pass(photo, values):
    network, mask = TinyNetwork(), np.ones(photo.shape[:2], bool)
    mask[:, :12] = False
    walked, plain = Scorer(network, walk=ReferenceWalk(), walk_values=values), Scorer(network)
    embedded = plain.embed(photo, mask)
    analyses = [scorer.analyze_embedded(embedded) for scorer in (plain, walked, plain)]
    assert network.passes == 1
    for scorer, analysis in zip((plain, walked, plain), analyses, strict=True):
        assert torch.equal(analysis.walked.logits, scorer.analyze(photo, mask).walked.logits)
        assert analysis.network_seconds > embedded.seconds > 0
        assert (analysis.walk_seconds > 0) == (scorer is walked)


def test_without_walk_plain_and_walked_agree(photo):
    analysis = Scorer(TinyNetwork()).analyze(photo)
    assert torch.equal(analysis.plain.full_logits, analysis.walked.full_logits)
    assert analysis.walk_seconds == 0


def test_masked_pixels_keep_their_values(photo):
    mask = np.ones(photo.shape[:2], bool)
    mask[:, :12] = False
    mask[1, 10] = True  # one pixel brings its whole cell of the map in
    analysis = Scorer(TinyNetwork(), walk=ReferenceWalk()).analyze(photo, mask)
    moved = (analysis.walked.logits != analysis.plain.logits).any(0)
    expected = torch.ones(12, 18, dtype=torch.bool)
    expected[:, :6] = False
    expected[0, 5] = True
    assert torch.equal(moved, expected)


def test_mask_errors(photo):
    scorer = Scorer(TinyNetwork(), walk=ReferenceWalk())
    with pytest.raises(ValueError, match=r"mask: expected shape \[24, 36\].*got \[12, 18\]"):
        scorer(photo, np.ones((12, 18), bool))
    with pytest.raises(TypeError, match=r"mask: expected bool, got torch\.uint8"):
        scorer(photo, np.ones((24, 36), np.uint8))


def test_photo_forms_agree(photo):
    scorer = Scorer(TinyNetwork())
    expected = scorer(photo).score
    frozen = photo.copy()
    frozen.flags.writeable = False
    for form in (torch.tensor(photo).permute(2, 0, 1), photo.astype(np.float32), frozen):
        assert torch.equal(scorer(form).score, expected)


def test_maps_own_odd_photo_sizes():
    odd = np.random.default_rng(1).integers(0, 256, (27, 39, 3), dtype=np.uint8)
    scored = Scorer(TinyNetwork(), walk=ReferenceWalk())(odd)
    assert scored.score.shape == scored.segmentation.shape == (27, 39)


def test_half_precision_network(photo):
    exact = Scorer(TinyNetwork(), walk=ReferenceWalk())(photo).score
    half = Scorer(TinyNetwork().bfloat16(), walk=ReferenceWalk())(photo).score
    assert half.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.1


def test_blur_comes_after_calibration(photo):
    analysis = Scorer(TinyNetwork(), walk=Walk(steps=3, parts=2), calibrated=True).analyze(photo)
    expected = scores.gaussian_blur(analysis.walked.score("energy"))
    assert torch.equal(analysis.walked.score("blurred_energy"), expected)
    assert torch.equal(analysis.plain.score("blurred_energy"), scores.blurred_energy(analysis.plain.full_logits))


class HalvedWalk(ReferenceWalk):
    """A walk that is no ``Walk``: scorers need nothing of it but its call and ``parts``."""

    parts = 2


def test_calibrates_across_the_parts_of_any_walk(photo):
    walked = Scorer(TinyNetwork(), walk=HalvedWalk(), calibrated=True).analyze(photo).walked
    assert walked.edges == ([0, 12, 24], [0, 18, 36])
    assert Scorer(TinyNetwork(), walk=HalvedWalk()).analyze(photo).walked.edges is None


def test_network_names_its_score(photo):
    class Named(TinyNetwork):
        default_score = "max_logit"

    assert Scorer(TinyNetwork()).score == "energy"
    scorer = Scorer(Named())
    assert scorer.score == "max_logit"
    assert torch.equal(scorer(photo).score, Scorer(Named(), "max_logit")(photo).score)


def test_network_is_put_into_evaluation_mode():
    assert not Scorer(TinyNetwork().train()).network.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_follows_the_network(photo):
    scored = Scorer(TinyNetwork().cuda(), walk=ReferenceWalk())(photo, np.ones(photo.shape[:2], bool))
    assert scored.score.is_cuda
    expected = Scorer(TinyNetwork(), walk=ReferenceWalk())(photo).score
    torch.testing.assert_close(scored.score.cpu(), expected, rtol=0, atol=1e-2)


def test_wrong_settings():
    with pytest.raises(ValueError, match="energy"):
        Scorer(TinyNetwork(), "surprise")
    with pytest.raises(ValueError, match="walk_values: expected auto, embeddings, logits or masks, got 'pixels'"):
        Scorer(TinyNetwork(), walk_values="pixels")
    with pytest.raises(ValueError, match="linear head, which tiny has not"):
        Scorer(BentNetwork(), walk_values="logits")
    with pytest.raises(ValueError, match="mask head, which tiny has not"):
        Scorer(TinyNetwork(), walk_values="masks")
