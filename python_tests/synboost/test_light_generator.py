"""The light generator and its training, on images too small to learn much of."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rwpm_fast import networks
from rwpm_fast.scenes import EGO, UNKNOWN, render_scene
from rwpm_fast.synboost.generator_training import LOSS_WEIGHTS, Losses, Pair, Progress, scene_pairs, train_generator
from rwpm_fast.synboost.light_generator import (
    STRIDE,
    LightGenerator,
    LightSynthesis,
    condition_planes,
    generator_inputs,
)

SIZE = (64, 96)


def random_scene(batch: int, height: int = SIZE[0], width: int = SIZE[1]) -> tuple[torch.Tensor, torch.Tensor]:
    """Class maps [B, H, W] of random rectangles, and photos [B, 3, H, W] of random spots, uint8."""
    rng = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 19, (batch, 1, 6, 5), generator=rng, dtype=torch.uint8)
    spots = torch.randint(0, 256, (batch, 3, 4, 5), generator=rng, dtype=torch.uint8)
    class_map, photos = (F.interpolate(small, (height, width), mode="nearest") for small in (blocks, spots))
    return class_map[:, 0], photos


def inputs(batch: int, height: int = SIZE[0], width: int = SIZE[1]) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes and photos as the generator reads them."""
    return generator_inputs(*random_scene(batch, height, width), (height, width))


def built(width: int = 4, seed: int = 0) -> LightGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LightGenerator(width)


@pytest.fixture(scope="module")
def generator() -> LightGenerator:
    return built().requires_grad_(False)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return scene_pairs(2, np.random.default_rng(3), SIZE)


