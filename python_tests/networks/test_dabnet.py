from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from python_tests.places import DATA
from rwpm_fast import networks
from rwpm_fast.io.images import read_image
from rwpm_fast.networks import CITYSCAPES_CLASSES, DABNet

WEIGHTS = DATA / "networks" / "dabnet_cityscapes.npz"


def random_arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in DABNet().state_dict().items()}


def saved(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    return path


def photos(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


STORED = sorted((DATA / "embeddings").glob("dabnet__*.npz"))
ABSENT = pytest.mark.skip(reason=f"no embeddings in {DATA / 'embeddings'}; set RWPM_DATA to the data folder")


@pytest.mark.parametrize(
    "stored", STORED or [pytest.param(None, marks=ABSENT)], ids=lambda path: path and path.stem.removeprefix("dabnet__")
)
def test_reproduces_the_original_network(stored):
    photo = DATA / "road_anomaly" / "images" / f"{stored.stem.removeprefix('dabnet__')}.jpg"
    for path in (WEIGHTS, photo):
        if not path.is_file():
            pytest.skip(f"no {path}; set RWPM_DATA to the data folder")
    network = networks.load("dabnet", WEIGHTS)
    expected = np.load(stored)
    with torch.inference_mode():
        embedding_map = network.embed(network.preprocess(torch.tensor(read_image(photo)).permute(2, 0, 1)[None]))
        logits = network.head(embedding_map)[0].numpy()

    # Stored as float16, whose rounding error reaches 0.008 for logits of 16 to 32 and 0.002 for embeddings of 4 to 8.
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=2e-2)
    np.testing.assert_allclose(embedding_map[0].numpy(), expected["embedding"], rtol=0, atol=4e-3)
    assert (logits.argmax(0) == expected["logits"].argmax(0)).mean() > 0.999


def test_keys_are_those_of_the_weight_file():
    if not WEIGHTS.is_file():
        pytest.skip(f"no {WEIGHTS}; set RWPM_DATA to the data folder")
    with np.load(WEIGHTS) as file:
        assert set(DABNet().state_dict()) == set(file.files)
    assert len(DABNet().state_dict()) == 415


def test_contract():
    network = DABNet()
    assert network.classes == CITYSCAPES_CLASSES
    assert len(network.classes) == 19
    assert network.linear_head
    assert not network.align_corners
    assert network.stride == 8


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (90, 161), (7, 5), (1, 1)])
def test_any_size(height, width):
    network = DABNet().eval()
    with torch.inference_mode():
        embedding_map = network.embed(network.preprocess(photos(1, 3, height, width)))
    assert embedding_map.shape == (1, 259, -(-height // 8), -(-width // 8))


def test_batch_of_two_is_two_of_one():
    network = DABNet().eval()
    pair = photos(2, 3, 40, 56)
    with torch.inference_mode():
        together = network(network.preprocess(pair))
        apart = torch.cat([network(network.preprocess(photo[None])) for photo in pair])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_head_is_linear():
    network = DABNet().eval()
    a, b = torch.randn(2, 1, 259, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network.head(2 * a - b), 2 * network.head(a) - network.head(b), rtol=0, atol=1e-4)


def test_uint8_and_float_photos_agree():
    network = DABNet()
    photo = photos(1, 3, 8, 8)
    assert torch.equal(network.preprocess(photo), network.preprocess(photo.float()))


def test_load_fills_every_array(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.random(array.shape) for name, array in random_arrays().items()}
    network = DABNet.load(saved(tmp_path, arrays))
    assert not network.training
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), arrays[name].astype(np.float32))


def test_missing_array_is_named(tmp_path):
    arrays = random_arrays()
    del arrays["bn_prelu_2.acti.weight"]
    with pytest.raises(ValueError, match=r"missing: bn_prelu_2\.acti\.weight$"):
        DABNet.load(saved(tmp_path, arrays))


def test_unknown_array_is_named(tmp_path):
    arrays = random_arrays() | {"classifier.0.conv.bias": np.zeros(19, np.float32)}
    with pytest.raises(ValueError, match=r"unexpected: classifier\.0\.conv\.bias$"):
        DABNet.load(saved(tmp_path, arrays))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((20, 259, 1, 1), np.float32), r"has shape \[20, 259, 1, 1\], expected \[19, 259, 1, 1\]"),
        (np.zeros((19, 259, 1, 1), np.int64), "holds int64, expected floating point"),
        (np.full((19, 259, 1, 1), np.nan, np.float32), "not finite"),
    ],
    ids=["shape", "dtype", "nan"],
)
def test_mismatched_array_is_named(tmp_path, array, text):
    arrays = random_arrays() | {"classifier.0.conv.weight": array}
    with pytest.raises(ValueError, match=rf"mismatched: classifier\.0\.conv\.weight .*{text}"):
        DABNet.load(saved(tmp_path, arrays))


def test_all_problems_are_told_at_once(tmp_path):
    arrays = random_arrays()
    for name in list(arrays)[:8]:
        del arrays[name]
    arrays["surplus"] = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match=r"missing: .* and 3 more; unexpected: surplus$"):
        DABNet.load(saved(tmp_path, arrays))


def test_weights_of_another_network(tmp_path):
    other = {f"backbone.{i}.weight": np.zeros(3, np.float32) for i in range(7)}
    with pytest.raises(ValueError, match=r"another network: it has 0 of the 415 .*, and besides backbone\.0\.weight"):
        DABNet.load(saved(tmp_path, other))


def test_file_that_is_no_npz(tmp_path):
    whole = saved(tmp_path, random_arrays()).read_bytes()
    npy = tmp_path / "array.npy"
    np.save(npy, np.zeros(3))
    for content in (b"", b"not weights", whole[: len(whole) // 2], npy.read_bytes()):
        path = tmp_path / "broken.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected an npz file, got .*broken\.npz"):
            DABNet.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        DABNet.load(tmp_path / "nowhere.npz")


def test_unknown_network():
    with pytest.raises(ValueError, match=r"expected one of compact, dabnet, .*, got 'segnet'"):
        networks.load("segnet", "weights.npz")
