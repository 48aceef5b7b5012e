"""The chain from photo to score, with small networks, against the same steps written out."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from python_tests.synboost.parts import NO_ENSEMBLE, RESYNTHESIS, SIZE, Posterized, dissimilarity, small_pipeline, vgg19
from python_tests.synboost.spectral_rule import filled
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.synboost.ccfpse import CCFPSEEncoder, CCFPSEGenerator
from rwpm_fast.synboost.ensemble import LearnedEnsemble
from rwpm_fast.synboost.features import NetworkFeatures
from rwpm_fast.synboost.light_generator import LightGenerator, LightSynthesis
from rwpm_fast.synboost.pipeline import Comparison, imagenet_normalized
from rwpm_fast.synboost.synthesis import CCFPSESynthesis
from rwpm_fast.synboost.vgg import VGG16, VGG19

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
DISPERSION = ("entropy", "perceptual", "distance")


def random_photo(height: int = 75, width: int = 113, seed: int = 0) -> np.ndarray:
    """A photo of colored tiles under noise."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3)).repeat(16, 0).repeat(16, 1)
    return (tiles[:height, :width] + rng.integers(-40, 41, (height, width, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photo() -> np.ndarray:
    return random_photo()


def center_pixels(values: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    """Take the pixel of [..., H, W] that lies below the center of each pixel of a smaller or larger map."""
    rows, columns = (
        torch.tensor([(2 * i + 1) * full // (2 * small) for i in range(small)])
        for full, small in zip(values.shape[-2:], size, strict=True)
    )
    return values[..., rows[:, None], columns]


def scaled(values: Tensor, minmax: str, *, complement: bool = False) -> Tensor:
    """Scale a map by its extremes, as the paper's code does to entropy and to r = 1 - distance (complement)."""
    whole = values.max() if minmax == "legacy" else values.max() - values.min()
    part = (values - values.min()) / whole
    return 1 - part if complement else part


def in_8_bits(values: Tensor) -> Tensor:
    return (values * 255).to(torch.uint8).float() / 255


def standardized(rgb: Tensor) -> Tensor:
    return (rgb - MEAN[:, None, None]) / STD[:, None, None]


def step_by_step(
    photo: np.ndarray, logits: Tensor, *, flags: dict[str, bool], weights: Sequence[float], minmax: str, quantized: bool
) -> dict[str, Tensor]:
    """All maps of a photo from its logits [K, H, W], by the parts of :func:`small_pipeline`."""
    stored = in_8_bits if quantized else torch.Tensor.clone
    p = logits.double().softmax(0)
    first, second = p.topk(2, dim=0).values
    class_map = logits.argmax(0)
    maps = {
        "segmentation": class_map,
        "entropy": center_pixels(stored(scaled(torch.special.entr(p).sum(0), minmax).float())),
        "distance": center_pixels(stored(scaled(first - second, minmax, complement=True).float())),
    }
    image = torch.tensor(photo).permute(2, 0, 1)
    rendered = Posterized()(class_map[None], image[None])[0]
    maps["synthesis"] = stored((rendered + 1) / 2)
    maps["image"] = center_pixels(image)
    maps["class_map"] = center_pixels(class_map)
    inputs = [standardized(maps["image"] / 255)[None], standardized(maps["synthesis"])[None]]

    difference = torch.zeros(1, 1, *SIZE)
    for level, (x, y) in enumerate(zip(*map(vgg19(), inputs), strict=True)):
        weight = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1][level]
        term = (x - y).abs().mean(1, keepdim=True)
        difference += weight * (F.interpolate(term, scale_factor=2**level, mode="bicubic") if level else term)
    maps["perceptual"] = stored(scaled(difference[0, 0], "range"))

    one_hot = F.one_hot(maps["class_map"], 19).permute(2, 0, 1)[None].float()
    dispersion = torch.stack([maps[name] for name in DISPERSION])[None] if flags.get("dispersion", True) else None
    maps["probability"] = dissimilarity(**flags)(*inputs, one_hot, dispersion).softmax(1)[0, 1]
    four = torch.stack([maps[name] for name in ("probability", *DISPERSION)])
    average = (four * torch.tensor(weights)[:, None, None]).sum(0) / sum(weights)
    maps["score"] = F.interpolate(average[None, None], photo.shape[:2], mode="bilinear")[0, 0]
    return maps


def tiny_logits(photo: np.ndarray) -> Tensor:
    network = TinyNetwork()
    logits = network(network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None]))
    return F.interpolate(logits, photo.shape[:2], mode="bilinear")[0]


@torch.no_grad()
@pytest.mark.parametrize(
    ("flags", "weights", "minmax", "quantized"),
    [
        ({}, (0.75, 0.25, 0, 0), "range", False),
        ({}, (3, 1, 0, 0), "legacy", True),
        ({}, (1, 2, 3, 1), "legacy", False),
        (RESYNTHESIS, (0, 1, 1, 3), "range", True),
        ({"image_correlation": False}, (1, 1, 1, 1), "range", False),
    ],
)
@pytest.mark.parametrize("size", [(75, 113), (32, 64), (21, 30)], ids=lambda size: "x".join(map(str, size)))
def test_the_chain_is_its_steps(flags, weights, minmax, quantized, size):
    photo = random_photo(*size)
    settings = {"weights": weights, "minmax": minmax, "quantized": quantized}
    expected = step_by_step(photo, tiny_logits(photo), flags=flags, **settings)
    result = small_pipeline(dissimilarity=dissimilarity(**flags), **settings)(photo)
    got = {field.name: getattr(result.comparison, field.name) for field in fields(Comparison)}
    got |= {"score": result.score, "probability": result.probability, "segmentation": result.segmentation}
    assert result.score.dtype == torch.float32 and result.score.shape == size
    assert got.pop("seconds").network == result.seconds.network
    assert got.keys() == expected.keys()
    for name in ("segmentation", "class_map", "image"):
        assert torch.equal(got.pop(name), expected.pop(name)), name
    for name, values in expected.items():
        # A digit of 8 bits may fall to either side.
        close = (got[name] - values).abs() < 1e-4
        assert close.float().mean() > (0.99 if quantized and name in DISPERSION else 0.9999), name
    torch.testing.assert_close(got["score"], expected["score"], rtol=0, atol=5e-3 if quantized else 1e-4)
    assert expected["score"].std() > 0.01


def test_resynthesis_is_the_networks_probability(photo):
    pipeline = small_pipeline(dissimilarity=dissimilarity(**RESYNTHESIS), features=None, weights=NO_ENSEMBLE)
    result = pipeline(photo)
    enlarged = F.interpolate(result.probability[None, None], photo.shape[:2], mode="bilinear")[0, 0]
    assert torch.equal(result.score, enlarged)
    assert result.comparison.entropy is result.comparison.perceptual is result.comparison.distance is None


@pytest.mark.parametrize("name", DISPERSION)
def test_only_maps_that_are_read_are_computed(photo, name):
    weights = [float(name == other) for other in ("anomaly", *DISPERSION)]
    features = vgg19() if name == "perceptual" else None
    result = small_pipeline(dissimilarity=dissimilarity(**RESYNTHESIS), features=features, weights=weights)(photo)
    for other in DISPERSION:
        values = getattr(result.comparison, other)
        assert (values is None) == (other != name)
    values = getattr(result.comparison, name)
    enlarged = F.interpolate(values[None, None], photo.shape[:2], mode="bilinear")[0, 0]
    torch.testing.assert_close(result.score, enlarged)


def test_walked_logits_change_the_maps(photo):
    walk = Walk(steps=5, alpha=0.9, temperature=0.05)
    walked = small_pipeline(segmentation=Scorer(TinyNetwork(), walk=walk))(photo)
    plain = small_pipeline()(photo)
    logits = Scorer(TinyNetwork(), walk=walk).analyze(photo).walked.full_logits
    settings = {"weights": (3, 1, 0, 0), "minmax": "range", "quantized": False}
    with torch.no_grad():
        expected = step_by_step(photo, logits, flags={}, **settings)
    assert torch.equal(walked.segmentation, expected["segmentation"])
    torch.testing.assert_close(walked.score, expected["score"], rtol=0, atol=1e-4)
    assert (walked.comparison.entropy - plain.comparison.entropy).abs().max() > 0.05
    assert (walked.segmentation != plain.segmentation).any()
    assert walked.seconds.walk > 0 == plain.seconds.walk


def test_a_mask_keeps_pixels_out_of_the_walk(photo):
    scorer = Scorer(TinyNetwork(), walk=Walk(steps=5))
    mask = np.zeros(photo.shape[:2], bool)
    masked, plain = small_pipeline(segmentation=scorer)(photo, mask), small_pipeline()(photo)
    torch.testing.assert_close(masked.score, plain.score)


@pytest.mark.parametrize("size", [(2, 2), (3, 301), (257, 5), (33, 65)], ids=lambda size: "x".join(map(str, size)))
def test_any_size(size):
    result = small_pipeline()(random_photo(*size))
    assert result.score.shape == result.segmentation.shape == size
    assert result.score.isfinite().all() and 0 <= result.score.min() <= result.score.max() <= 1 + 1e-6


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (90, 120, 7)])
@pytest.mark.parametrize("minmax", ["range", "legacy"])
def test_single_color(color, minmax):
    photo = np.full((41, 67, 3), color, np.uint8)
    result = small_pipeline(minmax=minmax, weights=(1, 1, 1, 1))(photo)
    assert result.score.shape == (41, 67) and result.score.isfinite().all()
    assert len(result.segmentation.unique()) == 1
    if minmax == "range":  # no rounding errors brought to 0..1
        assert not result.comparison.entropy.any() and (result.comparison.distance == 1).all()


def test_photos_in_any_form(photo):
    pipeline = small_pipeline()
    expected = pipeline(photo).score
    forms = [Image.fromarray(photo), torch.tensor(photo).permute(2, 0, 1), photo[::-1][::-1], photo.astype(np.float32)]
    for form in forms:
        assert torch.equal(pipeline(form).score, expected)


def test_a_class_map_replaces_the_prediction(photo):
    pipeline = small_pipeline()
    analysis = pipeline.segmentation.analyze(photo)
    plain = pipeline.compare(photo, analysis)
    same = pipeline.compare(photo, analysis, plain.segmentation.numpy().astype(np.uint8))
    assert torch.equal(pipeline.judge(same).score, pipeline(photo).score)
    swapped = plain.segmentation.clone()
    swapped[10:40, 20:60] = 18
    changed = pipeline.compare(photo, analysis, swapped)
    inside = center_pixels(swapped == 18)
    assert torch.equal(changed.class_map == 18, inside)
    assert torch.equal((changed.synthesis - plain.synthesis).abs().sum(0) > 0, inside)
    assert (changed.perceptual - plain.perceptual).abs().max() > 0.01
    for name in ("entropy", "distance", "segmentation", "image"):
        assert torch.equal(getattr(changed, name), getattr(plain, name))


@pytest.mark.parametrize("kind", ["posterized", "ccfpse", "light"])
def test_pixels_without_a_class(photo, kind):
    synthesis = {
        "posterized": Posterized,
        "ccfpse": lambda: CCFPSESynthesis(filled(CCFPSEGenerator, (64, 128), width=4), filled(CCFPSEEncoder, width=4)),
        "light": lambda: LightSynthesis(LightGenerator(2), size=SIZE),
    }[kind]()
    pipeline = small_pipeline(synthesis=synthesis)
    analysis = pipeline.segmentation.analyze(photo)
    plain = pipeline.compare(photo, analysis)
    class_map = plain.segmentation.numpy().astype(np.uint8)
    class_map[20:50, 30:80] = 255
    comparison = pipeline.compare(photo, analysis, class_map)
    assert torch.equal(comparison.class_map, center_pixels(torch.from_numpy(class_map)).long())
    assert (comparison.synthesis != plain.synthesis).any()
    assert (pipeline.judge(comparison).probability != pipeline.judge(plain).probability).any()


def test_training_takes_comparisons_as_they_are(photo):
    pipeline = small_pipeline()
    comparison = pipeline.compare(photo, pipeline.segmentation.analyze(photo))
    for kept in (comparison, pipeline(photo).comparison):
        tensors = [values for values in vars(kept).values() if isinstance(values, Tensor)]
        assert len(tensors) == 7
        assert not any(values.is_inference() or values.requires_grad for values in tensors)
    logits = nn.Conv2d(1, 2, 1)(comparison.entropy[None, None])
    F.cross_entropy(logits, comparison.class_map[None] % 2).backward()


def test_a_synthesis_of_another_size_is_resized(photo):
    large = (2 * SIZE[0], 2 * SIZE[1])
    comparison = small_pipeline(synthesis=Posterized(large))(photo).comparison
    rendered = Posterized(large)(comparison.segmentation[None], torch.tensor(photo).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(comparison.synthesis, center_pixels((rendered + 1) / 2))


def test_the_generator_of_the_paper(photo):
    size = (64, 128)
    synthesis = CCFPSESynthesis(filled(CCFPSEGenerator, size, width=4), filled(CCFPSEEncoder, width=4))
    result = small_pipeline(synthesis=synthesis, size=size)(photo)
    with torch.no_grad():
        rendered = synthesis(result.segmentation[None], torch.tensor(photo).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(result.comparison.synthesis, (rendered + 1) / 2)
    assert result.score.shape == photo.shape[:2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(photo, dtype):
    network, expected = dissimilarity().to(dtype), small_pipeline()(photo).score
    result = small_pipeline(dissimilarity=network, features=vgg19().to(dtype))(photo)
    assert result.score.dtype == torch.float32
    torch.testing.assert_close(result.score, expected, rtol=0, atol=0.1 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("flags", [{}, RESYNTHESIS])
def test_bfloat16(photo, flags):
    network = dissimilarity(**flags)
    seen = []
    network.semantic_encoder.register_forward_hook(lambda module, inputs, maps: seen.append(maps[0].dtype))
    exact, fast = (
        small_pipeline(dissimilarity=network, precision=precision)(photo) for precision in ("float32", "bfloat16")
    )
    assert seen == [torch.float32, torch.bfloat16]
    assert fast.score.dtype == fast.probability.dtype == torch.float32
    assert 0 < (fast.probability - exact.probability).abs().mean() < 0.02
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_learned_weights(photo):
    learned = LearnedEnsemble((1, 1, 1, 1))
    score = small_pipeline(weights=learned.weights.tolist())(photo).score
    torch.testing.assert_close(score, small_pipeline(weights=(1, 1, 1, 1))(photo).score)


def test_times_of_the_modules(photo):
    seconds = small_pipeline()(photo).seconds
    assert all(value > 0 for name, value in seconds._asdict().items() if name != "walk")
    assert math.isclose(sum(seconds), math.fsum(seconds))


def test_threads_share_a_pipeline():
    pipeline = small_pipeline()
    photos = [random_photo(40 + seed, 60 + 2 * seed, seed) for seed in range(6)]
    expected = [pipeline(photo).score for photo in photos]
    with ThreadPoolExecutor(3) as pool:
        for got, alone in zip(pool.map(pipeline, photos), expected, strict=True):
            torch.testing.assert_close(got.score, alone, rtol=0, atol=1e-6)


def test_nothing_of_a_photo_is_kept(photo):
    pipeline = small_pipeline()
    result = pipeline(photo)
    held = [weakref.ref(values) for values in (result.score, result.comparison.image, result.segmentation)]
    del result
    gc.collect()
    assert [reference() for reference in held] == [None] * 3


BAD_SETTINGS = {
    "network": ({"segmentation": TinyNetwork()}, TypeError, r"segmentation: expected a rwpm_fast\.Scorer, got TinyN"),
    "no synthesis": ({"synthesis": torch.zeros(1)}, TypeError, "synthesis: expected .* got Tensor"),
    "no dissimilarity": (
        {"dissimilarity": vgg19()},
        TypeError,
        "dissimilarity: expected a DissimilarityNet, got VGG19",
    ),
    "another vgg": (
        {"features": VGG16(4)},
        TypeError,
        "features: expected a network with tap_strides and tap_weights, such as VGG19 .*, got VGG16",
    ),
    "a class": ({"features": VGG19}, TypeError, "features: expected a network .*, got type"),
    "no features": (
        {"features": None},
        ValueError,
        "features: .* which the dissimilarity network reads, got None; load one",
    ),
    "no features for the ensemble": (
        {"features": None, "dissimilarity": dissimilarity(**RESYNTHESIS), "weights": (1, 0, 1, 0)},
        ValueError,
        "features: .* which the ensemble reads, got None; load one",
    ),
    "minmax": ({"minmax": None}, ValueError, "minmax: expected 'range' or 'legacy', got None"),
    "precision": ({"precision": "half"}, ValueError, "precision: expected 'float32' or 'bfloat16', got 'half'"),
    "three weights": ({"weights": (1, 0, 0)}, ValueError, "weights: expected 4 of them"),
    "negative weight": ({"weights": (1, 0, 0, -1)}, ValueError, "weights: expected finite numbers of 0 or more"),
    "a size of 8's": ({"size": (30, 64)}, ValueError, "size: expected positive multiples of 8, .* got 30 x 64"),
    "an empty size": ({"size": (0, 64)}, ValueError, "size: expected positive multiples of 8, .* got 0 x 64"),
    "one side": ({"size": (64,)}, ValueError, "size: expected height and width, got 1 numbers"),
    "a size in float": ({"size": (32.0, 64)}, TypeError, r"size\[0\]: expected an integer, got float"),
}


@pytest.mark.parametrize(("settings", "kind", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings(settings, kind, message):
    with pytest.raises(kind, match=message):
        small_pipeline(**settings)


def test_too_many_classes():
    network = TinyNetwork()
    network.classes = tuple(f"class {k}" for k in range(20))
    with pytest.raises(ValueError, match=r"segmentation: expected at most the 19 classes .* got the 20 of tiny"):
        small_pipeline(segmentation=Scorer(network))


def test_bad_photos(photo):
    pipeline = small_pipeline()
    for wrong, kind in ((photo[:0], ValueError), (photo / 255, ValueError), ("photo.png", TypeError)):
        with pytest.raises(kind, match="photo: expected"):
            pipeline(wrong)
    with pytest.raises(ValueError, match="mask: expected shape"):
        pipeline(photo, np.ones((2, 2), bool))


def test_bad_comparisons(photo):
    pipeline = small_pipeline()
    analysis = pipeline.segmentation.analyze(photo)
    with pytest.raises(ValueError, match=r"analysis: expected that of the photo, of \[70, 113\].* got .*\[75, 113\]"):
        pipeline.compare(photo[:70], analysis)
    ids = np.zeros(photo.shape[:2], np.int64)
    for wrong, kind, message in (
        (ids[1:], ValueError, r"class_map: expected shape \[75, 113\] to match the photo, got \[74, 113\]"),
        (ids + 19, ValueError, "class_map: expected train ids 0 to 18, got 19; a pixel without a class is 255"),
        (ids / 1, TypeError, "class_map: expected integers"),
    ):
        with pytest.raises(kind, match=message):
            pipeline.compare(photo, analysis, wrong)
    lacking = replace(pipeline.compare(photo, analysis), perceptual=None)
    with pytest.raises(ValueError, match="comparison: expected the map perceptual, got none"):
        pipeline.judge(lacking)


class Wrong(Posterized):
    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def __call__(self, class_map, photos):
        return self.change(super().__call__(class_map, photos))


WRONG_SYNTHESES = {
    "size": (lambda images: images[..., 1:], r"shape \[1, 3, 32, 64\], got \[1, 3, 32, 63\]"),
    "range": (lambda images: images + 2, r"in -1\.\.1, got 1\.\d+\.\.2\.\d+"),
    "nan": (lambda images: images * torch.nan, r"in -1\.\.1, got nan\.\.nan"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_SYNTHESES.values(), ids=WRONG_SYNTHESES)
def test_a_synthesis_that_breaks_its_promise(photo, change, message):
    with pytest.raises(
        ValueError, match=f"synthesis: expected an image {'of ' if 'shape' in message else ''}{message}"
    ):
        small_pipeline(synthesis=Wrong(change))(photo)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_networks_that_are_not_finite(photo, value):
    network, scorer = dissimilarity(**RESYNTHESIS), Scorer(TinyNetwork())
    nn.init.constant_(network.head.bias, value)
    with pytest.raises(ValueError, match="dissimilarity: logits are not finite"):
        small_pipeline(dissimilarity=network)(photo)
    nn.init.constant_(scorer.network.classifier.bias, value)
    resynthesis = dissimilarity(**RESYNTHESIS)
    with pytest.raises(ValueError, match="segmentation: logits are not finite"):
        small_pipeline(segmentation=scorer, dissimilarity=resynthesis, weights=NO_ENSEMBLE)(photo)
    vgg = vgg19()
    nn.init.constant_(vgg.features[0].bias, value)
    with pytest.raises(ValueError, match="images and syntheses: expected a finite map"):
        small_pipeline(features=vgg)(photo)


def parts_of(pipeline):
    return {"dissimilarity": pipeline.dissimilarity, "features": pipeline.features, "synthesis": pipeline.synthesis}


def modular_pipeline():
    synthesis = CCFPSESynthesis(filled(CCFPSEGenerator, (64, 128), width=4), filled(CCFPSEEncoder, width=4))
    return small_pipeline(synthesis=synthesis.train(), dissimilarity=dissimilarity().train(), features=vgg19().train())


@pytest.mark.parametrize("name", ["dissimilarity", "features", "synthesis", "network"])
def test_training_mode_is_refused_at_each_call(photo, name):
    pipeline = modular_pipeline()
    assert not any(part.training for part in parts_of(pipeline).values())
    expected, comparison = pipeline(photo).score, pipeline(photo).comparison
    part = (parts_of(pipeline) | {"network": pipeline.segmentation.network})[name]
    part.train()
    with pytest.raises(RuntimeError, match=f"{name}: module .* of it is in training mode; call"):
        pipeline(photo)
    if name != "network":  # which has done its part
        with pytest.raises(RuntimeError, match="training mode"):
            pipeline.judge(comparison)
    assert part.training
    part.eval()
    assert torch.equal(pipeline(photo).score, expected)


@pytest.mark.parametrize("name", ["dissimilarity", "features", "synthesis"])
def test_networks_on_several_devices(photo, name):
    pipeline = modular_pipeline()
    parts_of(pipeline)[name].to("meta")
    with pytest.raises(ValueError, match=rf"{name}: expected all weights on .* cpu; move them by \.to\('cpu'\)"):
        pipeline(photo)


def test_features_of_the_network_that_segments(photo):
    network = TinyNetwork()
    pipeline = small_pipeline(segmentation=Scorer(network), features=NetworkFeatures(network))
    comparison = pipeline(photo).comparison
    with torch.no_grad():
        pair = (network.body(image * (255 / 32)) for image in (comparison.image / 255, comparison.synthesis))
        difference = F.interpolate((next(pair) - next(pair)).abs().mean(0)[None, None], scale_factor=2, mode="bicubic")
    torch.testing.assert_close(comparison.perceptual, scaled(difference[0, 0], "range"), rtol=0, atol=1e-5)
    network.train()
    with pytest.raises(RuntimeError, match=r"module .* of it is in training mode"):
        pipeline(photo)
    with pytest.raises(ValueError, match=r"features: expected all weights on .* cpu"):
        small_pipeline(features=NetworkFeatures(TinyNetwork().to("meta")))


def test_no_gradients(photo):
    result = small_pipeline()(photo)
    assert not result.score.requires_grad and not result.probability.requires_grad


def test_imagenet_normalized():
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(imagenet_normalized(images), standardized(images))
    assert imagenet_normalized(images.half()).dtype == torch.float32
    assert imagenet_normalized(images.double()).dtype == torch.float64
    with pytest.raises(TypeError, match=r"images: expected floating point in 0\.\.1, got torch\.uint8; divide by 255"):
        imagenet_normalized(images.byte())
