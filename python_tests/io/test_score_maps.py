"""Score maps from files: every format to the same numbers, and refusals that name the file."""

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from rwpm_fast.io.score_maps import ScoreMapError, as_score_map, fit_score_map, read_score_map

MAP = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def written(folder, suffix, scores=MAP, name="value"):
    path = folder / f"map{suffix}"
    if suffix == ".npy":
        np.save(path, scores)
    elif suffix == ".npz":
        np.savez_compressed(path, scores=scores)
    elif suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=scores, compression=9)
    else:
        Image.fromarray(scores).save(path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".hdf5", ".tif", ".tiff", ".TIF"])
def test_every_format_gives_the_stored_numbers(tmp_path, suffix):
    read = read_score_map(written(tmp_path, suffix))
    assert read.dtype == np.float32 and np.array_equal(read, MAP)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
@pytest.mark.parametrize("suffix", [".npy", ".hdf5"])
def test_the_precision_of_the_file_is_kept(tmp_path, suffix, dtype):
    read = read_score_map(written(tmp_path, suffix, MAP.astype(dtype)[None]))  # [1, H, W], as frameworks store them
    assert read.dtype == np.dtype(dtype).newbyteorder("=") and np.array_equal(read, MAP.astype(dtype))


def test_png_of_16_bits_has_a_stated_range(tmp_path):
    path = written(tmp_path, ".png", np.array([[0, 65535, 13107]], np.uint16))
    assert read_score_map(path, (-1.0, 4.0)).tolist() == [[-1, 4, 0]]
    with pytest.raises(ScoreMapError, match=r"map.png: expected the scores that 0 and 65535 stand for"):
        read_score_map(path)
    eight_bits = written(tmp_path, ".png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ScoreMapError, match=r"map.png: expected a gray PNG of 16 bits, got uint8"):
        read_score_map(eight_bits, (0, 1))
    color = written(tmp_path, ".png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ScoreMapError, match=r"map.png: expected one channel .* got mode RGB"):
        read_score_map(color, (0, 1))


@pytest.mark.parametrize(
    ("suffix", "scores", "reason"),
    [
        (".npy", np.zeros((2, 3), np.uint8), "expected float16, float32 or float64, got uint8"),
        (".npy", np.zeros((2, 3, 4), np.float32), r"expected one map \[H, W\], got the shape \[2, 3, 4\]"),
        (".npy", np.zeros((0, 3), np.float32), r"got the shape \[0, 3\]"),
        (".tif", np.zeros((2, 3), np.uint8), "expected float16, float32 or float64, got uint8"),
        (".npy", np.array([None]), "cannot be read"),
    ],
)
def test_other_content_is_refused(tmp_path, suffix, scores, reason):
    with pytest.raises(ScoreMapError, match=f"map{suffix}: .*{reason}"):
        read_score_map(written(tmp_path, suffix, scores))


def test_broken_and_ambiguous_files_are_named(tmp_path):
    for suffix in (".npy", ".npz", ".hdf5", ".tif"):
        path = written(tmp_path, suffix)
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(ScoreMapError, match=f"map{suffix}"):
            read_score_map(path)
    with pytest.raises(ScoreMapError, match=r"gone.npy: cannot be read: No such file"):
        read_score_map(tmp_path / "gone.npy")
    np.savez(tmp_path / "two.npz", a=MAP, b=MAP)
    with pytest.raises(ScoreMapError, match=r"two.npz: expected a file of one array, got a, b"):
        read_score_map(tmp_path / "two.npz")
    with pytest.raises(ScoreMapError, match=r"map.hdf5: expected the variable value, got scores"):
        read_score_map(written(tmp_path, ".hdf5", name="scores"))
    with pytest.raises(ScoreMapError, match=r"a.mat: expected a score map that ends in .npy"):
        read_score_map(tmp_path / "a.mat")


def test_arrays_and_tensors_are_maps():
    assert np.array_equal(as_score_map(torch.from_numpy(MAP)[None, None].requires_grad_(), "a"), MAP)
    with pytest.raises(ScoreMapError, match="ours, 7: expected float16, float32 or float64, got int64"):
        as_score_map([[1, 2]], "ours, 7")
    with pytest.raises(ScoreMapError, match="a: scores: expected a type that NumPy has"):
        as_score_map(torch.zeros(2, 2, dtype=torch.bfloat16), "a")


def test_numbers_that_cannot_be_ranked_are_counted():
    scores = MAP.copy()
    scores[0, :3] = np.nan, np.inf, -np.inf
    with pytest.raises(ScoreMapError, match=r"a.npy: expected finite scores, got 1 NaN and 2 infinite"):
        fit_score_map(scores, (5, 7), None, "a.npy")


def test_another_size_needs_a_rule():
    assert fit_score_map(MAP, (5, 7), None, "a.npy") is MAP
    with pytest.raises(ScoreMapError, match=r"a.npy: expected the labels' size 10x14, got 5x7 \(--resize-scores"):
        fit_score_map(MAP, (10, 14), None, "a.npy")
    assert np.array_equal(fit_score_map(MAP, (10, 14), "nearest", "a"), MAP.repeat(2, 0).repeat(2, 1))
    row = np.array([[0, 4]], np.float16)
    assert fit_score_map(row, (1, 4), "bilinear", "a").tolist() == [[0, 1, 3, 4]]  # between centers
