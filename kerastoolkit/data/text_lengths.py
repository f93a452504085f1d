"""How many tokens texts have, so that steps can take texts of the same length together."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from kerastoolkit.experiment import Data, Source

AT_ONCE = 4_096  # texts


def with_lengths(data: Data, preprocess: Any) -> Data:
    """The data with the lengths of the training and validation examples, in tokens.

    Args:
        data: its raw examples have what ``preprocess`` takes.
        preprocess: model from raw inputs to a dict with tokens (batch, longest) int32, 0 after the end.
    """
    import tensorflow as tf

    inputs = preprocess.inputs
    signature = {tensor.name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in inputs}

    @tf.function(input_signature=[signature], autograph=False)
    def lengths(raw):
        tokens = preprocess(raw if len(inputs) > 1 else raw[inputs[0].name])["tokens"]
        return tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1, keepdims=True)

    def measured(source: Source) -> Source:
        found = [np.zeros((0, 1), np.int32)]
        for start in range(0, source.size, AT_ONCE):
            raw = source.fetch(tf.range(start, min(start + AT_ONCE, source.size), dtype=tf.int64))
            found.append(lengths({name: raw[name] for name in signature}).numpy())
        return dataclasses.replace(source, lengths=np.concatenate(found))

    return dataclasses.replace(data, train=measured(data.train), validation=measured(data.validation))
