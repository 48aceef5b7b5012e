"""Training examples on disk: what they hold, resuming, and damaged folders."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from python_tests.synboost.parts import RESYNTHESIS, SIZE, Posterized, dissimilarity, small_pipeline
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer
from rwpm_fast.synboost import examples as module
from rwpm_fast.synboost.annotated import Annotated, scene_sources
from rwpm_fast.synboost.examples import KINDS, MANIFEST, ExampleFolder, prepare_examples
from rwpm_fast.synboost.labels import class_weights, train_ids, void_labels

SCENES = scene_sources(3, size=(64, 128))


@pytest.fixture(scope="module")
def pipeline():
    return small_pipeline()


@pytest.fixture(scope="module")
def prepared(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    return prepare_examples(pipeline, SCENES, folder)


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of the folder that a test may damage."""
    for file in prepared.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def center_pixels(values):
    return values[1::2, 1::2]  # of a map of twice the size


def test_void_examples_are_the_prediction(pipeline, prepared):
    annotated = SCENES[1].read()
    example = prepared[prepared.names.index(f"{SCENES[1].name}_void")]
    comparison = pipeline.compare(annotated.photo, pipeline.segmentation.analyze(annotated.photo))
    assert (example.image == comparison.image.numpy()).all()
    assert (example.class_map == comparison.class_map.numpy()).all()
    for name, values in zip(("entropy", "perceptual", "distance"), example.maps, strict=True):
        assert abs(values / 255 - getattr(comparison, name).numpy()).max() <= 0.5 / 255 + 1e-6
    assert abs(example.synthesis / 255 - comparison.synthesis.numpy()).max() <= 0.5 / 255 + 1e-6
    assert (example.labels == center_pixels(void_labels(annotated.label_map))).all()


def test_swapped_examples_show_altered_objects(prepared):
    altered = 0
    for source in SCENES:
        annotated = source.read()
        example = prepared[prepared.names.index(f"{source.name}_swapped")]
        classes = center_pixels(train_ids(annotated.label_map))
        differs = (example.class_map != classes) & (classes != 255)
        assert ((example.labels == 1) == differs).all()
        assert ((example.labels == 255) == (classes == 255)).all()
        altered += int(differs.sum())
        # entropy and distance do not reflect the swap, the perceptual difference does
        void = prepared[prepared.names.index(f"{source.name}_void")]
        assert (example.maps[[0, 2]] == void.maps[[0, 2]]).all()
        assert (example.maps[1] != void.maps[1]).any()
    assert altered


def test_class_weights_are_those_of_all_examples(prepared):
    assert prepared.class_weights == class_weights(example.labels for example in prepared)
    assert len(prepared) == len(SCENES) * len(KINDS) and prepared.size == SIZE
    assert [example.labels.shape for example in prepared[1:3]] == [SIZE, SIZE]


class Counted:
    """A source that counts how often it is read, and may fail."""

    def __init__(self, source, fails=False):
        self.source, self.fails, self.reads = source, fails, 0

    @property
    def name(self):
        return self.source.name

    def read(self) -> Annotated:
        self.reads += 1
        if self.fails:
            raise OSError("disk gone")
        return self.source.read()


