"""Attention, as functions of tensors and as layers: additive, dot-product, scaled dot-product, multi-head; and their masks.

In all of them a query asks, each key answers with a score, a softmax over the scores gives weights, and the values are averaged
by those. A mask is True where a query may look.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from kerastoolkit.layers.dropout import Dropout

FORBIDDEN = -1e9  # in the place of a score: its weight is 0, but where all keys are forbidden the weights are equal and not NaN
FORBIDDEN_FLOAT16 = -6e4  # the largest numbers of that type are 65,504


def additive_scores(queries, keys, vector):
    """Scores of additive attention: Bahdanau et al. 2014, appendix A.1.2, https://arxiv.org/abs/1409.0473.

    Input   queries  (batch, q, units) float, already multiplied by W_a
            keys     (batch, k, units) float, already multiplied by U_a
            vector   (units,) float, the paper's v_a
    Output  scores   (batch, q, k) float
    """
    return ops.sum(ops.tanh(ops.expand_dims(queries, 2) + ops.expand_dims(keys, 1)) * vector, axis=-1)


def dot_product_scores(queries, keys):
    """Scores of dot-product attention: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025.

    Input   queries  (..., q, units) float
            keys     (..., k, units) float
    Output  scores   (..., q, k) float
    """
    return ops.matmul(queries, ops.swapaxes(keys, -1, -2))


def attend(scores, values, mask=None):
    """The values averaged by a softmax of the scores.

    Input   scores   (..., q, k) float
            values   (..., k, units) float
            mask     bool in a shape that broadcasts with the scores, True where a query may look; None for everywhere
    Output  context  (..., q, units) float
            weights  (..., q, k) float, of sum 1 over the last axis; 0 where a query may not look
    """
    weights = attention_weights(scores, mask)
    return ops.matmul(weights, values), weights


def attention_weights(scores, mask=None):
    """The softmax of the scores over the keys, 0 where ``mask`` is False: see ``attend``."""
    if mask is not None:
        forbidden = FORBIDDEN if keras.backend.standardize_dtype(scores.dtype) != "float16" else FORBIDDEN_FLOAT16
        scores = ops.where(mask, scores, ops.cast(forbidden, scores.dtype))
    return ops.softmax(scores, axis=-1)


def scaled_dot_product_attention(queries, keys, values, mask=None):
    """Scaled dot-product attention: Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762.

    Input   queries  (..., q, units) float
            keys     (..., k, units) float
            values   (..., k, any) float
            mask     as for ``attend``
    Output  context  (..., q, any) float; weights (..., q, k) float
    """
    return attend(dot_product_scores(queries * (1.0 / math.sqrt(queries.shape[-1])), keys), values, mask)


def padding_mask(tokens):
    """True where there is a token: (batch, k) integers, 0 for padding -> (batch, 1, k) bool, for every query alike."""
    return ops.expand_dims(ops.not_equal(tokens, 0), 1)


def causal_mask(length):
    """True where a position may look: at itself and those before it. -> (1, length, length) bool."""
    places = ops.arange(length)
    return ops.expand_dims(ops.expand_dims(places, 0) <= ops.expand_dims(places, 1), 0)


def new_initializer(initializer: Any) -> Any:
    """An initializer of the same kind that draws numbers of its own: one object draws the same ones twice."""
    made = keras.initializers.get(initializer)
    return made if isinstance(initializer, str) else made.clone()


def described_initializer(initializer: Any) -> Any:
    """An initializer as a layer's configuration has it."""
    return keras.initializers.serialize(initializer) if isinstance(initializer, keras.initializers.Initializer) else initializer


def with_weights(outputs, shape, return_weights):
    """What a layer says that it will give: the outputs and, if they are wanted, weights of this shape."""
    return (outputs, keras.KerasTensor(shape, outputs.dtype)) if return_weights else outputs


