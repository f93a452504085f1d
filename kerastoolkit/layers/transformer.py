"""The blocks of the Transformer: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.

A layer of a decoder has two ways through it. ``call`` takes all positions of a text at once, in training. When a text is being
written, ``start`` works out once what depends on the source alone, the *constants* (batch, ...), and ``step`` takes the next
position of each of n texts of the same source, x (batch, n, width), with the *state* (batch, n, ...) that the steps before it
left, which begins as ``first_state``; it gives both anew. The n texts are what a beam search holds.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from kerastoolkit.layers.attention import (
    MultiHeadAttention,
    causal_mask,
    described_initializer,
    new_initializer,
    with_weights,
)
from kerastoolkit.layers.dropout import Dropout

EPSILON = 1e-5  # of layer normalisation, as in PyTorch; the paper gives none

# By what a block's ``activation`` is called. The first programs of BERT, and keras_hub's, have the approximation by a tanh.
ACTIVATIONS = {
    "relu": keras.activations.relu,
    "gelu": keras.activations.gelu,
    "gelu_approximate": lambda x: keras.activations.gelu(x, approximate=True),
}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PositionEncoding(layers.Layer):
    """Embeddings, scaled, with the sines and cosines of their positions: sections 3.4 and 3.5.

    Input   x  (batch, length, width) float
    Output  the square root of the width times x, plus the encoding of the positions 0 .. length - 1
    """

    def call(self, x):
        return x * math.sqrt(x.shape[-1]) + self._encoding(ops.arange(ops.shape(x)[1]), x.shape[-1], x.dtype)

    def start(self, memory, padding_mask):
        return ()

    def first_state(self, constants, number):
        return ()

    def step(self, x, constants, state, position):
        return x * math.sqrt(x.shape[-1]) + self._encoding(ops.reshape(position, (1,)), x.shape[-1], x.dtype), ()

    @staticmethod
    def _encoding(positions, width, dtype):
        """(length,) -> (length, width): sines at even places, cosines of the same angles at odd ones."""
        rates = ops.exp(ops.arange(0, width, 2, dtype="float32") * (-math.log(10000.0) / width))
        angles = ops.cast(ops.expand_dims(positions, 1), "float32") * rates
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (length, width / 2, 2)
        return ops.cast(ops.reshape(pairs, (-1, 2 * rates.shape[0]))[:, :width], dtype)


class _Block(layers.Layer):
    """What both blocks have: attention and feed-forward layers, each in a residual connection with layer normalisation."""

    def __init__(self, heads: int, feed_forward: int, dropout: float = 0.0, norm_first: bool = False, activation: str = "relu",
                 epsilon: float = EPSILON, initializer: Any = "glorot_uniform", **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.heads, self.feed_forward, self.dropout, self.norm_first = heads, feed_forward, dropout, norm_first
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.activation, self.epsilon = activation, epsilon
        self.initializer = initializer if isinstance(initializer, str) else keras.initializers.get(initializer)
        self.drop = Dropout(dropout) if dropout else None

    def _build(self, shape, parts):
        """One layer normalisation for each part of the block, and the feed-forward layers."""
        self.norms = [layers.LayerNormalization(epsilon=self.epsilon, name=f"{name}_norm") for name in parts]
        self.inner = layers.Dense(self.feed_forward, kernel_initializer=new_initializer(self.initializer), name="inner")
        self.outer = layers.Dense(shape[-1], kernel_initializer=new_initializer(self.initializer), name="outer")
        for norm in self.norms:
            norm.build(shape)
        self.inner.build(shape)
        self.outer.build((*shape[:-1], self.feed_forward))

    def _around(self, number, x, part, training):
        """x + part(x), with layer normalisation number ``number`` before the part (norm_first) or after the sum."""
        norm = self.norms[number]
        y = part(norm(x) if self.norm_first else x)
        x = x + (self.drop(y, training=training) if self.drop is not None else y)
        return x if self.norm_first else norm(x)

    def _feed_forward(self, x):
        return self.outer(ACTIVATIONS[self.activation](self.inner(x)))

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "feed_forward": self.feed_forward, "dropout": self.dropout,
                "norm_first": self.norm_first, "activation": self.activation, "epsilon": self.epsilon,
                "initializer": described_initializer(self.initializer)}  # fmt: skip


@keras.saving.register_keras_serializable(package="kerastoolkit")
class TransformerEncoderBlock(_Block):
    """One of the encoder's blocks: section 3.1.

    Input   x             (batch, length, width) float
            padding_mask  (batch, length) bool, False where there is padding
    Output  same shape as x; with ``return_weights`` also the attention (batch, heads, length, length)

    Args:
        heads: of the attention; they part the width evenly.
        feed_forward: width of the inner layer, with ReLU.
        dropout: rate of each part's output before it is added, in [0, 1). As in the paper and not in PyTorch, the inner layer has
            none.
        norm_first: normalise what goes into each part and not the sum after it: Xiong et al. 2020,
            https://arxiv.org/abs/2002.04745.
        activation: of the inner layer: relu, gelu (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415) or
            gelu_approximate, that with a tanh.
        epsilon: of layer normalisation.
        initializer: of the kernels.
        attention_dropout: rate of the attention's weights, in [0, 1); the paper has none there, BERT has.
    """

    def __init__(self, heads: int, feed_forward: int, dropout: float = 0.0, norm_first: bool = False,
                 attention_dropout: float = 0.0, **kwargs):  # fmt: skip
        super().__init__(heads, feed_forward, dropout, norm_first, **kwargs)
        self.attention_dropout = attention_dropout

    def build(self, x_shape, padding_mask_shape):
        self._build(x_shape, ("self_attention", "feed_forward"))
        self.self_attention = MultiHeadAttention(
            self.heads, self.attention_dropout, initializer=self.initializer, name="self_attention"
        )
        self.self_attention.build(x_shape, x_shape)

    def call(self, x, padding_mask, training=None, return_weights=False):
        kept, mask = [], ops.expand_dims(padding_mask, 1)

        def look(x):
            y, weights = self.self_attention(x, x, attention_mask=mask, training=training, return_weights=True)
            kept.append(weights)
            return y

        x = self._around(0, x, look, training)
        x = self._around(1, x, self._feed_forward, training)
        return (x, kept[0]) if return_weights else x

    def compute_output_spec(self, x, padding_mask, training=None, return_weights=False):
        shape = (x.shape[0], self.heads, x.shape[1], x.shape[1])
        return with_weights(keras.KerasTensor(x.shape, self.compute_dtype), shape, return_weights)

    def get_config(self):
        return {**super().get_config(), "attention_dropout": self.attention_dropout}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class TransformerDecoderBlock(_Block):
    """One of the decoder's blocks: section 3.1. A position sees itself, those before it, and the whole source.

    Input   x             (batch, length, width) float
            memory        (batch, source length, width) float, what the encoder gives
            padding_mask  (batch, source length) bool, False where the source has padding
    Output  same shape as x; with ``return_weights`` also the attention to the source (batch, heads, length, source length)

    Padding may only follow the text, so that no position that counts sees it. Args: as for ``TransformerEncoderBlock``.
    """

    attends = True  # to the source

    def build(self, x_shape, memory_shape, padding_mask_shape):
        self._build(x_shape, ("self_attention", "cross_attention", "feed_forward"))
        self.self_attention = MultiHeadAttention(self.heads, initializer=self.initializer, name="self_attention")
        self.cross_attention = MultiHeadAttention(self.heads, initializer=self.initializer, name="cross_attention")
        self.self_attention.build(x_shape, x_shape)
        self.cross_attention.build(x_shape, memory_shape)

    def call(self, x, memory, padding_mask, training=None, return_weights=False):
        kept, mask = [], ops.expand_dims(padding_mask, 1)

        def look_back(x):
            return self.self_attention(x, x, attention_mask=causal_mask(ops.shape(x)[1]), training=training)

        def look_across(x):
            y, weights = self.cross_attention(x, memory, attention_mask=mask, training=training, return_weights=True)
            kept.append(weights)
            return y

        x = self._around(0, x, look_back, training)
        x = self._around(1, x, look_across, training)
        x = self._around(2, x, self._feed_forward, training)
        return (x, kept[0]) if return_weights else x

    def start(self, memory, padding_mask):
        keys, values = self.cross_attention.project_values(memory)
        return keys, values, padding_mask[:, None, None, :]

    def first_state(self, constants, number):
        batch = ops.shape(constants[0])[0]
        nothing = ops.zeros((batch, number, self.heads, 0, self.self_attention.width // self.heads), self.compute_dtype)
        return nothing, nothing

    def step(self, x, constants, state, position):
        kept = []

        def look_back(x):
            # A position of n texts is here what n positions of one text are in ``call``.
            q, k, v = (ops.transpose(each, (0, 2, 1, 3))[:, :, :, None] for each in self.self_attention.project_all(x))
            keys, values = (ops.concatenate([old, new], axis=3) for old, new in zip(state, (k, v), strict=True))
            kept[:] = [keys, values]  # (b, n, heads, positions so far, width / heads)
            context, _ = self.self_attention.look(q, keys, values, None)
            return self.self_attention.join(ops.transpose(context[:, :, :, 0], (0, 2, 1, 3)))

        def look_across(x):
            keys, values, mask = constants
            context, _ = self.cross_attention.look(self.cross_attention.project_queries(x), keys, values, mask)
            return self.cross_attention.join(context)

        x = self._around(0, x, look_back, False)
        x = self._around(1, x, look_across, False)
        x = self._around(2, x, self._feed_forward, False)
        return x, tuple(kept)

    def compute_output_spec(self, x, memory, padding_mask, training=None, return_weights=False):
        shape = (x.shape[0], self.heads, x.shape[1], memory.shape[1])
        return with_weights(keras.KerasTensor(x.shape, self.compute_dtype), shape, return_weights)