def test_interrupted_preparation_goes_on(pipeline, prepared, tmp_path):
    with pytest.raises(OSError, match="disk gone"):
        prepare_examples(pipeline, [SCENES[0], Counted(SCENES[1], fails=True), SCENES[2]], tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{SCENES[0].name}_{kind}.npz" for kind in KINDS]
    with pytest.raises(FileNotFoundError, match=f"no {MANIFEST} .*: prepare the examples first, to their end"):
        ExampleFolder(tmp_path)
    counted = [Counted(source) for source in SCENES]
    found = prepare_examples(pipeline, counted, tmp_path)
    assert [source.reads for source in counted] == [0, 1, 1]
    assert found.names == prepared.names
    for one, other in zip(found, prepared, strict=True):
        assert all((a == b).all() for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def test_missing_examples(pipeline, folder):
    gone = folder / f"{SCENES[2].name}_void.npz"
    found = ExampleFolder(folder)
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=f"{gone.name} is missing; prepare the examples again"):
        found[-1]
    with pytest.raises(FileNotFoundError, match=f"1 of 6 examples are missing in .*: {gone.stem}; prepare"):
        ExampleFolder(folder)
    counted = [Counted(source) for source in SCENES]
    prepare_examples(pipeline, counted, folder)
    assert [source.reads for source in counted] == [0, 0, 1] and gone.exists()


def damaged(content: bytes, damage: str) -> bytes:
    """Return the content of an example's file, damaged in some way."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    written = io.BytesIO()
    if damage == "one array":
        np.save(written, arrays["labels"])
        return written.getvalue()
    changes = {
        "other arrays": {name: np.zeros(3) for name in module._FIELDS},
        "two formats": {"format": np.array([1, 1])},
        "other labels": {"labels": arrays["labels"] + np.uint8(2)},
        "other classes": {"class_map": arrays["class_map"] | np.uint8(64)},
    }
    if damage in changes:
        np.savez_compressed(written, **arrays | changes[damage])
        return written.getvalue()
    # In the directory at the end of the zip file, offsets from the record of its first entry.
    record = content.index(b"PK\x01\x02")
    places = {"flipped": len(content) // 2, "encrypted": record + 8, "unknown compression": record + 10}
    if damage in places:
        place = places[damage]
        return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
    return {"cut": content[: len(content) // 2], "empty": b""}[damage]


DAMAGES = [
    *("cut", "empty", "flipped", "encrypted", "unknown compression"),
    *("one array", "other arrays", "two formats", "other labels", "other classes"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_examples(pipeline, folder, damage):
    file = folder / f"{SCENES[0].name}_void.npz"
    file.write_bytes(damaged(file.read_bytes(), damage))
    found = ExampleFolder(folder)
    with pytest.raises(ValueError, match=rf"{file.name}: damaged \(.*\); delete it, and prepare the examples again"):
        found[found.names.index(file.stem)]
    assert len(prepare_examples(pipeline, SCENES, folder)[1].labels) == SIZE[0]  # makes it again


def test_a_file_that_cannot_be_read_is_not_damaged(pipeline, folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    before = {file: file.read_bytes() for file in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(module.Path, "read_bytes", refuse)
        with pytest.raises(PermissionError, match="Permission denied"):
            prepare_examples(pipeline, SCENES, folder)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_an_example_of_other_settings_than_the_list(folder):
    name = f"{SCENES[1].name}_void"
    found = ExampleFolder(folder)
    file = found.path(name)
    module._write(file, found[found.names.index(name)], "other settings")
    with pytest.raises(ValueError, match=f"{file.name} was made with other networks or settings than .*{MANIFEST}"):
        found[found.names.index(name)]


class Wrong(Counted):
    """A source whose labels are beyond Cityscapes' ids."""

    def read(self) -> Annotated:
        annotated = super().read()
        return replace(annotated, label_map=annotated.label_map + np.uint8(100))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_annotations_name_the_photo(pipeline, tmp_path, kind):
    with pytest.raises(ValueError, match=f"{SCENES[1].name}: label_map: expected"):
        prepare_examples(pipeline, [Wrong(SCENES[1])], tmp_path, kinds=[kind])


@pytest.mark.parametrize("content", ["{", "{}", '{"format": 0}', "[]"])
def test_damaged_list(folder, content):
    (folder / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=f"{MANIFEST} cannot be used .*; delete it"):
        ExampleFolder(folder)


class Renamed(TinyNetwork):
    name = "renamed"


def drawing() -> Posterized:
    """A synthesis with a source of noise."""
    synthesis = Posterized()
    synthesis.rng = torch.Generator()
    return synthesis


@pytest.mark.parametrize(
    "settings",
    [
        *({"minmax": "legacy"}, {"quantized": True}, {"size": (64, 64)}),
        {"segmentation": Scorer(TinyNetwork(), walk_padding=False)},
        {"segmentation": Scorer(Renamed())},
        {"synthesis": drawing()},
    ],
    ids=["minmax", "quantized", "size", "walk padding", "network", "sampling"],
)
def test_examples_made_with_other_settings(folder, settings):
    with pytest.raises(ValueError, match="made with other networks or settings; give a new folder"):
        prepare_examples(small_pipeline(**settings), SCENES, folder)


def test_examples_made_with_another_version(pipeline, folder, monkeypatch):
    monkeypatch.setattr(module, "__version__", "0.0.0")
    with pytest.raises(ValueError, match="made with other networks or settings"):
        prepare_examples(pipeline, SCENES, folder)


def test_examples_made_with_other_weights(folder):
    other = small_pipeline()
    with torch.no_grad():
        next(other.segmentation.network.parameters()).mul_(1.5)
    with pytest.raises(ValueError, match="made with other networks or settings"):
        prepare_examples(other, SCENES, folder)
    with pytest.raises(ValueError, match="made with other networks or settings"):
        prepare_examples(small_pipeline(), SCENES, folder, seed=1)


def test_weights_of_the_dissimilarity_network_play_no_part(prepared, folder):
    network = dissimilarity()
    with torch.no_grad():
        network.head.weight.zero_()
    counted = [Counted(source) for source in SCENES]
    prepare_examples(small_pipeline(dissimilarity=network), counted, folder)
    assert not any(source.reads for source in counted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": []}, "sources: expected one or more annotated photos, got none"),
        ({"sources": [SCENES[0], SCENES[0]]}, "sources: expected each name once"),
        ({"kinds": ["objects"]}, r"kinds: expected some of swapped, void, got \['objects'\]"),
        ({"kinds": []}, "kinds: expected some of swapped, void, got none"),
        ({"dissimilarity": dissimilarity(**RESYNTHESIS)}, "expected a dissimilarity network with dispersion=True"),
    ],
    ids=["none", "twice", "kind", "no kind", "resynthesis"],
)
def test_bad_arguments(arguments, message, tmp_path):
    network = arguments.pop("dissimilarity", None)
    pipeline = small_pipeline() if network is None else small_pipeline(dissimilarity=network, weights=(1, 0, 0, 0))
    with pytest.raises(ValueError, match=message):
        prepare_examples(pipeline, **{"sources": SCENES, "folder": tmp_path, **arguments})
    assert not list(tmp_path.iterdir())


def test_the_list_is_plain_text(prepared):
    content = json.loads((prepared.folder / MANIFEST).read_text())
    assert content["names"] == prepared.names and content["size"] == list(SIZE)
