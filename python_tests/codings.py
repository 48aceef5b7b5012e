"""Label images in every coding that the field's tools write, and a PNG writer for those that Pillow does not."""

import struct
import zlib

import numpy as np
from PIL import Image

GRAY, COLOR, PALETTE, GRAY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6  # color types of PNG


def write_png(path, samples, bits, palette=None):
    """Write samples [H, W] or [H, W, C] as they are, ``bits`` each; palette: RGB per index."""
    color = {1: PALETTE if palette else GRAY, 2: GRAY_ALPHA, 3: COLOR, 4: COLOR_ALPHA}[
        1 if samples.ndim == 2 else samples.shape[2]
    ]
    height, width = samples.shape[:2]
    lines = samples.reshape(height, -1)[..., None].astype(">u2").view(np.uint8).reshape(height, -1, 2)
    rows = np.packbits(np.unpackbits(lines, axis=2)[..., 16 - bits :].reshape(height, -1), axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(sum(palette, ())))] if palette else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def _mode(mode):
    return lambda labels, path: Image.fromarray(labels).convert(mode).save(path)


def _format(name):
    return lambda labels, path: Image.fromarray(labels).save(path, format=name)


def _palette(bits, palette):
    """Coded by the order of a palette's grays: 0, 1 and 255 become indices."""
    grays = [entry[0] for entry in palette]
    return lambda labels, path: write_png(path, np.vectorize(grays.index, otypes=[np.uint8])(labels), bits, [*palette])


_GRAYS = [(255, 255, 255), (0, 0, 0), (1, 1, 1)]

# Writers of labels [H, W] uint8 of 0, 1 and 255, by coding: a viewer shows these gray levels, or the ids are indices.
EXACT = {
    "gray, 8 bits": _mode("L"),
    "gray, 16 bits": lambda labels, path: Image.fromarray(labels.astype(np.uint16)).save(path),
    "gray with alpha": _mode("LA"),
    "color": _mode("RGB"),
    "color with alpha": _mode("RGBA"),
    "palette of all grays": _mode("P"),
    "palette of grays, 2 bits": _palette(2, _GRAYS),
    "palette of grays, 4 bits": _palette(4, _GRAYS),
    "palette of grays, 8 bits": _palette(8, _GRAYS),
    "palette of grays, by Pillow": lambda labels, path: Image.fromarray(labels).convert("RGB").quantize(3).save(path),
    "palette of colors": lambda labels, path: write_png(
        path, labels, 8, [(i, 255 - i, i * 7 % 256) for i in range(256)]
    ),
    "BMP": _format("BMP"),
    "TIFF": _format("TIFF"),
    "TIFF, compressed": lambda labels, path: Image.fromarray(labels).save(path, "TIFF", compression="tiff_lzw"),
    "TIFF, 16 bits": lambda labels, path: Image.fromarray(labels.astype(np.uint16)).save(path, "TIFF"),
    "TIFF, 32 bits": lambda labels, path: Image.fromarray(labels.astype(np.int32)).save(path, "TIFF"),
}
