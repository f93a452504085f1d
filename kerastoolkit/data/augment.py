"""Changes to training images that leave their labels true.

Each is a function (raw batch, seeds, fetch) -> raw batch over whole batches. What happens to an example
depends on its own seed pair alone, not on the batch that it is in, so that a training that stopped goes on
with the same images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerastoolkit.experiment import InputError
from kerastoolkit.serving.random_numbers import hashed

Augment = Callable[..., dict[str, Any]]


def pad_crop_flip(pixels: int = 4, *, flip: bool = True, padding: str = "zeros") -> Augment:
    """Pads, crops the old size at a random place, mirrors half of the images: He et al. 2015, section 4.2,
    https://arxiv.org/abs/1512.03385.

    Input   image  (batch, height, width, channels) uint8 or float
    Output  image  same shape and type

    Args:
        pixels: width of the padding; the image moves by at most this much.
        flip: whether to mirror left and right; never where that changes what an image means (digits,
            letters).
        padding: "zeros" (black) or "reflect", for which an image must be larger than ``pixels``.
    Raises:
        InputError: pixels is negative, or padding has another name.
    Differs from the paper: black borders; the paper pads after the mean is subtracted, which gives the
        mean colour.
    """
    if pixels < 0:
        raise InputError(f"pixels must be at least 0, got {pixels}")
    if padding not in ("zeros", "reflect"):
        raise InputError(f"padding must be zeros or reflect, got {padding}")
    mode = "CONSTANT" if padding == "zeros" else "REFLECT"

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        image = raw["image"]
        height, width = image.shape[1], image.shape[2]
        padded = tf.pad(image, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode=mode)
        top, left = (_draw(seeds, stream, 2 * pixels + 1)[:, None] for stream in (0, 1))
        rows = top + tf.range(height, dtype=tf.int64)  # (batch, height)
        columns = left + tf.range(width, dtype=tf.int64)  # (batch, width)
        if flip:
            columns = tf.where(_draw(seeds, 2, 2)[:, None] == 1, columns[:, ::-1], columns)
        places = rows[:, :, None] * (width + 2 * pixels) + columns[:, None, :]  # (batch, height, width)
        line = tf.reshape(padded, [tf.shape(image)[0], -1, image.shape[3]])
        return {**raw, "image": tf.gather(line, places, batch_dims=1)}

    return augment


def shift(pixels: int = 2) -> Augment:
    """Moves each image by up to ``pixels`` in each direction; never mirrors, so that digits stay digits."""
    return pad_crop_flip(pixels, flip=False)


def cutout(pixels: int = 16) -> Augment:
    """Blackens a square at a random place: DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552.

    Its centre is any pixel of the image, so that part of the square may lie outside.

    Input   image  (batch, height, width, channels) uint8 or float
    Output  image  same shape and type

    Args:
        pixels: side of the square.
    Raises:
        InputError: pixels is less than 1.
    Differs from the paper: the square is black there after the mean is subtracted, which is the mean colour.
    """
    if pixels < 1:
        raise InputError(f"pixels must be at least 1, got {pixels}")

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        image = raw["image"]

        def inside(stream: int, size: int) -> tf.Tensor:
            first = _draw(seeds, stream, size)[:, None] - pixels // 2
            numbers = tf.range(size, dtype=tf.int64)
            return (numbers >= first) & (numbers < first + pixels)  # (batch, size)

        square = inside(0, image.shape[1])[:, :, None, None] & inside(1, image.shape[2])[:, None, :, None]
        return {**raw, "image": tf.where(square, tf.zeros((), image.dtype), image)}

    return augment


def chain(*augments: Augment) -> Augment:
    """One after the other, each with seeds of its own, so that their draws are independent."""

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        for number, step in enumerate(augments):
            raw = step(raw, tf.bitcast(hashed(seeds, 1_000 + number), tf.int32), fetch)
        return raw

    return augment


def _draw(seeds: tf.Tensor, stream: int, below: int) -> tf.Tensor:
    """A whole number 0 .. below - 1 for each example, (batch,) int64: its hash's upper 24 bits, scaled."""
    upper = tf.cast(tf.bitwise.right_shift(hashed(seeds, stream), tf.constant(40, tf.uint64)), tf.int64)
    return (upper * below) // 2**24
