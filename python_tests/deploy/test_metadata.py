"""What exports say of themselves."""

import numpy as np
import pytest
import torch

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.metadata import Metadata, normalization

STRINGS = Metadata.of(Scorer(TinyNetwork(), walk=Walk())).to_strings()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rwpm.format": "2"}, "expected metadata of format 1, got 2; it was made by rwpm-fast"),
        ({"rwpm.walk": "{"}, "its metadata is broken"),
        ({"rwpm.walk": "[1]"}, r"its metadata is broken .*expected settings, got \[1\]"),
        ({"rwpm.threshold": "high"}, "its metadata is broken .*rwpm.threshold: expected a finite number"),
        ({"rwpm.threshold": "inf"}, "its metadata is broken .*rwpm.threshold: expected a finite number"),
        ({"rwpm.mean": "a,b,c"}, "its metadata is broken"),
        ({"rwpm.op_abi": ""}, "its metadata is broken"),
        ({"rwpm.min_side": ""}, "its metadata is broken"),
        ({"rwpm.torch": None}, "its metadata is broken .rwpm.torch is no text"),
    ],
)
def test_metadata_that_are_broken_are_told(change, message):
    with pytest.raises(ExportError, match=f"^file: {message}"):
        Metadata.from_strings({**STRINGS, **change}, "file")


def test_every_key_is_needed():
    for key in STRINGS:
        with pytest.raises(ExportError, match=r"^file: "):
            Metadata.from_strings({other: text for other, text in STRINGS.items() if other != key}, "file")


@pytest.mark.parametrize("strings", [{}, [], None, "text"])
def test_what_is_no_export_is_told(strings):
    with pytest.raises(ExportError, match="file: expected an export of rwpm-fast, got a file without its metadata"):
        Metadata.from_strings(strings, "file")


def test_operators_of_another_abi_are_told():
    other = Metadata.from_strings({**STRINGS, "rwpm.op_abi": "7"}, "file")
    with pytest.raises(ExportError, match="file: expected a file for operators of ABI 1, got one for ABI 7"):
        other.check_operator("file")


@pytest.mark.parametrize("number", [-2, -2.0, np.float64(-2), np.float32(-2), torch.tensor(-2.0)], ids=repr)
def test_thresholds_of_every_kind_come_back(number):
    strings = Metadata.of(Scorer(TinyNetwork()), threshold=number).to_strings()
    assert strings["rwpm.threshold"] == "-2.0"
    assert Metadata.from_strings(strings, "file").threshold == -2


@pytest.mark.parametrize("number", [float("nan"), np.inf, "high", torch.zeros(2)], ids=repr)
def test_thresholds_that_are_no_number_are_told(number):
    with pytest.raises(ValueError, match="threshold: expected a finite number or None, got"):
        Metadata.of(Scorer(TinyNetwork()), threshold=number)


def test_names_with_commas_come_back():
    network = TinyNetwork()
    network.classes = ("road", "car, parked", "sky", "tree", "wall")
    metadata = Metadata.of(Scorer(network))
    assert metadata.classes == ("road", "car; parked", "sky", "tree", "wall")
    assert Metadata.from_strings(metadata.to_strings(), "file") == metadata


def test_the_device_is_that_of_the_network():
    assert Metadata.of(Scorer(TinyNetwork())).device == "cpu"
    network = TinyNetwork().to("meta")
    assert normalization(network) is None  # its values cannot be read
    assert Metadata.of(Scorer(network)).device == "meta"


class Preprocessing(TinyNetwork):
    """A network whose pre-processing is given."""

    def __init__(self, preprocess):
        super().__init__()
        self.preprocess = preprocess


MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def standardized(photos):
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (photos - mean) / deviation


def test_normalization_is_found():
    mean, deviation = normalization(Preprocessing(standardized))
    assert mean == pytest.approx(MEAN, rel=1e-5) and deviation == pytest.approx(DEVIATION, rel=1e-5)


def failing(photos):
    raise RuntimeError("expected photos of another size")


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda photos: standardized(photos).flip(1),
        lambda photos: standardized(photos.float().mean(1, keepdim=True).repeat(1, 3, 1, 1)),
        lambda photos: standardized(photos.flip(1)),
        lambda photos: photos.float().sqrt(),
        lambda photos: -photos.float(),
        lambda photos: photos.float()[:, :1],
        lambda photos: {"images": photos},
        failing,
    ],
    ids=["BGR", "gray", "swapped first", "root", "negative", "one channel", "no tensor", "failing"],
)
def test_other_preprocessing_has_no_normalization(preprocess):
    assert normalization(Preprocessing(preprocess)) is None
