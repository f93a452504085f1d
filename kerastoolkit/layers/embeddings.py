"""What BERT adds to a token's embedding, and takes from its outputs: Devlin et al. 2018, https://arxiv.org/abs/1810.04805."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector for each position.

    Input   x  (batch, length, width) float, of at most ``positions`` positions
    Output  same shape

    Args:
        positions: how many there are.
        initializer: of the vectors.
    """

    def __init__(self, positions: int, initializer: Any = "glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.positions, self.initializer = positions, keras.initializers.get(initializer)

    def build(self, x_shape):
        self.embeddings = self.add_weight(
            shape=(self.positions, x_shape[-1]), initializer=self.initializer.clone(), name="embeddings"
        )

    def call(self, x):
        return x + self.embeddings[: ops.shape(x)[1]]

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "positions": self.positions,
                "initializer": keras.initializers.serialize(self.initializer)}  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class SegmentEmbedding(keras.layers.Layer):
    """Adds a learned vector for the segment that a position is in.

    Input   x         (batch, length, width) float
            segments  (batch, length) integers, 0 .. segments - 1
    Output  same shape as x

    Args:
        segments: how many there are; few, because they are looked up by a product, whose gradient costs little.
        initializer: of the vectors.
    """

    def __init__(self, segments: int, initializer: Any = "glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.segments, self.initializer = segments, keras.initializers.get(initializer)

    def build(self, x_shape, segments_shape):
        self.embeddings = self.add_weight(
            shape=(self.segments, x_shape[-1]), initializer=self.initializer.clone(), name="embeddings"
        )

    def call(self, x, segments):
        return x + ops.matmul(ops.one_hot(segments, self.segments, dtype=x.dtype), self.embeddings)

    def compute_output_shape(self, x_shape, segments_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "segments": self.segments,
                "initializer": keras.initializers.serialize(self.initializer)}  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class Bias(keras.layers.Layer):
    """Adds a number to each feature: what logits have that come from tied embeddings. Input, output (..., features) float."""

    def build(self, x_shape):
        self.bias = self.add_weight(shape=(x_shape[-1],), initializer="zeros", name="bias")

    def call(self, x):
        return x + self.bias

    def compute_output_shape(self, x_shape):
        return x_shape


@keras.saving.register_keras_serializable(package="kerastoolkit")
class AtPositions(keras.layers.Layer):
    """The vectors at some positions.

    Input   x          (batch, length, width) float
            positions  (batch, n) integers, 0 .. length - 1
    Output  (batch, n, width) float

    By a product with ones and zeros: its gradient is a product too, where that of a gather adds up row after row.
    """

    def call(self, x, positions):
        return ops.matmul(ops.one_hot(positions, ops.shape(x)[1], dtype=x.dtype), x)

    def compute_output_spec(self, x, positions):
        return keras.KerasTensor((*positions.shape, x.shape[-1]), x.dtype)
