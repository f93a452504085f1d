"""What the tasks on images share: from files to pixels, in the serving model and for pictures."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
from PIL import Image

from kerastoolkit.serving.image_files import read_image_files
from kerastoolkit.serving.images import DecodeImages


def decode_images(preprocess: keras.Model) -> keras.Model:
    """``Task.decode``: the bytes of image files -> pixels of the size that ``preprocess`` takes."""
    contents = keras.Input((), dtype="string", name="image")
    pixels = DecodeImages(*preprocess.inputs[0].shape[1:], name="decode")(contents)
    return keras.Model(contents, pixels, name="decode_images")


def read_images(paths: list[str]) -> tuple[list[str], dict[str, Any]]:
    """``Task.read``: image files, and those in folders."""
    names, contents = read_image_files(paths)
    return names, {"image": np.array(contents, dtype=object)}


def pixels_of(image: Any, *, largest: int | None = 512) -> np.ndarray:
    """A raw image as uint8 (height, width, channels); an encoded one made at most ``largest`` pixels high and wide."""
    if isinstance(image, bytes):
        image = Image.open(io.BytesIO(image))
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if largest is not None:
            image.thumbnail((largest, largest))
        return np.asarray(image.convert("RGB"))
    return np.asarray(image)


def png_file(pixels: np.ndarray) -> bytes:
    """Pixels (height, width, 1 or 3), 0..255, as a PNG file."""
    rounded, file = np.clip(np.rint(pixels), 0, 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(rounded[..., 0] if rounded.shape[-1] == 1 else rounded).save(file, "PNG")
    return file.getvalue()


def made_up_images(serving: keras.Model) -> dict[str, Any]:
    """``Task.probe``: pictures, PNG and JPEG, of two sizes."""
    generator, contents = np.random.default_rng(0), []
    for kind, height, width in (("PNG", 40, 30), ("JPEG", 33, 65), ("PNG", 8, 8)):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, kind)
        contents.append(file.getvalue())
    return {"image": np.array(contents, dtype=object)}
