"""Video files by PyAV: the frames that are there, in the right colors, with what may be wrong with them."""

import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from python_tests.stream.videos import av, encode, moving_planes, packets_of
from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.color import ColorChoice, yuv_to_rgb
from rwpm_fast.stream.frame import BrokenFrame, VideoFrame
from rwpm_fast.stream.ledger import AFTER_DAMAGE, DAMAGED
from rwpm_fast.stream.pyav import LAST, VideoSource

UNTAGGED_SMALL = "colors: BT.601, as usual for less than 720 lines; the file is not tagged"
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
LOSSY = {"bf": "0", "g": "12", "crf": "18"}


@pytest.fixture
def read(tmp_path):
    """Write bytes to a file of a suffix, and read it: frames and info."""

    def run(data, suffix=".mkv", color="auto"):
        path = tmp_path / f"video{suffix}"
        path.write_bytes(data)
        with VideoSource(str(path), color) as source:
            return list(source), source.info

    return run


@pytest.fixture(scope="module")
def lossless():
    """Planes of 20 frames, and their file, tagged BT.709 with limited range."""
    planes = moving_planes(20)
    return planes, encode(planes, tags=(1, 1))


def upsampled(chroma):
    """Interpolate chroma of 4:2:0 linearly: it lies between two rows, and on every other column, as in H.264."""
    around = np.pad(chroma.astype(float), ((1, 1), (0, 1)), mode="edge")
    rows = np.stack([around[:-2] + 3 * around[1:-1], 3 * around[1:-1] + around[2:]], axis=1) / 4
    rows = rows.reshape(-1, around.shape[1])
    return np.stack([rows[:, :-1], (rows[:, :-1] + rows[:, 1:]) / 2], axis=2).reshape(len(rows), -1)


def exactly(planes, choice):
    """Convert planes, chroma at half size, without any shortcut."""
    luma, *chroma = planes
    return yuv_to_rgb(luma, *map(upsampled, chroma), choice)


def test_every_frame_in_exact_colors_at_its_time(read, lossless):
    planes, data = lossless
    frames, info = read(data)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx([index / 25 for index in range(20)])
    assert not any(frame.marks for frame in frames) and not info.notes
    for frame, expected in zip(frames, planes, strict=True):
        assert frame.photo.dtype == np.uint8 and frame.photo.flags.c_contiguous
        luma, *chroma = expected
        exact = exactly([luma, *(plane[::2, ::2] for plane in chroma)], ColorChoice("bt709", full=False))
        difference = np.abs(frame.photo.astype(int) - exact)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert info.size == (48, 64) and info.rate == 25 and info.kind == "video" and not info.live
    assert info.reader == f"PyAV {av.__version__}"


