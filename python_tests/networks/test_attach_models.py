"""Models of other forms than torchvision's: modules called several times or past their call, tokens, fixed sizes, a
void class."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from python_tests.networks.segmenter import MEAN, STD, Segmenter, as_input, attached, own_logits
from rwpm_fast import Scorer, Walk, attach, scores
from rwpm_fast.networks.resize import resize_photos

PIXELS = {"mean": MEAN, "std": STD}


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


def class_logits(network, photo, walk=None) -> Tensor:
    return Scorer(network, walk=walk).analyze(photo).walked.logits


class Refined(nn.Module):
    """Refines a map in two rounds, and classifies both, as decoders with intermediate predictions do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.refine, self.top = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.refine(self.body(x))
        rough = self.top(first)
        return rough + self.top(self.refine(first))


@pytest.mark.parametrize(("calls", "rounds"), [((0, 0), 1), ((-1, -1), 2), ((1, 1), 2), ((-2, -2), 1)])
def test_the_call_that_counts_is_taken(calls, rounds, photo):
    model = Refined()
    network = attach(model, "refine", "top", embedding_call=calls[0], head_call=calls[1], **PIXELS)
    with torch.no_grad():
        map_ = model.body(as_input(photo))
        for _ in range(rounds):
            map_ = model.refine(map_)
        wanted = model.top(map_)
    for _ in range(2):  # nothing is counted from one photo to the next
        torch.testing.assert_close(class_logits(network, photo), wanted[0])
    assert network.linear_head


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"embedding: .*'refine' is called 2 times; say which call counts by embedding_call, from 0, or -1"),
        ({"embedding_call": -1}, r"head: .*'top' is called 2 times; say which call counts by head_call"),
        (
            {"embedding_call": 2, "head_call": 0},
            r"embedding_call: expected a call of 'refine' from 0 to 1, or from the end by -1 to -2, got 2",
        ),
        ({"embedding_call": 0, "head_call": -1}, "'top' reads .*, which is not what 'refine' gives"),
    ],
)
def test_calls_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        attach(Refined(), "refine", "top", **PIXELS, **settings)


def test_a_head_that_is_called_several_times_is_not_walked_in_place():
    network = attach(Refined(), "refine", "top", embedding_call=-1, head_call=-1, **PIXELS)
    with pytest.raises(
        ValueError, match="head: expected a module that reads a map once in a pass, 'top' is called sev"
    ):
        network.walked(Walk())


def test_a_module_that_is_called_once_takes_a_call_too(photo):
    for call in (0, -1):
        network = attached(embedding_call=call, head_call=call)
        torch.testing.assert_close(class_logits(network, photo), class_logits(attached(), photo))
        network.walked(Walk(steps=2))


