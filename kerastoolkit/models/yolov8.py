"""YOLOv8: a detector without anchor boxes, whose cells tell a box and classes each."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from kerastoolkit.layers import BatchNormalization, DistributionBoxes
from kerastoolkit.models._image import image_input
from kerastoolkit.weights import load_image_weights

STRIDES = (8, 16, 32)
BINS = 16  # distances from a cell's centre to a box's side that are told apart, in strides
# Of each size: the factor of the repetitions, the factor of the channels, and the most channels before that factor.
SIZES = {"n": (1 / 3, 0.25, 1024), "s": (1 / 3, 0.5, 1024), "m": (2 / 3, 0.75, 768), "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)}


def yolov8n(*, classes: int, input_shape: tuple[int | None, int | None, int] = (640, 640, 3),
            weights: str | Path | None = None) -> keras.Model:  # fmt: skip
    """YOLOv8 nano, 3.2 million parameters (Jocher et al. 2023, published without a paper).

    A backbone of cross-stage partial blocks (Wang et al. 2019, https://arxiv.org/abs/1911.11929) with spatial pyramid pooling
    (He et al. 2014, https://arxiv.org/abs/1406.4729), path aggregation over three scales (Liu et al. 2018,
    https://arxiv.org/abs/1803.01534), and a head that tells boxes and classes apart (Ge et al. 2021, YOLOX, section 2.1,
    https://arxiv.org/abs/2107.08430), boxes as distributions over distances (Li et al. 2020, https://arxiv.org/abs/2006.04388).

    Input   image  (batch, height, width, channels) float32, 0..1
    Output  a dict, the cells of strides 8, 16 and 32 one after the other, each level row by row:
            boxes          (batch, cells, 4) float32, x_min, y_min, x_max, y_max in pixels of the input
            logits         (batch, cells, classes) float32, of independent classes: an object's score is their sigmoid
            distributions  (batch, cells, 4, 16) float32, logits over the distances 0 .. 15 strides to the box's sides
            points         (batch, cells, 3) float32, the x and y of the cell's centre in pixels, and its stride

    Args:
        classes: number of labels.
        input_shape: (height, width, channels) in pixels, height and width multiples of 32, or None.
        weights: None, or a file of this network's weights (``kerastoolkit.weights.load_weights``).
    Raises:
        ValueError: an argument is not one of the above, or the weights do not fit.
    Written from the papers above and public descriptions of how YOLOv8 puts them together: the table of its depths and widths,
    and the parameter counts that it states, which are met exactly, the 16 fixed distances among them.
    """
    return _yolov8("n", classes, input_shape, weights)


def yolov8s(*, classes: int, input_shape: tuple[int | None, int | None, int] = (640, 640, 3),
            weights: str | Path | None = None) -> keras.Model:  # fmt: skip
    """YOLOv8 small, 11.2 million parameters: as ``yolov8n``, twice as wide."""
    return _yolov8("s", classes, input_shape, weights)


def yolov8m(*, classes: int, input_shape: tuple[int | None, int | None, int] = (640, 640, 3),
            weights: str | Path | None = None) -> keras.Model:  # fmt: skip
    """YOLOv8 medium, 25.9 million parameters: as ``yolov8n``, three times as wide and twice as deep."""
    return _yolov8("m", classes, input_shape, weights)


def yolov8l(*, classes: int, input_shape: tuple[int | None, int | None, int] = (640, 640, 3),
            weights: str | Path | None = None) -> keras.Model:  # fmt: skip
    """YOLOv8 large, 43.7 million parameters: as ``yolov8n``, four times as wide and three times as deep."""
    return _yolov8("l", classes, input_shape, weights)


def yolov8x(*, classes: int, input_shape: tuple[int | None, int | None, int] = (640, 640, 3),
            weights: str | Path | None = None) -> keras.Model:  # fmt: skip
    """YOLOv8 extra large, 68.2 million parameters: as ``yolov8n``, five times as wide and three times as deep."""
    return _yolov8("x", classes, input_shape, weights)


def _yolov8(size: str, classes: int, input_shape, weights) -> keras.Model:
    depth, width, most = SIZES[size]
    image = image_input(input_shape=input_shape, classes=classes, smallest=STRIDES[-1])
    for side in image.shape[1:3]:
        if side is not None and side % STRIDES[-1]:
            raise ValueError(f"input_shape must be multiples of {STRIDES[-1]} pixels, got {input_shape!r}")

    def channels(count: int) -> int:
        return -(-int(min(count, most) * width) // 8) * 8

    def repeats(count: int) -> int:
        return max(1, round(count * depth))

    x = _conv(image, channels(64), 3, 2, "stem")  # (b, h/2, w/2, ...)
    stages = []
    for number, (count, blocks) in enumerate(((128, 3), (256, 6), (512, 6), (1024, 3)), start=2):
        x = _conv(x, channels(count), 3, 2, f"stage{number}_down")
        x = _cross_stage(x, channels(count), repeats(blocks), True, f"stage{number}")
        stages.append(x)
    _, p3, p4, p5 = stages  # 1/8, 1/16 and 1/32 of the image
    p5 = _pyramid_pooling(p5, "pooling")

    n4 = _cross_stage(_with_finer(p5, p4, "up4"), channels(512), repeats(3), False, "up4")
    n3 = _cross_stage(_with_finer(n4, p3, "up3"), channels(256), repeats(3), False, "up3")
    n4 = _cross_stage(_with_coarser(n3, n4, channels(256), "down4"), channels(512), repeats(3), False, "down4")
    n5 = _cross_stage(_with_coarser(n4, p5, channels(512), "down5"), channels(1024), repeats(3), False, "down5")

    finest = n3.shape[-1]
    box_width, class_width = max(16, finest // 4, 4 * BINS), max(finest, min(classes, 100))
    distributions, logits = [], []
    for level, stride in zip((n3, n4, n5), STRIDES, strict=True):
        # What a cell begins with: distances that favour none but by a bias, and as many objects as are rare in an image.
        prior = np.log(5 / classes / (640 / stride) ** 2)
        distributions.append(_branch(level, box_width, 4 * BINS, 1.0, f"box{stride}"))
        scores = _branch(level, class_width, classes, prior, f"class{stride}")
        logits.append(layers.Reshape((-1, classes), dtype="float32", name=f"logits{stride}")(scores))
    found = DistributionBoxes(STRIDES, BINS, dtype="float32", name="boxes")(distributions)
    logits = layers.Concatenate(axis=1, dtype="float32", name="logits")(logits)
    model = keras.Model(image, {**found, "logits": logits}, name=f"yolov8{size}")
    load_image_weights(model, weights, reference=None)
    return model


def _conv(x, channels: int, kernel: int, stride: int, name: str):
    if stride > 1:  # "same" would pad these on the right and below alone
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(channels, kernel, stride, padding="valid" if stride > 1 else "same", use_bias=False, name=f"{name}_conv")(x)
    x = BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.Activation("silu", name=f"{name}_silu")(x)


def _cross_stage(x, channels: int, repeats: int, residual: bool, name: str):
    """Half of the channels pass by; the other half goes through the bottlenecks, and what each gives is kept."""
    hidden = channels // 2
    both = _conv(x, 2 * hidden, 1, 1, f"{name}_in")
    x = both[..., hidden:]
    kept = [both]
    for number in range(repeats):
        inner = _conv(_conv(x, hidden, 3, 1, f"{name}_{number}a"), hidden, 3, 1, f"{name}_{number}b")
        x = layers.Add(name=f"{name}_{number}_add")([x, inner]) if residual else inner
        kept.append(x)
    return _conv(layers.Concatenate(name=f"{name}_kept")(kept), channels, 1, 1, f"{name}_out")


def _pyramid_pooling(x, name: str):
    """Three maxima over 5 x 5, one after the other, which are those over 5, 9 and 13."""
    channels = x.shape[-1]
    pooled = [_conv(x, channels // 2, 1, 1, f"{name}_in")]
    for number in range(3):
        pooled.append(layers.MaxPooling2D(5, 1, padding="same", name=f"{name}_{number}")(pooled[-1]))
    return _conv(layers.Concatenate(name=f"{name}_all")(pooled), channels, 1, 1, f"{name}_out")


def _branch(x, width: int, outputs: int, bias: float, name: str):
    x = _conv(_conv(x, width, 3, 1, f"{name}_a"), width, 3, 1, f"{name}_b")
    return layers.Conv2D(outputs, 1, bias_initializer=keras.initializers.Constant(bias), name=f"{name}_out")(x)


def _with_finer(coarse, fine, name: str):
    return layers.Concatenate(name=f"{name}_both")([layers.UpSampling2D(2, name=f"{name}_double")(coarse), fine])


def _with_coarser(fine, coarse, channels: int, name: str):
    return layers.Concatenate(name=f"{name}_both")([_conv(fine, channels, 3, 2, f"{name}_half"), coarse])
