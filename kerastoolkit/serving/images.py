"""Images in the serving model: file bytes -> pixels of one size, and probabilities -> class names.

``decode_image`` is the only place where an image file becomes pixels, so that what a model is trained on and
what it is served with cannot differ.
"""

from __future__ import annotations

import keras
import tensorflow as tf

# The largest image that is decoded. A PNG of 389 KB can hold 20000 x 20000 pixels, 1.2 GB once decoded; 64
# million are more than most cameras take, and 192 MB.
MAX_PIXELS = 64_000_000


def decode_image(contents: tf.Tensor, height: int, width: int, channels: int) -> tf.Tensor:
    """One image file -> pixels of the given size, stretched if the aspect ratio differs: ``decode_pixels``, resized.

    Input   contents  () string, the bytes of a file
    Output  pixels    (height, width, channels) float32, 0..255
    """
    return resize_images(decode_pixels(contents, channels), height, width)


def decode_pixels(contents: tf.Tensor, channels: int) -> tf.Tensor:
    """One image file -> its pixels.

    Reads JPEG, PNG (8 and 16 bits), BMP (24 and 32 bits) and the first frame of GIF. Grey is repeated for 3
    channels, colour is weighed to grey for 1, alpha is dropped; a camera's orientation tag is not applied.

    Input   contents  () string, the bytes of a file
    Output  pixels    (height, width, channels) uint8

    Args:
        channels: 1 (grey) or 3 (red, green, blue).
    Raises:
        tf.errors.InvalidArgumentError: the bytes are no such file, are cut short, or hold more than
            MAX_PIXELS.
    """
    header = tf.io.decode_raw(contents, tf.uint8, fixed_length=30)
    is_jpeg, is_gif, is_bmp = (_starts_with(header, magic) for magic in (b"\xff\xd8\xff", b"GIF", b"BM"))
    # TensorFlow takes the palette of a BMP for grey values, and reads formats whose size is not read here.
    known = is_jpeg | is_gif | (is_bmp & (header[28] >= 24)) | _starts_with(header, b"\x89PNG")
    size = tf.cond(is_jpeg, lambda: _jpeg_size(contents), lambda: _other_size(header, is_gif, is_bmp))
    too_large = f"an image must have at most {MAX_PIXELS:,} pixels, got"
    checks = [
        tf.debugging.Assert(known, ["an image must be JPEG, PNG, GIF or BMP with 24 or 32 bits per pixel"]),
        tf.debugging.Assert(size <= MAX_PIXELS, [too_large, size]),
    ]
    with tf.control_dependencies(checks):
        contents = tf.identity(contents)
    image = tf.cond(
        is_jpeg,
        lambda: _decode_jpeg(contents, channels),
        lambda: tf.cond(
            is_bmp,
            lambda: _decode_bmp(contents, channels),
            lambda: tf.cond(
                is_gif,
                lambda: _decode_gif(contents, channels),
                lambda: tf.io.decode_png(contents, channels=channels),
            ),
        ),
    )
    image.set_shape((None, None, channels))
    return image


