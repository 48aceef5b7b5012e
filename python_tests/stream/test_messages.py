"""Photos from image messages: encodings, padded rows, byte order, mosaics, compressed pictures."""

import base64
import io
import json

import numpy as np
import pytest

from rwpm_fast.stream.base import SourceError
from rwpm_fast.stream.color import ColorChoice, yuv_to_rgb
from rwpm_fast.stream.messages import ENCODINGS, ImageMessage, demosaic, message_decoder, to_photo

HEIGHT, WIDTH = 6, 8
PHOTO = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = PHOTO[..., :1]
ALPHA = np.full_like(GRAY, 9)
DEEP = PHOTO.astype(np.uint16) * 257  # 16 bits that are exactly these 8


def message(pixels, encoding, *, padding=0, big_endian=False):
    """Make the message of pixels, [H, W, channels], with padded rows."""
    order = ">" if big_endian else "<"
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(order))).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return ImageMessage(rows.tobytes(), encoding, HEIGHT, WIDTH, rows.shape[1], big_endian)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", PHOTO, PHOTO),
        ("bgr8", PHOTO[..., ::-1], PHOTO),
        ("8UC3", PHOTO[..., ::-1], PHOTO),
        ("rgba8", np.concatenate([PHOTO, ALPHA], -1), PHOTO),
        ("bgra8", np.concatenate([PHOTO[..., ::-1], ALPHA], -1), PHOTO),
        ("mono8", GRAY, GRAY.repeat(3, -1)),
        ("8UC1", GRAY, GRAY.repeat(3, -1)),
        ("rgb16", DEEP, PHOTO),
        ("bgr16", DEEP[..., ::-1], PHOTO),
        ("mono16", DEEP[..., :1], GRAY.repeat(3, -1)),
        ("16UC1", DEEP[..., :1], GRAY.repeat(3, -1)),
    ],
)
def test_encodings(encoding, pixels, expected, padding):
    for big_endian in (False, True):
        photo = to_photo(message(pixels, encoding, padding=padding, big_endian=big_endian))
        assert photo.dtype == np.uint8 and photo.flags.c_contiguous and photo.flags.writeable
        assert np.array_equal(photo, expected)


def test_16_bits_are_rounded_to_the_nearest():
    values = np.array([[0, 128, 129, 65535, 385, 386, 32896, 300]], np.uint16).repeat(HEIGHT, 0)[..., None]
    photo = to_photo(message(values, "mono16"))
    assert photo[0, :, 0].tolist() == np.rint(values[0, :, 0] / 257).astype(int).tolist()


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")])
@pytest.mark.parametrize(("color", "matrix"), [("auto", "bt601"), ("bt709", "bt709")])
def test_packed_yuv(encoding, order, color, matrix):
    luma = PHOTO[..., 0]
    u, v = PHOTO[:, ::2, 1], PHOTO[:, ::2, 2]
    places = {"uyvy": [u, luma[:, ::2], v, luma[:, 1::2]], "yuyv": [luma[:, ::2], u, luma[:, 1::2], v]}[order]
    packed = np.stack(places, axis=-1).reshape(HEIGHT, WIDTH, 2)
    expected = yuv_to_rgb(luma, u.repeat(2, 1), v.repeat(2, 1), ColorChoice(matrix, full=False))
    assert np.array_equal(to_photo(message(packed, encoding, padding=3), color), expected)


PLACES = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


def mosaic_of(photo, pattern):
    mosaic = np.empty(photo.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        part = np.s_[place // 2 :: 2, place % 2 :: 2]
        mosaic[part] = photo[(*part, "rgb".index(color))]
    return mosaic


@pytest.mark.parametrize("pattern", PLACES)
def test_mosaics(pattern):
    height, width = 9, 12
    rows, columns = np.mgrid[:height, :width]
    photo = np.stack([10 + 4 * rows + 2 * columns, 200 - 2 * rows - 6 * columns, 50 + 8 * columns], -1).astype(np.uint8)
    found = demosaic(mosaic_of(photo, pattern), pattern)
    assert np.array_equal(found[1:-1, 1:-1], photo[1:-1, 1:-1])  # linear colors are interpolated exactly
    flat = np.broadcast_to(np.array([200, 30, 90], np.uint8), (5, 7, 3))
    assert np.array_equal(demosaic(mosaic_of(flat, pattern), pattern), flat)
    encoded = to_photo(message(mosaic_of(PHOTO, pattern)[..., None], f"bayer_{pattern}8", padding=2))
    assert np.array_equal(encoded, demosaic(mosaic_of(PHOTO, pattern), pattern))


def test_mosaics_are_as_opencv_interpolates_them():
    cv2 = pytest.importorskip("cv2")
    mosaic = np.random.default_rng(1).integers(0, 256, (40, 60), np.uint8)
    # OpenCV names a pattern by the second and third pixel of its second row.
    for pattern, name in (("rggb", "BayerBG"), ("bggr", "BayerRG"), ("gbrg", "BayerGR"), ("grbg", "BayerGB")):
        other = cv2.cvtColor(mosaic, getattr(cv2, f"COLOR_{name}2RGB"))
        assert np.array_equal(demosaic(mosaic, pattern)[2:-2, 2:-2], other[2:-2, 2:-2])


@pytest.mark.parametrize(("suffix", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "I;16")])
def test_compressed_pictures(suffix, mode):
    Image = pytest.importorskip("PIL.Image")
    pixels = {"RGB": PHOTO, "L": GRAY[..., 0], "I;16": DEEP[..., 0]}[mode]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix)
    expected = PHOTO if mode == "RGB" else GRAY.repeat(3, -1)
    assert np.array_equal(to_photo(ImageMessage(file.getvalue())), expected)


