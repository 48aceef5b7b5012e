from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rwpm_fast import Scorer, Walk, attach, networks
from rwpm_fast.networks import ERFNet
from rwpm_fast.networks.resize import resize_photos

RESIDUAL = ("conv3x1_1", "conv1x3_1", "bn1", "conv3x1_2", "conv1x3_2", "bn2")


def published_state(outputs=20):
    """Random weights under the names of the published file, from the layout of ERFNet's PyTorch code."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def convolution(name, *shape):
        channels = shape[1] if "decoder" in name and shape[2:] in ((3, 3), (2, 2)) else shape[0]
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / (shape[0] * shape[2] * shape[3]) ** 0.5
        state[f"{name}.bias"] = torch.randn(channels, generator=generator) / 5

    def norm(name, channels):
        for entry in ("weight", "bias", "running_mean", "running_var"):
            values = torch.rand(channels, generator=generator)
            state[f"{name}.{entry}"] = values + 0.5 if entry in ("weight", "running_var") else values - 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def residual(name, channels):
        for part in RESIDUAL:
            if part.startswith("bn"):
                norm(f"{name}.{part}", channels)
            else:
                convolution(f"{name}.{part}", channels, channels, int(part[4]), int(part[6]))

    convolution("encoder.initial_block.conv", 13, 3, 3, 3)
    norm("encoder.initial_block.bn", 16)
    for number in range(15):
        name = f"encoder.layers.{number}"
        if number in (0, 6):
            inputs = 16 if number == 0 else 64
            outputs_ = 64 if number == 0 else 128
            convolution(f"{name}.conv", outputs_ - inputs, inputs, 3, 3)
            norm(f"{name}.bn", outputs_)
        else:
            residual(name, 64 if number < 6 else 128)
    convolution("encoder.output_conv", outputs, 128, 1, 1)
    for number, channels in enumerate((64, 64, 64, 16, 16, 16)):
        name = f"decoder.layers.{number}"
        if number in (0, 3):
            convolution(f"{name}.conv", 2 * channels if number == 0 else 64, channels, 3, 3)
            norm(f"{name}.bn", channels)
        else:
            residual(name, channels)
    convolution("decoder.output_conv", 16, outputs, 2, 2)
    return state


def reference(state, images):
    """The encoder's map and all outputs, written from the paper: functions of the published weights alone."""

    def conv(name, x, **settings):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings)

    def up(name, x, **settings):
        return F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, **settings)

    def norm(name, x):
        mean, var, weight, bias = (
            state[f"{name}.{entry}"].view(-1, 1, 1) for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    def down(name, x):
        return norm(
            f"{name}.bn", torch.cat([conv(f"{name}.conv", x, stride=2, padding=1), F.max_pool2d(x, 2)], 1)
        ).relu()

    def residual(name, x, d):
        y = conv(f"{name}.conv3x1_1", x, padding=(1, 0)).relu()
        y = norm(f"{name}.bn1", conv(f"{name}.conv1x3_1", y, padding=(0, 1))).relu()
        y = conv(f"{name}.conv3x1_2", y, padding=(d, 0), dilation=(d, 1)).relu()
        y = norm(f"{name}.bn2", conv(f"{name}.conv1x3_2", y, padding=(0, d), dilation=(1, d)))
        return (x + y).relu()

    x = down("encoder.initial_block", images)
    dilations = [None, 1, 1, 1, 1, 1, None, 2, 4, 8, 16, 2, 4, 8, 16]
    for number, dilation in enumerate(dilations):
        name = f"encoder.layers.{number}"
        x = down(name, x) if dilation is None else residual(name, x, dilation)
    encoded = x
    for number in range(6):
        name = f"decoder.layers.{number}"
        if number in (0, 3):
            x = norm(f"{name}.bn", up(f"{name}.conv", x, padding=1, output_padding=1)).relu()
        else:
            x = residual(name, x, 1)
    return encoded, up("decoder.output_conv", x)


@pytest.fixture(scope="module")
def state():
    return published_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("erfnet") / "erfnet_pretrained.pth"
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    return path


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def test_the_published_layout_gives_the_published_network(state, file, photo):
    network = networks.load("erfnet", file)
    assert not network.training and network.fixed_size == (512, 1024)
    photos = torch.tensor(photo).permute(2, 0, 1)[None]
    images = network.preprocess(photos)
    assert images.shape == (1, 3, 512, 1024)
    torch.testing.assert_close(images, resize_photos(photos, (512, 1024)) / 255)
    images = images[..., :64, :128]
    encoded, logits = reference(state, images)
    with torch.no_grad():
        map_ = network.embed(images)
        torch.testing.assert_close(map_, encoded, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network.all_logits(map_), logits, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(network.head(map_), logits[:, :19], rtol=1e-3, atol=1e-3)
    assert logits.shape == (1, 20, 64, 128)


def test_photos_of_any_size_with_and_without_a_walk(file, photo):
    network = networks.load("erfnet", file, size=(64, 128))
    assert network.input_size((48, 80)) == (64, 128) and network.name == "erfnet (size 64 128)"
    plain, walked = (Scorer(network, walk=walk).analyze(photo) for walk in (None, Walk(steps=2)))
    assert plain.embedding_map.shape == (128, 8, 16)
    assert plain.walked.full_logits.shape == (19, 48, 80)
    assert not torch.equal(plain.walked.score("max_logit"), walked.walked.score("max_logit"))
    own = ERFNet(size=None).eval()
    analysis = Scorer(own).analyze(photo[:45, :77])
    assert analysis.embedding_map.shape == (128, 6, 10) and analysis.walked.full_logits.shape == (19, 45, 77)


def test_a_classifier_without_void(tmp_path):
    torch.save(published_state(19), tmp_path / "w.pth")
    network = networks.load("erfnet", tmp_path / "w.pth")
    assert network.all_logits(torch.zeros(1, 128, 2, 2)).shape == (1, 19, 16, 16)


def test_a_file_without_the_encoders_classifier(state, tmp_path):
    kept = {name: value for name, value in state.items() if not name.startswith("encoder.output_conv")}
    torch.save(kept, tmp_path / "w.pth")
    assert networks.load("erfnet", tmp_path / "w.pth").default_score == "max_logit"
    del kept["decoder.output_conv.bias"]
    torch.save({**kept, "decoder.other": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"missing: decoder\.output_conv\.bias; unexpected: decoder\.other"):
        networks.load("erfnet", tmp_path / "w.pth")


def test_the_original_code_is_attached_by_what_is_inside_its_decoder(file, photo):
    """It enters the decoder by ``forward``; the last layer is called."""

    class Original(torch.nn.Module):
        def __init__(self):
            super().__init__()
            network = networks.load("erfnet", file)
            self.encoder, self.decoder = network.encoder, network.decoder

        def forward(self, images):
            return self.decoder.forward(self.encoder(images))

    pixels = {"mean": (0, 0, 0), "std": (1, 1, 1), "size": (64, 128)}
    with pytest.raises(ValueError, match=r"'decoder' is entered by its forward.* take modules inside it, decoder\.out"):
        attach(Original(), "encoder", "decoder", **pixels)
    network = attach(Original(), "decoder.layers", "decoder.output_conv", leave_out=[-1], **pixels)
    assert (network.stride, network.linear_head, len(network.classes)) == (2, False, 19)
    ours = Scorer(networks.load("erfnet", file, size=(64, 128))).analyze(photo).walked.full_logits
    torch.testing.assert_close(Scorer(network).analyze(photo).walked.full_logits, ours, rtol=1e-3, atol=1e-3)