def assert_same_as_program(path, frames):
    """Compare with what the ffmpeg program decodes, converted exactly."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    height, width, _ = frames[0].photo.shape
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        for frame in frames:
            raw = np.frombuffer(program.stdout.read(height * width * 3 // 2), np.uint8)
            luma, *chroma = np.split(raw, [height * width, height * width * 5 // 4])
            planes = [luma.reshape(height, width), *(plane.reshape(height // 2, width // 2) for plane in chroma)]
            difference = np.abs(frame.photo.astype(int) - exactly(planes, ColorChoice("bt709", full=False)))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01
        assert not program.stdout.read()


def test_same_frames_as_the_ffmpeg_program(tmp_path, read):
    data = encode(moving_planes(20), tags=(1, 1), options={"crf": "18", "bf": "2"})
    (tmp_path / "program.mkv").write_bytes(data)
    assert_same_as_program(tmp_path / "program.mkv", read(data)[0])


@pytest.mark.slow
def test_300_rendered_frames_are_the_same_as_of_the_ffmpeg_program(tmp_path):
    from rwpm_fast.scenes import render_scene

    photo, _ = render_scene(np.random.default_rng(0), size=(720, 1280))
    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for index in range(300):
            moved = np.ascontiguousarray(np.roll(photo, 4 * index, axis=1))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        output.mux(stream.encode(None))
    with VideoSource(str(path)) as source:
        frames = list(source)
    assert len(frames) == 300 and not any(frame.marks for frame in frames)
    assert_same_as_program(path, frames)


@pytest.mark.parametrize(
    ("height", "tags", "color", "matrix", "note"),
    [
        (720, None, "auto", "bt709", "colors: BT.709, as usual for 720 lines and more; the file is not tagged"),
        (704, None, "auto", "bt601", UNTAGGED_SMALL),
        (720, (6, 1), "auto", "bt601", None),
        (64, (1, 2), "auto", "bt709", None),
        (64, None, "bt709", "bt709", "colors: BT.709, as asked for; the file is not tagged"),
    ],
)
def test_matrix_and_range(read, height, tags, color, matrix, note):
    planes = [np.full((height, 64), value, np.uint8) for value in (81, 100, 150)]
    (frame,), info = read(encode([planes], tags=tags), color=color)
    exact = yuv_to_rgb(*(plane[:1, :1] for plane in planes), ColorChoice(matrix, full=tags == (1, 2)))
    assert (frame.photo == exact).all()
    assert info.notes == ([note] if note else [])


@pytest.mark.parametrize(
    ("times", "matrix", "turns"), [(1, (0, 1, -1, 0), -1), (2, (-1, 0, 0, -1), 2), (3, (0, -1, 1, 0), 1)]
)
def test_phone_videos_are_upright(read, times, matrix, turns):
    data = encode(moving_planes(2), format="mp4", tags=(1, 1))
    stored, _ = read(data, ".mp4")

    def packed(values):
        a, b, c, d = (value << 16 for value in values)
        return b"".join(value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0))

    header = data.index(b"tkhd")
    at = data.index(packed((1, 0, 0, 1)), header)
    turned = data[:at] + packed(matrix) + data[at + 24 :]
    frames, info = read(turned, ".mp4")
    assert info.size == ((64, 48) if times % 2 else (48, 64))
    for frame, before in zip(frames, stored, strict=True):
        assert np.array_equal(frame.photo, np.rot90(before.photo, turns)) and frame.photo.flags.c_contiguous


def test_time_stamps_of_a_variable_rate(read):
    times = [0, 40, 50, 200, 210, 900]
    frames, info = read(encode(moving_planes(6), times=times))
    assert [frame.seconds for frame in frames] == pytest.approx([time / 1000 for time in times])
    assert info.notes == [UNTAGGED_SMALL]


def test_time_begins_where_the_file_says(read):
    frames, info = read(encode(moving_planes(5), times=[5000 + 40 * index for index in range(5)]))
    assert frames[0].seconds == pytest.approx(5) and info.notes == [UNTAGGED_SMALL]


def test_a_size_that_changes(read):
    data = encode(moving_planes(3), format="h264") + encode(moving_planes(3, 32, 32), format="h264")
    frames, info = read(data, ".h264")
    assert [frame.photo.shape for frame in frames] == [(48, 64, 3)] * 3 + [(32, 32, 3)] * 3
    assert info.size == (48, 64)


def test_motion_jpeg_is_decoded_as_photos_are(read):
    from rwpm_fast.stream.base import decode_picture

    data = encode(moving_planes(4), format="avi", codec="mjpeg", options={"strict": "unofficial"})
    frames, info = read(data, ".avi")
    start = -1
    for frame in frames:
        start = data.index(b"\xff\xd8\xff", start + 1)
        assert np.array_equal(frame.photo, decode_picture(data[start:]))
    assert len(frames) == 4 and not info.notes
    at = data.index(b"\xff\xd8\xff", start - 1)
    frames, info = read(data[:at] + bytes(10) + data[at + 10 :], ".avi")
    assert [type(frame) for frame in frames] == [VideoFrame] * 3 + [BrokenFrame]
    assert "1 of 4 frames are broken" in info.notes


@pytest.mark.parametrize("reordered", ["0", "2"])
@pytest.mark.parametrize(
    ("format", "container"),
    [("mp4", FRAGMENTS), ("mp4", {"movflags": "faststart"}), ("matroska", {})],
    ids=["fragments", "faststart", "matroska"],
)
def test_a_cut_file_gives_every_frame_that_is_there(read, format, container, reordered):
    data = encode(moving_planes(50), format=format, container=container, options={**LOSSY, "bf": reordered})
    packets = packets_of(data)
    assert len(packets) == 50
    for limit in (int(0.6 * len(data)), int(0.63 * len(data)), packets[28][1] + 8):
        expected = sum(end <= limit for _, end in packets)
        assert 10 < expected < 40
        frames, info = read(data[:limit])
        assert sum(isinstance(frame, VideoFrame) for frame in frames) == expected
        assert len(frames) <= expected + 1
        assert any("are missing" in note or "is cut" in note for note in info.notes)


def test_a_cut_matroska_file_says_what_is_missing(read):
    data = encode(moving_planes(50), options=LOSSY)
    frames, info = read(data[: packets_of(data)[28][1] + 8])
    assert len(frames) == 29 and not any(frame.marks for frame in frames)
    assert info.notes == [
        UNTAGGED_SMALL,
        "declares 2.00 s; its last frame is at 1.12 s: 0.84 s, about 21 frames are missing",
    ]


def test_the_last_frame_of_a_transport_stream_is_marked(read):
    data = encode(moving_planes(50), format="mpegts", options=LOSSY)
    whole, _ = read(data, ".ts")
    frames, info = read(data[: int(0.6 * len(data))], ".ts")
    assert 20 < len(frames) < 40
    for frame, other in zip(frames[:-1], whole, strict=False):
        assert not frame.marks and np.array_equal(frame.photo, other.photo)
    assert frames[-1].marks == (LAST,) and whole[-1].marks == (LAST,)
    assert f"1 of {len(frames)} frames: {LAST}" in info.notes


def test_damage_marks_every_frame_up_to_the_next_key_frame(read):
    data = encode(moving_planes(50), options={**LOSSY, "slices": "4"})
    whole, _ = read(data)
    packet, end = packets_of(data)[20]
    at = end - len(packet) // 2
    frames, info = read(data[:at] + bytes(8) + data[at + 8 :])
    assert len(frames) == 50
    marks = [frame.marks for frame in frames]
    assert marks[20] == (DAMAGED,)
    assert marks[:20] == [()] * 20 and marks[21:24] == [(AFTER_DAMAGE,)] * 3 and marks[24:] == [()] * 26
    for frame, other in zip(frames, whole, strict=True):
        assert np.array_equal(frame.photo, other.photo) or frame.marks
    assert f"1 of 50 frames: {DAMAGED}" in info.notes and f"3 of 50 frames: {AFTER_DAMAGE}" in info.notes


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "12", "bf": "2", "crf": "18"}),
        ("libx264", {"g": "12", "bf": "3", "crf": "18", "x264-params": "open-gop=1:b-pyramid=normal"}),
        ("mpeg4", {"g": "12"}),
    ],
)
def test_where_the_decoder_sees_damage_no_altered_frame_goes_unmarked(read, codec, options):
    data = encode(moving_planes(40), codec=codec, options=options)
    whole, _ = read(data)
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(8):
        packets = packets_of(data)
        packet, end = packets[generator.integers(len(packets))]
        at = end - len(packet) // 2
        noise = generator.integers(0, 256, len(packet) // 4, np.uint8).tobytes()
        frames, _ = read(data[:at] + noise + data[at + len(noise) :])
        assert [frame.seconds for frame in frames] == [frame.seconds for frame in whole]
        faulty = [isinstance(frame, BrokenFrame) or bool(frame.marks) for frame in frames]
        if any(faulty):
            seen += 1
            for frame, other, fault in zip(frames, whole, faulty, strict=True):
                assert fault or np.array_equal(frame.photo, other.photo)
    assert seen >= 4


def test_hidden_frames_of_vp8_are_no_losses(tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program, which makes them, is not installed")
    path = tmp_path / "video.webm"
    for number in "12":
        command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2"]
        command += ["-c:v", "libvpx", "-b:v", "50k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-pass", number]
        if subprocess.run([*command, str(path)], cwd=tmp_path, capture_output=True).returncode:
            pytest.skip("this ffmpeg program has no encoder for VP8")
    assert len(packets_of(path.read_bytes())) > 50
    with VideoSource(str(path)) as source:
        frames = list(source)
    assert len(frames) == 50 and all(isinstance(frame, VideoFrame) for frame in frames)


def test_a_cut_within_the_header_of_a_fragment(read):
    data = encode(moving_planes(20), format="mp4", container={"movflags": "frag_every_frame+empty_moov"}, options=LOSSY)
    at = -1
    for _ in range(11):
        at = data.index(b"moof", at + 1)
    frames, info = read(data[: at + 40], ".mp4")
    assert len(frames) == 10
    assert "its end cannot be parsed: read from the beginning, as far as it goes" in info.notes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be opened as a video: Invalid data found"),
        (b"no video at all" * 50, "cannot be opened as a video: Invalid data found"),
    ],
)
def test_what_is_no_video(read, data, message):
    with pytest.raises(SourceError, match=rf"video.mkv: {message}"):
        read(data)


def test_sound_alone_is_no_video(read, tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="has no video that can be decoded"):
        VideoSource(str(path))


def test_closing_from_another_thread_ends_the_iteration(tmp_path):
    path = tmp_path / "video.mkv"
    path.write_bytes(encode(moving_planes(30)))
    source = VideoSource(str(path))
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 3:
            closer = threading.Thread(target=source.close)
            closer.start()
            closer.join()
    assert len(frames) == 3 and not list(source)


def test_a_source_is_iterated_once(tmp_path):
    path = tmp_path / "video.mkv"
    path.write_bytes(encode(moving_planes(2)))
    with VideoSource(str(path)) as source:
        assert len(list(source)) == 2
        with pytest.raises(RuntimeError, match="iterated once"):
            iter(source)


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"reading videos needs PyAV .*rwpm-fast\[video\]"):
        VideoSource("video.mp4")
