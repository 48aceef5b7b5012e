"""Robots' recordings: MCAP, ROS 1 and ROS 2, by the topic with the images."""

import io
from pathlib import Path

import numpy as np
import pytest

from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.frame import BrokenFrame, VideoFrame
from rwpm_fast.stream.recording import RecordingSource

pytest.importorskip("mcap", reason="mcap writes and reads the recordings of these tests")
pytest.importorskip("rosbags.typesys", reason="rosbags writes and reads the recordings of these tests")
pytest.importorskip("PIL.Image")

IMAGE, COMPRESSED, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
PHOTOS = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), np.uint8)


def store(ros1=False):
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)


def stamped(types, index, ros1):
    header, time = types.types["std_msgs/msg/Header"], types.types["builtin_interfaces/msg/Time"]
    sequence = {"seq": index} if ros1 else {}
    return header(**sequence, stamp=time(sec=100, nanosec=index * 50_000_000), frame_id="camera")


def image(types, index, ros1=False, **changed):
    """Make the message of a photo: bgr8, rows padded by 4 bytes."""
    rows = np.pad(PHOTOS[index, ..., ::-1].reshape(6, 24), ((0, 0), (0, 4)))
    fields = {
        "height": 6,
        "width": 8,
        "encoding": "bgr8",
        "is_bigendian": 0,
        "step": 28,
        "data": rows.ravel(),
        **changed,
    }
    return types.types[IMAGE](header=stamped(types, index, ros1), **fields)


def compressed(types, index, ros1=False):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(PHOTOS[index]).save(file, "PNG")
    data = np.frombuffer(file.getvalue(), np.uint8)
    return types.types[COMPRESSED](header=stamped(types, index, ros1), format="png", data=data)


def write_mcap(path, topics, chunk_size=500, compression="ZSTD"):
    """Write an MCAP file of ROS 2 messages: topic to schema and messages, interleaved, one each 50 ms from 200 s on."""
    from mcap.writer import CompressionType, Writer

    types = store()
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_size, compression=CompressionType[compression])
        writer.start()
        channels = {}
        for topic, (schema, _) in topics.items():
            text = types.generate_msgdef(schema, ros_version=2)[0].encode()
            identity = writer.register_schema(schema, "ros2msg", text)
            channels[topic] = writer.register_channel(topic, "cdr", identity)
        for index in range(max(len(messages) for _, messages in topics.values())):
            for topic, (schema, messages) in topics.items():
                if index < len(messages):
                    data = messages[index]
                    if not isinstance(data, bytes):
                        data = bytes(types.serialize_cdr(data, schema))
                    time = 200_000_000_000 + index * 50_000_000
                    writer.add_message(channels[topic], time, data, time)
        writer.finish()


def write_bag(path, topics, ros1):
    if ros1:
        from rosbags.rosbag1 import Writer

        writer = Writer(path)
    else:
        from rosbags.rosbag2 import Writer

        writer = Writer(path, version=9)
    types = store(ros1)
    with writer:
        for topic, (schema, messages) in topics.items():
            connection = writer.add_connection(topic, schema, typestore=types)
            serialize = types.serialize_ros1 if ros1 else types.serialize_cdr
            for index, message in enumerate(messages):
                writer.write(connection, 200_000_000_000 + index * 50_000_000, bytes(serialize(message, schema)))


def write(kind, folder, topics):
    """Write a recording of a kind, from functions that make messages; its path."""
    ros1 = kind == "ros1"
    types = store(ros1)
    made = {
        topic: (schema, [make(types, index, ros1) for index in range(12)]) for topic, (schema, make) in topics.items()
    }
    path = folder / {"mcap": "drive.mcap", "ros1": "drive.bag", "ros2": "drive"}[kind]
    if kind == "mcap":
        write_mcap(path, made)
    else:
        write_bag(path, made, ros1)
    return str(path)


def text(types, index, ros1=False):
    return types.types[TEXT](data=f"message {index}")


def read(path, topic=None):
    with RecordingSource(path, topic) as source:
        return list(source), source.info


@pytest.mark.parametrize("make", [image, compressed])
@pytest.mark.parametrize("kind", ["mcap", "ros1", "ros2"])
def test_the_only_topic_with_images(tmp_path, kind, make):
    schema = IMAGE if make is image else COMPRESSED
    path = write(kind, tmp_path, {"/log": (TEXT, text), "/camera": (schema, make)})
    frames, info = read(path)
    assert [frame.index for frame in frames] == list(range(12))
    assert np.array_equal(np.stack([frame.photo for frame in frames]), PHOTOS)
    assert [frame.seconds for frame in frames] == pytest.approx([100 + index / 20 for index in range(12)], abs=1e-6)
    assert info.kind == "recording" and info.frames == 12 and info.size == (6, 8)
    assert info.notes == [f"topic /camera ({schema})"]


