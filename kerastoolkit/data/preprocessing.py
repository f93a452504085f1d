"""From decoded examples to what a network takes, as Keras models that are exported with it."""

from __future__ import annotations

import keras

from kerastoolkit.experiment import Data, InputError
from kerastoolkit.serving.images import BlueGreenRed, ResizeImages
from kerastoolkit.serving.series import WindowFeatures


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
    return keras.Model(pixels, _standardisation(images)(outputs), name="preprocess")


def standardise_sized(images: Data, *, size: tuple[int, int] | None, imagenet: bool = False) -> keras.Model:
    """``standardise``, past which the size that an image had in its file is handed to the answers.

    Input   image  (batch, height, width, channels) float32, 0..255, brought to ``size``, or as the largest of the batch
            size   (batch, 2) int32, the height and width of the image's file, in pixels
    Output  a dict: image, same shape, (pixel - mean) / standard deviation in each channel; size

    Args:
        images: a data set whose ``about`` has channels, mean and std.
        size: (height, width) that images are brought to; None where they keep their own.
        imagenet: blue, green and red minus their means over ImageNet in the place of this, as the weights of keras.applications'
            VGG and ResNet need it.
    Raises:
        InputError: size is less than 1 x 1.
    """
    if size is not None and min(size) < 1:
        raise InputError(f"size must be at least 1 x 1, got {size[0]} x {size[1]}")
    pixels = keras.Input((*(size or (None, None)), images.about["channels"]), name="image")
    sizes = keras.Input((2,), dtype="int32", name="size")
    outputs = (BlueGreenRed(name="standardise") if imagenet else _standardisation(images))(pixels)
    return keras.Model({"image": pixels, "size": sizes}, {"image": outputs, "size": sizes}, name="preprocess")


def _standardisation(images: Data) -> keras.layers.Layer:
    return keras.layers.Normalization(
        mean=[float(value) for value in images.about["mean"]],
        variance=[float(value) ** 2 for value in images.about["std"]],
        name="standardise",
    )


def window_features(series: Data) -> keras.Model:
    """Windows of unscaled numbers -> standardised features, by means and deviations of the training range alone.

    Input   window    (batch, window, columns) float32, unscaled
            time      (batch,) int64, seconds since 1970 of the window's last row
    Output  a dict: features, last and time, as ``serving.series.WindowFeatures`` states them

    Args:
        series: a data set of ``data.series``.
    """
    about = series.about
    inputs = {
        "window": keras.Input((about["window"], len(about["columns"])), name="window"),
        "time": keras.Input((), dtype="int64", name="time"),
    }
    features = WindowFeatures(about["mean"], about["deviation"], about["logarithmic"], about["places"], about["calendar"],
                              about["step"], name="window_features")  # fmt: skip
    return keras.Model(inputs, features(inputs), name="preprocess")


def intensities(images: Data) -> keras.Model:
    """Pixels -> intensities between 0 and 1.

    Input   image  (batch, height, width, channels) float32, 0..255, of the data's own size
    Output         same shape, 0..1
    """
    pixels = keras.Input(images.about["shape"], name="image")
    return keras.Model(pixels, keras.layers.Rescaling(1 / 255, name="intensities")(pixels), name="preprocess")


# Of ImageNet's red, green and blue, 0..1, as torchvision standardises them.
IMAGENET_MEANS, IMAGENET_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_sized(height: int, width: int, *, blue_green_red: bool = False) -> keras.Model:
    """Pixels of letterboxed images -> what networks with weights of ImageNet take, past which the size that an image had in its
    file is handed to the answers.

    Input   image  (batch, height, width, 3) float32, 0..255
            size   (batch, 2) int32, the height and width of the image's file, in pixels
    Output  a dict: image, same shape, as torchvision's networks take it; size

    Args:
        blue_green_red: whether images are as keras.applications' VGG and ResNet take them instead.
    """
    pixels = keras.Input((height, width, 3), name="image")
    sizes = keras.Input((2,), dtype="int32", name="size")
    standardise = BlueGreenRed(name="standardise") if blue_green_red else keras.layers.Normalization(
        mean=[255 * mean for mean in IMAGENET_MEANS], variance=[(255 * each) ** 2 for each in IMAGENET_DEVIATIONS],
        name="standardise")  # fmt: skip
    return keras.Model({"image": pixels, "size": sizes}, {"image": standardise(pixels), "size": sizes}, name="preprocess")


def intensities_sized(height: int, width: int) -> keras.Model:
    """Pixels of letterboxed images -> intensities between 0 and 1, past which the size that an image had in its file is handed to
    the answers.

    Input   image  (batch, height, width, 3) float32, 0..255
            size   (batch, 2) int32, the height and width of the image's file, in pixels
    Output  a dict: image, same shape, 0..1; size
    """
    pixels = keras.Input((height, width, 3), name="image")
    sizes = keras.Input((2,), dtype="int32", name="size")
    intensities = keras.layers.Rescaling(1 / 255, name="intensities")(pixels)
    return keras.Model({"image": pixels, "size": sizes}, {"image": intensities, "size": sizes}, name="preprocess")
