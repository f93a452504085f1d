"""Random numbers as a pure function of a seed pair, on every backend: each example has its own, whatever batch it is in."""

from keras import ops


def draws(seeds, count, stream: int = 0):
    """Evenly spread numbers in [0, 1), multiples of 2^-24.

    Input   seeds  (batch, 2) int32
    Output         (batch, count) float32

    Args:
        count: numbers of each example, a number or a tensor.
        stream: another number gives other draws from the same seeds.
    """
    # int32 multiplies and wraps round alike on all backends, which their unsigned numbers do not.
    first = _mixed(ops.cast(seeds[:, :1], "int32") + (stream * 0x9E3779B9 & 0x7FFFFFFF))
    numbers = _mixed(first + ops.cast(ops.arange(count), "int32")[None] * 0x1E3779B1)
    numbers = _mixed(ops.bitwise_xor(numbers, ops.cast(seeds[:, 1:], "int32")))
    return ops.cast(ops.bitwise_and(numbers, 0xFFFFFF), "float32") * 2.0**-24


def _mixed(x):
    """A hash of 32 bits without visible bias, by the multipliers of https://github.com/skeeto/hash-prospector (lowbias32)."""
    for shift_by, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        x = ops.bitwise_xor(x, _shifted(x, shift_by)) * ops.convert_to_tensor(factor, "int32")
    return ops.bitwise_xor(x, _shifted(x, 16))


def _shifted(x, by: int):
    """To the right, zeros coming in."""
    return ops.bitwise_and(ops.right_shift(x, by), 2 ** (32 - by) - 1)
