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
    parts = {split: _with_lengths(data.split(split), preprocess) for split in ("train", "validation")}
    return dataclasses.replace(data, **parts)


def _with_lengths(source: Source, preprocess: Any) -> Source:
    import tensorflow as tf

    names = [tensor.name for tensor in preprocess.inputs]

    @tf.function(reduce_retracing=True)
    def lengths(indices):
        raw = source.fetch(indices)
        tokens = preprocess({name: raw[name] for name in names} if len(names) > 1 else raw[names[0]])["tokens"]
        return tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1, keepdims=True)

    found = [np.zeros((0, 1), np.int32)]
    for start in range(0, source.size, AT_ONCE):
        found.append(lengths(tf.range(start, min(start + AT_ONCE, source.size), dtype=tf.int64)).numpy())
    return dataclasses.replace(source, lengths=np.concatenate(found))
