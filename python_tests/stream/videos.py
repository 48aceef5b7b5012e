"""Small videos made in the tests, and what their frames must be."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV makes and reads the videos of these tests")

RATE = 25


def moving_planes(count, height=48, width=64, seed=0):
    """Planes Y, U and V of a texture that moves, [count] x 3 arrays of the legal range, flat in blocks of 8."""
    generator = np.random.default_rng(seed)
    blocks = [
        generator.integers(low, high, (height // 8, width // 8)) for low, high in ((30, 220), (60, 196), (60, 196))
    ]
    frames = []
    for index in range(count):
        planes = [np.roll(block, index, axis=1).repeat(8, 0).repeat(8, 1).astype(np.uint8) for block in blocks]
        frames.append(planes)
    return frames


def to_frame(planes, pts=None):
    """Make PyAV's frame, yuv420p, of planes of equal size."""
    luma, *chroma = planes
    packed = np.concatenate([luma.ravel(), *(plane[::2, ::2].ravel() for plane in chroma)])
    frame = av.VideoFrame.from_ndarray(packed.reshape(luma.shape[0] * 3 // 2, luma.shape[1]), format="yuv420p")
    frame.pts = pts
    return frame


def encode(frames, format="matroska", codec="libx264", options=None, container=None, tags=None, times=None, rate=RATE):
    """Encode planes to the bytes of a file.

    Args:
        frames: planes of each frame.
        format: of the container.
        codec: encoder.
        options: of the encoder; without, H.264 without loss and without frames that are reordered.
        container: options of the container.
        tags: code points of matrix and range; None for a file without.
        times: time stamps in milliseconds; None for a constant rate.
        rate: frames a second.
    """
    with tempfile.TemporaryDirectory() as folder:  # the muxer of MP4 opens its file again by name
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=format, options=container or {}) as output:
            stream = output.add_stream(codec, rate=rate, options=options or {"qp": "0", "bf": "0"})
            stream.height, stream.width = frames[0][0].shape
            stream.pix_fmt = "yuv420p"
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if tags is not None:
                stream.codec_context.colorspace, stream.codec_context.color_range = tags
            for index, planes in enumerate(frames):
                frame = to_frame(planes, None if times is None else times[index])
                if times is not None:
                    frame.time_base = Fraction(1, 1000)
                if tags is not None:
                    frame.colorspace, frame.color_range = tags
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path.read_bytes()


def packets_of(data):
    """Return the video packets of a file, each as its bytes and the place at which they end in the file."""
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    ends, at = [], 0
    for packet in packets:
        at = data.index(packet, at) + len(packet)
        ends.append(at)
    return list(zip(packets, ends, strict=True))
