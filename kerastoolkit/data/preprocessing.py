"""From decoded examples to what a network takes, as Keras models that are exported with it."""

from __future__ import annotations

import keras

from kerastoolkit.experiment import Data, InputError
from kerastoolkit.serving.images import ResizeImages


def standardise(images: Data, *, size: tuple[int, int] | None = None) -> keras.Model:
    """Pixels -> numbers of mean 0 and standard deviation 1 in each channel, over the training images.

    Input   image  (batch, height, width, channels) float32, 0..255; of the data's own size, or of ``size``
                   where its images have none (they are brought to it when they are decoded)
    Output         (batch, height, width, channels) float32, (pixel - mean) / standard deviation

    Args:
        images: a data set whose ``about`` has shape, channels, mean and std.
        size: (height, width) that the network takes; by default that of the data.
    Raises:
        InputError: size is missing where the data has none, or is less than 1 x 1.
    """
    if size is None and images.about["shape"] is None:
        raise InputError(f"the images of {images.name} have different sizes: say size=(height, width)")
    if size is not None and min(size) < 1:
        raise InputError(f"size must be at least 1 x 1, got {size[0]} x {size[1]}")
    shape = images.about["shape"] or (*size, images.about["channels"])
    pixels = outputs = keras.Input(shape, name="image")
    if size is not None and tuple(size) != tuple(shape[:2]):
        outputs = ResizeImages(*size, name="resize")(outputs)
    outputs = keras.layers.Normalization(
        mean=[float(value) for value in images.about["mean"]],
        variance=[float(value) ** 2 for value in images.about["std"]],
        name="standardise",
    )(outputs)
    return keras.Model(pixels, outputs, name="preprocess")
