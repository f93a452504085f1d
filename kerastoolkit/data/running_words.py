"""Running text for word2vec: blocks of consecutive words, and what is drawn at random for them in training."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kerastoolkit import replicas
from kerastoolkit.data.corpus import Corpus, read_corpus
from kerastoolkit.data.named_texts import KNOWN
from kerastoolkit.experiment import Data, InputError, Source, described

NOISE_POWER = 0.75  # Mikolov et al. 2013b, section 2.2


def corpus(data: str, *, min_count: int = 5, lower: bool = True) -> Corpus:
    """The words of a named text, ``sample``, or a UTF-8 file or folder of one's own: see ``data.corpus.read_corpus``.

    Raises:
        InputError, RunError: as ``read_corpus``; a named text that is not there and cannot be fetched.
    """
    if data in KNOWN:
        return read_corpus(str(KNOWN[data]()), name=data, min_count=min_count, lower=lower)
    if not os.path.exists(os.path.expanduser(data)):
        raise InputError(f"unknown text {data}: choose {', '.join(sorted(KNOWN))}, or a file or folder of UTF-8 text")
    return read_corpus(data, min_count=min_count, lower=lower)


@described
def running_words(data: str, min_count: int = 5, lower: bool = True, length: int = 4096) -> Data:
    """Blocks of consecutive words; the test examples are the words of the vocabulary, one each.

    Raw examples: tokens (batch, length) int32, places in the vocabulary; rarer words have larger numbers, and below 0 is what
    fills up the last block. Test examples: tokens (batch, 1).

    Args:
        data: a name or a path: see ``corpus``.
        min_count: rarer words are not in the vocabulary.
        lower: whether capital letters become small ones.
        length: words in a block; a shorter text is one block.
    Raises:
        InputError, RunError: as for ``corpus``, or the length is no positive number.
    """
    if length < 1:
        raise InputError(f"length must be at least 1, got {length}")
    text = corpus(data, min_count=min_count, lower=lower)
    length = min(length, len(text.tokens))
    return Data(text.name, _blocks(text, length), Source(0, no_validation), vocabulary_source(text), inputs=("tokens",),
                encoded=False, about=facts(text))  # fmt: skip


@described
def text8(*, length: int = 4096) -> Data:
    """text8: 17 million words of Wikipedia, without capital letters, digits and punctuation (Mahoney 2006).

    Args:
        length: words in a block.
    """
    return running_words("text8", length=length)


def facts(text: Corpus) -> dict[str, Any]:
    """What a table says of a corpus."""
    share = float(text.counts.sum()) / len(text.tokens)
    return {"vocabulary": len(text.words), "words_of_text": len(text.tokens), "share_in_vocabulary": round(share, 4)}


def vocabulary_source(text: Corpus) -> Source:
    """The words of the vocabulary as examples: tokens (batch, 1) int32."""
    import tensorflow as tf

    return Source(len(text.words), lambda indices: {"tokens": tf.cast(indices, tf.int32)[:, None]})


def no_validation(indices: Any) -> dict[str, Any]:
    """The ``fetch`` of a split without examples."""
    raise InputError("word vectors have no validation examples")


def _blocks(text: Corpus, length: int) -> Source:
    import tensorflow as tf

    total = len(text.tokens)
    places = np.arange(length)

    def read(indices: np.ndarray) -> np.ndarray:
        wanted = indices[:, None] * length + places
        return np.where(wanted < total, text.tokens[np.minimum(wanted, total - 1)], -1).astype(np.int32)

    def fetch(indices: Any) -> dict[str, Any]:
        # Not stateful: it reads what nobody writes, and may run beside others.
        tokens = tf.numpy_function(read, [indices], tf.int32, stateful=False)
        return {"tokens": tf.ensure_shape(tokens, (indices.shape[0], length))}

    return Source(-(-total // length), fetch)


def keep_probabilities(counts: np.ndarray, sample: float) -> np.ndarray:
    """How likely an occurrence of each word stays in training, (words,) float64: frequent words tell little.

    As word2vec's own program and gensim have it, (sqrt(f / t) + 1) t / f for a word of the share f and the threshold t, which is
    not the 1 - sqrt(t / f) of the paper (Mikolov et al. 2013b, equation 5). A sample of 0 keeps all.
    """
    share = counts / counts.sum()
    return np.minimum(1.0, (np.sqrt(share / sample) + 1.0) * sample / share) if sample else np.ones(len(counts))


def kept_length(text: Corpus, *, length: int, sample: float, segment: int) -> int:
    """Places for the words of a block that sub-sampling keeps, a multiple of ``segment``: enough for each block of this text but
    in one of some thousands of drawings, where the last few words are left out.

    Raises:
        InputError: a number is out of range.
    """
    for name, value in (("length", length), ("segment", segment)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if not 0 <= sample < 1:
        raise InputError(f"sample must be in [0, 1), got {sample}")
    keep = np.append(keep_probabilities(text.counts, sample), 0.0)
    length, most, rows = min(length, len(text.tokens)), 0.0, 256
    for start in range(0, len(text.tokens), rows * length):
        part = keep[np.minimum(text.tokens[start : start + rows * length], len(text.words))]
        part = np.pad(part, (0, -len(part) % length)).reshape(-1, length)
        mean, variance = part.sum(axis=1), (part * (1 - part)).sum(axis=1)
        most = max(most, float((mean + 4 * np.sqrt(variance)).max()))
    return -(-min(length, math.ceil(most)) // segment) * segment


def word_windows(text: Corpus, *, length: int, window: int = 5, sample: float = 1e-3, segment: int = 32, noise: int = 16,
                 hierarchical: bool = False) -> Callable[..., dict[str, Any]]:  # fmt: skip
    """Augmentation: sub-samples frequent words, then draws each word's window and the noise words of each segment.

    Raw examples become: tokens (batch, kept + 2 * window) int32 with -1 where there is no word; reach (batch, kept, 2) int32, how
    many words before and after each are in its window, 0 where there is no word; and negatives (batch, kept / segment, noise)
    int32, or with hierarchical softmax path and left (batch, kept, depth) int32: the inner nodes on the way to each word, -1
    after its end, and 1 where it turns to the left.

    Args:
        text: whose counts decide.
        length: words in a block, as given to ``running_words``.
        window: how far the widest window reaches to each side.
        sample: threshold of the sub-sampling: see ``keep_probabilities``.
        segment: words that share their noise words.
        noise: noise words of a segment, drawn in proportion to the counts to the power 3/4.
        hierarchical: for hierarchical softmax.
    Raises:
        InputError: a number is out of range.
    """
    for name, value in (("window", window), ("noise", noise)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    import tensorflow as tf

    words, kept = len(text.words), kept_length(text, length=length, sample=sample, segment=segment)
    keep = np.append(keep_probabilities(text.counts, sample), 0.0).astype(np.float32)  # the last is for what is no word
    chance, other = alias_table(text.counts**NOISE_POWER)
    tree = huffman_tree(text.counts) if hierarchical else None

    def augment(raw: dict[str, Any], seeds: Any, fetch: Any) -> dict[str, Any]:
        tokens, seed = raw["tokens"], replicas.batch_seed(seeds)  # the first example's seeds for all: see ``tasks.variational``
        batch = tokens.shape[0]
        number = tf.where((tokens >= 0) & (tokens < words), tokens, words)
        stays = replicas.batch_uniform(number.shape, seed) < tf.gather(keep, number)
        lengths = tf.reduce_sum(tf.cast(stays, tf.int32), axis=1)
        ragged = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(tokens, stays), lengths, validate=False)
        tokens = ragged.to_tensor(-1, shape=(batch, kept))
        widest = replicas.batch_uniform(tokens.shape, seed + 1, 1, window + 1, tf.int32)
        # As many words are before each as its place says, and the others after it; none around what is no word.
        before = tf.broadcast_to(tf.range(kept), tokens.shape)
        around = tf.stack([before, tf.minimum(lengths, kept)[:, None] - 1 - before], axis=-1)
        reach = tf.minimum(widest[:, :, None], around)
        found = {"tokens": tf.pad(tokens, [[0, 0], [window, window]], constant_values=-1),
                 "reach": tf.where((tokens >= 0)[:, :, None], reach, 0)}  # fmt: skip
        if tree is not None:
            here, number = (tokens >= 0)[:, :, None], tf.maximum(tokens, 0)
            return found | {"path": tf.where(here, tf.gather(tree[0], number), -1), "left": tf.gather(tree[1], number)}
        shape = (batch, kept // segment, noise)
        first = replicas.batch_uniform(shape, seed + 2, 0, words, tf.int32)
        lucky = replicas.batch_uniform(shape, seed + 3) < tf.gather(chance, first)
        return found | {"negatives": tf.where(lucky, first, tf.gather(other, first))}

    return augment


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables that draw from any distribution at the cost of two numbers: Walker 1977, https://doi.org/10.1145/355744.355749, made
    as Vose 1991 does, https://doi.org/10.1109/32.92917.

    Returns:
        chance (n,) float32 and other (n,) int32: draw a place evenly; keep it by its chance, else take the other.
    """
    scaled = weights * (len(weights) / weights.sum())
    other = np.arange(len(weights), dtype=np.int32)
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        poor, rich = small.pop(), large[-1]
        other[poor] = rich
        scaled[rich] -= 1.0 - scaled[poor]
        if scaled[rich] < 1:
            small.append(large.pop())
    return np.minimum(scaled, 1.0).astype(np.float32), other


def huffman_tree(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The binary tree in which frequent words have short ways: Mikolov et al. 2013b, section 2.1.

    Returns:
        path (words, depth) int32: the inner nodes 0 .. words - 2 from the root on, -1 after the end; left (words, depth) int32: 1
        where the way turns to the left.
    """
    words = len(counts)
    heap = [(int(number), node) for node, number in enumerate(counts)]
    heapq.heapify(heap)
    parent, is_left = np.zeros(2 * words - 1, np.int64), np.zeros(2 * words - 1, np.int32)
    for node in range(words, 2 * words - 1):
        (low, first), (high, second) = heapq.heappop(heap), heapq.heappop(heap)
        parent[[first, second]], is_left[first] = node, 1
        heapq.heappush(heap, (low + high, node))
    ways = []
    for word in range(words):
        way, node = [], word
        while node != 2 * words - 2:
            way.append((int(parent[node]) - words, is_left[node]))
            node = parent[node]
        ways.append(way[::-1])
    depth = max(len(way) for way in ways)
    path, left = np.full((words, depth), -1, np.int32), np.zeros((words, depth), np.int32)
    for word, way in enumerate(ways):
        path[word, : len(way)], left[word, : len(way)] = zip(*way, strict=True)
    return path, left
