"""Segmentation in the serving model: image files -> pixels of one size and the files' own; logits -> class maps of that size."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerastoolkit.serving.class_maps import IGNORED
from kerastoolkit.serving.images import decode_pixels, resize_images

# Output rows that are made at once: what a class map needs is then bounded by its width, not by its size.
BAND = 64


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DecodeSizedImages(keras.layers.Layer):
    """Image files of any size -> a batch of pixels of one size, and the sizes that the files had.

    Input   contents  (batch,) string, the bytes of JPEG, PNG, BMP or GIF files
    Output  a dict:
            image     (batch, height, width, channels) float32, 0..255, stretched if the aspect ratio differs
            size      (batch, 2) int32, height and width of the file's image

    Args:
        height, width: the size wanted, in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
    """

    def __init__(self, height: int, width: int, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width, self.channels = height, width, channels

    def call(self, contents):
        def decode(one):
            pixels = decode_pixels(one, self.channels)
            image = resize_images(pixels, self.height, self.width)
            return {"image": tf.ensure_shape(image, (self.height, self.width, self.channels)), "size": tf.shape(pixels)[:2]}

        spec = {"image": tf.TensorSpec((self.height, self.width, self.channels), tf.float32),
                "size": tf.TensorSpec((2,), tf.int32)}  # fmt: skip
        return tf.map_fn(decode, contents, fn_output_signature=spec)

    def compute_output_spec(self, contents):
        batch = contents.shape[0]
        image = keras.KerasTensor((batch, self.height, self.width, self.channels), dtype="float32")
        return {"image": image, "size": keras.KerasTensor((batch, 2), dtype="int32")}

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width, "channels": self.channels}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class ClassMaps(keras.layers.Layer):
    """Logits -> the most probable class of each pixel at the size of each image's file; of equal ones the first.

    Logits are interpolated bilinearly between the centres of the network's pixels, a band of rows after the other.

    Input   logits  (batch, height, width, classes) float
            size    (batch, 2) int32, height and width of the image
    Output  map     (batch, the largest height, the largest width) uint8; 255 beyond the image
    """

    def call(self, logits, size):
        largest = tf.reduce_max(size, axis=0)

        def answer(one):
            logits, size = one
            beyond = largest - size
            return tf.pad(class_map(logits, size), [[0, beyond[0]], [0, beyond[1]]], constant_values=IGNORED)

        return tf.map_fn(answer, (logits, size), fn_output_signature=tf.TensorSpec((None, None), tf.uint8))

    def compute_output_spec(self, logits, size):
        return keras.KerasTensor((logits.shape[0], None, None), dtype="uint8")


def class_map(logits: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """(height, width, classes) float, (2,) int32 -> the most probable classes at that size, uint8."""
    if logits.shape[-1] > IGNORED:
        raise ValueError(f"classes must be at most {IGNORED}, got {logits.shape[-1]}")
    wide = tf.image.resize(logits[None], (tf.shape(logits)[0], size[1]))[0]  # bilinear interpolation goes side by side
    last = tf.shape(logits)[0] - 1
    scale = tf.cast(last + 1, tf.float32) / tf.cast(size[0], tf.float32)

    def band(start):
        places = (tf.cast(start + tf.range(BAND), tf.float32) + 0.5) * scale - 0.5
        places = tf.clip_by_value(places, 0.0, tf.cast(last, tf.float32))
        above = tf.cast(places, tf.int32)
        share = (places - tf.cast(above, tf.float32))[:, None, None]
        rows = tf.gather(wide, above) * (1.0 - share) + tf.gather(wide, tf.minimum(above + 1, last)) * share
        return tf.cast(tf.argmax(rows, axis=-1), tf.uint8)

    bands = tf.map_fn(band, tf.range(0, size[0], BAND), fn_output_signature=tf.TensorSpec((BAND, None), tf.uint8))
    return tf.reshape(bands, (-1, size[1]))[: size[0]]
