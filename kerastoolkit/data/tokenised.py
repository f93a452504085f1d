"""Texts to be learned, as tokens: written once before training, so that steps can take texts of the same length together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from kerastoolkit.experiment import Data, InputError, Source

AT_ONCE = 4_096  # texts


def tokenised(
    data: Data, *, source_tokens: Any, target_tokens: Any, source: str, target: str, longest: int | None = None
) -> Data:
    """The data with ``target_tokens`` (batch, longest) int32, 0 after the end, beside the texts of training and validation, and
    with the examples' lengths: (source tokens, target tokens).

    Args:
        data: its raw examples have strings by the two names.
        source_tokens, target_tokens: layers (batch,) string -> (batch, longest) int32, 0 after the end.
        source, target: names of the strings.
        longest: examples with more tokens on either side are left out of both, and counted in the notes; None for no bound.
    Raises:
        InputError: no training example is left.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)] * 2, autograph=False)
    def encode(sources, targets):
        lengths = tf.reduce_sum(tf.cast(source_tokens(sources) != 0, tf.int32), axis=1)
        return lengths, tf.RaggedTensor.from_tensor(target_tokens(targets), padding=0)

    def encoded(texts: Source, indices: Any) -> Any:
        raw = texts.fetch(indices)
        return encode(raw[source], raw[target])

    parts, notes = {}, []
    for split in ("train", "validation"):
        parts[split], left_out = _tokenised(data.split(split), encoded, longest)
        if left_out:
            notes.append(f"{split} examples of more than {longest} tokens, left out: {left_out:,} of {data.split(split).size:,}")
    if not parts["train"].size:
        raise InputError(f"{data.name}: every training example has more than {longest} tokens (longest)")
    return dataclasses.replace(data, notes=(*data.notes, *notes), **parts)


def _tokenised(texts: Source, encoded: Callable[[Source, Any], Any], longest: int | None) -> tuple[Source, int]:
    import tensorflow as tf

    lengths, tokens = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.int32)]
    for start in range(0, texts.size, AT_ONCE):
        source_lengths, written = encoded(texts, tf.range(start, min(start + AT_ONCE, texts.size), dtype=tf.int64))
        lengths.append(np.stack([source_lengths.numpy(), written.row_lengths().numpy()], axis=1).astype(np.int32))
        tokens.append(written.flat_values.numpy())
    lengths, flat = np.concatenate(lengths), np.concatenate(tokens)
    begins = np.concatenate([[0], np.cumsum(lengths[:, 1])])
    kept = np.arange(texts.size) if longest is None else np.flatnonzero(lengths.max(axis=1) <= longest)

    def read(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = kept[indices]
        places = np.arange(lengths[rows, 1].max(initial=0))
        inside = places < lengths[rows, 1:]
        return rows, np.where(inside, flat[np.minimum(begins[rows][:, None] + places, len(flat) - 1)], 0)

    @tf.autograph.experimental.do_not_convert
    def fetch(indices: Any) -> dict[str, Any]:
        # Not stateful: it reads what nobody writes, and may run beside others.
        rows, written = tf.numpy_function(read, [indices], (tf.int64, tf.int32), stateful=False)
        return {**texts.fetch(tf.ensure_shape(rows, indices.shape)), "target_tokens": tf.ensure_shape(written, (None, None))}

    name = None if texts.name is None else lambda index: texts.name(int(kept[index]))
    return Source(len(kept), fetch, name, lengths[kept]), texts.size - len(kept)
