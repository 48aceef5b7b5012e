"""What a stream writes: whole files that say what became of each frame, or none."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rwpm_fast.io.files import UnfinishedFile
from rwpm_fast.stream import SkippedFrame, SourceInfo, StreamResult, Summary
from rwpm_fast.stream.outputs import Outputs
from rwpm_fast.stream.outputs.lasting_file import LastingFile
from rwpm_fast.stream.outputs.lines import JsonLinesOutput
from rwpm_fast.stream.outputs.recording import RecordingOutput
from rwpm_fast.stream.outputs.rerun_log import RerunOutput
from rwpm_fast.stream.outputs.scores import Hdf5Output, NumpyOutput
from rwpm_fast.stream.outputs.video import VideoOutput

INFO = SourceInfo("drive", "frames", "fake", rate=5.0)
DROPPED = SkippedFrame(2, 0.4, "dropped", "newer frames came while it waited")


def result(index, *, seconds=None, size=(32, 48), color=None, degradations=()):
    rng = np.random.default_rng(index)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if color is not None:
        photo[:] = color
    score = rng.normal(size=size).astype(np.float32)
    stages = {"decode": 0.001, "network": 0.02, "walk": 0.03, "score": 0.004}
    return StreamResult(index, seconds, photo, score, photo[..., 0], 0.06, stages, degradations)


def write(output, outcomes, picture=lambda outcome: outcome.photo):
    for outcome in outcomes:
        output.write(outcome, lambda outcome=outcome: picture(outcome))
    output.finish(Summary())


def decoded(file):
    av = pytest.importorskip("av")
    with av.open(str(file)) as container:
        return container.streams.video[0].codec_context, list(container.decode(video=0))


def test_a_video_has_size_and_time_stamps_of_its_source(tmp_path):
    pytest.importorskip("av")
    seconds = [5.0, 5.04, 5.5, 5.51]
    outcomes = [result(index, seconds=second) for index, second in enumerate(seconds)]
    write(VideoOutput(tmp_path / "a.mp4", INFO), [*outcomes[:2], DROPPED, *outcomes[2:]])
    codec, frames = decoded(tmp_path / "a.mp4")
    assert (codec.height, codec.width, codec.pix_fmt) == (32, 48, "yuv420p")
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.04, 0.5, 0.51], abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_without_a_time_have_that_of_the_rate(tmp_path):
    pytest.importorskip("av")
    write(VideoOutput(tmp_path / "a.mkv", INFO), [result(3), result(4), result(7)])
    assert [frame.time for frame in decoded(tmp_path / "a.mkv")[1]] == pytest.approx([0.0, 0.2, 0.8], abs=1e-3)


def test_frames_without_a_time_or_a_rate_are_25_a_second_everywhere(tmp_path):
    pytest.importorskip("av")
    reader = pytest.importorskip("mcap.reader")
    info, outcomes = SourceInfo("photos", "frames", "fake"), [result(0), result(5)]
    write(VideoOutput(tmp_path / "a.mkv", info), outcomes)
    write(RecordingOutput(tmp_path / "a.mcap", info), outcomes)
    with open(tmp_path / "a.mcap", "rb") as file:
        times = {message.log_time for _, _, message in reader.make_reader(file).iter_messages()}
    assert times == {0, 200_000_000}
    assert [frame.time for frame in decoded(tmp_path / "a.mkv")[1]] == pytest.approx([0.0, 0.2], abs=1e-3)


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_colors_of_a_video_are_tagged_and_right(tmp_path, size):
    pytest.importorskip("av")
    # YUV (81, 100, 150) and (180, 128, 128) of BT.709, limited range; the usual conversion is darker
    colors = {(115, 70, 17): (81, 100, 150), (191, 191, 191): (180, 128, 128), (255, 255, 255): (235, 128, 128)}
    for number, (rgb, yuv) in enumerate(colors.items()):
        file = tmp_path / f"{number}.mp4"
        write(VideoOutput(file, INFO), [result(0, size=size, color=rgb)])
        codec, (frame,) = decoded(file)
        assert codec.color_primaries == codec.color_trc == codec.colorspace == codec.color_range == 1
        planes = [np.frombuffer(plane, np.uint8)[: plane.width] for plane in frame.planes]
        assert [int(np.median(plane)) for plane in planes] == pytest.approx(yuv, abs=1)


def test_a_video_of_frames_of_two_sizes_is_refused(tmp_path):
    pytest.importorskip("av")
    output = VideoOutput(tmp_path / "a.mp4", INFO)
    output.write(first := result(0), lambda: first.photo)
    with pytest.raises(ValueError, match="expected frames of 48x32 as the first, got 20x16"):
        output.write(other := result(1, size=(16, 20)), lambda: other.photo)
    output.discard()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"--save-video: expected a file \.mp4"):
        VideoOutput(tmp_path / "a.avi", INFO)


def test_scores_as_arrays(tmp_path):
    outcomes = [result(0), DROPPED, result(12)]
    write(NumpyOutput(tmp_path), outcomes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.npy", "000012.npy"]
    assert (np.load(tmp_path / "000012.npy") == outcomes[2].score).all()


def test_scores_as_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    outcomes = [result(0, seconds=0.5), DROPPED, result(12, degradations=("tolerance 0.001", "steps 5"))]
    write(Hdf5Output(tmp_path / "a.h5"), outcomes)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["scores"].dtype == np.float16 and file["scores"].chunks == (1, 32, 48)
        largest = max(abs(file["scores"][row].astype(np.float32) - outcomes[2 * row].score).max() for row in (0, 1))
        assert 0 < file.attrs["largest_rounding_error"] == largest < 0.002
        assert list(file["index"]) == [0, 12] and np.isnan(file["seconds"][1])
        assert file["degradations"].asstr()[1] == "tolerance 0.001, steps 5"


def test_scores_beyond_float16_are_refused(tmp_path):
    pytest.importorskip("h5py")
    large = result(0)
    large.score[3, 3] = 1e6
    output = Hdf5Output(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="up to 65504, got 1e"):
        output.write(large, lambda: large.photo)
    output.discard()
    assert not list(tmp_path.iterdir())


def test_lines_tell_of_every_frame(tmp_path):
    write(JsonLinesOutput(tmp_path / "a.jsonl"), [result(0, degradations=("no walk",)), DROPPED])
    first, second, last = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert (first["index"], first["outcome"], first["degradations"]) == (0, "processed", ["no walk"])
    assert second == {"index": 2, "seconds": 0.4, "outcome": "dropped", "reason": DROPPED.reason}
    assert last["summary"]["frames"] == 0 and last["summary"]["latency"]["p50"] is None


def test_a_recording_can_be_read_by_its_schemas(tmp_path):
    pytest.importorskip("mcap")
    import base64
    import io

    from mcap.reader import make_reader
    from PIL import Image

    outcomes = [result(0, seconds=0.1), DROPPED, result(3, seconds=0.6, degradations=("no walk",))]
    write(RecordingOutput(tmp_path / "a.mcap", INFO), outcomes)
    with open(tmp_path / "a.mcap", "rb") as file:
        messages = [(c.topic, s, m.log_time, json.loads(m.data)) for s, c, m in make_reader(file).iter_messages()]
    by_topic = {}
    for topic, schema, time, content in messages:
        by_topic.setdefault(topic, []).append((time, content))
        assert set(content) == set(json.loads(schema.data)["properties"])
        assert content["timestamp"] == {"sec": time // 10**9, "nsec": time % 10**9}
    score = by_topic["/rwpm/score"][1][1]
    assert (score["width"], score["height"], score["step"], score["encoding"]) == (48, 32, 192, "32FC1")
    pixels = np.frombuffer(base64.b64decode(score["data"]), "<f4").reshape(32, 48)
    assert (pixels == outcomes[2].score).all()
    overlay = Image.open(io.BytesIO(base64.b64decode(by_topic["/rwpm/overlay"][0][1]["data"])))
    assert overlay.size == (48, 32) and overlay.format == "JPEG"
    assert [time for time, _ in by_topic["/rwpm/latency"]] == [100_000_000, 600_000_000]
    assert by_topic["/rwpm/latency"][1][1]["degradations"] == ["no walk"]
    assert by_topic["/rwpm/skipped"][0][1]["reason"] == DROPPED.reason


def test_rerun_is_told_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"--rerun needs rerun-sdk .*: pip install rerun-sdk"):
        RerunOutput(tmp_path / "a.rrd")


def test_a_file_that_lasts_reads_what_the_disk_did_not_take(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    write = os.pwrite

    def full(number, data, place):
        if place + len(data) > 5000:
            if place < 5000:
                return write(number, data[: 5000 - place], place)
            raise OSError(28, "No space left on device")
        return write(number, data, place)

    monkeypatch.setattr(os, "pwrite", full)
    file, expected = LastingFile(tmp_path / "a"), np.zeros(20_000, np.uint8)
    for _ in range(300):
        place, data = int(rng.integers(18_000)), rng.integers(0, 256, 700, dtype=np.uint8)
        expected[place : place + 700] = data
        file.seek(place)
        assert file.write(data) == 700
        file.seek(place := int(rng.integers(18_000)))
        assert file.read(900) == expected[place : place + 900].tobytes()[: max(file.seek(0, 2) - place, 0)]
    assert file.error.errno == 28 and (tmp_path / "a").stat().st_size <= 5000
    file.close()
    assert file.closed


def test_scores_survive_a_full_disk(tmp_path, monkeypatch):
    pytest.importorskip("h5py")

    def full(number, data, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    told = []
    outputs = Outputs(None, told.append)
    outputs.add(Hdf5Output(tmp_path / "a.h5"))
    for index in range(40):
        outputs.write(result(index))
    outputs.finish(Summary())
    assert len(told) == 1 and "a.h5: failed at" in told[0] and "No space left on device" in told[0]
    assert not list(tmp_path.iterdir())


class _Rerun:
    """What is used of rerun-sdk; notes what is logged."""

    def __init__(self):
        self.logged, self.file = [], None
        self.Tensor = self.Scalars = self.TextLog = lambda value, **_: value
        self.Image = lambda picture: SimpleNamespace(compress=lambda jpeg_quality: picture)

    def RecordingStream(self, name):
        return self

    def save(self, file):
        self.file = file

    def set_time(self, timeline, **value):
        self.logged.append((timeline, value))

    def log(self, entity, value):
        self.logged.append((entity, value))

    def flush(self):
        Path(self.file).write_bytes(b"recorded")

    def disconnect(self):
        self.file = None


def test_a_recording_of_rerun(tmp_path, monkeypatch):
    rerun = _Rerun()
    monkeypatch.setitem(sys.modules, "rerun", rerun)
    write(RerunOutput(tmp_path / "a.rrd"), [result(1, seconds=0.2, degradations=("no walk",)), DROPPED])
    assert (tmp_path / "a.rrd").read_bytes() == b"recorded" and rerun.file is None
    names = [name for name, _ in rerun.logged]
    assert names[:4] == ["frame", "time", "overlay", "score"] and names[-4:] == [
        "degradations",
        "frame",
        "time",
        "skipped",
    ]
    assert dict(rerun.logged)["seconds/walk"] == 0.03


class _Failing:
    """An output whose disk is full from some frame on."""

    name = "--save-scores full.h5"

    def __init__(self, full_from):
        self._full_from, self.written, self.discarded = full_from, [], False

    def write(self, outcome, draw):
        if outcome.index >= self._full_from:
            raise OSError(28, "No space left on device")
        self.written.append(outcome.index)

    def finish(self, summary):
        raise OSError(28, "No space left on device")

    def discard(self):
        self.discarded = True


def test_an_output_that_fails_costs_nothing_but_itself(tmp_path):
    told = []
    outputs = Outputs(None, told.append)
    full, full_at_the_end = _Failing(2), _Failing(100)
    for output in (full, full_at_the_end, JsonLinesOutput(tmp_path / "a.jsonl")):
        outputs.add(output)
    for index in range(5):
        outputs.write(result(index))
    outputs.finish(Summary())
    assert full.written == [0, 1] and full.discarded and full_at_the_end.discarded
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 6
    assert (
        told
        == outputs.failures
        == [
            "--save-scores full.h5: failed at frame 2 and was given up: [Errno 28] No space left on device",
            "--save-scores full.h5: failed at the end and was given up: [Errno 28] No space left on device",
        ]
    )


def test_pictures_are_drawn_once_for_all_outputs():
    drawn, seen = [], []

    def overlay(photo, score):
        drawn.append(photo)
        return photo

    outputs = Outputs(overlay, print)
    for _ in range(2):
        output = _Failing(100)
        output.write = lambda outcome, draw: seen.append(draw())
        outputs.add(output)
    outputs.write(result(0))
    assert len(drawn) == 1 and len(seen) == 2


def test_an_unfinished_file_leaves_the_old_one_alone(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    unfinished = UnfinishedFile(file)
    with unfinished.create("w") as stream:
        stream.write("new")
    assert file.read_text() == "old"
    unfinished.discard()
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with unfinished.create("w") as stream:
        stream.write("new")
    unfinished.finish()
    assert file.read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]
