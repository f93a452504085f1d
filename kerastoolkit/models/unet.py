"""U-Net: a path that halves an image and one that doubles it back, joined at each size."""

from pathlib import Path

import keras
from keras import layers

from kerastoolkit.layers import BatchNormalization, CropLike, DoubleSize, Dropout, MirrorToFit, PadToMultiple
from kerastoolkit.models._arguments import check_rate, check_sizes
from kerastoolkit.models._encoders import check_encoder, encode, load_encoder_weights
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights

PADDINGS = ("same", "valid", "mirror")
UPS = ("transpose", "resize")
DEEPEST = 8


def unet(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (None, None, 3), filters: int = 64, depth: int = 4,
    batch_norm: bool = False, up: str = "transpose", padding: str = "same", dropout: float = 0.5,
    weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """U-Net: Ronneberger, Fischer & Brox 2015, section 2 and figure 1, https://arxiv.org/abs/1505.04597.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, height, width, classes) float32, unnormalised, one for each pixel; with "valid" padding of the inner
                    (height - 184) x (width - 184) pixels alone, where depth is 4

    Args:
        classes: number of labels, the background among them where there is one.
        input_shape: (height, width, channels) in pixels; height and width may be None or any size: what a pool does not divide is
            padded there, and cropped on the way back.
        filters: channels of the two convolutions at the image's own size; each level down has twice as many.
        depth: pools, 1 to 8; the paper has 4.
        batch_norm: normalise each convolution's output before its ReLU.
        up: how the second path doubles its size: "transpose", transposed convolutions of 2 x 2, or "resize", bilinear
            interpolation and then a convolution of 2 x 2.
        padding: "same", convolutions that pad with zeros; "valid", as in the paper, without padding: the output is smaller, and
            height and width must be 16 n + 12, at least 188 (572 in the paper), where depth is 4; "mirror", the paper's network
            with the image mirrored at its borders inside, so that every pixel has an answer.
        dropout: rate after the two deepest levels of the first path, in [0, 1).
        weights: None, or a file of this network's weights (``kerastoolkit.weights.load_weights``).
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Differs from the paper: "same" padding and batch norm came later; the paper speaks of dropout and names no rate, 0.5 is that
    of the authors' published network.
    """
    check_sizes(filters=filters, depth=depth)
    if depth > DEEPEST:
        raise ValueError(f"depth must be 1 to {DEEPEST}, got {depth}")
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    _check_up_and_dropout(up, dropout)
    image = image_input(input_shape=input_shape, classes=classes)
    # Without padding a level's two convolutions take 4 of its pixels. Where the bottom begins with b, the image has
    # 2^d b + offset, and the answer ``margin`` less on each side.
    multiple, offset, margin = 2**depth, 4 * (2**depth - 1), 2 * (3 * 2**depth - 2)
    if padding == "valid":
        for size in (size for size in image.shape[1:3] if size is not None):
            if (size - offset) % multiple or size <= 2 * margin:
                least = offset + multiple * (1 + (2 * margin - offset) // multiple)
                raise ValueError(f"input_shape must have sides of {multiple} n + {offset % multiple}, at least {least},"
                                 f" for valid padding at depth {depth}, got {input_shape!r}")  # fmt: skip
    x = MirrorToFit(margin, multiple, offset % multiple, name="mirror")(image) if padding == "mirror" else image

    convolution = {"padding": "same" if padding == "same" else "valid", "batch_norm": batch_norm}
    skips = []
    for level in range(depth + 1):
        x = _two_convolutions(x, filters * 2**level, f"down{level}" if level < depth else "bottom", **convolution)
        if dropout and level >= depth - 1:
            x = Dropout(dropout, name=f"dropout{level}")(x)
        if level < depth:
            skips.append(x)
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{level}")(x)  # an odd side's last pixel is a pool of its own
    for level in reversed(range(depth)):
        skip = skips[level]
        if padding != "same":
            # What the way down and up takes on each side: 4, 16, 40, 88.
            skip = layers.Cropping2D(6 * 2 ** (depth - level) - 8, name=f"crop{level}")(skip)
        x = _up(x, filters * 2**level, up, name=f"up{level}")
        if padding == "same":
            x = CropLike(name=f"fit{level}")(x, skip)
        x = layers.Concatenate(name=f"join{level}")([skip, x])
        x = _two_convolutions(x, filters * 2**level, f"join{level}", **convolution)
    logits = _head(x, classes, image if padding == "mirror" else None)
    model = keras.Model(image, logits, name="unet")
    load_image_weights(model, weights, reference=None)
    return model


def unet_with_encoder(
    *, classes: int, encoder: str = "resnet34", input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    filters: int = 16, batch_norm: bool = True, up: str = "resize", dropout: float = 0.0, weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """U-Net on VGG or ResNet: Ronneberger et al. 2015, and Iglovikov & Shvets 2018, https://arxiv.org/abs/1801.05746.

    The first path is a classifier's convolutions, which may be trained already.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights blue, green, red in [0, 255] minus 103.939,
                    116.779 and 123.68
    Output  logits  (batch, height, width, classes) float32, unnormalised, one for each pixel

    Args:
        classes: number of labels, the background among them where there is one.
        encoder: vgg11, 13, 16, 19, or resnet18, 34, 50, 101, 152; it halves the image five times.
        input_shape: (height, width, channels) in pixels; height and width may be None or any size: what 32 does not divide is
            padded with zeros inside and cropped back.
        filters: channels of the second path at the image's own size; each level down has twice as many.
        batch_norm: normalise each convolution's output of the second path, and of VGG, before its ReLU.
        up: "transpose" or "resize", as ``unet``.
        dropout: rate after the encoder, in [0, 1).
        weights: None; a file of this network's weights (``kerastoolkit.weights.load_weights``); or "imagenet", which downloads
            those of keras.applications for the encoder: of vgg16, vgg19 (without batch norm), resnet50, 101 and 152.
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    """
    check_sizes(filters=filters)
    is_vgg = encoder.startswith("vgg")
    check_encoder("encoder", encoder, batch_norm and is_vgg)
    _check_up_and_dropout(up, dropout)
    image = image_input(input_shape=input_shape, classes=classes)
    features = encode(encoder, PadToMultiple(32, name="pad")(image), batch_norm and is_vgg)
    x = features.pop(32)
    if dropout:
        x = Dropout(dropout, name="dropout")(x)
    for level in reversed(range(5)):
        x = _up(x, filters * 2**level, up, name=f"up{level}")
        if 2**level in features:
            x = layers.Concatenate(name=f"join{level}")([features[2**level], x])
        x = _two_convolutions(x, filters * 2**level, f"join{level}", padding="same", batch_norm=batch_norm)
    model = keras.Model(image, _head(x, classes, image), name=f"unet_{encoder}")
    load_encoder_weights(model, encoder, batch_norm and is_vgg, weights)
    return model


def _check_up_and_dropout(up, dropout):
    if up not in UPS:
        raise ValueError(f"up must be one of {', '.join(UPS)}, got {up!r}")
    check_rate("dropout", dropout)


def _two_convolutions(x, filters, name, *, padding, batch_norm):
    for index in (1, 2):
        x = layers.Conv2D(filters, 3, padding=padding, use_bias=not batch_norm, kernel_initializer="he_normal",
                          name=f"{name}_conv{index}")(x)  # fmt: skip
        if batch_norm:
            x = BatchNormalization(momentum=0.9, name=f"{name}_conv{index}_norm")(x)
        x = layers.ReLU(name=f"{name}_conv{index}_relu")(x)
    return x


def _up(x, filters, up, name):
    if up == "transpose":
        return layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=name)(x)
    x = DoubleSize(name=f"{name}_resize")(x)
    return layers.Conv2D(filters, 2, padding="same", kernel_initializer="he_normal", name=name)(x)


def _head(x, classes, image):
    x = layers.Conv2D(classes, 1, kernel_initializer="he_normal", name="scores")(x)
    return x if image is None else CropLike(name="logits")(x, image)
