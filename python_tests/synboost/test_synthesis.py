"""Label maps and photos on their way to CC-FPSE, and its images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from python_tests.conformance import golden, load
from python_tests.synboost.spectral_rule import filled
from rwpm_fast.networks import CITYSCAPES_CLASSES
from rwpm_fast.synboost.ccfpse import CCFPSEEncoder, CCFPSEGenerator
from rwpm_fast.synboost.labels import LABEL_IDS
from rwpm_fast.synboost.synthesis import CCFPSESynthesis, label_edges, label_ids, label_planes

SIZE = (64, 128)


@pytest.fixture(scope="module")
def synthesis() -> CCFPSESynthesis:
    return CCFPSESynthesis(filled(CCFPSEGenerator, SIZE, width=4), filled(CCFPSEEncoder, width=4))


def scene(batch: int, height: int = 96, width: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Class maps [B, H, W] of random rectangles, and photos [B, 3, H, W] of random spots."""
    rng = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 19, (batch, 1, 6, 5), generator=rng, dtype=torch.uint8)
    spots = torch.randint(0, 256, (batch, 3, 4, 5), generator=rng, dtype=torch.uint8)
    class_map, photos = (F.interpolate(small, (height, width), mode="nearest") for small in (blocks, spots))
    return class_map[:, 0], photos


class Spy(nn.Module):
    """A generator that keeps what it is given and renders gray, and an encoder that finds a given distribution."""

    def __init__(self, size: tuple[int, int], mean: torch.Tensor, log_variance: torch.Tensor) -> None:
        super().__init__()
        self.size, self.distribution = size, (mean, log_variance)
        self.encoder = nn.Module()
        self.encoder.forward = self.encode

    def encode(self, images):
        self.images = images
        return self.distribution

    def forward(self, planes, z):
        self.planes, self.z = planes, z
        return torch.zeros(len(planes), 3, *self.size)


def spied(batch: int = 1, size: tuple[int, int] = SIZE, rng: torch.Generator | None = None):
    draw = torch.Generator().manual_seed(1)
    spy = Spy(size, torch.randn(batch, 256, generator=draw), torch.randn(batch, 256, generator=draw))
    return spy, CCFPSESynthesis(spy, spy.encoder, rng=rng)


