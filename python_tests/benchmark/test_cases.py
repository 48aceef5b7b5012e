import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rwpm_fast.benchmark import Case, map_shape, paper_cases
from rwpm_fast.benchmark.cases import smooth_manifolds
from rwpm_fast.ops.settings import WalkSettings

CUT = Case(20, 24, 24, 20, WalkSettings(steps=3, parts=2), smooth=True, dtype="float16")


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
    assert one.embeddings.shape == (1, 40, 16) and one.values.shape == (1, 40, 3)
    assert one.embeddings.dtype == one.values.dtype == torch.float32
    other = Case(5, 8, channels=16, value_channels=3, seed=5).problem()
    assert not torch.equal(one.embeddings, other.embeddings)


def test_values_are_a_linear_head(file):
    problem = Case.from_file(file, value_channels=3).problem()
    assert torch.linalg.matrix_rank(torch.cat([problem.embeddings, problem.values], 2)[0].double(), tol=1e-4) == 6


def test_embeddings_of_a_file(file):
    case = Case.from_file(file, value_channels=2)
    assert (case.height, case.width, case.channels, case.name) == (4, 5, 6, "real")
    with np.load(file) as arrays:
        expected = arrays["embedding"].reshape(6, 20).T.astype(np.float32)
    np.testing.assert_array_equal(case.problem().embeddings[0], expected)
    assert str(file.parent) not in str(case.to_json())


def test_enlarged_bilinearly(file):
    case = Case.from_file(file, (8, 10))
    with np.load(file) as arrays:
        map_ = torch.from_numpy(arrays["embedding"]).float()
    (larger,) = case.to_map(case.problem().embeddings)
    # Between two pixels' centers lie quarters of the way; corners stay.
    torch.testing.assert_close(larger[:, 0, 1], 0.75 * map_[:, 0, 0] + 0.25 * map_[:, 0, 1])
    torch.testing.assert_close(larger[:, 0, 0], map_[:, 0, 0])


def test_small_keeps_all_but_size(file):
    small = Case.from_file(file, (90, 160), value_channels=7, settings=WalkSettings(temperature=0.1)).small()
    assert (small.pixels, small.steps, small.source) == (1024, 1, None)
    assert (small.channels, small.value_channels, small.settings.temperature) == (6, 7, 0.1)
    assert Case(1, 2).small().pixels == 2
    assert Case(1, 7919).small().pixels == Case(7919, 1).small().pixels == 1024


def test_small_keeps_sub_maps():
    walk = WalkSettings(parts=8)
    small = Case(184, 320, value_channels=100, settings=walk, dtype="float16").small()
    assert (small.height, small.width, small.steps, small.parts) == (32, 32, 1, 8)
    assert (small.channels, small.value_channels, small.dtype) == (256, 100, "float16")
    assert Case(184, 320, settings=walk, device="cuda").small().pixels == 128 * 128


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
        ({"tolerance": 1e-3}, "settings: expected tolerance 0, since contenders set it, got 0.001"),
        ({"height": 8, "width": 6, "parts": 3}, "parts: expected a divisor of 8 and 6, got 3"),
        ({"height": 8, "width": 6, "parts": 0}, "parts: expected 1 or more, got 0"),
        ({"height": 2, "width": 2, "parts": 2}, "parts: expected sub-maps of 2 or more pixels, got 1"),
        ({"dtype": "int8"}, "dtype: expected one of float16, float32, got 'int8'"),
    ],
    ids=str,
)
def test_errors(settings, text):
    walk = {name: settings[name] for name in ("temperature", "tolerance", "parts") if name in settings}
    sizes = {"height": 3, "width": 3} | {name: value for name, value in settings.items() if name not in walk}
    with pytest.raises(ValueError, match=text):
        Case(**sizes, settings=WalkSettings(**walk))


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
        Case.from_file(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_files_that_are_no_archive(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz: expected"):
        Case.from_file(path)


def test_maps_are_cut_into_sub_maps():
    facts = {"channels": 3, "smooth": True, "dtype": "float16"}
    whole, cut = Case(4, 6, **facts).problem(), Case(4, 6, settings=WalkSettings(parts=2), **facts).problem()
    assert cut.embeddings.shape == (4, 6, 3) and cut.values.shape == (4, 6, 19)
    assert cut.embeddings.dtype == cut.values.dtype == torch.float16
    map_ = whole.embeddings.view(4, 6, 3)
    assert torch.equal(cut.embeddings[1].view(2, 3, 3), map_[:2, 3:])
    assert torch.equal(cut.embeddings[2].view(2, 3, 3), map_[2:, :3])
    assert (cut.case.part_pixels, cut.case.pairs, whole.case.pairs) == (6, 24 * 6, 24 * 24)


def test_maps_and_sub_maps_are_each_other():
    problem = CUT.problem()
    map_ = CUT.to_map(problem.embeddings)
    assert map_.shape == (1, 24, 20, 24) and map_.is_contiguous()
    assert torch.equal(map_[0, :, 10:, :12].flatten(1).T, problem.embeddings[2])
    assert torch.equal(CUT.from_map(map_), problem.embeddings)


def test_files_are_enlarged_and_cut(file):
    case = Case.from_file(file, (8, 10), settings=WalkSettings(parts=2))
    assert case.problem().embeddings.shape == (4, 20, 6) and case.title().startswith("real, 8x10")


def test_cases_survive_json(file):
    for case in (CUT, Case.from_file(file, (8, 10)), Case(3, 4, settings=WalkSettings(0.8, 3, 0.1))):
        content = json.loads(json.dumps(case.to_json()))
        again = Case.from_json(content)
        assert again.to_json() == content
        assert again == case or (case.source and again.source == Path(case.source.name))
        old = {name: content[name] for name in content if name not in ("parts", "smooth", "dtype", "device")}
        uncut = Case.from_json(old)  # as records before format 2 are
        assert (uncut.parts, uncut.dtype, uncut.device, uncut.name) == (1, "float32", "cpu", case.name)


def test_paper_cases():
    cases = list(paper_cases(dtype="float16", smooth=True))
    assert len(cases) == len(set(cases)) == 2 * (4 * 3 + 2 * 3 + 2)
    titles = [case.title() for case in cases]
    assert sum("184x320: N = 58880, D = 256, C = 256, T = 20" in title for title in titles) == 4
    assert any("512x1024: N = 524288, D = 256, C = 19, T = 5" in title and "uncut" in title for title in titles)


def test_smooth_manifolds_are_smooth():
    e = smooth_manifolds(40, 60, 32).view(40, 60, 32)
    assert torch.equal(e, smooth_manifolds(40, 60, 32).view(40, 60, 32))
    q = torch.nn.functional.normalize(e, dim=-1)
    near = (q[:, 1:] * q[:, :-1]).sum(-1).median()
    apart = (q[:, 30:] * q[:, :30]).sum(-1).median()
    assert near > 0.8 and apart < 0.5
    assert smooth_manifolds(1, 9, 3).shape == (9, 3)
