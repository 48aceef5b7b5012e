#!/usr/bin/env bash
# Package: av 18.1.0 (PyAV, FFmpeg 8.1.2).
#
# Expected: a fragmented MP4, the form for recordings that may break off, gives the frames of its whole fragments however
# it is cut: that is what the fragments are for.
#
# Instead: cut within the header of its last fragment, the file cannot be opened at all, though 9 of 10 fragments are
# whole: the demuxer goes through all fragments when it opens a file that it can seek in, and takes the last one's error
# for its own. Kept from seeking it gives every frame. Output seen:
#     cut between fragments:                           9 frames
#     cut within a header:                             InvalidDataError
#     cut within a header, by the option seekable=0:   9 frames
#     places of the header's 112 bytes at which a cut fails: 16
#
# Why it matters: a dash cam or a robot that loses power leaves such a file now and then, and the ffmpeg program (5.1.9
# tried), OpenCV and torchcodec refuse it too. Open it again with options={"seekable": "0"}.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import av
import numpy as np

av.logging.set_level(av.logging.PANIC)
with av.open("whole.mp4", "w", options={"movflags": "frag_every_frame+empty_moov"}) as output:
    stream = output.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for level in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * level, np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
with open("whole.mp4", "rb") as file:
    data = file.read()

fragment = -1
for _ in range(10):
    fragment = data.index(b"moof", fragment + 1)
start = fragment - 4
size = int.from_bytes(data[start:fragment], "big")


def frames_of(length, **options):
    with open("cut.mp4", "wb") as file:
        file.write(data[:length])
    try:
        with av.open("cut.mp4", options=options) as container:
            return f"{sum(packet.size > 0 for packet in container.demux(video=0))} frames"
    except av.FFmpegError as error:
        return type(error).__name__


failing = [cut for cut in range(size) if not frames_of(start + cut)[0].isdigit()]
between = frames_of(start)
within = frames_of(start + failing[0]) if failing else "no error"
kept = {frames_of(start + cut, seekable="0") for cut in failing}
print(f"{'cut between fragments:':48} {between}")
print(f"{'cut within a header:':48} {within}")
print(f"{'cut within a header, by the option seekable=0:':48} {', '.join(sorted(kept))}")
print(f"places of the header's {size} bytes at which a cut fails: {len(failing)}")
if between != "9 frames" or not failing or kept != {"9 frames"}:
    raise SystemExit("The behavior has changed.")
PYTHON
