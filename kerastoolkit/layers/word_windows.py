"""Words and their neighbours in running text, without a list of pairs: a segment at a time, against all words in its reach.

A pair of words costs a product of two vectors. Written out pair by pair, most of the time goes into fetching the vectors again
for every pair. Here the vectors of a segment of consecutive words and of the words around it are fetched once. One matrix
product gives all their scores, of which those within the window are kept; Ji et al. 2016, https://arxiv.org/abs/1604.04661,
section 4, do so for one window at a time. Sums over windows, and so all gradients, are sums of the segment's vectors moved by
one place after the other.
"""

from __future__ import annotations

import keras
from keras import ops


def window_mask(reach, window: int):
    """Which neighbours of each word count.

    Input   reach  (batch, length, 2) int: how many words before each, and after it, are in its window, 0 .. window
    Output  mask   (batch, length, 2 * window + 1) float32: 1 or 0 for the places -window .. window around each word; its own is 0
    """
    offsets = ops.arange(-window, window + 1, dtype="int32")
    reach = ops.cast(reach, "int32")
    return ops.cast((offsets >= -reach[:, :, :1]) & (offsets <= reach[:, :, 1:]) & (offsets != 0), "float32")


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Segments(keras.layers.Layer):
    """Cuts a text into segments of consecutive words, each with the words in reach before and after it.

    Input   tokens    (batch, length + 2 * window) int; the length is a multiple of ``segment``
    Output  segments  (batch, length / segment, segment + 2 * window) int

    Args:
        segment: words in a segment, at least 1 and at least 2 * window.
        window: how many words a window reaches to each side; 0 for the segments alone.
    Raises:
        ValueError: the window is a negative number, the segment is empty or shorter than two windows, or the length is known and
            no multiple of it.
    """

    def __init__(self, segment: int, window: int, **kwargs):
        super().__init__(**kwargs)
        if window < 0:
            raise ValueError(f"window must be at least 0, got {window}")
        if segment < 1:
            raise ValueError(f"segment must be at least 1, got {segment}")
        if segment < 2 * window:
            raise ValueError(f"segment must be at least 2 * window = {2 * window}, got {segment}")
        self.segment, self.window = segment, window

    def call(self, tokens):
        # What follows a segment is the beginning of the next one, so that two reshapes make all of them.
        tokens = ops.pad(tokens, [[0, 0], [0, self.segment - 2 * self.window]], constant_values=-1)
        firsts = ops.reshape(tokens[:, : -self.segment], (ops.shape(tokens)[0], -1, self.segment))
        nexts = ops.reshape(tokens[:, self.segment :], (ops.shape(tokens)[0], -1, self.segment))
        return ops.concatenate([firsts, nexts[:, :, : 2 * self.window]], axis=2)

    def compute_output_spec(self, tokens):
        length = tokens.shape[1]
        if length is not None and (length - 2 * self.window) % self.segment:
            raise ValueError(f"the length must be a multiple of segment = {self.segment}, got {length - 2 * self.window}")
        segments = None if length is None else (length - 2 * self.window) // self.segment
        return keras.KerasTensor((tokens.shape[0], segments, self.segment + 2 * self.window), tokens.dtype)

    def get_config(self):
        return {**super().get_config(), "segment": self.segment, "window": self.window}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WindowScores(keras.layers.Layer):
    """Dot products of each word with its neighbours, and with others that a segment shares.

    Input   words   (batch, segments, segment, dimensions) float
            others  (batch, segments, segment + 2 * window + shared, dimensions) float: the segment with the words in reach around
                    it, then any others
    Output  neighbours  (batch, segments * segment, 2 * window + 1) float: with the words at the places -window .. window
            shared      (batch, segments * segment, shared) float

    Args:
        window: how many words a window reaches to each side.
    """

    def __init__(self, window: int, **kwargs):
        super().__init__(**kwargs)
        self.window = window

    def call(self, words, others):
        (segment, dimensions), wide = words.shape[2:], ops.shape(others)[2]
        reach = segment + 2 * self.window
        batch, places = ops.shape(words)[0], ops.shape(words)[1] * segment
        words, others = ops.reshape(words, (-1, segment, dimensions)), ops.reshape(others, (-1, wide, dimensions))
        neighbours = _window_products(words, ops.reshape(others[:, :reach], (-1, reach, dimensions)))
        shared = ops.matmul(words, ops.transpose(others[:, reach:], (0, 2, 1)))
        return (ops.reshape(neighbours, (batch, places, 2 * self.window + 1)),
                ops.reshape(shared, (batch, places, wide - reach)))  # fmt: skip

    def compute_output_spec(self, words, others):
        batch, segments, segment = words.shape[:3]
        places = None if segments is None else segments * segment
        shared = _less(others.shape[2], segment + 2 * self.window)
        return tuple(keras.KerasTensor((batch, places, size), words.dtype) for size in (2 * self.window + 1, shared))

    def get_config(self):
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class OwnScores(keras.layers.Layer):
    """Dot products of a vector for each word with the word's own, and with others that a segment shares.

    Input   vectors  (batch, segments, segment, dimensions) float
            others   (batch, segments, segment + shared, dimensions) float: the words of the segment, then any others
    Output  own      (batch, segments * segment) float
            shared   (batch, segments * segment, shared) float
    """

    def call(self, vectors, others):
        (segment, dimensions), wide = vectors.shape[2:], ops.shape(others)[2]
        batch, places = ops.shape(vectors)[0], ops.shape(vectors)[1] * segment
        vectors, others = ops.reshape(vectors, (-1, segment, dimensions)), ops.reshape(others, (-1, wide, dimensions))
        # A product with ones is a sum that XLA makes three times as fast.
        own = ops.matmul(vectors * others[:, :segment], ops.ones((dimensions, 1), vectors.dtype))
        shared = ops.matmul(vectors, ops.transpose(others[:, segment:], (0, 2, 1)))
        return ops.reshape(own, (batch, places)), ops.reshape(shared, (batch, places, wide - segment))

    def compute_output_spec(self, vectors, others):
        batch, segments, segment = vectors.shape[:3]
        places, shared = None if segments is None else segments * segment, _less(others.shape[2], segment)
        return keras.KerasTensor((batch, places), vectors.dtype), keras.KerasTensor((batch, places, shared), vectors.dtype)


