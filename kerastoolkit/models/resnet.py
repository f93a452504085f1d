"""Residual networks: the CIFAR form, ResNet-18 to 152, and the pre-activation form (v2).

The 50, 101 and 152 layer networks are keras.applications' own, weight for weight, so that its files load.
"""

from pathlib import Path

import keras
from keras import layers, ops

from kerastoolkit.layers import BatchNormalization
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights

# keras.applications' value, and the least that cuDNN takes.
EPSILON = 1.001e-5
# The authors' value; Keras' own default of 0.99 needs hundreds of steps before its averages mean anything.
MOMENTUM = 0.9

# The last layer's name here and in keras.applications: other classes than ImageNet's leave it out.
HEAD = ("logits", "predictions")

BLOCKS = {  # He et al. 2015, table 1: blocks in each of the four stages.
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet_cifar(
    *, depth: int, classes: int, input_shape: tuple[int, int, int] = (32, 32, 3), shortcut: str = "identity"
) -> keras.Model:
    """CIFAR residual network: He et al. 2015, section 4.2, https://arxiv.org/abs/1512.03385.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        depth: weighted layers, 6n + 2: 20, 32, 44, 56 or 110 in the paper.
        classes: number of labels.
        input_shape: (height, width, channels) in pixels; height and width may be None.
        shortcut: where the channels double, "identity" (the paper's option A: every second pixel, the new
            channels zero, no weights) or "projection" (option B: a strided 1 x 1 convolution and batch norm).
    Raises:
        ValueError: depth is not 6n + 2, shortcut is neither name, or input_shape or classes is impossible.
    Differs from the paper: none known. Its weight decay (1e-4) and warm-up (depth 110) belong to the
    training.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 6n + 2 (20, 32, 44, 56, 110), got {depth!r}")
    if shortcut not in ("identity", "projection"):
        raise ValueError(
            f"shortcut must be 'identity' (option A) or 'projection' (option B), got {shortcut!r}"
        )
    image = image_input(input_shape=input_shape, classes=classes, smallest=4)

    x = _convolution(image, 16, 3, name="stem_conv")
    x = _norm_relu(x, name="stem_conv")
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, filters, stride, shortcut, name=f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)  # (b, 64)
    logits = layers.Dense(classes, kernel_initializer="he_normal", name="logits")(x)
    return keras.Model(image, logits, name=f"resnet{depth}_cifar")


def resnet18(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-18, of basic blocks: He et al. 2015, table 1, https://arxiv.org/abs/1512.03385.

    Input   image   (batch, height, width, channels) float32
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 32 x 32; height and width may be None.
        weights: None, or a file of this network's weights (``kerastoolkit.weights.load_weights``).
    Raises:
        ValueError: input_shape or classes is impossible, or the weights do not fit; "imagenet" does not
            exist.
    Differs from the paper: projection shortcuts where the channels double (option B; the paper's table 2 has
    option A).
    """
    return _resnet_of_basic_blocks(18, classes, input_shape, weights)


def resnet34(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-34, of basic blocks: He et al. 2015, table 1, https://arxiv.org/abs/1512.03385.

    Input, output, arguments, errors and difference from the paper: as ``resnet18``.
    """
    return _resnet_of_basic_blocks(34, classes, input_shape, weights)


def resnet50(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-50, of bottleneck blocks: He et al. 2015, table 1, https://arxiv.org/abs/1512.03385.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights blue, green, red in [0,
                    255] minus 103.939, 116.779 and 123.68 (``keras.applications.resnet.preprocess_input``)
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 32 x 32; height and width may be None.
        weights: None; a file of this network's or keras.applications' weights
            (``kerastoolkit.weights.load_weights``); or "imagenet", which downloads those of
            keras.applications. With "imagenet" and classes other than 1000 the last layer stays random and
            all others are loaded.
    Raises:
        ValueError: input_shape or classes is impossible, or the weights do not fit.
    Differs from the paper: convolutions have biases besides batch norm, as in the authors' released models
    and keras.applications, whose weights fit.
    """
    return _resnet_of_bottlenecks(50, classes, input_shape, weights)


def resnet101(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-101, of bottleneck blocks: He et al. 2015, table 1, https://arxiv.org/abs/1512.03385.

    Input, output, arguments, errors and difference from the paper: as ``resnet50``.
    """
    return _resnet_of_bottlenecks(101, classes, input_shape, weights)


def resnet152(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-152, of bottleneck blocks: He et al. 2015, table 1, https://arxiv.org/abs/1512.03385.

    Input, output, arguments, errors and difference from the paper: as ``resnet50``.
    """
    return _resnet_of_bottlenecks(152, classes, input_shape, weights)


def resnet50v2(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-50 v2, pre-activation: He et al. 2016, section 3, https://arxiv.org/abs/1603.05027.

    Input   image   (batch, height, width, channels) float32; for the ImageNet weights red, green, blue in
                    [-1, 1] (``keras.applications.resnet_v2.preprocess_input``)
    Output  logits  (batch, classes) float32, unnormalised

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, at least 32 x 32; height and width may be None.
        weights: None; a file of this network's or keras.applications' weights
            (``kerastoolkit.weights.load_weights``); or "imagenet", which downloads those of
            keras.applications. With "imagenet" and classes other than 1000 the last layer stays random and
            all others are loaded.
    Raises:
        ValueError: input_shape or classes is impossible, or the weights do not fit.
    Differs from the paper: a stage's stride is in its last block, and the convolutions that no batch norm
    follows directly have biases, as in keras.applications, whose weights fit.
    """
    return _resnet_v2(50, classes, input_shape, weights)


def resnet101v2(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-101 v2, pre-activation: He et al. 2016, section 3, https://arxiv.org/abs/1603.05027.

    Input, output, arguments, errors and differences from the paper: as ``resnet50v2``.
    """
    return _resnet_v2(101, classes, input_shape, weights)


def resnet152v2(
    *,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | Path | None = None,
) -> keras.Model:
    """ResNet-152 v2, pre-activation: He et al. 2016, section 3, https://arxiv.org/abs/1603.05027.

    Input, output, arguments, errors and differences from the paper: as ``resnet50v2``.
    """
    return _resnet_v2(152, classes, input_shape, weights)


def _resnet_of_basic_blocks(depth, classes, input_shape, weights):
    image = image_input(input_shape=input_shape, classes=classes, smallest=32)
    x = resnet_stages(image, depth)[-1]
    model = keras.Model(image, _head(x, classes), name=f"resnet{depth}")
    load_image_weights(model, weights, reference=None)
    return model


def _resnet_of_bottlenecks(depth, classes, input_shape, weights):
    image = image_input(input_shape=input_shape, classes=classes, smallest=32)
    x = resnet_stages(image, depth)[-1]
    model = keras.Model(image, _head(x, classes), name=f"resnet{depth}")
    reference = getattr(keras.applications, f"ResNet{depth}")
    load_image_weights(model, weights, reference=reference, except_layers=() if classes == 1000 else HEAD)
    return model


def resnet_stages(image, depth: int, *, of_torchvision: bool = False, epsilon: float = EPSILON, train_norms: bool = True) -> list:
    """What the stem gives and each of the four stages, at a half, a quarter, ... and a thirty-second of the image's size.

    Args:
        depth: 18, 34, 50, 101 or 152.
        of_torchvision: whether bottlenecks are those of torchvision: no biases, and the stride in the 3 x 3 convolution.
        epsilon: of batch norms.
        train_norms: whether they are trained and use the batch's statistics; else they are fixed.
    """
    of_bottlenecks = depth >= 50
    norms = {"epsilon": epsilon, "trainable": train_norms}
    x = _convolution(image, 64, 7, stride=2, use_bias=of_bottlenecks and not of_torchvision, name="stem_conv")
    stages = [_norm_relu(x, name="stem_conv", **norms)]
    x = _stem_pool(stages[0])
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"stage{stage}_block{block}"
            if of_bottlenecks:
                x = _bottleneck(x, 32 * 2**stage, stride, block == 1, name, of_torchvision=of_torchvision, **norms)
            else:
                x = _basic_block(x, 32 * 2**stage, stride, "projection", name, **norms)
        stages.append(x)
    return stages


def _resnet_v2(depth, classes, input_shape, weights):
    image = image_input(input_shape=input_shape, classes=classes, smallest=32)
    x = _convolution(image, 64, 7, stride=2, use_bias=True, name="stem_conv")
    x = _stem_pool(x)
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage < 4 and block == blocks else 1
            x = _bottleneck_v2(
                x, 32 * 2**stage, stride, project=block == 1, name=f"stage{stage}_block{block}"
            )
    x = _norm_relu(x, name="last")
    model = keras.Model(image, _head(x, classes), name=f"resnet{depth}v2")
    reference = getattr(keras.applications, f"ResNet{depth}V2")
    load_image_weights(model, weights, reference=reference, except_layers=() if classes == 1000 else HEAD)
    return model


def _stem_pool(x):
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _head(x, classes):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(classes, kernel_initializer="he_normal", name="logits")(x)


def _basic_block(x, filters, stride, shortcut, name, **norms):
    """Two 3 x 3 convolutions and a shortcut (figure 5, left)."""
    skip = x
    if stride > 1 or x.shape[-1] != filters:
        if shortcut == "identity":
            skip = _identity_shortcut(x, filters, stride, name)
        else:
            skip = _projection_shortcut(x, filters, stride, name, **norms)
    x = _convolution(x, filters, 3, stride, name=f"{name}_conv1")
    x = _norm_relu(x, name=f"{name}_conv1", **norms)
    x = _convolution(x, filters, 3, name=f"{name}_conv2")
    x = _norm(x, name=f"{name}_conv2", **norms)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([skip, x]))


def _bottleneck(x, filters, stride, project, name, *, of_torchvision=False, **norms):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, four times as many channels out, and a shortcut (figure 5, right)."""
    strides, biases = (1, stride) if of_torchvision else (stride, 1), {"use_bias": not of_torchvision}
    skip = _projection_shortcut(x, 4 * filters, stride, name, **biases, **norms) if project else x
    x = _convolution(x, filters, 1, strides[0], **biases, name=f"{name}_conv1")
    x = _norm_relu(x, name=f"{name}_conv1", **norms)
    x = _convolution(x, filters, 3, strides[1], **biases, name=f"{name}_conv2")
    x = _norm_relu(x, name=f"{name}_conv2", **norms)
    x = _convolution(x, 4 * filters, 1, **biases, name=f"{name}_conv3")
    x = _norm(x, name=f"{name}_conv3", **norms)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([skip, x]))


def _bottleneck_v2(x, filters, stride, project, name):
    """Batch norm and ReLU before each convolution, nothing after the addition (He et al. 2016, figure 4e)."""
    active = _norm_relu(x, name=f"{name}_before")
    if project:
        skip = _convolution(active, 4 * filters, 1, stride, use_bias=True, name=f"{name}_shortcut")
    else:
        skip = layers.MaxPooling2D(1, stride, name=f"{name}_shortcut")(x) if stride > 1 else x
    x = _convolution(active, filters, 1, name=f"{name}_conv1")
    x = _norm_relu(x, name=f"{name}_conv1")
    x = _convolution(x, filters, 3, stride, name=f"{name}_conv2")
    x = _norm_relu(x, name=f"{name}_conv2")
    x = _convolution(x, 4 * filters, 1, use_bias=True, name=f"{name}_conv3")
    return layers.Add(name=f"{name}_add")([skip, x])


def _identity_shortcut(x, filters, stride, name):
    # Option A: no weights. The pixels between are dropped and the channels that x lacks are zeros. Pooling
    # over single pixels drops them at the speed of memory; a strided slice and its gradient take ten times as long.
    x = layers.AveragePooling2D(1, stride, name=f"{name}_shortcut")(x)
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, filters - x.shape[-1])))


def _projection_shortcut(x, filters, stride, name, use_bias=False, **norms):
    x = _convolution(x, filters, 1, stride, use_bias=use_bias, name=f"{name}_shortcut")
    return _norm(x, name=f"{name}_shortcut", **norms)


def _convolution(x, filters, size, stride=1, *, use_bias=False, name):
    # The "same" padding of a strided convolution pads an even-sized image at the end only; the paper's
    # frameworks, and keras.applications, pad both sides.
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(
        filters, size, stride, padding=padding, use_bias=use_bias, kernel_initializer="he_normal", name=name
    )(x)


def _norm(x, name, epsilon=EPSILON, trainable=True):
    return BatchNormalization(momentum=MOMENTUM, epsilon=epsilon, trainable=trainable, name=f"{name}_norm")(x)


def _norm_relu(x, name, **norms):
    return layers.ReLU(name=f"{name}_relu")(_norm(x, name, **norms))