@pytest.mark.parametrize("kind", ["mcap", "ros1", "ros2"])
def test_topics_are_listed_where_the_choice_is_open(tmp_path, kind):
    path = write(kind, tmp_path, {"/log": (TEXT, text), "/left": (IMAGE, image), "/right": (COMPRESSED, compressed)})
    with pytest.raises(SourceError, match=r"expected one topic with images, got 2: /left, /right; name one"):
        RecordingSource(path)
    with pytest.raises(
        SourceError, match=r"no topic /rear; its topics: /left \(sensor_msgs/msg/Image\), /log .*, /right"
    ):
        RecordingSource(path, "/rear")
    with pytest.raises(SourceError, match=r"topic /log has std_msgs/msg/String, expected sensor_msgs/msg/Image, "):
        RecordingSource(path, "/log")
    frames, info = read(path, "/right")
    assert len(frames) == 12 and info.notes == [f"topic /right ({COMPRESSED})"]


def test_no_topic_with_images(tmp_path):
    path = write("mcap", tmp_path, {"/log": (TEXT, text)})
    with pytest.raises(SourceError, match=r"got none; its topics: /log \(std_msgs/msg/String\)"):
        RecordingSource(path)


def test_broken_messages_keep_their_places(tmp_path):
    types = store()
    messages = [image(types, index) for index in range(4)]
    messages[1] = image(types, 1, encoding="32FC1")
    messages[2] = bytes(types.serialize_cdr(messages[2], IMAGE))[:40]
    path = tmp_path / "drive.mcap"
    write_mcap(path, {"/camera": (IMAGE, messages)})
    frames, info = read(str(path))
    assert [type(frame) for frame in frames] == [VideoFrame, BrokenFrame, BrokenFrame, VideoFrame]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert frames[1].seconds == pytest.approx(100.05) and "got '32FC1'" in frames[1].reason
    assert frames[2].seconds == pytest.approx(200.1) and "message cannot be read" in frames[2].reason
    assert info.notes[1:] == ["2 of 4 frames are broken"]


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_cut_mcap_gives_what_is_there(tmp_path, compression):
    types = store()
    whole, cut = tmp_path / "whole.mcap", tmp_path / "cut.mcap"
    messages = [image(types, index) for index in range(12)]
    write_mcap(whole, {"/log": (TEXT, [text(types, 0)]), "/camera": (IMAGE, messages)}, 500, compression)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    frames, info = read(str(cut))
    assert 2 <= len(frames) < 12 and info.frames is None
    assert np.array_equal(np.stack([frame.photo for frame in frames]), PHOTOS[: len(frames)])
    assert any("ends within a record" in note for note in info.notes)
    assert any("has no summary at its end" in note for note in info.notes)


def test_a_damaged_chunk_is_told_and_left_out(tmp_path):
    types = store()
    path = tmp_path / "drive.mcap"
    write_mcap(path, {"/camera": (IMAGE, [image(types, index) for index in range(12)])}, 700, "NONE")
    data = bytearray(path.read_bytes())
    at = data.index(PHOTOS[5, 3, :, ::-1].tobytes())
    data[at] ^= 255
    path.write_bytes(data)
    frames, info = read(str(path))
    assert 8 <= len(frames) < 12 and info.frames == 12
    kept = [round((frame.seconds - 100) * 20) for frame in frames]
    assert 5 not in kept
    assert np.array_equal(np.stack([frame.photo for frame in frames]), PHOTOS[kept])
    assert any("a chunk is damaged, crc validation failed" in note and "are lost" in note for note in info.notes)
    assert f"declares 12 frames and gives {len(frames)}" in info.notes


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.bag", b"no bag", "cannot be opened as a bag: .*; 'rosbag reindex' repairs an index"),
        (
            "a.mcap",
            b"no recording",
            "expected an MCAP file with topics, got none; ends within a record, not a valid MCAP file",
        ),
    ],
)
def test_what_is_no_recording(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        RecordingSource(str(path))


def test_a_cut_ros_1_bag_asks_for_its_index(tmp_path):
    path = Path(write("ros1", tmp_path, {"/camera": (IMAGE, image)}))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match="rosbag reindex"):
        RecordingSource(str(path))