@keras.saving.register_keras_serializable(package="kerastoolkit")
class WindowMean(keras.layers.Layer):
    """The mean of each word's neighbours.

    Input   vectors  (batch, length + 2 * window, dimensions) float
            reach    (batch, length, 2) int: how many words before and after each count: see ``window_mask``
    Output  means    (batch, length, dimensions) float; zeros where no neighbour counts

    Args:
        window: how many words a window reaches to each side.
    """

    def __init__(self, window: int, **kwargs):
        super().__init__(**kwargs)
        self.window = window

    def call(self, vectors, reach):
        counts = ops.cast(ops.maximum(ops.sum(reach, axis=-1, keepdims=True), 1), vectors.dtype)
        return _window_sums(vectors, ops.cast(window_mask(reach, self.window), vectors.dtype) / counts)

    def compute_output_spec(self, vectors, reach):
        return keras.KerasTensor((*reach.shape[:2], vectors.shape[-1]), vectors.dtype)

    def get_config(self):
        return {**super().get_config(), "window": self.window}


def _window_products(words, around):
    """words (n, segment, d), around (n, segment + 2 * window, d) -> (n, segment, 2 * window + 1): each word with its window."""

    def products(words, around):
        scores = ops.matmul(words, ops.transpose(around, (0, 2, 1)))
        return _diagonals(scores, around.shape[1])[:, :, : around.shape[1] - words.shape[1] + 1]

    if keras.backend.backend() != "tensorflow":
        return products(words, around)
    import tensorflow as tf

    # Of the whole matrix of scores few have a gradient; and XLA is slow at products with a matrix that it has to turn around.
    @tf.custom_gradient
    def differentiable(words, around):
        return products(words, around), lambda gradient: (_moved_sums(around, gradient), _spread(words, gradient))

    return differentiable(words, around)


def _window_sums(around, weights):
    """around (n, length + 2 * window, d), weights (n, length, 2 * window + 1) -> (n, length, d): of each word's window.

    There is no gradient of the weights.
    """
    if keras.backend.backend() != "tensorflow":
        return _moved_sums(around, weights)
    import tensorflow as tf

    @tf.custom_gradient  # TensorFlow's own fills each of the moved vectors up with zeros
    def differentiable(around):
        return _moved_sums(around, weights), lambda gradient: _spread(gradient, weights)

    return differentiable(around)


def _moved_sums(around, weights):
    """(n, length, d): the sum over the places p of a window of weights[:, i, p] * around[:, i + p]."""
    last = weights.shape[2] - 1
    return sum(weights[:, :, place, None] * around[:, place : place - last or None] for place in range(last + 1))


def _spread(vectors, weights):
    """(n, length + 2 * window, d), ``_moved_sums`` turned around: weights[:, i, p] * vectors[:, i] are added up at i + p."""
    last = weights.shape[2] - 1
    vectors, weights = (ops.pad(each, [[0, 0], [last, last], [0, 0]]) for each in (vectors, weights))
    rows = [slice(last - place, -place or None) for place in range(last + 1)]
    return sum(weights[:, rows[place], place, None] * vectors[:, rows[place]] for place in range(last + 1))


def _diagonals(matrices, columns: int):
    """(n, rows, columns) -> (n, rows, columns + 1), each row moved to the left by its number: its first is the diagonal.

    Rows that are one longer than those they are read from begin one place later each time, so padding and reshaping suffice.
    """
    rows = matrices.shape[1]
    flat = ops.pad(ops.reshape(matrices, (-1, rows * columns)), [[0, 0], [0, rows]])
    return ops.reshape(flat, (-1, rows, columns + 1))


def _less(size: int | None, by: int) -> int | None:
    return None if size is None else size - by
