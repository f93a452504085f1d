"""An output that writes a token of the vocabulary or points at one of the source, to copy it."""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from kerastoolkit.layers.attention import attend, dot_product_scores

NOTHING = 1e-30  # in the place of a probability of 0, whose logarithm is no number


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PointerGenerator(layers.Layer):
    """Pointer-generator: See et al. 2017, section 2.2, https://arxiv.org/abs/1704.04368.

    Input   x              (batch, length, width) float, what the decoder gives
            logits         (batch, length, vocabulary) float, of the tokens that it would write itself
            memory         (batch, source length, width) float, what the encoder gives
            source_tokens  (batch, source length) integers, tokens of the same vocabulary, 0 for padding after the text
    Output  (batch, length, vocabulary) float32, logarithms of probabilities of sum 1: of p_gen times the softmax of the logits
            plus, for every place of the source, 1 - p_gen times the attention to it, for the token that stands there

    They serve as logits: a softmax leaves them as they are. A position follows from x up to that position alone.

    Args:
        context: how many of the tokens written last are held against as many that stand before a place of the source, so that
            what was begun to be copied is gone on with; 0 for the paper's pointer, which knows the place alone.
    Raises:
        ValueError: ``context`` is below 0.

    Differs from the paper: scaled dot-product attention of its own and not the decoder's additive one; the ``context``, in the
    place of CopyNet's selective read (Gu et al. 2016, section 3.3, https://arxiv.org/abs/1603.06393), which would have to be
    trained token by token; p_gen is of what the decoder gives and what the attention finds, and not of the decoder's input
    besides; sub-words leave no word unknown, so that the vocabulary is not extended; and there is no coverage.
    """

    def __init__(self, context: int = 4, **kwargs):
        super().__init__(**kwargs)
        if context < 0:
            raise ValueError(f"context must be at least 0, got {context}")
        self.context = context
        self.earlier = max(0, context - 1)  # positions of x that the query needs besides its own

    def build(self, x_shape, logits_shape, memory_shape, source_tokens_shape):
        width = x_shape[-1]

        def kernel(name, places, size):  # as if each place had one of its own: what several agree on stands out from the start
            initializer = keras.initializers.RandomNormal(stddev=size**-0.5)
            return self.add_weight(shape=(places * size, width), initializer=initializer, name=name)

        self.query_kernel = kernel("query_kernel", self.earlier + 1, width)
        self.key_kernel = kernel("key_kernel", self.context + 1, memory_shape[-1])
        self.gate = layers.Dense(1, name="gate")
        self.gate.build((*x_shape[:-1], width + memory_shape[-1]))

    def call(self, x, logits, memory, source_tokens):
        constants = self.start(memory, source_tokens)
        return self._mixed(x, logits, *self.look(x, *constants), source_tokens)

    def start(self, memory, source_tokens):
        """What depends on the source alone."""
        return ops.matmul(_with_earlier(memory, self.context), self.key_kernel), memory, source_tokens

    def look(self, x, keys, memory, source_tokens):
        """(what is found (batch, length, width), weights (batch, length, source length))"""
        return self._find(_with_earlier(x, self.earlier), keys, memory, source_tokens)

    def first_state(self, constants, number):
        """What ``step`` begins with, for ``number`` texts of each source."""
        keys, memory, _ = constants
        return ops.zeros((ops.shape(memory)[0], number, self.earlier, keys.shape[-1]), dtype=keys.dtype)

    def step(self, x, logits, constants, before):
        """x (batch, number, width) at one position and what was returned for the one before -> (output, the same for the next)"""
        latest = ops.concatenate([before, ops.expand_dims(x, 2)], axis=2)  # (b, number, earlier + 1, width)
        found, weights = self._find(ops.reshape(latest, (*ops.shape(x)[:2], self.query_kernel.shape[0])), *constants)
        return self._mixed(x, logits, found, weights, constants[-1]), latest[:, :, 1:]

    def _find(self, latest, keys, memory, source_tokens):
        queries = ops.matmul(latest, self.query_kernel) * (1.0 / math.sqrt(keys.shape[-1]))
        return attend(dot_product_scores(queries, keys), memory, ops.expand_dims(source_tokens != 0, 1))

    def _mixed(self, x, logits, found, weights, source_tokens):
        gate = self.gate(ops.concatenate([x, found], axis=-1))  # (b, t, 1)
        logits, weights, gate = (ops.cast(each, "float32") for each in (logits, weights, gate))  # 16 bits hold no small shares
        written = ops.log_softmax(logits, axis=-1) + ops.log_sigmoid(gate)
        copied = ops.log(_by_token(weights, source_tokens, logits.shape[-1]) + NOTHING) + ops.log_sigmoid(-gate)
        return ops.logaddexp(written, copied)

    def compute_output_spec(self, x, logits, memory, source_tokens):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        return {**super().get_config(), "context": self.context}


def _with_earlier(x, number):
    """(batch, length, width) -> (batch, length, (number + 1) * width): each position after the ``number`` before it, the first
    of which comes first; zeros stand before the beginning."""
    length = ops.shape(x)[1]
    padded = ops.pad(x, ((0, 0), (number, 0), (0, 0)))
    return ops.concatenate([padded[:, place : place + length] for place in range(number + 1)], axis=-1)


def _by_token(weights, source_tokens, vocabulary):
    """(batch, length, source length) -> (batch, length, vocabulary): the sum over the places where a token stands."""
    batch, length = ops.shape(weights)[0], ops.shape(weights)[1]
    rows = ops.expand_dims(ops.arange(batch, dtype="int32"), 1) * vocabulary + ops.cast(source_tokens, "int32")
    places = ops.reshape(ops.transpose(weights, (0, 2, 1)), (-1, length))  # a place's weights lie side by side
    sums = ops.segment_sum(places, ops.reshape(rows, (-1,)), num_segments=batch * vocabulary)
    return ops.transpose(ops.reshape(sums, (-1, vocabulary, length)), (0, 2, 1))
