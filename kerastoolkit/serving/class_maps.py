"""Class maps: which class each pixel of an image has, and how the PNG files that hold them are read.

``decode_class_map`` is for masks what ``images.decode_image`` is for images: the only place where a file becomes classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerastoolkit.serving.images import MAX_PIXELS

# The class of pixels whose class is not known: never learned from, never scored. So there are at most 255 classes.
IGNORED = 255

Colour = tuple[int, int, int]  # red, green, blue, 0..255


@dataclass(frozen=True)
class ClassCoding:
    """What the pixels of a PNG mean: by their grey values, or by their colours.

    Attributes:
        classes: the class of each grey value 0..255, or of each of ``colours``; IGNORED where there is none.
        colours: those that have a class, each once; all others are ignored. Empty where grey values tell.
    """

    classes: tuple[int, ...]
    colours: tuple[Colour, ...] = ()


def index_coding(classes: int | Mapping[int, int]) -> ClassCoding:
    """The coding of PNG files whose grey values are the classes 0 .. classes - 1, or what a dict {value: class} says."""
    known = {value: value for value in range(classes)} if isinstance(classes, int) else classes
    return ClassCoding(tuple(known.get(value, IGNORED) for value in range(256)))


def colour_coding(classes: Mapping[Colour, int]) -> ClassCoding:
    """The coding of PNG files in colours, or with a palette, from a dict {(red, green, blue): class}."""
    return ClassCoding(tuple(classes.values()), tuple(classes))


def decode_class_map(contents: tf.Tensor, coding: ClassCoding, height: int | None = None, width: int | None = None) -> tf.Tensor:
    """One PNG file -> the class of each pixel, at the file's own size or brought to another one.

    A pixel of another size has the class at its centre, as the pixels that ``images.resize_images`` makes have their colours from
    around their centres: mask and image do not drift apart. Alpha is dropped; TensorFlow turns a palette into its colours.

    Input   contents  () string, the bytes of a PNG file
    Output  map       (height, width) uint8, classes, IGNORED where the coding knows none

    Args:
        coding: what the file's pixels mean.
        height, width: the size wanted, in pixels; by default the file's own.
    Raises:
        tf.errors.InvalidArgumentError: the bytes are no PNG file, are cut short, or hold more than MAX_PIXELS.
    """
    header = tf.io.decode_raw(contents, tf.uint8, fixed_length=24)
    is_png = tf.reduce_all(header[:8] == tf.constant(list(b"\x89PNG\r\n\x1a\n"), tf.uint8))
    sides = tf.reshape(tf.cast(header[16:24], tf.float64), (2, 4))  # width and height, four bytes each, the highest first
    size = tf.reduce_prod(tf.linalg.matvec(sides, tf.constant([2.0**24, 2.0**16, 2.0**8, 1.0], tf.float64)))
    checks = [
        tf.debugging.Assert(is_png, ["a mask must be a PNG file"]),
        tf.debugging.Assert(size <= MAX_PIXELS, [f"a mask must have at most {MAX_PIXELS:,} pixels, got", size]),
    ]
    with tf.control_dependencies(checks):
        contents = tf.identity(contents)
    pixels = tf.io.decode_png(contents, channels=3 if coding.colours else 1)
    if height is not None and width is not None:
        pixels = tf.image.resize(pixels, (height, width), method="nearest")
    pixels = tf.cast(pixels, tf.int32)
    classes = tf.constant(coding.classes, tf.uint8)
    if not coding.colours:
        return tf.gather(classes, pixels[..., 0])
    # A colour as one number, looked up among the sorted ones.
    weights = np.array([2**16, 2**8, 1], np.int32)
    numbers = np.array(coding.colours, np.int32) @ weights
    order = np.argsort(numbers)
    found = tf.reduce_sum(pixels * weights, axis=-1)
    places = tf.minimum(tf.searchsorted(numbers[order], tf.reshape(found, [-1])), len(order) - 1)
    places = tf.reshape(places, tf.shape(found))
    known = tf.gather(tf.constant(numbers[order]), places) == found
    return tf.where(known, tf.gather(tf.gather(classes, order), places), tf.constant(IGNORED, tf.uint8))


def voc_palette(count: int, *, first: int = 0) -> tuple[Colour, ...]:
    """The colours of the Pascal VOC challenge for ``count`` classes from number ``first`` on; 0 is black, its background.

    The bits of a class's number go to red, green, blue in turn, its lowest three to their highest bits, and so on
    (VOCdevkit, VOClabelcolormap.m, http://host.robots.ox.ac.uk/pascal/VOC/).
    """

    def channel(number: int, shift: int) -> int:
        return sum((number >> (3 * place + shift) & 1) << (7 - place) for place in range(3))

    return tuple((channel(n, 0), channel(n, 1), channel(n, 2)) for n in range(first, first + count))
