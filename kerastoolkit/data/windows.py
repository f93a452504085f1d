"""Large images with masks as many small examples: windows that cover each image side by side, at its own resolution."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from kerastoolkit.experiment import Source
from kerastoolkit.serving.class_maps import IGNORED, ClassCoding, decode_class_map
from kerastoolkit.serving.images import decode_pixels

AT_ONCE = 100  # truths that are read together for their sizes
CHANNELS = 3


def image_windows(source: Source, coding: ClassCoding, height: int, width: int) -> Source:
    """A source whose examples are windows of the images of another, all of one size.

    Windows lie side by side, as few as cover the image and evenly spread, so that the last one ends where the image does. Where
    an image is smaller than a window, the window is black beyond it and its mask has no class there.

    Raw examples: image () string, a PNG file of the window; truth () string, a PNG file of its classes (``index_coding``).

    Args:
        source: images with their truths, which are read once for their sizes.
        coding: of its truths.
        height, width: of a window, in pixels.
    """
    corners = [(number, top, left) for number, (rows, columns) in enumerate(_sizes(source))
               for top in _starts(rows, height) for left in _starts(columns, width)]  # fmt: skip
    with tf.init_scope(), tf.device("CPU:0"):
        held = tf.constant(corners, tf.int64)

    def cut(one: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        image, truth, corner = one
        top, left = tf.unstack(tf.cast(corner, tf.int32))

        def window(pixels: Any, beyond: int) -> Any:
            part = pixels[top : top + height, left : left + width]
            missing = [[0, height - tf.shape(part)[0]], [0, width - tf.shape(part)[1]], [0, 0]]
            return tf.io.encode_png(tf.pad(part, missing, constant_values=beyond), compression=1)

        return window(decode_pixels(image, CHANNELS), 0), window(decode_class_map(truth, coding)[..., None], IGNORED)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        places = tf.gather(held, indices)
        raw = source.fetch(places[:, 0])
        spec = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.string))
        image, truth = tf.map_fn(cut, (raw["image"], raw["truth"], places[:, 1:]), fn_output_signature=spec)
        return {"image": image, "truth": truth}

    return Source(len(corners), fetch, name=source.name and (lambda index: source.name(corners[int(index)][0])))


def with_class_truths(source: Source, coding: ClassCoding) -> Source:
    """The same whole images, whose truths are PNG files of classes (``index_coding``), as those of windows are."""

    def recode(truth: Any) -> Any:
        return tf.io.encode_png(decode_class_map(truth, coding)[..., None], compression=1)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        raw = source.fetch(indices)
        return {**raw, "truth": tf.map_fn(recode, raw["truth"])}

    return dataclasses.replace(source, fetch=fetch)


def _sizes(source: Source) -> np.ndarray:
    """Height and width of each example's truth, (examples, 2): a PNG file has them at bytes 16 to 23, the width first."""
    found = []
    for part in np.array_split(np.arange(source.size), -(-source.size // AT_ONCE)):
        headers = (contents[16:24] for contents in source.fetch(part)["truth"].numpy())
        found += [np.frombuffer(header, ">u4")[::-1] for header in headers]
    return np.array(found, np.int64).reshape(-1, 2)


def _starts(size: int, side: int) -> np.ndarray:
    """Where windows of ``side`` begin that cover ``size`` pixels."""
    return np.linspace(0, max(0, size - side), num=-(-size // side)).astype(np.int64)
