"""Word2Vec: Mikolov et al. 2013, https://arxiv.org/abs/1301.3781 and https://arxiv.org/abs/1310.4546, and GloVe: Pennington,
Socher & Manning 2014, https://aclanthology.org/D14-1162/.

The vectors are those of the layer ``word_vectors``; for GloVe people take their sum with those of ``context_vectors``.
"""

from __future__ import annotations

import keras
from keras import ops

from kerastoolkit.layers.word_windows import OwnScores, Segments, WindowMean, WindowScores


def skip_gram(
    *, vocabulary: int, dimensions: int, window: int = 5, segment: int = 32, hierarchical: bool = False
) -> keras.Model:  # fmt: skip
    """The skip-gram model: each word predicts its neighbours. Mikolov et al. 2013b, section 2, https://arxiv.org/abs/1310.4546.

    Input   tokens     (batch, length + 2 * window) int32: words in running order, below 0 where there is none; the length is a
                       multiple of ``segment``
            negatives  (batch, length / segment, any) int32: noise words (section 2.2), which all words of a segment share
    Output  a dict of scores v'_o . v_i, logits of a pair being real
            positive   (batch, length, 2 * window + 1) float32: of each word with the words at the places -window .. window
            negative   (batch, length, any) float32: with the noise words of its segment

    With hierarchical softmax (section 2.1) in the place of the negatives
    Input   path       (batch, length, depth) int32: the inner nodes of the Huffman tree from the root to each word, below 0 after
    Output  branches   (batch, length, 2 * window + 1, depth) float32: of the word at each place with the nodes, logits of turning
                       to the left

    Args:
        vocabulary: number of words, 2 or more.
        dimensions: of a vector.
        window: how many words a window reaches to each side, 1 or more.
        segment: words that share their noise words, at least 2 * window; hierarchical softmax has no use for it.
        hierarchical: hierarchical softmax in the place of negative sampling.
    Raises:
        ValueError: a number is too small.
    Differs from the paper: noise words are shared (Ji et al. 2016, https://arxiv.org/abs/1604.04661), not drawn for each pair.
    """
    _check(vocabulary, dimensions, window)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    words = _vectors(vocabulary, dimensions, "word_vectors")
    if hierarchical:
        path, nodes = _path(vocabulary, dimensions)  # (b, length, depth, d)
        vectors = words(ops.maximum(tokens, 0))
        places = [vectors[:, place : place - 2 * window or None] for place in range(2 * window + 1)]
        neighbours = ops.stack(places, axis=2)  # (b, length, 2 * window + 1, d)
        branches = ops.matmul(neighbours, ops.transpose(nodes, (0, 1, 3, 2)))
        return keras.Model([tokens, path], {"branches": branches}, name="skip_gram")
    negatives = keras.Input((None, None), dtype="int32", name="negatives")
    segments = Segments(segment, window, name="segments")(tokens)  # (b, segments, segment + 2 * window)
    others = ops.maximum(ops.concatenate([segments, negatives], axis=2), 0)
    positive, negative = WindowScores(window, name="scores")(
        words(ops.maximum(segments[:, :, window:-window], 0)),
        _vectors(vocabulary, dimensions, "context_vectors")(others))  # fmt: skip
    return keras.Model([tokens, negatives], {"positive": positive, "negative": negative}, name="skip_gram")


