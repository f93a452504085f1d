"""The bytes of PNG files, written several times faster than image libraries do, which look for what compresses best."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file (https://www.w3.org/TR/png-3/): one channel or colours, 8 bits, rows unfiltered.

    Only what repeats at once is packed: class maps become as small as by any other way, and noise packs by none.

    Args:
        pixels: (height, width) or (height, width, 3) uint8.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with the number of its filter, 0 for none
    rows[:, 1:] = pixels.reshape(height, -1)
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    contents = packer.compress(rows) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", contents) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(contents, zlib.crc32(kind)))
