"""Weights of Darknet, the authors' program for YOLO: a header, and the numbers of one convolution after the other."""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

NAMES = re.compile(r".*(\.weights|\.conv\.\d+)")
CONVOLUTION = re.compile(r"conv(\d+)")


def is_darknet(path: str | Path) -> bool:
    """Whether a file is one of Darknet by its name: yolov3.weights, darknet53.conv.74."""
    return NAMES.fullmatch(Path(path).name) is not None


def load_darknet(model: keras.Model, path: str | Path) -> None:
    """Give a network of ``models.yolov3`` or ``models.yolov3_tiny`` the weights of a file of Darknet (Redmon 2013-2016,
    https://pjreddie.com/darknet/).

    The file is little-endian: int32 major, minor and revision of its version; the number of images seen, int64 from version 0.2
    on and int32 before; then float32, of each convolution in the order of the network's cfg file. With batch norm they are its
    bias, scale, mean and variance and then the kernel (out, in, height, width); without, the bias and then the kernel. Nothing in
    the file tells what they belong to but their number, which is compared before they are read. It may be that of
    - the whole network;
    - the same network for other classes: all is read but the convolutions without batch norm, the last of each level, which
      stay as they are;
    - the network's first convolutions, up to any before the first of these last ones: darknet53.conv.74 holds the 52 of the
      backbone, yolov3-tiny.conv.15 the first nine of the small network. The others stay as they are.

    Nothing is changed unless all fits. The convolutions of the network are told by their names, conv0, conv1, ...

    Raises:
        ValueError: no such file, not that many numbers, one that is not finite, or a variance below 0.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights must be an existing file, got {str(path)!r}")
    try:
        start = _header_bytes(path)
        size = path.stat().st_size - start
        places = _places(list(_convolutions(model)), size // 4)
        if size % 4 or not places:
            raise ValueError(f"weights: {path} must hold the numbers, in 4 bytes each, of {model.name} for any number of classes "
                             f"or of its first convolutions, got {size} bytes after the header")  # fmt: skip
        numbers = np.memmap(path, "<f4", "r", offset=start)
    except OSError as error:
        raise ValueError(f"weights: {path} cannot be read: {error}") from error
    arrays = [(variable, _array(numbers, place, variable, path)) for variable, place in places]
    for variable, array in arrays:
        variable.assign(array)


def _header_bytes(path: Path) -> int:
    with open(path, "rb") as file:
        header = file.read(16)
    if len(header) < 16:
        raise ValueError(f"weights: {path} must begin with 16 or 20 bytes that tell its version, got {len(header)} bytes")
    major, minor = np.frombuffer(header, "<i4", 2)
    return 20 if 10 * int(major) + int(minor) >= 2 else 16


def _convolutions(model: keras.Model) -> Iterator[list[keras.Variable]]:
    """The weights of each convolution in the file's order, wherever Keras has the layer."""
    numbers = {int(found[1]) for layer in model.layers if (found := CONVOLUTION.fullmatch(layer.name))}
    for name in (f"conv{number}" for number in sorted(numbers)):
        convolution = model.get_layer(name)
        if convolution.use_bias:
            yield [convolution.bias, convolution.kernel]
        else:
            norm = model.get_layer(f"{name}_norm")
            yield [norm.beta, norm.gamma, norm.moving_mean, norm.moving_variance, convolution.kernel]


def _places(convolutions, count: int) -> list[tuple[keras.Variable, int]]:
    """Weights and the place of the first number of each, where ``count`` numbers are theirs; else none."""
    heads = [weights for weights in convolutions if len(weights) == 2]
    if not heads:
        return []
    before = itertools.takewhile(lambda weights: len(weights) > 2, convolutions)
    ends = list(itertools.accumulate(_size(weights) for weights in before))
    outputs = None
    if count in ends:
        convolutions = convolutions[: ends.index(count) + 1]
    else:
        # With other classes the last convolutions of the levels have other outputs, each with a bias and a number for each input.
        without = sum(_size(weights) for weights in convolutions if len(weights) > 2)
        outputs, rest = divmod(count - without, sum(1 + kernel.shape[2] for _, kernel in heads))
        if rest or outputs < 1:
            return []  # of another network, or cut off
    places, place = [], 0
    for weights in convolutions:
        if len(weights) == 2 and outputs != weights[0].shape[0]:
            place += outputs * (1 + weights[1].shape[2])
            continue
        for weight in weights:
            places.append((weight, place))
            place += math.prod(weight.shape)
    return places


def _size(weights) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _array(numbers, place: int, variable: keras.Variable, path: Path) -> np.ndarray:
    """The numbers of a weight in its own order of axes; they are looked at, so that nothing has to be undone."""
    shape = tuple(variable.shape)
    array = numbers[place : place + math.prod(shape)]
    if not np.isfinite(array).all():
        raise ValueError(f"weights: {path} must hold finite numbers, got others for {variable.path}")
    if variable.name == "moving_variance" and array.min() < 0:
        raise ValueError(f"weights: {path} must hold variances of at least 0, got {array.min()} for {variable.path}")
    if len(shape) == 1:
        return array
    height, width, inputs, outputs = shape
    return array.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)
