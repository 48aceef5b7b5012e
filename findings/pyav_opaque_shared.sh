#!/usr/bin/env bash
# Package: av 18.1.0 (PyAV).
#
# Expected: with copy_opaque, what is attached to a packet as its opaque comes out on the frame that is decoded from it.
#
# Instead: objects are kept by their identity, once, however many packets carry them. Numbers up to 256 are one object
# each in CPython: as soon as one of two packets with the same number is freed, the other's frame has None. Decoders that
# number their packets from 0 take them from one another. Output seen:
#     one decoder, numbers:              10 of 10 frames have theirs
#     two decoders, numbers:             0 of 10 frames have theirs, 10 have None
#     two decoders, an object a packet:  10 of 10 frames have theirs
#
# Why it matters: the place of a packet, attached to it, is the one way to tell which frame a lost or damaged packet was
# to give, and works until a second video is open. Attach an object made for that packet, such as [number].

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import av
import numpy as np

with av.open("video.mkv", "w") as output:
    stream = output.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for level in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * level, np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def packets_of(make):
    """Open the video, and attach to each packet what ``make`` makes of its number."""
    container = av.open("video.mkv")
    stream = container.streams.video[0]
    stream.codec_context.copy_opaque = True
    packets = [packet for packet in container.demux(stream) if packet.size]
    for number, packet in enumerate(packets):
        packet.opaque = make(number)
    return container, stream.codec_context, packets


def decode(decoder):
    container, context, packets = decoder
    frames = [frame for packet in packets for frame in context.decode(packet)] + context.decode(None)
    found = [frame.opaque for frame in frames]
    container.close()
    return found


def other_decoder_and_then(make):
    first = packets_of(make)
    decode(packets_of(make))
    return decode(first)


alone = decode(packets_of(int))
numbers = other_decoder_and_then(int)
objects = other_decoder_and_then(lambda number: [number])
print(f"one decoder, numbers:              {sum(x is not None for x in alone)} of {len(alone)} frames have theirs")
print(
    f"two decoders, numbers:             {sum(x is not None for x in numbers)} of {len(numbers)} frames have theirs, "
    f"{numbers.count(None)} have None"
)
print(f"two decoders, an object a packet:  {sum(x is not None for x in objects)} of {len(objects)} frames have theirs")
if alone != list(range(10)) or None not in numbers or objects != [[number] for number in range(10)]:
    raise SystemExit("The behavior has changed.")
PYTHON
