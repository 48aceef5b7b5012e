"""One predictor over scorers and exports: the same photos in, the same maps out."""

import numpy as np
import pytest
import torch
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Predictor, Scorer, Walk, attach
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.predictor import PredictedPhoto
from rwpm_fast.io.images import ImageError
from rwpm_fast.scenes import render_scene


def photo(seed=0, size=(64, 96)):
    return render_scene(np.random.default_rng(seed), size)[0]


@pytest.fixture
def scorer():
    return Scorer(TinyNetwork(), walk=Walk(steps=2))


@pytest.fixture
def folder(tmp_path):
    for number in (2, 10, 1):
        Image.fromarray(photo(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no photo")
    return tmp_path


def test_one_photo_in_every_form(scorer, folder):
    file = folder / "1.png"
    pixels = photo(1)
    wanted = scorer(pixels)
    predictor = Predictor(scorer, threshold=0.5)
    forms = (str(file), file, pixels, Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1))
    for source in forms:
        found = predictor(source)
        assert isinstance(found, PredictedPhoto)
        assert np.array_equal(found.score, wanted.score.numpy()) and found.score.dtype == np.float32
        assert np.array_equal(found.segmentation, wanted.segmentation.numpy()) and found.segmentation.dtype == np.uint8
        assert np.array_equal(found.photo, pixels)
        assert np.array_equal(found.anomaly, found.score > 0.5)
        assert found.path == (file if source in forms[:2] else None) if isinstance(source, (str, type(file))) else True


@pytest.mark.parametrize("stream", [False, True])
def test_several_photos_in_every_form(scorer, folder, stream):
    predictor = Predictor(scorer)
    by_number = [predictor(photo(n)).score for n in (1, 2, 10)]
    stack = np.stack([photo(n) for n in (1, 2, 10)])
    sources = {
        "folder": folder,
        "pattern": str(folder / "*.png"),
        "list of files": [folder / f"{n}.png" for n in (1, 2, 10)],
        "array": stack,
        "tensor": torch.from_numpy(stack).permute(0, 3, 1, 2),
        "list of arrays": list(stack),
        "iterator": iter(stack),
        "mixed": [str(folder / "1.png"), photo(2), Image.fromarray(photo(10))],
    }
    for name, source in sources.items():
        results = predictor(source, stream=stream)
        assert isinstance(results, list) != stream
        found = list(results)
        assert len(found) == 3, name
        for result, wanted in zip(found, by_number, strict=True):
            assert np.array_equal(result.score, wanted), name
    assert [result.path.name for result in predictor(folder)] == ["1.png", "2.png", "10.png"]


def test_a_list_of_one_photo_gives_a_list(scorer):
    assert len(Predictor(scorer)([photo()])) == 1


def test_a_camera_gets_each_result_before_it_gives_the_next_photo(scorer):
    given = []

    def camera():
        for number in range(3):
            given.append(number)
            yield photo(number)

    for seen, _ in enumerate(Predictor(scorer)(camera(), stream=True)):
        assert given == list(range(seen + 1))


def test_missing_files_are_told_before_any_photo_runs(scorer, folder):
    results = Predictor(scorer)([folder / "1.png", folder / "missing.png"], stream=True)
    with pytest.raises(ImageError, match=r"missing\.png"):
        next(results)
    assert scorer.network.passes == 0


@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_in_training_is_told(scorer, compiled):
    predictor = Predictor(scorer, compiled=compiled)
    scorer.network.train()
    with pytest.raises(RuntimeError, match="is in training mode"):
        predictor(photo())


def test_too_many_classes_are_told(scorer):
    scorer.network.classes = tuple(map(str, range(257)))
    with pytest.raises(ValueError, match="scorer: expected up to 256 classes for uint8, got 257"):
        Predictor(scorer)


def test_the_metadata_say_what_runs(scorer):
    predictor = Predictor(scorer, threshold=-1.5)
    metadata = predictor.metadata
    assert (metadata.network, metadata.score, metadata.threshold) == ("tiny", "energy", -1.5)
    assert metadata.walk["steps"] == 2
    assert metadata.mean == (0, 0, 0) and metadata.deviation == (32, 32, 32)
    assert Metadata.from_strings(metadata.to_strings(), "file") == metadata


def test_without_a_threshold_nothing_is_called_anomalous(scorer):
    with pytest.raises(ValueError, match="threshold: none was chosen"):
        Predictor(scorer)(photo()).anomaly  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (("scorer",), {"threshold": float("nan")}, ValueError, "threshold: expected a finite number"),
        ((3,), {}, TypeError, "model: expected a rwpm_fast.Scorer or the path of an export, got int"),
        (("a.pt2",), {"compiled": True}, TypeError, "compiled: a file is compiled already"),
        (("a.pt2",), {}, FileNotFoundError, "a.pt2: no such file; make it by rwpm-fast export"),
        (("a.engine",), {}, ExportError, r"a.engine: expected an export that ends in .pt2 or .onnx"),
    ],
)
def test_what_it_cannot_run_is_told(scorer, arguments, settings, error, message):
    arguments = [scorer if argument == "scorer" else argument for argument in arguments]
    with pytest.raises(error, match=message):
        Predictor(*arguments, **settings)


@pytest.mark.parametrize("source", [3, None, [3]], ids=str)
def test_what_is_no_photo_is_told(scorer, source):
    with pytest.raises(TypeError, match="source: expected a photo, a path or an iterable of them"):
        Predictor(scorer)(source)


def test_a_folder_without_photos_is_told(scorer, tmp_path):
    with pytest.raises(ImageError, match="no photos in this folder"):
        Predictor(scorer)(tmp_path)


def test_a_score_that_is_not_finite_is_told(scorer):
    with torch.no_grad():
        scorer.network.classifier.weight[0, 0] = torch.inf
    predictor = Predictor(scorer)
    with pytest.raises(ValueError, match="energy: not finite"):
        predictor(photo())


def test_an_attached_network_is_compiled():
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))
    network = attach(model, "1", "2", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    scorer = Scorer(network, walk=Walk(steps=2))
    predictor = Predictor(scorer, compiled=True)
    for size in ((136, 144), (145, 129)):
        photo = render_scene(np.random.default_rng(0), size)[0]
        for _ in range(2):  # with the weights that the model has at each call
            wanted = scorer(photo).score.numpy()
            np.testing.assert_allclose(predictor(photo).score, wanted, rtol=1e-5, atol=1e-5)
            with torch.no_grad():
                model[2].weight.mul_(1.5)
