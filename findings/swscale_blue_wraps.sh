#!/usr/bin/env bash
# Package: av 18.1.0 (PyAV, FFmpeg 8.1.2).
#
# Expected: where YUV stands for more than 255 of a color, the conversion to RGB gives 255, as it does with default flags
# for 4:2:0.
#
# Instead: with the flags that round rightly (accurate_rnd, full_chroma_int, full_chroma_inp), and for 4:4:4 without them,
# blue beyond twice its range wraps to 0: a bright blue turns to green. Output seen, BT.709, limited range:
#     YUV (240, 255, 128), 4:2:0, defaults:   (255, 232, 255)
#     YUV (240, 255, 128), 4:2:0, with flags: (255, 234, 0)
#     YUV (240, 255, 128), 4:4:4, defaults:   (255, 234, 0)
#     lowest luma and chroma that wrap: 225 255, 255 239
#
# Why it matters: no camera's RGB has such values, but the overshoot of a lossy codec at a bright blue light may. Within
# 16..235 and 16..240 all are within 1 of the exact value with the flags. Where it counts, clip the chroma plane first.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

DEFAULT = Interpolation.BILINEAR
EXACT = DEFAULT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
reformatter = VideoReformatter()


def to_rgb(y, u, v, flags, format):
    frame = av.VideoFrame(32, 32, format)
    for plane, value in zip(frame.planes, (y, u, v)):
        plane.update(bytes([value]) * plane.buffer_size)
    converted = reformatter.reformat(
        frame, format="rgb24", interpolation=flags, src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG"
    )
    return tuple(converted.to_ndarray()[16, 16].tolist())


yuv = (240, 255, 128)
seen = [to_rgb(*yuv, flags, format) for flags, format in ((DEFAULT, "yuv420p"), (EXACT, "yuv420p"), (DEFAULT, "yuv444p"))]
for name, rgb in zip(("4:2:0, defaults:  ", "4:2:0, with flags:", "4:4:4, defaults:  "), seen):
    print(f"YUV {yuv}, {name} {rgb}")
luma = min(y for y in range(256) if to_rgb(y, 255, 128, EXACT, "yuv420p")[2] == 0 and y > 100)
chroma = min(u for u in range(129, 256) if to_rgb(255, u, 128, EXACT, "yuv420p")[2] == 0)
print(f"lowest luma and chroma that wrap: {luma} 255, 255 {chroma}")
legal = np.array([to_rgb(y, u, 128, EXACT, "yuv420p")[2] for y in range(16, 236, 3) for u in range(129, 241, 3)])
blue = np.array([1.164384 * (y - 16) + 2.112402 * (u - 128) for y in range(16, 236, 3) for u in range(129, 241, 3)])
assert np.abs(legal - blue.clip(0, 255)).max() <= 1
if seen[0][2] != 255 or seen[1][2] != 0 or seen[2][2] != 0:
    raise SystemExit("The behavior has changed.")
PYTHON
