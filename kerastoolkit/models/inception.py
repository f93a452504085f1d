"""Inception v3: GoogLeNet's modules with factorised convolutions, as keras.applications has it."""

from pathlib import Path

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights


def inception_v3(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (299, 299, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """Inception v3: Szegedy et al. 2015, table 1, https://arxiv.org/abs/1512.00567.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights red, green, blue in
                    [-1, 1] (``keras.applications.inception_v3.preprocess_input``)
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 75 x 75; height and width may be None.
        weights: None; a file of this network's or keras.applications' weights
            (``kerastoolkit.weights.load_weights``); or "imagenet", which downloads those of
            keras.applications. With "imagenet" and classes other than 1000 the last layer stays random and
            all others are loaded.
    Raises:
        ValueError: input_shape or classes is impossible, or the weights do not fit.
    Differs from the paper: no auxiliary classifier, and the modules are those of the released model and
    keras.applications (three of figure 5, four of figure 6, two of figure 7, and reductions between).
    """
    image = image_input(input_shape=input_shape, classes=classes, smallest=75)

    x = _convolution(image, 32, 3, stride=2, padding="valid", name="stem_conv1")
    x = _convolution(x, 32, 3, padding="valid", name="stem_conv2")
    x = _convolution(x, 64, 3, name="stem_conv3")
    x = layers.MaxPooling2D(3, 2, name="stem_pool1")(x)
    x = _convolution(x, 80, 1, padding="valid", name="stem_conv4")
    x = _convolution(x, 192, 3, padding="valid", name="stem_conv5")
    x = layers.MaxPooling2D(3, 2, name="stem_pool2")(x)  # (b, 35, 35, 192) for 299 pixels
    for module, pool in enumerate((32, 64, 64)):
        x = _module_5x5(x, pool, name=f"mixed{module}")
    x = _reduction_to_17(x, name="mixed3")  # (b, 17, 17, 768)
    for module, width in enumerate((128, 160, 160, 192), start=4):
        x = _module_7x7(x, width, name=f"mixed{module}")
    x = _reduction_to_8(x, name="mixed8")  # (b, 8, 8, 1280)
    for module in (9, 10):
        x = _module_wide(x, name=f"mixed{module}")  # (b, 8, 8, 2048)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(classes, name="logits")(x)

    model = keras.Model(image, logits, name="inception_v3")
    except_layers = () if classes == 1000 else ("logits", "predictions")
    load_image_weights(model, weights, reference=keras.applications.InceptionV3, except_layers=except_layers)
    return model


def _module_5x5(x, pool, name):
    """Figure 5, but the left branch still has a 5 x 5 kernel."""
    branch1 = _convolution(x, 64, 1, name=f"{name}_1x1")
    branch5 = _convolution(x, 48, 1, name=f"{name}_5x5_reduce")
    branch5 = _convolution(branch5, 64, 5, name=f"{name}_5x5")
    branch3 = _convolution(x, 64, 1, name=f"{name}_3x3_reduce")
    branch3 = _convolution(branch3, 96, 3, name=f"{name}_3x3_1")
    branch3 = _convolution(branch3, 96, 3, name=f"{name}_3x3_2")
    return _concatenate([branch1, branch5, branch3, _pool_branch(x, pool, name)], name)


def _reduction_to_17(x, name):
    """Figure 10: convolutions and a pool of stride 2 side by side."""
    branch = _convolution(x, 384, 3, stride=2, padding="valid", name=f"{name}_3x3")
    double = _convolution(x, 64, 1, name=f"{name}_double_reduce")
    double = _convolution(double, 96, 3, name=f"{name}_double_1")
    double = _convolution(double, 96, 3, stride=2, padding="valid", name=f"{name}_double_2")
    pool = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return _concatenate([branch, double, pool], name)


def _module_7x7(x, width, name):
    """Figure 6 with n = 7: 7 x 7 kernels as 1 x 7 after 7 x 1."""
    branch1 = _convolution(x, 192, 1, name=f"{name}_1x1")
    single = _convolution(x, width, 1, name=f"{name}_7x7_reduce")
    single = _convolution(single, width, (1, 7), name=f"{name}_7x7_1")
    single = _convolution(single, 192, (7, 1), name=f"{name}_7x7_2")
    double = _convolution(x, width, 1, name=f"{name}_double_reduce")
    double = _convolution(double, width, (7, 1), name=f"{name}_double_1")
    double = _convolution(double, width, (1, 7), name=f"{name}_double_2")
    double = _convolution(double, width, (7, 1), name=f"{name}_double_3")
    double = _convolution(double, 192, (1, 7), name=f"{name}_double_4")
    return _concatenate([branch1, single, double, _pool_branch(x, 192, name)], name)


def _reduction_to_8(x, name):
    branch3 = _convolution(x, 192, 1, name=f"{name}_3x3_reduce")
    branch3 = _convolution(branch3, 320, 3, stride=2, padding="valid", name=f"{name}_3x3")
    branch7 = _convolution(x, 192, 1, name=f"{name}_7x7_reduce")
    branch7 = _convolution(branch7, 192, (1, 7), name=f"{name}_7x7_1")
    branch7 = _convolution(branch7, 192, (7, 1), name=f"{name}_7x7_2")
    branch7 = _convolution(branch7, 192, 3, stride=2, padding="valid", name=f"{name}_7x7_3")
    pool = layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return _concatenate([branch3, branch7, pool], name)


def _module_wide(x, name):
    """Figure 7: the 3 x 3 kernels split into 1 x 3 and 3 x 1 side by side."""
    branch1 = _convolution(x, 320, 1, name=f"{name}_1x1")
    single = _convolution(x, 384, 1, name=f"{name}_3x3_reduce")
    single = _split_3x3(single, name=f"{name}_3x3")
    double = _convolution(x, 448, 1, name=f"{name}_double_reduce")
    double = _convolution(double, 384, 3, name=f"{name}_double_1")
    double = _split_3x3(double, name=f"{name}_double_2")
    return _concatenate([branch1, single, double, _pool_branch(x, 192, name)], name)


def _split_3x3(x, name):
    across = _convolution(x, 384, (1, 3), name=f"{name}_across")
    down = _convolution(x, 384, (3, 1), name=f"{name}_down")
    return _concatenate([across, down], name)


def _pool_branch(x, filters, name):
    x = layers.AveragePooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    return _convolution(x, filters, 1, name=f"{name}_pool_projection")


def _concatenate(branches, name):
    return layers.Concatenate(name=name)(branches)


def _convolution(x, filters, size, *, stride=1, padding="same", name):
    """Convolution without bias, batch norm without scale (the next convolution can scale), ReLU."""
    x = layers.Conv2D(
        filters, size, stride, padding=padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = BatchNormalization(scale=False, momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
