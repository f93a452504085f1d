"""The bytes of PNG files, packed quickly rather than tightly: they are read again at once."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (height, width) or (height, width, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