class Entered(nn.Module):
    """Enters a part by its ``forward``, as ERFNet enters its decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 4, stride=4)
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder.forward(self.body(x))


def test_a_module_entered_by_its_forward_is_told_with_what_is_inside():
    message = (
        r"head: .*'decoder' is entered by its forward, past __call__, so that no hook of it runs; have the model call "
        r"it, or take modules inside it, decoder\.2 \[1, 5, 32, 48\], decoder\.1 \[1, 8, 32, 48\], decoder\.0"
    )
    with pytest.raises(ValueError, match=message):
        attach(Entered(), "body", "decoder", **PIXELS)


def test_modules_inside_one_that_is_entered_by_its_forward(photo):
    model = Entered()
    network = attach(model, "decoder.1", "decoder.2", **PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(class_logits(network, photo), model(as_input(photo))[0])


class Transformer(nn.Module):
    """Patches of 8 pixels behind a class token and registers; the head reads tokens, all or those of patches, or a
    map."""

    def __init__(self, head: str, registers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.prefix = head, 1 + registers
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.first = nn.Parameter(torch.randn(1, self.prefix, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Conv2d(8, 5, 1) if head == "map" else nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        map_ = self.patches(x)
        tokens = self.norm(torch.cat([self.first.expand(len(x), -1, -1), map_.flatten(2).mT], dim=1))
        if self.kind == "map":
            return self.head(tokens[:, self.prefix :].mT.reshape(map_.shape))
        logits = self.head(tokens if self.kind == "all tokens" else tokens[:, self.prefix :])
        patches = logits[:, self.prefix :] if self.kind == "all tokens" else logits
        return patches.mT.reshape(len(x), 5, *map_.shape[-2:])


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (40, 40), (39, 60)])
@pytest.mark.parametrize("kind", ["map", "tokens", "all tokens"])
def test_tokens_become_a_map(kind, size):
    model, padded = Transformer(kind), {"padded_to": 8} if 39 in size else {}
    network = attach(model, "norm", "head", reshape=3, **PIXELS, **padded)
    assert (network.stride, network.linear_head) == (8, True)
    photo = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        images = network.preprocess(torch.tensor(photo).permute(2, 0, 1)[None])
        torch.testing.assert_close(class_logits(network, photo), model(images)[0])
        walk, map_ = Walk(steps=2, temperature=0.1), network.embed(images)
        wanted = network.head(walk(map_))[0]
    torch.testing.assert_close(class_logits(network, photo, walk), wanted, atol=1e-5, rtol=1e-5)


def test_only_a_head_that_reads_a_map_walks_in_place(photo):
    network = attach(Transformer("map"), "norm", "head", reshape=3, **PIXELS)
    walk = Walk(steps=2, temperature=0.1)
    with torch.no_grad():
        walked = network.walked(walk)(as_input(photo))
    torch.testing.assert_close(walked[0], class_logits(network, photo, walk), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="reads a map once in a pass, 'head' reads tokens"):
        attach(Transformer("tokens"), "norm", "head", reshape=3, **PIXELS).walked(walk)


def test_tokens_without_reshape_tell_its_number():
    message = r"expected a map \[B, D, h, w\] from 'norm', got shape \[1, 387, 8\]; if these .* give reshape, here 3, "
    with pytest.raises(ValueError, match=message):
        attach(Transformer("map"), "norm", "head", **PIXELS)
    with pytest.raises(ValueError, match=r"reshape: expected 1 tokens and then one for each patch.* got 387 tokens"):
        attach(Transformer("map"), "norm", "head", reshape=1, stride=8, **PIXELS)
    with pytest.raises(ValueError, match="reshape: expected a number of tokens, 0 or more, or a function, got -1"):
        attach(Transformer("map"), "norm", "head", reshape=-1, **PIXELS)


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 4, stride=4)
        self.norm, self.top = nn.LayerNorm(8), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.norm(self.body(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_a_function_makes_the_map_of_anything_else(photo):
    sizes = []

    def channels_first(output, size):
        sizes.append(size)
        return output.permute(0, 3, 1, 2)

    model = ChannelsLast()
    network = attach(model, "norm", "top", reshape=channels_first, **PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(class_logits(network, photo), model(as_input(photo))[0])
    assert sizes[0] == (128, 192) and sizes[-1] == (40, 64)


def test_a_protocols_size(photo):
    class Fixed(Segmenter):
        def forward(self, x):
            assert x.shape[-2:] == (32, 64), "no other size"
            return super().forward(x)

    model = Fixed()
    network = attached(model, size=(32, 64))
    assert network.input_size((40, 64)) == network.trial_size == (32, 64)
    analysis = Scorer(network).analyze(photo)
    small = resize_photos(torch.tensor(photo).permute(2, 0, 1)[None], (32, 64))[0].permute(1, 2, 0)
    with torch.no_grad():
        logits = model.classifier(model.twice(model.twice(model.backbone(as_input(small)))))
    wanted = F.interpolate(logits, photo.shape[:2], mode="bilinear")[0]
    torch.testing.assert_close(analysis.walked.full_logits, wanted, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"size: expected height and width, 1 or more each, got \(0, 64\)"):
        attached(size=(0, 64))


def test_photos_are_resized_as_pillow_does():
    image = pytest.importorskip("PIL.Image")
    photo = np.random.default_rng(2).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    theirs = np.asarray(image.fromarray(photo).resize((64, 32), image.Resampling.BILINEAR))
    photos = torch.tensor(photo).permute(2, 0, 1)[None]
    for rounded in (False, True):
        ours = resize_photos(photos, (32, 64), rounded=rounded)[0].permute(1, 2, 0)
        difference = np.abs(ours.numpy() - theirs)
        assert difference.max() <= 1
        if rounded:
            assert (difference > 0).mean() < 0.02  # Pillow's weights have 22 bits
        assert torch.equal(resize_photos(photos, (72, 128), rounded=rounded), photos.float())


def test_models_that_python_does_not_call():
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 5, 1)).eval()
    program = torch.export.export(model, (torch.zeros(1, 3, 128, 192),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(model)
    for given, kind in ((scripted, "TorchScript"), (program.module(), "an exported program")):
        with pytest.raises(ValueError, match=f"model: expected a model whose modules Python calls, got {kind}, which"):
            attach(given, "0", "1", **PIXELS)
    with pytest.raises(TypeError, match=r"got ExportedProgram; give the model that it was made of"):
        attach(program, "0", "1", **PIXELS)
    assert attach(torch.fx.symbolic_trace(model), "0", "1", **PIXELS).stride == 4


@pytest.mark.parametrize("leave_out", [["f"], [5], [-2], ["5"]])
def test_a_void_class_is_left_out(leave_out, photo):
    model = Segmenter()
    network = attached(model, classes="abcdefg", leave_out=leave_out)
    assert network.classes == tuple("abcdeg")
    kept = own_logits(model, photo)[[0, 1, 2, 3, 4, 6]]
    analysis = Scorer(network, "max_softmax").analyze(photo)
    torch.testing.assert_close(analysis.walked.full_logits, kept, rtol=0, atol=1e-5)
    torch.testing.assert_close(analysis.walked.score("max_softmax"), scores.max_softmax(kept), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (["void"], r"leave_out: expected names of classes or their numbers from 0 to 6, of a, .*, got 'void'"),
        ([7], "got 7"),
        (range(7), "leave_out: expected one class or more to stay"),
    ],
)
def test_classes_that_cannot_be_left_out(leave_out, message):
    with pytest.raises(ValueError, match=message):
        attached(classes="abcdefg", leave_out=leave_out)
