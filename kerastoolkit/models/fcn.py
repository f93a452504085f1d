"""Fully convolutional networks: an image classifier whose scores, coarse and fine, are enlarged to a class for each pixel."""

from pathlib import Path

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization, BilinearKernel, CropLike, Dropout, PadToMultiple
from kerastoolkit.models._arguments import check_rate, is_positive_integer
from kerastoolkit.models._encoders import check_encoder, encode, load_encoder_weights
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_weights


def fcn32s(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (None, None, 3), backbone: str = "vgg16",
    batch_norm: bool = False, width: int | None = None, dropout: float = 0.5, weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """FCN-32s: Long, Shelhamer & Darrell 2015, section 3, https://arxiv.org/abs/1411.4038: scores at a thirty-second of the size.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights blue, green, red in [0, 255] minus 103.939,
                    116.779 and 123.68
    Output  logits  (batch, height, width, classes) float32, unnormalised, one for each pixel

    Args:
        classes: number of labels, the background among them where there is one.
        input_shape: (height, width, channels) in pixels; height and width may be None or any size: what 32 does not divide is
            padded with zeros inside and cropped back.
        backbone: "vgg16" as in the paper, or another of vgg11, vgg13, vgg19, resnet18, 34, 50, 101 and 152.
        batch_norm: normalise each convolution's output before its ReLU; VGG only, for ResNet always does.
        width: channels of the two fully convolutional layers that were VGG's dense ones (fc6, 7 x 7, and fc7); by default 4,096
            after VGG, as in the paper, and no such layers after ResNet; 0 for none.
        dropout: rate after each of these two layers, in [0, 1).
        weights: None; a file of this network's weights (``kerastoolkit.weights.load_weights``); or "imagenet", which downloads
            those of keras.applications for the backbone, and with a width of 4,096 for fc6 and fc7 too.
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Differs from the paper: images are padded to a multiple of 32 and fc6 pads as the other convolutions do, where the authors'
    program pads by 100 pixels and crops; the last enlargement is learned too; batch norm and narrower layers came later.
    """
    return _fcn(32, classes, input_shape, backbone, batch_norm, width, dropout, weights, None)


def fcn16s(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (None, None, 3), backbone: str = "vgg16",
    batch_norm: bool = False, width: int | None = None, dropout: float = 0.5, weights: str | Path | None = None,
    start: keras.Model | str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """FCN-16s: Long et al. 2015, section 4.2: the scores of FCN-32s, doubled in size, plus scores of the features of stage 4.

    Input, output, arguments, errors and differences from the paper: as ``fcn32s``, and

    Args:
        start: an ``fcn32s`` of the same arguments, or a file of its weights, with which all layers begin that it has too, but for
            the last enlargement, which begins with interpolation. The new scores are zero, so that this network begins with the
            scores of that one, doubled in size and then enlarged 16-fold.
    """
    return _fcn(16, classes, input_shape, backbone, batch_norm, width, dropout, weights, start)


def fcn8s(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (None, None, 3), backbone: str = "vgg16",
    batch_norm: bool = False, width: int | None = None, dropout: float = 0.5, weights: str | Path | None = None,
    start: keras.Model | str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """FCN-8s: Long et al. 2015, section 4.2: the scores of FCN-16s, doubled in size, plus scores of the features of stage 3.

    Input, output, arguments, errors and differences from the paper: as ``fcn32s``, and

    Args:
        start: an ``fcn16s`` of the same arguments, or a file of its weights, with which all layers begin that it has too, but for
            the last enlargement, which begins with interpolation. The new scores are zero, so that this network begins with the
            scores of that one, doubled in size and then enlarged 8-fold.
    """
    return _fcn(8, classes, input_shape, backbone, batch_norm, width, dropout, weights, start)


def _fcn(stride, classes, input_shape, backbone, batch_norm, width, dropout, weights, start):
    check_encoder("backbone", backbone, batch_norm)
    check_rate("dropout", dropout)
    if width is None:
        width = 4096 if backbone.startswith("vgg") else 0
    if width != 0 and not is_positive_integer(width):
        raise ValueError(f"width must be None, 0 or a positive integer, got {width!r}")
    if weights is not None and start is not None:
        raise ValueError(f"start must be None where weights are given, got {start!r}")
    image = image_input(input_shape=input_shape, classes=classes)

    x = PadToMultiple(32, name="pad")(image)
    features = encode(backbone, x, batch_norm, pooled=True)
    x = features[32]  # (b, h / 32, w / 32, c)
    if width:
        for name, size in (("fc6", 7), ("fc7", 1)):
            x = _fully_convolutional(x, width, size, batch_norm, dropout, name)
    x = _score(x, classes, name="score")
    for finer in (each for each in (16, 8) if each >= stride):
        x = _enlarge(x, classes, 2, name=f"enlarge_to_{finer}")
        x = layers.Add(name=f"sum_{finer}")([x, _score(features[finer], classes, name=f"score_{finer}")])
    x = _enlarge(x, classes, stride, name=f"enlarge_from_{stride}")
    logits = CropLike(name="logits")(x, image)
    model = keras.Model(image, logits, name=f"fcn{stride}s_{backbone}")

    if start is None:
        load_encoder_weights(model, backbone, batch_norm, weights)
    else:
        coarser = start
        if not isinstance(start, keras.Model):
            coarser = _fcn(2 * stride, classes, input_shape, backbone, batch_norm, width, dropout, None, None)
            load_weights(coarser, start)
        _begin_with(model, coarser, 2 * stride)
    return model


def _fully_convolutional(x, width, size, batch_norm, dropout, name):
    x = layers.Conv2D(width, size, padding="same", kernel_initializer="he_normal", name=name)(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return Dropout(dropout, name=f"{name}_dropout")(x)


def _score(x, classes, name):
    # Section 4.2: zero, because random numbers learn neither better nor faster.
    return layers.Conv2D(classes, 1, kernel_initializer="zeros", name=name)(x)


def _enlarge(x, classes, factor, name):
    return layers.Conv2DTranspose(
        classes, 2 * factor, factor, padding="same", use_bias=False, kernel_initializer=BilinearKernel(), name=name
    )(x)


def _begin_with(model, coarser, stride):
    """Gives the network the weights of one half as fine, whose last enlargement is ``stride``-fold and is left out."""
    mine = _shapes(model, without=[f"{layer}_{stride // 2}" for layer in ("enlarge_to", "score", "enlarge_from")])
    theirs = _shapes(coarser, without=[f"enlarge_from_{stride}"])
    differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if differing:
        raise ValueError(f"start must be an fcn{stride}s of the same arguments as this {model.name}, got {coarser.name}, which"
                         f" differs in {', '.join(differing[:3])}")  # fmt: skip
    for name in mine:
        model.get_layer(name).set_weights(coarser.get_layer(name).get_weights())


def _shapes(model, without):
    """Of each layer that has weights their shapes."""
    return {layer.name: [tuple(weight.shape) for weight in layer.weights]
            for layer in model.layers if layer.weights and layer.name not in without}  # fmt: skip
