"""Files for the benchmarks' servers: names, contents, reruns, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import data
from rwpm_fast.io.images import ImageError
from rwpm_fast.ops.maps import Walk
from rwpm_fast.scoring.scorer import Scorer
from rwpm_fast.submission import Rescaling, find_inputs, submit_fishyscapes, submit_smiyc
from rwpm_fast.submission.fishyscapes import write_result
from rwpm_fast.submission.smiyc import write_map

h5py = pytest.importorskip("h5py")


@pytest.fixture
def scorer():
    return Scorer(TinyNetwork(), walk=Walk(steps=2))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photo(seed):
    return np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.fixture
def inputs(tmp_path):
    for i, name in enumerate(("0003_b.png", "0001_a_x.png", "12_no.png", "0004_c.jpg")):
        save(tmp_path / "input" / name, photo(i))
    (tmp_path / "output").mkdir()
    return find_inputs(tmp_path / "input")


class TestFishyscapes:
    def test_files_of_each_photo(self, inputs, tmp_path, scorer):
        assert list(inputs) == ["0001", "0003"]
        output = tmp_path / "output"
        assert submit_fishyscapes(scorer, inputs, output) == {}
        names = [f"{n}_{kind}.npy" for n in ("0001", "0003") for kind in ("anomaly", "segmentation")]
        assert sorted(path.name for path in output.iterdir()) == [*names, "submission.json"]
        scored = scorer(photo(0))
        score, segmentation = (np.load(output / f"0003_{kind}.npy") for kind in ("anomaly", "segmentation"))
        assert score.dtype == np.float32 and segmentation.dtype == np.uint8
        np.testing.assert_array_equal(score, scored.score.numpy())
        np.testing.assert_array_equal(segmentation, scored.segmentation.numpy())

    def test_a_rerun_goes_on(self, inputs, tmp_path, scorer):
        output = tmp_path / "output"
        submit_fishyscapes(scorer, {"0001": inputs["0001"]}, output)
        (output / "0001_anomaly.npy").write_bytes(b"mine")
        submit_fishyscapes(scorer, inputs, output)
        assert scorer.network.passes == 2 and (output / "0001_anomaly.npy").read_bytes() == b"mine"
        (output / "0003_segmentation.npy").unlink()
        submit_fishyscapes(scorer, inputs, output)
        assert scorer.network.passes == 3
        submit_fishyscapes(scorer, inputs, output, force=True)
        assert scorer.network.passes == 5 and np.load(output / "0001_anomaly.npy").shape == (16, 24)

    def test_other_settings_do_not_mix(self, inputs, tmp_path, scorer):
        output = tmp_path / "output"
        submit_fishyscapes(scorer, inputs, output)
        other = Scorer(scorer.network, "max_logit", Walk(steps=3))
        with pytest.raises(ValueError, match="with another score, walk; write elsewhere, or use --force"):
            submit_fishyscapes(other, inputs, output)
        with torch.no_grad():
            scorer.network.classifier.bias[0] += 1
        with pytest.raises(ValueError, match="with another weights"):
            submit_fishyscapes(scorer, inputs, output)
        submit_fishyscapes(other, inputs, output, force=True)
        (output / "submission.json").write_text("{")
        with pytest.raises(ValueError, match="expected the record of an earlier run"):
            submit_fishyscapes(other, inputs, output)
        (output / "submission.json").unlink()
        with pytest.raises(ValueError, match=r"submission\.json: missing, .* 000._anomaly\.npy"):
            submit_fishyscapes(other, inputs, output)

    def test_a_broken_photo_does_not_stop_the_others(self, inputs, tmp_path, scorer):
        inputs["0001"].write_bytes(b"no picture")
        failures = submit_fishyscapes(scorer, inputs, tmp_path / "output")
        assert list(failures) == [inputs["0001"]]
        assert not (tmp_path / "output" / "0001_anomaly.npy").exists()
        assert (tmp_path / "output" / "0003_anomaly.npy").exists()

    @pytest.mark.parametrize(
        ("score", "segmentation", "message"),
        [
            (np.full((2, 3), np.nan), np.zeros((2, 3), int), "score: NaN at 6 pixels"),
            (np.zeros((2, 3)), np.full((2, 3), 20), r"segmentation: expected 0\.\.19, got 20\.\.20"),
            (np.zeros((2, 3)), np.zeros((3, 2), int), r"got \[2, 3\], \[3, 2\]"),
        ],
    )
    def test_results_that_the_server_would_refuse(self, tmp_path, score, segmentation, message):
        with pytest.raises(ValueError, match=message):
            write_result(tmp_path, "0001", score, segmentation)
        assert not list(tmp_path.iterdir())

    def test_folders_without_photos(self, inputs, tmp_path):
        with pytest.raises(ImageError, match=r"no photos named DDDD_\*\.png"):
            find_inputs(tmp_path / "output")
        with pytest.raises(ImageError, match="no such folder"):
            find_inputs(tmp_path / "none")
        save(tmp_path / "input" / "0001_b.png", photo(0))
        with pytest.raises(ImageError, match="two photos of the number 0001"):
            find_inputs(tmp_path / "input")


@pytest.fixture
def track(tmp_path):
    """The Obstacle track with three labeled frames and one of the test."""
    root = tmp_path / "dataset_ObstacleTrack"
    for i in range(3):
        save(root / f"images/validation_{i}.png", photo(i))
        labels = np.zeros((16, 24), np.uint8)
        labels[:4, :5], labels[12:] = 1, 255
        save(root / f"labels_masks/validation_{i}_labels_semantic.png", labels)
    save(root / "images/gravel_1.png", photo(9))
    return tmp_path


def read(path):
    with h5py.File(path) as file:
        (value,) = (file[name] for name in file)
        assert value.name == "/value" and value.compression == "gzip" and value.compression_opts == 9
        return value[()]


class TestSmiyc:
    def test_maps_where_the_toolkit_looks(self, track, tmp_path, scorer):
        done = submit_smiyc(scorer, data.open_dataset("obstacle_track", track), tmp_path / "out", "mine")
        folder = tmp_path / "out/anomaly_p/mine/ObstacleTrack-all"
        assert done.folder == folder and (done.written, done.kept, done.failures) == (3, 0, {})
        assert sorted(p.name for p in folder.iterdir()) == [f"validation_{i}.hdf5" for i in range(3)]
        record = json.loads(folder.with_name("ObstacleTrack-all.json").read_text())
        rescaling = Rescaling(tuple(record["rescaling"]["knots"]))
        for i in range(3):
            half = read(folder / f"validation_{i}.hdf5")
            assert half.dtype == np.float16 and half.shape == (16, 24)
            np.testing.assert_array_equal(half, rescaling(scorer(photo(i)).score.numpy()))
        facts = done.report.as_dict()
        assert facts["photos"] == 3 and facts["ap_after"] == pytest.approx(facts["ap_before"], abs=1e-3)

    def test_all_splits_share_one_rescaling_and_a_rerun_goes_on(self, track, tmp_path, scorer):
        out = tmp_path / "out"
        submit_smiyc(scorer, data.open_dataset("obstacle_track", track), out, "mine")
        folder = out / "anomaly_p/mine/ObstacleTrack-all"
        passes, record = scorer.network.passes, folder.with_name("ObstacleTrack-all.json").read_bytes()
        assert passes == 3  # those that the rescaling was fitted on are not scored twice
        (folder / "validation_1.hdf5").unlink()
        done = submit_smiyc(scorer, data.open_dataset("obstacle_track", track, split="all"), out, "mine")
        assert (done.written, done.kept) == (2, 2) and scorer.network.passes == passes + 2
        assert folder.with_name("ObstacleTrack-all.json").read_bytes() == record
        assert done.report.as_dict()["photos"] == 2
        done = submit_smiyc(scorer, data.open_dataset("obstacle_track", track), out, "mine", force=True)
        # What force deletes may be of another split, which another rescaling would not fit.
        assert done.written == 3 and not (folder / "gravel_1.hdf5").exists()

    def test_rounding_and_masks(self, track, tmp_path, scorer):
        out, settings = tmp_path / "out", {"rescale": "none", "mask_threshold": -1.5}
        done = submit_smiyc(scorer, data.open_dataset("obstacle_track", track), out, "mine", **settings)
        scores = scorer(photo(0)).score.numpy()
        np.testing.assert_array_equal(read(done.folder / "validation_0.hdf5"), scores.astype(np.float16))
        mask = np.array(Image.open(out / "anomaly_masks/mine/ObstacleTrack-all/validation_0.png"))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, 255 * (scores > -1.5))
        with pytest.raises(ValueError, match="with another rescale, mask_threshold"):
            submit_smiyc(scorer, data.open_dataset("obstacle_track", track), out, "mine")

    def test_what_float16_cannot_hold_fails_its_photo(self, track, tmp_path, scorer):
        with torch.no_grad():
            scorer.network.classifier.bias += 1e6
        dataset = data.open_dataset("obstacle_track", track)
        done = submit_smiyc(scorer, dataset, tmp_path / "out", "rounded", rescale="none")
        assert done.written == 0 and len(done.failures) == 3 and not list(done.folder.iterdir())
        assert "384 are beyond float16's 65504" in done.failures[dataset.frames[0].photo]
        assert submit_smiyc(scorer, dataset, tmp_path / "out", "equalized").written == 3

    def test_scores_that_are_nan_and_broken_photos_fail(self, track, tmp_path, scorer):
        dataset = data.open_dataset("obstacle_track", track)
        dataset.frames[0].photo.write_bytes(b"no picture")
        done = submit_smiyc(scorer, dataset, tmp_path / "out", "mine")
        assert done.written == 2 and list(done.failures) == [dataset.frames[0].photo]
        with torch.no_grad():
            scorer.network.classifier.bias[0] = torch.nan
        with pytest.raises(ValueError, match="expected finite scores to spread"):
            submit_smiyc(scorer, dataset, tmp_path / "out", "broken")

    def test_what_smiyc_does_not_take(self, track, tmp_path, scorer):
        dataset = data.open_dataset("obstacle_track", track)
        for method in ("", "a/b", ".."):
            with pytest.raises(ValueError, match="method: expected a name for a folder"):
                submit_smiyc(scorer, dataset, tmp_path, method)
        with pytest.raises(ValueError, match="rescale: expected one of equalize, none, got 'log'"):
            submit_smiyc(scorer, dataset, tmp_path, "mine", rescale="log")
        with pytest.raises(ValueError, match="protocol: expected official"):
            submit_smiyc(scorer, data.open_dataset("obstacle_track", track, protocol="rwpm"), tmp_path, "mine")
        save(tmp_path / "ra/images/1.jpg", photo(0))
        save(tmp_path / "ra/labels/1.png", photo(0)[..., 0] // 255)
        with pytest.raises(ValueError, match="has no outputs of road_anomaly"):
            submit_smiyc(scorer, data.open_dataset("road_anomaly", tmp_path / "ra"), tmp_path, "mine")
        with pytest.raises(ValueError, match=r"expected float16 \[H, W\]"):
            write_map(tmp_path / "a.hdf5", np.zeros((2, 2)))
        assert not (tmp_path / "anomaly_p").exists()

    def test_without_h5py(self, track, tmp_path, scorer, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(ImportError, match=r"needs h5py .*: pip install 'rwpm-fast\[submission\]'"):
            submit_smiyc(scorer, data.open_dataset("obstacle_track", track), tmp_path / "out", "mine")
        assert scorer.network.passes == 0
