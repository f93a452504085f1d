"""Random numbers as a pure function of a seed pair: each example has its own, whatever batch it is in.

TensorFlow's stateless generators take one seed for a whole batch; only a hash gives each example numbers of its own in a few
operations.
"""

from __future__ import annotations

import math

import tensorflow as tf

_STEP = 0x9E3779B97F4A7C15


def uniforms(seeds: tf.Tensor, shape: tuple[int, ...], stream: int = 0) -> tf.Tensor:
    """Evenly spread numbers in [0, 1), multiples of 2^-24.

    Input   seeds    (batch, 2) int32
    Output  numbers  (batch, *shape) float32

    Args:
        shape: of one example's numbers.
        stream: another number gives other, independent draws from the same seeds.
    """
    count = math.prod(shape)
    steps = tf.bitcast(tf.range((count + 1) // 2, dtype=tf.int64), tf.uint64) * tf.constant(_STEP, tf.uint64)
    halves = tf.bitcast(mixed(hashed(seeds, stream)[:, None] + steps), tf.uint32)  # (b, (count + 1) / 2, 2)
    upper = tf.cast(tf.bitwise.right_shift(halves, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24
    return tf.reshape(tf.reshape(upper, (-1, 2 * ((count + 1) // 2)))[:, :count], (-1, *shape))


def normals(seeds: tf.Tensor, shape: tuple[int, ...], stream: int = 0) -> tf.Tensor:
    """Standard normal numbers, by the quantiles of ``uniforms``: the same arguments; (batch, *shape) float32, within 5.5."""
    # float32 holds no 1 - 2^-25: without the minimum the largest uniform number would become 1, whose quantile is infinite.
    return tf.math.ndtri(tf.minimum(uniforms(seeds, shape, stream) + 2.0**-25, 1.0 - 2.0**-24))


def hashed(seeds: tf.Tensor, stream: int) -> tf.Tensor:
    """Seed pairs (batch, 2) int32 and the number of a stream -> (batch,) uint64, evenly spread."""
    return mixed(mixed(tf.bitcast(seeds, tf.uint64)) + tf.constant(stream, tf.uint64))


def mixed(x: tf.Tensor) -> tf.Tensor:
    """The finaliser of SplitMix64: Steele, Lea & Flood 2014, figure 17, https://doi.org/10.1145/2660193.2660195."""
    x = x + tf.constant(_STEP, tf.uint64)
    for shift_by, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift_by, tf.uint64)))
        x = x * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(31, tf.uint64)))
