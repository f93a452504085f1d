"""BERT in the serving model: where its tokens look, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="kerastoolkit")
class PieceNames(keras.layers.Layer):
    """Tokens -> the word pieces that they are: (batch, length) int32 -> string of the same shape, empty for padding.

    Args:
        pieces: the vocabulary, padding first.
    """

    def __init__(self, pieces: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.pieces = list(pieces)

    def call(self, tokens):
        return tf.gather(tf.constant(["", *self.pieces[1:]]), tokens)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, "string")

    def get_config(self):
        return {**super().get_config(), "pieces": self.pieces}


class EncoderAttention(keras.layers.Layer):
    """Where the tokens of a network of ``models.bert`` look.

    Input   tokens, segments  (batch, length) int32
    Output  attention         (batch, blocks, length, length) float32, the mean over the heads: where each row looks

    Args:
        network: it has the layers that ``models.bert`` names.
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        layers = {layer.name: layer for layer in network.layers}
        embeddings = ("token_embedding", "position_embedding", "segment_embedding", "embedding_norm")
        self.embed, self.place, self.part, self.norm = (layers[name] for name in embeddings)
        self.blocks = [layer for name, layer in layers.items() if name.startswith("encoder_")]

    def build(self, tokens_shape, segments_shape):
        pass  # its layers are those of a network

    def call(self, tokens, segments):
        x = self.norm(self.part(self.place(self.embed(tokens)), segments))
        mask, found = ops.not_equal(tokens, 0), []
        for block in self.blocks:
            x, weights = block(x, mask, return_weights=True)
            found.append(ops.mean(weights, axis=1))
        return ops.stack(found, axis=1)

    def compute_output_spec(self, tokens, segments):
        length = tokens.shape[1]
        return keras.KerasTensor((tokens.shape[0], len(self.blocks), length, length), "float32")
