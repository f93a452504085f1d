"""VGG: stages of 3 x 3 convolutions and a pool, then dense layers.

Networks built on its convolutions take ``vgg_stages``.
"""

import functools
from pathlib import Path

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization, Dropout
from kerastoolkit.models._arguments import check_rate
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights

CONVOLUTIONS = {  # Simonyan & Zisserman 2014, table 1, columns A, B, D and E: convolutions in each stage.
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)


def vgg11(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: bool = False,
    head: str = "imagenet",
    dropout: float = 0.5,
    weights: str | Path | None = None,
) -> keras.Model:
    """VGG-11: Simonyan & Zisserman 2014, table 1, column A, https://arxiv.org/abs/1409.1556.

    Input, output, arguments, errors and differences from the paper: as ``vgg16``, but no ImageNet weights
    exist.
    """
    return _vgg(11, classes, input_shape, batch_norm, head, dropout, weights)


def vgg13(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: bool = False,
    head: str = "imagenet",
    dropout: float = 0.5,
    weights: str | Path | None = None,
) -> keras.Model:
    """VGG-13: Simonyan & Zisserman 2014, table 1, column B, https://arxiv.org/abs/1409.1556.

    Input, output, arguments, errors and differences from the paper: as ``vgg16``, but no ImageNet weights
    exist.
    """
    return _vgg(13, classes, input_shape, batch_norm, head, dropout, weights)


def vgg16(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: bool = False,
    head: str = "imagenet",
    dropout: float = 0.5,
    weights: str | Path | None = None,
) -> keras.Model:
    """VGG-16: Simonyan & Zisserman 2014, table 1, column D, https://arxiv.org/abs/1409.1556.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights blue, green, red in [0,
                    255] minus 103.939, 116.779 and 123.68 (``keras.applications.vgg16.preprocess_input``)
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 32 x 32; height and width may be None for
            the "cifar" head.
        batch_norm: normalise each convolution's output before its ReLU.
        head: "imagenet" (two dense layers of 4096, then one of classes) or "cifar" (average pool, one dense
            layer).
        dropout: rate before each dense layer of the "cifar" head and after each 4096 of the "imagenet" head,
            in [0, 1).
        weights: None; a file of this network's or keras.applications' weights
            (``kerastoolkit.weights.load_weights``); or "imagenet" (without batch_norm), which downloads those
            of keras.applications. With "imagenet" and classes other than 1000 the last layer stays random and
            all others are loaded; with the "cifar" head, the convolutions alone. The two layers of 4096 fit
            224 x 224 pixels only.
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Differs from the paper: He-normal initialisation, which needs no pre-training of a shallower network;
    batch norm and the "cifar" head came later.
    """
    return _vgg(16, classes, input_shape, batch_norm, head, dropout, weights)


def vgg19(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    batch_norm: bool = False,
    head: str = "imagenet",
    dropout: float = 0.5,
    weights: str | Path | None = None,
) -> keras.Model:
    """VGG-19: Simonyan & Zisserman 2014, table 1, column E, https://arxiv.org/abs/1409.1556.

    Input, output, arguments, errors and differences from the paper: as ``vgg16``.
    """
    return _vgg(19, classes, input_shape, batch_norm, head, dropout, weights)


def _vgg(depth, classes, input_shape, batch_norm, head, dropout, weights):
    if head not in ("imagenet", "cifar"):
        raise ValueError(f"head must be 'imagenet' or 'cifar', got {head!r}")
    if head == "imagenet" and None in tuple(input_shape):
        raise ValueError(f"input_shape must be fixed for the 'imagenet' head, got {input_shape!r}")
    check_rate("dropout", dropout)
    image = image_input(input_shape=input_shape, classes=classes, smallest=32)

    x = vgg_stages(image, depth, batch_norm)[-1][1]
    logits = (_imagenet_head if head == "imagenet" else _cifar_head)(x, classes, dropout)
    model = keras.Model(image, logits, name=f"vgg{depth}")

    reference, except_layers = None, ()
    if depth in (16, 19) and not batch_norm:
        reference = functools.partial(
            getattr(keras.applications, f"VGG{depth}"), include_top=head == "imagenet"
        )
        except_layers = (
            ("logits",) if head == "cifar" else () if classes == 1000 else ("logits", "predictions")
        )
    load_image_weights(model, weights, reference=reference, except_layers=except_layers)
    return model


def vgg_stages(x, depth: int, batch_norm: bool) -> list:
    """Of each of the five stages what it gives before and after its pool: (b, h, w, 64), (b, h / 2, w / 2, 64), ..."""
    stages = []
    for stage, (convolutions, filters) in enumerate(zip(CONVOLUTIONS[depth], CHANNELS, strict=True), start=1):
        for index in range(1, convolutions + 1):
            x = _convolution(x, filters, batch_norm, name=f"stage{stage}_conv{index}")
        pooled = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        stages.append((x, pooled))
        x = pooled
    return stages


def _convolution(x, filters, batch_norm, name):
    x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _imagenet_head(x, classes, dropout):
    x = layers.Flatten(name="flatten")(x)  # (b, 7 * 7 * 512) for 224 pixels
    for index in (1, 2):
        x = layers.Dense(4096, activation="relu", kernel_initializer="he_normal", name=f"dense{index}")(x)
        x = Dropout(dropout, name=f"dense{index}_dropout")(x)
    return layers.Dense(classes, name="logits")(x)


def _cifar_head(x, classes, dropout):
    x = layers.GlobalAveragePooling2D(name="pool")(
        x
    )  # (b, 512); at 32 pixels there is one position and no average
    x = Dropout(dropout, name="dropout")(x)
    return layers.Dense(classes, name="logits")(x)