@keras.saving.register_keras_serializable(package="kerastoolkit")
class AdditiveAttention(keras.layers.Layer):
    """Additive attention with its weights W_a, U_a and v_a: see ``additive_scores``.

    Input   queries         (batch, q, any) float
            values          (batch, k, any) float, which are the keys, too
            attention_mask  (batch, 1 or q, k) bool, True where a query may look; None for everywhere
    Output  context  (batch, q, any) float; weights (batch, q, k) float

    Args:
        units: numbers in the hidden layer that scores a pair.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, queries_shape, values_shape, attention_mask_shape=None):
        self.query_kernel = self.add_weight(shape=(queries_shape[-1], self.units), name="query_kernel")
        self.key_kernel = self.add_weight(shape=(values_shape[-1], self.units), name="key_kernel")
        self.vector = self.add_weight(shape=(self.units, 1), name="vector")

    def keys(self, values):
        """What ``score`` needs of the values, which is the same for all queries."""
        return ops.matmul(values, self.key_kernel)

    def score(self, queries, keys):
        return additive_scores(ops.matmul(queries, self.query_kernel), keys, self.vector[:, 0])

    def call(self, queries, values, attention_mask=None):
        return attend(self.score(queries, self.keys(values)), values, attention_mask)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class DotProductAttention(keras.layers.Layer):
    """Dot-product attention without weights of its own: see ``dot_product_scores``.

    Input   queries         (batch, q, units) float
            values          (batch, k, units) float, which are the keys, too
            attention_mask  (batch, 1 or q, k) bool, True where a query may look; None for everywhere
    Output  context  (batch, q, units) float; weights (batch, q, k) float

    Args:
        scale: divide the scores by the square root of the units.
    Raises:
        ValueError: queries and values have different units.
    """

    def __init__(self, scale: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, queries_shape, values_shape, attention_mask_shape=None):
        if queries_shape[-1] != values_shape[-1]:
            raise ValueError(f"queries and values must have the same units, got {queries_shape[-1]} and {values_shape[-1]}")

    def keys(self, values):
        return values

    def score(self, queries, keys):
        return dot_product_scores(queries * (1.0 / math.sqrt(queries.shape[-1])) if self.scale else queries, keys)

    def call(self, queries, values, attention_mask=None):
        return attend(self.score(queries, self.keys(values)), values, attention_mask)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="kerastoolkit")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762.

    Input   queries         (batch, q, width) float
            values          (batch, k, any) float, which are the keys, too; the queries themselves for self-attention
            attention_mask  (batch, 1 or q, k) bool, True where a query may look; None for everywhere
    Output  outputs  (batch, q, width) float; with ``return_weights`` also weights (batch, heads, q, k) float

    Args:
        heads: how many; they part the width evenly.
        dropout: rate of the attention weights in training, in [0, 1).
        initializer: of the kernels.
    Raises:
        ValueError: the heads do not part the width.
    Differs from the paper: the products have biases, as in the authors' program (tensor2tensor's feed-forward layers), PyTorch
    and keras_hub.
    """

    def __init__(self, heads: int, dropout: float = 0.0, initializer: Any = "glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dropout = heads, dropout
        self.initializer = initializer if isinstance(initializer, str) else keras.initializers.get(initializer)
        self.drop = Dropout(dropout) if dropout else None

    def build(self, queries_shape, values_shape, attention_mask_shape=None):
        width = queries_shape[-1]
        if width % self.heads:
            raise ValueError(f"heads must part the width {width} evenly, got {self.heads}")
        self.width = width
        for name, rows in (("query", width), ("key", values_shape[-1]), ("value", values_shape[-1]), ("output", width)):
            kernel = self.add_weight(shape=(rows, width), initializer=new_initializer(self.initializer), name=f"{name}_kernel")
            bias = self.add_weight(shape=(width,), initializer="zeros", name=f"{name}_bias")
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_bias", bias)

    def call(self, queries, values, attention_mask=None, training=None, return_weights=False):
        if queries is values:
            q, k, v = self.project_all(queries)
        else:
            q, (k, v) = self.project_queries(queries), self.project_values(values)
        mask = None if attention_mask is None else ops.expand_dims(attention_mask, 1)  # for every head alike
        context, weights = self.look(q, k, v, mask, training)
        outputs = self.join(context)
        return (outputs, weights) if return_weights else outputs

    def project_all(self, x):
        """Queries, keys and values of self-attention, by one product."""
        kernel = ops.concatenate([self.query_kernel, self.key_kernel, self.value_kernel], axis=1)
        bias = ops.concatenate([self.query_bias, self.key_bias, self.value_bias])
        return [self._split(part) for part in ops.split(ops.matmul(x, kernel) + bias, 3, axis=-1)]

    def project_queries(self, queries):
        return self._split(ops.matmul(queries, self.query_kernel) + self.query_bias)

    def project_values(self, values):
        """Keys and values, each (batch, heads, k, width / heads)."""
        kernel = ops.concatenate([self.key_kernel, self.value_kernel], axis=1)
        bias = ops.concatenate([self.key_bias, self.value_bias])
        return [self._split(part) for part in ops.split(ops.matmul(values, kernel) + bias, 2, axis=-1)]

    def look(self, q, k, v, mask, training=None):
        """(context (batch, heads, q, width / heads), weights) of heads that are already apart; the queries are scaled here."""
        scores = dot_product_scores(q * (1.0 / math.sqrt(self.width // self.heads)), k)
        weights = attention_weights(scores, mask)
        dropped = self.drop(weights, training=training) if self.drop is not None else weights
        return ops.matmul(dropped, v), weights

    def join(self, context):
        """The heads side by side, through the last product: (batch, heads, q, width / heads) -> (batch, q, width)."""
        length = ops.shape(context)[2]
        joined = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, length, self.width))
        return ops.matmul(joined, self.output_kernel) + self.output_bias

    def _split(self, x):
        """(batch, n, width) -> (batch, heads, n, width / heads)"""
        length = ops.shape(x)[1]
        return ops.transpose(ops.reshape(x, (-1, length, self.heads, self.width // self.heads)), (0, 2, 1, 3))

    def compute_output_spec(self, queries, values, attention_mask=None, training=None, return_weights=False):
        shape = (queries.shape[0], self.heads, queries.shape[1], values.shape[1])
        return with_weights(keras.KerasTensor(queries.shape, self.compute_dtype), shape, return_weights)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "dropout": self.dropout,
                "initializer": described_initializer(self.initializer)}  # fmt: skip