def cbow(
    *, vocabulary: int, dimensions: int, window: int = 5, segment: int = 32, hierarchical: bool = False
) -> keras.Model:  # fmt: skip
    """The continuous bag of words: the mean of its neighbours predicts each word. Mikolov et al. 2013a, section 3.1,
    https://arxiv.org/abs/1301.3781.

    Input   tokens     (batch, length + 2 * window) int32: words in running order, below 0 where there is none; the length is a
                       multiple of ``segment``
            reach      (batch, length, 2) int32: how many words before and after each are in its window, 0 .. window
            negatives  (batch, length / segment, any) int32: noise words, which all words of a segment share
    Output  a dict of scores, logits of a word being the real one
            positive   (batch, length) float32
            negative   (batch, length, any) float32: of the noise words of its segment

    With hierarchical softmax in the place of the negatives
    Input   path       (batch, length, depth) int32: the inner nodes of the Huffman tree from the root to each word, below 0 after
    Output  branches   (batch, length, depth) float32: logits of turning to the left at each node

    Args:
        vocabulary: number of words, 2 or more.
        dimensions: of a vector.
        window: how many words a window reaches to each side, 1 or more.
        segment: words that share their noise words, 1 or more; hierarchical softmax has no use for it.
        hierarchical: hierarchical softmax in the place of negative sampling.
    Raises:
        ValueError: a number is too small.
    Differs from word2vec's own program and gensim, which do not divide the gradient of the mean by the number of its words:
    Irsoy, Benton & Stratos 2021, https://arxiv.org/abs/2012.15332. Theirs needs about a third of this one's learning rate.
    """
    _check(vocabulary, dimensions, window)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    reach = keras.Input((None, 2), dtype="int32", name="reach")
    vectors = _vectors(vocabulary, dimensions, "word_vectors")(ops.maximum(tokens, 0))
    means = WindowMean(window, name="means")(vectors, reach)  # (b, length, d)
    if hierarchical:
        path, nodes = _path(vocabulary, dimensions)  # (b, length, depth, d)
        branches = ops.squeeze(ops.matmul(nodes, ops.expand_dims(means, -1)), -1)
        return keras.Model([tokens, reach, path], {"branches": branches}, name="cbow")
    negatives = keras.Input((None, None), dtype="int32", name="negatives")
    own = Segments(segment, 0, name="segments")(tokens[:, window:-window])  # (b, segments, segment)
    means = keras.layers.Reshape((-1, segment, dimensions), name="means_of_segments")(means)
    others = ops.maximum(ops.concatenate([own, negatives], axis=2), 0)
    others = _vectors(vocabulary, dimensions, "context_vectors")(others)
    positive, negative = OwnScores(name="scores")(means, others)
    return keras.Model([tokens, reach, negatives], {"positive": positive, "negative": negative}, name="cbow")


def glove(*, vocabulary: int, dimensions: int) -> keras.Model:
    """GloVe: products of vectors fit the logarithms of how often words occur together. Pennington et al. 2014, equation 7.

    Input   word, context  (batch, any) int32
    Output  log_counts     (batch, any) float32: w_i . w~_j + b_i + b~_j

    Args:
        vocabulary: number of words, 2 or more.
        dimensions: of a vector.
    Raises:
        ValueError: a number is too small.
    """
    _check(vocabulary, dimensions)
    scores = []
    for side in ("word", "context"):
        index = keras.Input((None,), dtype="int32", name=side)
        start = _small(dimensions)
        vectors = keras.layers.Embedding(vocabulary, dimensions, embeddings_initializer=start, name=f"{side}_vectors")(index)
        biases = keras.layers.Embedding(vocabulary, 1, embeddings_initializer=start, name=f"{side}_biases")(index)
        scores.append((index, vectors, biases))
    (word, vectors, biases), (context, others, other_biases) = scores
    log_counts = ops.sum(vectors * others, axis=-1) + ops.squeeze(biases + other_biases, -1)
    return keras.Model([word, context], {"log_counts": log_counts}, name="glove")


def _check(vocabulary: int, dimensions: int, window: int = 1) -> None:
    for name, value, least in (("vocabulary", vocabulary, 2), ("dimensions", dimensions, 1), ("window", window, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _small(dimensions: int) -> keras.initializers.Initializer:
    """As word2vec's and GloVe's own programs begin: uniform in -0.5 / dimensions .. 0.5 / dimensions."""
    return keras.initializers.RandomUniform(-0.5 / dimensions, 0.5 / dimensions)


def _path(vocabulary: int, dimensions: int):
    path = keras.Input((None, None), dtype="int32", name="path")
    return path, _vectors(vocabulary - 1, dimensions, "node_vectors")(ops.maximum(path, 0))


def _vectors(vocabulary: int, dimensions: int, name: str) -> keras.layers.Embedding:
    """A table of vectors; those on the side of the output begin at zero, as in word2vec's own program."""
    start = _small(dimensions) if name == "word_vectors" else "zeros"
    return keras.layers.Embedding(vocabulary, dimensions, embeddings_initializer=start, name=name)