def test_label_ids_of_all_classes():
    ids = dict(zip(CITYSCAPES_CLASSES, label_ids(torch.arange(19)[None, None]).flatten().tolist(), strict=True))
    assert ids == {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert tuple(ids.values()) == LABEL_IDS


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_label_ids_of_any_integers(dtype):
    got = label_ids(torch.tensor([[[18, 0]]], dtype=dtype))
    assert got.dtype == torch.int64 and got.tolist() == [[[33, 7]]]


def test_label_edges_are_their_definition():
    label_map = torch.randint(0, 3, (2, 7, 9), generator=torch.Generator().manual_seed(0))
    got = label_edges(label_map)
    for image, row, column in np.ndindex(*label_map.shape):
        neighbors = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        inside = [(r, c) for r, c in neighbors if 0 <= r < 7 and 0 <= c < 9]
        differs = any(label_map[image, r, c] != label_map[image, row, column] for r, c in inside)
        assert got[image, row, column] == differs
    assert not label_edges(torch.full((1, 4, 4), 7)).any()


@golden("ccfpse_generator", "edge")
def test_label_planes_of_the_original(path):
    arrays = load(path)
    label_map = torch.from_numpy(arrays["label"])[None]
    planes = label_planes(label_map)
    assert planes.shape == (1, 36, *label_map.shape[1:]) and planes.dtype == torch.float32
    assert torch.equal(planes[:, :35].sum(1), torch.ones(label_map.shape))
    assert torch.equal(planes[:, :35].argmax(1), label_map.long())
    assert np.array_equal(planes[0, 35].numpy(), arrays["edge"])


def test_labels_are_taken_at_the_center():
    spy, synthesis = spied()
    class_map = torch.randint(0, 19, (1, 4 * SIZE[0], 4 * SIZE[1]), generator=torch.Generator().manual_seed(0))
    synthesis(class_map, scene(1)[1])
    assert torch.equal(spy.planes, label_planes(label_ids(class_map[:, 2::4, 2::4])))


@pytest.mark.parametrize("size", [(96, 200), (300, 257), (31, 500)])
def test_resizes_as_pillow_does(size):
    image = pytest.importorskip("PIL.Image")
    spy, synthesis = spied()
    rng = np.random.default_rng(0)
    # Pixels of half the range, for Pillow clips between its two passes.
    classes, pixels = rng.integers(0, 19, size, np.uint8), rng.integers(64, 192, (*size, 3), np.uint8)
    photo = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    synthesis(torch.from_numpy(classes)[None], photo)

    wanted = np.asarray(image.fromarray(classes).resize(SIZE[::-1], image.Resampling.NEAREST))
    assert torch.equal(spy.planes, label_planes(label_ids(torch.from_numpy(wanted.copy())[None])))
    wanted = np.asarray(image.fromarray(pixels).resize(SIZE[::-1], image.Resampling.BICUBIC)).astype(np.float32)
    got = (spy.images[0].permute(1, 2, 0).numpy() + 1) * 127.5
    # Pillow rounds to 8 bits after each pass; the weights of the second have a sum of absolute values up to 1.25.
    assert np.abs(got - wanted).max() <= 0.5 * 1.25 + 0.5 + 0.01


def test_photo_of_the_generators_size_is_only_scaled():
    spy, synthesis = spied()
    class_map, photos = scene(1, *SIZE)
    synthesis(class_map, photos)
    torch.testing.assert_close(spy.images, photos / 127.5 - 1, rtol=0, atol=1e-5)
    assert spy.images.min() >= -1 and spy.images.max() <= 1


def test_latent_vector_is_the_mean():
    spy, synthesis = spied(2)
    synthesis(*scene(2))
    assert torch.equal(spy.z, spy.distribution[0])


def test_latent_vector_is_drawn_on_request():
    rng = torch.Generator().manual_seed(7)
    spy, synthesis = spied(2, rng=rng)
    drawn = []
    for _ in range(2):
        synthesis(*scene(2))
        drawn.append(spy.z)
    again = torch.Generator().manual_seed(7)
    mean, log_variance = spy.distribution
    for z in drawn:
        noise = torch.randn(2, 256, generator=again)
        torch.testing.assert_close(z, mean + noise * torch.exp(log_variance / 2))


def test_images(synthesis):
    class_map, photos = scene(2)
    got = synthesis(class_map, photos)
    assert synthesis.size == SIZE and got.shape == (2, 3, *SIZE)
    assert got.dtype == torch.float32 and not got.requires_grad
    assert got.abs().max() <= 1 and got.std() > 0
    assert torch.equal(synthesis(class_map, photos), got)
    other_class = synthesis((class_map + 1) % 19, photos)
    other_photo = synthesis(class_map, 255 - photos)
    assert (other_class - got).abs().max() > 0.01 and (other_photo - got).abs().max() > 0.01


@pytest.mark.parametrize("drawn", [False, True])
def test_batch_is_its_photos_one_by_one(synthesis, drawn):
    class_map, photos = scene(3)

    def render(*batches: slice) -> torch.Tensor:
        rng = torch.Generator().manual_seed(3) if drawn else None
        same = CCFPSESynthesis(synthesis.generator, synthesis.encoder, rng=rng)
        return torch.cat([same(class_map[batch], photos[batch]) for batch in batches])

    apart = render(*(slice(i, i + 1) for i in range(3)))
    torch.testing.assert_close(render(slice(None)), apart, rtol=0, atol=1e-5)


def test_label_ids_without_a_train_id_can_be_rendered(synthesis):
    class_map, photos = scene(1)
    label_map = label_ids(class_map)
    assert torch.equal(synthesis.render(label_map, photos), synthesis(class_map, photos))
    label_map[:, :40] = 5  # dynamic
    assert (synthesis.render(label_map, photos) - synthesis(class_map, photos)).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_photos_of_any_dtype(synthesis, dtype):
    class_map, photos = scene(1)
    got = synthesis(class_map, photos.to(dtype))
    torch.testing.assert_close(got, synthesis(class_map, photos), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32(synthesis, dtype):
    class_map, photos = scene(1)
    networks = filled(CCFPSEGenerator, SIZE, width=4), filled(CCFPSEEncoder, width=4)
    got, wanted = CCFPSESynthesis(*networks).to(dtype)(class_map, photos), synthesis(class_map, photos)
    assert got.dtype == torch.float32
    assert 0 < (got - wanted).abs().max() / wanted.abs().max() < (0.1 if dtype == torch.bfloat16 else 0.02)


def test_loads_both_checkpoints(tmp_path, synthesis):
    paths = tmp_path / "g.pth", tmp_path / "e.pth"
    for path, network in zip(paths, (synthesis.generator, synthesis.encoder), strict=True):
        torch.save(network.state_dict(), path)
    loaded = CCFPSESynthesis.load(*paths, size=SIZE, width=4)
    assert not loaded.training
    assert torch.equal(loaded(*scene(1)), synthesis(*scene(1)))
    with pytest.raises(ValueError, match="another network"):
        CCFPSESynthesis.load(*paths[::-1], size=SIZE, width=4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (254, r"class_map: expected train ids 0 to 18, got 254; a pixel without a class is 255"),
        (19, r"class_map: expected train ids 0 to 18, got 19;"),
        (-1, r"class_map: expected train ids 0 to 18, got -1;"),
    ],
)
def test_train_ids_without_a_label_id(value, message):
    spy, synthesis = spied()
    class_map, photos = scene(1)
    class_map = class_map.int()
    class_map[0, 0, 0] = value  # which resizing leaves out
    with pytest.raises(ValueError, match=message):
        label_ids(class_map)
    with pytest.raises(ValueError, match=message):
        synthesis(class_map, photos)
    assert not hasattr(spy, "images")


def test_pixels_without_a_class_are_unlabeled():
    spy, synthesis = spied()
    class_map, photos = scene(1)
    class_map[0, :50, :80] = 255
    synthesis(class_map, photos)
    label_map = label_ids(class_map)
    assert (label_map[0, :50, :80] == 0).all() and torch.equal(label_map == 0, class_map == 255)
    assert spy.planes[0, 0].any()
    unlabeled = torch.where(class_map == 255, 0, label_ids(class_map.clamp(max=18)))
    rendered = spy.planes
    synthesis.render(unlabeled, photos)
    assert torch.equal(rendered, spy.planes)


@pytest.mark.parametrize("value", [35, -1, 255])
def test_labels_beyond_the_planes(value):
    spy, synthesis = spied()
    label_map, photos = torch.full((1, 96, 200), 7), scene(1)[1]
    label_map[0, 0, 0] = value
    message = rf"label_map: expected label ids 0 to 34, got {value}; set pixels without a label to 0, unlabeled"
    with pytest.raises(ValueError, match=message):
        label_planes(label_map)
    with pytest.raises(ValueError, match=message):
        synthesis.render(label_map, photos)
    assert not hasattr(spy, "images")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_that_are_no_integers(synthesis, dtype):
    class_map, photos = scene(1)
    with pytest.raises(TypeError, match=f"class_map: expected integers, train ids, got {dtype}"):
        synthesis(class_map.to(dtype), photos)


@pytest.mark.parametrize("shape", [(96, 200), (1, 1, 96, 200), (1, 0, 200), (0, 96, 200)])
def test_label_maps_of_another_shape(synthesis, shape):
    for name, render in (("class_map", synthesis), ("label_map", synthesis.render)):
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[B, H, W\] with at least one pixel, got \["):
            render(torch.zeros(shape, dtype=torch.int64), scene(1)[1])


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 4, 8, 8), (3, 8, 8), (1, 3, 8, 0)])
def test_photos_of_another_shape(synthesis, shape):
    with pytest.raises(ValueError, match=r"photos: expected shape \[1, 3, H, W\], one photo for each .*, got \["):
        synthesis(scene(1)[0], torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1.0, 1.0, r"got -1\.\.1$"),
        (0.0, 256.0, r"got 0\.\.256$"),
        (0.0, 1.0, r"got 0\.\.1; multiply by 255 first"),
        (0.0, float("nan"), r"got nan\.\.nan$"),
        (0.0, float("inf"), r"got 0\.\.inf$"),
    ],
)
def test_photos_of_another_range(synthesis, low, high, message):
    photos = torch.full((1, 3, 8, 8), low)
    photos[0, 0, 0, 0] = high
    with pytest.raises(ValueError, match=r"photos: expected values in 0\.\.255, " + message):
        synthesis(scene(1)[0], photos)


def test_photos_of_other_integers(synthesis):
    with pytest.raises(TypeError, match=r"photos: expected uint8, or floating point in 0\.\.255, got torch\.int64"):
        synthesis(scene(1)[0], scene(1)[1].long())
