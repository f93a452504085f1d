"""GoogLeNet (Inception v1): modules of parallel 1 x 1, 3 x 3, 5 x 5 convolutions and a pool, concatenated."""

from collections.abc import Sequence

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization, Dropout, LocalResponseNormalization
from kerastoolkit.models._arguments import check_rate
from kerastoolkit.models._image import image_input

# Szegedy et al. 2014, table 1: channels of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj. Between
# the stages are pools that halve the image.
STAGES = {
    3: {"a": (64, 96, 128, 16, 32, 32), "b": (128, 128, 192, 32, 96, 64)},
    4: {
        "a": (192, 96, 208, 16, 48, 64),
        "b": (160, 112, 224, 24, 64, 64),
        "c": (128, 128, 256, 24, 64, 64),
        "d": (112, 144, 288, 32, 64, 64),
        "e": (256, 160, 320, 32, 128, 128),
    },
    5: {"a": (256, 160, 320, 32, 128, 128), "b": (384, 192, 384, 48, 128, 128)},
}
# Section 5: where the auxiliary classifiers take their features, and the rate of their dropout.
AUXILIARY = {"inception4a": "auxiliary_1", "inception4d": "auxiliary_2"}
AUXILIARY_DROPOUT = 0.7


def googlenet(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    auxiliary: bool = True,
    batch_norm: bool = False,
    dropout: float = 0.4,
) -> keras.Model:
    """GoogLeNet (Inception v1): Szegedy et al. 2014, table 1, https://arxiv.org/abs/1409.4842.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, classes) float32, unnormalised; with the auxiliary classifiers a dict of three
                    such tensors, "logits", "auxiliary_1" and "auxiliary_2" (from inception 4a and 4d). The
                    paper trains on the sum of their losses, the auxiliary ones times 0.3, and answers with
                    "logits" alone.

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels: at least 32 x 32, and with the auxiliary classifiers
            at least 65 x 65 and fixed, because they flatten.
        auxiliary: whether the two auxiliary classifiers are there.
        batch_norm: normalise each convolution's output before its ReLU, in place of biases and of local
            response normalization (Ioffe & Szegedy 2015, section 4.2.1).
        dropout: rate before the last layer, in [0, 1); the auxiliary classifiers have 0.7.
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: without batch_norm, none known but the He-normal initialisation.
    """
    check_rate("dropout", dropout)
    if auxiliary and None in tuple(input_shape):
        raise ValueError(f"input_shape must be fixed for the auxiliary classifiers, got {input_shape!r}")
    # The auxiliary classifiers pool 5 x 5 of every 16 pixels.
    image = image_input(input_shape=input_shape, classes=classes, smallest=65 if auxiliary else 32)

    x = _convolution(image, 64, 7, batch_norm, stride=2, name="stem_conv1")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool1")(x)
    if not batch_norm:
        x = LocalResponseNormalization(bias=1.0, alpha=2e-5, name="stem_norm1")(x)
    x = _convolution(x, 64, 1, batch_norm, name="stem_conv2_reduce")
    x = _convolution(x, 192, 3, batch_norm, name="stem_conv2")
    if not batch_norm:
        x = LocalResponseNormalization(bias=1.0, alpha=2e-5, name="stem_norm2")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool2")(x)  # (b, h / 8, w / 8, 192)

    outputs = {}
    for stage, modules in STAGES.items():
        for letter, channels in modules.items():
            name = f"inception{stage}{letter}"
            x = _inception(x, channels, batch_norm, name=name)
            if auxiliary and name in AUXILIARY:
                outputs[AUXILIARY[name]] = _auxiliary_classifier(x, classes, batch_norm, name=AUXILIARY[name])
        if stage < 5:
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"stage{stage}_pool")(x)
    logits = _head(x, classes, dropout)
    return keras.Model(image, {"logits": logits, **outputs} if auxiliary else logits, name="googlenet")


def googlenet_cifar(
    *,
    classes: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    width: float = 1.0,
    dropout: float = 0.4,
) -> keras.Model:
    """GoogLeNet for small images, with batch norm: after Szegedy et al. 2014, table 1, https://arxiv.org/abs/1409.4842.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 4 x 4; height and width may be None.
        width: multiplies the channels of every convolution; 0.25 has a fourteenth of the weights.
        dropout: rate before the last layer, in [0, 1).
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: one 3 x 3 convolution of stride 1 in place of the stem, which would leave 4 of 32
    pixels; batch norm after every convolution (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167); no
    auxiliary classifiers.
    """
    check_rate("dropout", dropout)
    if not 0 < width <= 4:
        raise ValueError(f"width must be greater than 0 and at most 4, got {width!r}")
    image = image_input(input_shape=input_shape, classes=classes, smallest=4)

    x = _convolution(image, _scaled(192, width), 3, batch_norm=True, name="stem_conv")
    for stage, modules in STAGES.items():
        for letter, channels in modules.items():
            scaled = [_scaled(number, width) for number in channels]
            x = _inception(x, scaled, batch_norm=True, name=f"inception{stage}{letter}")
        if stage < 5:
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"stage{stage}_pool")(x)
    return keras.Model(image, _head(x, classes, dropout), name="googlenet_cifar")


def _inception(x, channels: Sequence[int], batch_norm, name):
    """Four branches over the same input, concatenated (figure 2b)."""
    one, three_reduce, three, five_reduce, five, pool = channels
    branch1 = _convolution(x, one, 1, batch_norm, name=f"{name}_1x1")
    branch3 = _convolution(x, three_reduce, 1, batch_norm, name=f"{name}_3x3_reduce")
    branch3 = _convolution(branch3, three, 3, batch_norm, name=f"{name}_3x3")
    branch5 = _convolution(x, five_reduce, 1, batch_norm, name=f"{name}_5x5_reduce")
    branch5 = _convolution(branch5, five, 5, batch_norm, name=f"{name}_5x5")
    branch_pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branch_pool = _convolution(branch_pool, pool, 1, batch_norm, name=f"{name}_pool_projection")
    return layers.Concatenate(name=name)([branch1, branch3, branch5, branch_pool])


def _auxiliary_classifier(x, classes, batch_norm, name):
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)  # (b, 4, 4, channels) for 224 pixels
    x = _convolution(x, 128, 1, batch_norm, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", kernel_initializer="he_normal", name=f"{name}_dense")(x)
    x = Dropout(AUXILIARY_DROPOUT, name=f"{name}_dropout")(x)
    return layers.Dense(classes, name=name)(x)


def _head(x, classes, dropout):
    x = layers.GlobalAveragePooling2D(name="pool")(x)  # (b, 1024)
    x = Dropout(dropout, name="dropout")(x)
    return layers.Dense(classes, name="logits")(x)


def _convolution(x, filters, size, batch_norm, stride=1, *, name):
    x = layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _scaled(number, width):
    return max(1, round(number * width))
