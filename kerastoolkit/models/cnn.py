"""The plain convolutional network: convolutions and pools, then dense layers."""

from collections.abc import Sequence

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization, Dropout
from kerastoolkit.models._arguments import check_rate
from kerastoolkit.models._image import image_input


def cnn(
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    filters: Sequence[int] = (32, 64),
    convolutions: int = 1,
    kernel_size: int = 3,
    pooling: str = "max",
    dense: Sequence[int] = (128,),
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> keras.Model:
    """Plain convolutional network: LeCun et al. 1998, section II, https://doi.org/10.1109/5.726791.

    Each stage is ``convolutions`` times (convolution, ReLU), then a pool that halves height and width. The
    last stage is flattened and goes through the dense layers.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, fixed because of the flattening.
        filters: channels of each stage; the number of stages is its length.
        convolutions: convolutions in a stage.
        kernel_size: height and width of the kernels.
        pooling: "max" or "average", 2 x 2 with stride 2.
        dense: units of the hidden dense layers; () for none.
        dropout: rate after the flattening and after each hidden dense layer, in [0, 1).
        batch_norm: normalise each convolution's output before its ReLU; the convolutions then have no biases.
    Raises:
        ValueError: an argument is not one of the above, or the image is too small for the pools.
    Differs from the paper: ReLU, plain 2 x 2 pools without weights, zero padding, every filter sees every
    channel, and a linear output in place of radial basis functions.
    """
    _check(filters=filters, convolutions=convolutions, kernel_size=kernel_size, pooling=pooling, dense=dense)
    check_rate("dropout", dropout)
    if None in tuple(input_shape):
        raise ValueError(f"input_shape must be fixed for a network that flattens, got {input_shape!r}")
    image = image_input(input_shape=input_shape, classes=classes, smallest=2 ** len(filters))
    pool = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[pooling]

    x = image
    for stage, width in enumerate(filters, start=1):
        for index in range(1, convolutions + 1):
            x = _convolution(x, width, kernel_size, batch_norm, name=f"stage{stage}_conv{index}")
        x = pool(2, name=f"stage{stage}_pool")(x)  # (b, h / 2^stage, w / 2^stage, width)
    x = layers.Flatten(name="flatten")(x)
    if dropout:
        x = Dropout(dropout, name="dropout")(x)
    for index, units in enumerate(dense, start=1):
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=f"dense{index}")(x)
        if dropout:
            x = Dropout(dropout, name=f"dense{index}_dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="cnn")


def _convolution(x, filters, kernel_size, batch_norm, name):
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _check(*, filters, convolutions, kernel_size, pooling, dense):
    if not filters or min(filters) < 1:
        raise ValueError(f"filters must be one or more positive integers, got {filters!r}")
    if convolutions < 1:
        raise ValueError(f"convolutions must be at least 1, got {convolutions!r}")
    if kernel_size < 1:
        raise ValueError(f"kernel_size must be at least 1, got {kernel_size!r}")
    if pooling not in ("max", "average"):
        raise ValueError(f"pooling must be 'max' or 'average', got {pooling!r}")
    if dense and min(dense) < 1:
        raise ValueError(f"dense must be positive integers, or () for no hidden layer, got {dense!r}")
