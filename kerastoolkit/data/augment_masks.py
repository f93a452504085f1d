"""Changes to training images that move their masks with them.

Each is a function (raw batch, seeds, fetch) -> raw batch, as those of ``augment``: what happens to an example depends on its own
seed pair alone.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from kerastoolkit.data.augment import Augment
from kerastoolkit.experiment import InputError
from kerastoolkit.serving.class_maps import IGNORED
from kerastoolkit.serving.random_numbers import uniforms


def move_with_masks(*, scale: tuple[float, float] = (0.75, 1.5), rotation: float = 0.0, flip: bool = True) -> Augment:
    """Enlarges or shrinks, turns and mirrors an image and its mask by one and the same map, and places the result at random.

    An enlarged image is cropped, a shrunken one has a border, whose pixels are ignored. Pixels are interpolated bilinearly, masks
    (and ``weight``, where there is one) take the nearest.

    Input   image   (batch, height, width, channels) float32, 0..255
            mask    (batch, height, width) uint8
            weight  (batch, height, width) float32, or none
    Output  the same; beyond the image's border grey (127.5), 255 (ignored) and 0

    Args:
        scale: the least and the largest, above 0; what is between is drawn evenly in its logarithm.
        rotation: the largest, in degrees, to either side.
        flip: whether half of the images are mirrored left and right.
    Raises:
        InputError: the scales are not above 0 and rising, or the rotation is negative.
    """
    low, high = scale
    if not 0 < low <= high < math.inf:
        raise InputError(f"scale must be two numbers above 0, the second not below the first, got {low} and {high}")
    if rotation < 0:
        raise InputError(f"rotation must be at least 0, got {rotation}")

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        height, width = (float(size) for size in raw["mask"].shape[1:3])
        draws = uniforms(seeds, (5,))
        image = tf.cast(tf.ensure_shape(raw["image"], (*raw["mask"].shape, None)), tf.float32)
        if low == high == 1 and not rotation:  # what follows comes to the same, in more time
            mirrored = (draws[:, 2] < 0.5) & flip
            moving = {"image": image, **{name: raw[name] for name in ("mask", "weight") if name in raw}}
            return {**raw, **{name: _mirrored(values, mirrored) for name, values in moving.items()}}
        size = tf.exp(math.log(low) + (math.log(high) - math.log(low)) * draws[:, 0])
        angle = math.radians(rotation) * (2.0 * draws[:, 1] - 1.0)
        mirror = tf.where(draws[:, 2] < 0.5, -1.0, 1.0) if flip else tf.ones_like(size)
        cos, sin = tf.cos(angle) / size, tf.sin(angle) / size
        # From output to input, (x, y) from the centre of each; the centre moves as far as the crop or the border leaves room.
        room = tf.abs(1.0 - 1.0 / size)[:, None] * (draws[:, 3:] - 0.5)
        across, down = room[:, 0] * width, room[:, 1] * height
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        zero = tf.zeros_like(size)
        row_x = (cos * mirror, -sin, across + middle_x - cos * mirror * middle_x + sin * middle_y)
        row_y = (sin * mirror, cos, down + middle_y - sin * mirror * middle_x - cos * middle_y)
        transforms = tf.stack([*row_x, *row_y, zero, zero], axis=1)

        def moved(values, interpolation, beyond):
            return tf.raw_ops.ImageProjectiveTransformV3(
                images=values, transforms=transforms, output_shape=tf.shape(values)[1:3], interpolation=interpolation,
                fill_mode="CONSTANT", fill_value=beyond)  # fmt: skip

        changed = {"image": moved(image, "BILINEAR", 127.5),
                   "mask": moved(raw["mask"][..., None], "NEAREST", float(IGNORED))[..., 0]}  # fmt: skip
        if "weight" in raw:
            changed["weight"] = moved(raw["weight"][..., None], "NEAREST", 0.0)[..., 0]
        return {**raw, **changed}

    return augment


def _mirrored(values: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """(batch, height, width, ...) with those of ``which`` (batch,) mirrored left and right."""
    which = tf.reshape(which, (-1, *[1] * (len(values.shape) - 1)))
    return tf.where(which, tf.reverse(values, axis=[2]), values)


def change_colours(colours: float = 0.2) -> Augment:
    """Changes contrast, brightness and saturation of each image: factors within 1 - colours .. 1 + colours, and a shift of up
    to colours times 64.

    Input   image  (batch, height, width, channels) float32, 0..255
    Output  image  same shape; it may leave that range

    Raises:
        InputError: colours is not in [0, 1).
    """
    if not 0 <= colours < 1:
        raise InputError(f"colours must be in [0, 1), got {colours}")

    def augment(raw: dict[str, Any], seeds: tf.Tensor, fetch: Any = None) -> dict[str, Any]:
        image = tf.cast(raw["image"], tf.float32)
        if not colours:
            return {**raw, "image": image}
        contrast, shift, saturation = tf.unstack(colours * (2.0 * uniforms(seeds, (3, 1, 1, 1)) - 1.0), axis=1)
        image = (image - 127.5) * (1.0 + contrast) + 127.5 + 64.0 * shift
        grey = tf.reduce_mean(image, axis=-1, keepdims=True)
        return {**raw, "image": grey + (image - grey) * (1.0 + saturation)}

    return augment
