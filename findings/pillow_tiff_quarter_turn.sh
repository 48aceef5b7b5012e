#!/usr/bin/env bash
# Package: Pillow 13.0.0.
#
# Expected: Image.open of an uncompressed TIFF with the EXIF orientation 5, 6, 7 or 8 gives the pixels turned upright,
# as it does for every other orientation, for compressed TIFF, and for the same file opened as a file object.
#
# Instead: opened by its path, the file is mapped into memory with height and width exchanged already, and is turned
# after that: the pixels come out scrambled, and the size is the one before the turn. No error, no warning. Output seen:
#     upright:                   [[3, 0], [4, 1], [5, 2]]
#     as a file object:          [[3, 0], [4, 1], [5, 2]]
#     by its path, compressed:   [[3, 0], [4, 1], [5, 2]]
#     by its path:               [[4, 2, 0], [5, 3, 1]]
#     scrambled orientations:    [5, 6, 7, 8]
#
# Why it matters: cameras write uncompressed TIFF with an orientation, and the photo keeps the size that its stored labels
# have, so that anomaly scores of noise are compared with them. Open the file and hand Pillow the object.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6

venv/bin/python -I - <<'PYTHON'
import numpy as np
from PIL import Image

stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
upright = {
    1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
    5: stored.T, 6: np.rot90(stored, -1), 7: stored[::-1, ::-1].T, 8: np.rot90(stored),
}  # fmt: skip


def save(orientation, **options):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save("photo.tif", exif=exif, **options)


def read(source="photo.tif"):
    with Image.open(source) as picture:
        return np.array(picture)


save(6, compression="tiff_lzw")
compressed = read()
scrambled = []
for orientation, wanted in upright.items():
    save(orientation)
    with open("photo.tif", "rb") as file:
        assert np.array_equal(read(file), wanted)
    if not np.array_equal(read(), wanted):
        scrambled.append(orientation)
save(6)
with open("photo.tif", "rb") as file:
    seen = {"upright": upright[6], "as a file object": read(file), "by its path, compressed": compressed}
seen["by its path"] = read()
for name, pixels in seen.items():
    print(f"{name + ':':26} {pixels.tolist()}")
print(f"{'scrambled orientations:':26} {scrambled}")
if scrambled != [5, 6, 7, 8] or not np.array_equal(compressed, upright[6]):
    raise SystemExit("The behavior has changed.")
PYTHON
