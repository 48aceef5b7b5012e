"""SynBoost as a scorer: its scores, the two ways to combine it with the walk, and what it shares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from python_tests.synboost.parts import NO_ENSEMBLE, RESYNTHESIS, Posterized, dissimilarity, small_pipeline
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.evaluate.cache import walk_fingerprint
from rwpm_fast.submission.manifest import settings_of
from rwpm_fast.synboost import CCFPSESynthesis, SynBoost, SynBoostScorer
from rwpm_fast.synboost.ccfpse import CCFPSEEncoder, CCFPSEGenerator

SIZE = (48, 64)


class PaddedNetwork(TinyNetwork):
    """Pads its input, resizes it before, and reads the mirror image."""

    mirrored = True

    def input_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        return 30, 43

    def padded_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        return 36, 50

    def preprocess(self, photos: Tensor) -> Tensor:
        return F.pad(F.interpolate(super().preprocess(photos), (30, 43)), (0, 7, 0, 6))


class CountedSynthesis(Posterized):
    calls = 0

    def __call__(self, class_map: Tensor, photos: Tensor) -> Tensor:
        self.calls += 1
        return super().__call__(class_map, photos)


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (6, 8, 3)).repeat(8, 0).repeat(8, 1)
    return (tiles + rng.integers(-40, 41, (*SIZE, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def pipeline() -> Iterator[SynBoost]:
    return small_pipeline(synthesis=CountedSynthesis())


def test_without_a_walk_it_is_the_chain(pipeline, photo):
    scorer = SynBoostScorer(pipeline)
    expected = pipeline(photo)
    scored = scorer(photo)
    torch.testing.assert_close(scored.score, expected.score, rtol=0, atol=0)
    assert scored.segmentation.equal(expected.segmentation) and scored.walk_seconds == 0
    assert scored.score_seconds >= scorer.analyze(photo).chain_seconds / 10 > 0


def test_it_has_the_scores_of_chain_network_and_segmentation(pipeline, photo):
    prediction = SynBoostScorer(pipeline).analyze(photo).walked
    result, plain = pipeline(photo), Scorer(pipeline.segmentation.network).analyze(photo).walked
    enlarged = F.interpolate(result.probability[None, None], SIZE, mode="bilinear")[0, 0]
    torch.testing.assert_close(prediction.score("dissimilarity"), enlarged, rtol=0, atol=0)
    for name in ("energy", "entropy", "max_logit"):
        assert prediction.score(name).equal(plain.score(name))
    assert prediction.value_map.equal(plain.value_map) and prediction.full_logits.equal(plain.full_logits)


def test_resynthesis_is_told_by_its_network(photo):
    pipeline = small_pipeline(dissimilarity=dissimilarity(**RESYNTHESIS), features=None, weights=NO_ENSEMBLE)
    scorer = SynBoostScorer(pipeline)
    assert scorer.score == scorer.method == "resynthesis"
    with pytest.raises(ValueError, match=r"name: expected one of resynthesis, dissimilarity, energy.*got 'synboost'"):
        scorer.check_score("synboost")


@pytest.mark.parametrize("values", ["embeddings", "logits"])
def test_the_segmentation_walks_before_the_maps(pipeline, photo, values):
    walk = Walk(steps=3, temperature=0.05)
    analysis = SynBoostScorer(pipeline, walk=walk, walk_values=values).analyze(photo)
    segmentation = Scorer(pipeline.segmentation.network, walk=walk, walk_values=values)
    expected = small_pipeline(segmentation=segmentation)(photo)
    torch.testing.assert_close(analysis.walked.score("synboost"), expected.score, rtol=0, atol=0)
    plain = analysis.plain.score("synboost")
    assert plain.equal(pipeline(photo).score) and not plain.equal(expected.score)
    assert analysis.walk_seconds > 0


def test_the_score_walks_after_the_chain(pipeline, photo):
    walk = Walk(steps=3, temperature=0.05)
    analysis = SynBoostScorer(pipeline, walk=walk, walk_values="score").analyze(photo)
    score = pipeline(photo).score
    small = F.avg_pool2d(score[None, None], 2)
    walked = walk(analysis.embedded.embedding_map, value_map=small)
    expected = F.interpolate(walked, SIZE, mode="bilinear")[0, 0]
    torch.testing.assert_close(analysis.walked.score("synboost"), expected, rtol=0, atol=1e-6)
    assert analysis.plain.score("synboost").equal(score)
    assert analysis.walked.score("energy").equal(analysis.plain.score("energy"))
    assert analysis.walk_seconds > 0 and analysis.chain_seconds > 0


@pytest.mark.parametrize("values", ["auto", "score"])
def test_padding_and_mirror_images(photo, values):
    pipeline = small_pipeline(segmentation=Scorer(PaddedNetwork()))
    walk = Walk(steps=4, temperature=0.05)
    scorer = SynBoostScorer(pipeline, walk=walk, walk_values=values, walk_padding=False)
    score = scorer(photo).score
    assert score.shape == SIZE and score.min() >= 0 and score.max() <= 1
    assert not score.equal(pipeline(photo).score)


def test_the_walk_keeps_a_score_in_its_range(photo):
    score = SynBoostScorer(small_pipeline(), walk=Walk(steps=30, parts=2), walk_values="score")(photo).score
    plain = small_pipeline()(photo).score
    assert plain.min() - 1e-6 <= score.min() < score.max() <= plain.max() + 1e-6


def test_scorers_of_a_photo_share_the_chain_without_a_walk(pipeline, photo):
    plain = SynBoostScorer(pipeline)
    walk = Walk(steps=2)
    embedded = plain.embed(photo)
    first = plain.analyze_embedded(embedded)
    second = plain.with_walk(walk, walk_values="score").analyze_embedded(embedded)
    assert pipeline.synthesis.calls == 1 and second.chain_seconds == first.chain_seconds > 0
    third = plain.with_walk(walk).analyze_embedded(embedded)
    assert pipeline.synthesis.calls == 2
    assert third.plain.score("synboost").equal(first.walked.score("synboost")) and pipeline.synthesis.calls == 2
    plain(photo)
    assert pipeline.synthesis.calls == 3


def test_a_scorer_of_the_segmentation_may_embed(pipeline, photo):
    embedded = Scorer(pipeline.segmentation.network).embed(photo)
    analysis = SynBoostScorer(pipeline).analyze_embedded(embedded)
    assert analysis.walked.score("synboost").equal(pipeline(photo).score)


def test_records_tell_chains_apart():
    def scorer(**settings):
        return SynBoostScorer(small_pipeline(**settings))

    def seeded(seed):
        return torch.Generator().manual_seed(seed)

    other = dissimilarity()
    with torch.no_grad():
        other.head.bias[0] += 1e-3
    networks = CCFPSEGenerator((64, 64), width=2), CCFPSEEncoder(width=2)
    chains = [
        scorer(),
        scorer(dissimilarity=other),
        scorer(weights=NO_ENSEMBLE),
        scorer(minmax="legacy"),
        scorer(quantized=True),
        scorer(precision="bfloat16"),
        scorer(synthesis=Posterized((64, 64))),
        *(scorer(synthesis=CCFPSESynthesis(*networks, rng=rng)) for rng in (None, seeded(1), seeded(2))),
        Scorer(TinyNetwork()),
    ]
    assert len({walk_fingerprint(each) for each in chains}) == len(chains)
    assert walk_fingerprint(scorer()) == walk_fingerprint(chains[0])
    drawing = chains[-2]
    before = walk_fingerprint(drawing)
    torch.randn(1, generator=drawing.pipeline.synthesis.rng)
    assert walk_fingerprint(drawing) == before  # whatever was drawn so far
    assert settings_of(chains[0])["chain"] != settings_of(chains[1])["chain"]
    assert "chain" not in settings_of(chains[-1])


def test_errors():
    with pytest.raises(TypeError, match=r"pipeline: expected a SynBoost, got Scorer; make one by"):
        SynBoostScorer(Scorer(TinyNetwork()))
    with pytest.raises(ValueError, match=r"pipeline: expected a segmentation without a walk; give the walk to"):
        SynBoostScorer(small_pipeline(segmentation=Scorer(TinyNetwork(), walk=Walk())))
    with pytest.raises(ValueError, match=r"walk_values: expected auto, .* masks or score, got 'maps'"):
        SynBoostScorer(small_pipeline(), walk_values="maps")
    with pytest.raises(ValueError, match=r"walk_values: expected auto, embeddings, logits or masks, got 'score'"):
        Scorer(TinyNetwork(), walk_values="score")
    with pytest.raises(TypeError, match=r"with_walk: expected .*, got score"):
        Scorer(TinyNetwork()).with_walk(None, score="energy")
