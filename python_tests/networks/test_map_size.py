"""Sizes of inputs and maps, the strides that they follow from, and padding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rwpm_fast import Scorer, Walk, attach
from rwpm_fast.networks.map_size import find_stride, follows

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = {  # that take every side of 8 pixels or more, and give it all
    "same": lambda: nn.Conv2d(3, 3, 3, stride=2, padding=1),
    "wide": lambda: nn.Conv2d(3, 3, 7, stride=2, padding=3),
    "patch": lambda: nn.Conv2d(3, 3, 2, stride=2),
    "even": lambda: nn.Conv2d(3, 3, 4, stride=2, padding=1),
    "pool": lambda: nn.MaxPool2d(2),
    "ceil": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "pool ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "pool same": lambda: nn.MaxPool2d(3, 2, padding=1),
}
SINGLE = {
    "patch 16": (nn.Conv2d(3, 3, 16, stride=16), 16),
    "patch 14": (nn.Conv2d(3, 3, 14, stride=14), 14),
    "half of an even kernel": (nn.Conv2d(3, 3, 8, stride=8, padding=4), 8),
    "one more": (nn.Conv2d(3, 3, 4, stride=4, padding=2), 4),
}


def size_of(map_):
    return tuple(map_.shape[-2:])


@pytest.mark.parametrize("names", [*itertools.combinations_with_replacement(LAYERS, 3)], ids="-".join)
def test_maps_of_networks_follow_from_their_stride(names):
    network = nn.Sequential(*(LAYERS[name]() for name in names))
    with torch.no_grad():
        for height in range(90, 107):
            assert follows((height, 64), size_of(network(torch.zeros(1, 3, height, 64))), 8)
        assert find_stride((128, 192), network(torch.zeros(1, 3, 128, 192))) == 8


@pytest.mark.parametrize(("layer", "stride"), SINGLE.values(), ids=SINGLE)
def test_maps_of_single_layers(layer, stride):
    with torch.no_grad():
        for height in range(90, 107):
            assert follows((height, 64), size_of(layer(torch.zeros(1, 3, height, 64))), stride)
        trial = (10 * stride, 12 * stride)
        assert find_stride(trial, layer(torch.zeros(1, 3, *trial))) == stride


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(128, 192), (130, 190), (200, 300), (500, 700), (97, 1025)])
@pytest.mark.parametrize("rounded", ["up", "down", "down and one more"])
def test_strides_are_found_at_any_trial_size(size, stride, rounded):
    pixels = [{"up": -(-n // stride), "down": n // stride}.get(rounded, n // stride + 1) for n in size]
    assert find_stride(size, torch.zeros(1, 1, *pixels)) == stride


BORDERS = {  # maps that lack a border of the input, or have one more
    "unpadded": nn.Conv2d(3, 8, 9),
    "cropped": nn.ZeroPad2d(-8),
    "border of zeros": nn.ZeroPad2d(16),
}


@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_maps_without_or_with_a_border_are_refused(border):
    first = border if isinstance(border, nn.Conv2d) else nn.Sequential(border, nn.Conv2d(3, 8, 1))
    model = nn.Sequential(nn.Sequential(first, nn.AvgPool2d(4)), nn.Conv2d(8, 3, 1))
    with pytest.raises(
        ValueError, match=r"stride: the map of an input \[128, 192\] is .*no one stride.*give padded_to"
    ):
        attach(model, "0", "1", mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"which no stride 4 gives"):
        attach(model, "0", "1", mean=MEAN, std=STD, stride=4)


class Trimmed(nn.Module):
    """Gives up what is no multiple of 32 of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        height, width = (side // 32 * 32 for side in x.shape[-2:])
        return self.head(self.body(x[..., :height, :width]))


def test_a_map_that_does_not_follow_fails_its_photo():
    scorer = Scorer(attach(Trimmed(), "body", "head", mean=MEAN, std=STD))
    assert scorer(np.zeros((64, 96, 3), np.uint8)).map_size == (16, 24)
    assert scorer(np.zeros((67, 96, 3), np.uint8)).map_size == (16, 24)
    message = r"embedding: the map of an input \[84, 96\] is \[16, 24\], which no stride 4 gives"
    with pytest.raises(ValueError, match=message):
        scorer(np.zeros((84, 96, 3), np.uint8))


class Multiples(nn.Module):
    """Takes multiples of a number only, as networks that join an encoder's levels do."""

    def __init__(self, number: int, stride: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.number = number
        self.body, self.head = nn.Conv2d(3, 16, stride, stride=stride), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        if any(side % self.number for side in x.shape[-2:]):
            raise AssertionError(f"sides must be multiples of {self.number}")
        return F.interpolate(self.head(self.body(x)), x.shape[-2:], mode="bilinear")


@pytest.mark.parametrize("number", [14, 32, 48])
def test_a_model_of_multiples_names_the_way_out(number):
    settings = {"mean": MEAN, "std": STD, "stride": None}
    model = Multiples(number, 14 if number == 14 else 8)
    with pytest.raises(ValueError, match=r"a trial photo .*\(sides must be multiples of.*or padded_to if"):
        attach(model, "body", "head", trial_size=(100, 100), **settings)
    network = attach(model, "body", "head", trial_size=(4 * number, 6 * number), **settings)
    with pytest.raises(ValueError, match=r"an input of shape \[1, 3, 99, 150\] .*multiples of.*to attach as padded_to"):
        Scorer(network)(np.zeros((99, 150, 3), np.uint8))
    padded = attach(model, "body", "head", padded_to=number, **settings)
    assert Scorer(padded)(np.zeros((99, 150, 3), np.uint8)).score.shape == (99, 150)


@pytest.mark.parametrize("given", ["mean and std", "preprocess"])
@pytest.mark.parametrize("walk", [None, Walk(steps=2)], ids=["plain", "walked"])
def test_scores_of_padded_photos_stay_in_place(given, walk):
    """A band in the last 40 of 540 rows: its logits are there, and equal to those of a photo that needs no padding."""
    settings = {"mean": MEAN, "std": STD}
    if given == "preprocess":
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        settings = {"preprocess": lambda photos: (photos.float() / 255 - mean) / std}
    model = Multiples(32)
    with torch.no_grad():  # a map pixel is the mean of the pixels below, so that an edge among them is seen in place
        model.body.weight.copy_(model.body.weight.mean((2, 3), keepdim=True).expand_as(model.body.weight))
    scorer = Scorer(attach(model, "body", "head", padded_to=32, **settings), "max_logit", walk)
    photo = np.full((540, 96, 3), 20, np.uint8)
    photo[500:] = 250
    logits = scorer.analyze(photo).walked.full_logits
    assert logits.shape == (5, 540, 96) and scorer(photo).score.shape == (540, 96)
    column = logits[:, :, 48]
    share = (column - column[:, :1]) / (column[:, 532:533] - column[:, :1])  # of the way to the band's logits
    assert (share[:, :498] < 0.5).all() and (share[:, 502:536] > 0.5).all()

    whole = np.full((544, 96, 3), 20, np.uint8)
    whole[500:] = 250
    whole[540:] = np.round(255 * np.array(MEAN))  # as the padding: zero for the model
    expected = scorer.analyze(whole).walked.full_logits[:, :540]
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.01)


def test_padding_is_that_of_the_networks_of_the_package():
    network = attach(Multiples(32), "body", "head", padded_to=32, mean=MEAN, std=STD)
    photo = torch.full((1, 3, 50, 90), 200, dtype=torch.uint8)
    images = network.preprocess(photo)
    assert images.shape == (1, 3, *network.padded_size((50, 90))) == (1, 3, 64, 96)
    assert (images[..., 50:, :] == 0).all() and (images[..., 90:] == 0).all() and (images[..., :50, :90] != 0).all()
    scorer = Scorer(network, walk=Walk(steps=2, parts=2), calibrated=True, walk_padding=False)
    embedded = scorer.embed(photo[0])
    mask = embedded.geometry.graph_mask(None, padding=False)
    assert mask[0, :7].all() and not mask[0, 7:].any()
    assert scorer.analyze_embedded(embedded).walked.edges[0][-1] == 50


def pad(multiple, mode="constant", value=0.0):
    def preprocess(photos):
        rows, columns = (-side % multiple for side in photos.shape[-2:])
        return F.pad(photos.float() / 255 - 0.4, (0, columns, 0, rows), mode, *([value] if mode == "constant" else []))

    return preprocess


def letterbox(photos):
    scale = 256 / max(photos.shape[-2:])
    resized = F.interpolate(photos.float() / 255, scale_factor=scale, mode="bilinear")
    rows, columns = (256 - side for side in resized.shape[-2:])
    return F.pad(resized, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def centered(photos):
    rows, columns = (-side % 32 for side in photos.shape[-2:])
    return F.pad(photos.float(), (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


SHIFTING = {
    "to multiples of 32": pad(32),
    "to multiples of 8": pad(8),
    "mirrored": pad(32, "reflect"),
    "repeated": pad(32, "replicate"),
    "white": pad(32, value=0.6),
    "on all sides": centered,
    "letterbox": letterbox,
    "to a fixed size": lambda photos: F.pad(photos.float(), (0, 512 - photos.shape[3], 0, 512 - photos.shape[2])),
    "center crop": lambda photos: photos[..., 16:-16, 16:-16].float(),
    "corner crop": lambda photos: photos[..., :96, :128].float(),
}


@pytest.mark.parametrize("preprocess", SHIFTING.values(), ids=SHIFTING)
def test_a_preprocessing_that_pads_or_crops_is_refused(preprocess):
    with pytest.raises(ValueError, match=r"preprocess: it pads or crops a photo \[1.*give padded_to"):
        attach(Multiples(1), "body", "head", preprocess=preprocess)


def resize(size=None, **settings):
    return lambda photos: F.interpolate(photos.float() / 255, size, **settings)


RESIZING = {
    "halved": resize(scale_factor=0.5, mode="bilinear", antialias=True),
    "doubled": resize(scale_factor=2, mode="bilinear"),
    "nearest": resize(scale_factor=0.5),
    "fixed": resize((256, 256), mode="bicubic"),
    "fixed and wide": resize((64, 256), mode="area"),
    "corners aligned": resize((160, 320), mode="bilinear", align_corners=True),
    "to multiples": lambda photos: F.interpolate(photos.float(), [-(-n // 32) * 32 for n in photos.shape[-2:]]),
    "each photo normed": lambda photos: (photos.float() - photos.float().mean()) / photos.float().std(),
    "inverted": lambda photos: 1 - photos.float() / 255,
}


@pytest.mark.parametrize("preprocess", RESIZING.values(), ids=RESIZING)
def test_a_preprocessing_may_resize(preprocess):
    scorer = Scorer(attach(Multiples(1), "body", "head", preprocess=preprocess))
    photo = np.random.default_rng(0).integers(0, 256, (120, 170, 3), dtype=np.uint8)
    assert scorer(photo).score.shape == (120, 170)


def test_padding_wants_a_preprocessing_that_keeps_the_size():
    with pytest.raises(
        ValueError, match=r"padded_to: expected a preprocess that keeps the size of a photo \[128, 192\]"
    ):
        attach(Multiples(32), "body", "head", preprocess=RESIZING["halved"], padded_to=32)
    for bad in (0, -32, 3.5, "32"):
        with pytest.raises(ValueError, match="padded_to: expected an integer of 1 or more, got"):
            attach(Multiples(32), "body", "head", mean=MEAN, std=STD, padded_to=bad)
