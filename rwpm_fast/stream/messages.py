"""Photos from the image messages of robots: ROS sensor_msgs and Foxglove, raw and compressed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..io.extras import import_extra
from .base import SourceError, decode_picture
from .color import ColorChoice, yuv_to_rgb

# Schemas of images, as ROS 2 writes their names.
RAW = ("sensor_msgs/msg/Image", "foxglove.RawImage")
COMPRESSED = ("sensor_msgs/msg/CompressedImage", "foxglove.CompressedImage")

# Encodings with their channels of 8 bits, or 16: for each of R, G, B the channel that holds it. 8UC3 has no colors by
# its name; what writes it is OpenCV, whose order is BGR.
_PLANES: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "rgb8": ("u1", 3, (0, 1, 2)),
    "bgr8": ("u1", 3, (2, 1, 0)),
    "8UC3": ("u1", 3, (2, 1, 0)),
    "rgba8": ("u1", 4, (0, 1, 2)),
    "bgra8": ("u1", 4, (2, 1, 0)),
    "8UC4": ("u1", 4, (2, 1, 0)),
    "mono8": ("u1", 1, (0, 0, 0)),
    "8UC1": ("u1", 1, (0, 0, 0)),
    "rgb16": ("u2", 3, (0, 1, 2)),
    "bgr16": ("u2", 3, (2, 1, 0)),
    "mono16": ("u2", 1, (0, 0, 0)),
    "16UC1": ("u2", 1, (0, 0, 0)),
}
# Of two pixels side by side, the bytes that hold Y, Y, U and V.
_PACKED = {
    "yuv422": (1, 3, 0, 2),
    "uyvy": (1, 3, 0, 2),
    "yuv422_yuy2": (0, 2, 1, 3),
    "yuyv": (0, 2, 1, 3),
}
_BAYER = ("rggb", "bggr", "gbrg", "grbg")
ENCODINGS = (*_PLANES, *_PACKED, *(f"bayer_{pattern}{bits}" for pattern in _BAYER for bits in (8, 16)))


@dataclass(frozen=True)
class ImageMessage:
    """An image as robots record it.

    Attributes:
        data: the bytes; a whole picture file if ``encoding`` is None.
        encoding: of the pixels, such as "bgr8"; None if compressed.
        height: number of rows.
        width: number of columns.
        step: bytes from one row to the next.
        big_endian: byte order of values of 16 bits.
        seconds: when it was taken, None if the message does not say.
    """

    data: Any
    encoding: str | None = None
    height: int = 0
    width: int = 0
    step: int = 0
    big_endian: bool = False
    seconds: float | None = None


def to_photo(message: ImageMessage, color: str = "auto") -> np.ndarray:
    """Convert an image message to a photo.

    16 bits are scaled to 8. YUV is converted by BT.601, limited range, as the drivers and tools of ROS do, unless
    ``color`` names another matrix; Bayer mosaics are interpolated bilinearly.

    Args:
        message: the image.
        color: see :func:`rwpm_fast.stream.color.choose_color`.

    Returns:
        Photo: [H, W, 3] uint8, RGB.

    Raises:
        SourceError: the encoding is not supported, or the data do not fit the size.
    """
    encoding = message.encoding
    if encoding is None:
        return decode_picture(bytes(message.data))
    if encoding in _PLANES:
        kind, channels, order = _PLANES[encoding]
        return _to_8_bits(_rows(message, kind, channels)[..., list(order)])
    if encoding in _PACKED:
        if message.width % 2:
            raise SourceError(f"encoding {encoding}: expected an even width, got {message.width}")
        first, second, u, v = _PACKED[encoding]
        pairs = _rows(message, "u1", 2).reshape(message.height, -1, 4)
        luma = pairs[..., [first, second]].reshape(message.height, message.width)
        blue, red = (pairs[..., channel].repeat(2, axis=1) for channel in (u, v))
        return yuv_to_rgb(luma, blue, red, ColorChoice("bt601" if color == "auto" else color, full=False))
    if encoding in ENCODINGS:
        pattern = encoding.removeprefix("bayer_")[:4]
        mosaic = _rows(message, "u1" if encoding.endswith("8") else "u2", 1)[..., 0]
        return demosaic(_to_8_bits(mosaic), pattern)
    raise SourceError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}")


def _rows(message: ImageMessage, kind: str, channels: int) -> np.ndarray:
    """Return the pixels, [H, W, channels], without what pads the rows."""
    pixels = np.frombuffer(message.data, np.uint8)
    values = np.dtype(kind).newbyteorder(">" if message.big_endian else "<")
    used = message.width * channels * values.itemsize
    step = message.step or used
    if not message.height or not message.width:
        raise SourceError(f"expected an image with pixels, got {message.height} x {message.width}")
    if step < used:
        raise SourceError(f"step: expected at least {used} bytes for a row of {message.width} pixels, got {step}")
    needed = step * (message.height - 1) + used
    if len(pixels) < needed:
        raise SourceError(f"data: expected {needed} bytes for {message.height} rows of {step}, got {len(pixels)}")
    rows = np.lib.stride_tricks.as_strided(pixels, (message.height, used), (step, 1), writeable=False)
    return np.ascontiguousarray(rows).view(values).reshape(message.height, message.width, channels)


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale to uint8, contiguous."""
    if pixels.dtype.itemsize == 2:
        pixels = (pixels.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(pixels, np.uint8)


def demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Interpolate a Bayer mosaic bilinearly, mirrored at the borders.

    Args:
        mosaic: [H, W] uint8.
        pattern: colors of the first two pixels of the first row, then of the second, such as "rggb".

    Returns:
        Photo: [H, W, 3] uint8.

    Raises:
        SourceError: fewer than two rows or columns.
    """
    if min(mosaic.shape) < 2:
        raise SourceError(f"expected a mosaic of at least 2 x 2 pixels, got {mosaic.shape[0]} x {mosaic.shape[1]}")
    height, width = mosaic.shape
    photo = np.empty((height, width, 3), np.uint8)
    for channel, name in enumerate("rgb"):
        plane = np.zeros((height, width), np.uint16)
        for place, color in enumerate(pattern):
            if color == name:
                part = np.s_[place // 2 :: 2, place % 2 :: 2]
                plane[part] = mosaic[part]
        # Mirrored without the border itself, the colors stay in their places.
        around = np.pad(plane, 1, mode="reflect")
        sides = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        if name == "g":
            total = 4 * plane + sides
        else:
            corners = around[:-2, :-2] + around[:-2, 2:] + around[2:, :-2] + around[2:, 2:]
            total = 4 * plane + 2 * sides + corners
        photo[..., channel] = (total + 2) // 4
    return photo


def message_decoder(schema: str, encoding: str, definition: bytes = b"") -> Callable[[bytes], ImageMessage]:
    """Make what reads the messages of a topic.

    Args:
        schema: name of the message type: one of ``RAW`` or ``COMPRESSED``.
        encoding: how messages are serialized: "cdr" (ROS 2), "ros1", "json" or "protobuf".
        definition: the schema's own text; needed for "protobuf".

    Raises:
        ImportError: what reads this encoding is not installed.
        SourceError: there is no such encoding.
    """
    compressed = schema in COMPRESSED
    if encoding in ("cdr", "ros1"):
        read = _ros_reader(schema, encoding)
        return lambda raw: _from_ros(read(raw), compressed)
    if encoding == "json":
        return lambda raw: _from_json(json.loads(raw), compressed)
    if encoding == "protobuf":
        message_class = _protobuf_class(schema, definition)
        return lambda raw: _from_foxglove(message_class.FromString(raw), compressed)
    raise SourceError(f"message encoding: expected cdr, ros1, json or protobuf, got {encoding!r}")


@lru_cache
def _typestore(encoding: str) -> Any:
    typesys = import_extra("rosbags.typesys", "reading messages of ROS")
    stores = typesys.Stores
    return typesys.get_typestore(stores.ROS1_NOETIC if encoding == "ros1" else stores.ROS2_HUMBLE)


def _ros_reader(schema: str, encoding: str) -> Callable[[bytes], Any]:
    store = _typestore(encoding)
    deserialize = store.deserialize_ros1 if encoding == "ros1" else store.deserialize_cdr
    return lambda raw: deserialize(raw, schema)


def _from_ros(message: Any, compressed: bool) -> ImageMessage:
    stamp = message.header.stamp
    seconds = stamp.sec + 1e-9 * stamp.nanosec or None
    if compressed:
        return ImageMessage(message.data, seconds=seconds)
    size = (message.height, message.width, message.step)
    return ImageMessage(message.data, message.encoding, *size, bool(message.is_bigendian), seconds)


def _protobuf_class(schema: str, definition: bytes) -> Any:
    descriptor_pb2 = import_extra("google.protobuf.descriptor_pb2", "reading messages of Foxglove")
    pools = import_extra("google.protobuf.descriptor_pool", "reading messages of Foxglove")
    factory = import_extra("google.protobuf.message_factory", "reading messages of Foxglove")
    pool = pools.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(definition).file:
        pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName(schema))


def _from_foxglove(message: Any, compressed: bool) -> ImageMessage:
    seconds = message.timestamp.seconds + 1e-9 * message.timestamp.nanos or None
    if compressed:
        return ImageMessage(message.data, seconds=seconds)
    return ImageMessage(message.data, message.encoding, message.height, message.width, message.step, seconds=seconds)


def _from_json(message: dict[str, Any], compressed: bool) -> ImageMessage:
    stamp = message.get("timestamp", {})
    seconds = stamp.get("sec", 0) + 1e-9 * stamp.get("nsec", 0) or None
    data = base64.b64decode(message["data"])
    if compressed:
        return ImageMessage(data, seconds=seconds)
    size = (message["height"], message["width"], message["step"])
    return ImageMessage(data, message["encoding"], *size, seconds=seconds)
