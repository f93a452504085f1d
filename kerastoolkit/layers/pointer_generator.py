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

    They serve as logits: a softmax leaves them as they are. A position follows from x at that position alone.

    Differs from the paper: scaled dot-product attention of its own and not the decoder's additive one; p_gen is of what the
    decoder gives and what the attention finds, and not of the decoder's input besides; sub-words leave no word unknown, so that
    the vocabulary is not extended; and there is no coverage.
    """

    def build(self, x_shape, logits_shape, memory_shape, source_tokens_shape):
        width = x_shape[-1]
        self.query_kernel = self.add_weight(shape=(width, width), initializer="glorot_uniform", name="query_kernel")
        self.key_kernel = self.add_weight(shape=(memory_shape[-1], width), initializer="glorot_uniform", name="key_kernel")
        self.gate = layers.Dense(1, name="gate")
        self.gate.build((*x_shape[:-1], width + memory_shape[-1]))

    def call(self, x, logits, memory, source_tokens):
        return self.point(x, logits, *self.start(memory, source_tokens))

    def start(self, memory, source_tokens):
        """What depends on the source alone."""
        return ops.matmul(memory, self.key_kernel), memory, source_tokens

    def point(self, x, logits, keys, memory, source_tokens):
        found, weights = self.look(x, keys, memory, source_tokens)
        gate = self.gate(ops.concatenate([x, found], axis=-1))  # (b, t, 1)
        logits, weights, gate = (ops.cast(each, "float32") for each in (logits, weights, gate))  # 16 bits hold no small shares
        written = ops.log_softmax(logits, axis=-1) + ops.log_sigmoid(gate)
        copied = ops.log(self._by_token(weights, source_tokens, logits.shape[-1]) + NOTHING) + ops.log_sigmoid(-gate)
        return ops.logaddexp(written, copied)

    def look(self, x, keys, memory, source_tokens):
        """(what is found (batch, length, width), weights (batch, length, source length))"""
        queries = ops.matmul(x, self.query_kernel) * (1.0 / math.sqrt(x.shape[-1]))
        return attend(dot_product_scores(queries, keys), memory, ops.expand_dims(source_tokens != 0, 1))

    @staticmethod
    def _by_token(weights, source_tokens, vocabulary):
        """(batch, length, source length) -> (batch, length, vocabulary): the sum over the places where a token stands."""
        batch, length = ops.shape(weights)[0], ops.shape(weights)[1]
        rows = ops.expand_dims(ops.arange(batch, dtype="int32"), 1) * vocabulary + ops.cast(source_tokens, "int32")
        places = ops.reshape(ops.transpose(weights, (0, 2, 1)), (-1, length))  # a place's weights lie side by side
        sums = ops.segment_sum(places, ops.reshape(rows, (-1,)), num_segments=batch * vocabulary)
        return ops.transpose(ops.reshape(sums, (-1, vocabulary, length)), (0, 2, 1))

    def compute_output_spec(self, x, logits, memory, source_tokens):
        return keras.KerasTensor(logits.shape, "float32")