class Canvas(nn.Module):
    """A generator of one image that it holds, whatever it is given; black at first."""

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.full((1, 3, *size), -1.0))

    def forward(self, planes: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        return self.image.expand(len(planes), -1, -1, -1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_planes_of_classes_and_edges():
    class_map = torch.tensor([[[0, 0, 255, 255], [0, 0, 255, 18]]], dtype=torch.uint8)
    planes = condition_planes(class_map)
    assert planes.shape == (1, 20, 2, 4) and planes.dtype == torch.float32
    assert planes[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert planes[0, 18].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert planes[0, 1:18].eq(0).all()
    assert planes[0, 19].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (64, 64)])
def test_images(generator, size):
    images = generator(*inputs(2, *size))
    assert images.shape == (2, 3, *size) and images.dtype == torch.float32
    assert images.abs().max() <= 1 and images.std() > 0


def test_photo_gives_the_style_in_any_size(generator):
    planes, photos = inputs(1)
    dark, bright = (generator(planes, photos.clamp(*light)) for light in ((-1, -0.5), (0.5, 1)))
    assert (dark - bright).abs().mean() > 1e-3
    assert generator(planes, photos[..., :37, :51]).shape == (1, 3, *SIZE)


def test_is_a_function_of_its_inputs(generator):
    first = generator.train()(*inputs(2))
    assert torch.equal(first, generator.eval()(*inputs(2)))
    assert not list(generator.buffers())


def test_batch_equals_singles(generator):
    planes, photos = inputs(3)
    singles = torch.cat([generator(planes[i : i + 1], photos[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(generator(planes, photos), singles, rtol=0, atol=1e-5)


def test_channels_last_equals_contiguous(generator):
    planes, photos = (part.contiguous(memory_format=torch.channels_last) for part in inputs(2))
    got = built().to(memory_format=torch.channels_last)(planes, photos)
    torch.testing.assert_close(got, generator(*inputs(2)), rtol=0, atol=1e-5)


def test_bfloat16_is_close(generator):
    exact = generator(*inputs(2))
    got = built().bfloat16()(*inputs(2))
    assert got.dtype == torch.bfloat16
    assert (got - exact).abs().mean() <= 0.02 * exact.std()


def test_gradients_reach_every_parameter():
    generator = built()
    planes, photos = inputs(2)
    (generator(planes, photos) - photos).square().mean().backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    assert all(p.grad.isfinite().all() for p in generator.parameters())


def test_is_light():
    with torch.device("meta"):
        count, wide = (sum(p.numel() for p in LightGenerator(width).parameters()) for width in (16, 32))
    assert count == 565_019 and count <= 800_000 < wide


def test_one_class_is_rendered(generator):
    """Where nothing varies the instance norm has nothing to scale."""
    class_map = torch.zeros(1, *SIZE, dtype=torch.uint8)
    images = generator(*generator_inputs(class_map, torch.full((1, 3, *SIZE), 100, dtype=torch.uint8), SIZE))
    assert images.isfinite().all()


def test_synthesis_is_the_generator_at_its_size(generator):
    synthesis = LightSynthesis(generator, size=SIZE)
    class_map, photos = random_scene(2, 131, 203)
    class_map[:, :40, :50] = 255
    images = synthesis(class_map, photos)
    assert synthesis.size == SIZE and images.shape == (2, 3, *SIZE)
    assert torch.equal(images, generator(*generator_inputs(class_map, photos, SIZE)))
    assert torch.equal(images, synthesis(class_map.long(), photos.float()))
    assert not LightSynthesis(built(), size=SIZE)(class_map, photos).requires_grad


def test_labels_are_taken_at_the_center():
    class_map = torch.randint(0, 19, (1, 4 * SIZE[0], 4 * SIZE[1]), generator=torch.Generator().manual_seed(0))
    planes, _ = generator_inputs(class_map, random_scene(1)[1], SIZE)
    assert torch.equal(planes, condition_planes(class_map[:, 2::4, 2::4]))


def test_synthesis_in_half_precision_is_float32():
    synthesis = LightSynthesis(built().bfloat16(), size=SIZE)
    assert synthesis(*random_scene(1)).dtype == torch.float32


def test_weights_of_a_file(tmp_path, generator):
    path = tmp_path / "light.npz"
    np.savez(path, **{name: tensor.numpy().astype(np.float16) for name, tensor in generator.state_dict().items()})
    synthesis = LightSynthesis.load(path, size=SIZE, width=4)
    assert not synthesis.training and synthesis.generator.last.weight.dtype == torch.float32
    wanted = LightSynthesis(generator, size=SIZE)(*random_scene(1))
    torch.testing.assert_close(synthesis(*random_scene(1)), wanted, rtol=0, atol=0.01)
    with pytest.raises(ValueError, match=r"does not fit light_generator: .*expected \["):
        LightSynthesis.load(path)
    with pytest.raises(FileNotFoundError):
        LightSynthesis.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g, m, p: LightGenerator(0), ValueError, "width: expected 1 or more"),
        (lambda g, m, p: LightGenerator(1.5), TypeError, "width: expected an integer"),
        (lambda g, m, p: LightSynthesis(g, size=(64, 100)), ValueError, r"size: expected .* multiples of 32"),
        (lambda g, m, p: LightSynthesis(g, size=(0, 64)), ValueError, r"size: expected .* multiples of 32"),
        (lambda g, m, p: LightSynthesis.load("none.npz", size=(64,)), ValueError, r"size: expected height and width"),
        (lambda g, m, p: g(torch.zeros(1, 20, 64, 80), torch.zeros(1, 3, 8, 8)), ValueError, "planes: .* of 32"),
        (lambda g, m, p: g(torch.zeros(1, 19, 64, 64), torch.zeros(1, 3, 8, 8)), ValueError, "planes: .* 20, H, W"),
        (lambda g, m, p: g(torch.zeros(1, 20, 64, 64), torch.zeros(2, 3, 8, 8)), ValueError, r"photos: .*\[1, 3, H"),
        (lambda g, m, p: LightSynthesis(g)(m[0], p), ValueError, r"class_map: expected shape \[B, H, W\]"),
        (lambda g, m, p: LightSynthesis(g)(m.float(), p), TypeError, "class_map: expected integers, train ids"),
        (lambda g, m, p: LightSynthesis(g)(m == 0, p), TypeError, "class_map: expected integers, train ids"),
        (lambda g, m, p: LightSynthesis(g)(m * 0 + EGO, p), ValueError, "train ids 0 to 18, got 254; .* is 255"),
        (lambda g, m, p: LightSynthesis(g)(m.char() * 0 - 1, p), ValueError, "train ids 0 to 18, got -1"),
        (lambda g, m, p: LightSynthesis(g)(m * 0 + 19, p), ValueError, "train ids 0 to 18, got 19"),
        (lambda g, m, p: LightSynthesis(g)(m, p[:, :2]), ValueError, "photos: expected shape"),
        (lambda g, m, p: LightSynthesis(g)(m, p / 255), ValueError, "multiply by 255"),
        (lambda g, m, p: condition_planes(m[:, :0]), ValueError, "at least one pixel"),
    ],
)
def test_bad_input(generator, call, error, message):
    with pytest.raises(error, match=message):
        call(generator, *random_scene(1))


def test_pairs_of_scenes(pairs):
    again = np.random.default_rng(3)
    for pair in pairs:
        photo, class_map = render_scene(again, SIZE)
        assert torch.equal(pair.photo, torch.from_numpy(photo).permute(2, 0, 1))
        no_class = (class_map == UNKNOWN) | (class_map == EGO)
        assert np.array_equal(pair.class_map.numpy(), np.where(no_class, 255, class_map))


def test_training_lowers_the_loss(pairs):
    losses = list(train_generator(built(8), pairs, steps=30, rng=rng(), batch=2, size=SIZE, learning_rate=5e-3))
    first, last = (np.mean(part, axis=0) for part in (losses[:4], losses[-4:]))
    print(f"losses {first} to {last}")
    assert len(losses) == 30 and last[0] < 0.6 * first[0]


def test_training_follows_its_seed(pairs):
    runs = []
    for seed in (0, 0, 1):
        generator = built()
        list(train_generator(generator, pairs, steps=3, rng=rng(seed), batch=2, size=SIZE))
        runs.append(weights_of(generator))
    assert equal(runs[0], runs[1]) and not equal(runs[0], runs[2])


def test_training_goes_on_where_it_was(tmp_path, pairs):
    settings = {"steps": 5, "batch": 2, "size": SIZE}
    whole = built()
    losses = list(train_generator(whole, pairs, rng=rng(), **settings))

    interrupted, progress = built(), Progress()
    for _ in train_generator(interrupted, pairs, rng=rng(), progress=progress, **settings):
        if progress.step == 2:
            torch.save({"weights": interrupted.state_dict(), "progress": asdict(progress)}, tmp_path / "saved.pth")
    saved = torch.load(tmp_path / "saved.pth", weights_only=True)
    resumed, progress = built(seed=9), Progress(**saved["progress"])
    resumed.load_state_dict(saved["weights"])
    assert list(train_generator(resumed, pairs, rng=rng(77), progress=progress, **settings)) == losses[2:]
    assert equal(weights_of(resumed), weights_of(whole)) and progress.step == 5
    assert not list(train_generator(resumed, pairs, rng=rng(), progress=progress, **settings))


def test_losses_are_their_definition():
    class_map, photos = random_scene(1)
    class_map[:, 20:30] = 255
    losses = next(train_generator(Canvas(), [Pair(photos[0], class_map[0])], steps=1, rng=rng(), batch=1, size=SIZE))
    difference = np.where((class_map == 255)[:, None], 0, -1 - (photos.double().numpy() / 127.5 - 1))
    gradients = sum(np.abs(np.diff(difference, axis=axis)).mean() for axis in (2, 3))
    np.testing.assert_allclose(losses, (np.abs(difference).mean(), gradients, 0), rtol=1e-5)


def test_pairs_are_mirrored_as_a_whole():
    class_map = torch.arange(SIZE[1]).div(8, rounding_mode="floor").expand(SIZE).byte()  # 0 to 11 from left to right
    photo = (20 * class_map).expand(3, -1, -1)
    canvas, leftmost = Canvas(), []

    def record(module, arguments):
        planes, photos = arguments
        classes = planes[:, :19].argmax(1, keepdim=True)
        torch.testing.assert_close(photos, (20 * classes / 127.5 - 1).expand_as(photos), rtol=0, atol=1e-5)
        leftmost.extend(classes[:, 0, 0, 0].tolist())

    canvas.register_forward_pre_hook(record)
    list(train_generator(canvas, [Pair(photo, class_map)], steps=8, rng=rng(), batch=4, size=SIZE))
    assert sorted(set(leftmost)) == [0, 11] and 8 <= leftmost.count(11) <= 24


def test_learning_rate_falls_as_a_cosine():
    canvas, pair = Canvas(), Pair(torch.full((3, *SIZE), 255).byte(), torch.zeros(SIZE).byte())
    settings = {"steps": 4, "rng": rng(), "batch": 1, "size": SIZE, "loss_weights": Losses(1.0, 0.0, 0.0)}
    values = []
    for _ in train_generator(canvas, [pair], learning_rate=0.1, **settings):
        values.append(canvas.image[0, 0, 0, 0].item())  # constant gradients: Adam moves by the rate itself
    np.testing.assert_allclose(np.diff([-1, *values]), 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-3)


def test_training_in_half_precision(pairs):
    settings = {"steps": 2, "batch": 2, "size": SIZE, "feature_network": networks.load()}
    exact = list(train_generator(built(), pairs, rng=rng(), **settings))
    generator = built()
    losses = list(train_generator(generator, pairs, rng=rng(), half_precision=True, **settings))
    assert losses[0] != exact[0]
    np.testing.assert_allclose(losses[0], exact[0], rtol=0.01)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in generator.parameters())


def test_pixels_without_a_class_are_not_learned():
    # Class map and photo are their own mirror images.
    canvas, class_map = Canvas(), torch.zeros(SIZE, dtype=torch.uint8)
    class_map[20:30] = 255
    photo = torch.full((3, *SIZE), 200, dtype=torch.uint8)
    settings = {"steps": 4, "rng": rng(), "batch": 2, "size": SIZE, "feature_network": networks.load()}
    list(train_generator(canvas, [Pair(photo, class_map)], **settings))
    learned = (canvas.image != -1).any(1)[0]
    assert torch.equal(learned, class_map == 0)


def test_loss_of_features(pairs):
    network = networks.load()
    before, settings = weights_of(network), {"steps": 1, "rng": rng(), "batch": 1, "size": SIZE}
    canvas, photo = Canvas(), pairs[0].photo[:, :, :1].expand(-1, -1, SIZE[1]).contiguous()
    pair = Pair(photo, torch.zeros(SIZE, dtype=torch.uint8))
    only = Losses(0.0, 0.0, 1.0)
    losses = next(train_generator(canvas, [pair], loss_weights=only, feature_network=network, **settings))
    assert losses.features > 0.1 and (canvas.image != -1).any()
    assert equal(weights_of(network), before)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())

    with torch.no_grad():
        canvas.image.copy_(photo[None] / 127.5 - 1)
    losses = next(train_generator(canvas, [pair], feature_network=network, **settings))
    np.testing.assert_allclose(losses, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"samples": []}, ValueError, "samples: expected one or more pairs"),
        ({"steps": 0}, ValueError, "steps: expected 1 or more, got 0"),
        ({"batch": 0}, ValueError, "batch: expected 1 or more, got 0"),
        ({"batch": 1.5}, TypeError, "batch: expected an integer"),
        ({"size": (64, 70)}, ValueError, "size: .* multiples of 32"),
        ({"learning_rate": 0}, ValueError, "learning_rate: expected a finite number > 0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate: expected a finite number > 0"),
        ({"loss_weights": LOSS_WEIGHTS._replace(pixels=-1)}, ValueError, "loss_weights: .*>= 0"),
    ],
)
def test_bad_settings_of_the_training(pairs, changes, error, message):
    settings = {"samples": pairs, "steps": 1, "rng": rng(), "batch": 1, "size": SIZE} | changes
    with pytest.raises(error, match=message):  # before the first step
        train_generator(built(), **settings)


@pytest.mark.parametrize(
    ("photo", "class_map", "error", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(8, 8).byte(), TypeError, "photo: expected uint8"),
        (torch.zeros(8, 8, 3).byte(), torch.zeros(8, 8).byte(), ValueError, r"photo: expected shape \[3, H, W\]"),
        (torch.zeros(3, 8, 8).byte(), torch.zeros(8, 9).byte(), ValueError, r"class_map: .* \[8, 8\], got \[8, 9\]"),
        (torch.zeros(3, 8, 8).byte(), torch.zeros(8, 8), TypeError, "class_map: expected integers"),
        (torch.zeros(3, 8, 8).byte(), torch.full((8, 8), EGO), ValueError, "class_map: .* got 254"),
    ],
)
def test_bad_pairs(photo, class_map, error, message):
    with pytest.raises(error, match=message):
        Pair(photo, class_map)


def test_stride_is_that_of_the_coarsest_map(generator):
    shapes = []
    hook = generator.first.register_forward_hook(lambda module, arguments, output: shapes.append(output.shape[2:]))
    generator(*inputs(1))
    hook.remove()
    assert shapes == [(SIZE[0] // STRIDE, SIZE[1] // STRIDE)]
