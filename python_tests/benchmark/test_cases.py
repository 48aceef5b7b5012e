import numpy as np
import pytest
import torch

from rwpm_fast.benchmark import Case, map_shape


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "real.npz"
    embedding = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float16)
    np.savez(path, embedding=embedding)
    return path


def test_same_case_same_tensors():
    case = Case(5, 8, channels=16, value_channels=3, seed=4)
    one, two = case.problem(), Case(5, 8, channels=16, value_channels=3, seed=4).problem()
    assert torch.equal(one.embeddings, two.embeddings) and torch.equal(one.values, two.values)
    assert one.embeddings.shape == (40, 16) and one.values.shape == (40, 3)
    assert one.embeddings.dtype == one.values.dtype == torch.float32
    other = Case(5, 8, channels=16, value_channels=3, seed=5).problem()
    assert not torch.equal(one.embeddings, other.embeddings)


def test_values_are_a_linear_head(file):
    problem = Case.of_file(file, value_channels=3).problem()
    assert torch.linalg.matrix_rank(torch.cat([problem.embeddings, problem.values], 1).double(), tol=1e-4) == 6


def test_embeddings_of_a_file(file):
    case = Case.of_file(file, value_channels=2)
    assert (case.height, case.width, case.channels, case.name) == (4, 5, 6, "real")
    with np.load(file) as arrays:
        expected = arrays["embedding"].reshape(6, 20).T.astype(np.float32)
    np.testing.assert_array_equal(case.problem().embeddings, expected)
    assert str(file.parent) not in str(case.as_dict())


def test_enlarged_bilinearly(file):
    case = Case.of_file(file, (8, 10))
    with np.load(file) as arrays:
        map_ = torch.from_numpy(arrays["embedding"]).float()
    larger = case.problem().embeddings.T.unflatten(1, (8, 10))
    # Between two pixels' centers lie quarters of the way; corners stay.
    torch.testing.assert_close(larger[:, 0, 1], 0.75 * map_[:, 0, 0] + 0.25 * map_[:, 0, 1])
    torch.testing.assert_close(larger[:, 0, 0], map_[:, 0, 0])


def test_small_keeps_all_but_size(file):
    small = Case.of_file(file, (90, 160), value_channels=7, temperature=0.1).small()
    assert (small.pixels, small.steps, small.source) == (1024, 1, None)
    assert (small.channels, small.value_channels, small.temperature) == (6, 7, 0.1)
    assert Case(1, 2).small().pixels == 2


@pytest.mark.parametrize(("pixels", "shape"), [(4096, (64, 64)), (14400, (120, 120)), (6, (2, 3)), (7, (1, 7))])
def test_map_shape(pixels, shape):
    assert map_shape(pixels) == shape


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"height": 0}, "height: expected 1 or more, got 0"),
        ({"height": 1, "width": 1}, "height, width: expected 2 or more pixels, got 1x1"),
        ({"channels": 0}, "channels: expected 1 or more, got 0"),
        ({"value_channels": -1}, "value_channels: expected 1 or more, got -1"),
        ({"temperature": 0.0}, "temperature: expected a positive finite number, got 0.0"),
    ],
    ids=str,
)
def test_errors(settings, text):
    with pytest.raises(ValueError, match=text):
        Case(**{"height": 3, "width": 3} | settings)


@pytest.mark.parametrize(
    "content",
    [
        {"logits": np.zeros((2, 3, 4))},
        {"embedding": np.zeros((3, 4))},
        {"embedding": np.zeros((2, 3, 4), int)},
        {"embedding": np.full((2, 3, 4), np.nan)},
    ],
    ids=["no embedding", "rank", "dtype", "not finite"],
)
def test_files_that_hold_no_embedding(tmp_path, content):
    path = tmp_path / "bad.npz"
    np.savez(path, **content)
    with pytest.raises(ValueError, match=r"bad\.npz: expected"):
        Case.of_file(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_files_that_are_no_archive(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz: expected"):
        Case.of_file(path)