def resize_images(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Pixels of any size -> of the given size: antialiased bilinear, stretched if the aspect ratio differs.

    Images that have the size already are left as they are.

    Input   pixels  (batch, any height, any width, channels) or the same without batch, any number type
    Output  pixels  (batch, height, width, channels) float32, in the range of the input
    """
    return tf.image.resize(tf.cast(pixels, tf.float32), (height, width), antialias=True)


def _starts_with(header: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.reduce_all(header[: len(magic)] == tf.constant(list(magic), tf.uint8))


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    """Height times width of a JPEG file, () float64."""
    return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(contents)[:2], tf.float64))


def _other_size(header: tf.Tensor, is_gif: tf.Tensor, is_bmp: tf.Tensor) -> tf.Tensor:
    """Height times width that the first bytes of a GIF, BMP or PNG file tell, () float64."""
    # float64 holds any product of two 32-bit numbers without wrapping round.
    numbers = tf.cast(header, tf.float64)

    def number(digits: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(digits, tf.constant([256.0**n for n in range(digits.shape[0])], tf.float64), 1)

    gif = number(numbers[6:8]) * number(numbers[8:10])
    # The height of a BMP is negative, in two's complement, where its rows run from top to bottom.
    bmp_height = number(numbers[22:26])
    bmp = number(numbers[18:22]) * tf.minimum(bmp_height, 2.0**32 - bmp_height)
    png = number(numbers[19:15:-1]) * number(numbers[23:19:-1])
    return tf.where(is_gif, gif, tf.where(is_bmp, bmp, png))


def _decode_jpeg(contents: tf.Tensor, channels: int) -> tf.Tensor:
    def decode(channels: int) -> tf.Tensor:
        return tf.io.decode_jpeg(contents, channels=channels, dct_method="INTEGER_ACCURATE")

    if channels == 3:
        return decode(3)
    # The decoder has no way from the four inks of print (CMYK) to grey but through colours.
    is_print = tf.image.extract_jpeg_shape(contents)[2] == 4
    return tf.cond(is_print, lambda: tf.image.rgb_to_grayscale(decode(3)), lambda: decode(1))


def _decode_bmp(contents: tf.Tensor, channels: int) -> tf.Tensor:
    image = tf.io.decode_bmp(contents)
    # One channel becomes 0, 0, 0; of four the last is alpha.
    rgb = tf.gather(image, tf.minimum(tf.range(3), tf.shape(image)[2] - 1), axis=2)
    return _to_channels(rgb, channels)


def _decode_gif(contents: tf.Tensor, channels: int) -> tf.Tensor:
    return _to_channels(tf.io.decode_image(contents, channels=3, expand_animations=False), channels)


def _to_channels(rgb: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.image.rgb_to_grayscale(rgb) if channels == 1 else rgb


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DecodeImages(keras.layers.Layer):
    """Image files of any size -> a batch of pixels: ``decode_image`` for each.

    Input   contents  (batch,) string, the bytes of JPEG, PNG, BMP or GIF files
    Output  pixels    (batch, height, width, channels) float32, 0..255

    Args:
        height, width: the size wanted, in pixels; images of another aspect ratio are stretched.
        channels: 1 (grey) or 3 (red, green, blue).
    Raises:
        ValueError: height or width is less than 1, or channels is neither 1 nor 3.
    """

    def __init__(self, height: int, width: int, channels: int, **kwargs):
        super().__init__(**kwargs)
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        self.height, self.width, self.channels = height, width, channels

    def call(self, contents):
        return tf.map_fn(
            lambda one: decode_image(one, self.height, self.width, self.channels),
            contents,
            fn_output_signature=tf.TensorSpec((self.height, self.width, self.channels), tf.float32),
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, self.channels)

    def compute_output_spec(self, contents):
        return keras.KerasTensor(self.compute_output_shape(contents.shape), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width, "channels": self.channels}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class ResizeImages(keras.layers.Layer):
    """Batches of pixels -> pixels of one size, by ``resize_images``.

    Input   pixels  (batch, any height, any width, channels), any number type
    Output  pixels  (batch, height, width, channels) float32, in the range of the input

    Args:
        height, width: the size wanted, in pixels; images of another aspect ratio are stretched.
    Raises:
        ValueError: height or width is less than 1.
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        self.height, self.width = height, width

    def call(self, pixels):
        return resize_images(pixels, self.height, self.width)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, input_shape[3])

    def compute_output_spec(self, pixels):
        return keras.KerasTensor(self.compute_output_shape(pixels.shape), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class BlueGreenRed(keras.layers.Layer):
    """Red, green, blue -> blue, green, red minus their means over ImageNet, as VGG's and ResNet's weights of keras.applications
    were trained (its preprocessing mode "caffe").

    Input   pixels  (batch, height, width, 3) float32, 0..255
    Output          same shape
    """

    MEANS = (103.939, 116.779, 123.68)

    def call(self, pixels):
        return pixels[..., ::-1] - tf.constant(self.MEANS, pixels.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class ClassNames(keras.layers.Layer):
    """Probabilities -> the name of the most probable class; of equal ones the first.

    Input   probabilities  (batch, classes) float
    Output  name           (batch,) string

    Args:
        classes: the names, in the order of the probabilities.
    """

    def __init__(self, classes, **kwargs):
        super().__init__(**kwargs)
        self.classes = list(classes)

    def call(self, probabilities):
        return tf.gather(tf.constant(self.classes), tf.argmax(probabilities, axis=-1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[:-1])

    def compute_output_spec(self, probabilities):
        return keras.KerasTensor(self.compute_output_shape(probabilities.shape), dtype="string")

    def get_config(self):
        return {**super().get_config(), "classes": list(self.classes)}