def test_jpeg_is_as_pillow_decodes_it():
    Image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=80)
    assert np.array_equal(to_photo(ImageMessage(file.getvalue())), np.array(Image.open(file).convert("RGB")))
    with pytest.raises(SourceError, match="truncated"):
        to_photo(ImageMessage(file.getvalue()[:-40]))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"encoding": "32FC1"}, rf"encoding: expected one of {', '.join(ENCODINGS[:3])}, .*, got '32FC1'"),
        ({"step": 23}, "step: expected at least 24 bytes for a row of 8 pixels, got 23"),
        ({"height": 7}, "data: expected 168 bytes for 7 rows of 24, got 144"),
        ({"height": 0}, "expected an image with pixels, got 0 x 8"),
        ({"encoding": "yuv422", "width": 7}, "expected an even width, got 7"),
        ({"encoding": None}, "144 bytes that are no picture"),
    ],
)
def test_what_is_no_image(changed, text):
    fields = {"encoding": "rgb8", "height": HEIGHT, "width": WIDTH, "step": 24, **changed}
    with pytest.raises(SourceError, match=text):
        to_photo(ImageMessage(PHOTO.tobytes(), **fields))


def test_a_step_of_zero_means_rows_without_padding():
    assert np.array_equal(to_photo(ImageMessage(PHOTO.tobytes(), "rgb8", HEIGHT, WIDTH, 0)), PHOTO)


def test_foxglove_as_json():
    raw = {"width": WIDTH, "height": HEIGHT, "step": 24, "encoding": "rgb8", "frame_id": "camera"}
    raw |= {"timestamp": {"sec": 5, "nsec": 250_000_000}, "data": base64.b64encode(PHOTO.tobytes()).decode()}
    found = message_decoder("foxglove.RawImage", "json")(json.dumps(raw).encode())
    assert found.seconds == 5.25 and np.array_equal(to_photo(found), PHOTO)


def test_foxglove_as_protobuf():
    descriptors = pytest.importorskip("google.protobuf.descriptor_pb2")
    pools = pytest.importorskip("google.protobuf.descriptor_pool")
    from google.protobuf import message_factory, timestamp_pb2

    file = descriptors.FileDescriptorProto(name="image.proto", package="foxglove", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    image = file.message_type.add(name="RawImage")
    kinds = descriptors.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        [("width", 7), ("height", 7), ("encoding", 9), ("step", 7), ("data", 12)], start=2
    ):
        image.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    image.field.add(name="timestamp", number=1, type=11, label=1, type_name=".google.protobuf.Timestamp")
    stamp = descriptors.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    definition = descriptors.FileDescriptorSet(file=[stamp, file]).SerializeToString()
    pool = pools.DescriptorPool()
    pool.Add(stamp)
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("foxglove.RawImage"))(
        width=WIDTH, height=HEIGHT, encoding="bgr8", step=24, data=PHOTO[..., ::-1].tobytes()
    )
    made.timestamp.seconds, made.timestamp.nanos = 7, 500_000_000
    found = message_decoder("foxglove.RawImage", "protobuf", definition)(made.SerializeToString())
    assert found.seconds == 7.5 and np.array_equal(to_photo(found), PHOTO)


def test_unknown_message_encoding():
    with pytest.raises(SourceError, match="message encoding: expected cdr, ros1, json or protobuf, got 'cbor'"):
        message_decoder("foxglove.RawImage", "cbor")
