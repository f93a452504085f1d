"""Pairs of words that occur together, for GloVe."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerastoolkit.data.cooccurrence import Counts, cooccurrences
from kerastoolkit.data.running_words import corpus, facts, no_validation, vocabulary_source
from kerastoolkit.experiment import Data, InputError, Source, described


@described
def word_pairs(data: str, min_count: int = 5, lower: bool = True, window: int = 10, length: int = 1024) -> Data:
    """Blocks of entries of the co-occurrence matrix, in random order; the test examples are the words, one each.

    Raw examples: tokens (batch, 2 * length) int32, the first words of all pairs and then the second ones; count (batch, length)
    float32, 0 for what fills up the last block. Test examples: tokens (batch, 1).

    Args:
        data: a name or a path: see ``running_words.corpus``.
        min_count: rarer words are not in the vocabulary.
        lower: whether capital letters become small ones.
        window: how far a word counts as near, to each side.
        length: entries in a block.
    Raises:
        InputError, RunError: as for ``corpus`` and ``cooccurrences``, or the length is no positive number.
    """
    if length < 1:
        raise InputError(f"length must be at least 1, got {length}")
    text = corpus(data, min_count=min_count, lower=lower)
    counts = cooccurrences(text, window=window)
    length = min(length, len(counts.weight))
    return Data(text.name, _blocks(counts, length), Source(0, no_validation), vocabulary_source(text), inputs=("tokens",),
                encoded=False, about=facts(text) | {"entries": len(counts.weight)})  # fmt: skip


def _blocks(counts: Counts, length: int) -> Source:
    import tensorflow as tf

    total = len(counts.weight)
    places = np.arange(length)

    def read(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = indices[:, None] * length + places
        inside = np.minimum(wanted, total - 1)
        tokens = np.concatenate([counts.first[inside], counts.second[inside]], axis=1)
        return tokens.astype(np.int32), np.where(wanted < total, counts.weight[inside], 0).astype(np.float32)

    def fetch(indices: Any) -> dict[str, Any]:
        # Not stateful: it reads what nobody writes, and may run beside others.
        tokens, count = tf.numpy_function(read, [indices], (tf.int32, tf.float32), stateful=False)
        batch = indices.shape[0]
        return {"tokens": tf.ensure_shape(tokens, (batch, 2 * length)), "count": tf.ensure_shape(count, (batch, length))}

    return Source(-(-total // length), fetch)
