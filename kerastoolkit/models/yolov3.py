"""YOLOv3: a detector that predicts boxes from prior ones in the cells of three grids, and its small form of two."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
from keras import layers

from kerastoolkit.layers import AnchorBoxes, BatchNormalization
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights
from kerastoolkit.weights.darknet import is_darknet, load_darknet

# (width, height) in pixels of an image of about 416 x 416, smallest first: section 2.3, and of the small network its cfg file.
ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
TINY_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
# Those of the published yolov3-tiny.weights, whose finer grid had the second to fourth by a slip in the cfg file of the time
# (https://github.com/pjreddie/darknet/issues/851).
PUBLISHED_TINY_ANCHORS = TINY_ANCHORS[1:4] + TINY_ANCHORS[3:]

STRIDE = 32  # of the coarsest grid
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # table 1: filters and residual blocks
SLOPE = 0.1  # of the leaky ReLU for negative numbers
# What Darknet adds to the variance on a GPU, 1e-5, as nearly as cuDNN takes it. On a CPU it adds 1e-6 to the standard deviation.
EPSILON = 1.001e-5
# Darknet's 0.99 needs hundreds of steps before its averages mean anything, and the first steps here may be all there are.
MOMENTUM = 0.97
OBJECT_SHARE = 0.01  # the probability of an object that an untrained network tells


def yolov3(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (416, 416, 3),
    anchors: Sequence[tuple[float, float]] = ANCHORS, weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """YOLOv3 on Darknet-53: Redmon & Farhadi 2018, https://arxiv.org/abs/1804.02767; the layers are those of the authors'
    yolov3.cfg (https://github.com/pjreddie/darknet).

    Input   image  (batch, height, width, channels) float32, 0..1
    Output  a dict, the cells of strides 8, 16 and 32 one level after the other, each row by row, a cell's anchors side by side:
            boxes       (batch, anchors, 4) float32, x_min, y_min, x_max, y_max in pixels of the input (section 2.1)
            offsets     (batch, anchors, 4) float32, t_x, t_y, t_w, t_h, of which the boxes are made
            objectness  (batch, anchors) float32, the logit of there being an object
            logits      (batch, anchors, classes) float32, of independent classes (section 2.2): an object's score is their
                        sigmoid times that of the objectness
            points      (batch, anchors, 5) float32, column and row of the cell, its stride, and the width and height of the prior
                        in pixels: where the anchor is, for the loss

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, height and width multiples of 32, or None.
        anchors: (width, height) of the prior boxes in pixels, as many for each of the three levels, those of stride 8 first.
        weights: None; a file of this network's weights (``kerastoolkit.weights.load_weights``); or one of Darknet, of this
            network for any number of classes or of its first layers, as darknet53.conv.74 has those of the backbone
            (``kerastoolkit.weights.load_darknet``). What a file of Darknet does not have stays random.
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Differs from the paper and Darknet: t_w and t_h count as 8 where they are larger; batch norm has a momentum of 0.97 for 0.99;
    the last layers begin so small, and with such a bias, that each anchor holds an object with a probability of 0.01 (Lin et al.
    2017, section 4.1, https://arxiv.org/abs/1708.02002), where Darknet's begin at a half and train slowly for 1,000 steps.
    """
    image, anchors = _checked(input_shape, classes, anchors, levels=3)
    number = itertools.count()
    x = _convolution(image, 32, 3, number)
    stages = []
    for stage, (filters, blocks) in enumerate(STAGES, start=1):
        x = _convolution(x, filters, 3, number, stride=2)
        for block in range(1, blocks + 1):
            skip = x
            x = _convolution(x, filters // 2, 1, number)
            x = _convolution(x, filters, 3, number)
            x = layers.Add(name=f"stage{stage}_block{block}")([skip, x])
        stages.append(x)

    levels = []
    for filters, finer in ((512, None), (256, stages[3]), (128, stages[2])):
        if finer is not None:
            x = _join(_convolution(x, filters, 1, number), finer, f"join{len(levels)}")
        features = x
        for _ in range(3):
            x = _convolution(features, filters, 1, number)
            features = _convolution(x, 2 * filters, 3, number)
        levels.insert(0, _head(features, classes, len(anchors[0]), number))
    return _model("yolov3", image, levels, anchors, weights)


def yolov3_tiny(
    *, classes: int, input_shape: tuple[int | None, int | None, int] = (416, 416, 3),
    anchors: Sequence[tuple[float, float]] = TINY_ANCHORS, weights: str | Path | None = None,
) -> keras.Model:  # fmt: skip
    """YOLOv3-tiny, a seventh of the parameters and two levels: the authors' yolov3-tiny.cfg; the paper does not describe it.

    Input, output, errors and differences: as ``yolov3``, with the cells of strides 16 and 32. Arguments too, but for

    Args:
        anchors: as many for each of the two levels, those of stride 16 first. The authors' yolov3-tiny.weights for 80 classes
            were trained with ``PUBLISHED_TINY_ANCHORS``, and give right boxes with those alone.
        weights: as for ``yolov3``; yolov3-tiny.conv.15 has all layers before the first level's last.
    """
    image, anchors = _checked(input_shape, classes, anchors, levels=2)
    number = itertools.count()
    x = image
    for filters in (16, 32, 64, 128, 256):
        finer = _convolution(x, filters, 3, number)
        x = layers.MaxPooling2D(2, name=f"pool{filters}")(finer)
    x = _convolution(x, 512, 3, number)
    x = layers.MaxPooling2D(2, strides=1, padding="same", name="pool512")(x)
    x = _convolution(x, 1024, 3, number)
    x = _convolution(x, 256, 1, number)
    coarse = _head(_convolution(x, 512, 3, number), classes, len(anchors[0]), number)
    x = _join(_convolution(x, 128, 1, number), finer, "join1")
    fine = _head(_convolution(x, 256, 3, number), classes, len(anchors[0]), number)
    return _model("yolov3_tiny", image, [fine, coarse], anchors, weights)


def _checked(input_shape, classes, anchors, levels: int):
    """The input, and the anchors of each level."""
    image = image_input(input_shape=input_shape, classes=classes, smallest=STRIDE)
    for side in image.shape[1:3]:
        if side is not None and side % STRIDE:
            raise ValueError(f"input_shape must be multiples of {STRIDE} pixels, got {input_shape!r}")
    rule = f"anchors must be (width, height) in pixels, above 0, as many for each of {levels} levels, got {anchors!r}"
    try:
        pairs = [(float(width), float(height)) for width, height in anchors]
    except (TypeError, ValueError):
        raise ValueError(rule) from None
    if not pairs or len(pairs) % levels or not all(0 < side < math.inf for pair in pairs for side in pair):
        raise ValueError(rule)
    return image, [pairs[start : start + len(pairs) // levels] for start in range(0, len(pairs), len(pairs) // levels)]


def _model(name: str, image, levels, anchors, weights) -> keras.Model:
    strides = [STRIDE // 2**finer for finer in reversed(range(len(levels)))]
    # In float32 whatever the network computes in: 16 bits do not tell one pixel from the next.
    outputs = AnchorBoxes(anchors, strides, dtype="float32", name="boxes")(levels)
    model = keras.Model(image, outputs, name=name)
    if weights is not None and is_darknet(weights):
        load_darknet(model, weights)
    else:
        load_image_weights(model, weights, reference=None)
    return model


def _convolution(x, filters: int, size: int, number: Iterator[int], stride: int = 1):
    """Convolution, batch norm and leaky ReLU. The convolutions' numbers are their order in a file of Darknet."""
    name = f"conv{next(number)}"
    if stride > 1:  # "same" would pad at the end alone
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, size, stride, padding="same" if stride == 1 else "valid", use_bias=False,
                      kernel_initializer="he_normal", name=name)(x)  # fmt: skip
    x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.LeakyReLU(SLOPE, name=f"{name}_leaky")(x)


def _join(x, finer, name: str):
    return layers.Concatenate(name=name)([layers.UpSampling2D(2, name=f"{name}_up")(x), finer])


def _head(x, classes: int, priors: int, number: Iterator[int]):
    convolution = layers.Conv2D(priors * (5 + classes), 1, name=f"conv{next(number)}",
                                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))  # fmt: skip
    x = convolution(x)
    convolution.bias.assign(([0.0] * 4 + [math.log(OBJECT_SHARE / (1 - OBJECT_SHARE))] + [0.0] * classes) * priors)
    return x
